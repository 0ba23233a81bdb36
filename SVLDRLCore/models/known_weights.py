"""Weights of networks that others have trained: read without running anything, and called as they are called here.

Known are MONAI's SwinUNETR (its self-supervised encoder, too, as Tang 2022 published it), SegResNet and BasicUNet, and
for networks on slices MONAI's own names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from SVLDRLCore.errors import InputError
from SVLDRLCore.file_places import require_readable
from SVLDRLCore.memory import require_memory
from SVLDRLCore.networks.finite_outputs import LARGEST_WEIGHT

_HOLDERS = ("state_dict", "model_state_dict", "network_weights", "model", "net", "network")
"""Where training programs put the weights among other things."""
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What wrappers put before every name."""
_DECODER = "segmentation_decoder.body."
_RULES: dict[str, list[tuple[str, str]]] = {
    "swin_unetr": [
        (r"^(patch_embed|layers\d)\.", r"swinViT.\1."),
        (r"^(swinViT\..*\.mlp)\.fc([12])\.", r"\1.linear\2."),
        (r"^(swinViT|encoder\d+)\.", r"encoder.\1."),
        *((rf"^decoder{n}\.", f"{_DECODER}stages.{5 - n}.") for n in range(1, 6)),
    ],
    "segresnet": [
        (r"^(convInit|down_layers)\.", r"encoder.\1."),
        (r"^(up_samples|up_layers)\.", rf"{_DECODER}\1."),
    ],
    "unet": [
        (r"^conv_0\.", "encoder.stem."),
        *((rf"^down_{n}\.", f"encoder.down.{n - 1}.") for n in range(1, 7)),
    ],
}
"""MONAI's names -> those here, by backbone, one after the other."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name from a PyTorch or safetensors file, wrappers' prefixes taken off.

    Raises:
        InputError: it is neither, holds code or no tensors, or numbers that are not finite.
    """
    path = Path(path)
    require_readable(path)
    require_memory(str(path), 2 * path.stat().st_size)
    do = "Give a file that torch.save wrote of a state dict, or a safetensors file"
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for what it refuses
        why = f"it cannot be read ({type(error).__name__})"
        if type(error).__name__ == "UnpicklingError":
            why = "it holds more than weights, which could be code, so it is not opened"
        raise InputError(str(path), why, do) from error
    tensors = _tensors_in(content)
    if not tensors:
        raise InputError(str(path), "it holds no table of weights", do)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not float(tensor.abs().max()) <= LARGEST_WEIGHT:
            raise InputError(
                str(path), f"the weights of {name[:80]!r} are not finite, or too large", "Use another file"
            )
    return tensors


def names_here(tensors: Mapping[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """The same tensors as the network of this backbone calls them; a name that no rule knows stays as it is."""
    rules = _RULES.get(backbone, [])
    if backbone == "unet":  # BasicUNet counts upward from the finest, whatever its depth
        depth = max((int(n[6]) for n in tensors if re.match(r"upcat_\d\.", n)), default=0)
        rules = [*rules, *((rf"^upcat_{n}\.", f"{_DECODER}up.{depth - n}.") for n in range(1, depth + 1))]
    if backbone.endswith("_2d"):
        rules = [(r"^(?!on_slice\.)", "on_slice.")]
    found = {}
    for name, tensor in tensors.items():
        for old, new in rules:
            name = re.sub(old, new, name)
        found[name] = tensor
    return found


def _tensors_in(content: Any) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inside = next((content[key] for key in _HOLDERS if isinstance(content.get(key), Mapping)), None)
        if inside is None:
            break
        content = inside
    if not isinstance(content, Mapping):
        return {}
    tensors = {str(name): item for name, item in content.items() if isinstance(item, Tensor)}
    while wrapper := next((w for w in _WRAPPERS if tensors and all(n.startswith(w) for n in tensors)), None):
        tensors = {name.removeprefix(wrapper): item for name, item in tensors.items()}
    return tensors
