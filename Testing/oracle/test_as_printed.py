"""`as_printed` against the paper by hand: Algorithm 1's lines, log pi at temperature 0, no augmentation."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from SVLDRLCore.config.settings import StageConfig, load_config
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.data.sampler import PatchSampler
from SVLDRLCore.learning.method import MethodInput
from SVLDRLCore.learning.stages import TRAINED_PARTS, plan_stages, stage_at
from SVLDRLCore.networks.actor_critic_unetr import ActorCriticUNETR
from SVLDRLCore.svl_drl.actions import log_policy, log_prob_of, sample_actions
from SVLDRLCore.svl_drl.losses import policy_loss
from SVLDRLCore.svl_drl.method import SVLDRL

PATCH = (8, 8, 8)
TINY = {"data": {"patch_size": list(PATCH)}, "network": {"feature_size": 8, "levels": 2}}


def phantom_case() -> TrainingCase:
    """As large as a patch."""
    image, label = make_phantom(0, PATCH, (4.0, 4.0, 4.0))
    return in_memory("case", image, (label > 0)[None], (4.0, 4.0, 4.0), PATCH)


def printed_method(**stages: bool) -> SVLDRL:
    config = load_config("general", "as_printed", TINY | {"stages": stages, "agents": {"rollout_steps": 2}})
    torch.manual_seed(0)
    network = ActorCriticUNETR(config.network, 1, 2)
    return SVLDRL(MethodInput(network, config, False, torch.Generator().manual_seed(1)))


def gradients(method: SVLDRL, stage: str) -> dict[str, Tensor]:
    """Of one step on the whole case, from the same draws each time."""
    batch = PatchSampler([phantom_case()], method.config.data, 1, 0).next()
    method.generator.manual_seed(1)
    method.network.zero_grad(set_to_none=True)
    method.training_step(batch, stage, 0.5).loss.backward()
    found = {name: p.grad for name, p in method.network.named_parameters()}
    return {name: torch.zeros(()) if grad is None else grad.clone() for name, grad in found.items()}


def test_the_optimiser_is_the_printed_one() -> None:
    """Section 4.1: SGD, 1e-4, batch 1, Dice loss; nothing else is printed, so nothing else is done."""
    config = load_config("general", "as_printed")
    chosen = config.optimiser
    assert (chosen.name, chosen.learning_rate, chosen.cross_entropy_weight) == ("sgd", 1e-4, 0.0)
    assert not any((chosen.weight_decay, chosen.momentum, chosen.poly_power, chosen.gradient_clip, chosen.ema_decay))
    assert (config.train.batch_size, config.train.precision) == (1, "float32")
    agents = config.agents
    assert (agents.value_weight, agents.policy_weight, agents.transition_value_weight) == (0.2, 0.2, 0.3)


def test_a_bfloat16_preset_is_trained_in_float32() -> None:
    given = {"train": {"precision": "bfloat16"}}
    assert load_config("general", "as_printed").train.precision == "float32"
    assert load_config("general", "as_printed", given).train.precision == "bfloat16"  # asked for by name


def test_patches_are_the_volume_itself() -> None:
    case = phantom_case()
    drawn = {variant: [] for variant in ("as_printed", "corrected")}
    for variant, batches in drawn.items():
        config = load_config("general", variant, TINY)
        sampler = PatchSampler([case], config.data, 1, 0)
        batches += [sampler.next() for _ in range(6)]
    for batch in drawn["as_printed"]:
        assert torch.equal(batch.image[0], case.image.float())
        assert torch.equal(batch.target[0], case.masks.float())
    assert any(not torch.equal(batch.image[0], case.image.float()) for batch in drawn["corrected"])


def test_the_gradient_at_temperature_0_is_that_of_temperature_1_at_the_best_action() -> None:
    logits = torch.tensor([0.0, math.log(2), math.log(5)], dtype=torch.float64)
    logits = logits.view(1, 1, 3, 1, 1, 1).requires_grad_()
    best = sample_actions(logits, 0.0, torch.Generator())
    assert best.item() == 2
    # pi = (1, 2, 5) / 8 at temperature 1; d(-log pi(a)) A / d logits = (pi - onehot(a)) A
    for paid, expected in ((4.0, [0.5, 1.0, -1.5]), (-4.0, [-0.5, -1.0, 1.5])):
        logits.grad = None
        log_prob = log_prob_of(log_policy(logits, 0.0), best)
        assert log_prob.item() == pytest.approx(math.log(5 / 8))
        policy_loss(log_prob, torch.full_like(log_prob, paid)).sum().backward()
        assert logits.grad.flatten().tolist() == pytest.approx(expected)


def test_the_limit_of_temperature_0_would_teach_nothing() -> None:
    """softmax(logits / tau) becomes a point mass: log pi(best) -> 0, its gradient falls as exp(-gap / tau) / tau."""
    logits = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).view(1, 1, 3, 1, 1, 1)
    steepest = []
    for temperature in (1.0, 0.1, 0.02):
        x = logits.clone().requires_grad_()
        log_prob = log_policy(x, temperature)[:, :, 2]
        log_prob.sum().backward()
        steepest.append(float(x.grad.abs().max()))
    assert steepest[0] > 0.4
    assert steepest[1] < 0.1
    assert steepest[2] == pytest.approx(0, abs=1e-8)
    assert log_prob.item() == pytest.approx(0, abs=1e-9)


def algorithm_1(epochs: int, t_warm: int, t_transition: int) -> list[list[str]]:
    """What each of its epochs updates, line by line."""
    done: list[list[str]] = []
    for t in range(1, epochs + 1):  # line 2
        updates = []
        if t < t_warm:  # line 3
            updates.append("warm_up")
        if t_warm < t < t_transition:  # line 7
            updates.append("transition")
        else:  # line 18
            updates.append("full_rl")
        done.append(updates)
    return done


@pytest.mark.parametrize(
    ("warm_up", "transition", "full_rl"),
    [(0.35, 0.1, 0.55), (0.2, 0.2, 0.6), (0.0, 0.4, 0.6), (0.4, 0.0, 0.6), (0.0, 0.0, 1.0), (0.05, 0.05, 0.9)],
)
def test_the_overlap_is_algorithm_1_line_by_line(warm_up: float, transition: float, full_rl: float) -> None:
    steps = 20
    shares = {"warm_up": warm_up, "transition": transition, "full_rl": full_rl}
    stages = plan_stages(steps, StageConfig(**shares, overlap=True))
    t_warm, t_transition = round(warm_up * steps), round((warm_up + transition) * steps)
    printed = algorithm_1(steps, t_warm, t_transition)
    for step in range(steps):
        stage = stage_at(stages, step)
        updates = [stage.name, "full_rl"] if stage.name == "warm_up" else [stage.name]
        assert updates == printed[step], step
        assert set(stage.trains) == {part for name in updates for part in TRAINED_PARTS[name]}
    assert stages[0].first == 0
    assert stages[-1].last == steps
    assert all(a.last == b.first for a, b in pairwise(stages))


def test_without_full_rl_nothing_overlaps() -> None:
    shares = {"warm_up": 0.5, "transition": 0.5, "full_rl": 0.0}
    assert plan_stages(10, StageConfig(**shares, overlap=True)) == plan_stages(10, StageConfig(**shares))


def test_a_step_of_the_overlapping_warm_up_descends_both_losses() -> None:
    apart, overlapping = printed_method(), printed_method(overlap=True)
    segmentation, agents = gradients(apart, "warm_up"), gradients(apart, "full_rl")
    both = gradients(overlapping, "warm_up")
    for name, gradient in both.items():
        torch.testing.assert_close(gradient, segmentation[name] + agents[name], rtol=1e-3, atol=1e-3, msg=name)
    for part in ("value_decoder", "policy_decoder"):
        assert all(not grad.any() for name, grad in segmentation.items() if name.startswith(part))
        assert any(grad.any() for name, grad in both.items() if name.startswith(part))
    for name, gradient in gradients(overlapping, "full_rl").items():  # later stages are the same
        torch.testing.assert_close(gradient, agents[name], msg=name)


def test_the_temperature_of_the_transition_is_a_setting() -> None:
    method = printed_method()
    assert (method.temperature("transition", 0.4), method.temperature("full_rl", 0.4)) == (1.0, 0.0)
    settings = TINY | {"agents": {"temperature_transition": 0.25}}
    other = SVLDRL(MethodInput(method.network, load_config("general", "as_printed", settings), False))
    assert (other.temperature("transition", 0.4), other.temperature("full_rl", 0.4)) == (0.25, 0.0)
