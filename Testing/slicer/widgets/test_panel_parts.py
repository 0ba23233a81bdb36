"""Parts that the panels share: progress and failures, stages, curves, the list of segments, the models' selector."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import qt
import slicer
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.jobs.Models import folderName
from SVLDRLSegmentationLib.refine.SegmentChecklist import SegmentChecklist
from SVLDRLSegmentationLib.train.CurvePlot import CurvePlot
from SVLDRLSegmentationLib.widgets.JobBar import JobBar, durationText
from SVLDRLSegmentationLib.widgets.StageBar import StageBar
from SVLDRLSegmentationLib.widgets.UserInterface import loadUi


def place(layout: Any) -> Any:
    widget = qt.QWidget()
    widget.setLayout(layout)
    return widget


def test_a_job_bar_tells_progress_failure_and_diagnostics(bench: Any) -> None:
    widget = place(qt.QVBoxLayout())
    bar = JobBar(widget)
    assert bar.ui.progressBar.isHidden()
    bar.begin("Reading", seconds=61)
    bar.progress(0.25, "Predicting", 75)
    assert bar.ui.progressBar.value == 250
    assert bar.ui.statusLabel.text == "Predicting \u00b7 1:01 elapsed \u00b7 about 1:15 left"
    bar.progress(-1.0, "Writing", None)
    assert bar.ui.progressBar.maximum == 0  # busy, how far is not known
    bar.addLog("it said something")
    bar.fail(JobError("image", "it is empty", "Choose another"))
    assert bar.ui.progressBar.isHidden()
    assert bar.ui.errorLabel.text == "image\nWhy: it is empty\nWhat to do: Choose another"
    bar.ui.copyLogButton.click()
    copied = qt.QApplication.clipboard().text()
    assert "it said something" in copied
    assert "Why: it is empty" in copied
    assert f"numpy {np.__version__}" in copied
    bar.begin("Again")
    assert bar.ui.errorFrame.isHidden()
    assert bar.ui.logText.toPlainText() == ""


def test_a_paused_clock_stands_and_cancelling_stays(bench: Any) -> None:
    now = [100.0]
    widget = place(qt.QVBoxLayout())
    bar = JobBar(widget, clock=lambda: now[0])
    bar.begin("Reading")
    now[0] += 10
    bar.progress(0.5, "Warm-up", 75)
    bar.setPaused(True)
    now[0] += 1000
    bar.progress(0.6, "Warm-up", 60)  # the step that was under way
    assert bar.ui.statusLabel.text == "Paused \u00b7 0:10 elapsed \u00b7 about 1:00 left"
    bar.setPaused(False)
    now[0] += 2
    bar.progress(0.7, "Warm-up", 50)
    assert bar.ui.statusLabel.text == "Warm-up \u00b7 0:12 elapsed \u00b7 about 0:50 left"
    bar.cancelling()
    bar.progress(0.8, "Warm-up", 40)
    assert bar.ui.statusLabel.text == "Cancelling... \u00b7 0:12 elapsed"
    bar.begin("Again")
    assert bar.ui.statusLabel.text == "Again \u00b7 0:00 elapsed"


def test_warnings_are_shown_and_stay(bench: Any) -> None:
    widget = place(qt.QVBoxLayout())
    bar = JobBar(widget)
    bar.begin("Reading")
    assert bar.ui.warningFrame.isHidden()
    for text in ("case_1 could not be audited", "Many labels are in pieces", "case_1 could not be audited"):
        bar.addWarning(text)
    bar.end("Done")
    assert not bar.ui.warningFrame.isHidden()
    assert bar.ui.warningLabel.text == "case_1 could not be audited\nMany labels are in pieces"
    bar.begin("Again")
    assert bar.ui.warningFrame.isHidden()


def test_the_log_wraps(bench: Any) -> None:
    widget = place(qt.QVBoxLayout())
    bar = JobBar(widget)
    assert bar.ui.logText.lineWrapMode == qt.QPlainTextEdit.WidgetWidth


def test_durations() -> None:
    assert [durationText(seconds) for seconds in (0, 59.6, 75, 3675)] == ["0:00", "1:00", "1:15", "1:01:15"]


def test_stages_fill_from_left_to_right(bench: Any) -> None:
    widget = place(qt.QHBoxLayout())
    bar = StageBar(widget)
    assert widget.isHidden()
    bar.setStages([("warm_up", 0.5), ("transition", 0.2), ("full_rl", 0.3)])
    assert [widget.layout().itemAt(i).widget().value for i in range(3)] == [0, 0, 0]
    bar.setProgress("transition", 0.25)
    layout = widget.layout()
    assert [layout.itemAt(i).widget().value for i in range(layout.count())] == [1000, 250, 0]
    assert [layout.stretch(i) for i in range(layout.count())] == [500, 200, 300]
    bar.setProgress("reading cases", 0.5)  # no stage of the training
    assert [layout.itemAt(i).widget().value for i in range(layout.count())] == [1000, 250, 0]
    bar.setStages([])
    assert widget.isHidden()


def test_curves_are_nodes_with_gaps_where_nothing_is_known(bench: Any) -> None:
    curves = CurvePlot()
    rows = [
        {"stage": "warm_up", "step": 5, "loss": 0.9, "segmentation_loss": 0.9},
        {"stage": "full_rl", "step": 10, "loss": 0.5, "reward_mean": -0.1, "validation_dice": 0.6},
        {"stage": "mask_opinion", "step": 5, "loss": 0.4},
    ]
    curves.setRows("heart", rows[:1])
    assert curves.chartNode.GetNumberOfPlotSeriesNodes() == 2
    curves.setRows("heart", rows)
    table = curves.tableNode.GetTable()
    assert [table.GetColumnByName("step").GetValue(row) for row in range(3)] == [5, 10, 15]
    assert math.isnan(table.GetColumnByName("reward_mean").GetValue(0))
    assert table.GetColumnByName("validation_dice").GetValue(1) == 0.6
    series = [curves.chartNode.GetNthPlotSeriesNode(i) for i in range(curves.chartNode.GetNumberOfPlotSeriesNodes())]
    assert [node.GetYColumnName() for node in series] == ["loss", "segmentation_loss", "reward_mean", "validation_dice"]
    assert series[-1].GetMarkerStyle() == series[-1].MarkerStyleCircle
    slicer.mrmlScene.Clear()
    curves.setRows("heart", rows)  # drawn anew in the new scene
    assert curves.tableNode.GetScene() is slicer.mrmlScene
    assert curves.chartNode.GetNumberOfPlotSeriesNodes() == 4


def test_the_list_of_segments_follows_the_segmentation(bench: Any, phantomSegmentation: Any) -> None:
    _widget, ui = loadUi("RefinePanel")
    segments, ticked = SegmentChecklist(ui.segmentsList), []
    segments.onTicked = ticked.append
    segments.setNode(phantomSegmentation)
    assert segments.ticked == ["ball", "box"]
    ui.segmentsList.item(0).setCheckState(qt.Qt.Unchecked)
    assert ticked == [["ball"]]
    phantomSegmentation.GetSegmentation().AddEmptySegment("new", "New one")
    assert segments.ticked == ["box", "new"]  # new ones are ticked, the choice stays
    phantomSegmentation.GetSegmentation().GetSegment("box").SetName("Crate")
    assert [ui.segmentsList.item(row).text() for row in range(3)] == ["Ball", "Crate", "New one"]
    phantomSegmentation.GetSegmentation().RemoveSegment("new")
    assert segments.segments == ["ball", "box"]
    segments.setNode(None)
    assert ui.segmentsList.count == 0


def test_names_become_folders() -> None:
    assert folderName(" left atrium: 2/3 ") == "left atrium_ 2_3"
    assert folderName("心房 été.") == "心房 été"
    assert folderName(" .. ") == ""
