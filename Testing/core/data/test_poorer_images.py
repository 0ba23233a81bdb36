"""Images made poorer: by as much as is said, on their own grid."""

from __future__ import annotations

import numpy as np
import pytest

from SVLDRLCore.data.poorer_images import DEGRADATIONS, NOISE_SHARE, poorer_image, possible_degradations
from SVLDRLCore.masks.borders import FAR_APART_MM

SPACING = (1.0, 0.5, 0.5)


def poorer(image: np.ndarray, kind: str, spacing=SPACING, seed: int = 0) -> np.ndarray:
    return poorer_image(image, spacing, kind, np.random.default_rng(seed))[0]


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_grid_and_range_stay_and_seeds_repeat(kind: str) -> None:
    image = np.random.default_rng(1).uniform(-100, 300, (20, 24, 24)).astype(np.float32)
    made = poorer(image, kind)
    assert made.shape == image.shape
    assert made.dtype == np.float32
    assert made.min() >= image.min()
    assert made.max() <= image.max()
    assert (made == poorer(image, kind)).all()
    assert (made != image).any()


def test_thick_slices_by_hand() -> None:
    """Ten slices of 1 mm as two of 5 mm, whose middles are the slices 2 and 7."""
    image = np.arange(10.0)[:, None, None] ** 2 * np.ones((1, 3, 3))
    made = poorer(image, "slices_5mm")[:, 0, 0]
    low, high = np.mean(np.arange(5.0) ** 2), np.mean(np.arange(5.0, 10) ** 2)
    np.testing.assert_allclose(made, np.interp(np.arange(10), [2, 7], [low, high]), rtol=1e-5)


def test_thick_slices_of_parts_of_voxels() -> None:
    """Slabs of 5 mm on slices of 2 mm: the third slice counts half in the first and half in the second."""
    image = np.arange(5.0)[:, None, None] * np.ones((1, 3, 3))
    made = poorer(image, "slices_5mm", (2.0, 1.0, 1.0))[:, 0, 0]
    low, high = (0 + 1 + 0.5 * 2) / 2.5, (0.5 * 2 + 3 + 4) / 2.5
    np.testing.assert_allclose(made, np.interp(np.arange(5), [0.75, 3.25], [low, high]), rtol=1e-5)


def test_a_blurred_edge_is_a_normal_distribution() -> None:
    from scipy.stats import norm

    image = np.zeros((9, 9, 60))
    image[:, :, 30:] = 1
    made = poorer(image, "blur_2mm")[4, 4]
    np.testing.assert_allclose(made, norm.cdf((np.arange(60) - 29.5) * 0.5, scale=2.0), atol=0.01)


def test_noise_has_its_share_of_the_range() -> None:
    image = np.tile(np.linspace(0, 1000, 40), (20, 20, 1))
    low, high = np.percentile(image, [1, 99])
    middle = slice(10, 30)  # where nothing is cut
    made = poorer(image, "noise")
    assert (made - image)[..., middle].std() == pytest.approx(NOISE_SHARE * (high - low), rel=0.05)


def test_slices_of_their_own_are_not_mixed() -> None:
    image = np.zeros((3, 20, 20))
    image[1] = 1
    assert (poorer(image, "blur_3mm", (FAR_APART_MM, 1.0, 1.0)) == image).all()


def test_what_changes_nothing_is_not_possible() -> None:
    assert possible_degradations((20, 9, 9), (5.0, 1.0, 1.0)) == ("slices_8mm", "blur_2mm", "blur_3mm", "noise")
    assert possible_degradations((1, 9, 9), (1.0, 1.0, 1.0)) == ("blur_2mm", "blur_3mm", "noise")
    assert possible_degradations((20, 9, 9), (1.0, 1.0, 1.0)) == DEGRADATIONS
