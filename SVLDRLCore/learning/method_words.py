"""What people read of a method: in the command line's help, the docs, the Train panel and the model card."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MethodWords:
    """Its words.

    Attributes:
        title: what it is called, in a phrase.
        handling: what it does about noisy labels, in a sentence or a few.
        reference: who published it, and when ("Han 2018"); empty where nobody did.
    """

    title: str
    handling: str
    reference: str = ""

    @property
    def named(self) -> str:
        """The title with the reference."""
        return f"{self.title} ({self.reference})" if self.reference else self.title
