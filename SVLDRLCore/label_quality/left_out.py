"""What a case is not learned from, though its label is right elsewhere: a wrong part, or a forgotten structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.label_quality.weights import LabelQuality
from SVLDRLCore.label_quality.wrong_parts import Part


@dataclass(frozen=True)
class LeftOut:
    """Of one case.

    Attributes:
        region: boolean (D, H, W), voxels that give no gradient; None where there is none.
        structures: numbers of those that count as not drawn (`TrainingCase.missing`).
        why: in words.
    """

    region: np.ndarray | None
    structures: tuple[int, ...]
    why: str

    def state(self) -> dict[str, Any]:
        """Plain types and tensors, for checkpoints."""
        bits = None if self.region is None else torch.from_numpy(np.packbits(self.region))
        shape = None if self.region is None else list(self.region.shape)
        return {"bits": bits, "shape": shape, "structures": list(self.structures), "why": self.why}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> LeftOut:
        """What `state()` was taken of."""
        region = None
        if state["bits"] is not None:
            count = int(np.prod(state["shape"]))
            region = np.unpackbits(state["bits"].numpy(), count=count).reshape(state["shape"]).astype(bool)
        return cls(region, tuple(state["structures"]), state["why"])


NOTHING = LeftOut(None, (), "")


def left_out_of(
    case: TrainingCase, parts: Mapping[int, Part], forgotten: Sequence[int], names: Sequence[str]
) -> LeftOut:
    """What is left out of a case.

    Args:
        parts: wrong ones, by structure; forgotten: structures; names: of all structures.
    """
    region: np.ndarray | None = None
    told = [f"{names[structure]} is not learned from it" for structure in forgotten]
    for structure, part in parts.items():
        piece = part.on(case.masks.shape[1:])
        grown = ndimage.distance_transform_edt(~piece, sampling=case.spacing_dhw) <= part.margin_mm
        region = grown if region is None else region | grown
        is_ = "seems to be missing" if part.kind == "missing part" else "seems to be too much"
        share = 100 * part.voxels.sum() / max(1, int(case.masks[structure].sum()))
        told.append(f"a piece of {names[structure]} ({share:.0f} % of what is drawn) {is_}, and is not learned from")
    return LeftOut(region, tuple(forgotten), "; ".join(told))


def mended_masks(case: TrainingCase, parts: Mapping[int, Part]) -> np.ndarray:
    """The case's masks (C, D, H, W), uint8, with wrong parts as the network draws them."""
    masks = case.masks.numpy().copy()
    for structure, part in parts.items():
        masks[structure][part.box][part.voxels] = part.kind == "missing part"
    return masks


def without_missing(quality: LabelQuality) -> LabelQuality:
    """The quality of what is drawn, whatever a label lacks."""
    weights = quality.weights if quality.of_drawn is None else quality.of_drawn
    return replace(quality, weights=weights, missing=None, of_drawn=None)
