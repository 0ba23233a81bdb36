"""A trained model, as far as a user chooses by it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .ModelLabel import ModelLabel


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        path: what SVLDRLCore takes as a model: a package's folder or zip.
        labels: of its label maps.
        structures: names of what it predicts: its labels, or nested regions made of them.
        channels: images that it needs.
        channelNames: of the images, as "T1"; empty where the package does not tell.
    """

    path: Path
    name: str
    labels: tuple[ModelLabel, ...]
    structures: tuple[str, ...]
    channels: int = 1
    channelNames: tuple[str, ...] = ()
