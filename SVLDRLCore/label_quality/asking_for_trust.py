"""What the labels alone leave open, in words, and which cases to look at first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SVLDRLCore.label_quality.features import LabelFeatures
from SVLDRLCore.label_quality.robust_statistics import typical_of_both

NETWORK_MADE = (
    "Some labels look as if a network had made them (fragments, and easier to fit than the rest). "
    "Mark 4 or more cases as trusted to make sure that the right half is sure."
)
IN_PIECES = (
    "Many labels are in several pieces, and are doubted for it. If the structure can be like that, "
    "mark 4 or more cases as trusted, some in pieces among them."
)
UNDETERMINED = (
    "The labels fall into an easily and a hardly fitted group, and nothing in them tells which one "
    "to trust: direction undetermined. Mark 4 or more cases as trusted."
)


def with_cases_to_look_at(
    warnings: Sequence[str], names: Sequence[str], features: Sequence[LabelFeatures]
) -> list[str]:
    """Warnings that ask for trusted cases, with the four that tell most: two typical ones of either group.

    Whichever group they speak for, the others of it are like them.
    """
    named = []
    for text in warnings:
        by = "fragments" if text == IN_PIECES else "normalised_cross_entropy"
        chosen = typical_of_both(np.array([getattr(each, by) for each in features]))
        named.append(f"{text} Look first at {', '.join(names[i] for i in chosen)}." if len(chosen) == 4 else text)
    return named
