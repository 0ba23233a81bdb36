"""Overlap, surface distance and volume of segmentations, with one stated definition each.

Definitions (the literature uses several; numbers are comparable only under the same one):

- Surface: the voxels of a mask with at least one of their 6 neighbours outside it (or outside the image).
  Distances are Euclidean, in mm, between voxel centres of one surface and the nearest of the other.
- HD95: the larger of the two directed 95th percentiles (as MONAI); with ``hd95="pooled"`` the 95th percentile
  of both directions together (as MedPy, used by the left atrium and pancreas literature).
- ASD: the mean over the surface distances of both directions together (MONAI's ``symmetric=True``).
- PPV: the share of the prediction that is right; sensitivity: the share of the reference that is found.
- Boundary IoU (Cheng 2021): the IoU of the parts of both masks that lie along their borders, slice by slice: voxels
  with one outside the mask (or the slice) among those up to d rows and columns away, where d is
  ``BOUNDARY_SHARE`` of the slice's diagonal in voxels, rounded, at least 1. A case pools the voxels of its slices.
- A structure in the reference that the prediction lacks ("missed"), and one in the prediction that the
  reference lacks ("spurious"), has Dice and all other shares 0 and the image's diagonal as both distances, so that
  losing an organ can never improve a mean. One in neither ("absent") has Dice 1, distances 0, and no part in means.
- By slice each slice is an image of its own: surfaces are 2D (4 neighbours), the diagonal is the slice's, and the
  rules for missing structures hold for each slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.lesions import ComparedLesions
from SVLDRLCore.masks.boxes import extent_of
from SVLDRLCore.masks.dice import dice_of_counts

Hd95 = Literal["max", "pooled"]
Status = Literal["present", "missed", "spurious", "absent"]

METRIC_NAMES = ("dice", "iou", "hd95_mm", "asd_mm", "volume_ratio")
SHARE_NAMES = ("ppv", "sensitivity", "boundary_iou")
"""Measured beside those, and shown where slices are compared."""
BOUNDARY_SHARE = 0.02
"""Width of the boundary that boundary IoU compares, of a slice's diagonal (Cheng 2021, 4.1)."""
ALL_STRUCTURES = "(all)"
LEAF = 32
"""Points of a tree's leaf: surfaces are thin, and small leaves would be opened by the dozen."""

_HD95_TEXT = {
    "max": "max of the two directed 95th percentiles",
    "pooled": "95th percentile of both directions pooled (MedPy)",
}


@dataclass(frozen=True)
class MaskMetrics:
    """One structure of one case, or of one slice; distances in mm, volumes in mL, ratio prediction / reference."""

    dice: float
    iou: float
    hd95_mm: float
    asd_mm: float
    volume_ratio: float
    volume_prediction_ml: float
    volume_reference_ml: float
    ppv: float = 0.0
    sensitivity: float = 0.0
    boundary_iou: float = 0.0

    @property
    def status(self) -> Status:
        """Whether the structure is in both masks (present), in one (missed, spurious) or in none (absent)."""
        if self.volume_reference_ml > 0:
            return "present" if self.volume_prediction_ml > 0 else "missed"
        return "spurious" if self.volume_prediction_ml > 0 else "absent"


@dataclass(frozen=True)
class MetricRow:
    """One structure of one case, or of one of its slices (counted from 0): what is tabulated and averaged."""

    case: str
    structure: str
    metrics: MaskMetrics
    slice_index: int | None = None
    lesions: ComparedLesions | None = None
    """Where they were asked for, and not by slice."""


@dataclass(frozen=True)
class MeanSD:
    """Mean, sample standard deviation (NaN below two values) and how many values they are of."""

    mean: float
    sd: float
    n: int


@dataclass(frozen=True)
class Summary:
    """Means of one structure over the cases.

    ``n`` cases are in the means: present, missed and spurious ones. ``n_absent`` are not. The volume ratio of
    a spurious structure is infinite and is left out of that mean, whose own ``n`` tells.
    """

    structure: str
    n: int
    n_missing: int
    n_spurious: int
    n_absent: int
    means: Mapping[str, MeanSD]


