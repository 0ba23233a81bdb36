"""One image seen in all contexts: its regions, what is known of them, and what an agent's actions make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from SVLDRLCore.adaptation.adapting import decided
from SVLDRLCore.adaptation.recomposition import GREY, Predict, contexts
from SVLDRLCore.adaptation.region_agent import BY_CONSENSUS, RegionTable
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

LEAST_DICE = 0.2
"""Dice that a structure is thought to have at least where wrong voxels are charged: the charges stay finite."""


@dataclass(frozen=True)
class Viewed:
    """What the contexts say of one image.

    Attributes:
        teacher: uint8 (C, D, H, W), what the teacher decides.
        consensus: what it and the predictions in other grey values decide together.
        regions: of the teacher's masks; features: (R, F), see `regions.FEATURES`.
        implausible: (R, 2), share off the main piece, of the teacher's masks and of the consensus.
        believed: (1 + C, D, H, W), class probabilities by all contexts, float16.
    """

    teacher: np.ndarray
    consensus: np.ndarray
    regions: Regions
    features: np.ndarray
    implausible: np.ndarray
    believed: np.ndarray

    def taught_by(self, actions: np.ndarray, strengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Masks (C, D, H, W) and strengths (D, H, W) that the regions' actions and strengths (R,) make."""
        by_consensus = BY_CONSENSUS[actions][self.regions.index]
        strength = strengths.astype(np.float32)[self.regions.index]
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
    styles: Sequence[np.ndarray],
    nested: bool,
    config: Config,
) -> Viewed:
    """An image (M, D, H, W), for which the teacher says `maps` (C, D, H, W), in all contexts."""
    seen = [(name, found.astype(np.float16)) for name, found in contexts(image, predict, patch, surroundings, styles)]
    whole = [maps, *(found.astype(np.float32) for name, found in seen if name == GREY)]
    teacher, consensus = decided(maps, nested), decided(np.mean(whole, axis=0), nested)
    both = codes_of(teacher, nested), codes_of(consensus, nested)
    contested = np.any([codes_of(decided(each, nested), nested) != both[0] for each in whole], axis=0)
    regions = regions_of(both[0], anchor_size(patch), contested)
    agreements = [probability_of(found.astype(np.float32), both[0], nested) for _, found in seen]
    in_grey = np.mean([probability_of(each, both[0], nested) for each in whole], axis=0)
    mean = 0.5 * (maps + np.mean([found for _, found in seen], axis=0, dtype=np.float32))
    believed = class_probabilities(mean, nested).astype(np.float16)
    features = region_features(
        regions, *both, maps, believed, agreements, in_grey, contested, nested, config.agents
    )  # fmt: skip
    implausible = np.stack([regions.means(off_main_piece(each)) for each in both], axis=1)
    return Viewed(teacher, consensus, regions, features, implausible, believed)


def region_table(view: Viewed, truth: np.ndarray | None, nested: bool) -> RegionTable:
    """An image's regions for the agent; `truth`: masks (C, D, H, W) where they are known.

    Where they are not, what is believed of each class takes the truth's place.
    """
    regions, known = view.regions, view.believed.astype(np.float32)
    if truth is not None:
        known = (codes_of(truth, nested) == np.arange(len(known))[:, None, None, None]).astype(np.float32)
    charge = charges(dice_of_classes(codes_of(view.teacher, nested), known))
    gain = [
        regions.means(gain_of_teaching(codes_of(masks, nested), known, charge))
        for masks in (view.teacher, view.consensus)
    ]
    return RegionTable(
        view.features, np.stack(gain, axis=1), view.implausible, regions.size, regions.code, truth is not None
    )


def dice_of_classes(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Dice of each structure in the whole image, (C,); expected, where `known` (1 + C, D, H, W) are probabilities."""
    found = []
    for code in range(1, len(known)):
        drawn = codes == code
        found.append(2 * known[code][drawn].sum() / max(drawn.sum() + known[code].sum(), 1e-9))
    return np.array(found)


def charges(dice: np.ndarray) -> np.ndarray:
    """What a wrong voxel of each structure costs, (C,), where a right one earns 1: D / (2 - D).

    A voxel adds to the Dice D of a whole image where the structure is likelier there than D / 2 (Z. Lipton et al.,
    "Optimal Thresholding of Classifiers to Maximize F1 Measure", ECML 2014). With this charge it earns from there on.
    """
    bounded = np.clip(dice, LEAST_DICE, 1.0)
    return bounded / (2 - bounded)


def gain_of_teaching(codes: np.ndarray, known: np.ndarray, charge: np.ndarray) -> np.ndarray:
    """What it earns to teach each voxel the class `codes`, (D, H, W).

    A right voxel earns 1. A wrong one of structure c costs its charge. A voxel of c that is called background costs 1
    over its charge: it is as bad to leave out what should be drawn as to draw what should be left out.
    """
    right = np.take_along_axis(known, codes[None], axis=0)[0]
    missed = (known[1:] / charge[:, None, None, None]).sum(0)
    wrong = (1 - right) * np.concatenate([[0.0], charge])[codes]
    return right - np.where(codes == 0, missed, wrong)
