"""What one image says of one refinement: signs that it helps, and signs that the model does not know such images.

No sign sees a right label. `SIGNS` speak of the change, `LIKENESS` of the image around the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.alignment import Calibration, measure_border
from SVLDRLCore.masks.borders import FAR_APART_MM, signed_distance, voxel_mm
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.image_edge import edge_positions, edge_sharpness, gradient_size

SIGNS = (
    "change",
    "disagreement",
    "doubt of the model",
    "unevenness",
    "smoother",
    "edge off the mask",
    "edge off the change",
    "sharper edge",
)
LIKENESS = ("inside", "contrast", "spread inside", "spread outside", "grain d", "grain h", "grain w", "sharpness")
MARGIN_MM = 12.0
"""How far around masks the image is looked at."""
UNMEASURED = 3.0
"""Relative unevenness where a border cannot be measured."""
NO_EDGE = -6.0
"""Logarithm of an edge's sharpness where there is none."""
LEAST = 1e-3


@dataclass(frozen=True)
class ChangeSigns:
    """What is seen of one change.

    Attributes:
        signs: one number for each of `SIGNS`; the model's doubt counts by how far it is from what is usual.
        likeness: one number for each of `LIKENESS`.
    """

    signs: np.ndarray
    likeness: np.ndarray


def signs_of(
    mask: np.ndarray,
    changed: np.ndarray,
    probability: np.ndarray,
    image: np.ndarray,
    spacing_dhw: Sequence[float],
    usual: Calibration,
) -> ChangeSigns:
    """Signs and likeness of a change.

    Args:
        mask, changed: boolean (D, H, W), the mask and what the agents made of it; both hold something.
        probability: the model's (D, H, W); image: (M, D, H, W) in [0, 1].
        usual: what is known of trusted labels.
    """
    box = bounding_box(mask | changed | (probability > 0.5), [MARGIN_MM / s for s in spacing_dhw])
    mask, changed, p = mask[box], changed[box], probability[box].astype(np.float32)
    found = p > 0.5
    channel = image[usual.channel][box].astype(np.float32)[None]
    measure = measure_border(mask, found, image[(slice(None), *box)].astype(np.float32), spacing_dhw)
    uneven = UNMEASURED if measure is None else min(UNMEASURED, usual.relative_unevenness(measure))
    agreement = 2.0 * float(p[mask].sum()) / (float(mask.sum()) + float(p.sum()))
    off_mask, off_change = (_off_edge(each, channel, spacing_dhw, usual) for each in (mask, changed))
    sharper = _sharpness(changed, channel, spacing_dhw) - _sharpness(mask, channel, spacing_dhw)
    signs = [
        np.log(1.0 - dice_of(mask, changed) + LEAST),
        np.log(1.0 - agreement + LEAST),
        doubt_of(p),
        np.log(uneven + LEAST),
        np.log(_area(mask) / _area(changed)),
        off_mask,
        off_change,
        sharper,
    ]
    return ChangeSigns(np.nan_to_num(np.array(signs)), likeness_of(mask, changed, channel[0], spacing_dhw))


def doubt_of(probability: np.ndarray) -> float:
    """How unsure a model is (logarithm): p (1 - p) summed over (D, H, W), relative to what it draws."""
    p = probability.astype(np.float32)
    return float(np.log(float((p * (1.0 - p)).sum() / (p.sum() + 1.0)) + LEAST))


def likeness_of(mask: np.ndarray, changed: np.ndarray, channel: np.ndarray, spacing_dhw: Sequence[float]) -> np.ndarray:
    """`LIKENESS` of an image channel (D, H, W) inside what two masks share, and around both.

    A voxel along the borders counts neither as inside nor as outside, and the sharper of both borders is looked at:
    what is seen is the image, and not how the mask is wrong.
    """
    both = mask & changed if (mask & changed).any() else mask
    deep = ndimage.binary_erosion(both)
    inside = deep if deep.any() else both
    shell = signed_distance(mask | changed, tuple(spacing_dhw), MARGIN_MM)
    outside = (shell > voxel_mm(spacing_dhw)) & (shell < MARGIN_MM)
    beside, inner = channel[outside] if outside.any() else channel, channel[inside]
    contrast = float(inner.mean() - beside.mean())
    spread = float(np.sqrt((inner.var() + beside.var()) / 2 + (contrast / 2) ** 2)) + LEAST  # each side counts half
    gradient = gradient_size(channel, spacing_dhw)
    steep = max(_along(gradient, each) for each in (mask, changed))
    sharp = steep * voxel_mm(spacing_dhw) / spread
    found = [
        float(inner.mean()),
        contrast,
        float(inner.std()),
        float(beside.std()),
        *(_grain(channel, both | outside, spread, axis, spacing_dhw) for axis in range(3)),
        np.log(sharp + LEAST),
    ]
    return np.nan_to_num(np.array(found))


def _along(gradient: np.ndarray, mask: np.ndarray) -> float:
    border = mask ^ ndimage.binary_erosion(mask, border_value=1)
    return float(gradient[border].mean()) if border.any() else 0.0


def _grain(channel: np.ndarray, near: np.ndarray, spread: float, axis: int, spacing_dhw: Sequence[float]) -> float:
    """How much neighbours along an axis differ from their mean (logarithm): thick slices differ less along one axis."""
    if channel.shape[axis] < 3 or spacing_dhw[axis] >= FAR_APART_MM:
        return 0.0
    bent = np.abs(ndimage.correlate1d(channel, np.array([-0.5, 1.0, -0.5]), axis, mode="nearest"))
    return float(np.log(bent[near].mean() / spread + LEAST))


def _off_edge(mask: np.ndarray, channel: np.ndarray, spacing_dhw: Sequence[float], usual: Calibration) -> float:
    """How far a border lies from where trusted labels lie to the image's edge, in their scatter (logarithm)."""
    edge = edge_positions(mask, channel, spacing_dhw)
    off = 0.0 if edge is None else abs(edge[0] - usual.edge_mm)
    return float(np.log1p(off / max(usual.edge_sd_mm, 0.5 * voxel_mm(spacing_dhw))))


def _sharpness(mask: np.ndarray, channel: np.ndarray, spacing_dhw: Sequence[float]) -> float:
    sharp = edge_sharpness(mask, channel, spacing_dhw)
    return NO_EDGE if sharp is None else float(np.nan_to_num(sharp[0], nan=NO_EDGE))


def _area(mask: np.ndarray) -> float:
    """Faces of a mask over its volume to the power 2/3."""
    faces = sum(np.count_nonzero(np.diff(mask, axis=axis)) for axis in range(mask.ndim))
    return float(max(faces, 1) / max(int(mask.sum()), 1) ** (2 / 3))
