"""How to refine, apart from the nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RefineOptions:
    """How to refine.

    Attributes:
        trust: 1 keeps the rough mask, 0 believes the model.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        overlap: of the sliding windows, 0 to below 1.
        marginMm: how far around the rough mask the model looks.
        policySteps: edits that each voxel may make; 0: as many as in the training.
        smallestIslandMl: pieces of a refined segment below this volume are removed.
        keepLargest: only the largest piece of each refined segment is kept.
        learnFromThisCase: without a model, train a small one on this image and its rough mask.
    """

    trust: float = 0.5
    device: str = "auto"
    overlap: float = 0.5
    marginMm: float = 20.0
    policySteps: int = 0
    smallestIslandMl: float = 0.0
    keepLargest: bool = False
    learnFromThisCase: bool = False

    def coreOptions(self) -> dict[str, Any]:
        """The same as options of `svldrl refine`."""
        return {
            "trust": float(self.trust),
            "device": self.device,
            "overlap": float(self.overlap),
            "margin_mm": float(self.marginMm),
            "policy_steps": int(self.policySteps),
            "smallest_island_ml": float(self.smallestIslandMl),
            "keep_largest": bool(self.keepLargest),
            "learn_from_this_case": bool(self.learnFromThisCase),
        }