ABSENT = MaskMetrics(1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0)
"""A structure that neither mask has."""
BY_SLICE_TEXT = (
    "PPV: share of the prediction that is right; sensitivity: share of the reference that is found. "
    f"Boundary IoU: IoU of the masks' parts within {BOUNDARY_SHARE:.0%} of the slice's diagonal of their borders "
    "(Cheng 2021). Each slice is an image of its own, its surfaces are 2D; slices where neither mask has the "
    "structure are left out. "
)
"""What tables by slice have more."""


def definition_text(hd95: Hd95 = "max", by_slice: bool = False) -> str:
    """The sentence to print beside every table of these numbers."""
    return (BY_SLICE_TEXT if by_slice else "") + (
        f"HD95: {_HD95_TEXT[hd95]} of the distances between {4 if by_slice else 6}-neighbour edge voxel centres, mm. "
        "ASD: mean of those distances in both directions, mm. "
        "Missed and spurious structures count as Dice 0 and the image diagonal as distance; "
        "structures absent from both are left out. SD: sample standard deviation."
    )


def mask_metrics(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing_dhw: Sequence[float],
    hd95: Hd95 = "max",
    ignored: NDArray[np.bool_] | None = None,
) -> MaskMetrics:
    """All metrics of a pair of masks in one pass.

    Args:
        prediction: mask (D, H, W); anything but 0 is inside.
        reference: mask of the same shape.
        spacing_dhw: voxel size along D, H, W in mm.
        hd95: "max" (MONAI's definition) or "pooled" (MedPy's).
        ignored: mask of voxels that count nowhere, as nobody has labelled them. Where they begin is no surface.

    Raises:
        InputError: the shapes differ or are not 3D, the spacing is not three positive numbers, or ``hd95`` is
            unknown.

    Example:
        >>> mask = np.zeros((8, 8, 8), bool); mask[2:6, 2:6, 2:6] = True
        >>> mask_metrics(mask, mask, (1.0, 1.0, 1.0)).dice
        1.0
    """
    spacing = _checked(prediction, reference, spacing_dhw, hd95)
    return _measured(prediction, reference, spacing, float(np.prod(spacing)) / 1000.0, hd95, ignored)


def slice_metrics(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing_dhw: Sequence[float],
    hd95: Hd95 = "max",
    ignored: NDArray[np.bool_] | None = None,
) -> list[MaskMetrics]:
    """The metrics of each slice (H, W) of two masks (D, H, W) as an image of its own; arguments as `mask_metrics`.

    A volume is the slice's area times its thickness.
    """
    spacing = _checked(prediction, reference, spacing_dhw, hd95)
    voxel_ml = float(np.prod(spacing)) / 1000.0
    return [
        _measured(seen, true, spacing[1:], voxel_ml, hd95, None if ignored is None else ignored[index])
        for index, (seen, true) in enumerate(zip(prediction, reference))
    ]


