"""A model of agents in pixels from the command line: trained, packaged, loaded, refined with, its steps as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bright_discs import disc_image, disc_overrides, exclusive

from SVLDRLCore.cli import main
from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.episode_figure import COLOURS, episode_figure
from SVLDRLCore.files.volumes import Geometry, Segment, read_image, read_label, write_image, write_label
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.models.package import load_package, save_package
from SVLDRLCore.models.trained_model import load_model
from SVLDRLCore.training.train import train

T_MAX = 3
TURNED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
GRID = Geometry((2, 24, 24), (5.0, 1.0, 1.0), (3.0, -4.0, 5.0), TURNED)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of two slices 5 mm apart, on a turned grid."""
    folder = tmp_path_factory.mktemp("discs")
    entries = []
    for seed in range(4):
        image, label = disc_image(seed, exclusive(1))
        write_image(folder / f"image_{seed}.nrrd", image[0], GRID)
        write_label(folder / f"label_{seed}.nrrd", label, GRID)
        entries.append({"image": f"image_{seed}.nrrd", "label": f"label_{seed}.nrrd"})
    (folder / "datalist.json").write_text(json.dumps({"labels": {"1": "disc"}, "training": entries, "validation": []}))
    return folder


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for 40 steps on three of them."""
    overrides = disc_overrides(40, method_settings={"t_max": T_MAX})
    overrides["data"] |= {"spacing_mm": [1.0, 1.0, 0.0], "held_out_fraction": 0.0}
    return train(
        data / "datalist.json", tmp_path_factory.mktemp("run"), method="pixel_drl", overrides=overrides
    )  # fmt: skip


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_a_package_predicts_what_was_trained(data: Path, model: Path, tmp_path: Path) -> None:
    package = load_package(model)
    assert package.config["method"] == "pixel_drl"
    assert package.config["method_settings"]["t_max"] == T_MAX
    assert "Pixel-level deep reinforcement learning" in package.card
    network = load_model(model).network
    assert network.settings.t_max == T_MAX  # type: ignore[union-attr]
    done = refine(data / "image_0.nrrd", model=model, output=tmp_path / "out.nrrd", device="cpu")
    found, truth = read_label(tmp_path / "out.nrrd").array == 1, read_label(data / "label_0.nrrd").array == 1
    assert found.shape == (2, 24, 24)  # slice by slice, one segmentation
    assert dice(found, truth) > 0.9
    assert done.confidence.min() > 0.99  # no probabilities, no threshold


def test_steps_are_written_on_the_images_grid(data: Path, model: Path, tmp_path: Path) -> None:
    image, output, folder = data / "image_0.nrrd", tmp_path / "out.nrrd", tmp_path / "steps"
    command = ["refine", str(image), "--model", str(model), "--output", str(output), "--steps", str(folder)]
    assert main([*command, "--device", "cpu"]) == 0
    names = sorted(path.name for path in folder.iterdir())
    wanted = [f"step_{t:02d}_{kind}.seg.nrrd" for t in range(T_MAX + 1) for kind in ("actions", "mask")][1:]
    assert names == wanted
    masks = [read_label(folder / f"step_{t:02d}_mask.seg.nrrd") for t in range(T_MAX + 1)]
    actions = [read_label(folder / f"step_{t:02d}_actions.seg.nrrd") for t in range(1, T_MAX + 1)]
    assert masks[0].array.all()  # every pixel is an object at first
    assert np.array_equal(masks[-1].array, read_label(output).array)
    assert np.allclose(masks[-1].geometry.origin_xyz, GRID.origin_xyz)
    for before, after, done in zip(masks, masks[1:], actions):
        assert np.array_equal(done.array >= 2, before.array != after.array)  # what changed is red
        assert np.array_equal(done.array % 2 == 1, after.array > 0)  # 1 kept, 3 kept now
    assert [segment.name for segment in actions[0].segments] == ["kept", "set to zero now", "kept now"]
    picture = episode_figure(read_image(image).array, [m.array for m in masks], [a.array for a in actions])
    assert picture.startswith(b"\x89PNG")
    assert (COLOURS[2:] == COLOURS[2]).all()
    assert main([*command, "--device", "cpu", "--overwrite"]) == 2  # steps are never written over


def test_agents_may_be_given_fewer_steps(data: Path, model: Path, tmp_path: Path) -> None:
    refine(
        data / "image_0.nrrd", model=model, output=tmp_path / "out.nrrd", device="cpu", policy_steps=1,
        steps=tmp_path / "steps",
    )  # fmt: skip
    assert len(list((tmp_path / "steps").iterdir())) == 3


def test_agents_begin_from_a_rough_mask(data: Path, model: Path, tmp_path: Path) -> None:
    label = read_label(data / "label_0.nrrd").array
    rough = np.roll(label, 2, axis=2)
    write_label(tmp_path / "rough.seg.nrrd", rough, GRID, [Segment(1, "disc")])
    folder = tmp_path / "steps"
    done = refine(
        data / "image_0.nrrd", tmp_path / "rough.seg.nrrd", model=model, output=tmp_path / "out.seg.nrrd",
        device="cpu", margin_mm=40, steps=folder,
    )  # fmt: skip
    assert np.array_equal(read_label(folder / "step_00_mask.seg.nrrd").array, rough)
    found = read_label(tmp_path / "out.seg.nrrd").array
    assert dice(found == 1, label == 1) > dice(rough == 1, label == 1) + 0.1
    assert done.changes[0]["added_ml"] > 0


def test_a_model_without_steps_says_so(data: Path, tmp_path: Path) -> None:
    overrides = disc_overrides(2, network={"backbone": "unet_2d"})
    overrides["data"] |= {"spacing_mm": [1.0, 1.0, 0.0], "held_out_fraction": 0.0}
    plain = train(data / "datalist.json", tmp_path / "run", method="supervised", overrides=overrides)
    with pytest.raises(InputError, match="draws its mask in one step"):
        refine(data / "image_0.nrrd", model=plain, output=tmp_path / "out.nrrd", device="cpu", steps=tmp_path / "steps")
    assert not (tmp_path / "out.nrrd").exists()
    assert not (tmp_path / "steps").exists()


@pytest.mark.parametrize(("name", "value"), [("t_max", 10**6), ("state", "memory"), ("reversible", 1.5)])
def test_settings_of_the_network_are_checked_when_a_package_is_loaded(
    model: Path, tmp_path: Path, name: str, value: object
) -> None:
    package = load_package(model)
    config = package.config | {"method_settings": package.config["method_settings"] | {name: value}}
    save_package(
        tmp_path / "model", tensors=package.tensors(), config=config, labels=package.labels,
        training_rows=package.training, card=package.card,
    )  # fmt: skip
    with pytest.raises(InputError, match=name):
        load_model(tmp_path / "model")
