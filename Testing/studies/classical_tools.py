"""What a Slicer user has without a model: classical tools for a rough mask, each (image, mask, spacing_dhw) -> mask.

Lengths inside are in units of the finest voxel. Settings are those that the tools come with, or usual ones; none was
set on the masks that they are measured on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.universal_refiner.skipped_slices import filling_of

SEED_DISTANCE = 2.5
"""Voxels farther than this from the border are seeds, inside and outside."""
STIFFNESS = 130.0
"""Of the random walker."""


def _in_units(spacing: Sequence[float]) -> tuple[float, ...]:
    return tuple(s / min(spacing) for s in spacing)


def _grey(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, [1, 99])
    return np.clip((image - low) / (high - low + 1e-6), 0, 1).astype(np.float32)


def median(image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Median of 5 voxels."""
    size = [max(1, round(5 / s) | 1) for s in _in_units(spacing)]
    return ndimage.median_filter(mask.astype(np.uint8), size) > 0


def gaussian(image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Gaussian smoothing of 1.5 voxels."""
    return ndimage.gaussian_filter(mask.astype(np.float32), [1.5 / s for s in _in_units(spacing)]) > 0.5


def random_walker(image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Who of the seeds inside and outside does a walker meet first that steps over edges seldom? (Grady 2006)"""
    steps = _in_units(spacing)
    distance = signed_distance(mask, steps)
    width = min(SEED_DISTANCE, -0.6 * float(distance.min()))
    open_ = (distance >= -width) & (distance <= SEED_DISTANCE)
    near = ndimage.binary_dilation(open_, np.ones((3, 3, 3)))
    values, count = ndimage.gaussian_filter(_grey(image), 0.5)[near], int(near.sum())
    number = np.full(mask.shape, -1)
    number[near] = np.arange(count)
    pairs, weights = [], []
    for axis, step in enumerate(steps):
        one, other = np.moveaxis(number, axis, 0)[:-1].ravel(), np.moveaxis(number, axis, 0)[1:].ravel()
        both = (one >= 0) & (other >= 0)
        pairs.append(np.stack([one[both], other[both]]))
        jump = values[pairs[-1][0]] - values[pairs[-1][1]]
        weights.append(np.exp(-STIFFNESS / 10 * jump**2 / (values.var() + 1e-9)) / step + 1e-5)
    (i, j), w = np.concatenate(pairs, axis=1), np.concatenate(weights)
    graph = sparse.coo_matrix((np.r_[w, w], (np.r_[i, j], np.r_[j, i])), (count, count)).tocsr()
    laplacian = (sparse.diags(np.asarray(graph.sum(1)).ravel()) - graph).tocsr()
    free, inside = open_[near], (distance < -width)[near]
    seeds, unknown = np.flatnonzero(~free), np.flatnonzero(free)
    if not len(unknown) or not inside.any():
        return mask
    left, right = laplacian[unknown][:, unknown], -laplacian[unknown][:, seeds] @ inside[seeds].astype(float)
    found, _ = cg(left, right, rtol=1e-3, maxiter=200, M=sparse.diags(1 / left.diagonal()))
    share = inside.astype(float)
    share[unknown] = found
    made = distance < -width
    made[near] = share > 0.5
    return made


def geodesic_contours(image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Geodesic active contours (ITK), from the mask's own border."""
    steps = _in_units(spacing)
    grey = sitk.GetImageFromArray(_grey(image))
    grey.SetSpacing([float(s) for s in steps[::-1]])
    slope = sitk.GradientMagnitudeRecursiveGaussian(grey, 0.8)
    start = signed_distance(mask, steps).astype(np.float32)
    ring = sitk.GetArrayFromImage(slope)[np.abs(start) < 4]
    low, high = (float(each) for each in np.percentile(ring, [50, 85]))
    edge = sitk.Sigmoid(slope, alpha=(low - high) / 6, beta=(low + high) / 2, outputMinimum=0, outputMaximum=1)
    level = sitk.GetImageFromArray(start)
    level.CopyInformation(grey)
    made = sitk.GeodesicActiveContourLevelSet(
        level, sitk.Cast(edge, sitk.sitkFloat32), maximumRMSError=0.005, propagationScaling=0.0,
        curvatureScaling=0.4, advectionScaling=2.0, numberOfIterations=80,
    )  # fmt: skip
    return sitk.GetArrayFromImage(made) < 0


def fill_between_slices(image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Signed distances between drawn slices."""
    return filling_of(mask, image).mask


TOOLS: dict[str, Callable[[np.ndarray, np.ndarray, Sequence[float]], np.ndarray]] = {
    "median": median,
    "Gaussian": gaussian,
    "random walker": random_walker,
    "geodesic contours": geodesic_contours,
    "fill between slices": fill_between_slices,
}
