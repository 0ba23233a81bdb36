"""Files whose place in the patient is told twice, almost right or not at all: read rightly, told, or refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel
import nibabel.processing
import numpy as np
import pytest
import SimpleITK as sitk

from SVLDRLCore.benchmarking.corrupt import corrupt
from SVLDRLCore.data.resampling import median_spacing
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.case_checks import read_case
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.nifti_forms import APART_VOXELS, NiftiForms, disagreement
from SVLDRLCore.files.volumes import (
    Geometry,
    Volume,
    read_geometry,
    read_image,
    read_label,
    require_same_geometry,
    write_image,
    write_label,
)
from SVLDRLCore.jobs.check import check
from SVLDRLCore.jobs.evaluate import evaluate

SIZE = (6, 20, 24)
IMAGE = np.random.default_rng(0).normal(100, 40, SIZE).astype(np.float32)
LABEL = np.zeros(SIZE, np.uint8)
LABEL[1:5, 6:14, 8:16] = 1
AFFINE = np.array([[-1.0, 0, 0, 30], [0, -2, 0, 40], [0, 0, 3, -50], [0, 0, 0, 1]])


def turned(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AFFINE


def nifti(path: Path, array: np.ndarray, qform: np.ndarray, sform: np.ndarray, codes: tuple[int, int] = (1, 1)) -> Path:
    """A NIfTI file of an array (D, H, W) with both forms (RAS) and their codes (qform, sform)."""
    image = nibabel.Nifti1Image(array.T, None)
    image.header.set_zooms(np.linalg.norm(qform[:3, :3], axis=0))
    image.set_qform(qform, codes[0], update_affine=False)
    image.set_sform(sform, codes[1], update_affine=False)
    nibabel.save(image, path)
    return path


def datalist(folder: Path, image: Path, label: Path) -> Path:
    content = {"labels": {"1": "organ"}, "training": [{"image": image.name, "label": label.name}]}
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder / "datalist.json"


def warnings_of(path: Path) -> list[str]:
    return [problem.why for problem in check(path) if problem.severity == "warning" and problem.case]


@pytest.mark.parametrize("codes", itertools.product((0, 1, 2), (0, 1, 2)))
def test_forms_that_lie_apart_are_told_and_both_are_kept(tmp_path, codes):
    other = AFFINE.copy()
    other[0, 3] += 7.5  # voxels of 1 mm along x
    image = nifti(tmp_path / "i.nii.gz", IMAGE, AFFINE, other, codes)
    label = nifti(tmp_path / "l.nii.gz", LABEL, AFFINE, other, codes)
    told = warnings_of(datalist(tmp_path, image, label))
    if min(codes) > 0:
        assert len(told) == 2
        assert all("qform" in text and "sform" in text and "7.5 voxels" in text for text in told)
    elif max(codes) == 0:
        assert all("no place in the patient" in text for text in told)
        assert told
    else:
        assert told == []
    used = other if codes[1] == 1 or codes[0] == 0 else AFFINE
    volume = read_image(image)
    if max(codes):
        np.testing.assert_allclose(volume.geometry.world((0, 0, 0)), used[:3, 3] * (-1, -1, 1), atol=1e-4)
    for suffix in (".nii", ".nii.gz"):
        written = write_label(tmp_path / f"out{suffix}", LABEL, volume.geometry)
        assert [p.name for p in tmp_path.glob("*.forms")] == []
        np.testing.assert_allclose(nibabel.load(written).affine, nibabel.load(image).affine, atol=1e-4)
        again = sitk.ReadImage(str(written))
        np.testing.assert_allclose(again.GetOrigin(), sitk.ReadImage(str(image)).GetOrigin(), atol=1e-4)
        np.testing.assert_array_equal(read_label(written).array, LABEL)


def test_forms_that_differ_by_rounding_are_one(tmp_path):
    """Single precision turns a quaternion of half a turn by a voxel's fifth at 512 columns."""
    rng, worst = np.random.default_rng(1), 0.0
    for _ in range(600):
        affine = np.eye(4)
        turn = nibabel.eulerangles.euler2mat(rng.normal(0, 10.0 ** -rng.integers(0, 6)), *rng.normal(0, 0.3, 2))
        affine[:3, :3] = turn @ AFFINE[:3, :3]
        affine[:3, 3] = rng.normal(0, 200, 3)
        header = nibabel.Nifti1Header()
        header.set_data_shape((512, 512, 40))
        header.set_zooms((1, 2, 3))
        header.set_qform(affine, 1)
        header.set_sform(affine, 1)
        rows = np.concatenate([header[f"srow_{axis}"] for axis in "xyz"]).astype(float)
        quaternion = tuple(float(header[f"quatern_{name}"]) for name in "bcd")
        offset = tuple(float(header[f"qoffset_{axis}"]) for axis in "xyz")
        forms = NiftiForms(tuple(header["pixdim"][:4].astype(float)), 1, 1, quaternion, offset, tuple(rows))
        read = forms.affines()["sform"]
        assert disagreement(forms, read[:, :3], read[:, 3], (512, 512, 40)) is None
        there = np.linalg.solve(read[:, :3], (forms.affines()["qform"] - read) @ (511, 511, 39, 1))
        worst = max(worst, np.abs(there).max())
    assert worst > APART_VOXELS  # by distance alone some of them would be told


