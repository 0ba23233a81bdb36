"""Trained models: what a user chooses by, their cards, and the list of those on this computer."""

from __future__ import annotations

import html
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from .Core import Json, coreFolder
from .JobError import JobError

FOLDER_KEY, REMEMBERED_KEY = "SVLDRLSegmentation/ModelsFolder", "SVLDRLSegmentation/Models"
_MOST_BYTES = 16 << 20
"""Of a JSON file that is read in the application."""
_UNNAMED = re.compile(r"((segment|structure|label)[ _]?\d*)?", re.IGNORECASE)
"""What programs call a segment that nobody has named; the core has the same rule."""


@dataclass(frozen=True)
class ModelLabel:
    """One label of a model.

    Attributes:
        value: of its voxels in a label map.
        color: (r, g, b) in 0..1, or None.
        terminology: a serialised terminology entry as Slicer stores it with a segment, or "".
    """

    value: int
    name: str
    color: tuple[float, float, float] | None = None
    terminology: str = ""

    @property
    def id(self) -> str:
        """The segment ID that it gets in a new segmentation."""
        return f"Segment_{self.value}"


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        path: what SVLDRLCore takes as a model: a package's folder or zip.
        labels: of its label maps.
        structures: names of what it predicts: its labels, or nested regions made of them.
        channels: images that it needs.
        channelNames: of the images, as "T1"; empty where the package does not tell.
        inSteps: its agents draw the mask in steps, which can be looked at.
    """

    path: Path
    name: str
    labels: tuple[ModelLabel, ...]
    structures: tuple[str, ...]
    channels: int = 1
    channelNames: tuple[str, ...] = ()
    inSteps: bool = False

    def knownAs(
        self, segmentIDs: Sequence[str], names: Mapping[str, str], told: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Segment ID -> the model's name for it: as told, else by its name; what neither tells is left out.

        A single segment that nobody has named is taken for a model's single structure.

        Args:
            names: of the segments, by their IDs.
            told: segment ID -> the model's name for it, or "" to leave it alone.

        Raises:
            JobError: it is told to be a structure that the model does not know.
        """
        told = {i: name for i, name in (told or {}).items() if i in segmentIDs}
        spelled = {name.strip().casefold(): name for name in (*(label.name for label in self.labels), *self.structures)}
        for segmentID, name in told.items():
            if name and name.strip().casefold() not in spelled:
                raise JobError(
                    names[segmentID],
                    _("the model {} knows no structure {}").format(self.name, name),
                    _("Choose among: {}").format(", ".join(self.structures)),
                )
        called = {i: told.get(i, names[i]).strip().casefold() for i in segmentIDs}
        known = {i: spelled[called[i]] for i in segmentIDs if called[i] in spelled}
        alone = segmentIDs[0] if len(segmentIDs) == 1 and segmentIDs[0] not in told else None
        if alone is not None and not known and len(self.structures) == 1 and _UNNAMED.fullmatch(names[alone].strip()):
            known = {alone: self.structures[0]}
        return known


@dataclass(frozen=True)
class ModelCard:
    """What a model's card says.

    Attributes:
        text: the whole card, markdown.
        numbers: its results, a sentence each, such as "Dice on held-out cases: 0.87".
        warnings: what to know before trusting the model.
    """

    text: str
    numbers: tuple[str, ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> ModelCard:
        """From the card's markdown."""
        return cls(text, _items(text, "Numbers"), _items(text, "Warnings"))

    @classmethod
    def ofFolder(cls, model: Path) -> ModelCard:
        """Of a model that was just trained; an empty card where there is none."""
        try:
            return cls.of((model / "MODEL_CARD.md").read_text("utf-8"))
        except (OSError, ValueError):
            return cls.of("")


def _items(text: str, section: str) -> tuple[str, ...]:
    rest = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = (line.strip() for line in rest.splitlines())
    return tuple(html.unescape(line.removeprefix("- ")) for line in lines if line not in ("", "None."))


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
        places = self.remembered()
        if self.folder.is_dir():
            places |= {place: "" for place in self.folder.iterdir() if place not in places and place.name[0] != "."}
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
            inSteps = _drawsInSteps(str((config.get("network") or {}).get("backbone")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise JobError(
                str(path), _("it is no model, or a training that has not finished"), _("Choose a model's folder")
            ) from error
        channelNames = channelNames if len(channelNames) == channels else ()
        named = name or place.name.removesuffix(".zip")
        return Model(package, named, table, names, channels, channelNames, inSteps)

    def card(self, model: Model) -> ModelCard:
        """What a model's card says.

        Raises:
            JobError: it has none that can be read.
        """
        try:
            return ModelCard.of(_readText(model.path, "MODEL_CARD.md"))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise JobError(str(model.path), _("its card cannot be read"), _("Choose another model")) from error

    def remember(self, path: str | Path, name: str = "") -> Model:
        """Add a model that lies elsewhere to the list.

        Raises:
            JobError: it is no model.
        """
        model = self.read(path, name)
        place = Path(path).absolute()
        if place.parent != self.folder.absolute():
            table = {str(other): otherName for other, otherName in self.remembered().items()} | {str(place): name}
            slicer.app.userSettings().setValue(REMEMBERED_KEY, json.dumps(table))
        return model

    def forget(self, path: str | Path) -> None:
        """Take a model that lies elsewhere out of the list; its files stay."""
        place = Path(path).absolute()
        table = {str(other): name for other, name in self.remembered().items() if other != place}
        slicer.app.userSettings().setValue(REMEMBERED_KEY, json.dumps(table))

    def remembered(self) -> dict[Path, str]:
        """Models that lie elsewhere, with the names that they were given."""
        try:
            table = json.loads(slicer.app.userSettings().value(REMEMBERED_KEY) or "{}")
            return {Path(path): str(name) for path, name in table.items()}
        except (ValueError, TypeError, AttributeError):  # settings that someone edited
            return {}


def _drawsInSteps(backbone: str) -> bool:
    coreFolder()
    from SVLDRLCore.config.backbone_facts import BACKBONES

    return backbone in BACKBONES and BACKBONES[backbone].in_steps


def _label(value: str, entry: Json) -> ModelLabel:
    color = entry.get("color")
    red, green, blue = (float(part) for part in color or (0, 0, 0))
    return ModelLabel(
        int(value),
        str(entry["name"]),
        (red, green, blue) if color else None,
        str(entry.get("terminology", "")),
    )


def _readJson(package: Path, name: str) -> Json:
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


def folderName(name: str) -> str:
    """A model's name as a folder's: without what a file system cannot hold.

    Example:
        >>> folderName(" left atrium: 2/3 ")
        'left atrium_ 2_3'
    """
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name.strip()).strip(". ")
