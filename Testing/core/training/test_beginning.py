"""Trainings that go on from a model, or begin with the weights of a known network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from made_models import TWO, made_model
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from tiny_trainings import ONE, TINY

from SVLDRLCore.config.settings import Config, load_config, with_values
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.known_weights import read_weights
from SVLDRLCore.models.trained_model import build_networks, load_model
from SVLDRLCore.training.beginning import begin_with_model, begin_with_weights
from SVLDRLCore.training.train import train

OTHER = structures_of({1: "Tube", 2: "spleen"})
HEAD = "segmentation_decoder.head.weight"
SWIN = {"backbone": "swin_unetr", "feature_size": 12, "depths": (1, 1, 1, 1)}


def config_of(**network: Any) -> Config:
    side = (32, 32, 64) if network.get("backbone") == "swin_unetr" else (16, 16, 16)
    return with_values(load_config("general", "extended", TINY), network=network, data={"patch_size": side})


def monai_network(backbone: str) -> torch.nn.Module:
    if backbone == "swin_unetr":
        return SwinUNETR(in_channels=1, out_channels=14, feature_size=12, depths=(1, 1, 1, 1))
    if backbone == "segresnet":
        return SegResNet(
            spatial_dims=3, init_filters=8, in_channels=1, out_channels=3, blocks_down=(1, 2, 2), blocks_up=(1, 1)
        )
    return BasicUNet(3, 1, 3, (8, 16, 32, 64, 128, 8), norm=("group", {"num_groups": 8}), bias=False)


def test_a_model_goes_on_with_another_structure(tmp_path: Path) -> None:
    model = made_model(tmp_path / "model", seed=7)
    old = load_model(model)
    begun = begin_with_model(model, old.config, 1, OTHER)
    given = old.network.state_dict()
    assert all(torch.equal(begun.weights[name], given[name]) for name in given if ".head." not in name)
    head = begun.weights[HEAD]
    assert torch.equal(head[0], given[HEAD][0])  # the background
    assert torch.equal(head[1], given[HEAD][2])  # the tube, which was second
    assert not torch.equal(head[2], given[HEAD][1])
    assert not torch.equal(head[2], given[HEAD][2])
    assert not begun.knows_all
    told = " ".join(begun.told)
    assert "begun fresh: spleen" in told
    assert "not draw it: ball" in told


def test_a_model_with_the_same_structures_goes_on_as_it_is(tmp_path: Path) -> None:
    model = made_model(tmp_path / "model")
    given = load_model(model).network.state_dict()
    begun = begin_with_model(model, load_model(model).config, 1, TWO)
    assert begun.knows_all
    assert all(torch.equal(begun.weights[name], given[name]) for name in given)


def test_sigmoids_are_not_taken_for_a_softmax(tmp_path: Path) -> None:
    nested = structures_of({1: "ball", 2: "tube"}, {"ball": (1, 2), "tube": (2,)})
    model = made_model(tmp_path / "model", nested)
    given = load_model(model).network.state_dict()
    begun = begin_with_model(model, load_model(model).config, 1, TWO)
    assert not begun.knows_all
    assert not torch.equal(begun.weights[HEAD][1], given[HEAD][0])


def test_other_networks_and_channels_are_refused(tmp_path: Path) -> None:
    model = made_model(tmp_path / "model")
    with pytest.raises(InputError, match="image channels"):
        begin_with_model(model, load_model(model).config, 2, TWO)
    with pytest.raises(InputError, match="another one"):
        begin_with_model(model, config_of(feature_size=16), 1, TWO)


def test_train_goes_on_from_a_model(tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "data", 2, 1, 0, "mt", "mild", 0.5, 1, 1, False, (10, 20, 20), (4.0, 4.0, 4.0))
    data = {"spacing_mm": (5.0, 4.0, 4.0), "intensity_high": 98.0}
    model = made_model(tmp_path / "model", structures_of({1: "organ"}), network={"levels": 2}, data=data)
    steps = {"train": TINY["train"] | {"steps": 2}, "mask_agents": {"enabled": False}}
    given: dict[str, Any] = {"begin_with": model, "overrides": steps}
    with pytest.raises(InputError, match="one of them"):
        train(tmp_path / "data/datalist.json", tmp_path / "run", **given, weights=model)
    seen: list[dict[str, Any]] = []
    made = train(tmp_path / "data/datalist.json", tmp_path / "run", **given, listeners=[seen.append])
    config = load_model(made).config
    assert (config.network.levels, config.data.spacing_mm, config.data.intensity_high) == (2, (5.0, 4.0, 4.0), 98.0)
    assert "begun with: model" in (made / "MODEL_CARD.md").read_text("utf-8")
    assert any("begins with model" in event.get("text", "") for event in seen)
    again = train(tmp_path / "data/datalist.json", tmp_path / "run", resume=True)  # it has ended, and is found the same
    assert again == made


@pytest.mark.parametrize(("backbone", "part"), [("swin_unetr", 1.0), ("segresnet", 1.0), ("unet", 0.7)])
def test_weights_of_monai_are_taken_by_name(tmp_path: Path, backbone: str, part: float) -> None:
    torch.manual_seed(1)
    theirs = monai_network(backbone).eval()
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{n}": t for n, t in theirs.state_dict().items()}}, tmp_path / "w.pt"
    )
    config = config_of(
        **(SWIN if backbone == "swin_unetr" else {"backbone": backbone, "levels": 3 if backbone == "segresnet" else 5})
    )
    begun = begin_with_weights(tmp_path / "w.pt", config, 1, ONE)
    network = build_networks(config, 1, ONE).eval()
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(begun.weights)
    body = [n for n in fresh if ".head." not in n]
    assert int(begun.on_card.split("(")[1].split()[0]) >= part * len(body)
    assert not begun.knows_all
    image = torch.rand(2, 1, *config.data.patch_size)
    with torch.no_grad():
        found = network.encoder(image)
        if backbone == "swin_unetr":
            assert torch.allclose(found[2], theirs.encoder3(theirs.swinViT(image)[1]), atol=1e-5)
        elif backbone == "segresnet":
            assert torch.allclose(found[-1], theirs.encode(image)[0], atol=1e-5)
        else:
            assert torch.equal(
                network.encoder.state_dict()["down.3.convs.conv_0.conv.weight"],
                theirs.state_dict()["down_4.convs.conv_0.conv.weight"],
            )


def test_published_self_supervised_weights_are_taken(tmp_path: Path) -> None:
    """The form of MONAI's `model_swinvit.pt`: names of the original Swin transformer, with heads of its own tasks."""
    theirs = monai_network("swin_unetr").state_dict()
    form = {
        f"module.{n.removeprefix('swinViT.').replace('mlp.linear', 'mlp.fc')}": t
        for n, t in theirs.items()
        if n.startswith("swinViT.")
    }
    torch.save({"state_dict": form | {"module.rotation_head.weight": torch.zeros(4, 192)}}, tmp_path / "ssl.pt")
    begun = begin_with_weights(tmp_path / "ssl.pt", config_of(**SWIN), 1, ONE)
    assert len([n for n in begun.weights if n.startswith("encoder.swinViT.")]) == len(form)
    assert f"{len(form)} of " in begun.told[0]
    assert "rotation_head" in begun.told[-1]
    name = "swinViT.layers1.0.blocks.0.mlp.linear1.weight"
    assert torch.equal(begun.weights[f"encoder.{name}"], theirs[name])


