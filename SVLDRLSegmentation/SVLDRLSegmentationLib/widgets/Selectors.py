"""What is chosen on this computer: a device to compute on, and a model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.Models import Model, ModelList
from .UserInterface import chooseFile, chooseFolder

SETTING = "SVLDRLSegmentation/Device"


def rememberedDevice() -> str:
    """The device that the panels have chosen on this computer."""
    return slicer.util.settingsValue(SETTING, "auto")


class DeviceSelector:
    """A combo box of devices; the panels share one choice."""

    def __init__(self, comboBox: qt.QComboBox) -> None:
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
        self._comboBox.currentIndex = max(0, self._comboBox.findData(rememberedDevice()))

    def _remember(self, index: int) -> None:
        qt.QSettings().setValue(SETTING, self._comboBox.itemData(index))


ANY_STRUCTURE = "any structure"
"""In place of a model's path: even out a rough segmentation of anything."""
SNAP_TO_EDGES = "any structure, snapped"
"""In place of a model's path: move the border of anything onto the visible edge."""
NO_MODEL = "no model"
"""In place of a model's path: check the data set against itself."""
CHOICES = (ANY_STRUCTURE, SNAP_TO_EDGES, NO_MODEL)
_GONE = ("this case",)
"""Choices that scenes of 0.1 may hold."""


def _textsInstead(choice: str) -> tuple[str, str]:
    """What is chosen in place of a model: the entry, and what is told of it."""
    if choice == ANY_STRUCTURE:
        return _("Any structure: even out (no training)"), _(
            "Repairs what deviates from your own way of drawing: gaps, rough borders, leaks. The border stays as far "
            "from the edge as you drew it."
        )
    if choice == SNAP_TO_EDGES:
        return _("Any structure: snap to edges (no training)"), _(
            "Moves the whole border onto the visible edge. Where the volume shows none clearly, it stays as drawn."
        )
    return _("No model: cross-check the data set against itself"), _(
        "Small networks are trained, each without a part of the cases, so that every annotation is compared with a "
        "network that has not seen it. That takes some minutes (more for many cases). You may cancel and go on later."
    )


class ModelSelector:
    """Lists the models of this computer; `onChanged` is called with the path when the user chooses another one.

    `offers`: choices in place of a model, such as ANY_STRUCTURE or NO_MODEL; `usual`: the one where none is chosen.
    """

    def __init__(
        self,
        comboBox: qt.QComboBox,
        browseButton: qt.QToolButton,
        label: qt.QLabel,
        offers: Sequence[str] = (),
        usual: str = "",
    ) -> None:
        self._comboBox, self._browseButton, self._label = comboBox, browseButton, label
        self._offers, self._usual = tuple(offers), usual
        self._path = usual
        self._models: dict[str, Model] = {}
        self.onChanged: Callable[[str], None] = lambda path: None
        self._addBrowseMenu()
        comboBox.connect("currentIndexChanged(int)", self._onIndex)
        self.refresh()

    @property
    def path(self) -> str:
        """Of the chosen model; what is offered in its place; or empty when none is chosen."""
        return self._path

    @path.setter
    def path(self, path: str) -> None:
        if path in (*CHOICES, *_GONE) and path not in self._offers:
            path = ""  # chosen in another tab or by an earlier version, and no model here
        path = path or self._usual
        if path != self._path:
            self._path = path
            self.refresh()

    def refresh(self) -> None:
        """List what is there now; the choice stays."""
        self._models = {str(model.path): model for model in ModelList().models()}
        self._readChosen()
        wasBlocked = self._comboBox.blockSignals(True)
        self._comboBox.clear()
        if not self._path:
            self._comboBox.addItem(_("Choose a model"), "")
        models = [(model.name, path) for path, model in self._models.items()]
        offers = [(_textsInstead(offer)[0], offer) for offer in self._offers]
        for text, path in offers + models if self._usual else models + offers:
            self._comboBox.addItem(text, path)
        if self._comboBox.findData(self._path) < 0:
            self._comboBox.addItem(_("{name} (not found)").format(name=Path(self._path).name), self._path)
        self._comboBox.currentIndex = self._comboBox.findData(self._path)
        self._comboBox.blockSignals(wasBlocked)
        self._showAbout()

    def browse(self, path: str) -> None:
        """Add a model that lies elsewhere and choose it."""
        if not path:
            return
        try:
            self._choose(str(ModelList().remember(path).path))
        except JobError as error:
            self._label.text = f"{error.what}: {error.why}. {error.do}"
            self._label.visible = True

    def _readChosen(self) -> None:
        """A model of a scene that was made elsewhere need not be in the list."""
        if self._path not in ("", *self._offers, *self._models):
            with contextlib.suppress(JobError):  # shown as not found
                self._models[self._path] = ModelList().read(self._path)

    def _addBrowseMenu(self) -> None:
        menu = qt.QMenu(self._browseButton)
        for text, choose in (
            (_("Model folder..."), lambda: chooseFolder(self._browseButton)),
            (_("Model zip..."), lambda: chooseFile(self._browseButton, _("Models (*.zip)"))),
        ):
            action = menu.addAction(text)
            action.connect("triggered()", lambda choose=choose: self.browse(choose()))
        self._browseButton.setMenu(menu)
        self._browseButton.setPopupMode(qt.QToolButton.InstantPopup)

    def _onIndex(self, index: int) -> None:
        self._choose(self._comboBox.itemData(index) or "")

    def _choose(self, path: str) -> None:
        self.path = path
        self._showAbout()
        self.onChanged(path)

    def _showAbout(self) -> None:
        model = self._models.get(self._path)
        if model is not None:
            text = _("Knows {structures}.").format(structures=", ".join(model.structures))
            if model.channels > 1:
                text += " " + _("It needs {count} images.").format(count=model.channels)
        elif self._path in self._offers:
            text = _textsInstead(self._path)[1]
        elif self._path:
            text = _("There is no model at {path}").format(path=self._path)
        else:
            text = ""
        self._label.text = text
        self._label.visible = bool(text)
