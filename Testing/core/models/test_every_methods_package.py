"""The model of every method, in every variant, loads from the package that its training writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_models import TWO

from SVLDRLCore.models.package import save_package
from SVLDRLCore.models.trained_model import build_networks, load_model, package_config, package_tensors
from SVLDRLCore.training.registry import METHODS, load_method_config, method_named

EACH = [(name, variant) for name, listed in METHODS.items() for variant in listed.variants or ("extended",)]


@pytest.mark.parametrize(("method", "variant"), EACH, ids=["-".join(each) for each in EACH])
def test_a_package_loads(method: str, variant: str, tmp_path: Path) -> None:
    config = load_method_config(method, "general", variant, {
        "data": {"patch_size": (1, 32, 32) if METHODS[method].on_slices else (32, 32, 32)},
        "network": {"feature_size": 8, "levels": 3}, "mask_agents": {"enabled": False},
    })  # fmt: skip
    network = build_networks(config, 1, TWO, method_named(method, variant).acts_on_image)
    save_package(
        tmp_path / "model", tensors=package_tensors(network.state_dict(), None),
        config=package_config(config, method, 1, TWO),
        labels={value: {"name": name} for value, name in TWO.labels.items()}, training_rows=[], card="# A model\n",
    )  # fmt: skip
    loaded = load_model(tmp_path / "model").network.state_dict()
    assert all(torch.equal(values, loaded[name]) for name, values in network.state_dict().items())
