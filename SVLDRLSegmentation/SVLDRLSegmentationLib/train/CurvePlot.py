"""Curves of a training as nodes of the scene: a table, a series each, a chart in the plot view."""

from __future__ import annotations

import math
from collections.abc import Sequence

import slicer
import vtk
from slicer.i18n import tr as _

from ..jobs.Core import Json

CURVES = {
    "loss": (_("Loss"), (0.35, 0.35, 0.35)),
    "segmentation_loss": (_("Segmentation loss"), (0.84, 0.37, 0.0)),
    "value_loss": (_("Agents: value loss"), (0.8, 0.47, 0.65)),
    "policy_loss": (_("Agents: policy loss"), (0.34, 0.71, 0.91)),
    "reward_mean": (_("Agents: reward"), (0.0, 0.62, 0.45)),
    "target_loss": (_("Loss on images without labels"), (0.9, 0.62, 0.0)),
    "strength": (_("Strength of pseudo-labels"), (0.6, 0.6, 0.6)),
    "episode_dice": (_("Agents: Dice at the end"), (0.0, 0.3, 0.3)),
    "validation_dice": (_("Dice on held-out cases"), (0.0, 0.45, 0.7)),
}
"""Logged name -> legend and colour (told apart by colour-blind people, too)."""
ATTRIBUTE = "SVLDRLSegmentation.Training"
"""Of table and chart: the training that they show, so that another panel goes on with them."""
SPARSE = ("validation_dice",)
"""Not in every row: drawn as markers, since lines break at missing values."""


class CurvePlot:
    """Nodes are made with the first row, and made anew when the user deleted them or closed the scene."""

    def __init__(self) -> None:
        self.tableNode: slicer.vtkMRMLTableNode = None
        self.chartNode: slicer.vtkMRMLPlotChartNode = None
        self._name = ""

    def setRows(self, name: str, rows: Sequence[Json]) -> None:
        """Show these metrics rows (`step` and logged numbers), all of them each time."""
        if not rows:
            return
        if name != self._name or not self._alive():
            self._create(name)
        table = self.tableNode.GetTable()
        wasModifying = self.tableNode.StartModify()
        table.SetNumberOfRows(len(rows))
        for index, row in enumerate(onOneAxis(rows)):
            for column, key in enumerate(("step", *CURVES)):
                value = row.get(key)
                table.GetColumn(column).SetValue(index, math.nan if value is None else float(value))
        for array in range(table.GetNumberOfColumns()):
            table.GetColumn(array).Modified()
        table.Modified()
        self.tableNode.EndModify(wasModifying)
        self.tableNode.Modified()
        self._addSeries({key for row in rows for key in row if row[key] is not None})

    def show(self) -> None:
        """Put the chart into the plot view, with a layout that has one."""
        if self._alive():
            slicer.modules.plots.logic().ShowChartInLayout(self.chartNode)

    def _alive(self) -> bool:
        nodes = (self.tableNode, self.chartNode)
        return all(node is not None and node.GetScene() == slicer.mrmlScene for node in nodes)

    def _create(self, name: str) -> None:
        self._name = name
        nodes = [*slicer.util.getNodesByClass("vtkMRMLTableNode"), *slicer.util.getNodesByClass("vtkMRMLPlotChartNode")]
        earlier = [node for node in nodes if node.GetAttribute(ATTRIBUTE) == name]
        if len(earlier) == 2 and earlier[0].GetNumberOfColumns() == 1 + len(CURVES):
            self.tableNode, self.chartNode = earlier
            return
        title = _("Training of {name}").format(name=name)
        self.tableNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", title)
        for key in ("step", *CURVES):
            array = vtk.vtkDoubleArray()
            array.SetName(key)
            self.tableNode.AddColumn(array)
        self.chartNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", title)
        for node in (self.tableNode, self.chartNode):
            node.SetAttribute(ATTRIBUTE, name)
        self.chartNode.SetTitle(title)
        self.chartNode.SetXAxisTitle(_("Step"))
        self.chartNode.SetYAxisTitle(_("Losses, reward, Dice"))

    def _addSeries(self, present: set[str]) -> None:
        """A series for each curve that has values by now."""
        known = {self.chartNode.GetNthPlotSeriesNode(i).GetYColumnName() for i in range(self._seriesCount())}
        for key, (legend, color) in CURVES.items():
            if key not in present or key in known:
                continue
            series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", legend)
            series.SetAndObserveTableNodeID(self.tableNode.GetID())
            series.SetPlotType(series.PlotTypeScatter)
            series.SetXColumnName("step")
            series.SetYColumnName(key)
            series.SetColor(*color)
            sparse = key in SPARSE
            series.SetMarkerStyle(series.MarkerStyleCircle if sparse else series.MarkerStyleNone)
            series.SetLineStyle(series.LineStyleNone if sparse else series.LineStyleSolid)
            self.chartNode.AddAndObservePlotSeriesNodeID(series.GetID())

    def _seriesCount(self) -> int:
        return self.chartNode.GetNumberOfPlotSeriesNodes()


def onOneAxis(rows: Sequence[Json]) -> list[Json]:
    """Rows with steps that go on where a stage begins to count anew.

    Example:
        >>> [row["step"] for row in onOneAxis([{"stage": "warm_up", "step": 8}, {"stage": "transition", "step": 2}])]
        [8, 10]
    """
    placed: list[Json] = []
    before, last = 0, 0
    for row in rows:
        if placed and (row["step"] <= last or row.get("epoch") == 1):
            before += last
        last = row["step"]
        placed.append({**row, "step": before + last})
    return placed
