"""What a network predicts for training cases, one at a time: all of a case, or what its label calls for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from SVLDRLCore.config.settings import Config
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.inference.placed_windows import Place, as_far_as_it_reaches, covering, in_rows
from SVLDRLCore.inference.sliding_window import Tell, predict_probabilities
from SVLDRLCore.masks.boxes import extent_of
from SVLDRLCore.masks.known_voxels import where_known

WINDOWS_AT_A_TIME = {"cpu": 2}
"""On a CPU more than two at a time leave its cache, and take a sixth longer; the results are the same."""
MANY_WINDOWS = 8
AROUND = 2
"""Voxels to see around a label, so that a prediction that ends with it is seen to end."""
Box = tuple[slice, ...]


def predict_cases(
    network: nn.Module,
    cases: Iterable[TrainingCase],
    config: Config,
    nested: bool,
    device: torch.device,
    between: Callable[[], None],
    tell: Tell | None = None,
    overlap: float = 0.25,
    near_labels: bool = False,
) -> Iterator[tuple[TrainingCase, np.ndarray]]:
    """Each case with its probabilities (C, D, H, W) on its training grid, 0 where the case was padded.

    Args:
        between: called before each case; what it raises (a cancel) ends the prediction.
        tell: told what is done where memory runs out.
        overlap: of the sliding windows.
        near_labels: predict only around what a label shows, as far as the prediction reaches beyond it. Elsewhere the
            probabilities are 0.

    Raises:
        InputError: the network's output is not finite, or memory does not suffice for a single window.
    """
    told: set[str] = set()

    def once(text: str) -> None:  # what holds for one case holds for the next
        if tell is not None and text not in told:
            told.add(text)
            tell(text)

    patch, at_a_time = config.data.patch_size, WINDOWS_AT_A_TIME.get(device.type, MANY_WINDOWS)
    for case in cases:
        between()
        predicted = partial(
            predict_probabilities, network, patch_size=patch, nested=nested, overlap=overlap, batch_size=at_a_time,
            device=device, name=f"the network in training, asked for case {case.name}", tell=once,
        )  # fmt: skip
        box = label_box(case, patch) if near_labels else None
        if box is None:
            maps = predicted(case.image)
        elif min(patch) == 1:
            maps = _slices_as_far_as_it_reaches(predicted, case.image, box, patch)
        else:
            first = windows_in(box, case, patch, overlap)
            some = partial(_windows_at, predicted, case.image)
            maps = as_far_as_it_reaches(some, first, case.image.shape[1:], patch, overlap, AROUND)
        if (padding := case.padding) is not None:  # no loss reaches it, so that a network draws anything there
            maps[:, padding] = 0.0
        yield case, maps


def label_box(case: TrainingCase, patch: Sequence[int]) -> Box | None:
    """Where a label lies with a few voxels around it, at least a window (d, h, w).

    None where the label lacks a structure, which may then lie anywhere.
    """
    masks = _known_masks(case)
    extent = extent_of(np.asarray(masks.any(axis=0)))
    if extent is None or not masks.any(axis=(1, 2, 3)).all():
        return None
    sides = zip(extent, masks.shape[1:], patch)
    return tuple(_side(found.start - AROUND, found.stop + AROUND, size, window) for found, size, window in sides)


def _known_masks(case: TrainingCase) -> np.ndarray:
    """The label (C, D, H, W), boolean, without what lies under ignored voxels: nothing may follow from that."""
    return where_known(case.masks.numpy() > 0, case.ignored)


def windows_in(box: Box, case: TrainingCase, patch: Sequence[int], overlap: float) -> list[Place]:
    """First voxels of the windows (d, h, w) in a `label_box` that see the label and a few voxels around it."""
    drawn = np.asarray(_known_masks(case).any(axis=0))[box]
    around = ndimage.binary_dilation(drawn, iterations=AROUND)
    inside = min(in_rows(around.shape, patch, overlap), covering(around, patch, overlap), key=len)
    return [tuple(side.start + at for side, at in zip(box, place)) for place in inside]


def _windows_at(predicted: Callable[..., np.ndarray], image: torch.Tensor, places: Sequence[Place]) -> list[np.ndarray]:
    return list(predicted(image, places=places))


def _slices_as_far_as_it_reaches(
    predicted: Callable[[torch.Tensor], np.ndarray], image: torch.Tensor, box: Box, patch: Sequence[int]
) -> np.ndarray:
    """Probabilities (C, D, H, W) of a box of slices that grows until no structure reaches its end, 0 around it."""
    size = image.shape[1:]
    while True:
        inside = predicted(image[:, *box])
        drawn = np.asarray((inside > 0.5).any(axis=0))
        grown = []
        for axis, (side, length, window) in enumerate(zip(box, size, patch)):
            faces = np.moveaxis(drawn, axis, 0)
            more = window * 3 // 4 or length  # a window more at the usual overlap; of windows of one slice, all
            low, high = side.start - more * bool(faces[0].any()), side.stop + more * bool(faces[-1].any())
            grown.append(_side(low, high, length, window))
        if tuple(grown) == box:
            maps = np.zeros((len(inside), *size), inside.dtype)
            maps[:, *box] = inside
            return maps
        box = tuple(grown)


def _side(low: int, high: int, size: int, window: int) -> slice:
    """The part of an axis from `low` to `high`, at least a window if there is room for one."""
    low, high = max(0, low), min(size, high)
    length = min(size, max(window, high - low))
    start = min(max(0, low - (length - (high - low)) // 2), size - length)
    return slice(start, start + length)
