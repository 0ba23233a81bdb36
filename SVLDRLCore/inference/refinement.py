"""Prediction from scratch and refinement of a rough mask, on a prepared image's grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..agents.mask_agents import edit_mask
from ..exchange.trained_model import TrainedModel
from .sliding_window import predict_maps, predict_probabilities

DEFAULT_TRUST = 0.5
"""How far the user's mask is believed: 1 returns it unchanged, 0 lets the agents act wherever they lean to."""


def threshold_of(trust: float) -> float:
    """Probability that an action needs: 0.35 (chance is 1/3) at trust 0, 0.70 at 0.5, 0.98 at 0.9, none at 1."""
    return 2.0 if trust >= 1 else 1.0 / (1.0 + math.exp(0.6 - 2.4 * trust - 4.0 * trust**4))


def predict(
    model: TrainedModel,
    image: np.ndarray,
    *,
    overlap: float = 0.5,
    batch_size: int = 4,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Probabilities of the structures (C, D, H, W) without any mask; the segmentation branch alone."""
    return predict_probabilities(
        model.network,
        image,
        model.config.data.patch_size,
        model.structures.nested,
        overlap,
        batch_size,
        device,
        progress,
    )


def refine(
    model: TrainedModel,
    image: np.ndarray,
    rough: np.ndarray,
    prediction: np.ndarray,
    wanted: Sequence[int],
    *,
    trust: float = DEFAULT_TRUST,
    overlap: float = 0.5,
    batch_size: int = 4,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Belief maps (C, D, H, W) in [0, 1] after the mask agents have edited a rough mask.

    Args:
        image: (M, D, H, W) in [0, 1]; rough: (C, D, H, W) in [0, 1]; prediction: (C, D, H, W) from `predict`.
        wanted: indices of the structures to refine; the others keep their rough mask.
        trust: 0 to 1, see DEFAULT_TRUST.

    With a model that has no mask agents, mask and prediction are blended by `trust`.
    """
    refined = rough.astype(np.float32).copy()
    if trust >= 1:
        return refined
    for index in wanted:
        if model.mask_network is None:
            refined[index] = trust * rough[index] + (1 - trust) * prediction[index]
            continue
        inputs = np.concatenate([image, rough[index : index + 1], prediction[index : index + 1]])
        refined[index] = _edit(
            model, torch.from_numpy(inputs), threshold_of(trust), overlap, batch_size, device, progress
        )[0]
    return refined


def _edit(
    model: TrainedModel,
    inputs: Tensor,
    threshold: float,
    overlap: float,
    batch_size: int,
    device: torch.device | str,
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    channels = model.channels

    def agents(x: Tensor) -> Tensor:
        image, rough, prediction = x[:, :channels], x[:, channels : channels + 1], x[:, channels + 1 :]
        return edit_mask(model.mask_network, image, rough, prediction, model.config.mask_agents, threshold)

    size = model.config.data.patch_size
    return predict_maps(agents, inputs, size, overlap, batch_size, device, progress).numpy()
