"""Images degraded at random stay on their grid and in [0, 1], change, and are the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from SVLDRLCore.data.random_degradation import KINDS, degraded_at_random

SPACING = (3.0, 1.0, 1.0)


def an_image() -> np.ndarray:
    return np.random.default_rng(0).random((2, 7, 12, 10)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_it_stays_on_the_grid_and_in_range(kind: str) -> None:
    image = an_image()
    made = degraded_at_random(image, SPACING, kind, np.random.default_rng(1))
    assert made.shape == image.shape
    assert made.dtype == np.float32
    assert made.min() >= 0
    assert made.max() <= 1
    assert np.array_equal(made, image) == (kind == "none")


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_makes_the_same_image(kind: str) -> None:
    made = [degraded_at_random(an_image(), SPACING, kind, np.random.default_rng(2)) for _ in range(2)]
    assert np.array_equal(*made)


def test_slices_are_thick_along_the_slices() -> None:
    steps = np.zeros((1, 12, 8, 8), np.float32)
    steps[:, 6:] = 1
    made = degraded_at_random(steps, SPACING, "slices", np.random.default_rng(3))
    assert np.allclose(made, made[:, :, :1, :1])
