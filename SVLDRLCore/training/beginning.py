"""What a training begins with: nothing, a model that goes on learning, or the weights of a known network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from SVLDRLCore.config.building import merge
from SVLDRLCore.config.settings import Config, config_to_dict, preset_names
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.run_folder import resolve_model
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.models.known_weights import names_here, read_weights
from SVLDRLCore.models.package import load_package
from SVLDRLCore.models.package_table import settings_of
from SVLDRLCore.models.trained_model import TrainedModel, build_networks, load_model
from SVLDRLCore.models.weight_header import WithoutWeights
from SVLDRLCore.networks.network_building import build_network
from SVLDRLCore.training.registry import METHODS

GRID = ("spacing_mm", "patch_size", "slices_apart", "intensity", "intensity_low", "intensity_high", "flip_axes")
"""What a network has seen its images through; a model goes on with the same."""
MOST_NAMES = 4


@dataclass(frozen=True)
class Beginning:
    """Weights to begin with.

    Attributes:
        weights: of the whole network; what nothing was found for is as a new network has it.
        knows_all: whether they draw every structure of the data already.
        told: what was taken and what was not, in sentences.
        on_card: the same in a line.
    """

    weights: dict[str, Tensor]
    knows_all: bool
    told: tuple[str, ...]
    on_card: str


@dataclass(frozen=True)
class GoingOn:
    """The settings with which a model goes on, where nothing else is asked for."""

    preset: str
    method: str | None
    variant: str | None
    overrides: dict[str, Any]


def settings_to_go_on(model: Path, method: str | None, overrides: Mapping[str, Any]) -> GoingOn:
    """A model's own network, grid and grey values, with `overrides` laid over them.

    Its method and variant count where no method, or the same, is asked for.

    Raises:
        InputError: there is no sound model.
    """
    package = load_package(resolve_model(model))
    config, own = settings_of(package.config, package.folder), package.config.get("method")
    tree = config_to_dict(config)
    taken: dict[str, Any] = {"network": tree["network"], "data": {key: tree["data"][key] for key in GRID}}
    same = own in METHODS and method in (None, own)
    if same and tree["method_settings"]:
        taken["method_settings"] = tree["method_settings"]
    preset = config.preset if config.preset in preset_names() else "general"
    return GoingOn(preset, own if same else None, config.variant if same else None, merge(taken, dict(overrides)))


def begin_with_model(path: str | Path, config: Config, channels: int, structures: Structures) -> Beginning:
    """A model's weights for these structures: those of the same name are kept, others begin fresh.

    Raises:
        InputError: no sound model, or one of another network, or for other image channels.
    """
    model = load_model(path)
    if model.channels != channels:
        why = f"it needs {model.channels} image channels, the data has {channels}"
        raise InputError(str(path), why, "Use images with the same channels, or begin with another model")
    fresh = _fresh(config, channels, structures)
    given = model.network.state_dict()
    other = [name for name in fresh if name not in given]
    outputs = _outputs(config, channels, structures)
    other += [n for n in fresh if n in given and n not in outputs and given[n].shape != fresh[n].shape]
    if other:
        why = f"its network is another one: {other[0]!r} does not fit"
        raise InputError(str(path), why, "Leave out settings of the network, or begin with another model")
    rows = _rows(model, structures)
    weights = {name: given[name].clone() if name not in outputs else fresh[name].clone() for name in fresh}
    for name in outputs:
        if len(fresh[name]) != structures.channels or len(given[name]) != model.structures.channels:
            rows = {}  # outputs that are not one a structure
    for name in outputs:
        for here, there in rows.items():
            weights[name][here] = given[name][there]
    first = structures.channels - len(structures.names)
    kept = [name for i, name in enumerate(structures.names) if i + first in rows]
    new = [name for name in structures.names if name not in kept]
    lost = [n for n in model.structures.names if n.casefold() not in {k.casefold() for k in structures.names}]
    told = [f"The training begins with {model.name}, which knows {', '.join(model.structures.names)}."]
    if new:
        told.append(f"New for it, and begun fresh: {', '.join(new)}.")
    if lost:
        told.append(f"Not in this data, so that the new model will not draw it: {', '.join(lost)}.")
    line = f"{model.name} (kept: {', '.join(kept) or 'no structure'}; begun fresh: {', '.join(new) or 'none'})"
    return Beginning(weights, not new, tuple(told), line)


def begin_with_weights(path: str | Path, config: Config, channels: int, structures: Structures) -> Beginning:
    """Weights of a known network, by their names and shapes; the output layer begins fresh.

    Which class of a file is which structure, the file does not tell.

    Raises:
        InputError: a file that cannot be used, or of which nothing fits, or less than half of what has the same names.
    """
    fresh = _fresh(config, channels, structures)
    outputs = _outputs(config, channels, structures)
    given = names_here(read_weights(path), config.network.backbone)
    fits = {
        name: tensor
        for name, tensor in given.items()
        if name in fresh and name not in outputs and tensor.shape == fresh[name].shape
    }
    named = sum(tensor.numel() for name, tensor in given.items() if name in fresh and name not in outputs)
    if 2 * sum(tensor.numel() for tensor in fits.values()) <= named:  # small tables fit a network of any width
        raise InputError(str(path), _nothing(given, fresh, outputs), "Set network.backbone and its sizes to the file's")
    weights = {name: fits[name].to(old.dtype).clone() if name in fits else old for name, old in fresh.items()}
    begun = [name for name in fresh if name not in fits]
    unused = [name for name in given if name not in fits]
    name = Path(path).name
    told = [f"{len(fits)} of {len(fresh)} tensors of the network were taken from {name}."]
    if begun:
        told.append(f"Begun fresh: {_some(begun)}.")
    if unused:
        told.append(f"Of the file not used: {_some(unused)}.")
    return Beginning(weights, False, tuple(told), f"weights of {name} ({len(fits)} of {len(fresh)} tensors)")


def _fresh(config: Config, channels: int, structures: Structures) -> dict[str, Tensor]:
    """The weights that this training would have begun with; where random numbers stand elsewhere is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return dict(build_networks(config, channels, structures).state_dict())


def _outputs(config: Config, channels: int, structures: Structures) -> tuple[str, ...]:
    """Names of the weights that depend on how many structures there are."""
    with WithoutWeights():
        some, more = (build_network(config, channels, structures.channels + n).state_dict() for n in (0, 1))
    return tuple(name for name in some if name not in more or some[name].shape != more[name].shape)


def _rows(model: TrainedModel, structures: Structures) -> dict[int, int]:
    """Output channel here -> there, of structures with the same name and of the background."""
    if model.structures.nested != structures.nested:  # a sigmoid's numbers mean nothing to a softmax
        return {}
    first = 0 if structures.nested else 1
    known = {name.casefold(): i + first for i, name in enumerate(model.structures.names)}
    here = {i + first: known[n.casefold()] for i, n in enumerate(structures.names) if n.casefold() in known}
    return here if structures.nested or not here else {0: 0, **here}


def _nothing(given: Mapping[str, Tensor], fresh: Mapping[str, Tensor], outputs: tuple[str, ...]) -> str:
    for name, tensor in given.items():
        if name in fresh and name not in outputs and tensor.shape != fresh[name].shape:
            here = list(fresh[name].shape)
            return f"it is a network of another size: {name!r:.80} has the shape {list(tensor.shape)}, {here} is needed"
    return f"nothing in it fits: its names are not those of this network ({_some(list(given))})"


def _some(names: list[str]) -> str:
    shown = ", ".join(name[:60] for name in names[:MOST_NAMES])
    return shown + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
