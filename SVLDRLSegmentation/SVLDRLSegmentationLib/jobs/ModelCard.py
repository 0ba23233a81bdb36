"""What a model's card says: how good the model is, and what to be warned of."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path


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
