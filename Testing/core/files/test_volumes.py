"""Volumes survive the way to a file and back: voxels, place, names and colours."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    Volume,
    read_image,
    read_label,
    require_same_geometry,
    same_geometry,
    write_image,
    write_label,
)

SUFFIXES = (".nrrd", ".nii.gz", ".nii", ".mha")
SIZE, SPACING = (5, 6, 7), (2.5, 0.7, 1.1)


def geometry(matrix: np.ndarray | None = None, size=SIZE, spacing=SPACING) -> Geometry:
    direction = np.eye(3) if matrix is None else matrix
    return Geometry(size, spacing, (-31.5, 12.25, 840.0), tuple(direction.ravel().tolist()))


ROTATED = Rotation.from_euler("xyz", (20, -10, 35), degrees=True).as_matrix()
GEOMETRIES = {
    "identity": geometry(),
    "oblique": geometry(ROTATED),
    "left-handed": geometry(np.diag([1.0, 1.0, -1.0])),
    "oblique left-handed": geometry(ROTATED @ np.diag([-1.0, 1.0, 1.0])),
    "permuted": geometry(np.eye(3)[[2, 0, 1]]),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_an_image_comes_back_in_its_place(tmp_path, name, suffix):
    expected = GEOMETRIES[name]
    array = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    volume = read_image(write_image(tmp_path / f"a{suffix}", array, expected))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.float32
    corners = np.array([[0, 0, 0], [4, 5, 6], [4, 0, 3]])
    distance_mm = np.linalg.norm(volume.geometry.world(corners) - expected.world(corners), axis=1)
    assert distance_mm.max() < 1e-3 * min(SPACING)
    assert same_geometry(volume.geometry, expected)


def test_world_positions_are_those_of_simpleitk(tmp_path):
    path = write_image(tmp_path / "a.nrrd", np.zeros(SIZE, np.uint8), GEOMETRIES["oblique left-handed"])
    image = sitk.ReadImage(str(path))
    for d, h, w in [(0, 0, 0), (4, 0, 1), (2, 5, 6)]:
        expected = image.TransformIndexToPhysicalPoint((w, h, d))
        np.testing.assert_allclose(read_image(path).geometry.world((d, h, w)), expected, atol=1e-5)


@pytest.mark.parametrize("suffix", [".seg.nrrd", *SUFFIXES])
def test_a_label_comes_back(tmp_path, suffix):
    array = np.random.default_rng(1).integers(0, 5, SIZE)
    label = read_label(write_label(tmp_path / f"a{suffix}", array, GEOMETRIES["oblique"]))
    np.testing.assert_array_equal(label.array, array)
    assert label.array.dtype == np.uint8
    assert same_geometry(label.geometry, GEOMETRIES["oblique"])


def test_values_above_255_and_boolean_masks_are_labels_too(tmp_path):
    array = np.zeros(SIZE, np.int32)
    array[0, 0, 0] = 500
    assert read_label(write_label(tmp_path / "a.nrrd", array, geometry())).array.max() == 500
    assert read_label(write_label(tmp_path / "b.nrrd", array > 0, geometry())).array.sum() == 1


def test_whole_numbers_stored_as_float_are_labels(tmp_path):
    write_image(tmp_path / "a.nii.gz", np.full(SIZE, 3.0, np.float32), geometry())
    label = read_label(tmp_path / "a.nii.gz")
    assert label.array.dtype == np.uint8
    assert (label.array == 3).all()


@pytest.mark.parametrize("name", ["left atrium", "Tumör 体积", "", "a/b", "x:=y; 'z'", "n" * 300])
def test_segment_names_and_colours_are_kept(tmp_path, name):
    segments = (Segment(7, name, (1.0, 0.25, 0.125)), Segment(2, "Tumor"), Segment(3, "Tumor"))
    array = np.zeros(SIZE, np.uint8)
    array[0], array[1], array[2] = 7, 2, 3
    label = read_label(write_label(tmp_path / "a.seg.nrrd", array, geometry(), segments))
    assert label.segments == segments


def test_a_value_without_a_segment_gets_one(tmp_path):
    array = np.zeros(SIZE, np.uint8)
    array[0], array[1] = 1, 4
    label = read_label(write_label(tmp_path / "a.seg.nrrd", array, geometry(), [Segment(1, "liver")]))
    assert [(s.value, s.name) for s in label.segments] == [(1, "liver"), (4, "Segment 4")]


def test_a_segmentation_has_the_fields_that_slicer_reads(tmp_path):
    write_label(tmp_path / "a.seg.nrrd", np.ones(SIZE, np.uint8), geometry(), [Segment(1, "liver")])
    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert image.GetMetaData("Segmentation_MasterRepresentation") == "Binary labelmap"
    assert image.GetMetaData("Segment0_Extent") == "0 6 0 5 0 4"
    assert image.GetMetaData("Segment0_Layer") == "0"
    assert image.GetMetaData("Segment0_ID") == "Segment_1"
    assert image.GetMetaData("Segment0_Tags").startswith("TerminologyEntry:")


def write_layers(path, layers: np.ndarray, rows: list[tuple[str, int, int]]) -> None:
    """A .seg.nrrd of layers (D, H, W, L) with rows (name, layer, label value), as Slicer saves overlaps."""
    image = sitk.GetImageFromArray(layers, isVector=True)
    image.SetSpacing(SPACING[::-1])
    for i, (name, layer, value) in enumerate(rows):
        for key, text in {"Name": name, "Layer": layer, "LabelValue": value, "Color": "1 0 0"}.items():
            image.SetMetaData(f"Segment{i}_{key}", str(text))
    sitk.WriteImage(image, str(path), useCompression=True)


def test_layers_without_overlap_become_one_label_map(tmp_path):
    layers = np.zeros((*SIZE, 2), np.uint8)
    layers[0, ..., 0], layers[1, ..., 0], layers[2, ..., 1] = 1, 2, 1
    write_layers(tmp_path / "a.seg.nrrd", layers, [("a", 0, 1), ("b", 0, 2), ("c", 1, 1)])
    label = read_label(tmp_path / "a.seg.nrrd")
    assert label.array.shape == SIZE
    assert label.array[:, 0, 0].tolist() == [1, 2, 3, 0, 0]
    assert [(s.value, s.name) for s in label.segments] == [(1, "a"), (2, "b"), (3, "c")]
    assert label.geometry.spacing_dhw == pytest.approx(SPACING)


def test_overlapping_layers_are_refused_by_name(tmp_path):
    layers = np.zeros((*SIZE, 2), np.uint8)
    layers[:2, ..., 0], layers[1:, ..., 1] = 1, 1
    write_layers(tmp_path / "a.seg.nrrd", layers, [("tumour", 0, 1), ("oedema", 1, 1)])
    with pytest.raises(InputError, match=r"'tumour' and 'oedema' overlap in 42 voxels"):
        read_label(tmp_path / "a.seg.nrrd")


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_a_two_dimensional_file_is_one_slice(tmp_path, suffix):
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.int16).reshape(3, 4))
    image.SetSpacing((0.5, 0.75))
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    volume = read_image(tmp_path / f"a{suffix}")
    assert volume.array.shape == volume.geometry.size_dhw == (1, 3, 4)
    assert volume.geometry.spacing_dhw[1:] == pytest.approx((0.75, 0.5))
    assert read_label(tmp_path / f"a{suffix}").array[0, 2, 3] == 11


def test_colour_and_time_series_are_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((*SIZE, 3), np.uint8), isVector=True), str(tmp_path / "c.nrrd"))
    with pytest.raises(InputError, match="3 values a voxel"):
        read_image(tmp_path / "c.nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, *SIZE), np.uint8), isVector=False), str(tmp_path / "t.nii"))
    with pytest.raises(InputError, match="4 dimensions"):
        read_image(tmp_path / "t.nii")


def test_nothing_is_overwritten_unless_asked(tmp_path):
    path = write_image(tmp_path / "a.nrrd", np.zeros(SIZE, np.uint8), geometry())
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_image(path, np.ones(SIZE, np.uint8), geometry())
    assert path.read_bytes() == before
    write_image(path, np.ones(SIZE, np.uint8), geometry(), overwrite=True)
    assert read_image(path).array.all()
    assert [file.name for file in tmp_path.iterdir()] == ["a.nrrd"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_image(tmp_path / "a.nrrd", np.zeros(SIZE, np.uint8), geometry())
    before = path.read_bytes()

    def torn(image, name, **_):
        with open(name, "wb") as file:
            file.write(b"half")
        raise RuntimeError("disk full")

    monkeypatch.setattr(sitk, "WriteImage", torn)
    with pytest.raises(InputError, match=r"could not be written whole \(disk full\)"):
        write_image(path, np.ones(SIZE, np.uint8), geometry(), overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_negative_label_is_not_written(tmp_path):
    with pytest.raises(InputError, match="outside 0 to 65535"):
        write_label(tmp_path / "a.nrrd", np.full(SIZE, -1), geometry())


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr", ".png", ".seg"])
def test_only_formats_of_one_file_are_written(tmp_path, suffix):
    with pytest.raises(InputError):
        write_image(tmp_path / f"a{suffix}", np.zeros(SIZE, np.uint8), geometry())
    assert not list(tmp_path.iterdir())


def test_detached_data_in_the_same_folder_is_read(tmp_path):
    array = np.arange(210, dtype=np.int16).reshape(SIZE)
    for suffix in (".mhd", ".nhdr"):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"a{suffix}"))
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").array, array)


def moved(shift_mm: tuple[float, float, float], **changes) -> Geometry:
    origin = np.array(geometry().origin_xyz) + shift_mm
    return Geometry(
        SIZE, changes.get("spacing", SPACING), tuple(origin), changes.get("direction", geometry().direction)
    )


def test_grids_are_compared_by_their_corners():
    assert same_geometry(geometry(), moved((1e-6, 0, 0)))
    assert same_geometry(geometry(), moved((0.0006, 0, 0)))
    assert not same_geometry(geometry(), moved((0.0008, 0, 0)))  # 1e-3 of the 0.7 mm voxel
    tilted = Rotation.from_euler("z", 0.1, degrees=True).as_matrix()
    assert not same_geometry(geometry(), moved((0, 0, 0), direction=tuple(tilted.ravel())))
    assert not same_geometry(geometry(), moved((0, 0, 0), spacing=(2.5, 0.701, 1.1)))


def test_the_difference_of_two_grids_is_told():
    image = Volume(np.zeros(SIZE), geometry())
    with pytest.raises(InputError, match=r"0\.55 mm away .*origin"):
        require_same_geometry(image, Volume(np.zeros(SIZE), moved((0.55, 0, 0))))
    with pytest.raises(InputError, match="5 x 6 x 6 voxels"):
        require_same_geometry(image, Volume(np.zeros((5, 6, 6)), geometry(size=(5, 6, 6))))