def _measured(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing: NDArray[np.float64],
    voxel_ml: float,
    hd95: str,
    ignored: NDArray[np.bool_] | None,
) -> MaskMetrics:
    """Of masks (D, H, W) or slices (H, W)."""
    prediction, reference = np.asarray(prediction, bool), np.asarray(reference, bool)
    if ignored is not None:
        prediction, reference = prediction & ~ignored, reference & ~ignored
    box = extent_of(prediction | reference)
    if box is None:
        return ABSENT

    cropped_prediction, cropped_reference = prediction[box], reference[box]
    n_prediction = int(np.count_nonzero(cropped_prediction))
    n_reference = int(np.count_nonzero(cropped_reference))
    volumes_ml = (n_prediction * voxel_ml, n_reference * voxel_ml)
    if not n_prediction or not n_reference:
        diagonal_mm = float(np.linalg.norm(np.array(prediction.shape) * spacing))
        ratio = math.inf if n_prediction else 0.0
        return MaskMetrics(0.0, 0.0, diagonal_mm, diagonal_mm, ratio, *volumes_ml)

    n_both = int(np.count_nonzero(cropped_prediction & cropped_reference))
    unknown = None if ignored is None else ignored[tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)]
    edges = tuple((int(s.start > 0), int(s.stop < n)) for s, n in zip(box, prediction.shape))
    hd95_mm, asd_mm = _distances(cropped_prediction, cropped_reference, spacing, hd95, unknown, edges)
    return MaskMetrics(
        dice_of_counts(n_both, n_prediction, n_reference),
        n_both / (n_prediction + n_reference - n_both),
        hd95_mm,
        asd_mm,
        n_prediction / n_reference,
        *volumes_ml,
        ppv=n_both / n_prediction,
        sensitivity=n_both / n_reference,
        boundary_iou=_boundary_iou(cropped_prediction, cropped_reference, prediction.shape[-2:])
        if ignored is None
        else _boundary_iou(prediction, reference, prediction.shape[-2:], ignored),
    )


def case_metrics(
    prediction_labels: NDArray[np.integer],
    reference_labels: NDArray[np.integer],
    spacing_dhw: Sequence[float],
    labels: Mapping[int, str],
    hd95: Hd95 = "max",
) -> dict[str, MaskMetrics]:
    """The metrics of each structure of two label maps (D, H, W), in the order of ``labels`` {value: name}."""
    return {
        name: mask_metrics(prediction_labels == value, reference_labels == value, spacing_dhw, hd95)
        for value, name in labels.items()
    }


def summarise(rows: Iterable[MetricRow]) -> dict[str, Summary]:
    """Mean and SD of every metric for each structure, in order of appearance, then for all rows together.

    The last entry, ``ALL_STRUCTURES``, pools all rows (each case and structure weighs the same).
    """
    rows = list(rows)
    names = list(dict.fromkeys(row.structure for row in rows))
    summaries = {name: _summary(name, [row for row in rows if row.structure == name]) for name in names}
    summaries[ALL_STRUCTURES] = _summary(ALL_STRUCTURES, rows)
    return summaries


def _summary(structure: str, rows: list[MetricRow]) -> Summary:
    status = [row.metrics.status for row in rows]
    counted = [row.metrics for row in rows if row.metrics.status != "absent"]
    return Summary(
        structure=structure,
        n=len(counted),
        n_missing=status.count("missed"),
        n_spurious=status.count("spurious"),
        n_absent=status.count("absent"),
        means={
            name: _mean_sd([getattr(metrics, name) for metrics in counted]) for name in (*METRIC_NAMES, *SHARE_NAMES)
        },
    )


def _mean_sd(values: list[float]) -> MeanSD:
    finite = np.array([value for value in values if math.isfinite(value)])
    mean = float(finite.mean()) if finite.size else math.nan
    sd = float(finite.std(ddof=1)) if finite.size > 1 else math.nan
    return MeanSD(mean, sd, int(finite.size))


def _checked(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing_dhw: Sequence[float], hd95: str
) -> NDArray[np.float64]:
    shapes = np.shape(prediction), np.shape(reference)
    if shapes[0] != shapes[1] or len(shapes[0]) != 3:
        raise InputError(
            "metrics",
            f"the masks have the shapes {shapes[0]} and {shapes[1]}",
            "Give two masks (D, H, W) on the same voxel grid.",
        )
    spacing = np.asarray(spacing_dhw, float)
    if spacing.shape != (3,) or not np.all(np.isfinite(spacing) & (spacing > 0)):
        raise InputError("metrics", f"spacing is {spacing_dhw}", "Give three positive voxel sizes in mm.")
    if hd95 not in _HD95_TEXT:
        raise InputError("metrics", f"hd95 is {hd95!r}", "Use 'max' or 'pooled'.")
    return spacing


