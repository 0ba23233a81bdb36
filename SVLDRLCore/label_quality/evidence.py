"""What speaks for and against a label: how it agrees with a prediction, and on which side the image is.

Best of all, the prediction comes from a network that has not seen the label. Each sign is larger the more it speaks
against the label; what is usual for right labels is learned (`evidence_rule`), and no sign sees a clean label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from scipy import ndimage

from SVLDRLCore.label_quality.drawn_slices import between_slices, ends, roughness
from SVLDRLCore.label_quality.thresholds import (
    BORDERS_DIFFER_VOXELS,
    FARTHEST_MM,
    FLATTEST,
    LEAST_DISAGREEMENT,
    LEAST_ODDS,
    NEAR_LABEL_VOXELS,
    SEEN_AROUND_MM,
    SMOOTHED_VOXELS,
    SURE_PROBABILITY,
    USUAL_BORDER_VOXELS,
)
from SVLDRLCore.masks.borders import border_spacing, signed_distance, surface_voxels, voxel_mm
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.image_edge import ImageEdges, edge_reach, slope_at
from SVLDRLCore.masks.known_voxels import completed, where_known


@dataclass(frozen=True)
class Evidence:
    """Signs against one structure's label.

    Attributes:
        disagreement: log of 1 - soft Dice with the prediction.
        beyond_doubt: the same beside what the prediction's own uncertainty lets expect.
        cross_entropy: log cross entropy of the prediction near the label, over the label's volume; odds beyond 9 to 1
            count no more.
        surprise: cross entropy beyond the prediction's entropy, over the volumes of both.
        image_side: log of how much steeper the image is across the predicted border than across the label's.
        image_side_apart: the same where the two borders lie apart.
        edge_mm: where the image's edge lies to the label's border, signed (`image_edge.edge_positions`).
        bias_mm: by which the prediction lies outside the label, signed.
        bluntness: minus the log sharpness of the edge along the label's border.
        goes_on, open_end: `drawn_slices.ends`. uneven_slices, copied_slices: `drawn_slices.between_slices`.
        roughness: log of the surface beside the volume, signed.
        image_sharpness: no sign, but what signs are seen beside: log sharpness of the edge along the predicted border.
    """

    disagreement: float
    beyond_doubt: float
    cross_entropy: float
    surprise: float
    image_side: float
    image_side_apart: float
    edge_mm: float
    bias_mm: float
    bluntness: float
    goes_on: float
    open_end: float
    uneven_slices: float
    copied_slices: float
    roughness: float
    image_sharpness: float


NAMES = tuple(field.name for field in fields(Evidence))
SIGNED = ("edge_mm", "bias_mm", "roughness")
"""Signs that count by their distance from what is usual."""


class Compared:
    """A prediction of one structure beside the image, on which any number of labels can be judged.

    Args:
        probability: (D, H, W) in [0, 1]; image: (M, D, H, W).
        around: boolean (D, H, W), all that is to be judged lies in it: other voxels are left out.
        ignored: boolean (D, H, W), voxels that nobody has labelled.
    """

    def __init__(
        self,
        probability: np.ndarray,
        image: np.ndarray,
        spacing_dhw: Sequence[float],
        around: np.ndarray,
        ignored: np.ndarray | None = None,
    ) -> None:
        spacing = tuple(float(s) for s in spacing_dhw)
        found = where_known(probability > 0.5, ignored)
        self.box = bounding_box(around | found, [SEEN_AROUND_MM / s for s in spacing])
        self._spacing, self._image = spacing, image[(slice(None), *self.box)]
        self._ignored = None if ignored is None else ignored[self.box]
        p = probability[self.box].astype(np.float32)
        self._p = p if self._ignored is None else np.where(self._ignored, np.float32(0), p)
        self._found = found[self.box]
        self._voxel = voxel_mm(border_spacing(around[self.box], spacing))

    def judge(self, label: np.ndarray) -> Evidence:
        """Signs against a label (D, H, W), boolean, of the whole volume, that shows something."""
        known = where_known(label[self.box], self._ignored)
        mask = completed(known, self._ignored, self._spacing)
        distance = self._near_border(mask)
        p, volume = self._p, float(known.sum())
        drawn = float(p.sum())
        soft = 2.0 * float(p[known].sum()) / (volume + drawn)
        expected = float(np.square(p).sum()) / (drawn + LEAST_ODDS)
        near = (np.abs(distance) < NEAR_LABEL_VOXELS * self._voxel) | self._touching(known)
        near = where_known(near, self._ignored) | known
        edges, sharpness = self._edges.positions(mask, distance), self._edges.sharpness(mask, distance)
        whole, apart, bias = self._beside_prediction(mask, distance)
        beside = bounding_box(mask, [1] * mask.ndim)
        goes_on, open_end = ends(mask[beside], self._p[beside], self._smooth[beside], self._spacing)
        uneven, copied = between_slices(mask, distance, self._spacing)
        return Evidence(
            disagreement=float(np.log(1 - soft + LEAST_DISAGREEMENT)),
            beyond_doubt=float(np.log((1 - soft + LEAST_DISAGREEMENT) / (1 - expected + LEAST_DISAGREEMENT))),
            cross_entropy=self._cross_entropy(known, near, volume),
            surprise=self._surprise(known, volume, drawn),
            image_side=whole,
            image_side_apart=apart,
            edge_mm=0.0 if edges is None else edges[0],
            bias_mm=bias,
            bluntness=-_log_or_flattest(sharpness),
            goes_on=goes_on,
            open_end=open_end,
            uneven_slices=uneven,
            copied_slices=copied,
            roughness=roughness(mask[beside], self._spacing),
            image_sharpness=self._sharpness,
        )

    def _near_border(self, mask: np.ndarray) -> np.ndarray:
        """Signed distance to a border (D, H, W), mm, as far as anything here looks."""
        spacing = border_spacing(mask, self._spacing)
        reach_mm = max(edge_reach(spacing), NEAR_LABEL_VOXELS * self._voxel, FARTHEST_MM)
        return signed_distance(mask, spacing, reach_mm)

    @cached_property
    def _edges(self) -> ImageEdges:
        """Of the channel."""
        return ImageEdges(self._image[self._channel : self._channel + 1], self._spacing, self._ignored)

    @cached_property
    def _sharpness(self) -> float:
        known = self._distance if self._ignored is None else None  # else it is that of what is found at known voxels
        return _log_or_flattest(self._edges.sharpness(self._found, known))

    @cached_property
    def _channel(self) -> int:
        """The image channel that is steepest across the predicted border, beside its mean."""
        if len(self._image) == 1 or not self._surface.any():
            return 0
        distance = signed_distance(self._found, border_spacing(self._found, self._spacing))
        steepness = [_steepness(c, distance, self._spacing, self._voxel) for c in self._image]
        return int(np.argmax([s[self._surface].mean() / (s.mean() + LEAST_ODDS) for s in steepness]))

    @cached_property
    def _distance(self) -> np.ndarray:
        return self._near_border(self._found)

    @cached_property
    def _surface(self) -> np.ndarray:
        return surface_voxels(self._found, self._spacing, at_image_end=False)

    @cached_property
    def _smooth(self) -> np.ndarray:
        return _smoothed(self._image[self._channel], self._spacing, self._voxel)

    @cached_property
    def _slopes(self) -> list[np.ndarray]:
        axes = [axis for axis, n in enumerate(self._smooth.shape) if n > 1]
        return [np.gradient(self._smooth, self._spacing[axis], axis=axis) for axis in axes]

    def _across(self, distance: np.ndarray, places: tuple[np.ndarray, ...]) -> np.ndarray:
        """`_steepness` of the channel across a border, at N voxels near it (indices d, h, w)."""
        axes = [axis for axis, n in enumerate(distance.shape) if n > 1]
        normal = [slope_at(distance, places, axis, self._spacing[axis]) for axis in axes]
        return _across([slopes[places] for slopes in self._slopes], normal)

    @cached_property
    def _across_own(self) -> np.ndarray:
        """Of the predicted border, at its surface."""
        return self._across(self._distance, np.nonzero(self._surface))

    @cached_property
    def _pieces(self) -> tuple[np.ndarray, int]:
        pieces, count = ndimage.label(self._found, np.ones((3, 3, 3)))
        return pieces, count

    @cached_property
    def _logs(self) -> tuple[np.ndarray, ...]:
        """Logs of the probability and of its opposite, and either times what it is the log of."""
        p = np.clip(self._p, LEAST_ODDS, 1 - LEAST_ODDS)
        log_p, log_q = np.log(p), np.log1p(-p)
        return log_p, log_q, p * log_p, (1 - p) * log_q

    def _touching(self, label: np.ndarray) -> np.ndarray:
        """The predicted pieces that the label touches."""
        pieces, count = self._pieces
        touched = np.zeros(count + 1, bool)
        touched[pieces[label]] = True
        touched[0] = False
        return touched[pieces]

    def _cross_entropy(self, label: np.ndarray, near: np.ndarray, volume: float) -> float:
        p, m = np.clip(self._p[near], 1 - SURE_PROBABILITY, SURE_PROBABILITY), label[near]
        total = float((np.log(SURE_PROBABILITY) - np.where(m, np.log(p), np.log1p(-p))).sum())
        return float(np.log(total / volume + LEAST_DISAGREEMENT / 2))

    def _surprise(self, label: np.ndarray, volume: float, drawn: float) -> float:
        log_p, log_q, of_p, of_q = self._logs
        beyond = -np.where(label, log_p, log_q) + of_p + of_q
        return float((beyond if self._ignored is None else beyond[~self._ignored]).sum()) / (volume + drawn)

    def _beside_prediction(self, mask: np.ndarray, distance: np.ndarray) -> tuple[float, float, float]:
        """The two image sides, and the bias (mm); all 0 where the prediction shows nothing."""
        own, theirs = where_known(surface_voxels(mask, self._spacing, at_image_end=False), self._ignored), self._surface
        if not theirs.any() or not own.any():
            return 0.0, 0.0, 0.0
        across, of_theirs = self._across(distance, np.nonzero(own)), self._across_own
        of_label, of_prediction = float(across.mean()), float(of_theirs.mean())
        far = BORDERS_DIFFER_VOXELS * self._voxel
        usual, to_prediction = (of_label + of_prediction) / 2, self._distance[own]
        apart_own = _usual_mean(across[np.abs(to_prediction) > far], usual)
        apart_theirs = _usual_mean(of_theirs[np.abs(distance[theirs]) > far], usual)
        flat = LEAST_ODDS
        bias = -float(np.clip(to_prediction, -FARTHEST_MM, FARTHEST_MM).mean())
        return (
            float(np.log((of_prediction + flat) / (of_label + flat))),
            float(np.log((apart_theirs + flat) / (apart_own + flat))),
            bias,
        )


def _steepness(channel: np.ndarray, distance: np.ndarray, spacing_dhw: Sequence[float], voxel: float) -> np.ndarray:
    """How much a smoothed image channel changes along the normal of a border, per mm (D, H, W)."""
    smooth = _smoothed(channel, spacing_dhw, voxel)
    axes = [axis for axis, n in enumerate(channel.shape) if n > 1]
    slopes, normal = ([np.gradient(m, spacing_dhw[a], axis=a) for a in axes] for m in (smooth, distance))
    return _across(slopes, normal)


def _across(slopes: Sequence[np.ndarray], normal: Sequence[np.ndarray]) -> np.ndarray:
    """How much a map changes along a normal (of any length), from the slopes of both, a map for each axis."""
    along, size = np.zeros(slopes[0].shape), np.zeros(slopes[0].shape)
    for slope, n in zip(slopes, normal):
        along += slope * n
        size += n**2
    return np.abs(along) / (np.sqrt(size) + 1e-6)


def _smoothed(channel: np.ndarray, spacing_dhw: Sequence[float], voxel: float) -> np.ndarray:
    return ndimage.gaussian_filter(channel.astype(np.float32), [SMOOTHED_VOXELS * voxel / s for s in spacing_dhw])


def _usual_mean(values: np.ndarray, usual: float) -> float:
    """The mean, drawn to the usual one where there are few values."""
    return (float(values.sum()) + USUAL_BORDER_VOXELS * usual) / (len(values) + USUAL_BORDER_VOXELS)


def _log_or_flattest(sharpness: tuple[float, ...] | None) -> float:
    return FLATTEST if sharpness is None else float(np.nan_to_num(sharpness[0], nan=FLATTEST))
