"""Refine a folder or a list of cases on disk, and look at single ones of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.Models import ModelList
from .RefineListTask import RefinedRow, RefineListTask, readRefinedList
from .RefineLogic import RefineOptions

__all__ = ["RefineListLogic", "RefinedRow", "readRefinedList"]

Loaded: TypeAlias = (
    "tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode | None, slicer.vtkMRMLSegmentationNode]"
)
"""Volume, rough segmentation (None where there is none) and refined one."""


class RefineListLogic:
    """Refine all cases of a list.

    Example:
        >>> logic = RefineListLogic()
        >>> rows = logic.start("heart/images and masks", "heart/refined").wait()
        >>> volume, rough, refined = logic.load(rows[0])
    """

    def __init__(self) -> None:
        self._loaded: dict[Path, Loaded] = {}

    def start(
        self,
        cases: str | Path,
        outputFolder: str | Path,
        *,
        model: str | Path | None = None,
        structures: Sequence[str] = (),
        overwrite: bool = False,
        options: RefineOptions | None = None,
    ) -> RefineListTask:
        """Start refining and return at once; see `RefineListTask`.

        Args:
            cases: a data list (JSON), a CSV with the columns image and rough, or a folder of images with masks.
            outputFolder: for a .seg.nrrd a case and the table refined.csv. Cases that are done there already, with the
                same model and options, are not done again.
            model: a model's folder or zip, or a finished training's folder; None refines any structure.
            structures: names of those to refine; all if none is named.
            overwrite: begin anew, and replace what is there.

        Raises:
            JobError: list or model cannot be used.
        """
        asked = options or RefineOptions()
        if not Path(cases).exists():
            raise JobError(str(cases), _("it is not there"), _("Choose a folder, a data list or a CSV"))
        found = None if model is None else ModelList().read(model).path
        core = {**asked.coreOptions(), "structures": list(structures)}
        task = RefineListTask(Path(cases), Path(outputFolder), found, core, overwrite)
        task.start()
        return task

    def load(self, row: RefinedRow) -> Loaded:
        """Load a row's image, rough mask and result, and show them; what was loaded for another row is hidden.

        Raises:
            JobError: the case has no result, or a file cannot be read.
        """
        if row.refined is None:
            raise JobError(row.case, _("it has no result"), row.error or row.reason)
        for nodes in self._loaded.values():
            for node in nodes[1:]:
                if node is not None and node.GetScene() is slicer.mrmlScene and node.GetDisplayNode() is not None:
                    node.GetDisplayNode().SetVisibility(False)
        loaded = self._loaded.get(row.refined)
        if loaded is None or any(node is not None and node.GetScene() is not slicer.mrmlScene for node in loaded):
            loaded = self._loaded[row.refined] = _load(row)
        for node in loaded[1:]:
            if node is not None and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(True)
        slicer.util.setSliceViewerLayers(background=loaded[0], fit=True)
        return loaded


def _load(row: RefinedRow) -> Loaded:
    nodes: list[slicer.vtkMRMLNode | None] = []
    try:
        nodes.append(slicer.util.loadVolume(str(row.image), {"name": row.case, "show": False}))
        for path, name in ((row.rough, _("{} rough")), (row.refined, _("{} refined"))):
            node = None
            if path is not None:
                node = slicer.util.loadSegmentation(str(path), {"name": name.format(row.case)})
                node.SetReferenceImageGeometryParameterFromVolumeNode(nodes[0])
            nodes.append(node)
    except RuntimeError as error:
        for node in filter(None, nodes):
            slicer.mrmlScene.RemoveNode(node)
        raise JobError(row.case, _("it cannot be loaded ({})").format(error), _("Check the case's files")) from error
    volume, rough, refined = nodes
    return volume, rough, refined
