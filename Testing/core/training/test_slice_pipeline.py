"""From images to slices and back: their distance is kept, each is seen once, one 3D segmentation comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_trainings import ONE, all_finite, given_run, run, same_weights
from torch import Tensor, nn

from SVLDRLCore.cli import main
from SVLDRLCore.config.backbone_facts import BACKBONES, backbone_of
from SVLDRLCore.config.settings import DataConfig, NetworkConfig, load_config
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.data.resampling import Intensity, prepare_image, to_native
from SVLDRLCore.data.sampler import PatchSampler
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.volumes import Geometry, Volume, read_image, read_label
from SVLDRLCore.inference.sliding_window import predict_probabilities
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.models.package import load_package, save_package
from SVLDRLCore.models.trained_model import build_networks, load_model, package_config, package_tensors
from SVLDRLCore.training.registry import METHODS, method_named
from SVLDRLCore.training.run import run_training, start_from

UNIT = Intensity("unit", 0, 1)
TURNED = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
"""Columns W, H, D run to posterior, inferior and left: the slices of the patient lie across H."""
TINY = [
    "network.feature_size=8", "network.levels=3", "data.patch_size=[1,32,32]", "train.steps=10", "train.batch_size=2",
    "train.validate_every=10", "train.steps_per_epoch=5", "train.device=cpu", "train.threads=1",
    "data.held_out_fraction=0.25", "optimiser.ema_decay=0.9",
]  # fmt: skip


@pytest.mark.parametrize("direction", [tuple(np.eye(3).ravel()), TURNED])
def test_slices_stay_where_they_are(direction: tuple[float, ...]) -> None:
    grid = Geometry((6, 8, 10), (5.0, 1.5, 2.0), (1.0, 2.0, 3.0), direction)
    image = Volume(np.random.default_rng(0).random(grid.size_dhw).astype(np.float32), grid)
    upright = prepare_image([image], None, UNIT)
    prepared = prepare_image([image], (1.0, 1.0, 0.0), UNIT)
    assert prepared.geometry.spacing_dhw[0] == upright.geometry.spacing_dhw[0]
    assert prepared.geometry.size_dhw[0] == upright.geometry.size_dhw[0]
    assert prepared.geometry.spacing_dhw[1:] == (1.0, 1.0)
    for n in range(prepared.geometry.size_dhw[0]):  # a slice comes of its own slice alone
        alone = np.zeros_like(upright.array)
        alone[0, n] = 1
        there = prepare_image([Volume(to_native(alone, upright)[0], grid)], (1.0, 1.0, 0.0), UNIT).array[0]
        assert there[n].min() == pytest.approx(1.0)
        assert np.delete(there, n, axis=0).max(initial=0.0) == 0.0
    assert to_native(prepared.array, prepared).shape[1:] == grid.size_dhw


def test_patches_lie_in_slices_of_their_structure_and_small_images_are_padded() -> None:
    image, masks = np.ones((1, 9, 12, 40), np.float32), np.zeros((1, 9, 12, 40), np.uint8)
    masks[0, 4, 5:8, 30:33] = 1
    case = in_memory("case", image, masks, (3.0, 1.0, 1.0), (1, 16, 16))
    assert case.image.shape == (1, 9, 16, 40)
    config = DataConfig(patch_size=(1, 16, 16), foreground_fraction=1.0)
    sampler = PatchSampler([case], config, 8, 0)
    batch = sampler.next()
    assert batch.image.shape == (8, 1, 1, 16, 16)
    assert bool(batch.target.flatten(1).any(1).all())
    assert int(batch.valid.sum()) == 8 * 12 * 16
    anywhere = PatchSampler([case], DataConfig(patch_size=(1, 16, 16), foreground_fraction=0.0), 64, 0).next()
    assert 0 < int(anywhere.target.flatten(1).any(1).sum()) < 32


class Means(nn.Module):
    """Logits that tell the mean of the window they are of."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen += [tuple(image.shape[2:])] * len(image)
        mean = image.mean((1, 2, 3, 4), keepdim=True)
        return torch.logit(mean, 1e-6).expand(-1, 1, *image.shape[2:])


