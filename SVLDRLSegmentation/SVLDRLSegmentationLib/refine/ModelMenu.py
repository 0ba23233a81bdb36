"""What can be done with the chosen model, in a menu beside it: another name, a zip, a MONAI Bundle, away with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.ModelFiles import ExportTask, entryOf, remove, rename
from ..jobs.Models import Model


class ModelMenu:
    """Works on the button at the end of the model's row in RefinePanel.ui.

    Attributes:
        onExport: called with a task that is about to start; who listens starts and follows it.
        onChosen: called with the path of the model under its new name, or with "" when it is gone.
        onFailed: called with a JobError.
    """

    def __init__(self, button: qt.QToolButton) -> None:
        self.button = button
        self.onExport: Callable[[ExportTask], None] = lambda task: None
        self.onChosen: Callable[[str], None] = lambda path: None
        self.onFailed: Callable[[JobError], None] = lambda error: None
        self.model: Model | None = None
        menu = qt.QMenu(self.button)
        self.actions: dict[str, qt.QAction] = {}
        for name, text, act in (
            ("rename", _("Rename..."), self._onRename),
            ("zip", _("Export as zip..."), lambda: self._onExport("zip")),
            ("bundle", _("Export as MONAI Bundle..."), lambda: self._onExport("bundle")),
            ("delete", _("Delete..."), self._onDelete),
        ):
            self.actions[name] = menu.addAction(text)
            self.actions[name].connect("triggered()", act)
        self.button.setMenu(menu)
        self.button.setPopupMode(qt.QToolButton.InstantPopup)
        self.show(None)

    def show(self, model: Model | None, busy: bool = False) -> None:
        """Work on this model from now on; the button rests without one, and while something is running."""
        self.model = model
        self.button.enabled = model is not None and not busy
        if model is not None:
            self.actions["delete"].text = _("Delete...") if entryOf(model) is not None else _("Forget...")

    def _onRename(self) -> None:
        model = self._chosen()
        name = qt.QInputDialog.getText(
            self.button, _("Rename the model"), _("New name:"), qt.QLineEdit.Normal, model.name
        )
        if name and name != model.name:
            self._change(lambda: str(rename(model, name).path))

    def _onDelete(self) -> None:
        model = self._chosen()
        entry = entryOf(model)
        if entry is None:
            question = _("Take {name} out of the list? Its files stay at {place}.").format(
                name=model.name, place=model.path
            )
        else:
            question = _("Delete the model {name} and all files of its training? They lie in {place}.").format(
                name=model.name, place=entry
            )
        if slicer.util.confirmOkCancelDisplay(question, _("Delete the model") if entry else _("Forget the model")):
            self._change(lambda: remove(model))

    def _onExport(self, form: str) -> None:
        model, parent = self._chosen(), self.button
        if form == "zip":
            start = f"{model.name}.zip"
            place = qt.QFileDialog.getSaveFileName(parent, _("Export as zip"), start, _("Models (*.zip)"))
        else:
            folder = qt.QFileDialog.getExistingDirectory(parent, _("Choose a folder for the bundle"), "")
            place = str(Path(folder) / f"{model.name} bundle") if folder else ""
        if place:
            self.onExport(ExportTask(model, form, place))

    def _change(self, change: Callable[[], str | None]) -> None:
        try:
            path = change()
        except JobError as error:
            self.onFailed(error)
            return
        self.onChosen(path or "")

    def _chosen(self) -> Model:
        assert self.model is not None, "the button is enabled with a model alone"
        return self.model
