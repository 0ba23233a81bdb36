"""Headers that ITK crashes on, hangs on or misreads are refused by name; what is read is what was counted."""

from __future__ import annotations

import gzip
import random
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.volumes import read_image, read_label

SIZE = (6, 8, 10)
LABEL = (np.arange(480).reshape(SIZE) % 7 > 3).astype(np.uint8)


def volume(folder: Path, suffix: str, compressed: bool = True) -> Path:
    """A label map with a segment, as ITK writes it."""
    image = sitk.GetImageFromArray(LABEL)
    image.SetSpacing((1, 2, 3))
    for key, text in {"Name": "part", "LabelValue": "1", "Layer": "0", "Color": "1 0 0"}.items():
        image.SetMetaData(f"Segment0_{key}", text)
    path = folder / f"a{suffix}"
    sitk.WriteImage(image, str(path), compressed)
    return path


def with_line(path: Path, name: str, line: str) -> None:
    """Replace a header line of a NRRD or MetaImage file, or put one before the last."""
    content, sign = path.read_bytes(), b":" if path.name.endswith("nrrd") else b" ="
    changed, count = re.subn(rb"(?m)^%s%s[^\n]*" % (name.encode(), sign), line.encode(), content, count=1)
    anchor = b"encoding:" if sign == b":" else b"ElementDataFile"
    path.write_bytes(changed if count else content.replace(anchor, line.encode() + b"\n" + anchor, 1))


def refuse(path: Path, why: str) -> InputError:
    for read in (read_image, read_label):
        with pytest.raises(InputError, match=why) as caught:
            read(path)
        assert caught.value.what == str(path)
    return caught.value


LONG = "9" * 5000
NRRD_LINES = {
    "kinds": f"kinds: {LONG}",
    "endian": f"endian: {'little' * 400}",
    "space units": f"space units: {LONG}",
    "no field": "space origin" * 400,
    "space directions": "space directions: (1,0,0) (0,inf,0) (0,0,1)",
    "space origin": "space origin: (1e308,0,nan)",
    "spacing": "space directions: (1e-300,0,0) (0,1,0) (0,0,1)",
    "dimension": f"dimension: {LONG[:300]}",
    "sizes": "sizes: 1e1 8 6",
    "type": "type: block",
    "line skip": "line skip: -5",
    "byte skip": "byte skip: 99999999999999999999",
    "twice": "type: unsigned char\ntype: short",
}


@pytest.mark.parametrize("name", NRRD_LINES)
def test_nrrd_headers_that_harm_itk(tmp_path, name):
    path = volume(tmp_path, ".nrrd")
    line = NRRD_LINES[name]
    with_line(path, line.partition(":")[0], line)
    refuse(path, "header field|spacing")


META_LINES = [
    "TransformMatrix = 1 0 0 0 1 0 1e308 0 1", "TransformMatrix = " + "1 " * 3000, "Offset = nan 0 0",
    "ElementSpacing = 1 inf 1", "CenterOfRotation = 1e300 0 0", "ElementNumberOfChannels = -1", "NDims = 2147483647",
    "ElementToIntensityFunctionSlope = 1 2 3", "BinaryData = maybe", "HeaderSize = 20", "ElementType = MET_OTHER",
    "Modality = " + LONG * 20, "DimSize = 10 8 6\nDimSize = 10 4 6",
]  # fmt: skip


@pytest.mark.parametrize("line", META_LINES)
def test_metaimage_headers_that_harm_itk(tmp_path, line):
    path = volume(tmp_path, ".mha")
    with_line(path, line.partition(" =")[0], line)
    refuse(path, "header field|spacing|Matrix")


NIFTI_FIELDS = {
    "sform": ("<f", 304, np.inf), "qform": ("<f", 256, np.nan), "rotation": ("<f", 260, 3e4),
    "place": ("<f", 268, 1e30), "qfac": ("<f", 76, np.nan), "pixdim": ("<f", 80, 1e38),
    "negative pixdim": ("<f", 84, -2.0), "offset": ("<f", 108, np.inf), "huge offset": ("<f", 108, 1e20),
    "slope": ("<f", 112, np.inf),
}  # fmt: skip


