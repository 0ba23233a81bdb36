"""How much memory a refinement, an audit's case or a training takes, told before it starts: low guesses.

Bytes a voxel were measured as the largest resident memory of a process on a CPU, over a tenth to a hundred million
voxels; the guesses leave out what depends on the case, so that nothing is refused that would fit.
"""

from __future__ import annotations

import contextlib
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from SVLDRLCore.config.settings import Config
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.volume_headers import read_header
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.memory import gigabytes, require_memory
from SVLDRLCore.models.trained_model import TrainedModel

AROUND_MASK_BYTES = 5
"""Of each of the image's own voxels in a refinement of a rough mask, which works around it: measured 6.5."""
NATIVE_BYTES, NATIVE_BYTES_A_STRUCTURE = 7, 3
"""Of each of the image's own voxels where there is no rough mask: measured 9 with one structure, 16 with three, from 1
to 41 million voxels."""
PREPARED_BYTES_A_CHANNEL, PREPARED_BYTES_A_MAP = 8, 8
"""Of each voxel of the grid that the network sees: the image and its windows' blend, as float32."""
WINDOW_BYTES = 28
"""Of each voxel and feature of the windows that a network sees at a time; measured 28 to 43 without gradients."""
TRAINING_BYTES = {
    "unet": 95, "segresnet": 110, "swin_unetr": 250,
    "attention_unet_2d": 110, "unet_plus_plus_2d": 310, "segresnet_2d": 110, "swin_unetr_2d": 190,
}  # fmt: skip
"""The same with gradients, encoder and three decoders together; of a network on slices all of it."""
LEAST_TRAINING_BYTES = 95
"""Of what is not named there."""


def prediction_bytes(model: TrainedModel, image: str | Path, batch_size: int, device: torch.device) -> float:
    """Of a refinement or of one case of an audit, from the image's header; 0 where that cannot be read."""
    native, prepared = _voxels(image, model.config)
    structures = len(model.structures.names)
    needed = native * (NATIVE_BYTES + NATIVE_BYTES_A_STRUCTURE * structures)
    return needed + _on_the_grid_bytes(model, prepared, batch_size, device)


def mask_bytes(model: TrainedModel, image: str | Path, batch_size: int, device: torch.device) -> float:
    """Of a refinement of a mask that may fill the image, from its header; 0 where that cannot be read."""
    return bytes_around_mask(model, *_voxels(image, model.config), batch_size, device)


def bytes_around_mask(
    model: TrainedModel, image_voxels: float, box_voxels: float, batch_size: int, device: torch.device
) -> float:
    """Of a refinement of a rough mask that lies in so many voxels of the prepared grid."""
    return image_voxels * AROUND_MASK_BYTES + _on_the_grid_bytes(model, box_voxels, batch_size, device)


def _on_the_grid_bytes(model: TrainedModel, prepared: float, batch_size: int, device: torch.device) -> float:
    config, structures = model.config, len(model.structures.names)
    needed = prepared * (PREPARED_BYTES_A_CHANNEL * model.channels + PREPARED_BYTES_A_MAP * (structures + 1))
    if device.type == "cpu":
        patch = math.prod(config.data.patch_size)
        windows = min(batch_size, max(1, math.ceil(prepared / patch)))
        needed += windows * WINDOW_BYTES * config.network.feature_size * patch
    return needed


def training_bytes(config: Config, prepared_voxels: Sequence[float], channels: int, structures: Structures) -> int:
    """Of the cases of a training, which are kept in memory: image, masks, and where it was padded."""
    smallest = math.prod(config.data.patch_size)
    voxels = sum(max(smallest, count) for count in prepared_voxels)
    return int(voxels * (4 * channels + len(structures.names) + 1))


def step_bytes(config: Config) -> int:
    """Of one step of a training on whatever device it runs."""
    voxels = config.train.batch_size * math.prod(config.data.patch_size)
    needed = voxels * config.network.feature_size * TRAINING_BYTES.get(config.network.backbone, LEAST_TRAINING_BYTES)
    return needed // 2 if config.train.precision == "bfloat16" or config.network.gradient_checkpointing else needed


def require_memory_to_train(
    config: Config, structures: Structures, cases: Sequence[Case], device: torch.device, mapped: bool = False
) -> str:
    """What a training will need, in a sentence.

    Args:
        mapped: the cases are mapped from the disk, so that they need not fit into the memory.

    Raises:
        InputError: it is more than this machine, or its graphics card, has.
    """
    do = "Lower train.batch_size or data.patch_size, raise data.spacing_mm, or take fewer cases"
    voxels = [_voxels(case.images[0], config)[1] for case in cases]
    held = training_bytes(config, [max(voxels)] if mapped else voxels, len(cases[0].images), structures)
    step = step_bytes(config)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        if step > free:
            why = f"a step needs about {gigabytes(step)} of its memory, {gigabytes(free)} are free"
            raise InputError(f"device {device}", why, do)
        return require_memory("this training", held, do)
    return require_memory("this training", held + step, do)


def _voxels(image: str | Path, config: Config) -> tuple[float, float]:
    """Voxels of an image, and on the grid of a config; 0 where its header tells nothing (others will refuse it)."""
    with contextlib.suppress(InputError, ValueError, KeyError, struct.error, EOFError, OSError, zlib.error):
        header = read_header(Path(image))
        native = float(math.prod(header.sizes))
        spacing = config.data.spacing_mm
        lengths = np.linalg.norm(header.axes, axis=-1)
        prepared = native if spacing is None else native * float(np.prod(lengths)) / math.prod(spacing[:2])
        if spacing is not None:  # 0: the slices stay where they are, along the axis nearest to the patient's
            prepared /= spacing[2] or float(lengths[np.argmax(np.abs(np.asarray(header.axes)[:, 2]) / lengths)])
        return native, prepared if math.isfinite(prepared) else 0.0
    return 0.0, 0.0