class Planted:
    """What a hostile file would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("planted",)


def test_files_that_cannot_be_used_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_of(backbone="segresnet")
    torch.save({"state_dict": {"a": torch.zeros(2)}, "x": Planted()}, tmp_path / "code.pt")
    torch.save({"other.weight": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save({"a": torch.full((2,), torch.nan)}, tmp_path / "nan.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    wide = SegResNet(init_filters=16, blocks_down=(1, 2, 2), blocks_up=(1, 1)).state_dict()
    torch.save(wide | {"convInit.conv.bias": torch.zeros(8)}, tmp_path / "wide.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "wide.pt").read_bytes()[:5000])
    (tmp_path / "torn.safetensors").write_bytes(b"\x08\x00")
    reasons = {
        "code.pt": "could be code", "other.pt": "not those of this network", "nan.pt": "not finite",
        "list.pt": "no table", "wide.pt": "has the shape", "torn.pt": "cannot be read",
        "torn.safetensors": "cannot be read", "none.pt": "no such file",
    }  # fmt: skip
    for name, why in reasons.items():
        with pytest.raises(InputError, match=why):
            begin_with_weights(tmp_path / name, config, 1, ONE)
    assert not (tmp_path / "planted").exists()
    assert list(read_weights(tmp_path / "other.pt")) == ["other.weight"]
