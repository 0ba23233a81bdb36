"""Several raters of one image: how far each agrees with their consensus, and what each one always does.

Pure functions on masks; what they are called with comes from `files.rated_labels`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.volumes import Volume
from SVLDRLCore.label_quality.thresholds import ANOTHER_THING, FEWEST_OF_A_HABIT, STANDARD_ERRORS
from SVLDRLCore.masks.alignment import measure_border
from SVLDRLCore.masks.borders import voxel_mm
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.known_voxels import completed, where_known


@dataclass(frozen=True)
class RaterLook:
    """One rater's mask of one structure in one case, beside the consensus.

    Attributes:
        dice: with the consensus, whose border lies midway through what is undecided; 1 where neither shows anything.
        bias_mm: how far the border lies outside the consensus's, on average; None where one of the two is empty.
        volume_ml, consensus_ml: of the two.
    """

    case: str
    structure: str
    rater: str
    dice: float
    bias_mm: float | None
    volume_ml: float
    consensus_ml: float


@dataclass(frozen=True)
class Habit:
    """What a rater does to a structure in all cases.

    Attributes:
        cases: that the rater drew; `bias_mm` and `bias_sd_mm` are of those that have a border.
        settled: the bias is a habit, see `STANDARD_ERRORS`.
    """

    rater: str
    structure: str
    cases: int
    mean_dice: float
    bias_mm: float | None
    bias_sd_mm: float | None
    settled: bool


def looks_of_case(
    case: Case, consensus: Volume, drawn: Sequence[Volume], structures: Mapping[str, Collection[int]]
) -> list[RaterLook]:
    """The looks of a case as it was read (`files.rated_labels.read_case_label`); none where it has one rater.

    Args:
        consensus, drawn: on one grid.
        structures: name -> its label values; those that are missing in the case are left out.
    """
    if not case.raters:
        return []
    labels = [volume.array for volume in drawn]
    known = {name: sorted(values) for name, values in structures.items() if name not in case.missing}
    return rater_looks(
        case.name, [rater.name for rater in case.raters], labels, consensus.array, known,
        consensus.geometry.spacing_dhw, consensus.array == case.ignore,
        np.logical_or.reduce([label == case.ignore for label in labels]),
    )  # fmt: skip


def rater_looks(
    case: str,
    raters: Sequence[str],
    drawn: Sequence[np.ndarray],
    consensus: np.ndarray,
    structures: Mapping[str, Sequence[int]],
    spacing_dhw: Sequence[float],
    undecided: np.ndarray | None = None,
    ignored: np.ndarray | None = None,
) -> list[RaterLook]:
    """A look for each structure and rater; structures that nobody drew are left out.

    Args:
        drawn: label maps (D, H, W) of the raters, in their order; consensus: of all of them.
        structures: name -> its label values.
        undecided: boolean (D, H, W), voxels of which the consensus tells nothing.
        ignored: those of them that a rater has not looked at; they do not count.
    """
    voxel_ml = float(np.prod(spacing_dhw)) / 1000.0
    looks = []
    for structure, values in structures.items():
        common = np.isin(consensus, values)
        masks = [np.isin(label, values) for label in drawn]
        if not common.any() and not any(mask.any() for mask in masks):
            continue
        if undecided is not None and not undecided.all():
            common = completed(common, undecided, spacing_dhw)
        for rater, mask in zip(raters, masks):
            dice = dice_of(where_known(mask, ignored), where_known(common, ignored))
            bias, volumes = _bias(common, mask, spacing_dhw), (float(m.sum()) * voxel_ml for m in (mask, common))
            looks.append(RaterLook(case, structure, rater, dice, bias, *volumes))
    return looks


def _bias(consensus: np.ndarray, mask: np.ndarray, spacing_dhw: Sequence[float]) -> float | None:
    """How far a mask's border lies outside the consensus's (mm), undecided voxels and all."""
    box = bounding_box(consensus | mask, (1, 1, 1))
    found = measure_border(consensus[box], mask[box], np.empty((0, *consensus[box].shape)), spacing_dhw)
    return None if found is None else found.model_mm


def habits(looks: Sequence[RaterLook], spacing_dhw: Sequence[float]) -> list[Habit]:
    """What each rater does to each structure, in the order of their first looks.

    Args:
        spacing_dhw: of the data set (mm): no habit is finer than half of its voxels.
    """
    groups: dict[tuple[str, str], list[RaterLook]] = {}
    for look in looks:
        groups.setdefault((look.rater, look.structure), []).append(look)
    return [_habit(rater, structure, group, spacing_dhw) for (rater, structure), group in groups.items()]


def _habit(rater: str, structure: str, looks: Sequence[RaterLook], spacing_dhw: Sequence[float]) -> Habit:
    biases = [look.bias_mm for look in looks if look.bias_mm is not None]
    mean = float(np.mean(biases)) if biases else None
    spread = float(np.std(biases, ddof=1)) if len(biases) > 1 else None
    settled = (
        mean is not None
        and spread is not None
        and len(biases) >= FEWEST_OF_A_HABIT
        and abs(mean) > max(STANDARD_ERRORS * spread / len(biases) ** 0.5, voxel_mm(spacing_dhw) / 2)
    )
    dice = float(np.mean([look.dice for look in looks]))
    return Habit(rater, structure, len(looks), dice, mean, spread, settled)


def farthest(looks: Sequence[RaterLook]) -> list[RaterLook]:
    """Of each case and structure the rater who agrees least with the consensus; the worst of all first."""
    least: dict[tuple[str, str], RaterLook] = {}
    for look in looks:
        known = least.get((look.case, look.structure))
        if known is None or look.dice < known.dice:
            least[look.case, look.structure] = look
    return sorted(least.values(), key=lambda look: look.dice)


def drew_something_else(looks: Sequence[RaterLook]) -> list[RaterLook]:
    """Looks at masks that share less than `ANOTHER_THING` with the consensus, the worst first."""
    return sorted((look for look in looks if look.dice < ANOTHER_THING), key=lambda look: look.dice)


def words_of(look: RaterLook) -> str:
    """What a rater did in a case, in words."""
    if not look.volume_ml:
        return f"{look.rater} drew no {look.structure}, the consensus has {look.consensus_ml:.3g} mL"
    if not look.consensus_ml:
        return f"{look.rater} drew {look.volume_ml:.3g} mL of {look.structure}, the consensus has none"
    text = f"{look.rater} agrees on {look.structure} with a Dice of {look.dice:.2f}"
    if look.bias_mm is None:
        return text
    side = "outside" if look.bias_mm > 0 else "inside"
    return f"{text}, the border lies {abs(look.bias_mm):.1f} mm {side} the consensus"


def words_of_habit(habit: Habit) -> str:
    """What a rater always does, in words; empty where it is no habit."""
    if not habit.settled or habit.bias_mm is None or habit.bias_sd_mm is None:
        return ""
    side = "too wide" if habit.bias_mm > 0 else "too narrow"
    return (
        f"{habit.rater} draws {habit.structure} {abs(habit.bias_mm):.1f} mm {side} "
        f"(SD {habit.bias_sd_mm:.1f} mm, {habit.cases} cases, beside the consensus)"
    )


def rater_rows(looks: Sequence[RaterLook]) -> list[dict[str, Any]]:
    """Rows for a table, one a case, structure and rater, the least agreement first; lengths in mm, volumes in mL."""
    rows = []
    for look in sorted(looks, key=lambda each: each.dice):
        row = asdict(look)
        row["words"] = words_of(look)
        rows.append(row)
    return rows


def habit_rows(found: Sequence[Habit]) -> list[dict[str, Any]]:
    """Rows for a table, one a rater and structure."""
    return [asdict(habit) | {"words": words_of_habit(habit)} for habit in found]
