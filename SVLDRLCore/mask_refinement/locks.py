"""What a user says of single voxels: these belong to it, these do not, only there, these slices are right.

A lock steers first: the rough mask gets the kept voxels and loses the forbidden ones. Then it holds: what is locked
is in the result as it was steered, whatever a refiner did.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.cropped_segmentations import on_image_grid
from SVLDRLCore.files.volumes import Geometry, Volume, read_label, require_same_geometry
from SVLDRLCore.masks.boxes import bounding_box

AXES = {"k": 0, "j": 1, "i": 2}
"""Of an array (D, H, W); a file counts i fastest."""
_RANGE = re.compile(r"([ijk]):(\d{1,6})(?:-(\d{1,6}))?")


@dataclass(frozen=True)
class LockFiles:
    """Where the locks come from: files of masks on the image's grid, and slices as "k:3-5"."""

    keep: str | Path | None = None
    never: str | Path | None = None
    only: str | Path | None = None
    right_slices: tuple[str, ...] = ()

    def paths(self) -> list[str | Path]:
        """The files that are given."""
        return [path for path in (self.keep, self.never, self.only) if path is not None]

    def given(self) -> bool:
        """Whether anything is locked."""
        return bool(self.paths() or self.right_slices)

    def require_rough(self, rough: str | Path | None) -> None:
        """InputError for locks without a rough mask, which they would hold."""
        if rough is None and self.given():
            raise InputError("The locks", "there is no rough mask that they could hold", "Give one, or leave them out")

    def read(self, image: Volume) -> Locks | None:
        """The masks on the image's grid; None where nothing is locked.

        Raises:
            InputError: a mask that cannot be read, lies elsewhere or is empty; a voxel that is kept and forbidden;
                slices that are not there.
        """
        if not self.given():
            return None
        keep, never, only = (_mask(path, image) for path in (self.keep, self.never, self.only))
        if keep is not None and never is not None and (keep & never).any():
            why = f"{int((keep & never).sum())} of its voxels are in {self.never}, too"
            raise InputError(str(self.keep), why, "A voxel is kept or forbidden: take it out of one of the two")
        return Locks(keep, never, only, slices_of(self.right_slices, image.geometry))


@dataclass(frozen=True)
class Locks:
    """Masks (D, H, W), boolean, or None.

    Attributes:
        keep: voxels that belong to the structure; never: that do not.
        only: where something may change.
        right: slices in which the rough mask is right.

    Where they disagree, `right` and `only` go before `keep` and `never`: they say that nothing changes.
    """

    keep: np.ndarray | None = None
    never: np.ndarray | None = None
    only: np.ndarray | None = None
    right: np.ndarray | None = None

    def steered(
        self,
        label: np.ndarray,
        values: Mapping[int, Sequence[int]],
        members: Mapping[int, Sequence[int]] | None = None,
        spacing_dhw: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> np.ndarray:
        """The label map (D, H, W) with the kept voxels and without the forbidden ones.

        Args:
            values: of the structures to refine: index -> label values; members: the same with all that lies within
                them, where structures are nested.

        A kept voxel in which a segment lies stays this segment's. One in which nothing lies is given to a structure to
        refine: to the one that its piece of kept voxels lies in, else to the nearest in mm (`_give`).
        """
        result, free = label.copy(), ~self.unchanged(label.shape)
        if self.never is not None:
            result[self.never & free & np.isin(label, [v for each in (members or values).values() for v in each])] = 0
        if self.keep is not None:
            given = self.keep & free & (label == 0)
            if len(values) == 1:
                ((value, *_),) = values.values()
                result[given] = value
            elif given.any():
                _give(result, given, self.keep, [v for each in values.values() for v in each], spacing_dhw)
        return result

    def unchanged(self, shape: Sequence[int]) -> np.ndarray:
        """Boolean (D, H, W): where the rough mask stays as it was drawn."""
        stays = np.zeros(tuple(shape), bool)
        if self.only is not None:
            stays |= ~self.only
        if self.right is not None:
            stays |= self.right
        return stays

    def locked(self, shape: Sequence[int]) -> np.ndarray:
        """Boolean (D, H, W): where the result is the steered label map."""
        masks = [mask for mask in (self.keep, self.never) if mask is not None]
        return np.logical_or.reduce([self.unchanged(shape), *masks])

    def held(self, result: np.ndarray, steered: np.ndarray) -> np.ndarray:
        """The result (D, H, W) with what is locked."""
        return np.where(self.locked(result.shape), steered, result).astype(result.dtype)

    def surer(self, confidence: np.ndarray) -> np.ndarray:
        """The confidence (D, H, W), 1 where the user has said it."""
        return np.where(self.locked(confidence.shape), np.float32(1), confidence)


def _give(
    label: np.ndarray, given: np.ndarray, keep: np.ndarray, values: Sequence[int], spacing_dhw: Sequence[float]
) -> None:
    """Give voxels of a label map (D, H, W) to some of its values, in place.

    A stroke is meant as a whole: all of a piece of `keep` goes to the value that some of it has; where it has several,
    each voxel to the nearest; where it has none, to the one that lies nearest to the piece.
    """
    ours = np.isin(label, values)
    box = bounding_box(ours | keep, (0, 0, 0))
    near, ours, given = label[box], ours[box], given[box]
    if not ours.any():
        return
    pieces, _ = ndimage.label(keep[box], np.ones((3, 3, 3)))
    distance, nearest = ndimage.distance_transform_edt(~ours, spacing_dhw, return_indices=True)
    beside = near[tuple(nearest)]
    for number, place in enumerate(ndimage.find_objects(pieces), 1):
        inside = pieces[place] == number
        new = inside & given[place]
        if new.any():
            has = np.unique(near[place][inside & ours[place]])
            if not len(has):
                has = beside[place][inside][[distance[place][inside].argmin()]]
            near[place][new] = has[0] if len(has) == 1 else beside[place][new]


def slices_of(ranges: Sequence[str], geometry: Geometry) -> np.ndarray | None:
    """Boolean (D, H, W) of slices as "k:3-5" or "i:7": axis of the file's own order, counted from 0, both included.

    Raises:
        InputError: another form, or slices that the image does not have.
    """
    if not ranges:
        return None
    mask = np.zeros(geometry.size_dhw, bool)
    for text in ranges:
        found = _RANGE.fullmatch(text.strip())
        if found is None:
            raise InputError(f"--right-slices {text}", "it is not AXIS:FIRST-LAST", "Write for example k:3-5")
        axis, first = AXES[found[1]], int(found[2])
        last, count = int(found[3] or found[2]), geometry.size_dhw[axis]
        if not first <= last < count:
            why = f"the image has the slices 0 to {count - 1} along {found[1]}"
            raise InputError(f"--right-slices {text}", why, "Choose slices among them, the first one first")
        mask[(slice(None),) * axis + (slice(first, last + 1),)] = True
    return mask


def _mask(path: str | Path | None, image: Volume) -> np.ndarray | None:
    if path is None:
        return None
    label = on_image_grid(read_label(path), image.geometry)
    require_same_geometry(image, label)
    mask = label.array != 0
    if not mask.any():
        raise InputError(str(path), "no voxel is set in it", "Draw something, or leave it out")
    return mask
