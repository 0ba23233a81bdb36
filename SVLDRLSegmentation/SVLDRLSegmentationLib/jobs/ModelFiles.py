"""A model of the list gets another name, or goes; it is written for another program by a worker.

Files are renamed and removed in the models folder alone. A model that lies elsewhere is only called otherwise, or
forgotten.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

from slicer.i18n import tr as _

from .Job import Job, JobEnd
from .JobError import JobError
from .Models import Model, ModelList, folderName
from .Task import Task


class ExportTask(Task[Path]):
    """Writes a model as "zip", "bundle" (a folder) or "onnx"; its result is where that lies."""

    def __init__(self, model: Model, form: str, place: str | Path) -> None:
        super().__init__()
        self.model, self.form, self.place = model, form, Path(place).absolute()

    def start(self) -> None:
        """Raises JobError when the worker cannot be started."""
        options = {"model": str(self.model.path), self.form: str(self.place), "overwrite": self.form != "bundle"}
        self._startJob(Job("export", options, self._temporaryFolder(), endsWithScene=False))

    def _finish(self, end: JobEnd) -> Path:
        return self.place


def entryOf(model: Model) -> Path | None:
    """What lies in the models folder for this model: a package, a zip, or a whole training; None if it is elsewhere."""
    folder = ModelList().folder.absolute()
    for place in (model.path.absolute(), model.path.absolute().parent):
        if place.parent == folder:
            return place
    return None


def rename(model: Model, name: str) -> Model:
    """The model under its new name.

    Raises:
        JobError: the name is taken or empty, a training is at work there, or the system refuses.
    """
    entry = entryOf(model)
    if entry is None:
        return ModelList().remember(_remembered(model), name.strip())
    _requireIdle(entry)
    suffix = entry.suffix if entry.is_file() else ""
    safe = folderName(name)
    new = entry.with_name(safe + suffix)
    if not safe:
        raise JobError(_("The model's name"), _("it is empty"), _("Give it a name"))
    if os.path.lexists(new):
        raise JobError(safe, _("there is a model of that name already"), _("Choose another name"))
    try:
        os.rename(entry, new)
    except OSError as error:
        raise JobError(str(entry), str(error), _("Close what uses the model, then try again")) from error
    return ModelList().read(new / "model" if model.path.absolute() != entry else new, safe)


def remove(model: Model) -> None:
    """Delete a model of the models folder, with its training; forget one that lies elsewhere.

    It is gone at once: its folder gets a hidden name, and a thread removes the files.

    Raises:
        JobError: a training is at work there, or the system refuses.
    """
    entry = entryOf(model)
    if entry is None:
        ModelList().forget(_remembered(model))
        return
    _requireIdle(entry)
    try:
        if entry.is_symlink() or entry.is_file():
            entry.unlink()
            return
        hidden = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".deleted-"))
        os.rename(entry, hidden / entry.name)
    except OSError as error:
        raise JobError(str(entry), str(error), _("Close what uses the model, then try again")) from error
    threading.Thread(target=shutil.rmtree, args=(hidden, True), name="delete model").start()


def _remembered(model: Model) -> Path:
    """A remembered training's folder, or the package itself."""
    places = ModelList().remembered()
    return model.path.parent if model.path.parent in places else model.path


def _requireIdle(entry: Path) -> None:
    for job in Job.all():
        named = [Path(str(value)) for key in ("output", "model", "begin_with") if (value := job.options.get(key))]
        if any(entry == place or entry in place.parents for place in named):
            raise JobError(entry.name, _("it is in use by work in the background"), _("Wait for it, or cancel it"))
