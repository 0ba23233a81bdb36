"""Prediction: the sliding window beside what its windows cost, and a forward beside MONAI's own network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from measuring import compared, cpu_seconds, side_by_side
from monai.networks.nets.swin_unetr import SwinUNETR
from table import Row, group

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.inference.sliding_window import predict_probabilities
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.trained_model import build_networks

PATCH = (48, 48, 48)


def network_of(structures: int, **network: object) -> torch.nn.Module:
    """An untrained network of the `general` preset."""
    config = load_config("general", "extended", {"network": network, "data": {"patch_size": [64, 64, 64]}})
    torch.manual_seed(0)
    return build_networks(config, 1, structures_of({n + 1: f"part {n}" for n in range(structures)})).eval()


@group("prediction")
def prediction_rows(folder: Path) -> Iterator[Row]:
    """One structure and thirteen; then the transformer's forward."""
    image = torch.rand(1, 96, 96, 96, generator=torch.Generator().manual_seed(0))
    for count in (1, 13):
        network = network_of(count)
        in_network = 0.0
        forward = network.forward

        def timed(x: torch.Tensor, forward=forward) -> torch.Tensor:
            nonlocal in_network
            out: list[torch.Tensor] = []
            in_network += cpu_seconds(lambda: out.append(forward(x)))
            return out[0]

        network.forward = timed
        pairs = []
        for _ in range(4):
            in_network = 0.0
            whole = cpu_seconds(lambda network=network: predict_probabilities(network, image, PATCH, nested=False))
            pairs.append((whole, in_network))
        yield Row(
            f"sliding window over 96 cubed, structures: {count}", target=1.02,
            against="its windows in the network", **compared(pairs[1:]).sides(),
        )  # fmt: skip
    ours = network_of(1, backbone="swin_unetr", feature_size=24)
    theirs = SwinUNETR(in_channels=1, out_channels=2, feature_size=24).eval()
    x = torch.rand(1, 1, 64, 64, 64)
    with torch.no_grad():
        found = side_by_side(lambda: ours(x), lambda: theirs(x), 5)
    yield Row("forward of Swin UNETR, 64 cubed", target=0.5, against="MONAI's SwinUNETR", **found.sides())
