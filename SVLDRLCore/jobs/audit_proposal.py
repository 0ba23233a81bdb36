"""The label that an audit proposes in place of a case's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from SVLDRLCore.data.resampling import PreparedImage, to_native
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.volumes import Volume
from SVLDRLCore.mask_refinement.editing import box_around, edit_label
from SVLDRLCore.mask_refinement.limits import DEFAULT_TRUST
from SVLDRLCore.mask_refinement.segments import Values, draw_structures
from SVLDRLCore.masks.known_voxels import completed
from SVLDRLCore.models.trained_model import TrainedModel

MARGIN_MM = 20.0


def propose(
    trained: TrainedModel,
    prepared: PreparedImage,
    label: Volume,
    masks: np.ndarray,
    probabilities: np.ndarray,
    matched: Values,
    members: dict[int, list[int]],
    ignored: np.ndarray | None,
    overlap: float,
    device: torch.device,
    progress: Callable[[float], None],
    events: EventLog,
) -> np.ndarray:
    """The label map as the mask agents correct it; what it does not show at all is taken from the prediction.

    Voxels that are to be ignored stay so.
    """
    shown = [i for i in sorted(matched) if masks[i].any()]
    maps = np.zeros((len(masks), *label.geometry.size_dhw), np.float32)
    if shown:
        box = box_around(masks[shown], prepared, MARGIN_MM, trained.config.data.patch_size)
        masks = completed(masks, ignored, prepared.geometry.spacing_dhw)
        maps = edit_label(
            trained, prepared, label, masks, probabilities[(slice(None), *box)], box, members, shown,
            trust=DEFAULT_TRUST, overlap=overlap, device=device, progress=lambda *_: progress(0.8),
            tell=events.warn,
        )  # fmt: skip
    missing = [i for i in sorted(matched) if i not in shown]
    if missing:
        maps[missing] = to_native(probabilities[missing], prepared)
    return draw_structures(trained.structures, label.array, maps, matched, label.geometry.spacing_dhw)