@pytest.mark.parametrize("name", NIFTI_FIELDS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_headers_that_harm_itk(tmp_path, name, suffix):
    path = volume(tmp_path, suffix)
    form, place, value = NIFTI_FIELDS[name]
    content = bytearray(gzip.decompress(path.read_bytes()) if suffix == ".nii.gz" else path.read_bytes())
    struct.pack_into(form, content, place, value)
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    refuse(path, "header field|spacing")


@pytest.mark.parametrize("change", [0.5, -4, 40])
def test_a_compressed_size_that_is_not_the_streams_is_refused(tmp_path, change):
    """Half of it: ITK gives half the label and old memory; 40 too many: it reads beyond the file."""
    path = volume(tmp_path, ".mha")
    size = int(re.search(rb"CompressedDataSize = (\d+)", path.read_bytes())[1])
    with_line(
        path, "CompressedDataSize", f"CompressedDataSize = {int(size * change) if change == 0.5 else size + change}"
    )
    refuse(path, "damaged|cut off")
    with_line(path, "CompressedDataSize", f"CompressedDataSize = {size}")
    np.testing.assert_array_equal(read_label(path).array, LABEL)
    with_line(path, "CompressedDataSize", "CompressedDataSize = 0")
    refuse(path, "CompressedDataSize")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_written_numbers_are_counted(tmp_path, suffix):
    numbers = " ".join(map(str, LABEL.ravel())).encode() + b"\n"
    if suffix == ".mha":
        head = b"NDims = 3\nBinaryData = False\nDimSize = 10 8 6\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    else:
        head = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 10 8 6\nencoding: text\n\n"
    path = tmp_path / f"a{suffix}"
    path.write_bytes(head + numbers)
    np.testing.assert_array_equal(read_label(path).array, LABEL)
    path.write_bytes(head + numbers[:-3])
    refuse(path, "479 of the 480 numbers")


def test_a_scaled_direction_matrix_is_refused_and_the_remedy_helps(tmp_path):
    path = volume(tmp_path, ".mha")
    with_line(path, "TransformMatrix", "TransformMatrix = 2 0 0 0 2 0 0 0 2")
    assert "SetDirection" in refuse(path, "TransformMatrix scales the axes by 2, 2, 2").do
    image = sitk.ReadImage(str(path))
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))
    image.SetSpacing((2, 2, 2))
    sitk.WriteImage(image, str(path))
    assert read_label(path).geometry.spacing_dhw == (2, 2, 2)


def test_plain_headers_of_other_programs_are_read(tmp_path):
    path = volume(tmp_path, ".nrrd", compressed=False)
    plain = [
        'labels: "x" "y" "z"', "thicknesses: nan 1 nan", "centerings: cell cell cell", "content: " + "c" * 900,
        "measurement frame: (1,0,0) (0,1,0) (0,0,1)", 'space units: "mm" "mm" "mm"', "old min: 0",
    ]  # fmt: skip
    for line in plain:
        with_line(path, line.partition(":")[0], line)
    path.write_bytes(path.read_bytes().replace(b"encoding: raw", b"Byte Skip: 0\r\nencoding: raw", 1))
    np.testing.assert_array_equal(read_label(path).array, LABEL)
    path = volume(tmp_path, ".mha", compressed=False)
    for line in (
        "HeaderSize = 0",
        "ElementSize = 1 2 3",
        "Modality = MET_MOD_CT",
        "ElementMin = 0",
        "Comment = " + "c" * 300,
    ):
        with_line(path, line.partition(" =")[0], line)
    np.testing.assert_array_equal(read_label(path).array, LABEL)
    with_line(path, "ElementDataFile", "ElementDataFile = Local")
    np.testing.assert_array_equal(read_label(path).array, LABEL)


def test_data_in_the_same_folder_may_be_named_with_a_dot(tmp_path):
    head = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 10 8 6\nencoding: raw\ndata file: ./a.raw\n"
    (tmp_path / "a.raw").write_bytes(LABEL.tobytes())
    (tmp_path / "a.nhdr").write_text(head)
    np.testing.assert_array_equal(read_label(tmp_path / "a.nhdr").array, LABEL)
    (tmp_path / "a.nhdr").write_text(head.replace("./a.raw", "LIST"))
    refuse(tmp_path / "a.nhdr", "in several files")


