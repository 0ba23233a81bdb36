"""How far labels are believed in a review: by deviations from the other cases, and by the signs against each."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from SVLDRLCore.config.settings import ReliabilityConfig
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.label_quality.features import LabelFeatures
from SVLDRLCore.label_quality.kept_versions import KeptVersions
from SVLDRLCore.label_quality.signs import Signs, by_signs, signs_against
from SVLDRLCore.label_quality.weights import LabelQuality, judge
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
        """By signs, where there are any; `earlier`: as for `weights.judge`."""
        quality = judge(features, self.trusted, self.spacing_mm, self.config, earlier)
        if quality.inverted or not signs:
            return quality
        unsharp = replace(self.config, sharpness=False)
        belief = judge(features, self.trusted, self.spacing_mm, unsharp).weights
        return by_signs(quality, belief, signs, self.trusted)


def signs_of_case(
    case: TrainingCase, probabilities: np.ndarray, spoiled: Sequence[int], kept: KeptVersions | None = None
) -> SignsOfCase:
    """Signs against each structure's label, and against so many spoiled versions of each, of which `kept` has some."""
    image, seed = case.image.numpy(), zlib.crc32(case.name.encode())
    drawn = [where_known(np.asarray(mask > 0), case.ignored) for mask in case.masks.numpy()]
    return [
        signs_against(mask, maps, image, case.spacing_dhw, case.ignored, (seed, structure), spoiled[structure], kept)
        if mask.any()
        else None
        for structure, (mask, maps) in enumerate(zip(drawn, probabilities))
    ]
