"""The three stages: where they begin and end, what moves in each, how the temperature falls."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_trainings import all_finite, given_run, run

from SVLDRLCore.config.settings import StageConfig, load_config, with_values
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.data.sampler import PatchSampler
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.method import MethodInput
from SVLDRLCore.learning.optimisation import clip_gradients, set_learning_rate
from SVLDRLCore.learning.stages import (
    TRAINED_PARTS,
    Stage,
    open_parts,
    plan_stages,
    stage_at,
)
from SVLDRLCore.learning.trainer import Trainer
from SVLDRLCore.networks.actor_critic_unetr import ActorCriticUNETR
from SVLDRLCore.svl_drl.method import SVLDRL

PATCH = (8, 16, 16)
TINY = {
    "data": {"patch_size": list(PATCH)},
    "network": {"feature_size": 8, "levels": 3},
    "train": {"steps": 6, "batch_size": 1},
    "reliability": {"enabled": False},
    "mask_agents": {"enabled": False},
}


def borders(stages: tuple[Stage, ...]) -> list[tuple[str, int, int]]:
    return [(stage.name, stage.first, stage.last) for stage in stages]


def test_stages_are_half_open_and_cover_every_step_once() -> None:
    stages = plan_stages(100, StageConfig(warm_up=0.35, transition=0.1, full_rl=0.55))
    assert borders(stages) == [("warm_up", 0, 35), ("transition", 35, 45), ("full_rl", 45, 100)]
    assert [stage_at(stages, step).name for step in (0, 34, 35, 44, 45, 99)] == [
        "warm_up", "warm_up", "transition", "transition", "full_rl", "full_rl",
    ]  # fmt: skip
    for step in range(100):
        assert sum(stage.first <= step < stage.last for stage in stages) == 1
    with pytest.raises(StopIteration):
        stage_at(stages, 100)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.0, 0.2, 0.8), [("transition", 0, 2), ("full_rl", 2, 10)]),  # without warm-up
        ((0.4, 0.0, 0.6), [("warm_up", 0, 4), ("full_rl", 4, 10)]),  # without transition
        ((0.4, 0.6, 0.0), [("warm_up", 0, 4), ("transition", 4, 10)]),  # without reinforcement
        ((1.0, 0.0, 0.0), [("warm_up", 0, 10)]),
        ((0.0, 0.0, 1.0), [("full_rl", 0, 10)]),
    ],
)
def test_each_stage_can_be_left_out(shares: tuple[float, float, float], expected: list) -> None:
    names = ("warm_up", "transition", "full_rl")
    assert borders(plan_stages(10, StageConfig(**dict(zip(names, shares))))) == expected


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 101])
def test_rounding_loses_no_step(steps: int) -> None:
    stages = plan_stages(steps, StageConfig(warm_up=1 / 3, transition=1 / 3, full_rl=1 / 3))
    assert stages[0].first == 0
    assert stages[-1].last == steps
    assert all(a.last == b.first for a, b in pairwise(stages))
    assert all(stage.last > stage.first for stage in stages)


def test_progress_runs_from_0_to_below_1() -> None:
    stage = Stage("full_rl", 10, 20, ())
    assert [stage.progress(step) for step in (10, 15, 19)] == [0.0, 0.5, 0.9]


def test_opening_parts_closes_the_others() -> None:
    network = ActorCriticUNETR(load_config("general", "corrected", TINY).network, 1, 2)
    for name, parts in TRAINED_PARTS.items():
        open_parts(network, parts)
        for child, module in network.named_children():
            assert all(p.requires_grad == (child in parts) for p in module.parameters()), name


def phantom_case(seed: int = 0) -> TrainingCase:
    image, label = make_phantom(seed, (10, 20, 20), (4.0, 4.0, 4.0))
    return in_memory(f"case {seed}", image, (label > 0)[None], (4.0, 4.0, 4.0), PATCH)


def trainer_of(variant: str, stage: str, **optimiser: object) -> Trainer:
    """A trainer that stays in one stage, its heads shaken so that every part has a gradient."""
    config = with_values(load_config("general", variant, TINY), optimiser=optimiser)
    torch.manual_seed(0)
    network = ActorCriticUNETR(config.network, 1, 2)
    for decoder in (network.value_decoder, network.policy_decoder):
        torch.nn.init.normal_(decoder.head.weight, std=0.1)
    method = SVLDRL(MethodInput(network, config, False, torch.Generator().manual_seed(1)))
    return Trainer(
        method,
        PatchSampler([phantom_case()], config.data, 1, 0),
        (Stage(stage, 0, 2, TRAINED_PARTS[stage]),),
        config.optimiser,
        config.train,
        device=torch.device("cpu"),
        events=EventLog(None),
        control=JobControl(),
    )


def moved_parts(trainer: Trainer) -> dict[str, set[bool]]:
    """For each part of the network whether its parameters differ after two steps."""
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    trainer.run()
    moved: dict[str, set[bool]] = {}
    for name, p in trainer.network.named_parameters():
        moved.setdefault(name.split(".")[0], set()).add(not torch.equal(before[name], p.detach()))
    return moved


@pytest.mark.parametrize("stage", list(TRAINED_PARTS))
@pytest.mark.parametrize("variant", ["corrected", "as_printed"])
def test_only_the_stages_parts_move(variant: str, stage: str) -> None:
    # a rate that moves every parameter by more than float32 can hide; AdamW's decay would move what has no gradient
    optimiser = {"learning_rate": 0.01} | ({"weight_decay": 0.1} if variant == "corrected" else {})
    moved = moved_parts(trainer_of(variant, stage, **optimiser))
    for part, seen in moved.items():
        if part in TRAINED_PARTS[stage]:
            assert True in seen, part
        else:
            assert seen == {False}, part
    if variant == "corrected":  # weight decay alone moves every parameter that learns (biases of zero aside)
        assert moved["encoder"] == {True}


def test_what_moved_in_an_earlier_stage_stands_still_in_a_later_one_that_closes_it() -> None:
    """AdamW keeps momentum; a part that a stage does not train must not drift on it."""
    trainer = trainer_of("corrected", "full_rl", weight_decay=0.1)
    warm_up = Stage("warm_up", 2, 4, TRAINED_PARTS["warm_up"])
    trainer.stages, trainer.steps = (*trainer.stages, warm_up), 4
    heads: list[torch.Tensor] = []

    def look(step: int) -> None:
        heads.append(trainer.network.policy_decoder.head.weight.detach().clone())

    trainer.hooks.reviews.update({2: lambda network: look(2)})  # type: ignore[attr-defined]
    trainer.run()
    look(4)
    assert torch.equal(heads[0], heads[1])


def test_the_average_of_a_part_that_stands_still_stands_still() -> None:
    trainer = trainer_of("corrected", "warm_up")
    before = {k: v.clone() for k, v in trainer.network.value_decoder.state_dict().items()}
    trainer.run()
    after = trainer.predictor.value_decoder.state_dict()
    for key, value in before.items():
        torch.testing.assert_close(after[key], value)
    assert trainer.predictor is not trainer.network


def method_of(variant: str) -> SVLDRL:
    config = load_config("general", variant, TINY)
    return SVLDRL(MethodInput(ActorCriticUNETR(config.network, 1, 2), config, False))


def test_the_temperature_falls_over_the_rl_stage() -> None:
    method = method_of("corrected")
    agents = method.config.agents
    assert method.temperature("transition", 0.7) == 1.0  # untrained: uniform
    assert method.temperature("full_rl", 0.0) == agents.temperature_start
    middle = (agents.temperature_start + agents.temperature_end) / 2
    assert method.temperature("full_rl", 0.5) == pytest.approx(middle)
    falling = [method.temperature("full_rl", x) for x in np.linspace(0, 0.99, 20)]
    assert falling == sorted(falling, reverse=True)
    assert method_of("as_printed").temperature("full_rl", 0.3) == 0.0  # Algorithm 1, line 19: argmax


@pytest.mark.parametrize("steps", [1, 3])
def test_an_episode_has_k_steps(monkeypatch, steps: int) -> None:
    trainer = trainer_of("corrected", "full_rl")
    config = with_values(trainer.method.config, agents={"rollout_steps": steps})
    trainer.method.config = config
    calls: list[int] = []
    encode = trainer.network.encode
    monkeypatch.setattr(trainer.network, "encode", lambda image: (calls.append(1), encode(image))[1])
    trainer.steps = 1
    trainer.run()
    assert len(calls) == steps + 1  # x^0 to x^K


@pytest.mark.parametrize(("stage", "act"), [("warm_up", False), ("transition", True), ("full_rl", True)])
def test_agents_act_behind_the_warm_up(stage: str, act: bool) -> None:
    method = method_of("corrected")
    step = method.training_step(PatchSampler([phantom_case()], method.config.data, 1, 0).next(), stage, 0.5)
    assert step.loss.requires_grad
    assert ("entropy" in step.logged) == act


def test_the_learning_rate_is_a_function_of_the_step_alone() -> None:
    config = load_config("general", "corrected").optimiser
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert set_learning_rate(optimiser, config, 0, 100) == pytest.approx(config.learning_rate)
    half = set_learning_rate(optimiser, config, 50, 100)
    assert half == pytest.approx(config.learning_rate * 0.5**config.poly_power)
    assert optimiser.param_groups[0]["lr"] == half
    assert set_learning_rate(optimiser, config, 99, 100) > 0
    printed = load_config("general", "as_printed").optimiser
    assert set_learning_rate(optimiser, printed, 99, 100) == 1e-4


def test_gradients_are_clipped_apart() -> None:
    network = torch.nn.ModuleDict({"a": torch.nn.Linear(1, 1, bias=False), "b": torch.nn.Linear(1, 1, bias=False)})
    for name, slope in (("a", 3.0), ("b", 4.0)):
        network[name].weight.grad = torch.full((1, 1), slope)
    assert clip_gradients(network, 0.0) == clip_gradients(network, 0.0, ("b",)) == pytest.approx(5.0)
    clip_gradients(network, 2.0, ("b",))
    assert [network[name].weight.grad.item() for name in "ab"] == pytest.approx([2.0, 2.0], abs=1e-4)
    clip_gradients(network, 1.0)
    assert [network[name].weight.grad.item() for name in "ab"] == pytest.approx([0.5**0.5] * 2, abs=1e-4)


def test_the_overlap_of_the_printed_algorithm_can_be_run() -> None:
    shares = {"warm_up": 0.5, "transition": 0.3, "full_rl": 0.2}
    given = given_run("as_printed", "svl_drl", agents={"rollout_steps": 1}, stages={**shares, "overlap": True})
    result, seen = run(given)
    told = [event["stage"] for event in seen if event["event"] == "stage"]
    assert told == ["warm_up", "full_rl", "transition", "full_rl"]
    assert all_finite(result)
    assert "policy_loss" in result.rows[0]  # Full RL from the first step on
