"""Pictures of the module for the README and the catalog: `make screenshots`, some minutes.

What they show has really happened: the phantom of Sample Data, a training by the worker, a refinement and an audit
with its model; panels are the real widgets, views the real displayable managers, off-screen (see slicerbench).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "SVLDRLSegmentation")]

import slicerbench  # noqa: E402

WIDTH = 440
"""Of the module panel in pixels, about what Slicer gives it."""
RIGHT_LABELS = (2, 4, 5, 6)
"""Rows of the phantom's cases whose labels are right, so that one may vouch for them."""
QUICK = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"levels": 3},
    "train": {"steps": 20, "steps_per_epoch": 2, "validate_every": 10, "batch_size": 1},
    "mask_agents": {"transition_steps": 10, "full_rl_steps": 4, "rollout_steps": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "Resources" / "Screenshots")
    parser.add_argument("--quick", action="store_true", help="train for a few steps only: pictures of another model")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    slicerbench.install()
    with tempfile.TemporaryDirectory() as scratch, slicerbench.session() as bench:
        takePictures(bench, Path(scratch), options.output, options.quick)


def takePictures(bench: Any, scratch: Path, output: Path, quick: bool) -> None:
    """The tutorial of the README, step by step."""
    from SVLDRLSegmentationLib import loadPhantom
    from SVLDRLSegmentationLib.jobs.Models import ModelList

    ModelList().folder = scratch / "models"
    bench.load(ROOT / "SVLDRLSegmentation" / "SVLDRLSegmentation.py")
    module = bench.show("SVLDRLSegmentation")
    nodes = loadPhantom(scratch / "SVLDRLPhantom")
    train(bench, module, output, quick)
    refine(bench, module, output, nodes)
    editor(bench, module, output, nodes)
    audit(bench, module, output)
    adapt(bench, module, scratch, output)


def train(bench: Any, module: Any, output: Path, quick: bool) -> None:
    import qt

    tab, ui = module.trainPanel, module.trainPanel.ui
    if quick:
        tab.logic.start = partial(tab.logic.start, overrides=QUICK)
    module.ui.tabs.currentIndex = 1
    ui.presetComboBox.currentIndex = ui.presetComboBox.findText("demo")
    ui.modelNameLineEdit.text = "phantom"
    ui.checkButton.click()
    bench.waitFor(lambda: tab.cases.checking is None, 120)
    for row in RIGHT_LABELS:
        ui.caseTable.item(row, 0).setCheckState(qt.Qt.Checked)
    ui.startButton.click()
    bench.waitFor(lambda: tab.task is None or any(row["stage"] == "full_rl" for row in tab.task.metrics), 1200)
    pictureOfTab(module, output / "train.png")
    bench.waitFor(lambda: tab.task is None, 1800)
    if tab.model is None:
        raise RuntimeError(tab.jobBar.ui.errorLabel.text)
    pictureOfCurves(tab.curves, output / "curves.png")
    ui.useButton.click()


def refine(bench: Any, module: Any, output: Path, nodes: list[Any]) -> None:
    tab, ui = module.refinePanel, module.refinePanel.ui
    ui.applyButton.click()
    bench.waitFor(lambda: tab.task is None, 300)
    if tab.resultBox.result is None:
        raise RuntimeError(tab.jobBar.ui.errorLabel.text)
    bench.waitFor(lambda: tab.resultBox.comparison is None, 120)
    pictureOfTab(module, output / "refine.png")
    ui.addedCheckBox.click()
    ui.removedCheckBox.click()
    changes = tab.logic.showChanges(tab.resultBox.result)
    pictureOfViews(nodes, tab.resultBox.result.segmentationNode, changes, output / "views.png")


def editor(bench: Any, module: Any, output: Path, nodes: list[Any]) -> None:
    """The effect in the Segment Editor after a preview, on the rough mask; then back to the module."""
    import slicer
    from slicerbench import views

    bench.openSegmentEditor()
    slicer.util.selectModule("SegmentEditor")
    widget = slicer.modules.SegmentEditorWidget
    nodes[1].GetDisplayNode().SetVisibility(True)
    widget.editor.setSegmentationNode(nodes[1])
    widget.editor.setSourceVolumeNode(nodes[0])
    widget.editor.setActiveEffectByName("SVL-DRL Refine")
    panel = widget.editor.activeEffect().self().panel
    ui = panel.ui
    ui.modelComboBox.currentIndex = ui.modelComboBox.findData("any structure, snapped")
    ui.regionComboBox.currentIndex = ui.regionComboBox.findData("slices")
    ui.slicesSpinBox.value = 5
    ui.previewButton.click()
    bench.waitFor(lambda: panel.task is None, 120)
    if panel.previewNode is None:
        raise RuntimeError(panel.jobBar.ui.errorLabel.text)
    pictureOf(widget.parent, panel.widget, output / "effect.png")
    for other in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        other.GetDisplayNode().SetVisibility(other in (nodes[1], panel.previewNode))
    nodes[1].GetDisplayNode().SetVisibility2DFill(True)
    views.slice_png(output / "effect_preview.png", nodes[0], "Red", size=(360, 360))
    bench.show("SVLDRLSegmentation")


