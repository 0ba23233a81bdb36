"""The belief of each voxel near a rough mask's border: a small network on its features, in stages.

A later stage sees what the one before believes around a voxel (auto-context), and how the mask's border lies from it.
Each stage answers two questions at once: is this voxel of the structure (*snap*), and is it of the structure as this
reader draws it (*even out*)?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from SVLDRLCore.universal_refiner.own_offset import own_offset
from SVLDRLCore.universal_refiner.perception import BAND, context, perceive

SNAP, EVEN_OUT = 0, 1
"""Which output answers which question."""
LAYERS = ("layers.0", "layers.2", "layers.4")
VOXELS_AT_A_TIME = 65_536
CERTAIN = 30.0
"""Logit beyond which float32 knows no difference."""


@dataclass(frozen=True)
class VoxelClassifier:
    """A network that has been learned: logits (N, 2) from features (N, F), added to the rough mask's own answer.

    It works without torch, whose loading takes longer than a refinement.

    Attributes:
        weights: float32 arrays by name: `mean` and `scale` (F,), and `weight` and `bias` of each of `LAYERS`.
    """

    weights: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        names = {"mean", "scale", *(f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias"))}
        if self.weights.keys() != names:
            raise ValueError("weights are missing, or too many")
        if any(value.ndim != (2 if name.endswith("weight") else 1) for name, value in self.weights.items()):
            raise ValueError("the shapes of its weights do not fit")
        if not (self.weights["scale"] > 0).all():
            raise ValueError("a scale is not above 0")
        width = len(self.weights["mean"])
        shapes: dict[str, tuple[int, ...]] = {"scale": (width,)}
        for layer in LAYERS:
            bias = len(self.weights[f"{layer}.bias"])
            shapes |= {f"{layer}.weight": (bias, width), f"{layer}.bias": (bias,)}
            width = bias
        if width != 2 or any(self.weights[name].shape != shape for name, shape in shapes.items()):
            raise ValueError("the shapes of its weights do not fit")

    def beliefs(self, features: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """(N, 2) in [0, 1]; `distances`: (N,) to the rough mask's border in u, negative inside."""
        made = [
            self._of_block(features[i : i + VOXELS_AT_A_TIME], distances[i : i + VOXELS_AT_A_TIME])
            for i in range(0, len(features), VOXELS_AT_A_TIME)
        ]
        return np.concatenate(made) if made else np.zeros((0, 2), np.float32)

    def _of_block(self, features: np.ndarray, distances: np.ndarray) -> np.ndarray:
        x = (features - self.weights["mean"]) / self.weights["scale"]
        for layer in LAYERS:
            x = x @ self.weights[f"{layer}.weight"].T + self.weights[f"{layer}.bias"]
            if layer != LAYERS[-1]:
                x *= expit(x)  # SiLU
        drawn = -2 * np.tanh(distances / np.float32(1.5))
        return expit(np.clip(x + drawn[:, None], -CERTAIN, CERTAIN))


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
    beliefs[:, near] = stage.beliefs(features, distances).T
    return beliefs
