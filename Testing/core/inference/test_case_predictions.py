"""What a network predicts for a training case near its label is what it predicts for all of it, in fewer windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.inference.case_predictions import AROUND, label_box, predict_cases

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