def audit(bench: Any, module: Any, output: Path) -> None:
    tab, ui = module.auditPanel, module.auditPanel.ui
    module.ui.tabs.currentIndex = 2
    ui.applyButton.click()
    bench.waitFor(lambda: tab.task is None, 600)
    if not tab.rows:
        raise RuntimeError(tab.jobBar.ui.errorLabel.text or "no annotation is doubtful")
    ui.resultTable.selectRow(0)
    ui.resultTable.cellClicked.emit(0, 0)
    pictureOfTab(module, output / "audit.png")


def adapt(bench: Any, module: Any, scratch: Path, output: Path) -> None:
    """The part of the Train tab for images without labels, filled in."""
    tab, ui = module.trainPanel, module.trainPanel.ui
    module.ui.tabs.currentIndex = 1
    images, given = scratch / "other scanner", tab.parameters
    images.mkdir()
    given.adaptSource, given.adaptTarget = given.dataPath, str(images)
    given.adaptFolder = str(scratch / "models" / "adapted")
    ui.casesButton.collapsed = ui.settingsButton.collapsed = True
    ui.adaptButton.collapsed = False
    pictureOfTab(module, output / "adapt.png")


def pictureOfTab(module: Any, path: Path) -> None:
    """The module panel with the current tab, cut below its last widget."""
    pictureOf(module.parent, module.ui.tabs.currentWidget(), path)


def pictureOf(frame: Any, page: Any, path: Path) -> None:
    """A module's panel, cut below the last widget of a page in it."""
    import qt
    import slicer

    for height in (1599, 1600):  # a change of size lays out anew what has just been hidden
        frame.resize(WIDTH, height)
        frame.show()
        slicer.app.processEvents()
    seen = [child for child in page.findChildren(qt.QWidget) if child.isVisible() and child.parentWidget() is page]
    bottom = max(child.mapTo(frame, qt.QPoint(0, child.height)).y() for child in seen)
    with readablePaths(page):
        image = frame.grab(qt.QRect(0, 0, WIDTH, bottom + 12))
    if not image.save(str(path)):
        raise OSError(f"cannot write {path}")


@contextlib.contextmanager
def readablePaths(page: Any) -> Iterator[None]:
    """Show paths in line edits as a user has them, not as this computer's temporary folder is called."""
    import qt

    edits = [edit for edit in page.findChildren(qt.QLineEdit) if tempfile.gettempdir() in edit.text]
    texts = [edit.text for edit in edits]
    for edit, text in zip(edits, texts, strict=True):
        edit.blockSignals(True)
        edit.text = "~/SVLDRLSegmentation/" + "/".join(Path(text).relative_to(tempfile.gettempdir()).parts[1:])
    yield
    for edit, text in zip(edits, texts, strict=True):
        edit.text = text
        edit.blockSignals(False)


def pictureOfViews(nodes: list[Any], refined: Any, changes: Any, path: Path) -> None:
    """Axial slice with the rough mask, with the refined one beside it, with what changed, and the latter in 3D."""
    from slicerbench import views

    volume, rough, true = nodes
    everything = (true, rough, refined, changes)
    tiles = []
    with tempfile.TemporaryDirectory() as scratch:
        for shown in ((rough,), (rough, refined), (changes,)):
            for other in everything:
                other.GetDisplayNode().SetVisibility(other in shown)
            tiles.append(views.slice_png(Path(scratch) / "slice.png", volume, "Red", size=(360, 360)))
        refined.CreateClosedSurfaceRepresentation()
        for other in everything:
            other.GetDisplayNode().SetVisibility(other is refined)
        tiles.append(views.threed_png(Path(scratch) / "view.png", size=(360, 360)))
    gap = np.full((360, 6, 3), 255, np.uint8)
    matplotlib.image.imsave(path, np.hstack([part for tile in tiles for part in (tile, gap)][:-1]))


def pictureOfCurves(curves: Any, path: Path) -> None:
    """The chart node as Slicer's plot view draws it, by matplotlib: the view itself is part of the application."""
    from matplotlib.figure import Figure

    chart = curves.chartNode
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(index)
        table = series.GetTableNode().GetTable()
        x, y = (
            [table.GetColumnByName(name).GetValue(row) for row in range(table.GetNumberOfRows())]
            for name in (series.GetXColumnName(), series.GetYColumnName())
        )
        style = "o" if series.GetLineStyle() == series.LineStyleNone else "-"
        axes.plot(x, y, style, color=series.GetColor(), label=series.GetName(), linewidth=1.6, markersize=4)
    axes.set(title=chart.GetTitle(), xlabel=chart.GetXAxisTitle(), ylabel=chart.GetYAxisTitle())
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
