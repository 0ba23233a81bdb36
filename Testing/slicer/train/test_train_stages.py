"""The Train tab follows the stages that a training announces: three, or others of an earlier version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from panel_tools import panel  # noqa: F401
from SVLDRLSegmentationLib.scene.Cases import Cases
from SVLDRLSegmentationLib.train.CheckTask import CheckTask
from SVLDRLSegmentationLib.train.TrainPanel import TrainPanel
from SVLDRLSegmentationLib.train.TrainTask import TrainTask

CONFIG = {
    "train": {"steps": 10}, "stages": {"warm_up": 0.5, "transition": 0.2, "full_rl": 0.3},
    "mask_agents": {"enabled": True, "opinion_steps": 6, "reinforcement_steps": 4},
}  # fmt: skip
THREE = (("warm_up", 0, 10, 10), ("transition", 0, 6, 10), ("full_rl", 6, 10, 10))
EARLIER = (
    ("warm_up", 0, 5, 10), ("transition", 5, 7, 10), ("full_rl", 7, 10, 10),
    ("mask_opinion", 0, 6, 10), ("mask_agents", 6, 10, 10),
)  # fmt: skip
"""Stages with the first and the last step of their count, and how many steps it has."""


class FakeTrainings:
    """Stands for `TrainLogic`: a training that says what a test lets it say, without a worker."""

    def __init__(self, folder: Path) -> None:
        self.current: TrainTask | None = TrainTask(folder, {}, CONFIG)

    def start(self, *arguments: object, **options: object) -> TrainTask:
        raise AssertionError("the tab finds the training that runs")

    def startAdaptation(self, *arguments: object, **options: object) -> TrainTask:
        raise AssertionError("the tab finds the training that runs")

    def startCheck(self, cases: Cases) -> CheckTask:
        raise AssertionError("no cases are checked")

    def unfinished(self) -> list[Path]:
        return []


@pytest.fixture
def tab(panel: Any, tmp_path: Path) -> TrainPanel:  # noqa: F811
    """A Train tab that has found a running training."""
    found = TrainPanel(FakeTrainings(tmp_path / "heart"))
    found.enter()
    return found


def bars(tab: TrainPanel) -> list[tuple[str, int]]:
    """Text and progress (of 1000) of each piece of the stage bar, from the left."""
    layout = tab.ui.stagePlace.layout()
    return [(bar.format, bar.value) for bar in (layout.itemAt(i).widget() for i in range(layout.count()))]


def run(tab: TrainPanel, stages: tuple[tuple[str, int, int, int], ...]) -> None:
    """All steps of these stages, with rows of metrics."""
    task = tab.task
    assert task is not None
    for name, first, last, total in stages:
        task._event({"event": "stage", "stage": name, "step": first, "last": last})
        for step in range(first + 1, last + 1):
            task._event({"event": "metrics", "stage": name, "step": step, "loss": 1.0 / step})
            task._event({"event": "progress", "stage": name, "done": step, "total": total, "time": float(step)})


def test_three_stages(tab: TrainPanel) -> None:
    assert bars(tab) == [("Warm-up", 0), ("Transition", 0), ("Full RL", 0)]
    run(tab, THREE[:1])
    assert bars(tab) == [("Warm-up", 1000), ("Transition", 0), ("Full RL", 0)]
    assert tab.jobBar.ui.progressBar.value == 500
    run(tab, (("transition", 0, 3, 10),))
    run(tab, THREE[1:])
    assert bars(tab) == [("Warm-up", 1000), ("Transition", 1000), ("Full RL", 1000)]
    assert tab.jobBar.ui.progressBar.value == 1000
    assert tab.jobBar.ui.statusLabel.text.startswith("Full RL")


def test_stages_of_an_earlier_version(tab: TrainPanel) -> None:
    run(tab, EARLIER[:3])
    assert bars(tab) == [("Warm-up", 1000), ("Transition", 1000), ("Full RL", 1000)]
    assert tab.jobBar.ui.progressBar.value == 500
    run(tab, EARLIER[3:])
    assert [text for text, _value in bars(tab)][3:] == ["Transition (mask)", "Full RL (mask)"]
    assert {value for _text, value in bars(tab)} == {1000}


@pytest.mark.parametrize("stages", [THREE, EARLIER], ids=["three", "earlier"])
def test_curves_have_one_axis(tab: TrainPanel, stages: tuple[tuple[str, int, int, int], ...]) -> None:
    run(tab, stages)
    table = tab.curves.tableNode.GetTable()
    steps = [table.GetColumnByName("step").GetValue(row) for row in range(table.GetNumberOfRows())]
    assert steps == list(range(1, 21))