def test_each_slice_is_one_window() -> None:
    image = torch.linspace(0.1, 0.9, 7).view(1, 7, 1, 1).expand(1, 7, 16, 16)
    network = Means()
    found = predict_probabilities(network, image, (1, 16, 16), nested=True, overlap=0.5)
    assert network.seen == [(1, 16, 16)] * 7
    assert np.allclose(found, image.numpy(), atol=1e-5)


def test_from_a_folder_of_phantoms_to_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Train, segment without a rough mask, evaluate: by the commands that a user types."""
    datalist = write_phantom_dataset(tmp_path / "data", 4, 2, size_dhw=(6, 28, 36), spacing_dhw=(4.0, 2.0, 2.0))
    settings = [word for each in TINY for word in ("--set", each)]
    out = tmp_path / "run"
    train = ["train", str(datalist), "--output", str(out), "--preset", "slices", "--method", "supervised", *settings]
    assert main(train) == 0
    package = load_package(out / "model")
    assert package.config["data"]["spacing_mm"] == [2.0, 2.0, 0.0]
    assert "voxel spacing x, y, z (mm): 2 2 that of each image" in package.card
    model = load_model(out)
    assert (model.mask_network, model.config.network.backbone) == (None, "unet_2d")

    (tmp_path / "made").mkdir()
    for case in load_datalist(datalist).validation:
        path, output = case.images[0], tmp_path / "made" / f"{case.name}.nrrd"
        assert main(["refine", str(path), "--model", str(out), "--output", str(output)]) == 0
        assert read_label(output).geometry == read_image(path).geometry
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "made"), str(datalist)]) == 0
    assert "HD95 mm" in capsys.readouterr().out


def on_slices(backbone: str = "unet_2d", method: str = "svl_drl", **train: Any) -> RunInput:
    """A run of a few steps on slices, label reviews included where the method has them."""
    size = {"feature_size": backbone_of(NetworkConfig(backbone=backbone)).channel_unit, "levels": 3}
    side = 64 if backbone == "swin_unetr_2d" else 16
    return given_run(
        "extended", method, held_out=1, network={"backbone": backbone, **size}, mask_agents={"enabled": False},
        data={"patch_size": (1, side, side), "spacing_mm": (4.0, 4.0, 0.0)}, train=train,
    )  # fmt: skip


@pytest.mark.parametrize("method", [name for name in METHODS if "unet_2d" in method_named(name).backbones])
def test_every_method_that_knows_logits_alone_trains_on_slices(method: str) -> None:
    given = on_slices(method=method, steps=5)
    assert all_finite(run(given)[0])


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name.endswith("_2d")])
def test_a_package_gives_the_same_predictions(backbone: str, tmp_path: Path) -> None:
    config = on_slices(backbone).config
    network = build_networks(config, 2, ONE).eval()
    save_package(
        tmp_path / "model", tensors=package_tensors(network.state_dict(), None),
        config=package_config(config, "supervised", 2, ONE), labels={1: {"name": "organ"}}, training_rows=[], card="",
    )  # fmt: skip
    image = torch.rand(1, 2, 2, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "model").network(image), network(image))


def test_a_network_on_slices_goes_on_from_another_of_its_kind() -> None:
    torch.manual_seed(0)
    first, second = (build_networks(on_slices().config, 1, ONE) for _ in range(2))
    start_from(second, first.state_dict())
    assert same_weights(dict(second.state_dict()), dict(first.state_dict()))
    with pytest.raises(InputError, match="another network"):
        start_from(second, build_networks(on_slices("attention_unet_2d").config, 1, ONE).state_dict())


@pytest.mark.parametrize("backbone", ["unet_2d", "attention_unet_2d"])
def test_a_stopped_training_on_slices_goes_on_to_the_bit(tmp_path: Path, backbone: str) -> None:
    given = on_slices(backbone)
    unbroken, _ = run(given)
    control = JobControl()

    def cancel(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["stage"] == "warm_up" and event["done"] == 7:
            control.cancel("enough")

    with pytest.raises(Cancelled):
        run_training(given, RunFolder(tmp_path), EventLog(None, [cancel]), control)
    resumed, _ = run(given, tmp_path, resume=True)
    assert same_weights(resumed.network, unbroken.network)
    assert resumed.rows == unbroken.rows


def test_the_preset_for_slices_is_for_any_machine() -> None:
    config = load_config("slices")
    assert config.data.spacing_mm is None
    assert (config.data.patch_size[0], config.network.backbone) == (1, "unet_2d")
