"""Phantoms repeat with their seed and are no task for a threshold; their data sets are what they say."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from SVLDRLCore.data.phantoms import make_phantom, write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.volumes import read_image, read_label


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_same_seed_same_phantom_other_seed_other_phantom():
    image, label = make_phantom(5)
    again_image, again_label = make_phantom(5)
    np.testing.assert_array_equal(image, again_image)
    np.testing.assert_array_equal(label, again_label)
    other_image, other_label = make_phantom(6)
    assert not np.array_equal(image, other_image)
    assert not np.array_equal(label, other_label)


@pytest.mark.parametrize("seed", range(6))
def test_the_organ_is_one_piece_of_a_plausible_size(seed):
    image, label = make_phantom(seed)
    assert image.shape == (1, 24, 48, 48)
    assert label.shape == (24, 48, 48)
    assert (image.dtype, label.dtype) == (np.float32, np.uint8)
    assert image.min() >= 0
    assert image.max() <= 1
    assert 0.03 < (label == 1).mean() < 0.2
    pieces, n = ndimage.label(label)
    assert np.bincount(pieces.ravel())[1:].max() > 0.95 * (label > 0).sum() if n > 1 else n == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_threshold_does_not_solve_it_but_the_organ_is_bright(seed):
    image, label = make_phantom(seed)
    smooth, organ = ndimage.gaussian_filter(image[0], 0.8), label > 0
    assert smooth[organ].mean() > smooth[~organ].mean() + 0.15
    assert max(dice(smooth > t, organ) for t in np.linspace(0.4, 0.8, 21)) < 0.92


def test_something_as_bright_as_the_organ_lies_close_to_it():
    for seed in range(6):
        image, label = make_phantom(seed)
        organ = label > 0
        outside = ndimage.gaussian_filter(image[0], 1.0) * ~ndimage.binary_dilation(organ, iterations=1)
        shell = ndimage.binary_dilation(organ, iterations=5)
        assert (outside[shell] > 0.85 * image[0][organ].mean()).sum() > 50


def test_parts_lie_side_by_side():
    _, label = make_phantom(2, structures=3)
    counts = np.bincount(label.ravel(), minlength=4)[1:]
    assert len(counts) == 3
    assert counts.max() - counts.min() < 0.02 * counts.sum() + 3
    assert (ndimage.binary_dilation(label == 1) & (label == 2)).any()
    np.testing.assert_array_equal(label > 0, make_phantom(2)[1] > 0)


def test_nested_parts_are_wrapped_by_the_one_outside():
    _, label = make_phantom(2, nested=True)
    inner, outer = label == 2, label > 0
    assert inner.any()
    around = ndimage.binary_dilation(inner) & ~inner
    assert outer[around].mean() > 0.97
    rim = outer & ~ndimage.binary_erosion(outer, border_value=1)
    assert (label[rim] == 1).mean() > 0.9


def test_channels_differ_in_contrast_not_in_shape():
    image, label = make_phantom(1, channels=4)
    assert image.shape[0] == 4
    organ = label > 0
    contrast = [channel[organ].mean() - channel[~organ].mean() for channel in image]
    assert contrast[0] > 0.15
    assert contrast[1] < 0
    assert len({round(c, 2) for c in contrast}) == 4


@pytest.mark.parametrize(
    ("size", "spacing"), [((4, 12, 12), (2, 2, 2)), ((1, 32, 32), (5, 1, 1)), ((10, 24, 40), (4, 1.5, 1.0))]
)
def test_other_sizes(size, spacing):
    for seed in range(4):
        image, label = make_phantom(seed, size, spacing, structures=2)
        assert image.shape == (1, *size)
        assert set(np.unique(label)) == {0, 1, 2}


def arrays(path, part: str) -> list[np.ndarray]:
    return [read_label(case.label).array for case in getattr(load_datalist(path), part)]


def test_noisy_data_set(tmp_path):
    path = write_phantom_dataset(
        tmp_path / "d", 6, 4, seed=1, noise="mt", ratio=0.5, structures=2, size_dhw=(12, 24, 24)
    )
    noisy, clean = load_datalist(path), load_datalist(path.parent / "datalist_clean.json")
    assert (len(noisy.training), len(noisy.validation), noisy.labels) == (6, 4, {1: "part 1", 2: "part 2"})
    assert [case.images for case in noisy.cases] == [case.images for case in clean.cases]
    assert {case.label.parent.name for case in noisy.cases} == {"labels"}
    assert {case.label.parent.name for case in clean.cases} == {"clean"}
    for part, n_noisy in (("training", 3), ("validation", 2)):
        pairs = list(zip(arrays(path, part), arrays(clean.path, part)))
        assert sum(not np.array_equal(a, b) for a, b in pairs) == n_noisy
        assert all(dice(a > 0, b > 0) < 0.97 for a, b in pairs if not np.array_equal(a, b))
    segments = read_label(noisy.training[0].label).segments
    assert [segment.name for segment in segments] == ["part 1", "part 2"]
    assert len({segment.color for segment in segments}) == 2


def test_files_hold_the_phantoms(tmp_path):
    path = write_phantom_dataset(tmp_path / "d", 2, 0, seed=3, channels=2, size_dhw=(6, 12, 12))
    assert not (tmp_path / "d" / "datalist_clean.json").exists()
    case = load_datalist(path).training[1]
    volumes = [read_image(file) for file in case.images]
    assert volumes[0].geometry.spacing_dhw == (2.0, 2.0, 2.0)
    image, label = make_phantom(3 * 100_003 + 1, (6, 12, 12), channels=2)
    np.testing.assert_allclose(np.stack([v.array for v in volumes]) / 255, image, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(read_label(case.label).array, label)


def test_same_seed_same_files(tmp_path):
    kwargs = {"training": 3, "validation": 1, "noise": "mt", "size_dhw": (6, 12, 12)}
    a, b = (write_phantom_dataset(tmp_path / n, seed=7, **kwargs).parent for n in "ab")
    files = sorted(f.relative_to(a) for f in a.rglob("*.nrrd"))
    assert len(files) == 12
    assert all((a / f).read_bytes() == (b / f).read_bytes() for f in files)
    c = write_phantom_dataset(tmp_path / "c", seed=8, **kwargs).parent
    assert any((a / f).read_bytes() != (c / f).read_bytes() for f in files)


def test_a_data_set_is_not_overwritten(tmp_path):
    write_phantom_dataset(tmp_path / "d", 1, 0, size_dhw=(6, 12, 12))
    with pytest.raises(InputError, match="data set already"):
        write_phantom_dataset(tmp_path / "d", 1, 0, size_dhw=(6, 12, 12))
    with pytest.raises(InputError, match="'salt'"):
        write_phantom_dataset(tmp_path / "e", 1, 0, noise="salt")


def test_the_data_room_needs_no_torch():
    program = (
        "import sys; from SVLDRLCore.files import volumes, integrity, datalist, case_checks; "
        "from SVLDRLCore.data import resampling, phantoms, noise; from SVLDRLCore.jobs import check; "
    )
    subprocess.run([sys.executable, "-c", program + "assert 'torch' not in sys.modules"], check=True, timeout=60)