def test_a_small_stream_of_gigabytes_is_not_unpacked_at_once(tmp_path):
    packer = zlib.compressobj(9)
    stream = b"".join(packer.compress(bytes(1 << 24)) for _ in range(12)) + packer.flush()
    head = "NDims = 3\nDimSize = 10 8 6\nElementType = MET_UCHAR\nCompressedData = True\n"
    head += f"CompressedDataSize = {len(stream)}\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(head.encode() + stream)
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom SVLDRLCore.files.integrity import check_file\n"
        "def most():\n    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = most()\ncheck_file(Path(sys.argv[1]))\nprint(most() - before)"
    )
    run = [sys.executable, "-P", "-c", code, str(tmp_path / "a.mha")]
    grown = int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    assert grown < 100_000  # kB; the stream holds 200,000


NUMBERS = [
    "0",
    "-1",
    "2",
    "1e308",
    "nan",
    "-inf",
    "999999999999999999999",
    "2147483647",
    "1,5",
    "",
    "abc",
    "%s%n",
    "none",
]
CHILD = """
import sys
from pathlib import Path
import numpy as np
from SVLDRLCore.files import integrity
from SVLDRLCore.files.volumes import read_image, read_label
from SVLDRLCore.errors import InputError
for name in sys.stdin.read().split():
    print("variant", name, flush=True)
    for read in (read_image, read_label):
        try:
            found = read(Path(name)).array.ravel()
        except InputError:
            continue
        data = integrity.check_file(Path(name))
        if data.encoding in ("raw", "gzip", "zlib") and data.scaled == (1.0, 0.0):
            counted = np.frombuffer(b"".join(integrity._voxel_blocks(data))[: data.promised_bytes], data.dtype)
            assert np.array_equal(counted, found), "ITK read other voxels than were counted"
print("done")
"""


def mutated(rng: random.Random, path: Path) -> bytes:
    """A file with one to three changes in its header."""
    content = path.read_bytes()
    if path.suffix == ".nii":
        data = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.5:
                values = (0, -1, 1e38, float("nan"), float("inf"), 1e-45, 348, 353, 1e9)
                place = rng.choice([76, 80, 84, 88, 108, 112, 116, *range(256, 328, 4)])
                struct.pack_into("<f", data, place, rng.choice(values))
            else:
                data[rng.randrange(352)] = rng.randrange(256)
        return bytes(data)
    end = content.index(b"\n\n") if path.suffix == ".nrrd" else content.index(b"\n", content.index(b"ElementDataFile"))
    lines = content[:end].split(b"\n")
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(lines))
        name, sign, value = re.match(rb"([^:=]*)(:=|: | = |)(.*)", lines[i]).groups()
        words = re.split(rb"([ ,()]+)", value)
        words[rng.randrange(len(words))] = rng.choice(NUMBERS).encode()
        lines[i] = name + sign + rng.choice([
            b"".join(words), value * rng.choice([2, 100, 2000]), (value + b" ") * 2000,
            b"9" * rng.choice([300, 1200, 9000]), b" ".join([b"1"] * rng.choice([5, 40, 3000])),
            rng.choice(NUMBERS).encode(), value + b"\n" + lines[i],
        ])  # fmt: skip
        if rng.random() < 0.1:
            lines[i] = name * 2000 + sign + value
    return b"\n".join(lines) + content[end:]


def test_no_mutated_header_crashes_hangs_or_is_misread(tmp_path):
    rng, files = random.Random(7), []
    bases = [volume(tmp_path, suffix, c) for suffix in (".nrrd", ".mha") for c in (True, False)]
    bases.append(volume(tmp_path, ".nii"))
    for k in range(450):
        base = rng.choice(bases)
        files.append(tmp_path / f"m{k}{base.suffix}")
        files[-1].write_bytes(mutated(rng, base))
    run = [sys.executable, "-P", "-c", CHILD]
    child = subprocess.run(
        run, input="\n".join(map(str, files)), capture_output=True, text=True, timeout=120, check=False
    )
    assert child.stdout.endswith("done\n"), (child.returncode, child.stdout[-80:], child.stderr[-500:])
