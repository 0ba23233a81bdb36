"""One image seen in all contexts: its regions, what is known of them, and what an agent's actions make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from SVLDRLCore.adaptation.adapting import decided
from SVLDRLCore.adaptation.recomposition import Predict, contexts
from SVLDRLCore.adaptation.region_agent import BY_CONSENSUS, STRENGTH_OF, RegionTable
from SVLDRLCore.adaptation.regions import (
    FEATURES,
    Regions,
    anchor_size,
    class_probabilities,
    codes_of,
    off_main_piece,
    probability_of,
    region_features,
    regions_of,
)
from SVLDRLCore.config.settings import Config
from SVLDRLCore.data.cases import TrainingCase


@dataclass(frozen=True)
class Viewed:
    """What the contexts say of one image.

    Attributes:
        teacher: uint8 (C, D, H, W), what the teacher decides.
        consensus: what it and the contexts decide together.
        regions: of the teacher's masks; features: (R, F), see `regions.FEATURES`.
        implausible: (R, 2), share off the main piece, of the teacher's masks and of the consensus.
        believed: (1 + C, D, H, W), class probabilities by all of them, float16.
    """

    teacher: np.ndarray
    consensus: np.ndarray
    regions: Regions
    features: np.ndarray
    implausible: np.ndarray
    believed: np.ndarray

    def taught_by(self, actions: np.ndarray, nested: bool) -> tuple[np.ndarray, np.ndarray]:
        """Masks (C, D, H, W) and strengths (D, H, W) that the actions (R,) of the regions make."""
        strength = STRENGTH_OF[actions].astype(np.float32)[self.regions.index]
        by_consensus = BY_CONSENSUS[actions][self.regions.index]
        return np.where(by_consensus, self.consensus, self.teacher), strength

    def picture(self, case: TrainingCase, masks: np.ndarray, strength: np.ndarray, number: int) -> dict[str, Any]:
        """The slice with most of the structures: what the report shows of a round; tensors, for checkpoints."""
        slices = masks.any(0).sum((1, 2))
        at = int(slices.argmax()) if slices.any() else len(slices) // 2
        reliability = self.features[:, FEATURES.index("reliability")][self.regions.index]
        maps = {
            "image": case.image.numpy()[0, at], "label": codes_of(masks[:, at : at + 1], False)[0],
            "reliability": reliability[at], "strength": strength[at],
        }  # fmt: skip
        shown = {name: torch.from_numpy(np.ascontiguousarray(values, np.float32)) for name, values in maps.items()}
        return {"case": case.name, "round": number, "slice": at, "spacing": list(case.spacing_dhw), **shown}


def viewed(
    image: np.ndarray,
    maps: np.ndarray,
    predict: Predict,
    patch: Sequence[int],
    surroundings: Mapping[str, np.ndarray],
    nested: bool,
    config: Config,
) -> Viewed:
    """An image (M, D, H, W), for which the teacher says `maps` (C, D, H, W), in all contexts."""
    seen = [found.astype(np.float16) for _, found in contexts(image, predict, patch, surroundings)]
    mean = 0.5 * (maps + np.mean(seen, axis=0, dtype=np.float32))
    teacher, consensus = decided(maps, nested), decided(mean, nested)
    both = codes_of(teacher, nested), codes_of(consensus, nested)
    regions = regions_of(both[0], anchor_size(patch))
    agreements = [probability_of(each.astype(np.float32), both[0], nested) for each in seen]
    believed = class_probabilities(mean, nested).astype(np.float16)
    features = region_features(regions, *both, maps, believed, agreements, nested, config.agents)
    implausible = np.stack([regions.means(off_main_piece(each)) for each in both], axis=1)
    return Viewed(teacher, consensus, regions, features, implausible, believed)


def region_table(view: Viewed, truth: np.ndarray | None, nested: bool, missed_weight: float) -> RegionTable:
    """An image's regions for the agent; `truth`: masks (C, D, H, W) where they are known.

    Where they are not, what is believed of each class takes the truth's place.
    """
    regions, known = view.regions, view.believed.astype(np.float32)
    if truth is not None:
        known = codes_of(truth, nested) == np.arange(len(known))[:, None, None, None]
    of_teacher, of_consensus = (
        regions.means(right) / np.maximum(regions.means(right + wrong), 1e-9)
        for right, wrong in (
            right_and_wrong(codes_of(masks, nested), known, missed_weight) for masks in (view.teacher, view.consensus)
        )
    )
    return RegionTable(
        view.features, of_teacher, of_consensus, view.implausible, regions.size, regions.code, truth is not None
    )


def right_and_wrong(codes: np.ndarray, known: np.ndarray, missed_weight: float) -> tuple[np.ndarray, np.ndarray]:
    """How right a label is at each voxel, and how wrong, (D, H, W).

    Args:
        codes: classes that the label says; known: the classes' probabilities, or their truth, (K, D, H, W).
        missed_weight: how many voxels a structure's voxel counts that the label calls background.
    """
    right = np.take_along_axis(known, codes[None], axis=0)[0].astype(np.float32)
    return right, (1 - right) * np.where(codes == 0, missed_weight, 1.0)
