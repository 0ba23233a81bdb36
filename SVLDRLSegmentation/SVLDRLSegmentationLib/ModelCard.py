"""What a model's card says: how good the model is, and what to be warned of."""

from __future__ import annotations

from dataclasses import dataclass


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


def _items(text: str, section: str) -> tuple[str, ...]:
    rest = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return tuple(line.removeprefix("- ").strip() for line in rest.splitlines() if line.startswith("- "))
