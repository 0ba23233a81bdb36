"""A prediction in several contexts: other surroundings, other grey values.

The image is decomposed into blocks and recomposed with other surroundings.

Each context is a whole volume, predicted with windows of the training's size: another size alone would change what the
network says. A block is half a window wide. In a recomposed volume every second block (a chess board in 3D) is the
image's own, the rest is something else; a second volume has the other blocks. What is kept are the image's own blocks.

Surroundings do not touch what makes the two kinds of images differ: their grey values. So the whole image is also
predicted with the grey values of labelled images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from SVLDRLCore.adaptation.appearance import grey_levels, match_histogram

CONTEXTS = ("shifted", "masked", "in target", "in source")
PREDICTIONS = 7
"""Of a volume for these contexts: one shifted, and two of each other kind."""
GREY = "grey values"
"""Contexts of this name show the whole image; the others in blocks, or moved."""

Predict = Callable[[np.ndarray], np.ndarray]


def chess_board(shape: Sequence[int], block: Sequence[int]) -> np.ndarray:
    """Booleans (D, H, W): every second block."""
    parity = np.zeros(shape, np.int64)
    for axis, (size, step) in enumerate(zip(shape, block)):
        parity = parity + (np.arange(size) // step).reshape([-1 if a == axis else 1 for a in range(3)])
    return parity % 2 == 0


def of_same_size(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """An image (M, D, H, W) cut, or mirrored at its faces, about its centre to another size."""
    for axis, size in enumerate(shape, start=1):
        have = image.shape[axis]
        if have > size:
            image = image.take(range((have - size) // 2, (have - size) // 2 + size), axis)
        elif have < size:
            before = (size - have) // 2
            pad = [(before, size - have - before) if a == axis else (0, 0) for a in range(4)]
            image = np.pad(image, pad, "symmetric")
    return image


def shifted(image: np.ndarray, by: Sequence[int]) -> np.ndarray:
    """An image with so many voxels of its own face before it along each axis, so that windows fall elsewhere."""
    return np.pad(image, [(0, 0), *((n, 0) for n in by)], "edge")


def contexts(
    image: np.ndarray,
    predict: Predict,
    patch: Sequence[int],
    surroundings: Mapping[str, np.ndarray],
    styles: Sequence[np.ndarray] = (),
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and predictions (C, D, H, W) of an image (M, D, H, W) in each of `CONTEXTS` that can be had, and of `GREY`.

    Args:
        predict: probabilities of a whole volume by windows of the size `patch`.
        surroundings: images whose blocks lie around, by the name of the context.
        styles: images whose grey values the whole image takes, a context for each.
    """
    shape = image.shape[1:]
    block = [max(1, size // 2) for size in patch]
    by = [max(1, size // 3) for size in patch]
    yield "shifted", predict(shifted(image, by))[:, by[0] :, by[1] :, by[2] :]
    own = chess_board(shape, block)
    grey = np.broadcast_to(image.mean((1, 2, 3), keepdims=True), image.shape)
    for name in CONTEXTS[1:]:
        around = grey if name == "masked" else surroundings.get(name)
        if around is None:
            continue
        around = of_same_size(around, shape)
        halves = [predict(np.where(kept, image, around).astype(np.float32)) for kept in (own, ~own)]
        yield name, np.where(own, halves[0], halves[1])
    known = torch.from_numpy(np.ascontiguousarray(image))
    for style in styles:
        levels = grey_levels(known), grey_levels(torch.from_numpy(np.ascontiguousarray(style)))
        yield GREY, predict(match_histogram(known, *levels).numpy())
