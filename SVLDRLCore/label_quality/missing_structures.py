"""Labels that lack a structure which others have: forgotten by the reader, or really not in the image?

Before there is a network, only the other labels speak: where having the structure is the rule, a label without it is
a suspect. Then the network does, as far as it tells the structure from what lies beside it: where it is as sure of it
as in the cases that have it, the reader forgot it; where it is not, the absence is believed. Where lacking it is no
exception (tumours, enhancing parts), an absence is believed until the network sees the structure. So rare findings are
not lost, and no label teaches a network to draw nothing before it has seen what there is to draw.

A label with voxels that nobody has labelled lacks nothing: what it does not show may lie there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import betainc, expit

from SVLDRLCore.label_quality.features import LabelFeatures, StructureFeatures
from SVLDRLCore.label_quality.thresholds import (
    LEAST_PROBABILITY,
    LEAST_SURENESS_SPREAD,
    LOW_WEIGHT,
    SD_OF_DEVIATION,
    SHOWN_SHARE,
)

MOST_NAMED = 10
"""So many cases are named in a warning."""


@dataclass(frozen=True)
class Missing:
    """Which cases lack which structures, and how far that is believed.

    Attributes:
        lacks: (cases, structures), the label is without a structure that another label has, and all of it is known.
        exception: (structures,), how surely lacking it is an exception, [0, 1].
        drawn: (cases, structures), how far the network sees it, [0, 1]; None before there is a network.
        learned: (structures,), how well it tells the structure from what lies beside it, [0, 1]; None likewise.
        have: (structures,), number of cases that have it; asked: of those that tell whether they do.
    """

    lacks: np.ndarray
    exception: np.ndarray
    drawn: np.ndarray | None
    learned: np.ndarray | None
    have: np.ndarray
    asked: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """The weight a case keeps in spite of what it lacks, (cases,) in [0, 1]: as far as the least credible one."""
        by_itself = 1.0 - self.exception
        if self.drawn is None or self.learned is None:
            each = by_itself
        else:
            each = self.learned * (1.0 - self.drawn) + (1.0 - self.learned) * by_itself
        return np.asarray(np.where(self.lacks, each, 1.0).min(axis=1, initial=1.0))

    def why(self, names: Sequence[str]) -> list[str]:
        """A text for each case that lacks something, else "": what, how many have it, and what the network draws."""
        return [
            ", ".join(self._reason(case, c, names[c]) for c in np.flatnonzero(row).tolist())
            for case, row in enumerate(self.lacks)
        ]

    def _reason(self, case: int, structure: int, name: str) -> str:
        have, count = int(self.have[structure]), int(self.asked[structure])
        others = f"which {have} of {count} cases have" if 2 * have > count else f"as {count - have} of {count} cases do"
        text = f"lacks {name}, {others}"
        if self.drawn is None or self.learned is None:
            return text
        if self.learned[structure] < LOW_WEIGHT:
            return f"{text}; the network has not learned it yet"
        seen = "draws it" if self.drawn[case, structure] >= LOW_WEIGHT else "does not draw it either"
        return f"{text}; the network {seen}"


def missing_structures(features: Sequence[LabelFeatures], trusted: Sequence[bool]) -> Missing | None:
    """What the cases lack; None where no case lacks a structure that another one has."""
    volumes = drawn_volumes(features)
    has = volumes > 0
    whole = np.array([not c.partly for c in features])[:, None]
    tells = has | whole
    lacks = ~has & has.any(axis=0) & whole
    if not lacks.any():
        return None
    sure = np.asarray(trusted, bool)
    exception = np.array([_exception(column[known], sure[known]) for column, known in zip(has.T, tells.T)])
    have, asked = has.sum(axis=0), tells.sum(axis=0)
    if not all(c.surest for c in features):
        return Missing(lacks, exception, None, None, have, asked)
    surest, beside = (np.array([getattr(c, name) for c in features]) for name in ("surest", "surest_beside"))
    looked = [_seen_by_network(s, b, h) for s, b, h in zip(surest.T, beside.T, has.T)]
    return Missing(lacks, exception, np.stack([d for d, _ in looked], 1), np.array([n for _, n in looked]), have, asked)


def _seen_by_network(surest: np.ndarray, beside: np.ndarray, has: np.ndarray) -> tuple[np.ndarray, float]:
    """How far a network sees a structure in each case, (cases,), and how well it can tell.

    The cases that have it show both: how sure (log odds) the network is of the structure, and how sure beside it.
    Images without the structure are expected half way between the medians of these two, not at the lower one: a network
    that has seen no such image finds something like the structure in every one. From there to the upper median it is
    the probability of two normal distributions of one spread, that of the cases that have the structure.
    How well it can tell is by how much more of the former than of the latter lie above the middle (Youden's index): an
    untrained network draws nothing, or everything.
    """
    if not has.any():
        return np.zeros(len(has)), 0.0
    surest, beside = (
        np.log(p / (1 - p))
        for p in (np.clip(each, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY) for each in (surest, beside))
    )
    there, not_there = float(np.median(surest[has])), float(np.median(beside[has]))
    if there <= not_there:
        return np.zeros(len(has)), 0.0
    middle = (there + not_there) / 2
    learned = float(np.mean(surest[has] > middle) - np.mean(beside[has] > middle))
    apart = there - middle
    spread = max(SD_OF_DEVIATION * float(np.median(np.abs(surest[has] - there))), LEAST_SURENESS_SPREAD * apart)
    return expit((surest - (there + middle) / 2) * apart / spread**2), max(0.0, learned)


def enough_of_each(volumes_mm3: np.ndarray) -> list[float]:
    """Of each structure, the volume (mm3) that shows it; from volumes (cases, structures), 0 where a label lacks it."""
    return [SHOWN_SHARE * float(np.median(volume[volume > 0])) if volume.any() else 0.0 for volume in volumes_mm3.T]


def _exception(has: np.ndarray, trusted: np.ndarray) -> float:
    """How surely lacking a structure is an exception: that more cases have it than not.

    Nothing being known before, that is the chance that a share lies above one half of which so many draws had it. A
    trusted case that lacks it proves that absence happens; of trusted ones that have it the same is asked, since
    in them nothing is forgotten.
    """
    if (trusted & ~has).any():
        return 0.0
    among_all = _more_than_half(int(has.sum()), int((~has).sum()))
    return max(among_all, _more_than_half(int(trusted.sum()), 0)) if trusted.any() else among_all


def _more_than_half(have: int, lack: int) -> float:
    """Posterior chance, from a uniform prior, that a share exceeds 1/2."""
    return float(1.0 - betainc(have + 1, lack + 1, 0.5))


def some_lack_something(features: Sequence[LabelFeatures]) -> bool:
    """Whether a label is without a structure that another one has, for whatever reason."""
    has = drawn_volumes(features) > 0
    return bool((has.any(axis=0) & ~has).any())


def drawn_volumes(features: Sequence[LabelFeatures]) -> np.ndarray:
    """Volumes (mm3) of the labels' structures, (cases, structures); 0 where a label lacks one."""
    known = [c.by_structure for c in features if c.by_structure]
    if len(known) < len(features):
        return np.ones((len(features), 1))  # nothing is known of what they lack
    return np.array([[0.0 if each is None else each.volume_mm3 for each in row] for row in known])


def filled_in(features: Sequence[LabelFeatures]) -> list[LabelFeatures]:
    """LabelFeatures in which what a label lacks counts as usual: the median of the cases that have it.

    So that a label is compared with the others by what it has; structures can differ in what is usual.
    """
    lacks = drawn_volumes(features) == 0
    if not lacks.any():
        return list(features)
    usual: list[Sequence[float] | None] = []
    for structure in range(lacks.shape[1]):
        values = [_values(c.by_structure[structure]) for c in features]
        known = [v for v in values if v is not None]
        usual.append(np.median(known, axis=0).tolist() if known else None)
    filled = []
    for feature, missing in zip(features, lacks):
        if not missing.any():
            filled.append(feature)
            continue
        each = [_values(v) or usual[c] for c, v in enumerate(feature.by_structure)]
        bias, cross_entropy, fragments = np.mean([v for v in each if v is not None], axis=0).tolist()
        filled.append(replace(feature, bias_mm=bias, normalised_cross_entropy=cross_entropy, fragments=fragments))
    return filled


def _values(features: StructureFeatures | None) -> tuple[float, float, float] | None:
    """What a label's part in the reviews is made of; None for a structure that it lacks."""
    return None if features is None else (features.bias_mm, features.normalised_cross_entropy, features.fragments)


def told_of_missing(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Warnings that name the labels that are doubted for what they lack, one a reason."""
    doubted: dict[str, list[str]] = {}
    for row in rows:
        if row.get("absence", 1.0) < LOW_WEIGHT and not row["trusted"]:
            doubted.setdefault(row["why"], []).append(row["case"])
    return [_warning(why, cases) for why, cases in doubted.items()]


def _warning(why: str, cases: Sequence[str]) -> str:
    named = ", ".join(cases[:MOST_NAMED]) + (f" and {len(cases) - MOST_NAMED} more" if len(cases) > MOST_NAMED else "")
    return (
        f"Hardly learned from: {named}. The label {why}. "
        "Complete it, or mark the case as trusted if the label is right."
    )
