"""How the universal refiner learns: stage by stage, each on masks that no stage before it has seen.

Everything follows from the seed: mask number n of a stage is the same on every machine with the same libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.universal_refiner import own_offset, perception
from SVLDRLCore.universal_refiner.classifier import VoxelClassifier, stage_features
from SVLDRLCore.universal_refiner.habits import DrawnMask, draw_mask
from SVLDRLCore.universal_refiner.rendering import render
from SVLDRLCore.universal_refiner.scenes import draw_scene
from SVLDRLCore.universal_refiner.unseen_borders import UNSEEN_SHARE, by_knowledge

MASKS_OF_SCENE = 4
MARGIN = 12.0
HIDDEN = 96
VOXELS_OF_MASK = 2000
BATCH_VOXELS = 8192
FIRST_RATE = 4e-3
SHAKEN = 0.2
"""Noise on what all voxels of a mask share, in its spread: else single masks are learned by heart."""


class LearningClassifier(nn.Module):
    """What becomes a `VoxelClassifier`: logits (N, 2) from features (N, F)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2)
        )
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, distance: Tensor) -> Tensor:
        """`distance`: (N,) to the rough mask's border in u, negative inside."""
        drawn = -2 * torch.tanh(distance / 1.5)
        return self.layers((features - self.mean) / self.scale) + drawn[:, None]

    def learned(self) -> VoxelClassifier:
        """The same without torch."""
        return VoxelClassifier({name: value.numpy().copy() for name, value in self.state_dict().items()})


def draw_examples(
    seed: int, stage: int, number: int
) -> list[tuple[np.ndarray, DrawnMask, tuple[float, ...]]]:  # fmt: skip
    """The masks of one scene: image (D, H, W), what was drawn, spacing in u. Two images, two masks on each.

    Some are of structures whose border does not show (`unseen_borders`).

    Each is a box around the structure and what was drawn of it, with `MARGIN` u around, as a mask is refined in.
    """
    rng = np.random.default_rng([seed, stage, number])
    scene = draw_scene(rng)
    examples, labels = [], scene.labels
    for index in range(MASKS_OF_SCENE):
        if index % 2 == 0:
            target = scene.targets[0] if rng.random() < 0.5 else int(rng.choice(scene.targets))
            image = render(scene, target, rng)
        structure = labels == target
        shown = rng.random() >= UNSEEN_SHARE
        if not shown:
            structure = by_knowledge(structure, scene.spacing, rng)
        drawn = draw_mask(structure, labels, scene.spacing, rng)
        box = bounding_box(drawn.rough | drawn.meant | drawn.truth, [MARGIN / s for s in scene.spacing])
        near = DrawnMask(drawn.truth[box], drawn.meant[box], drawn.rough[box], drawn.kinds, shown)
        examples.append((image[box], near, scene.spacing))
    return examples


def learning_voxels(
    stages: Sequence[VoxelClassifier], seed: int, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, F) float16, distances (N,) and both answers (N, 2) of one scene's masks for the next stage."""
    rng = np.random.default_rng([seed, 1000 + len(stages), number])
    found = []
    for image, drawn, spacing in draw_examples(seed, len(stages), number):
        features, distances, near = stage_features(stages, image, drawn.rough, spacing)
        chosen = rng.permutation(len(distances))[:VOXELS_OF_MASK]
        answers = np.stack([drawn.truth[near], drawn.meant[near]], axis=1)
        found.append((features[chosen].astype(np.float16), distances[chosen], answers[chosen]))
    features, distances, answers = (np.concatenate(parts) for parts in zip(*found))
    return features, distances, answers


def fit_stage(
    features: np.ndarray,
    distances: np.ndarray,
    answers: np.ndarray,
    steps: int,
    seed: int,
    each_step: Callable[[int, float], None] = lambda step, loss: None,
) -> VoxelClassifier:
    """A stage that answers as it was told; `each_step` gets the number of steps done and the loss."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stage = LearningClassifier(features.shape[1])
    sample = torch.from_numpy(features[:: max(1, len(features) // 50_000)].astype(np.float32))
    stage.mean.copy_(sample.mean(0))
    stage.scale.copy_(sample.std(0) + 0.05)
    shaken = SHAKEN * stage.scale * _shared_by_all(features.shape[1])
    optimiser = torch.optim.AdamW(stage.parameters(), FIRST_RATE, weight_decay=1e-3)
    wanted = torch.from_numpy(answers.astype(np.float32))
    far = torch.from_numpy(distances)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = FIRST_RATE * (0.5 + 0.5 * np.cos(np.pi * step / steps)) + 1e-5
        chosen = torch.randint(0, len(far), (min(BATCH_VOXELS, len(far)),), generator=generator)
        batch = torch.from_numpy(features[chosen.numpy()].astype(np.float32))
        batch += shaken * torch.randn(batch.shape, generator=generator)
        loss = binary_cross_entropy_with_logits(stage(batch, far[chosen]), wanted[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        each_step(step + 1, float(loss.detach()))
    return stage.learned()


def _shared_by_all(features: int) -> torch.Tensor:
    """1 for features that all voxels of a mask share, 0 for the others."""
    shared = torch.zeros(features)
    shared[perception.OF_WHOLE_MASK] = 1
    if features > perception.OF_WHOLE_MASK.stop:
        shared[-own_offset.OF_WHOLE_MASK :] = 1
    return shared
