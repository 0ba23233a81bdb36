"""The way to the network's grid and back keeps every voxel in its place in the patient."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.data.resampling import (
    Intensity,
    PreparedImage,
    prepare_image,
    prepare_label,
    to_native,
)
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.volumes import (
    Geometry,
    Volume,
    read_image,
    read_label,
    write_image,
    write_label,
)

UNIT = Intensity("unit", 0, 1)
SIZE, SPACING = (13, 16, 19), (2.5, 0.9, 1.2)
ROTATED = Rotation.from_euler("xyz", (20, -15, 30), degrees=True).as_matrix()
SIGNED_PERMUTATIONS = [
    np.eye(3)[list(p)] * signs
    for p in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
DIRECTIONS = {
    "identity": np.eye(3),
    "oblique": ROTATED,
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
    "oblique, permuted, left-handed": ROTATED @ np.eye(3)[[1, 0, 2]] @ np.diag([1.0, -1.0, 1.0]),
}


def geometry(direction: np.ndarray, size=SIZE, spacing=SPACING) -> Geometry:
    return Geometry(tuple(size), tuple(spacing), (-40.0, 25.5, 310.0), tuple(np.asarray(direction, float).ravel()))


def coordinate_images(grid: Geometry) -> list[Volume]:
    """Three images whose grey values are the world coordinates of the voxels, scaled into [0, 1]."""
    index = np.moveaxis(np.indices(grid.size_dhw), 0, -1)
    world = (grid.world(index) + 1000) / 2000
    return [Volume(world[..., axis].astype(np.float32), grid) for axis in range(3)]


def told_positions(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 0, -1) * 2000 - 1000


def interior(array: np.ndarray, margin: int = 2) -> np.ndarray:
    return array[(slice(margin, -margin),) * 3]


@pytest.mark.parametrize("asked", [None, (1.0, 1.0, 1.0), (2.0, 3.0, 2.2), (0.6, 0.6, 0.6)])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_each_prepared_voxel_shows_its_own_place(name, asked):
    prepared = prepare_image(coordinate_images(geometry(DIRECTIONS[name])), asked, UNIT)
    index = np.moveaxis(np.indices(prepared.geometry.size_dhw), 0, -1)
    error_mm = np.linalg.norm(told_positions(prepared.array) - prepared.geometry.world(index), axis=-1)
    # Smoothing bends the ramp near the border, where the edge is repeated; float32 itself holds 1e-4 mm here.
    margin = 1 if asked is None else max(2, int(2 * max(SPACING) / min(asked)))
    assert interior(error_mm, margin).size > 0
    assert interior(error_mm, margin).max() < 1e-3 * min(SPACING)
    assert np.array(prepared.geometry.direction).reshape(3, 3).diagonal().min() > 0.7


@pytest.mark.parametrize("asked", [None, (1.0, 1.0, 1.0), (2.0, 2.0, 3.0)])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_each_native_voxel_gets_its_own_place_back(name, asked):
    native = geometry(DIRECTIONS[name])
    prepared = prepare_image(coordinate_images(native)[:1], asked, UNIT)
    index = np.moveaxis(np.indices(prepared.geometry.size_dhw), 0, -1)
    maps = np.moveaxis(prepared.geometry.world(index), -1, 0).astype(np.float32)
    back = np.moveaxis(to_native(maps, prepared), 0, -1)
    error_mm = np.linalg.norm(back - native.world(np.moveaxis(np.indices(SIZE), 0, -1)), axis=-1)
    margin = 0 if asked is None else 3
    assert back.shape == (*SIZE, 3)
    assert error_mm[(slice(margin, -margin or None),) * 3].max() < 1e-3 * min(SPACING)


@pytest.mark.parametrize("direction", SIGNED_PERMUTATIONS)
def test_without_resampling_the_way_back_is_exact(direction):
    native = geometry(direction)
    array = np.random.default_rng(0).random(SIZE).astype(np.float32)
    label = np.random.default_rng(1).integers(0, 5, SIZE).astype(np.uint8)
    prepared = prepare_image([Volume(array, native)], None, UNIT)
    assert prepared.array.shape == (1, *prepared.geometry.size_dhw)
    np.testing.assert_allclose(np.array(prepared.geometry.direction).reshape(3, 3), np.eye(3))
    np.testing.assert_array_equal(to_native(prepared.array, prepared)[0], array)
    prepared_label = prepare_label(Volume(label, native), prepared)
    assert prepared_label.dtype == np.uint8
    np.testing.assert_array_equal(to_native(prepared_label[None], prepared)[0], label)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_landmark_stays_in_place_through_files(tmp_path, name, suffix):
    """A voxel marked in the prepared grid is written on the native grid, and found where it should be."""
    native = geometry(DIRECTIONS[name])
    image = read_image(write_image(tmp_path / f"i{suffix}", np.random.default_rng(0).random(SIZE), native))
    for asked in (None, (1.8, 1.8, 5.0)):
        prepared = prepare_image([image], asked, Intensity())
        middle = [(n - 1) / 2 for n in prepared.geometry.size_dhw]
        blob = [m + shift for m, shift in zip(middle, (0.5, -1.0, 1.5))]
        distance = np.linalg.norm(np.indices(prepared.geometry.size_dhw) - np.reshape(blob, (3, 1, 1, 1)), axis=0)
        back = to_native(np.exp(-(distance**2))[None], prepared)[0]
        path = write_image(tmp_path / f"b{suffix}", back, image.geometry, overwrite=True)
        found = sitk.ReadImage(str(path))
        centre = ndimage.center_of_mass(sitk.GetArrayFromImage(found))
        place = found.TransformContinuousIndexToPhysicalPoint(centre[::-1])
        error_mm = np.linalg.norm(prepared.geometry.world(blob) - place)
        # Nothing resampled: exact. Else an interpolated blob keeps its centre to a few hundredths of a voxel.
        assert error_mm < (1e-3 * min(SPACING) if asked is None else 0.05 * min(asked))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.floats(0.3, 6)] * 3),
    st.tuples(*[st.floats(0.5, 4)] * 3),
    st.integers(0, 47),
    st.tuples(*[st.floats(-20, 20)] * 3),
)
def test_any_grid_there_and_back(size, spacing, asked, permutation, angles):
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ SIGNED_PERMUTATIONS[permutation]
    native = geometry(direction, size, spacing)
    prepared = prepare_image([Volume(np.full(size, 0.25, np.float32), native)], asked, UNIT)
    np.testing.assert_allclose(prepared.array, 0.25, atol=1e-6)
    label = prepare_label(Volume(np.ones(size, np.uint8), native), prepared)
    assert label.shape == prepared.array.shape[1:] == prepared.geometry.size_dhw
    assert label.all()
    back = to_native(prepared.array, prepared)
    assert back.shape == (1, *size)
    np.testing.assert_allclose(back, 0.25, atol=1e-6)
    centre, native_centre = (g.world([(n - 1) / 2 for n in g.size_dhw]) for g in (prepared.geometry, prepared.native))
    np.testing.assert_allclose(centre, native_centre, atol=1e-6)
    for n, got, wanted in zip(prepared.geometry.size_dhw, prepared.geometry.spacing_xyz[::-1], asked[::-1]):
        assert got == pytest.approx(wanted, rel=1e-3) or n == 1 or got in spacing


def test_a_spacing_within_a_thousandth_is_kept():
    native = geometry(np.eye(3))
    volume = Volume(np.random.default_rng(0).random(SIZE).astype(np.float32), native)
    kept = prepare_image([volume], (1.2005, 0.9, 2.5), UNIT)
    assert kept.geometry == native
    np.testing.assert_array_equal(kept.array[0], volume.array)
    assert prepare_image([volume], (1.23, 0.9, 2.5), UNIT).geometry.spacing_xyz == (1.23, 0.9, 2.5)


@pytest.mark.parametrize("size", [(1, 14, 12), (14, 12, 1), (1, 1, 1)])
def test_single_slices(size):
    native = geometry(np.eye(3), size, (8.0, 1.0, 1.0))
    array = np.random.default_rng(0).random(size).astype(np.float32)
    prepared = prepare_image([Volume(array, native)], (2.0, 2.0, 2.0), Intensity())
    assert [n for n, m in zip(prepared.geometry.size_dhw, size) if m == 1] == [1] * size.count(1)
    assert to_native(prepared.array, prepared).shape == (1, *size)
    if size[0] == 1:
        assert prepared.geometry.spacing_dhw[0] == 8.0


def test_shrinking_does_not_alias():
    """Stripes finer than the new spacing become their mean; taking every third voxel would keep them."""
    array = np.zeros((6, 6, 90), np.float32)
    array[..., ::2] = 1
    prepared = prepare_image([Volume(array, geometry(np.eye(3), array.shape, (1, 1, 1)))], (3.0, 1.0, 1.0), UNIT)
    assert np.abs(prepared.array[0][..., 2:-2] - 0.5).max() < 0.02
    assert prepared.array.shape == (1, 6, 6, 30)


def test_interpolation_is_simpleitks():
    native = geometry(ROTATED)
    array = ndimage.gaussian_filter(np.random.default_rng(0).random(SIZE), 1).astype(np.float32)
    prepared = prepare_image([Volume(array, native)], (0.8, 0.7, 1.1), UNIT)  # finer: no smoothing in between
    image, grid = (
        sitk.GetImageFromArray(array),
        sitk.Image(*prepared.geometry.size_dhw[::-1], sitk.sitkFloat32),
    )
    for target, source in ((image, native), (grid, prepared.geometry)):
        target.SetSpacing(source.spacing_xyz)
        target.SetOrigin(source.origin_xyz)
        target.SetDirection(source.direction)
    expected = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, -1.0))
    inside = expected >= 0
    assert inside.mean() > 0.8
    np.testing.assert_allclose(prepared.array[0][inside], expected[inside], atol=1e-4)


def phantom_volumes(**kwargs) -> tuple[Volume, Volume]:
    image, label = make_phantom(3, (24, 48, 48), (2, 2, 2), **kwargs)
    grid = Geometry(label.shape, (2.0, 2.0, 2.0))
    return Volume(image[0], grid), Volume(label, grid)


@pytest.mark.parametrize(("asked", "least"), [((1.0, 1.0, 1.0), 0.97), ((1.5, 1.7, 2.2), 0.95), ((3.0, 3.0, 3.0), 0.9)])
def test_a_label_there_and_back_is_nearly_itself(asked, least):
    image, label = phantom_volumes(structures=2)
    prepared = prepare_image([image], asked, UNIT)
    there = prepare_label(label, prepared)
    one_hot = (there[None] == np.arange(3).reshape(3, 1, 1, 1)).astype(np.float32)
    back = to_native(one_hot, prepared).argmax(0)
    for value in (1, 2):
        a, b = label.array == value, back == value
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > least
    volume_ratio = (there > 0).sum() * np.prod(asked) / ((label.array > 0).sum() * 8)
    assert 0.93 < volume_ratio < 1.07


def test_shrinking_keeps_a_ball_s_volume():
    ball = np.linalg.norm(np.indices((32, 32, 32)) - 15.5, axis=0) < 11
    label = Volume(ball.astype(np.uint8), Geometry(ball.shape))
    prepared = prepare_image([label], (1.5, 1.5, 1.5), UNIT)
    # Without smoothing 5 % would be lost: voxels that are half inside fall on the cut.
    assert prepare_label(label, prepared).sum() * 1.5**3 == pytest.approx(ball.sum(), rel=0.03)


def test_one_structure_is_cut_at_one_half():
    array = np.zeros((1, 1, 4), np.uint8)
    array[..., 1:3] = 4
    grid = Geometry((1, 1, 4))
    prepared = prepare_image([Volume(array.astype(np.float32) / 4, grid)], (0.1, 1.0, 1.0), UNIT)
    there = prepare_label(Volume(array, grid), prepared)
    share = np.interp((np.arange(40) - 19.5) / 10 + 1.5, np.arange(4), [0, 1, 1, 0])
    assert np.abs(share - 0.5).min() == pytest.approx(0.05)  # close to the cut, on both sides
    np.testing.assert_array_equal(there[0, 0], np.where(share > 0.5, 4, 0))


def test_no_crack_opens_between_three_neighbours():
    array = np.zeros((1, 8, 8), np.uint8)
    array[0, :4, :4], array[0, :4, 4:], array[0, 4:] = 1, 2, 3
    grid = Geometry((1, 8, 8))
    prepared = prepare_image([Volume(array / 3, grid)], (0.4, 0.4, 1.0), UNIT)
    assert (prepare_label(Volume(array, grid), prepared) > 0).all()


def test_a_label_on_another_grid_is_refused():
    image, label = phantom_volumes()
    prepared = prepare_image([image], None, UNIT)
    moved = Volume(label.array, Geometry(label.array.shape, (2.0, 2.0, 2.0), (0, 1.0, 0)))
    with pytest.raises(InputError, match="1 mm away"):
        prepare_label(moved, prepared)
    with pytest.raises(InputError, match="value 300"):
        prepare_label(Volume(label.array.astype(np.uint16) * 300, label.geometry), prepared)


def test_channels_on_different_grids_are_refused():
    image, _ = phantom_volumes()
    other = Volume(image.array, Geometry(image.array.shape, (2.0, 2.0, 2.1)))
    with pytest.raises(InputError, match="spacing"):
        prepare_image([image, other], None, UNIT)
    with pytest.raises(InputError, match="no image"):
        prepare_image([], None, UNIT)


def in_range(values: list[float], intensity: Intensity) -> list[float]:
    array = np.array(values, np.float32).reshape(1, 1, -1)
    return prepare_image([Volume(array, Geometry(array.shape))], None, intensity).array.ravel().tolist()


def test_intensities():
    assert in_range([-1000, -125, 75, 275, 3000], Intensity("window", -125, 275)) == [0, 0, 0.5, 1, 1]
    assert in_range([0, 0.25, 1], UNIT) == [0, 0.25, 1]
    assert in_range([0, 51, 255], UNIT) == pytest.approx([0, 0.2, 1])
    assert in_range([7, 7, 7], Intensity()) == [0, 0, 0]
    assert in_range(list(range(101)), Intensity("percentile", 10, 60))[::10] == pytest.approx(
        [0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]
    )
    for odd in ([-1, 0, 1], [0, 256]):
        with pytest.raises(InputError, match="percentile"):
            in_range(odd, UNIT)


PADDINGS = {
    "slab": lambda d, h, w: w < 10,
    "circle": lambda d, h, w: np.hypot(h - 20, w - 20) > 19,
    "slices": lambda d, h, w: d < 1,
    "corner": lambda d, h, w: h + w < 12,
}


@pytest.mark.parametrize("value", [-3024, -2000, -32768, 32767])
@pytest.mark.parametrize("kind", PADDINGS)
def test_percentiles_are_those_of_the_body_and_not_of_the_padding(kind, value):
    rng = np.random.default_rng(0)
    body = rng.normal(40, 60, (20, 40, 40)).astype(np.float32)
    body[:, :12] = rng.normal(-1000, 8, (20, 12, 40))  # air
    outside = PADDINGS[kind](*np.indices(body.shape))
    padded = np.where(outside, np.float32(value), body)
    grid = Geometry(body.shape)
    array = prepare_image([Volume(padded, grid)], None, Intensity()).array[0]
    low, high = np.percentile(body[~outside], (1, 99.5))
    expected = np.clip((padded - low) / (high - low), 0, 1)
    np.testing.assert_allclose(array, expected, atol=1e-5)


@pytest.mark.parametrize("kind", PADDINGS)
def test_the_usual_backgrounds_are_no_padding(kind):
    """0 in MR, air in CT, the least value of a standardised image: nothing changes, to the bit."""
    rng = np.random.default_rng(1)
    tissue = rng.gamma(9, 40, (20, 40, 40)).astype(np.float32)
    outside = PADDINGS[kind](*np.indices(tissue.shape))
    mr = np.where(outside, 0, tissue)
    strong = np.where(outside, 0, 4000 + tissue)
    standardised = (mr - mr[~outside].mean()) / mr[~outside].std()
    ct = np.where(outside, -1024, rng.choice([-1000, 0, 60, 300], tissue.shape) + rng.normal(0, 9, tissue.shape))
    two_values = np.where(outside, -1.0, 1.0)
    for array in (a.astype(np.float32) for a in (mr, strong, standardised, ct, two_values)):
        low, high = (float(p) for p in np.percentile(array, (1, 99.5)))
        expected = np.clip((array - np.float32(low)) / np.float32(high - low), 0, 1)
        found = prepare_image([Volume(array, Geometry(array.shape))], None, Intensity()).array[0]
        np.testing.assert_array_equal(found, expected)


def test_each_channel_has_its_own_percentiles():
    a, b = (
        np.linspace(0, 1, 64, dtype=np.float32).reshape(4, 4, 4),
        np.linspace(50, 9000, 64).reshape(4, 4, 4),
    )
    grid = Geometry((4, 4, 4))
    array = prepare_image([Volume(a, grid), Volume(b, grid)], None, Intensity("percentile", 0, 100)).array
    np.testing.assert_allclose(array[0], array[1], atol=1e-6)
    assert array.dtype == np.float32


@pytest.mark.parametrize("arguments", [("otsu", 0, 1), ("window", 5, 5), ("percentile", -1, 99), ("window", 0, np.inf)])
def test_bad_intensities_are_refused(arguments):
    with pytest.raises(InputError):
        Intensity(*arguments)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (np.nan, 1.0, 1.0)])
def test_bad_spacings_are_refused(spacing):
    image, _ = phantom_volumes()
    with pytest.raises(InputError, match="spacing"):
        prepare_image([image], spacing, UNIT)


def test_inputs_are_left_alone(tmp_path):
    image, label = phantom_volumes()
    before = image.array.copy(), label.array.copy()
    prepared = prepare_image([image], None, UNIT)
    assert isinstance(prepared, PreparedImage)
    prepared.array[:] = 0
    prepare_label(label, prepared)[:] = 0
    np.testing.assert_array_equal(image.array, before[0])
    np.testing.assert_array_equal(label.array, before[1])
    path = write_label(tmp_path / "l.seg.nrrd", label.array, label.geometry)
    assert prepare_label(read_label(path), prepared).any()