@pytest.mark.parametrize("kind", ["mirrored", "larger voxels", "sheared"])
@pytest.mark.parametrize("codes", [(1, 1), (1, 2)])
def test_forms_of_two_different_grids_are_refused_and_the_remedy_helps(tmp_path, kind, codes):
    other = AFFINE.copy()
    if kind == "mirrored":
        other[0] *= -1
    elif kind == "larger voxels":
        other[:3, :3] *= 1.1
    else:
        other[0, 1] = 0.5
    path = nifti(tmp_path / "a.nii.gz", IMAGE, AFFINE, other, codes)
    with pytest.raises(InputError, match=r"qform .* sform .* voxel") as caught:
        read_image(path)
    assert "save it again" in caught.value.do
    sitk.WriteImage(sitk.ReadImage(str(path)), str(path))  # what Slicer does
    assert read_image(path).warnings == ()


def test_a_voxel_size_that_only_the_sform_has_is_refused(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", IMAGE, AFFINE, AFFINE @ np.diag([2, 2, 2, 1.0]), (0, 1))
    with pytest.raises(InputError, match=r"sform and its pixdim differ: voxel sizes 2 x 4 x 6 mm and 1 x 2 x 3 mm"):
        read_image(path)


def test_a_sheared_nifti_is_named_and_the_remedy_helps(tmp_path):
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.4
    path = nifti(tmp_path / "a.nii.gz", IMAGE, AFFINE, sheared, (0, 1))
    with pytest.raises(InputError, match=r"not at right angles \(off by 7\.59") as caught:
        read_image(path)
    assert "nibabel.processing.resample_to_output" in caught.value.do
    straight = nibabel.processing.resample_to_output(nibabel.load(path))
    nibabel.save(straight, tmp_path / "b.nii.gz")
    assert read_image(tmp_path / "b.nii.gz").warnings == ()


def test_a_sheared_nrrd_is_named_and_the_remedy_helps(tmp_path):
    head = "NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: 24 20 6\n"
    head += "space directions: (1,0,0) (0,1,0) (0,0.6,2)\nencoding: raw\nendian: little\nspace origin: (0,0,0)\n\n"
    path = tmp_path / "a.nrrd"
    path.write_bytes(head.encode() + IMAGE.tobytes())
    with pytest.raises(InputError, match="right angles") as caught:
        read_image(path)
    assert "Resample Scalar/Vector/DWI Volume" in caught.value.do
    reference = sitk.Image(24, 24, 6, sitk.sitkFloat32)
    reference.SetSpacing((1, 1, 2))
    straight = sitk.Resample(sitk.ReadImage(str(path)), reference)
    sitk.WriteImage(straight, str(tmp_path / "b.nrrd"))
    assert read_image(tmp_path / "b.nrrd").geometry.spacing_dhw == (2, 1, 1)


@pytest.mark.parametrize("extra", [(), (1,), (1, 1)])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_one_time_point_keeps_its_axes(tmp_path, suffix, extra):
    """Axes permuted: (i, j, k) run along z, x and y. The trained spacing is the one along x, y, z."""
    path = tmp_path / f"a{suffix}"
    if suffix == ".nii.gz":
        affine = np.array([[0, 2.0, 0, 0], [0, 0, 3, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
        nibabel.save(nibabel.Nifti1Image(IMAGE.T.reshape(*IMAGE.T.shape, *extra), affine), path)
    else:
        image = sitk.GetImageFromArray(IMAGE.reshape(*extra, *SIZE), isVector=False)
        n = 3 + len(extra)
        direction = np.eye(n)
        direction[:3, :3] = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
        image.SetSpacing([1, 2, 3, 1, 1][:n])
        image.SetDirection(direction.ravel())
        sitk.WriteImage(image, str(path))
    assert read_geometry(path).size_dhw == SIZE
    np.testing.assert_allclose(read_geometry(path).axes, read_image(path).geometry.axes)
    np.testing.assert_array_equal(read_image(path).array, IMAGE)
    assert median_spacing([Case("a", (path,), None)]) == (2.0, 3.0, 1.0)


@pytest.mark.parametrize("shape", [(5, *SIZE), (20, 1, 20, 24)])
def test_time_series_are_refused_by_their_headers_too(tmp_path, shape):
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape[::-1], np.float32), np.eye(4)), tmp_path / "a.nii")
    for read in (read_image, read_geometry):
        with pytest.raises(InputError, match="4 dimensions"):
            read(tmp_path / "a.nii")


def beside(voxels: float, axis: int = 0) -> Geometry:
    """A grid moved along D, H or W, whose voxels are 5, 0.5 and 0.5 mm long."""
    origin = np.zeros(3)
    origin[2 - axis] = voxels * (5.0, 0.5, 0.5)[axis]
    return Geometry(SIZE, (5.0, 0.5, 0.5), tuple(origin))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_grids_are_compared_in_voxels_along_their_own_axes(axis):
    image = Volume(IMAGE, beside(0))
    assert require_same_geometry(image, Volume(LABEL, beside(0.009, axis))) is None
    assert "0.02 voxels" in require_same_geometry(image, Volume(LABEL, beside(0.02, axis)))
    assert require_same_geometry(image, Volume(LABEL, beside(-0.049, axis)))
    with pytest.raises(InputError, match="origin"):
        require_same_geometry(image, Volume(LABEL, beside(0.06, axis)))


def test_directions_rounded_to_six_digits_are_one_grid(tmp_path):
    """Image and label of one study whose directions differ by 2e-6: 0.0012 voxels at 640 columns."""
    image = (0.9981165875, -0.0564530769, -0.0240070682, 0.0564367133, 0.9984052534, -0.0013574772, 0.0240452715, 0.0,
             0.9997108671)  # fmt: skip
    label = (0.9981166689, -0.0564543742, -0.0240055603, 0.0564353520, 0.9984051800, -0.0013494249, 0.0240450872, 0.0,
             0.9997109142)  # fmt: skip
    size = (6, 640, 640)
    a, b = (Geometry(size, (3.3, 0.5, 0.5), (0, 0, 0), d) for d in (image, label))
    drawn = np.zeros(size, np.uint8)
    drawn[2:4, 300:340, 300:340] = 1
    case = Case("c", (write_image(tmp_path / "i.nrrd", drawn * 100.0, a),), write_label(tmp_path / "l.nrrd", drawn, b))
    images, read = read_case(case, {1: "organ"})
    assert read.geometry == images[0].geometry
    assert read.warnings == ()


def test_a_label_slightly_beside_its_image_is_told_everywhere_and_moved_onto_it(tmp_path):
    grid = Geometry(SIZE, (5.0, 0.5, 0.5))
    image = write_image(tmp_path / "i.nrrd", IMAGE, grid)
    label = write_label(tmp_path / "l.nrrd", LABEL, beside(0.03, 2))
    listed = datalist(tmp_path, image, label)
    assert any("0.03 voxels" in text for text in warnings_of(listed))
    seen = []
    corrupt(listed, tmp_path / "noisy", noise="mt", ratio=1.0, listeners=[seen.append])
    assert any(record["event"] == "warning" and "0.03 voxels" in record["text"] for record in seen)
    assert read_label(tmp_path / "noisy" / "labels" / "i_label.nrrd").geometry == grid
    write_label(tmp_path / "r.nrrd", LABEL, grid)
    done = evaluate(label, tmp_path / "r.nrrd")
    assert any("0.03 voxels" in text for text in done.warnings)
    assert done.rows[0].metrics.dice == 1.0
    assert read_case(Case("c", (image,), label), {1: "organ"})[1].geometry == grid


def test_colours_are_named_and_the_remedy_helps(tmp_path):
    colours = np.zeros((24, 20, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, AFFINE), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"colours \(RGB\)") as caught:
        read_image(tmp_path / "a.nii.gz")
    assert "Vector to Scalar Volume" in caught.value.do
    grey = sitk.VectorMagnitude(sitk.Cast(sitk.ReadImage(str(tmp_path / "a.nii.gz")), sitk.sitkVectorFloat32))
    sitk.WriteImage(grey, str(tmp_path / "b.nii.gz"))
    assert read_image(tmp_path / "b.nii.gz").array.shape == SIZE


def test_a_slope_that_makes_fractions_of_labels_is_named_and_the_remedy_helps(tmp_path):
    values = np.zeros((24, 20, 6))
    values[4:9], values[12:15] = 1, 12
    image = nibabel.Nifti1Image(values, AFFINE)
    image.header.set_data_dtype(np.uint8)
    nibabel.save(image, tmp_path / "a.nii.gz")  # stored from 0 to 255 with a slope of 12 / 255
    with pytest.raises(InputError, match=r"multiplies what is stored by 0\.0470588 \(scl_slope\)") as caught:
        read_label(tmp_path / "a.nii.gz")
    assert "Round" in caught.value.do
    rounded = np.rint(nibabel.load(tmp_path / "a.nii.gz").get_fdata()).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(rounded, AFFINE), tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(read_label(tmp_path / "b.nii.gz").array, values.T)
