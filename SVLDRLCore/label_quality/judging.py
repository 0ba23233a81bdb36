"""How far labels are believed in a review: as a whole, and but for their wrong parts and what they lack."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from SVLDRLCore.config.settings import ReliabilityConfig
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.label_quality.features import LabelFeatures, label_edges, label_features, label_sharpness
from SVLDRLCore.label_quality.kept_versions import KeptVersions
from SVLDRLCore.label_quality.left_out import mended_masks, without_missing
from SVLDRLCore.label_quality.signs import Signs, by_signs, signs_against
from SVLDRLCore.label_quality.weights import LabelQuality, judge
from SVLDRLCore.label_quality.wrong_parts import Part, PartsOfLabel, parts_of_label
from SVLDRLCore.masks.known_voxels import where_known

SignsOfCase = Sequence[Signs | None]
"""Against each structure's label; None where it shows nothing."""


@dataclass(frozen=True)
class Judging:
    """What labels are judged by, beside what is seen of them."""

    trusted: Sequence[bool]
    spacing_mm: float
    config: ReliabilityConfig

    def judged(
        self, features: Sequence[LabelFeatures], signs: Sequence[SignsOfCase], earlier: Sequence[float] | None
    ) -> LabelQuality:
        """The labels as a whole: by signs, where there are any; `earlier`: as for `weights.judge`."""
        quality = judge(features, self.trusted, self.spacing_mm, self.config, earlier)
        return quality if quality.inverted else self._by_signs(quality, features, signs)

    def of_rest(
        self,
        features: Sequence[LabelFeatures],
        signs: Sequence[SignsOfCase],
        mended: Mapping[int, tuple[LabelFeatures, SignsOfCase]],
    ) -> tuple[float, ...]:
        """Weights of all labels, whatever they lack, some as they would be without their wrong part.

        Args:
            mended: features and signs of these, the network's own drawing in place of the wrong part.
        """
        features, signs = list(features), list(signs)
        for i, (seen, against) in mended.items():
            features[i] = seen
            olds = signs[i]
            signs[i] = [new and replace(new, spoiled=old.spoiled if old else ()) for new, old in zip(against, olds)]
        quality = without_missing(judge(features, self.trusted, self.spacing_mm, self.config))
        return self._by_signs(quality, features, signs).weights

    def _by_signs(
        self, quality: LabelQuality, features: Sequence[LabelFeatures], signs: Sequence[SignsOfCase]
    ) -> LabelQuality:
        if not signs:
            return quality
        unsharp = replace(self.config, sharpness=False)
        belief = judge(features, self.trusted, self.spacing_mm, unsharp).weights
        return by_signs(quality, belief, signs, self.trusted)


def mended_look(
    case: TrainingCase,
    probabilities: np.ndarray,
    parts: Mapping[int, Part],
    config: ReliabilityConfig,
    nested: bool,
    enough_mm3: Sequence[float],
) -> tuple[LabelFeatures, SignsOfCase]:
    """Features of a label and signs against it, with its wrong parts as the network draws them.

    Args:
        parts: by structure; nested, enough_mm3: as in `label_features`.
    """
    masks = mended_masks(case, parts)
    given = masks, case.image.numpy(), case.spacing_dhw, case.ignored
    seen = label_edges(*given) if config.edge else (), label_sharpness(*given) if config.sharpness else ()
    features = label_features(probabilities, masks, case.spacing_dhw, *seen, case.ignored, nested, enough_mm3)
    return features, _signs_of(masks, case, probabilities, [0] * len(masks), None)


def signs_of_case(
    case: TrainingCase, probabilities: np.ndarray, spoiled: Sequence[int], kept: KeptVersions | None = None
) -> SignsOfCase:
    """Signs against each structure's label, and against so many spoiled versions of each, of which `kept` has some."""
    return _signs_of(case.masks.numpy(), case, probabilities, spoiled, kept)


def _signs_of(
    masks: np.ndarray, case: TrainingCase, probabilities: np.ndarray, spoiled: Sequence[int], kept: KeptVersions | None
) -> SignsOfCase:
    image, seed = case.image.numpy(), zlib.crc32(case.name.encode())
    drawn = [where_known(np.asarray(mask > 0), case.ignored) for mask in masks]
    return [
        signs_against(mask, maps, image, case.spacing_dhw, case.ignored, (seed, structure), spoiled[structure], kept)
        if mask.any()
        else None
        for structure, (mask, maps) in enumerate(zip(drawn, probabilities))
    ]


def parts_of_case(case: TrainingCase, probabilities: np.ndarray) -> list[PartsOfLabel | None]:
    """Parts of each structure's label; None where it shows nothing."""
    image, seed = case.image.numpy(), zlib.crc32(case.name.encode())
    drawn = [where_known(np.asarray(mask > 0), case.ignored) for mask in case.masks.numpy()]
    return [
        parts_of_label(mask, maps, image, case.spacing_dhw, case.ignored, (seed, structure)) if mask.any() else None
        for structure, (mask, maps) in enumerate(zip(drawn, probabilities))
    ]
