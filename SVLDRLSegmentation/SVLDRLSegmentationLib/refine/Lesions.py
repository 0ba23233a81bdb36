"""Lesions as objects: a segment of many pieces becomes a segmentation with a segment a piece, and a table of them."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.Models import ModelLabel
from ..scene.Lattice import boxOf, contentOf, voxelMl
from ..scene.Pieces import piecesByTouch
from ..scene.SceneFiles import LabelLayer, matrixOf, requireInScene, segmentationInVolumeFrame, sourceVolumeOf
from ..scene.WriteBack import addTable, newSegmentationNode, segmentationOfLabels

MOST_LESIONS = 500
"""More segments than these make Slicer slow, and are specks rather than lesions."""
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Lesions:
    """The new nodes: a segment a lesion, the largest first, and a table of their volumes (mL) and centres (RAS mm)."""

    segmentationNode: slicer.vtkMRMLSegmentationNode
    tableNode: slicer.vtkMRMLTableNode
    count: int


def piecesOf(segmentationNode: slicer.vtkMRMLSegmentationNode, segmentID: str) -> int:
    """How many lesions a segment is; 0 where it is empty or gone."""
    segmentation = segmentationNode.GetSegmentation()
    content = None if segmentation.GetSegment(segmentID) is None else contentOf(segmentation, segmentID)
    return 0 if content is None else piecesByTouch(content[1], content[0])[1]


def splitIntoLesions(segmentationNode: slicer.vtkMRMLSegmentationNode, segmentID: str | None = None) -> Lesions:
    """Make a segmentation with a segment for each lesion of a segment; the given one stays as it is.

    Voxels that touch, corners included, are one lesion, as `svldrl evaluate --lesions` counts them.

    Args:
        segmentID: whose pieces; None: the only segment, or the first.

    Raises:
        JobError: the node is gone, it does not say its source volume, the segment is empty, or it has too many pieces.
    """
    requireInScene(segmentationNode)
    volumeNode = sourceVolumeOf(segmentationNode)
    segmentation = segmentationInVolumeFrame(segmentationNode, volumeNode)
    segmentID = segmentID or next(iter(segmentation.GetSegmentIDs()), "")
    segment = segmentation.GetSegment(segmentID)
    content = None if segment is None else contentOf(segmentation, segmentID)
    if segment is None or content is None:
        name = segmentationNode.GetName() if segment is None else segment.GetName()
        raise JobError(name, _("nothing is drawn there"), _("Choose a segment with lesions"))
    grid, mask = content
    labels, count = piecesByTouch(mask, grid)
    if count > MOST_LESIONS:
        why = _("it has {count} pieces, more than {most}").format(count=count, most=MOST_LESIONS)
        do = _("Remove the specks first: Segment Editor, Islands, Remove small islands")
        raise JobError(segment.GetName(), why, do)
    made = [ModelLabel(number, _("lesion {}").format(number), _color(number)) for number in range(1, count + 1)]
    layer = LabelLayer(labels.astype(np.uint16), {label.id: label.value for label in made})
    name = _("{} lesions").format(segment.GetName())
    node = newSegmentationNode(segmentationOfLabels(layer, made, grid), volumeNode, name)
    return Lesions(node, _table(node, volumeNode, labels, grid, count), count)


def _table(
    node: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLScalarVolumeNode, labels: np.ndarray,
    grid: slicer.vtkOrientedImageData, count: int,
) -> slicer.vtkMRMLTableNode:  # fmt: skip
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    index = np.argwhere(labels)
    sums = [np.bincount(labels[labels > 0], index[:, axis], count + 1)[1:] for axis in (2, 1, 0)]
    centres = np.stack(sums, 1) / sizes[:, None] + boxOf(grid)[0]
    world = np.zeros((count, 3))
    for row, centre in enumerate(centres):
        place = [0.0, 0.0, 0.0]
        volumeNode.TransformPointToWorld((matrixOf(grid) @ [*centre, 1.0])[:3].tolist(), place)
        world[row] = place
    columns: dict[str, list[str] | list[float]] = {
        _("Lesion"): [_("lesion {}").format(number) for number in range(1, count + 1)],
        _("Volume (mL)"): (sizes * voxelMl(grid)).tolist(),
    }
    columns |= {f"{axis} (mm)": world[:, place].tolist() for place, axis in enumerate("RAS")}
    return addTable(node.GetName(), columns)


def _color(number: int) -> tuple[float, float, float]:
    """Hues a golden section apart: neighbours in the list never look alike."""
    return colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.65, 0.95)
