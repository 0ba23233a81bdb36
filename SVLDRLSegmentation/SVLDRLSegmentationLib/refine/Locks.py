"""What a user says of voxels before a refinement: these belong to it, these do not, only there, this is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..jobs.Core import Json
from ..jobs.JobError import JobError
from ..scene.Lattice import boxOf
from ..scene.SceneFiles import LabelLayer, gridOf, worldMatrixOf, writeLayer


@dataclass(frozen=True)
class Locks:
    """Segments of the rough segmentation that steer and hold the others, by their IDs; "" for none.

    Attributes:
        keep: voxels that belong to the structure. never: voxels that do not. only: where something may change.
        rightSlices: slices in which the rough segmentation is right, as "k:3-5", in the volume's IJK.
    """

    keep: str = ""
    never: str = ""
    only: str = ""
    rightSlices: tuple[str, ...] = ()

    @property
    def segmentIDs(self) -> dict[str, str]:
        """Which of keep, never and only are given: name -> segment ID."""
        return {name: i for name in ("keep", "never", "only") if (i := getattr(self, name))}

    def require(self, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> None:
        """JobError where the locks have nothing to hold, or name segments that are not there."""
        if segmentationNode is None:
            if self != Locks():
                raise JobError(
                    _("The locks"), _("there is no rough segmentation that they could hold"), _("Choose one")
                )
            return
        known = list(segmentationNode.GetSegmentation().GetSegmentIDs())
        for segmentID in self.segmentIDs.values():
            if segmentID not in known:
                raise JobError(
                    segmentationNode.GetName(),
                    _("it has no segment with the ID {}").format(segmentID),
                    _("Choose among: {}").format(", ".join(known)),
                )

    def others(self, layers: Sequence[LabelLayer]) -> list[LabelLayer]:
        """The layers without the locks: a structure may grow into what was painted to say that it belongs there."""
        locks = set(self.segmentIDs.values())
        return [LabelLayer(a.array, {i: v for i, v in a.values.items() if i not in locks}) for a in layers]

    def write(
        self,
        layers: Sequence[LabelLayer],
        names: Mapping[str, str],
        grid: slicer.vtkOrientedImageData,
        folder: Path,
    ) -> Json:
        """Write the masks into a folder; returns the options of `svldrl refine` that name them.

        Raises:
            JobError: nothing is drawn in a lock inside of the volume.
        """
        options: Json = {}
        for name, segmentID in self.segmentIDs.items():
            mask = next(a.array == a.values[segmentID] for a in layers if segmentID in a.values)
            if not mask.any():
                why = _("nothing is drawn there inside of the volume")
                raise JobError(names[segmentID], why, _("Draw something, or take it out of the locks"))
            options[name] = f"{name}.seg.nrrd"
            writeLayer(LabelLayer(mask.astype(np.uint8), {name: 1}), {name: name}, grid, folder / options[name])
        return options | ({"right_slices": list(self.rightSlices)} if self.rightSlices else {})


def shownSlice(volumeNode: slicer.vtkMRMLScalarVolumeNode, sliceNode: slicer.vtkMRMLSliceNode) -> str:
    """The volume's slice that a view shows, as "k:3"; "" where the view lies outside of it or shows no single slice.

    It shows one where its plane is that of the volume's voxels, up to a degree.
    """
    toWorld, view = worldMatrixOf(volumeNode), slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
    if toWorld is None:
        return ""
    axes = toWorld[:3, :3] / np.linalg.norm(toWorld[:3, :3], axis=0)
    along = np.abs(view[:3, 2] @ axes)
    axis = int(along.argmax())
    index = round(float((np.linalg.inv(toWorld) @ view[:, 3])[axis]))
    low, high = boxOf(gridOf(volumeNode))
    if along[axis] < np.cos(np.radians(1)) or not low[axis] <= index <= high[axis]:
        return ""
    return f"{'ijk'[axis]}:{index}"
