"""How much more a network errs on cases that it has not learned from; so much more careful must its mask agents be.

Predictions of learned cases are better than those of new ones, and few cases are learned by heart: what disagrees with
the prediction is then more often the network's fault than the mask's, and nothing in the learned cases tells so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RIGHT_HALF = 0.75
"""Half of the held-out labels may be wrong; this quantile of their Dice is the median of the right half."""
UNKNOWN = 2.0
"""The generalisation factor where no case was held out."""
UNSURE_CASES = 2
"""What few held-out cases tell may be half of the truth: of so many, the excess counts twice."""
LEAST_ERROR = 0.02
"""Dice errors of learned cases below this are no surer."""
WORTH_TELLING = 1.5
"""From this generalisation factor on the user is told."""


def generalisation_factors(learned: np.ndarray, unseen: np.ndarray) -> list[float]:
    """The Dice error on held-out cases in units of that on learned ones, one number a structure, at least 1.

    What exceeds 1 counts the more, the fewer cases were held out.

    Args:
        learned: Dice (cases, C) with the trusted labels that were learned from.
        unseen: Dice (cases, C) with labels that were not; some may be wrong, none may be there (0, C).
    """
    found = []
    for of_learned, of_unseen in zip(learned.T, unseen.T):
        known, new = of_learned[np.isfinite(of_learned)], of_unseen[np.isfinite(of_unseen)]
        if not len(known) or not len(new):
            found.append(UNKNOWN)
            continue
        error = 1.0 - float(np.quantile(new, RIGHT_HALF))
        ratio = error / max(1.0 - float(np.median(known)), LEAST_ERROR)
        found.append(max(1.0, 1.0 + (ratio - 1.0) * (1.0 + UNSURE_CASES / len(new))))
    return found


def what_to_tell(
    names: Sequence[str], generalisation_factors: Sequence[float], held_out: Sequence[np.ndarray]
) -> list[str]:
    """A sentence for each structure whose masks the agents will edit with marked care.

    Args:
        names: the structures.
        generalisation_factors: one a structure, of `generalisation_factors`.
        held_out: the labels that these were measured on, (C, D, H, W) each.
    """
    told = []
    for index, (name, factor) in enumerate(zip(names, generalisation_factors)):
        if factor <= WORTH_TELLING:
            continue
        if not held_out:
            why = "no case was held out to measure the network"
        elif not any((masks[index] > 0).any() for masks in held_out):
            why = "no held-out case has it"
        else:
            why = "the network errs more on held-out cases than on learned ones"
        told.append(
            f"{name}: refinements stay close to the rough mask, since {why}. Train with more cases, or lower the trust "
            "in the mask, to let them change more."
        )
    return told
