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
    codes_of,
    main_pieces,
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
        consensus: uint8 (C, D, H, W), by the mean of teacher and contexts, the largest piece of each structure (what
            SVL-DRL eq. 13 calls plausible).
        teacher: the same by the teacher alone.
        regions: of the consensus; features: (R, F), see `regions.FEATURES`.
        implausible: (R, 2), share off the main piece, of the consensus and of the teacher's label.
        believed: (R, 2), what teacher and contexts in the mean give to the consensus, and to the teacher's label.
    """

    consensus: np.ndarray
    teacher: np.ndarray
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
    mean = np.mean([maps, *seen], axis=0, dtype=np.float32)
    teacher, consensus = decided(maps, nested), main_pieces(decided(mean, nested))
    both = codes_of(consensus, nested), codes_of(teacher, nested)
    regions = regions_of(both[0], anchor_size(patch))
    agreements = [probability_of(each.astype(np.float32), both[0], nested) for each in seen]
    features = region_features(regions, *both, maps, agreements, nested, config.agents)
    implausible = np.stack([regions.means(off_main_piece(each)) for each in both], axis=1)
    believed = np.stack([regions.means(probability_of(mean, each, nested)) for each in both], axis=1)
    return Viewed(consensus, teacher, regions, features, implausible, believed)


def region_table(view: Viewed, truth: np.ndarray | None, nested: bool) -> RegionTable:
    """An image's regions for the agent; `truth`: masks (C, D, H, W) where they are known."""
    regions = view.regions
    if truth is None:
        right, by_teacher = view.believed.T
    else:
        codes = codes_of(truth, nested)
        right = regions.means(codes_of(view.consensus, nested) == codes)
        by_teacher = regions.means(codes_of(view.teacher, nested) == codes)
    return RegionTable(
        view.features, right, by_teacher, view.implausible, regions.size, regions.code, truth is not None
    )
