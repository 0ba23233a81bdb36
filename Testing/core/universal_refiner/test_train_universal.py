"""The refiner is learned from a seed by one command, goes on where it stood, and its package is checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.train_universal import train_universal
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.classifier import VOXELS_AT_A_TIME, VoxelClassifier, beliefs_of
from SVLDRLCore.universal_refiner.habits import LEAST_DICE, MISTAKES, draw_mask
from SVLDRLCore.universal_refiner.learning_to_refine import LearningClassifier, draw_examples
from SVLDRLCore.universal_refiner.refiner_package import SHIPPED, load_refiner, shipped_refiner
from SVLDRLCore.universal_refiner.rendering import render
from SVLDRLCore.universal_refiner.scenes import draw_scene
from SVLDRLCore.universal_refiner.shapes import MAKERS, random_field, random_shape

TINY = {"scenes": 1, "later_scenes": 1, "steps": 3, "seed": 5, "stages": 2}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_universal(tmp_path_factory.mktemp("learned") / "run", **TINY)


def test_a_cancelled_learning_goes_on_to_the_same_refiner(learned: Path, tmp_path: Path) -> None:
    control = JobControl()

    def stop(event: dict[str, object]) -> None:
        if event["event"] == "progress" and event["stage"] == "learning":
            control.cancel()

    with pytest.raises(Cancelled):
        train_universal(tmp_path / "run", **TINY, listeners=[stop], control=control)
    again = train_universal(tmp_path / "run", **TINY)
    assert (again / "model.safetensors").read_bytes() == (learned / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="begun with"):
        train_universal(tmp_path / "run", scenes=3)


def test_a_learning_killed_between_two_stages_goes_on_to_the_same_refiner(learned: Path, tmp_path: Path) -> None:
    """The first stage is written, and what it was learned from still lies there."""
    control = JobControl()

    def stop(event: dict[str, object]) -> None:
        if event["event"] == "progress" and event["stage"] == "learning":
            control.cancel()

    with pytest.raises(Cancelled):
        train_universal(tmp_path / "run", **TINY, listeners=[stop], control=control)
    shutil.copytree(learned.parent / "stage_0", tmp_path / "run" / "stage_0", dirs_exist_ok=True)
    again = train_universal(tmp_path / "run", **TINY)
    assert (again / "model.safetensors").read_bytes() == (learned / "model.safetensors").read_bytes()


def test_a_damaged_package_is_refused(learned: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "settings.json"):
        broken = shutil.copytree(learned, tmp_path / name)
        data = bytearray((broken / name).read_bytes())
        data[-9] ^= 1
        (broken / name).write_bytes(bytes(data))
        with pytest.raises(InputError, match="check sum"):
            load_refiner(broken)
    (tmp_path / "settings.json" / "MODEL_CARD.md").unlink()
    with pytest.raises(InputError, match="is missing"):
        load_refiner(tmp_path / "settings.json")


def test_the_shipped_refiner_is_small_and_predicts_what_it_predicted() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 5e6
    image, drawn, spacing = draw_examples(7, 3, 11)[0]
    beliefs = beliefs_of(shipped_refiner().stages, image, drawn.rough, spacing)
    assert [round(float(each.sum()), 0) for stage in beliefs for each in stage] == pytest.approx(PREDICTED, abs=3)


PREDICTED = [597.0, 610.0]
"""Sums of both beliefs of each stage on the first mask of scene 11 of seed 7, in voxels."""


def test_scenes_images_and_masks_follow_from_the_seed() -> None:
    first, again, other = (draw_examples(1, 0, n) for n in (4, 4, 5))
    for (image, drawn, spacing), (image2, drawn2, spacing2) in zip(first, again):
        assert np.array_equal(image, image2)
        assert np.array_equal(drawn.rough, drawn2.rough)
        assert spacing == spacing2
    assert first[0][0].shape != other[0][0].shape or not np.array_equal(first[0][0], other[0][0])


def test_masks_are_wrong_in_every_way_and_never_beyond_recognition() -> None:
    kinds: set[str] = set()
    clean = 0
    for number in range(4):
        rng = np.random.default_rng(number)
        scene = draw_scene(rng)
        truth = scene.labels == scene.targets[0]
        assert np.isfinite(render(scene, scene.targets[0], rng)).all()
        for _ in range(14):
            drawn = draw_mask(truth, scene.labels, scene.spacing, rng)
            assert dice_of(drawn.rough, drawn.meant) >= LEAST_DICE
            kinds |= set(drawn.kinds)
            clean += not drawn.kinds
            assert bool(drawn.kinds) or np.array_equal(drawn.rough, drawn.meant)
    assert len(kinds) > 0.7 * len(MISTAKES)
    assert 3 <= clean <= 35


@pytest.mark.parametrize("kind", list(MAKERS))
def test_each_kind_of_shape_has_an_inside_and_an_outside(kind: str) -> None:
    places = np.indices((30, 30, 30)).astype(np.float32) - 14.5
    field = random_shape(kind, places, np.zeros(3), 10.0, np.random.default_rng(3), (1.0, 1.0, 1.0))
    assert 30 < (field < 0).sum() < 20_000


def test_a_random_field_varies_over_its_scale() -> None:
    fields = [random_field((40, 40, 40), scale, np.random.default_rng(0)) for scale in (3, 12)]
    rough, smooth = (float(np.abs(np.diff(field, axis=1)).mean()) for field in fields)
    assert rough > 2 * smooth
    assert all(abs(float(field.mean())) < 1e-3 and abs(float(field.std()) - 1) < 1e-3 for field in fields)


def test_what_was_learned_answers_as_it_did_while_learning() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = LearningClassifier(7)
        for value in network.state_dict().values():
            value.copy_(torch.rand(value.shape) + 0.1)
        features, distances = torch.randn(VOXELS_AT_A_TIME + 5, 7), 6 * torch.randn(VOXELS_AT_A_TIME + 5)
    found = network.learned().beliefs(features.numpy(), distances.numpy())
    with torch.no_grad():
        wanted = torch.sigmoid(network(features, distances)).numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    assert network.learned().beliefs(features[:0].numpy(), distances[:0].numpy()).shape == (0, 2)


@pytest.mark.parametrize("name", ["mean", "layers.2.weight", "layers.4.bias"])
def test_weights_that_do_not_fit_are_refused(name: str) -> None:
    weights = dict(LearningClassifier(7).learned().weights)
    with pytest.raises(ValueError, match="shapes"):
        VoxelClassifier(weights | {name: weights[name][1:]})
    del weights[name]
    with pytest.raises(ValueError, match="missing"):
        VoxelClassifier(weights)
