"""The part "Locks" of the Refine tab: segments that steer the others, and slices that are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import slicer
from slicer.i18n import tr as _

from ..scene.Parameters import Parameters
from ..widgets.UserInterface import Ui, setReady
from .Locks import Locks, shownSlice

VIEW = "Red"


class LocksBox:
    """Works on the Locks of RefinePanel.ui; `onChanged` is called when something is chosen."""

    def __init__(self, ui: Ui) -> None:
        self.ui = ui
        self.onChanged: Callable[[], None] = lambda: None
        self.parameters: Parameters | None = None
        self._names: dict[str, str] = {}
        self._boxes = {
            "keepSegment": ui.keepSegmentComboBox,
            "neverSegment": ui.neverSegmentComboBox,
            "onlySegment": ui.onlySegmentComboBox,
        }
        for box in self._boxes.values():
            box.connect("currentIndexChanged(int)", self._onChosen)
        ui.addSliceButton.connect("clicked()", self._onAddSlice)
        ui.rightSlicesLineEdit.connect("textChanged(QString)", self._onText)

    def show(self, parameters: Parameters | None, names: Mapping[str, str]) -> None:
        """Offer these segments (ID -> name); what was chosen and is not among them counts as none."""
        self.parameters, self._names = parameters, dict(names)
        offered = {"": _("None"), **names}
        for parameter, box in self._boxes.items():
            wasBlocked = box.blockSignals(True)
            if {box.itemData(i): box.itemText(i) for i in range(box.count)} != offered:
                box.clear()
                for segmentID, name in offered.items():
                    box.addItem(name, segmentID)
            chosen = "" if parameters is None else getattr(parameters, parameter)
            box.currentIndex = max(box.findData(chosen), 0)
            box.blockSignals(wasBlocked)
        self.ui.locksButton.enabled = parameters is not None and bool(names)
        volumeNode = None if parameters is None else parameters.inputVolume
        missing = _("Choose a source volume.") if volumeNode is None else ""
        tip = _("Add the slice that the red slice view shows now, in which the rough segmentation is right.")
        setReady(self.ui.addSliceButton, missing, tip)

    @property
    def locks(self) -> Locks:
        """What is chosen."""
        if self.parameters is None or not self._names:
            return Locks()
        keep, never, only = (i if (i := getattr(self.parameters, p)) in self._names else "" for p in self._boxes)
        return Locks(keep, never, only, tuple(self.parameters.rightSlices.replace(",", " ").split()))

    def _onChosen(self, index: int) -> None:
        if self.parameters is None:
            return
        for parameter, box in self._boxes.items():
            setattr(self.parameters, parameter, box.itemData(box.currentIndex) or "")
        self.onChanged()

    def _onText(self, text: str) -> None:
        self.onChanged()

    def _onAddSlice(self) -> None:
        given = self.parameters
        assert given is not None, "the button is enabled with parameters alone"
        widget = slicer.app.layoutManager().sliceWidget(VIEW)
        found = shownSlice(given.inputVolume, widget.mrmlSliceNode())
        if found and found not in given.rightSlices.split():
            given.rightSlices = f"{given.rightSlices} {found}".strip()
