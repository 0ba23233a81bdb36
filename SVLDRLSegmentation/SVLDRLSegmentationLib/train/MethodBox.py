"""How a training goes, in the Train tab: its method, its preset, and the steps of its stages."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from ..scene.Parameters import Parameters
from ..widgets.UserInterface import Ui
from .NamedChoice import NamedChoice
from .TrainSettings import Preset, TrainingMethod, methods, presets, titleOf

STEP_BOXES = ("warmUpSpinBox", "transitionSpinBox", "fullRlSpinBox")
SLICES = "slices"
"""The preset that is chosen with a method on slices; others work, too."""


class MethodBox:
    """Works on the section Training of TrainPanel.ui; `onChanged` is called when a choice has changed."""

    def __init__(self, ui: Ui) -> None:
        self.ui = ui
        self.parameters: Parameters | None = None
        self.onChanged: Callable[[], None] = lambda: None
        self._methods: NamedChoice[TrainingMethod] = NamedChoice(ui.methodComboBox, ui.methodLabel)
        self._presets: NamedChoice[Preset] = NamedChoice(ui.presetComboBox, ui.presetLabel)
        self._methods.onChosen, self._presets.onChosen = self._onMethod, self._onPreset
        self._toolTips = {name: getattr(ui, name).toolTip for name in STEP_BOXES}

    def refresh(self) -> None:
        """Show the choices that the parameters name."""
        if self.parameters is None:
            return
        self._methods.setEntries(methods(), titleOf)
        self._presets.setEntries(presets())
        self._methods.choose(self.parameters.method)
        self._presets.choose(self.parameters.preset)
        isOwn = self._methods.chosen.isOwn
        for name, steps in zip(STEP_BOXES, self._presets.chosen.steps, strict=True):
            box, first = getattr(self.ui, name), name == STEP_BOXES[0]
            box.setSpecialValueText(_("{steps} (preset)").format(steps=steps))
            box.enabled = isOwn or first
            box.toolTip = self._toolTips[name] if isOwn else _("This method has no such stage.")
        self.ui.warmUpSpinBoxLabel.text = _("Warm-up steps:") if isOwn else _("Steps:")
        if not isOwn:
            self.ui.warmUpSpinBox.toolTip = _("Steps of the whole training.")

    def missing(self) -> str:
        """What does not go together; empty when all does."""
        if self.parameters is None:
            return ""
        method, preset = self._methods.chosen, self._presets.chosen
        if preset.inSteps and not method.onSlices:
            return _("The preset {name} is for agents in pixels. Choose another one, or such a method.").format(
                name=preset.name
            )
        return ""

    def stageSteps(self) -> tuple[int, int, int]:
        """Steps of warm-up, transition and full RL; 0 where the preset's are wanted. Others have the first alone."""
        first, second, third = (int(getattr(self.ui, name).value) for name in STEP_BOXES)
        return (first, second, third) if self._methods.chosen.isOwn else (first, 0, 0)

    def _onMethod(self, name: str) -> None:
        if self.parameters is None:
            return
        if self._methods.chosen.onSlices and not self._presets.chosen.onSlices:
            self.parameters.preset = SLICES
        self.parameters.method = name
        self._changed()

    def _onPreset(self, name: str) -> None:
        if self.parameters is not None:
            self.parameters.preset = name
            self._changed()

    def _changed(self) -> None:
        self.refresh()
        self.onChanged()
