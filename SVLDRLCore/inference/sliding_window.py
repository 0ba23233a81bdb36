"""Whole volumes by MONAI's sliding window; the window equals the training patch.

A network with normalisation over space, trained on patches, sees another world in a larger window: 10 to 15
Dice points were lost that way on the left atrium, so the window is no option here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from ..agents.losses import probabilities_of


@torch.no_grad()
def predict_maps(
    predictor: Callable[[Tensor], Tensor],
    inputs: Tensor,
    patch_size: tuple[int, int, int],
    overlap: float = 0.5,
    batch_size: int = 2,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Run `predictor` on windows of (channels, D, H, W) and blend them with Gaussian weights, float32 on CPU.

    Volumes smaller than the window are padded and cut back. `progress(done, total)` counts windows.
    """
    done = 0

    def counted(windows: Tensor) -> Tensor:
        nonlocal done
        output = predictor(windows.to(memory_format=torch.channels_last_3d)).float()
        done += windows.shape[0]
        if progress:
            progress(done, -1)
        return output

    device = torch.device(device)
    return sliding_window_inference(
        inputs[None].float(),
        roi_size=patch_size,
        sw_batch_size=batch_size,
        predictor=counted,
        overlap=overlap,
        mode="gaussian",
        sw_device=device,
        device=torch.device("cpu"),
    )[0]


def predict_probabilities(
    network: nn.Module,
    image: Tensor | np.ndarray,
    patch_size: tuple[int, int, int],
    nested: bool,
    overlap: float = 0.5,
    batch_size: int = 2,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Probabilities of the structures (C, D, H, W) for an image (M, D, H, W); only the segmentation branch runs."""
    was_training = network.training
    network.eval()
    try:
        maps = predict_maps(
            lambda x: probabilities_of(network(x), nested),
            torch.as_tensor(image),
            patch_size,
            overlap,
            batch_size,
            device,
            progress,
        )
    finally:
        network.train(was_training)
    return maps.numpy()
