"""What a network predicts for a training case near its label is what it predicts for all of it, in fewer windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.inference.case_predictions import AROUND, label_box, predict_cases, windows_in
from SVLDRLCore.inference.placed_windows import covering, in_rows

PATCH = (8, 16, 16)


class Threshold(nn.Module):
    """Calls foreground what is bright; counts the windows it has seen."""

    windows = 0

    def forward(self, image: Tensor) -> Tensor:
        self.windows += len(image)
        return 20 * (image - 0.5)


def case_of(drawn: np.ndarray, image: np.ndarray | None = None, structures: int = 1) -> TrainingCase:
    masks = torch.zeros(structures, *drawn.shape, dtype=torch.uint8)
    masks[0] = torch.from_numpy(drawn)
    bright = torch.from_numpy(drawn if image is None else image).float()[None]
    return TrainingCase("one", bright, masks, torch.ones(1, *drawn.shape, dtype=torch.uint8), (1.0, 1.0, 1.0))


def box_in(shape: tuple[int, ...], *slices: slice) -> np.ndarray:
    drawn = np.zeros(shape, bool)
    drawn[slices] = True
    return drawn


def predicted(case: TrainingCase, near_labels: bool, on_slices: bool = False) -> tuple[np.ndarray, int]:
    network, config = Threshold(), load_config("slices" if on_slices else "general")
    config = replace(config, data=replace(config.data, patch_size=(1, 16, 16) if on_slices else PATCH))
    found = predict_cases(network, [case], config, True, torch.device("cpu"), lambda: None, near_labels=near_labels)
    return next(found)[1], network.windows


def test_a_label_that_fits_takes_one_window_and_nothing_is_drawn_elsewhere() -> None:
    drawn = box_in((10, 30, 30), slice(2, 6), slice(10, 16), slice(20, 28))
    image = drawn | box_in(drawn.shape, slice(0, 9), slice(0, 3), slice(0, 3))  # bright, and far away
    near, windows = predicted(case_of(drawn, image), True)
    whole, all_windows = predicted(case_of(drawn, image), False)
    assert (windows, all_windows) == (1, 18)
    np.testing.assert_array_equal(near[0] > 0.5, drawn)
    np.testing.assert_array_equal(whole[0] > 0.5, image)
    box = label_box(case_of(drawn), PATCH)
    np.testing.assert_allclose(near[:, *box], whole[:, *box], atol=1e-6)


def test_it_goes_on_as_far_as_the_prediction_reaches() -> None:
    drawn = box_in((8, 40, 40), slice(2, 6), slice(4, 10), slice(4, 10))
    longer = box_in((8, 40, 40), slice(2, 6), slice(4, 10), slice(4, 33))  # the reader stopped early
    near, windows = predicted(case_of(drawn, longer), True)
    np.testing.assert_array_equal(near[0] > 0.5, longer)
    whole, all_windows = predicted(case_of(drawn, longer), False)
    np.testing.assert_array_equal(whole[0] > 0.5, longer)
    assert windows < all_windows


def test_slice_by_slice_it_goes_on_to_other_slices() -> None:
    drawn = box_in((40, 16, 16), slice(10, 14), slice(4, 10), slice(4, 10))
    longer = box_in(drawn.shape, slice(10, 30), slice(4, 10), slice(4, 10))
    near, windows = predicted(case_of(drawn, longer), True, on_slices=True)
    np.testing.assert_array_equal(near[0] > 0.5, longer)
    assert windows == 8 + 32  # the label's slices and two on either side, then all from there to the end
    assert predicted(case_of(drawn), True, on_slices=True)[1] == 8


def test_a_round_label_that_barely_exceeds_the_window_takes_few() -> None:
    window = (24, 40, 48)
    at = np.indices((30, 46, 54)) - np.reshape((14.5, 22.5, 26.5), (3, 1, 1, 1))
    case = case_of(np.asarray(np.linalg.norm(at / np.reshape((12, 20, 24), (3, 1, 1, 1)), axis=0) < 1))
    box = label_box(case, window)
    assert box is not None
    sides = [side.stop - side.start for side in box]
    assert all(side > most for side, most in zip(sides, window))
    assert len(windows_in(box, case, window, 0.25)) <= 6 < len(in_rows(sides, window, 0.25)) == 8


def test_placed_windows_are_blended_like_usual_ones() -> None:
    drawn = box_in((14, 30, 30), slice(4, 10), slice(6, 20), slice(3, 12))
    near, _ = predicted(case_of(drawn), True)
    whole, _ = predicted(case_of(drawn), False)
    seen = near[0] > 0
    assert seen[ndimage.binary_dilation(drawn, iterations=AROUND)].all()
    np.testing.assert_allclose(near[0][seen], whole[0][seen], atol=1e-6)
    np.testing.assert_array_equal(near, predicted(case_of(drawn), True)[0])


def test_windows_in_rows_hold_all() -> None:
    assert in_rows((8, 20, 40), PATCH, 0.25) == [(0, a, b) for a in (0, 4) for b in (0, 12, 24)]
    long_one = box_in((14, 40, 40), slice(0, 14), slice(2, 38), slice(2, 38))
    places = windows_in(tuple(slice(0, n) for n in long_one.shape), case_of(long_one), PATCH, 0.25)
    assert len(places) <= len(in_rows(long_one.shape, PATCH, 0.25))


def test_what_is_needed_lies_deep_in_a_window_or_at_the_end_of_the_volume() -> None:
    need = np.random.default_rng(0).random((20, 40, 30)) < 0.02
    places = covering(need, PATCH, 0.5)
    held = np.zeros(need.shape, bool)
    for place in places:
        core = [
            slice(low + side // 4 if low else 0, low + side - side // 4 if low + side < n else n)
            for low, side, n in zip(place, PATCH, need.shape)
        ]
        held[tuple(core)] = True
    assert held[need].all()
    assert covering(np.zeros_like(need), PATCH, 0.5) == []
    one = box_in(need.shape, slice(9, 10), slice(20, 21), slice(20, 21))
    (place,) = covering(one, PATCH, 0.25, box_in(need.shape, slice(0, 20), slice(20, 40), slice(0, 30)))
    assert place[1] == 18  # as far into the unseen half as it may go


def test_a_network_that_draws_everywhere_takes_about_as_many_windows_as_the_volume_has() -> None:
    drawn = box_in((16, 60, 60), slice(2, 6), slice(10, 16), slice(20, 28))
    near, windows = predicted(case_of(drawn, np.ones_like(drawn)), True)
    _, all_windows = predicted(case_of(drawn), False)
    assert (near > 0.5).all()
    assert windows <= 1.5 * all_windows


def test_where_a_structure_lacks_it_looks_everywhere() -> None:
    drawn = box_in((8, 40, 40), slice(2, 6), slice(4, 10), slice(4, 10))
    assert label_box(case_of(drawn, structures=2), PATCH) is None
    assert label_box(case_of(np.zeros_like(drawn)), PATCH) is None


def test_the_box_is_a_window_or_more_and_lies_in_the_volume() -> None:
    shape = (8, 40, 14)
    for low, high in ((0, 3), (17, 20), (37, 40), (5, 30)):
        drawn = box_in(shape, slice(0, 8), slice(low, high), slice(6, 8))
        box = label_box(case_of(drawn), PATCH)
        assert box is not None
        for side, size, window in zip(box, shape, PATCH):
            assert 0 <= side.start < side.stop <= size
            assert side.stop - side.start >= min(size, window)
        assert box[1].start <= max(0, low - AROUND)
        assert box[1].stop >= min(40, high + AROUND)


def test_nothing_is_drawn_where_a_thin_case_was_padded() -> None:
    """No loss reaches the padding, so that a network draws anything there; a label would be blamed for it."""
    image = np.full((1, 4, 16, 16), 0.9, np.float32)
    ignored = np.zeros(image.shape[1:], bool)
    ignored[0] = True
    case = in_memory("thin", image, np.ones((1, 4, 16, 16), np.uint8), (1.0, 1.0, 1.0), PATCH, ignored=ignored)
    case = replace(case, image=torch.full_like(case.image, 0.9))
    maps, _ = predicted(case, False)
    assert maps.shape == (1, 8, 16, 16)
    assert case.padding is not None
    np.testing.assert_array_equal(maps[0] > 0.5, ~case.padding)
    np.testing.assert_array_equal(~case.padding, box_in((8, 16, 16), slice(2, 6)))
    assert case_of(np.ones((8, 16, 16))).padding is None
