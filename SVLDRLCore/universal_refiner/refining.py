"""One rough mask made better without a model of its structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from SVLDRLCore.errors import InputError
from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.masks.boxes import Box, extent_of, whole_box, widened
from SVLDRLCore.universal_refiner.change_signs import BorderSeen
from SVLDRLCore.universal_refiner.choosing import NO_WAY, chosen_way
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, SNAP, beliefs_of
from SVLDRLCore.universal_refiner.modes import (
    EVEN_OUT_MODE,
    MODES,
    changed_where_sure,
    expected_gain,
    moved_to_habit,
)
from SVLDRLCore.universal_refiner.monotone_gain import MonotoneGain
from SVLDRLCore.universal_refiner.refiner_package import SnapDecision, UniversalRefiner, shipped_refiner
from SVLDRLCore.universal_refiner.shown_borders import border_evidence
from SVLDRLCore.universal_refiner.skipped_slices import Filling, filling_of
from SVLDRLCore.universal_refiner.ways import evened, evened_carefully
from SVLDRLCore.universal_refiner.working_grid import working_grid

MARGIN = 12.0
"""Around the mask's box, in voxels of the finest axis or, if larger, in its radius over `working_grid`'s."""
FEWEST_VOXELS = 12
"""A mask of fewer tells nothing of a structure."""

TOO_SMALL = "too few voxels to tell a structure: left as drawn"
TOO_THIN = "too thin beside its length to be looked at as a whole: left as drawn"
NO_OUTSIDE = "it fills the image: left as drawn"
NO_CONTRAST = "the image shows nothing there: left as drawn"
NOTHING_LEFT = "nothing would be left: left as drawn"
NOT_SHOWN = "the image does not show its border clearly enough: left as drawn"
ONLY_FILLED = "too thin beside its length to be looked at as a whole: only skipped slices were filled"
CAREFUL = "the image does not show its border clearly enough: only what is beyond doubt was changed"
BESIDE_THE_EDGE = "its whole border seems to lie beside the visible edge, 'snap to edges' would move it"
BESIDE = 1.0
"""Median distance of a border from the edges, in u, from which that is said, and"""
WORTH_SAYING = 0.05
"""how much Dice snapping should win."""


@dataclass(frozen=True)
class Refined:
    """A refined mask.

    Attributes:
        mask: boolean (D, H, W).
        confidence: float32 (D, H, W), how far the result is from a coin's toss, [0, 1]; 1 away from the border.
        reasons: why it was left as drawn; empty where it was refined.
        hints: what its reader should know or try, in plain words.
    """

    mask: np.ndarray
    confidence: np.ndarray
    reasons: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def refine_mask(
    image: np.ndarray,
    mask: np.ndarray,
    spacing_dhw: Sequence[float],
    *,
    mode: str = EVEN_OUT_MODE,
    trusted: np.ndarray | None = None,
    locked: np.ndarray | None = None,
    filling: Filling | None = None,
    progress: Callable[[float], None] | None = None,
    refiner: UniversalRefiner | None = None,
) -> Refined:
    """A mask of any structure, refined by what the image shows at its border.

    Args:
        image: (D, H, W) or, with several channels, (M, D, H, W): then the mixture in which the mask stands out most.
        mask: boolean (D, H, W); spacing_dhw: mm.
        mode: "even_out" keeps the offset at which the mask is drawn and repairs what deviates from it, "snap" moves
            the whole border onto the visible edge.
        trusted: boolean (D, H, W), where the user says that the mask is right: it stays, and its offset is kept.
        locked: boolean (D, H, W), voxels that stay as they are.
        filling: the mask with its skipped slices filled, if that was done with those of its neighbours. Then nothing is
            told of it here, as the neighbours have a say in what stays.
        progress: told the share that is done; what it raises ends the work.
        refiner: None: the one that comes with the program.

    Raises:
        InputError: an unknown mode, or arrays of different shapes.
    """
    if mode not in MODES:
        raise InputError("mode", f"{mode!r} is none", f"Choose one of {', '.join(MODES)}")
    mask = np.asarray(mask, bool)
    if any(each is not None and each.shape[-3:] != mask.shape for each in (image, trusted, locked)):
        raise InputError("The mask", "its shape differs from the image's", "Give arrays of one shape")
    sure = np.ones(mask.shape, np.float32)
    reason = "" if mask.sum() >= FEWEST_VOXELS else TOO_SMALL
    reason = NO_OUTSIDE if mask.all() else reason
    if reason:
        return Refined(mask.copy(), sure, (reason,))
    box = looked_at(mask, spacing_dhw)
    whole = image if image.ndim == 4 else image[None]
    near, before = one_channel(whole[:, *box], mask[box]), mask[box]
    if not np.isfinite(near).all():
        raise InputError("The image", "it holds values that are not finite", "Replace them, or crop the image")
    if before.all():
        return Refined(mask.copy(), sure, (NO_OUTSIDE,))
    if float(np.ptp(near)) <= 1e-6 * max(1.0, float(np.abs(near).max())):
        return Refined(mask.copy(), sure, (NO_CONTRAST,))
    tell = progress or (lambda share: None)
    tell(0.1)
    trust = None if trusted is None else trusted[box]
    filled = filling_of(before, near) if filling is None else filling.within(box)
    made = _refined(near, filled.mask, spacing_dhw, mode, trust, refiner or shipped_refiner())
    tell(0.9)
    after = made.mask
    for held in (trusted, locked):
        if held is not None:
            after = np.where(held[box], before, after)
    if not after.any():
        return Refined(mask.copy(), sure, (NOTHING_LEFT,))
    result = mask.copy()
    result[box] = after
    tell(1.0)
    told = filled.told(after & ~before) if filling is None else ()
    if made.reasons and np.array_equal(after, before):
        return Refined(result, sure, made.reasons, told)
    sure[box] = made.confidence
    careful = tuple({NOT_SHOWN: CAREFUL, TOO_THIN: ONLY_FILLED}.get(reason, reason) for reason in made.reasons)
    return Refined(result, sure, hints=(*told, *careful, *made.hints))


def _refined(
    image: np.ndarray,
    mask: np.ndarray,
    spacing_dhw: Sequence[float],
    mode: str,
    trusted: np.ndarray | None,
    refiner: UniversalRefiner,
) -> Refined:
    """The mask in its box, on the working grid and with the coarsest axis first, as in the scenes learned from."""
    grid = working_grid(mask, spacing_dhw)
    order = tuple(np.argsort([-s for s in grid.spacing], kind="stable").tolist())
    back, spacing = tuple(np.argsort(order).tolist()), tuple(grid.spacing[axis] for axis in order)
    shares = grid.shrunk(mask)
    rough = np.ascontiguousarray((shares > 0.5).transpose(order))
    if rough.sum() < FEWEST_VOXELS or rough.all():
        return Refined(mask.copy(), np.ones(mask.shape, np.float32), (TOO_THIN,))
    grey = grid.shrunk(image).transpose(order)
    beliefs = beliefs_of(refiner.stages, grey, rough, spacing)[-1]
    seen = _Seen(grey, rough, beliefs, spacing)
    reasons: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    habit = None if trusted is None else seen.moved_to_habit((grid.shrunk(trusted) > 0.5).transpose(order))
    if habit is not None:  # the user has told what the border lies from
        belief, refined = habit.astype(np.float32), habit
    else:
        evens = mode == EVEN_OUT_MODE
        belief = beliefs[EVEN_OUT if evens else SNAP]
        decision = refiner.decision
        refined, shut = seen.evened(decision.even_out) if evens else seen.snapped(decision.snap)
        if shut:
            reasons = (NOT_SHOWN,)
        elif evens and trusted is None and seen.lies_beside(decision.snap):
            hints = (BESIDE_THE_EDGE,)
    after = grid.changed(mask, shares, refined.transpose(back))
    confidence = (2 * np.abs(grid.stretched(np.ascontiguousarray(belief.transpose(back))) - 0.5)).clip(0, 1)
    return Refined(after, confidence, reasons, hints)


@dataclass(frozen=True)
class _Seen:
    """What is believed of a mask on its working grid: beliefs (2, D, H, W)."""

    image: np.ndarray
    mask: np.ndarray
    beliefs: np.ndarray
    spacing: tuple[float, ...]

    def evened(self, gains: Sequence[MonotoneGain]) -> tuple[np.ndarray, bool]:
        """The mask (D, H, W), and whether a large promise was not believed."""
        ways = evened(self.mask, self.beliefs, self.spacing)
        signs = BorderSeen.of(self.image, self.mask, self.beliefs, self.spacing).signs(ways)
        chosen = chosen_way(gains, signs)
        if chosen != NO_WAY:
            return ways[chosen], False
        made, believed = evened_carefully(self.mask, self.beliefs, self.spacing), self.beliefs[EVEN_OUT]
        return made, expected_gain(made, believed > 0.5, believed) >= WORTH_SAYING

    def snapped(self, decision: SnapDecision) -> tuple[np.ndarray, bool]:
        """The same of snapping."""
        bold, careful = (
            changed_where_sure(self.mask, self.beliefs[SNAP], rule, self.spacing)
            for rule in (decision.bold, decision.careful)
        )
        signs = border_evidence(self.image, self.mask, self.beliefs, self.spacing)
        if decision.gate is None or (signs is not None and decision.gate.opens(signs)):
            return bold, False
        return careful, expected_gain(careful, bold, self.beliefs[SNAP]) >= WORTH_SAYING

    def moved_to_habit(self, trusted: np.ndarray) -> np.ndarray | None:
        return moved_to_habit(self.mask, self.beliefs[SNAP] > 0.5, trusted, self.spacing)

    def lies_beside(self, decision: SnapDecision) -> bool:
        """Does the border lie beside the edge all around, so that snapping it would win much?"""
        snapped, _ = self.snapped(decision)
        if not snapped.any() or expected_gain(self.mask, snapped, self.beliefs[SNAP]) < WORTH_SAYING:
            return False
        border = np.abs(signed_distance(self.mask, self.spacing)) <= 0.75
        return bool(border.any()) and abs(float(np.median(signed_distance(snapped, self.spacing)[border]))) >= BESIDE


def looked_at(mask: np.ndarray, spacing_dhw: Sequence[float]) -> Box:
    """The box of a mask (D, H, W) and what is looked at around it; nothing outside of it matters to `refine_mask`."""
    return widened_to_look(extent_of(mask) or whole_box(mask.shape), int(mask.sum()), mask.shape, spacing_dhw)


def widened_to_look(extent: Box, voxels: int, shape: Sequence[int], spacing_dhw: Sequence[float]) -> Box:
    """The same of a mask of so many voxels that lies in `extent`, in a volume of `shape`."""
    radius = float((3 * voxels * np.prod(spacing_dhw) / (4 * np.pi)) ** (1 / 3))
    margin = MARGIN * max(min(spacing_dhw), radius / 18)
    return widened(extent, [margin / s for s in spacing_dhw], shape)


def one_channel(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One image (D, H, W): the mixture of channels in which inside and outside differ most (Fisher's discriminant)."""
    if image.ndim == 3:
        return image.astype(np.float32)
    if len(image) == 1:
        return image[0].astype(np.float32)
    inside, outside = image[:, mask].astype(float), image[:, ~mask].astype(float)
    if min(inside.shape[1], outside.shape[1]) < 2:  # of one voxel no spread is known
        return image[0].astype(np.float32)
    spread = np.cov(inside) + np.cov(outside)
    spread += np.eye(len(image)) * (1e-3 * np.trace(spread) / len(image) + 1e-12)
    weights = np.linalg.solve(spread, inside.mean(1) - outside.mean(1))
    return np.tensordot(weights, image, 1).astype(np.float32)
