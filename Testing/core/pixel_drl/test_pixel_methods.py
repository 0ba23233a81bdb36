"""Agents in pixels as methods of the trainer: they learn, go on to the bit, and are what their settings say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bright_discs import NESTED, SIDE, disc_run, exclusive
from tiny_trainings import run, same_weights

from SVLDRLCore.cli import main
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.networks.pixel_actor_critic import PixelActorCritic
from SVLDRLCore.pixel_drl.settings import FORMS, PixelSettings
from SVLDRLCore.training.registry import METHODS, load_method_config
from SVLDRLCore.training.run import run_training

ON_PIXELS = [name for name, listed in METHODS.items() if listed.place.startswith("SVLDRLCore.pixel_drl.")]
SHORT = {"t_max": 3}
LEARNED = {"pixel_drl": 40, "pixel_rl": 60, "actor_critic": 50, "dqn": 40, "double_dqn": 40, "dueling_dqn": 40}
"""Steps after which each finds a bright disc."""


def test_all_methods_on_pixels_are_here() -> None:
    assert set(LEARNED) == set(ON_PIXELS)


@pytest.mark.parametrize("method", ON_PIXELS)
def test_a_bright_disc_is_learned(method: str) -> None:
    result, _ = run(disc_run(method, exclusive(1), LEARNED[method], method_settings=SHORT))
    assert result.rows[-1]["validation_dice"] > 0.9
    assert result.warnings == []


def test_the_corrected_form_learns_from_reward_alone() -> None:
    given = disc_run("pixel_drl", exclusive(1), 60, "corrected", method_settings=SHORT)
    assert given.config.method_settings["anchor_weight"] == 0
    assert not given.config.method_settings["every_action"]
    assert run(given)[0].rows[-1]["validation_dice"] > 0.85


def test_what_is_printed_ends_with_all_pixels_at_zero_and_says_so() -> None:
    """Most pixels are background, and what is set to zero cannot come back."""
    given = disc_run("pixel_drl", exclusive(1), 12, "as_printed", network={"feature_size": 4}, method_settings=SHORT)
    result, _ = run(given)
    assert result.rows[-1]["episode_dice"] < 0.02
    assert any("one action for all pixels" in text for text in result.warnings)


@pytest.mark.parametrize("parts", [exclusive(3), NESTED], ids=["three_classes", "nested"])
def test_an_agent_a_structure(parts) -> None:
    given = disc_run("pixel_drl", parts, 60, network={"feature_size": 4}, method_settings=SHORT)
    result, _ = run(given)
    first, last = (row["episode_dice"] for row in result.rows)
    assert last > first
    network = result.network["policy_head.out.weight"]
    assert network.shape[0] == 2 * len(parts.names)


def test_exclusive_structures_never_overlap() -> None:
    torch.manual_seed(0)
    network = PixelActorCritic(PixelSettings(t_max=2), 4, 1, 3)
    torch.nn.init.normal_(network.policy_head.out.weight)
    image = torch.rand(2, 1, 2, 16, 16)
    logits = network.eval()(image)
    masks, actions = network.episode_masks(image)
    assert logits.shape == (2, 4, 2, 16, 16)
    assert masks.shape == (3, 2, 3, 2, 16, 16)
    assert actions.shape == (2, 2, 3, 2, 16, 16)
    assert torch.equal((logits.softmax(1) > 0.99).sum(1), torch.ones(2, 2, 16, 16, dtype=torch.long))
    assert torch.equal((logits[:, 1:] > 0).float(), masks[-1])  # the mask straight from the policy
    assert (actions[-1].sum(1) > 1).any()  # agents that claimed one pixel


@pytest.mark.parametrize("method", ON_PIXELS)
def test_a_run_goes_on_to_the_bit_after_a_cancel(method: str, tmp_path: Path) -> None:
    given = disc_run(method, exclusive(2), 6, network={"feature_size": 8}, method_settings={"t_max": 2})
    unbroken, _ = run(given)
    control = JobControl()

    def stop(event: dict) -> None:
        if event["event"] == "progress" and event["done"] == 5:
            control.cancel("enough")

    with pytest.raises(Cancelled):
        run_training(given, RunFolder(tmp_path), EventLog(None, [stop]), control)
    resumed, _ = run(given, tmp_path, resume=True)
    assert resumed.rows == unbroken.rows
    assert same_weights(resumed.network, unbroken.network)
    assert all(np.isfinite(row["loss"]) for row in resumed.rows)


@pytest.mark.parametrize("method", ON_PIXELS)
@pytest.mark.parametrize("parts", [exclusive(2), NESTED], ids=["exclusive", "nested"])
def test_nothing_is_learned_from_what_lies_under_an_ignore_label(method: str, parts: Structures) -> None:
    hidden = np.zeros((2, SIDE, SIDE), bool)
    hidden[:, :10] = True
    made = []
    for other in (False, True):
        given = disc_run(method, parts, 4, method_settings={"t_max": 2})
        cases = [
            in_memory(
                case.name, case.image.numpy(), np.where(hidden & other, 1 - case.masks.numpy(), case.masks.numpy()),
                case.spacing_dhw, (1, SIDE, SIDE), ignored=hidden,
            )
            for case in [*given.training, *given.held_out]
        ]  # fmt: skip
        made.append(run(replace(given, training=cases[:4], held_out=cases[4:]))[0])
    assert same_weights(made[0].network, made[1].network)
    assert made[0].rows == made[1].rows


def test_label_quality_stands_in_front_of_them() -> None:
    given = disc_run("pixel_drl", exclusive(1), 8, method_settings={"t_max": 2}, reliability={"enabled": True})
    result, _ = run(given)
    assert {row["case"] for row in result.reliability} == {f"case_{n}" for n in range(4)}


def test_the_form_is_the_variants(capsys: pytest.CaptureFixture[str]) -> None:
    slices = {"data": {"patch_size": [1, 64, 64]}}
    for variant, form in FORMS.items():
        config = load_method_config("pixel_drl", "general", variant, slices)
        assert config.method_settings == form
        assert config.network.backbone == "pixel_actor_critic"
        assert not config.reliability.enabled
    printed = load_method_config("pixel_drl", "pixel_drl_mg", "as_printed")
    optimiser = printed.optimiser
    assert (optimiser.learning_rate, optimiser.decay_factor, optimiser.weight_decay) == (1e-3, 0.9, 0)
    assert (printed.train.steps, printed.train.batch_size) == (200 * 409, 2)
    assert load_method_config("pixel_drl").data.patch_size == (1, 48, 48)  # the preset's, one slice thick
    with pytest.raises(InputError, match="is 8 slices thick"):
        load_method_config("pixel_drl", overrides={"data": {"patch_size": [8, 48, 48]}})
    with pytest.raises(InputError, match="backbone"):
        load_method_config("dqn", "slices", "extended", {"network": {"backbone": "unet_2d"}})
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(METHODS[name].words.named in told for name in ON_PIXELS)
