"""Damaged, implausible and unfitting input files are refused by name before a voxel of them is used."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SVLDRLCore.errors import InputError
from SVLDRLCore.files import integrity as file_integrity
from SVLDRLCore.files.case_checks import check_cases, read_case, require_known_labels
from SVLDRLCore.files.case_tables import cases_listed
from SVLDRLCore.files.datalist import Case, DataList
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    Volume,
    read_image,
    read_label,
    require_same_geometry,
    write_image,
    write_label,
)

SIZE = (12, 20, 24)
GEOMETRY = Geometry(SIZE, (3.0, 1.0, 1.0), (5.0, -7.0, 11.0))
RANDOM = np.random.default_rng(0).normal(100, 40, SIZE).astype(np.float32)
FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha", "-raw.nrrd", "-raw.mha")


def image_file(folder: Path, form: str, array: np.ndarray = RANDOM) -> Path:
    """An image in one of `FORMATS`."""
    path = folder / f"image{form}"
    if not form.startswith("-raw"):
        return write_image(path, array, GEOMETRY)
    image = sitk.GetImageFromArray(array)
    sitk.WriteImage(image, str(path), useCompression=False)
    return path


def refuse(path: Path, why: str) -> InputError:
    """Reading as image and as label must both fail, naming the file."""
    for read in (read_label, read_image):
        with pytest.raises(InputError, match=why) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert caught.value.do
    return caught.value


@pytest.mark.parametrize("form", FORMATS)
def test_a_whole_file_is_read(tmp_path, form):
    np.testing.assert_array_equal(read_image(image_file(tmp_path, form)).array, RANDOM)


@pytest.mark.parametrize("cut", [0.3, 1000, 1])
@pytest.mark.parametrize("form", FORMATS)
def test_truncated(tmp_path, form, cut):
    path = image_file(tmp_path, form)
    content = path.read_bytes()
    path.write_bytes(content[: -(cut if isinstance(cut, int) else int(cut * len(content)))])
    refuse(path, "cut off|damaged")


@pytest.mark.parametrize("n_bytes", [1, 3, 100, 347])
@pytest.mark.parametrize("form", FORMATS)
def test_cut_inside_the_header(tmp_path, form, n_bytes):
    path = image_file(tmp_path, form)
    path.write_bytes(path.read_bytes()[:n_bytes])
    refuse(path, "does not begin like|cut off|damaged|says")


@pytest.mark.parametrize("form", [".nii.gz", ".mha", ".nrrd"])
def test_flipped_byte_in_compressed_data(tmp_path, form):
    path = image_file(tmp_path, form)
    content = path.read_bytes()
    for position in (len(content) // 2, len(content) // 3, len(content) - 6):  # the last: in the checksum
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        refuse(path, "damaged")


@pytest.mark.parametrize("form", [".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".nhdr", ".mha", ".mhd"])
def test_empty_file(tmp_path, form):
    path = tmp_path / f"a{form}"
    path.touch()
    refuse(path, "empty")


def test_missing_file(tmp_path):
    refuse(tmp_path / "none.nrrd", "no such file")
    (tmp_path / "folder.nrrd").mkdir()
    refuse(tmp_path / "folder.nrrd", "it is a folder, not a file")


@pytest.mark.parametrize("form", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_wrong_suffix(tmp_path, form):
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
    (tmp_path / f"a{form}").write_bytes(png)
    refuse(tmp_path / f"a{form}", f"does not begin like a {re.escape(form)} file")


def test_unknown_suffix_and_uncompressed_gz(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    refuse(tmp_path / "a.png", "'.png'")
    image_file(tmp_path, ".nii").rename(tmp_path / "b.nii.gz")
    refuse(tmp_path / "b.nii.gz", "does not begin like")


def test_petabytes_are_refused_from_the_header_alone(tmp_path):
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 100000 100000 100000\nencoding: raw\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + b"0" * 64)
    refuse(tmp_path / "a.nrrd", r"100000 x 100000 x 100000 voxels, which need 6,000,000 GB of")
    header = "NDims = 3\nDimSize = 100000 100000 100000\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(header.encode() + b"0" * 64)
    refuse(tmp_path / "a.mha", "GB of")
    path = image_file(tmp_path, ".nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<3h", content, 42, 32767, 32767, 32767)
    path.write_bytes(content)
    refuse(path, "GB of")


def test_the_limit_is_the_memory_of_this_machine(tmp_path, monkeypatch):
    path = image_file(tmp_path, ".nrrd")
    needed = 8 * RANDOM.size
    monkeypatch.setattr(file_integrity, "physical_memory_bytes", lambda: needed)
    read_image(path)
    monkeypatch.setattr(file_integrity, "physical_memory_bytes", lambda: needed - 1)
    refuse(path, "need")
    monkeypatch.undo()
    assert 2**28 < file_integrity.physical_memory_bytes() < 2**50


def test_zero_and_negative_sizes(tmp_path):
    for sizes in ("0 4 4", "-4 -4 4"):
        header = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\nencoding: raw\nendian: little\n\n"
        (tmp_path / "a.nrrd").write_bytes(header.encode() + b"0" * 64)
        refuse(tmp_path / "a.nrrd", "its header says")


@pytest.mark.parametrize("target", ["/etc/hostname", "../secret.raw", "sub/secret.raw", "LIST", "a%03d.raw 1 2 1"])
@pytest.mark.parametrize("form", [".nhdr", ".nrrd", ".mhd", ".mha"])
def test_detached_data_elsewhere(tmp_path, target, form):
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    for secret in (tmp_path / "secret.raw", folder / "sub" / "secret.raw"):
        secret.write_bytes(b"s" * 64)
    if form in (".mhd", ".mha"):
        header = f"NDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = {target}\n"
    else:
        header = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: {target}\n"
    (folder / f"a{form}").write_text(header)
    refuse(folder / f"a{form}", "another place")


def test_detached_data_behind_a_link_or_missing(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(b"s" * 64)
    header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: a.raw\n"
    (folder / "a.nhdr").write_text(header)
    refuse(folder / "a.nhdr", "missing")
    (folder / "a.raw").symlink_to(tmp_path / "secret.raw")
    refuse(folder / "a.nhdr", "another place")
    (folder / "a.raw").unlink()
    (folder / "a.raw").write_bytes(b"s" * 63)
    refuse(folder / "a.nhdr", "63 of the 64 bytes")


@pytest.mark.parametrize(("n_nan", "n_inf"), [(1, 0), (0, 1), (2, 3), (RANDOM.size, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMATS)
def test_nan_and_infinite_voxels_are_counted(tmp_path, form, dtype, n_nan, n_inf):
    array = RANDOM.astype(dtype)
    array.flat[:n_nan] = np.nan
    array.flat[n_nan : n_nan + n_inf] = -np.inf
    refuse(image_file(tmp_path, form, array), f"^[^:]*: {n_nan:,} voxels are NaN and {n_inf} infinite")


@pytest.mark.parametrize("form", FORMATS)
def test_nan_is_counted_across_the_blocks_of_a_large_file(tmp_path, monkeypatch, form):
    monkeypatch.setattr(file_integrity, "_CHUNK", 4097)  # blocks that end inside a voxel
    read_image(image_file(tmp_path, form))
    (tmp_path / f"image{form}").unlink()
    refuse(image_file(tmp_path, form, np.full_like(RANDOM, np.nan)), f"{RANDOM.size:,} voxels are NaN")


def test_big_endian_nan_is_found_and_big_endian_numbers_are_not_nan(tmp_path):
    values = np.array([1.0, np.nan, 2.0, 3.0], ">f4")
    header = "NRRD0004\ntype: float\ndimension: 3\nsizes: 2 2 1\nencoding: raw\nendian: big\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + values.tobytes())
    refuse(tmp_path / "a.nrrd", "1 voxels are NaN")
    (tmp_path / "a.nrrd").write_bytes(header.encode() + values[[0, 2, 3, 3]].tobytes())
    assert read_image(tmp_path / "a.nrrd").array.ravel().tolist() == [1, 2, 3, 3]


def test_empty_label_and_all_foreground_are_listed_with_their_case(tmp_path):
    cases = []
    for name, value in {"empty": 0, "full": 1}.items():
        image = write_image(tmp_path / f"{name}.nrrd", RANDOM + value, GEOMETRY)
        label = write_label(tmp_path / f"{name}_label.nrrd", np.full(SIZE, value), GEOMETRY)
        cases.append(Case(name, (image,), label))
    problems = check_cases(DataList("d", {1: "organ"}, tuple(cases), tuple(cases[:0])))
    found = {(problem.case, problem.severity, problem.why) for problem in problems}
    assert ("empty", "warning", "it is empty") in found
    assert ("full", "warning", "it fills the whole volume") in found


def label_file(folder: Path, form: str, odd: float, n: int, dtype=np.float32) -> Path:
    array = np.zeros(SIZE, dtype)
    array[3:6, 4:9] = 1
    array.flat[:n] = odd
    return write_image(folder / f"label{form}", array, GEOMETRY)


@pytest.mark.parametrize("form", [".nii.gz", ".nrrd", ".mha"])
def test_label_values(tmp_path, form):
    path = label_file(tmp_path, form, 1.5, 3)
    with pytest.raises(InputError, match=r"label.*3 voxels are not whole numbers .*1\.5"):
        read_label(path)
    (tmp_path / f"label{form}").unlink()
    path = label_file(tmp_path, form, -1, 5, np.int16)
    with pytest.raises(InputError, match=r"label.*5 voxels are outside 0 to 65535 \(from -1 to 1\)"):
        read_label(path)
    (tmp_path / f"label{form}").unlink()
    path = label_file(tmp_path, form, 255, 7, np.uint8)
    with pytest.raises(InputError, match=r"label.*255 in 7 voxels") as caught:
        require_known_labels(read_label(path), {1: "left atrium"})
    assert "1: left atrium" in caught.value.do
    require_known_labels(read_label(path), {1: "left atrium", 255: "odd"})


def case_of(folder: Path, label: np.ndarray, geometry: Geometry) -> Case:
    image = write_image(folder / "image.nrrd", RANDOM, GEOMETRY)
    return Case("case", (image,), write_label(folder / "label.nrrd", label, geometry))


def test_label_of_another_size(tmp_path):
    case = case_of(tmp_path, np.zeros((12, 20, 22)), Geometry((12, 20, 22), GEOMETRY.spacing_dhw, GEOMETRY.origin_xyz))
    with pytest.raises(InputError, match=r"12 x 20 x 22 voxels.*12 x 20 x 24"):
        read_case(case, {1: "organ"})


@pytest.mark.parametrize("shift_mm", [0.5, 10.0])
def test_label_beside_the_image(tmp_path, shift_mm):
    shifted = Geometry(SIZE, GEOMETRY.spacing_dhw, (5.0 + shift_mm, -7.0, 11.0))
    case = case_of(tmp_path, np.zeros(SIZE), shifted)
    with pytest.raises(InputError, match=f"label.nrrd: it lies up to {shift_mm:g} mm away"):
        read_case(case, {1: "organ"})


def test_label_a_millionth_beside_the_image_is_accepted(tmp_path):
    case = case_of(tmp_path, np.ones(SIZE), Geometry(SIZE, GEOMETRY.spacing_dhw, (5.0 + 1e-6, -7.0, 11.0)))
    images, label = read_case(case, {1: "organ"})
    assert len(images) == 1
    assert label.array.all()


@pytest.mark.parametrize("changes", [{"spacing_dhw": (3.0, 1.0, 1.01)}, {"direction": (-1.0, 0, 0, 0, 1, 0, 0, 0, 1)}])
def test_label_of_another_spacing_or_direction(changes):
    other = Geometry(**{"size_dhw": SIZE, "spacing_dhw": (3.0, 1.0, 1.0), "origin_xyz": (5.0, -7.0, 11.0)} | changes)
    with pytest.raises(InputError, match=f"{next(iter(changes))[:7]}"):
        require_same_geometry(Volume(RANDOM, GEOMETRY), Volume(RANDOM, other))


def nrrd_with(folder: Path, directions: str, name: str = "a.nrrd") -> Path:
    header = (
        "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\n"
        f"space directions: {directions}\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    (folder / name).write_bytes(header.encode() + bytes(64))
    return folder / name


def test_sheared_nrrd(tmp_path):
    error = refuse(nrrd_with(tmp_path, "(1,0,0) (0,1,0) (0,0.3,2)"), r"right angles \(off by 8\.53 degrees")
    assert "Resample" in error.do
    read_image(nrrd_with(tmp_path, "(1,0,0) (0,1,0) (0,0.0001,2)"))


def test_sheared_nifti(tmp_path):
    path = image_file(tmp_path, ".nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<2h", content, 252, 0, 1)  # qform_code, sform_code
    struct.pack_into("<12f", content, 280, 1, 0, 0, 0, 0, 1, 0.6, 0, 0, 0, 2, 0)
    path.write_bytes(content)
    error = refuse(path, "right angles|orthonormal")
    assert "grid" in error.do or "Slicer" in error.do


@pytest.mark.parametrize("directions", ["(1,0,0) (0,0,0) (0,0,2)", "(1,0,0) (0,nan,0) (0,0,2)"])
def test_spacing_zero_in_nrrd(tmp_path, directions):
    refuse(nrrd_with(tmp_path, directions), "spacing is zero or not a number")


def test_spacing_zero_in_nifti_and_metaimage(tmp_path):
    path = image_file(tmp_path, ".nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 84, 0.0)
    path.write_bytes(content)
    refuse(path, "spacing is zero")
    path = image_file(tmp_path, "-raw.mha")
    path.write_bytes(re.sub(rb"ElementSpacing = [^\n]*", b"ElementSpacing = 1 0 1", path.read_bytes()))
    refuse(path, "spacing is zero")


def test_parallel_axes_in_metaimage(tmp_path):
    path = image_file(tmp_path, "-raw.mha")
    path.write_bytes(re.sub(rb"TransformMatrix = [^\n]*", b"TransformMatrix = 1 0 0 1 0 0 0 0 1", path.read_bytes()))
    refuse(path, "right angles|cannot be read")


@pytest.mark.parametrize("name", ["päth with spaces ü 体积", "n" * 225, "quote ' and % and ;"])
@pytest.mark.parametrize("form", [".nrrd", ".nii.gz", ".mha", ".seg.nrrd"])
def test_odd_paths_work(tmp_path, name, form):
    folder = tmp_path / name / "deeper" / name
    label = np.zeros(SIZE, np.uint8)
    label[2:4] = 3
    path = write_label(folder / f"{name}{form}", label, GEOMETRY, [Segment(3, name)])
    np.testing.assert_array_equal(read_label(path).array, label)
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_a_nifti_slope_of_0_scales_nothing_whatever_its_intercept(tmp_path, kind, slope):
    """As the standard says; ITK adds the intercept."""
    nibabel = pytest.importorskip("nibabel")
    array = np.arange(60, dtype=kind).reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    stored = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<2f", stored, 112, slope, 5.0)
    (tmp_path / "a.nii").write_bytes(bytes(stored))
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").array, array.T)
    if kind == np.uint8:
        np.testing.assert_array_equal(read_label(tmp_path / "a.nii").array, array.T)


def test_nifti_of_another_program(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "a.nii.gz")
    expected = nibabel.load(tmp_path / "a.nii.gz").get_fdata().T
    np.testing.assert_allclose(read_image(tmp_path / "a.nii.gz").array, expected, atol=1e-4)
    whole = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole[:-1]))  # a sound gzip stream, a byte too short
    refuse(tmp_path / "b.nii.gz", "119 of the 120 bytes")
    big = nibabel.Nifti1Image(array.astype(">i2"), np.eye(4), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(big, tmp_path / "c.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "c.nii").array, array.T)
    nibabel.save(nibabel.Nifti2Image(array, np.eye(4)), tmp_path / "d.nii")
    refuse(tmp_path / "d.nii", "NIfTI-2")
    nibabel.save(nibabel.Nifti1Pair(array, np.eye(4)), tmp_path / "e.img")
    (tmp_path / "e.hdr").rename(tmp_path / "e.nii")
    refuse(tmp_path / "e.nii", "another file")


def test_a_torn_segmentation_names_its_file(tmp_path):
    path = write_label(tmp_path / "rough.seg.nrrd", (RANDOM > 0).astype(np.uint8), Geometry(RANDOM.shape))
    content = path.read_bytes()
    for kept in (len(content) - 3, content.index(b"\n\n") + 2, 200):
        path.write_bytes(content[:kept])
        refuse(path, "cut off|damaged|does not begin like")


def test_dicom_is_told_with_the_way_out(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    (series / "DICOMDIR.txt").write_text("of the archive")
    slices = sitk.GetImageFromArray(np.zeros((1, 8, 8), np.int16))
    sitk.WriteImage(slices, str(series / "IM0001.dcm"))
    (series / "IM0001.dcm").rename(series / "IM0001")
    refuse(series / "IM0001", "a DICOM file")
    error = refuse(series, "a folder of DICOM files")
    assert "dcm2niix" in error.do
    with pytest.raises(InputError, match="a folder of DICOM files"):
        cases_listed(series)
