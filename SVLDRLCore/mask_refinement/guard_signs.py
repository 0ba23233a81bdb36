"""What one image says of one refinement: signs that it helps, and signs that the model does not know such images.

No sign sees a right label. `SIGNS` speak of the change, `LIKENESS` of the image beside those of the training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.label_quality.evidence import Compared
from SVLDRLCore.masks.alignment import Calibration, measure_border
from SVLDRLCore.masks.borders import signed_distance, voxel_mm
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.image_edge import gradient_size

SIGNS = (
    "edge of the change",
    "edge of the prediction",
    "change",
    "disagreement",
    "beyond doubt",
    "doubt of the model",
    "apart where the mask lies on an edge",
    "unevenness",
    "smoother",
)
LIKENESS = ("inside", "contrast", "spread inside", "spread outside", "fine grain", "sharpness", "doubt of the model")
MARGIN_MM = 12.0
UNMEASURED = 3.0
"""Relative unevenness where a border cannot be measured."""
LEAST = 1e-3


def signs_of(
    mask: np.ndarray,
    changed: np.ndarray,
    probability: np.ndarray,
    image: np.ndarray,
    spacing_dhw: Sequence[float],
    usual: Calibration,
) -> tuple[np.ndarray, np.ndarray]:
    """Signs (`SIGNS`) and likeness (`LIKENESS`) of a change.

    Args:
        mask, changed: boolean (D, H, W), the mask and what the agents made of it; both hold something.
        probability: the model's (D, H, W); image: (M, D, H, W) in [0, 1].
        usual: what is known of trusted labels.
    """
    found = probability > 0.5
    box = bounding_box(mask | changed | found, [MARGIN_MM / s for s in spacing_dhw])
    mask, changed, found, p = mask[box], changed[box], found[box], probability[box].astype(np.float32)
    image = image[(slice(None), *box)].astype(np.float32)
    around = mask | changed
    of_change = Compared(changed.astype(np.float32), image, spacing_dhw, around).judge(mask)
    of_model = Compared(p, image, spacing_dhw, around).judge(mask)
    measure = measure_border(mask, found, image, spacing_dhw)
    uneven = UNMEASURED if measure is None else min(UNMEASURED, usual.relative_unevenness(measure))
    doubt = float((p * (1 - p)).sum() / (p.sum() + 1))
    size = 1 - dice_of(mask, changed)
    signs = np.array(
        [
            of_change.image_side_apart,
            of_model.image_side_apart,
            np.log(size + LEAST),
            of_model.disagreement,
            of_model.beyond_doubt,
            np.log(doubt + LEAST),
            _apart_on_edges(mask, found, image[usual.channel], spacing_dhw),
            np.log(uneven + LEAST),
            np.log(_area(mask) / _area(changed)),
        ]
    )
    return np.nan_to_num(signs), np.nan_to_num(_likeness(mask, changed, image[usual.channel], spacing_dhw, doubt))


def _apart_on_edges(mask: np.ndarray, found: np.ndarray, channel: np.ndarray, spacing_dhw: Sequence[float]) -> float:
    """How far (voxels, logarithm) the model draws from the mask where the mask's border lies on a clear edge."""
    if not found.any() or found.all():
        return float(np.log(10.0))
    border = mask & ~ndimage.binary_erosion(mask, border_value=1)
    steep = gradient_size(channel, spacing_dhw)[border]
    if not steep.size:
        return 0.0
    clear = steep >= np.quantile(steep, 0.6)
    apart = np.abs(signed_distance(found, tuple(spacing_dhw))[border][clear]) / voxel_mm(spacing_dhw)
    return float(np.log(np.clip(apart, 0, 10).mean() + 0.1))


def _likeness(
    mask: np.ndarray, changed: np.ndarray, channel: np.ndarray, spacing_dhw: Sequence[float], doubt: float
) -> np.ndarray:
    both = mask & changed if (mask & changed).any() else mask
    shell = signed_distance(mask | changed, tuple(spacing_dhw))
    outside = (shell > 0) & (shell < MARGIN_MM)
    beside = channel[outside] if outside.any() else channel
    inner = channel[both]
    fine = channel - ndimage.uniform_filter(channel, [min(3, n) for n in channel.shape])
    steep = gradient_size(channel, spacing_dhw)
    border = mask ^ ndimage.binary_erosion(mask, border_value=1)
    spread = float(np.concatenate([inner, beside]).std()) + LEAST
    sharp = float(steep[border].mean()) * voxel_mm(spacing_dhw) / spread if border.any() else 0.0
    grain = float(np.abs(fine[both | outside]).mean()) / spread
    return np.array(
        [
            float(inner.mean()),
            float(inner.mean() - beside.mean()),
            float(inner.std()),
            float(beside.std()),
            np.log(grain + LEAST),
            np.log(sharp + LEAST),
            np.log(doubt + LEAST),
        ]
    )


def _area(mask: np.ndarray) -> float:
    """Faces of a mask over its volume to the power 2/3."""
    faces = sum(np.count_nonzero(np.diff(mask, axis=axis)) for axis in range(mask.ndim))
    return float(max(faces, 1) / max(int(mask.sum()), 1) ** (2 / 3))
