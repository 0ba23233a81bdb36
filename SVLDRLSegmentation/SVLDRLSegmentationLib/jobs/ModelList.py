"""The models of this computer: those in the models folder, and others that were chosen once."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .JobError import JobError
from .Model import Model
from .ModelCard import ModelCard
from .ModelLabel import ModelLabel

FOLDER_KEY, REMEMBERED_KEY = "SVLDRLSegmentation/ModelsFolder", "SVLDRLSegmentation/Models"
_MOST_BYTES = 16 << 20
"""Of a JSON file that is read in the application."""


class ModelList:
    """The models of this computer.

    Example:
        >>> [model.name for model in ModelList().models()]
        ['left atrium']
    """

    @property
    def folder(self) -> Path:
        """Where trained models are kept; a setting of the machine. It need not exist yet."""
        text = slicer.app.userSettings().value(FOLDER_KEY)
        return Path(text) if text else Path.home() / "SVLDRLSegmentation" / "models"

    @folder.setter
    def folder(self, path: str | Path) -> None:
        slicer.app.userSettings().setValue(FOLDER_KEY, str(path))

    def models(self) -> list[Model]:
        """All models that are there and can be read, by name."""
        places = self._remembered()
        if self.folder.is_dir():
            places |= {place: "" for place in self.folder.iterdir() if place not in places}
        found = []
        for place, name in places.items():
            try:
                found.append(self.read(place, name))
            except JobError:  # another folder or file, a training that has not finished, or a model moved away
                continue
        return sorted(found, key=lambda model: model.name.lower())

    def read(self, path: str | Path, name: str = "") -> Model:
        """What a model's folder or zip, or a finished training's folder, holds.

        Raises:
            JobError: it is no model.
        """
        place = Path(path)
        package = place / "model" if (place / "model" / "labels.json").is_file() else place
        try:
            labels, config = _readJson(package, "labels.json"), _readJson(package, "config.json")
            structures = config.get("structures") or {}
            table = tuple(_label(value, entry) for value, entry in labels.items())
            names = tuple(str(item) for item in structures.get("names") or [label.name for label in table])
            channels = int(config.get("channels") or 1)
            channelNames = tuple(str(item) for item in config.get("channel_names") or ())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise JobError(
                str(path), _("it is no model, or a training that has not finished"), _("Choose a model's folder")
            ) from error
        channelNames = channelNames if len(channelNames) == channels else ()
        return Model(package, name or place.name.removesuffix(".zip"), table, names, channels, channelNames)

    def card(self, model: Model) -> ModelCard:
        """What a model's card says.

        Raises:
            JobError: it has none that can be read.
        """
        try:
            return ModelCard.of(_readText(model.path, "MODEL_CARD.md"))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise JobError(str(model.path), _("its card cannot be read"), _("Use a sound model")) from error

    def remember(self, path: str | Path, name: str = "") -> Model:
        """Add a model that lies elsewhere to the list.

        Raises:
            JobError: it is no model.
        """
        model = self.read(path, name)
        place = Path(path).absolute()
        if place.parent != self.folder.absolute():
            table = {str(other): otherName for other, otherName in self._remembered().items()} | {str(place): name}
            slicer.app.userSettings().setValue(REMEMBERED_KEY, json.dumps(table))
        return model

    def _remembered(self) -> dict[Path, str]:
        try:
            table = json.loads(slicer.app.userSettings().value(REMEMBERED_KEY) or "{}")
            return {Path(path): str(name) for path, name in table.items()}
        except (ValueError, TypeError, AttributeError):  # settings that someone edited
            return {}


def _label(value: str, entry: dict[str, Any]) -> ModelLabel:
    color = entry.get("color")
    return ModelLabel(
        int(value),
        str(entry["name"]),
        tuple(float(c) for c in color) if color else None,
        str(entry.get("terminology", "")),
    )


def _readJson(package: Path, name: str) -> dict[str, Any]:
    return json.loads(_readText(package, name))


def _readText(package: Path, name: str) -> str:
    if package.is_dir():
        with (package / name).open("rb") as file:
            data = file.read(_MOST_BYTES)
    else:
        with zipfile.ZipFile(package) as archive:
            entries = [entry for entry in archive.namelist() if entry.rpartition("/")[2] == name]
            with archive.open(entries[0] if entries else name) as file:
                data = file.read(_MOST_BYTES)
    return data.decode("utf-8")
