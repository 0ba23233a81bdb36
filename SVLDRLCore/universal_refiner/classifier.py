"""The belief of each voxel near a rough mask's border: a small network on its features, in stages.

A later stage sees what the one before believes around a voxel (auto-context), and how the mask's border lies from it.
Each stage answers two questions at once: is this voxel of the structure (*snap*), and is it of the structure as this
reader draws it (*even out*)?
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from SVLDRLCore.universal_refiner.own_offset import own_offset
from SVLDRLCore.universal_refiner.perception import BAND, context, perceive

SNAP, EVEN_OUT = 0, 1
"""Which output answers which question."""
HIDDEN = 96


class VoxelClassifier(nn.Module):
    """Logits (N, 2) from features (N, F): what is added to the rough mask's own answer."""

    def __init__(self, features: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2)
        )
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    mean: Tensor
    scale: Tensor

    def forward(self, features: Tensor, distance: Tensor) -> Tensor:
        """`distance`: (N,) to the rough mask's border in u, negative inside."""
        drawn = -2 * torch.tanh(distance / 1.5)
        return self.layers((features - self.mean) / self.scale) + drawn[:, None]


def stage_features(
    stages: Sequence[VoxelClassifier], image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, F) for the stage after `stages`, distances (N,), and where (D, H, W) these voxels are."""
    features, distances, near, _ = _seen_and_believed(stages, image, mask, spacing)
    return features, distances, near


def beliefs_of(
    stages: Sequence[VoxelClassifier], image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]
) -> list[np.ndarray]:
    """Of each stage, (2, D, H, W) in [0, 1], of `SNAP` and `EVEN_OUT`; away from the border they are the mask."""
    features, distances, near, beliefs = _seen_and_believed(stages[:-1], image, mask, spacing)
    return [*beliefs, _believed(stages[-1], features, mask, near, distances)]


def _seen_and_believed(
    stages: Sequence[VoxelClassifier], image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    maps, distance = perceive(image, mask, spacing)
    near = np.abs(distance) < BAND
    seen, distances = maps[:, near].T, distance[near]
    features, found = np.ascontiguousarray(seen), []
    for stage in stages:
        beliefs = _believed(stage, features, mask, near, distances)
        around = [context(belief, mask, spacing)[:, near].T for belief in beliefs]
        around.append(own_offset(beliefs[SNAP], mask, distance, spacing)[:, near].T)
        features = np.ascontiguousarray(np.concatenate([seen, *around], axis=1))
        found.append(beliefs)
    return features, distances, near, found


def _believed(
    stage: VoxelClassifier, features: np.ndarray, mask: np.ndarray, near: np.ndarray, distances: np.ndarray
) -> np.ndarray:
    beliefs = np.repeat(mask[None].astype(np.float32), 2, axis=0)
    beliefs[:, near] = _answers(stage, features, distances)
    return beliefs


@torch.no_grad()
def _answers(stage: VoxelClassifier, features: np.ndarray, distances: np.ndarray) -> np.ndarray:
    logits = stage(torch.from_numpy(features), torch.from_numpy(np.ascontiguousarray(distances)))
    return torch.sigmoid(logits).numpy().T
