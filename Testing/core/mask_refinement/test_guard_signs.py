"""The signs tell a change towards the image's edge from one away from it, whatever the image's contrast."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from SVLDRLCore.mask_refinement.guard_signs import LIKENESS, SIGNS, signs_of
from SVLDRLCore.masks.alignment import Calibration

SPACING = (1.0, 1.0, 1.0)


def ball(radius: float) -> np.ndarray:
    d, h, w = np.indices((28, 28, 28)) - 13.5
    return d**2 + h**2 + w**2 < radius**2


def image(inverted: bool) -> np.ndarray:
    bright = 0.2 + 0.6 * ndimage.gaussian_filter(ball(8).astype(np.float32), 0.7)
    return ((1 - bright) if inverted else bright)[None].astype(np.float32)


def edge_of_change(mask: np.ndarray, changed: np.ndarray, inverted: bool) -> float:
    signs, likeness = signs_of(mask, changed, changed.astype(np.float32), image(inverted), SPACING, Calibration())
    assert signs.shape == (len(SIGNS),)
    assert likeness.shape == (len(LIKENESS),)
    assert np.isfinite(signs).all()
    assert np.isfinite(likeness).all()
    return float(signs[SIGNS.index("edge of the change")])


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("wrong_radius", [5, 11])
def test_a_change_onto_the_edge_is_told_from_one_off_it(inverted: bool, wrong_radius: float) -> None:
    right, wrong = ball(8), ball(wrong_radius)
    assert edge_of_change(wrong, right, inverted) > 0.5
    assert edge_of_change(right, wrong, inverted) < -0.5


def test_another_contrast_shows_in_the_likeness() -> None:
    right, near = ball(8), ball(8.6)
    of = [
        signs_of(near, right, right.astype(np.float32), image(inverted), SPACING, Calibration())[1]
        for inverted in (False, True)
    ]
    contrast = LIKENESS.index("contrast")
    assert of[0][contrast] > 0.3
    assert of[1][contrast] < -0.3


def test_a_model_that_draws_nothing_has_signs() -> None:
    nothing = np.zeros((28, 28, 28), np.float32)
    signs, likeness = signs_of(ball(8), ball(6), nothing, image(False), SPACING, Calibration())
    assert np.isfinite(signs).all()
    assert np.isfinite(likeness).all()
