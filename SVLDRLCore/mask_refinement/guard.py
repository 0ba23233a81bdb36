"""The guard: what a refinement is expected to gain, judged by signs of this image; learned on images made poorer.

The gain (Dice points) is a ridge regression on the signs of the change and on how unlike the image is. Its signed
root is learned, so that a few ruined masks do not outweigh many good ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from SVLDRLCore.mask_refinement.guard_signs import SIGNS, ChangeSigns

RIDGE = 5.0
"""As many samples' worth of "no sign tells anything"."""
FEWEST_SAMPLES = 24
"""Of fewer nothing is learned: three for each sign."""
FEWEST_IMAGES = 4
"""Of fewer it is not known what is usual of a structure's images."""
FEW_IMAGES = 4.0
"""The largest squared distance among n images counts 1 + 4 / n times: about as much as Student's t is wider."""
LEAST_SPREAD = 0.02
"""Of grey values in [0, 1], and of logarithms: smaller differences between images tell nothing."""
FARTHEST = 20.0
"""Standard deviations beyond which an image is not more unlike."""
FARTHEST_SIGN = 5.0
"""The same of a sign: a line is not followed far beyond what was seen."""
MEAN_LOSS, LARGEST_LOSS = 1.0, 5.0
"""What right masks may lose on poorer images, in Dice points: in the mean, and in any case."""
DOUBT = SIGNS.index("doubt of the model")
INPUTS = (*SIGNS, "unlikeness")
UNLIKE = "this image is unlike those that the model knows: left as drawn"
NO_HELP = "no change is likely to make it better: left as drawn"


@dataclass(frozen=True)
class UsualImage:
    """What is usual of the images of one structure in the training.

    Attributes:
        likeness, spread: centre and scatter of each of `LIKENESS`.
        doubt: the model's usual doubt, as in `SIGNS`.
        farthest: unlikeness of the training's own image that is least like the others, wider where these are few.
    """

    likeness: tuple[float, ...]
    spread: tuple[float, ...]
    doubt: float
    farthest: float

    def unlikeness(self, likeness: np.ndarray) -> float:
        """How unlike an image is: logarithm of the mean squared distance in standard deviations; 0 is the centre."""
        z = np.abs(likeness - np.array(self.likeness)) / np.array(self.spread)
        return float(np.log1p(np.mean(np.minimum(z, FARTHEST) ** 2)))


@dataclass(frozen=True)
class Verdict:
    """What the guard says of one structure's refinement.

    Attributes:
        expected_gain: Dice points.
        reason: why the mask stays as it is; empty where the refinement is taken.
    """

    expected_gain: float
    reason: str = ""


