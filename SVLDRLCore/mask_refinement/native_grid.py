"""The mask agents' edits of a label map: made on the model's grid, carried to the image's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from SVLDRLCore.data.resampling import PreparedImage, to_native
from SVLDRLCore.files.volumes import Volume
from SVLDRLCore.inference.sliding_window import Tell
from SVLDRLCore.mask_refinement.refine import refine
from SVLDRLCore.mask_refinement.segments import structure_masks
from SVLDRLCore.models.trained_model import TrainedModel

Box = tuple[slice, slice, slice]


def edit_label(
    trained: TrainedModel,
    prepared: PreparedImage,
    label: Volume,
    rough_maps: np.ndarray,
    found: np.ndarray,
    box: Box,
    members: dict[int, list[int]],
    wanted: Sequence[int],
    *,
    trust: float,
    overlap: float,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    tell: Tell | None = None,
) -> np.ndarray:
    """Belief maps (C, D, H, W) on the image's grid after the mask agents have edited a label map in a box.

    Args:
        label: on the image's grid; rough_maps: its structures on the prepared grid (C, D, H, W).
        found: the prediction in the box; box: on the prepared grid.
        members: structure -> its values in the label map; wanted: the structures to edit.

    A model without mask agents has only its prediction, which is blended with the mask: with half of the trust,
    because a blend of more than half of the mask is the mask.

    Edits, not masks, come back from the model's grid: what was kept is kept to the bit.
    """
    if trained.mask_network is None and trust < 1:
        trust = trust / 2
    region = (slice(None), *box)
    rough = rough_maps[region]
    edits = np.zeros((len(found), *prepared.array.shape[1:]), np.float32)
    edits[region] = refine(
        trained, np.ascontiguousarray(prepared.array[region]), rough, found, prepared.geometry.spacing_dhw, wanted,
        trust=trust, overlap=overlap, device=device, progress=progress, tell=tell,
    ) - rough  # fmt: skip
    return (to_native(edits, prepared) + structure_masks(label.array, members, len(edits))).clip(0.0, 1.0)


def box_around(drawn: np.ndarray | None, prepared: PreparedImage, margin_mm: float, patch_size: Sequence[int]) -> Box:
    """Where masks (C, D, H, W) lie on the prepared grid, with a margin and at least a patch; None: everywhere."""
    size = prepared.array.shape[1:]
    if drawn is None:
        return tuple(slice(0, n) for n in size)
    inside = np.argwhere(drawn.any(0))
    box = []
    for axis, (n, spacing, patch) in enumerate(zip(size, prepared.geometry.spacing_dhw, patch_size)):
        pad = int(np.ceil(margin_mm / spacing))
        low, high = int(inside[:, axis].min()) - pad, int(inside[:, axis].max()) + 1 + pad
        more = max(0, patch - (high - low))
        low, high = low - more // 2, high + more - more // 2
        box.append(slice(max(0, low), min(n, high)))
    return tuple(box)


def window_count(size: Sequence[int], patch: Sequence[int], overlap: float) -> int:
    """How many sliding windows a volume (d, h, w) takes, for the progress."""
    counts = [
        max(1, int(np.ceil((s - p) / max(1, int(p * (1 - overlap))))) + 1) if s > p else 1 for s, p in zip(size, patch)
    ]
    return int(np.prod(counts))
