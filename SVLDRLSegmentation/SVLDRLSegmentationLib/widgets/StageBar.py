"""The stages of a training as one bar: a piece for each, as wide as its share of the steps."""

from __future__ import annotations

import re
from collections.abc import Sequence

import qt
from slicer.i18n import tr as _


def stageText(stage: str) -> str:
    """A stage's name as people read it."""
    texts = {
        "warm_up": _("Warm-up"),
        "transition": _("Transition"),
        "full_rl": _("Full RL"),
        "robust": _("Main stage"),  # of other methods
        "mask_opinion": _("Transition (mask)"),  # the agents' stages of trainings with versions before 0.2
        "mask_agents": _("Full RL (mask)"),
        "reading cases": _("Reading cases"),
        "exporting": _("Exporting"),
        "check": _("Checking the data"),
        "reviewing labels": _("Reviewing the labels"),
        "asking label agents": _("Reviewing the labels"),
        "reading images without labels": _("Reading images without labels"),
        "predicting images without labels": _("Predicting images without labels"),
        "purifying pseudo-labels": _("Purifying the pseudo-labels"),
        "training the region agent": _("Training the region agent"),
        "preparing mask agents": _("Preparing the agents"),
        "auditing": _("Comparing annotations with predictions"),
        "evaluate": _("Measuring"),
        "predicting": _("Predicting"),
        "refining": _("Refining"),
        "writing": _("Writing"),
    }
    network = re.fullmatch(r"training network (\d+) of (\d+)", stage)
    if network:
        return _("Training network {number} of {count}").format(number=network[1], count=network[2])
    return texts.get(stage, stage.replace("_", " ").capitalize())


class StageBar:
    """Progress bars side by side that read as one."""

    def __init__(self, place: qt.QWidget) -> None:
        """`place`: an empty widget with a horizontal layout."""
        self._place = place
        self._bars: dict[str, qt.QProgressBar] = {}
        self._stages: list[tuple[str, float]] = []
        place.visible = False

    def setStages(self, stages: Sequence[tuple[str, float]]) -> None:
        """Names and shares of the stages, in their order; none hides the bar."""
        if list(stages) == self._stages:
            return
        self._stages = list(stages)
        for bar in self._bars.values():
            self._place.layout().removeWidget(bar)
            bar.deleteLater()
        self._bars = {}
        for name, share in stages:
            bar = qt.QProgressBar()
            bar.setRange(0, 1000)
            bar.value = 0  # else it is "not begun", and shows no text
            bar.format = stageText(name)
            bar.setMinimumWidth(qt.QFontMetrics(bar.font).horizontalAdvance(bar.format) + 8)
            bar.toolTip = _("{stage}: {percent} % of all steps").format(
                stage=stageText(name), percent=round(100 * share)
            )
            self._place.layout().addWidget(bar, max(1, round(1000 * share)))
            self._bars[name] = bar
        self._place.visible = bool(self._bars)

    def setProgress(self, stage: str, fraction: float) -> None:
        """`fraction` of `stage` is done, and all of the stages before it; unknown stages change nothing."""
        if stage not in self._bars:
            return
        names = list(self._bars)
        for index, name in enumerate(names):
            here = names.index(stage)
            self._bars[name].value = 1000 if index < here else round(1000 * fraction) if index == here else 0