@dataclass(frozen=True)
class Guard:
    """What was learned.

    Attributes:
        centre, scale, slope: of each of `INPUTS`; offset: of the gain's signed root.
        margin: signed root of the gain that a change must exceed where the image is unlike those of the training.
        own_margin: the same where it is like them; at most 0, and no lower than what the regression errs by.
        usual: structure -> its usual images; of others nothing is known.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    slope: tuple[float, ...]
    offset: float
    margin: float
    own_margin: float
    usual: Mapping[int, UsualImage]

    def judge(self, structure: int, seen: ChangeSigns) -> Verdict | None:
        """Whether to take a change; None for a structure of which nothing is known."""
        usual = self.usual.get(structure)
        if usual is None:
            return None
        root = self.root(_inputs(seen, usual))
        unlike = usual.unlikeness(seen.likeness) > usual.farthest
        reason = "" if root > (self.margin if unlike else self.own_margin) else UNLIKE if unlike else NO_HELP
        return Verdict(float(np.clip(np.sign(root) * root**2, -100.0, 100.0)), reason)

    def root(self, inputs: np.ndarray) -> float:
        """Signed root of the expected gain from `INPUTS`."""
        z = (inputs - np.array(self.centre)) / np.array(self.scale)
        return self.offset + float(np.clip(z, -FARTHEST_SIGN, FARTHEST_SIGN) @ np.array(self.slope))


@dataclass(frozen=True)
class Sample:
    """One simulated refinement.

    Attributes:
        case: which case it was made from.
        gain: Dice after minus Dice before, in points.
        as_is: whether the image is one of the training's, not made poorer.
        right: whether the mask to refine was the label itself.
    """

    case: int
    structure: int
    seen: ChangeSigns
    gain: float
    as_is: bool
    right: bool


def usual_images(
    likeness: Mapping[int, Sequence[np.ndarray]], doubts: Mapping[int, Sequence[float]]
) -> dict[int, UsualImage]:
    """What is usual, by structure; nothing of structures that too few images of the training show.

    Args:
        likeness: structure -> `LIKENESS` of the training's images around masks of it.
        doubts: structure -> the model's doubt on such images, `doubt_of`.
    """
    usual = {}
    for structure, images in likeness.items():
        if len(images) < FEWEST_IMAGES or not doubts.get(structure):
            continue
        known, doubt = np.array(images), float(np.median(doubts[structure]))
        others = [_centred(np.delete(known, n, axis=0), doubt) for n in range(len(known))]
        farthest = np.expm1(max(each.unlikeness(one) for each, one in zip(others, known)))
        wider = float(np.log1p(farthest * (1.0 + FEW_IMAGES / len(known))))
        usual[structure] = replace(_centred(known, doubt), farthest=wider)
    return usual


def fit_guard(samples: Sequence[Sample], usual: Mapping[int, UsualImage]) -> Guard | None:
    """The ridge regression of the gains' signed roots, and the margin; None where too few samples tell of it.

    The margins are the smallest with which the right masks among the samples, those on poorer images and those on
    images as they are, lose no more than `MEAN_LOSS` and `LARGEST_LOSS`; each is judged by a regression on the other
    cases.
    """
    told = [sample for sample in samples if sample.structure in usual]
    if len(told) < FEWEST_SAMPLES or len({sample.case for sample in told}) < 2:
        return None
    x = np.array([_inputs(sample.seen, usual[sample.structure]) for sample in told])
    gains, cases = np.array([sample.gain for sample in told]), np.array([sample.case for sample in told])
    y = np.sign(gains) * np.sqrt(np.abs(gains))
    expected = np.zeros(len(y))
    for case in np.unique(cases):
        others = _ridge(x[cases != case], y[cases != case], usual)
        expected[cases == case] = [others.root(inputs) for inputs in x[cases == case]]
    right, as_is = (np.array([getattr(sample, which) for sample in told]) for which in ("right", "as_is"))
    poorer, own = right & ~as_is, right & as_is
    return replace(
        _ridge(x, y, usual),
        margin=_margin(expected[poorer], gains[poorer], 0.0),
        own_margin=min(0.0, _margin(expected[own], gains[own], -float(np.std(y - expected)))),
    )


def _ridge(x: np.ndarray, y: np.ndarray, usual: Mapping[int, UsualImage]) -> Guard:
    centre, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = (x - centre) / scale
    slope = np.linalg.solve(z.T @ z + RIDGE * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    return Guard(
        centre=tuple(centre.tolist()),
        scale=tuple(scale.tolist()),
        slope=tuple(slope.tolist()),
        offset=float(y.mean()),
        margin=0.0,
        own_margin=0.0,
        usual=usual,
    )


def _margin(expected: np.ndarray, gains: np.ndarray, least: float) -> float:
    """The smallest of `least` and the expected roots above it with which the gains of what is taken keep the bounds."""
    margin = least
    for margin in [least, *np.sort(expected[expected > least]).tolist()]:
        taken = np.where(expected > margin, gains, 0.0)
        if not len(taken) or (taken.mean() >= -MEAN_LOSS and taken.min() >= -LARGEST_LOSS):
            break
    return float(margin)


def _centred(likeness: np.ndarray, doubt: float) -> UsualImage:
    spread = likeness.std(axis=0) + LEAST_SPREAD
    return UsualImage(tuple(np.median(likeness, axis=0).tolist()), tuple(spread.tolist()), doubt, 0.0)


def _inputs(seen: ChangeSigns, usual: UsualImage) -> np.ndarray:
    signs = seen.signs.copy()
    signs[DOUBT] -= usual.doubt
    return np.append(signs, usual.unlikeness(seen.likeness))
