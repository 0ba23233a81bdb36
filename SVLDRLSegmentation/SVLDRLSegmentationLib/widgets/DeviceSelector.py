"""Where to compute, remembered on this computer."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

SETTING = "SVLDRLSegmentation/Device"


class DeviceSelector:
    """A combo box of devices; the panels share one choice."""

    def __init__(self, comboBox: Any) -> None:
        self._comboBox = comboBox
        choices = [(_("Automatic"), "auto"), (_("Processor (CPU)"), "cpu"), (_("NVIDIA graphics card (CUDA)"), "cuda")]
        for text, device in choices:
            comboBox.addItem(text, device)
        self.refresh()
        comboBox.connect("currentIndexChanged(int)", self._remember)

    @property
    def device(self) -> str:
        """As the core calls it: auto, cpu or cuda."""
        return self._comboBox.itemData(self._comboBox.currentIndex)

    def refresh(self) -> None:
        """Show the remembered choice, which another panel may have changed."""
        self._comboBox.currentIndex = max(0, self._comboBox.findData(slicer.util.settingsValue(SETTING, "auto")))

    def _remember(self, index: int) -> None:
        qt.QSettings().setValue(SETTING, self._comboBox.itemData(index))
