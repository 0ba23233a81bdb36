"""What a training begins with, in the Train tab: nothing, or a model that goes on learning."""

from __future__ import annotations

from pathlib import Path

import qt
from slicer.i18n import tr as _

from ..jobs.Models import ModelList
from ..scene.Parameters import Parameters
from ..widgets.UserInterface import Ui


class BeginBox:
    """A row on top of the section Training of TrainPanel.ui."""

    def __init__(self, ui: Ui) -> None:
        self.parameters: Parameters | None = None
        self.comboBox = qt.QComboBox()
        self.comboBox.objectName = "beginComboBox"
        self.comboBox.toolTip = _(
            "A model goes on with its own network, voxel size and grey values. Structures of the same name keep what "
            "was learned; others begin fresh."
        )
        self.comboBox.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.comboBox.minimumContentsLength = 8
        ui.settingsButton.layout().insertRow(0, _("Begin with:"), self.comboBox)
        self.comboBox.connect("activated(int)", self._onActivated)
        self.refresh()

    def refresh(self) -> None:
        """List the models that are there now; the choice is the parameters'."""
        chosen = "" if self.parameters is None else self.parameters.beginWith
        self.comboBox.clear()
        self.comboBox.addItem(_("Nothing (a new network)"), "")
        for model in ModelList().models():
            self.comboBox.addItem(model.name, str(model.path))
        if self.comboBox.findData(chosen) < 0:
            self.comboBox.addItem(_("{name} (not found)").format(name=Path(chosen).name), chosen)
        self.comboBox.currentIndex = self.comboBox.findData(chosen)

    def _onActivated(self, index: int) -> None:
        if self.parameters is not None:
            self.parameters.beginWith = self.comboBox.itemData(index) or ""
