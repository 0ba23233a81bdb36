"""The mask agents' training: drawing a batch beside the step that learns from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from measuring import compared, cpu_seconds
from scipy import ndimage
from table import Row, group

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.mask_refinement.method import MaskAgents
from SVLDRLCore.mask_refinement.patches import MaskPatchSampler
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.trained_model import build_mask_network

ONE = structures_of({1: "organ"})


@group("mask_agents")
def mask_agent_rows(folder: Path) -> Iterator[Row]:
    """Cases of the size of a left atrium at 2 mm."""
    config = load_config("general", "extended", {"data": {"patch_size": [32, 48, 48]}})
    cases, predictions = [], []
    for seed in range(4):
        image, label = make_phantom(seed, (48, 80, 80), (2.0, 2.0, 2.0))
        masks = ONE.masks(label)
        cases.append(in_memory(f"case_{seed}", image, masks, (2.0, 2.0, 2.0), tuple(config.data.patch_size)))
        soft = ndimage.gaussian_filter(masks.astype(np.float32), (0, 1.0, 1.5, 1.0))
        predictions.append([ndimage.shift(soft, (0, 0, 1, 0)), soft])
    sampler = MaskPatchSampler(cases, predictions, config.data, config.mask_agents, 2, 0, [1.0] * 4)
    torch.manual_seed(0)
    network = build_mask_network(config, 1, ONE)
    network.calibrate(sampler.calibrations)
    agents = MaskAgents(network, config.mask_agents, torch.Generator().manual_seed(0))
    for stage in ("transition", "full_rl"):
        drawing = learning = 0.0
        for turn in range(24):
            batch = []
            drawn = cpu_seconds(lambda batch=batch: batch.append(sampler.next()))
            stepped = cpu_seconds(lambda batch=batch, stage=stage: _step(agents, batch[0], stage))
            if turn >= 8:
                drawing, learning = drawing + drawn, learning + stepped
        found = compared([(drawing, learning)])
        yield Row(
            f"mask agents, {stage}: drawing 16 batches", target=0.05, against="the steps that learn from them",
            **found.sides(),
        )  # fmt: skip


def _step(agents: MaskAgents, batch: object, stage: str) -> None:
    agents.network.zero_grad()
    agents.training_step(batch, stage, 0.5).loss.backward()  # type: ignore[arg-type]
