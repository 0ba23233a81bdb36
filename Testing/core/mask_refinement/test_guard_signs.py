"""The signs tell a change towards the image's edge from one away from it; the likeness sees the image, not the mask."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from SVLDRLCore.data.poorer_images import poorer_image
from SVLDRLCore.mask_refinement.guard_signs import LIKENESS, SIGNS, ChangeSigns, signs_of
from SVLDRLCore.masks.alignment import Calibration

SPACING = (1.0, 1.0, 1.0)
USUAL = Calibration(edge_sd_mm=0.5)


def ball(radius: float) -> np.ndarray:
    d, h, w = np.indices((32, 32, 32)) - 15.5
    return d**2 + h**2 + w**2 < radius**2


def image(inverted: bool = False) -> np.ndarray:
    bright = 0.2 + 0.6 * ndimage.gaussian_filter(ball(8).astype(np.float32), 0.7)
    bright += 0.03 * np.random.default_rng(0).standard_normal(bright.shape).astype(np.float32)
    return ((1 - bright) if inverted else bright)[None].astype(np.float32)


def seen(mask: np.ndarray, changed: np.ndarray, grey: np.ndarray) -> ChangeSigns:
    found = signs_of(mask, changed, changed.astype(np.float32), grey, SPACING, USUAL)
    assert found.signs.shape == (len(SIGNS),)
    assert found.likeness.shape == (len(LIKENESS),)
    assert np.isfinite(found.signs).all()
    assert np.isfinite(found.likeness).all()
    return found


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("wrong_radius", [6, 10])
def test_a_change_onto_the_edge_is_told_from_one_off_it(inverted: bool, wrong_radius: float) -> None:
    right, wrong, grey = ball(8), ball(wrong_radius), image(inverted)
    before, after = SIGNS.index("edge off the mask"), SIGNS.index("edge off the change")
    onto, off = seen(wrong, right, grey).signs, seen(right, wrong, grey).signs
    assert onto[before] - onto[after] > 0.5
    assert off[before] - off[after] < -0.5


def test_another_contrast_shows_in_the_likeness() -> None:
    of = [seen(ball(8.6), ball(8), image(inverted)).likeness for inverted in (False, True)]
    contrast = LIKENESS.index("contrast")
    assert of[0][contrast] > 0.3
    assert of[1][contrast] < -0.3


def test_thick_slices_show_along_their_axis() -> None:
    grey = image()
    thick = poorer_image(grey[0], SPACING, "slices_5mm", np.random.default_rng(0))[0][None]
    one, other = (seen(ball(8), ball(7), each).likeness for each in (grey, thick))
    fell = one - other
    grain = [LIKENESS.index(f"grain {axis}") for axis in "dhw"]
    assert fell[grain].max() == fell[grain[0]]
    assert fell[grain[0]] > 0.5


def test_a_wrong_mask_hardly_changes_the_likeness() -> None:
    right, grey = ball(8), image()
    usual = seen(right, ball(7.9), grey).likeness
    for wrong in (ball(6), ball(9)):
        np.testing.assert_allclose(seen(wrong, right, grey).likeness, usual, atol=0.2)


def test_a_model_that_draws_nothing_has_signs() -> None:
    found = signs_of(ball(8), ball(6), np.zeros((32, 32, 32), np.float32), image(), SPACING, USUAL)
    assert np.isfinite(found.signs).all()
    assert np.isfinite(found.likeness).all()