def _surface_beside_unknown(
    mask: NDArray[np.bool_], unknown: NDArray[np.bool_], edges: tuple[tuple[int, int], ...]
) -> NDArray[np.bool_]:
    """Voxels of the mask with a 6-neighbour outside it that is known; all of its surface where there are none.

    `unknown` reaches by `edges` beyond the mask, as far as the image does.
    """
    widened = np.pad(mask, edges)
    inner = tuple(slice(low, n - high) for (low, high), n in zip(edges, widened.shape))
    found = _surface(widened | unknown)[inner] & mask
    return found if found.any() else _surface(mask)


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of the mask with a neighbour across a face outside it; what lies beyond the array is outside."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(mask.ndim):
        for neighbours in (slice(None, -2), slice(2, None)):
            inside &= padded[tuple(neighbours if a == axis else slice(1, -1) for a in range(mask.ndim))]
    return mask & ~inside


def boundary_width(slice_shape: Sequence[int]) -> int:
    """How many voxels of a slice (H, W) a mask's boundary is wide, for boundary IoU."""
    return max(1, round(BOUNDARY_SHARE * math.hypot(*slice_shape)))


def _boundary_iou(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    slice_shape: Sequence[int],
    ignored: NDArray[np.bool_] | None = None,
) -> float:
    """Of masks (..., H, W) cropped from slices of that shape; where what is ignored begins is no border."""
    width, inner = boundary_width(slice_shape), []
    for mask in (prediction, reference):
        inner.append(mask & ~_deep(mask if ignored is None else mask | ignored, width))
    either = np.count_nonzero(inner[0] | inner[1])
    return np.count_nonzero(inner[0] & inner[1]) / either if either else 1.0


def _deep(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Voxels of a mask (..., H, W) with no voxel outside it up to `width` rows and columns away.

    All of a square is all of its rows, then of its columns; of a run of voxels, all of two shorter ones.
    """
    size = 2 * width + 1
    for axis in (-2, -1):
        lines = np.moveaxis(
            np.pad(mask, [(width, width) if a - mask.ndim == axis else (0, 0) for a in range(mask.ndim)]), axis, 0
        )
        covered = 1
        while covered < size:
            step = min(covered, size - covered)
            lines, covered = lines[:-step] & lines[step:], covered + step
        mask = np.moveaxis(lines, 0, axis)
    return mask


def _distances(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing: NDArray[np.float64],
    hd95: str,
    unknown: NDArray[np.bool_] | None = None,
    edges: tuple[tuple[int, int], ...] = (),
) -> tuple[float, float]:
    """(HD95, ASD) in mm between two masks that are not empty."""
    if unknown is None:
        surface_prediction, surface_reference = _surface(prediction), _surface(reference)
    else:
        surfaces = (_surface_beside_unknown(mask, unknown, edges) for mask in (prediction, reference))
        surface_prediction, surface_reference = surfaces
    to_reference = _directed(surface_prediction, surface_reference, spacing)
    to_prediction = _directed(surface_reference, surface_prediction, spacing)
    pooled = np.concatenate([to_reference, to_prediction])
    if hd95 == "pooled":
        hausdorff = np.percentile(pooled, 95)
    else:
        hausdorff = max(np.percentile(to_reference, 95), np.percentile(to_prediction, 95))
    return float(hausdorff), float(pooled.mean())


def _directed(
    source: NDArray[np.bool_], target: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The distance (mm) of each voxel of ``source`` to the nearest of ``target``, in no particular order."""
    apart = _places(source & ~target)  # a voxel on both surfaces has distance 0 and needs no search
    distances = np.zeros(np.count_nonzero(source))
    if len(apart):
        # Grid points are evenly spread: sliding-midpoint splits search as fast and build much faster.
        tree = KDTree(_places(target) * spacing, LEAF, compact_nodes=False, balanced_tree=False)
        distances[: len(apart)] = tree.query(apart * spacing)[0]
    return distances


def _places(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """`numpy.argwhere`, which takes several times longer where few voxels are set."""
    return np.stack(np.unravel_index(np.flatnonzero(mask), mask.shape), axis=1)
