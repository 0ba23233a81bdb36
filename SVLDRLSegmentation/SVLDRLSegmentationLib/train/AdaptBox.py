"""What an adaptation to images without labels is started with, in the Train tab: it runs as a training does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from slicer.i18n import tr as _

from ..jobs.Core import coreFolder
from ..scene.Cases import casesOnDisk
from ..scene.Parameters import Parameters
from ..widgets.UserInterface import Ui, chooseFile, chooseFolder
from .CasesBox import problemLine
from .NamedChoice import NamedChoice
from .TrainSettings import Preset, TrainingMethod, adaptations, presets, titleOf


class Adaptation(TypedDict):
    """The arguments of `TrainLogic.startAdaptation` that this box knows."""

    cases: str
    targetImages: str
    outputFolder: str
    preset: str
    method: str
    steps: int


class AdaptBox:
    """Works on the section of TrainPanel.ui; `onChanged` is called when a choice has changed."""

    def __init__(self, ui: Ui) -> None:
        self.ui = ui
        self.parameters: Parameters | None = None
        self.onChanged: Callable[[], None] = lambda: None
        self._methods: NamedChoice[TrainingMethod] = NamedChoice(ui.adaptMethodComboBox, ui.adaptMethodLabel)
        self._presets: NamedChoice[Preset] = NamedChoice(ui.adaptPresetComboBox, ui.adaptPresetLabel)
        self._methods.onChosen, self._presets.onChosen = self._onMethod, self._onPreset
        self._read, self._wrong = "", ""
        lists = _("Data lists (*.json)")
        ui.adaptSourceFolderButton.connect("clicked()", lambda: self._set("adaptSource", chooseFolder(*self._at())))
        ui.adaptSourceFileButton.connect("clicked()", lambda: self._set("adaptSource", self._file(lists)))
        ui.adaptTargetFolderButton.connect("clicked()", lambda: self._set("adaptTarget", chooseFolder(*self._at())))
        ui.adaptTargetFileButton.connect("clicked()", lambda: self._set("adaptTarget", self._file(lists)))
        ui.adaptFolderButton.connect("clicked()", lambda: self._set("adaptFolder", chooseFolder(*self._at())))
        for edit in (ui.adaptSourceLineEdit, ui.adaptTargetLineEdit, ui.adaptFolderLineEdit):
            edit.connect("editingFinished()", self._changed)

    def refresh(self) -> None:
        """Show the choices that the parameters name."""
        if self.parameters is None:
            return
        self._methods.setEntries(adaptations(), titleOf)
        self._presets.setEntries([preset for preset in presets() if not preset.inSteps])
        self._methods.choose(self.parameters.adaptMethod)
        self._presets.choose(self.parameters.adaptPreset)
        steps = _("{steps} (preset)").format(steps=self._presets.chosen.steps[0])
        self.ui.adaptStepsSpinBox.setSpecialValueText(steps)

    def missing(self) -> str:
        """What is missing before an adaptation can start; empty when nothing is."""
        if self.parameters is None:
            return _("There is no scene.")
        source, target = self.parameters.adaptSource.strip(), self.parameters.adaptTarget.strip()
        folder = self.parameters.adaptFolder.strip()
        if not source:
            return _("Choose the labelled images.")
        if wrong := self._wrongSource(source):
            return wrong
        if not target:
            return _("Choose the images without labels.")
        if not Path(target).exists():
            return _("There is no file or folder {path}. Choose the images without labels.").format(path=target)
        if not folder:
            return _("Choose a folder for the adapted model.")
        if Path(folder).is_file() or (Path(folder).is_dir() and any(Path(folder).iterdir())):
            return _("There are files at {path} already. Choose a new or empty folder.").format(path=folder)
        return ""

    def adaptation(self) -> Adaptation:
        """What to start."""
        assert self.parameters is not None
        given = self.parameters
        return {
            "cases": given.adaptSource.strip(),
            "targetImages": given.adaptTarget.strip(),
            "outputFolder": given.adaptFolder.strip(),
            "preset": self._presets.chosen.name,
            "method": self._methods.chosen.name,
            "steps": int(given.adaptSteps),
        }

    def _wrongSource(self, source: str) -> str:
        """What is wrong with the labelled images; they are read again only when their path has changed."""
        if source != self._read:
            coreFolder()
            from SVLDRLCore.errors import InputError

            self._read, self._wrong = source, ""
            try:
                if not casesOnDisk(source)[0]:
                    self._wrong = _("There are no labelled cases at {path}.").format(path=source)
            except InputError as error:
                self._wrong = problemLine(error)
        return self._wrong

    def _at(self) -> tuple[object, str]:
        """A parent for dialogs, and where they begin."""
        return self.ui.adaptSourceLineEdit, "" if self.parameters is None else self.parameters.adaptSource

    def _file(self, kinds: str) -> str:
        parent, start = self._at()
        return chooseFile(parent, kinds, start)

    def _set(self, name: str, path: str) -> None:
        if path and self.parameters is not None:
            setattr(self.parameters, name, path)
            self._changed()

    def _onMethod(self, name: str) -> None:
        if self.parameters is not None:
            self.parameters.adaptMethod = name
            self._changed()

    def _onPreset(self, name: str) -> None:
        if self.parameters is not None:
            self.parameters.adaptPreset = name
            self.refresh()
            self._changed()

    def _changed(self) -> None:
        self.onChanged()
