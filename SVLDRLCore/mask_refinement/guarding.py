"""One refinement under guard: which structures keep the user's mask, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from SVLDRLCore.mask_refinement.guard import UNLIKE, Guard, Verdict
from SVLDRLCore.mask_refinement.guard_file import guard_of
from SVLDRLCore.mask_refinement.guard_signs import signs_of
from SVLDRLCore.mask_refinement.segments import Values
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.models.trained_model import TrainedModel


class Guarding:
    """Judges the edits of one case and remembers the verdicts; without a guard it refuses nothing."""

    def __init__(self, guard: Guard | None) -> None:
        self.guard = guard
        self.verdicts: dict[int, Verdict] = {}

    @property
    def refused(self) -> list[int]:
        """Structures that keep their mask."""
        return [index for index, verdict in self.verdicts.items() if verdict.reason]

    def look_at(
        self,
        trained: TrainedModel,
        image: np.ndarray,
        rough: np.ndarray,
        refined: np.ndarray,
        found: np.ndarray,
        spacing_dhw: Sequence[float],
        wanted: Sequence[int],
    ) -> None:
        """Judge the structures that changed.

        Args:
            image: (M, D, H, W) in [0, 1]; rough, refined, found: maps (C, D, H, W) of the mask, the edited belief and
                the prediction; wanted: structures that were edited.
        """
        if self.guard is None:
            return
        for index in wanted:
            mask, changed = rough[index] > 0.5, refined[index] > 0.5
            if index not in self.guard.usual or not mask.any() or np.array_equal(mask, changed):
                continue
            if not changed.any():  # nothing can be measured of it, and an empty mask helps nobody
                self.verdicts[index] = Verdict(-100.0, UNLIKE)
                continue
            usual = trained.agents.calibration_of(index)
            verdict = self.guard.judge(index, signs_of(mask, changed, found[index], image, spacing_dhw, usual))
            if verdict is not None:
                self.verdicts[index] = verdict

    def drawn_anew(self, matched: Values, nested: bool) -> Values:
        """The structures to draw from their beliefs; those refused stay in the label map to the voxel.

        Nested ones are all drawn, from `beside_refused`: what a structure inside one that stays gives up belongs to
        that one.
        """
        return matched if nested else {i: values for i, values in matched.items() if i not in self.refused}

    def beside_refused(self, maps: np.ndarray, structures: Structures) -> np.ndarray:
        """Beliefs (C, D, H, W) of nested structures, of which those refused keep their place whatever others do.

        One inside a refused structure changes within it alone. One that lies beside it takes nothing from it. What
        holds it stays around it without this.
        """
        if not structures.nested or not self.refused:
            return maps
        result, values = maps.copy(), [set(each) for each in structures.values]
        for kept in self.refused:
            for index in set(range(len(maps))) - set(self.refused):
                if values[index] < values[kept]:
                    result[index] = np.minimum(result[index], maps[kept])
                elif not values[index] > values[kept]:
                    result[index] = np.minimum(result[index], 1.0 - maps[kept])
        return result

    def told(self, rows: Sequence[Mapping[str, Any]], structures: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of changes, one a structure, with `reason` and `expected_gain` (Dice points, None where unknown)."""
        verdicts = [self.verdicts.get(index) for index in structures]
        return [
            {
                **row,
                "reason": verdict.reason if verdict else "",
                "expected_gain": verdict.expected_gain if verdict else None,
            }
            for row, verdict in zip(rows, verdicts)
        ]

    def warnings(self, names: Sequence[str]) -> list[str]:
        """A sentence for each structure that was left since the image is unlike."""
        unlike = [i for i, verdict in self.verdicts.items() if verdict.reason == UNLIKE]
        return [f"{names[index]}: {UNLIKE}." for index in unlike]


def guarding_of(trained: TrainedModel, trust: float, wanted: bool = True) -> Guarding:
    """The guard of a model; none at a trust of 0, where the user believes the model and not the mask.

    Raises:
        InputError: the model's guard cannot be read.
    """
    return Guarding(guard_of(trained) if wanted and trust > 0 else None)
