"""Voxels near the border of each case's label, with what a network makes of them: what the label agents' heads need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from SVLDRLCore.config.settings import DataConfig
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import draw_window, foreground_voxels, labelled_voxels
from SVLDRLCore.label_quality.label_agents import LabelVoxels
from SVLDRLCore.label_quality.thresholds import FINEST_LEVELS, MOST_VALUES, NEAR_VOXELS, PER_WINDOW, WINDOWS
from SVLDRLCore.learning.segmentation_loss import probabilities_of
from SVLDRLCore.masks.known_voxels import where_known
from SVLDRLCore.networks.actor_critic_unetr import ActorCriticUNETR
from SVLDRLCore.networks.backbones import upsample_to


@torch.no_grad()
def label_voxels(
    network: nn.Module,
    cases: Sequence[TrainingCase],
    config: DataConfig,
    nested: bool,
    device: torch.device,
    between: Callable[[], None],
) -> list[LabelVoxels]:
    """Features of one network and the given label at voxels of each case; the same ones whenever it is called.

    Args:
        network: predicts; it is left in the mode it was in.
        between: called before each case; what it raises (a cancel) ends it.
    """
    assert isinstance(network, ActorCriticUNETR)
    was_training = network.training
    network.eval()
    try:
        found = []
        for index, case in enumerate(cases):
            between()
            rng = np.random.default_rng(index)
            found.append(_of_case(network, case, config, nested, device, rng, MOST_VALUES // len(cases)))
        return found
    finally:
        network.train(was_training)


def _of_case(
    network: ActorCriticUNETR,
    case: TrainingCase,
    config: DataConfig,
    nested: bool,
    device: torch.device,
    rng: np.random.Generator,
    most_values: int,
) -> LabelVoxels:
    structures = foreground_voxels(case)
    drawn = [voxels for voxels in structures if len(voxels)] or structures
    around = [drawn[i % len(drawn)] for i in range(max(WINDOWS, len(drawn)))]
    close = replace(config, foreground_fraction=1.0)
    labelled = labelled_voxels(case)
    windows = [draw_window(case.image.shape[1:], close, voxels, rng, labelled) for voxels in around]
    images = torch.stack([case.image[:, *window].float() for window in windows]).to(device)
    maps, probabilities = _seen(network, images, nested)
    share = max(1, min(PER_WINDOW, most_values // (sum(f.shape[1] for f in maps) * len(windows))))
    taken = []
    for index, (window, predicted) in enumerate(zip(windows, probabilities)):
        ignored = None if case.ignored is None else case.ignored[window]
        masks = where_known(case.masks[:, *window].numpy() > 0, ignored)
        near = where_known(near_borders(np.concatenate([masks, predicted > 0.5])), ignored)
        chosen = np.flatnonzero(near if near.any() else where_known(np.ones_like(near), ignored))
        chosen = rng.choice(chosen, min(share, len(chosen)), replace=False)
        # One map at a time: at full resolution, all maps of a large network together would fill a GPU.
        seen = [_at(f[index : index + 1], images.shape[2:], chosen) for f in maps]
        taken.append((np.concatenate(seen, axis=1), masks.reshape(len(masks), -1)[:, chosen].T))
    return LabelVoxels(np.concatenate([seen for seen, _ in taken]), np.concatenate([masks for _, masks in taken]))


def _seen(network: ActorCriticUNETR, images: Tensor, nested: bool) -> tuple[list[Tensor], np.ndarray]:
    """Feature maps (windows, features, ...) at their own resolutions, the logits last, and the probabilities."""
    decoder, levels = network.segmentation_decoder, network.encode(images)
    body = decoder.body(levels)
    logits = upsample_to(decoder.head(body), images.shape[2:])
    return [body, *levels[:FINEST_LEVELS], logits], probabilities_of(logits, nested).float().cpu().numpy()


def _at(feature_map: Tensor, size: Sequence[int], voxels: np.ndarray) -> np.ndarray:
    """(voxels, features) of a map (1, features, ...) brought to the image's `size`, at flat indices."""
    flat = upsample_to(feature_map, size).flatten(2)[0]
    return flat[:, torch.from_numpy(voxels).to(flat.device)].T.float().cpu().numpy()


def near_borders(masks: np.ndarray) -> np.ndarray:
    """Voxels (D, H, W) within `NEAR_VOXELS` of the border of any of the masks (M, D, H, W), booleans."""
    near = np.zeros(masks.shape[1:], bool)
    for mask in masks:
        if mask.any():
            wide = ndimage.binary_dilation(mask, iterations=NEAR_VOXELS)
            near |= wide & ~ndimage.binary_erosion(mask, iterations=NEAR_VOXELS, border_value=1)
    return near
