"""Every equation of the method on numbers that can be worked out by hand (arXiv paper SVL-DRL, section 3)."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_volumes import CORRECTED, PRINTED, cube, maps, step_rewards

from SVLDRLCore.config.settings import AgentConfig, load_config
from SVLDRLCore.learning.segmentation_loss import dice_loss, segmentation_loss, soft_dice
from SVLDRLCore.svl_drl.actions import (
    ENHANCE,
    KEEP,
    WEAKEN,
    act_on_image,
    act_on_mask,
    draw_epsilon,
    log_policy,
    log_prob_of,
)
from SVLDRLCore.svl_drl.losses import (
    full_rl_loss,
    policy_loss,
    transition_loss,
    value_loss,
)
from SVLDRLCore.svl_drl.returns import advantage, binomial_smoothing, discounted_returns
from SVLDRLCore.svl_drl.rewards import (
    count_components,
    delta_dice,
    error_fall,
    implausibility,
    reward,
    total_gradient_slices,
    total_gradient_volume,
)

# Equation 1: 1 - Dice(P, G).


def test_eq1_dice_loss() -> None:
    # P.G = 1 + 0.5 = 1.5; sum P = 2; sum G = 2; Dice = 2 * 1.5 / 4 = 0.75
    loss = dice_loss(maps(1, 0.5, 0.5), maps(1, 1))
    assert loss.item() == pytest.approx(0.25, abs=1e-5)


def test_eq1_is_the_printed_segmentation_loss_and_half_of_the_corrected_one() -> None:
    assert load_config("general", "as_printed").optimiser.cross_entropy_weight == 0
    # Logits 0 everywhere: p = 0.5; P.G = 1; sum P = 4; sum G = 2; Dice = 2 / 6 = 1/3. Cross entropy = ln 2.
    exclusive, nested = torch.zeros(1, 2, 2, 2, 2, dtype=torch.float64), maps()
    for logits, is_nested in ((exclusive, False), (nested, True)):
        printed = segmentation_loss(logits, maps(1, 1), 0.0, is_nested)
        mixed = segmentation_loss(logits, maps(1, 1), 0.5, is_nested)
        assert printed.item() == pytest.approx(2 / 3, abs=1e-5)
        assert mixed.item() == pytest.approx(0.5 * 2 / 3 + 0.5 * math.log(2), abs=1e-5)


def test_eq1_is_the_mean_over_structures() -> None:
    # First structure: P.G = 1, sums 1 and 1: Dice 1. Second: P.G = 0, sums 1 and 1: Dice 0.
    probabilities = torch.cat([maps(1), maps(0, 1)], dim=1)
    target = torch.cat([maps(1), maps(0, 0, 1)], dim=1)
    assert dice_loss(probabilities, target).item() == pytest.approx(0.5, abs=1e-4)


def test_padding_teaches_nothing() -> None:
    valid = maps(1, 1, 1, 1)
    logits = torch.randn(1, 2, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for nested in (False, True):
        shown = logits[:, :1].clone() if nested else logits.clone()
        shown.requires_grad_()
        segmentation_loss(shown, maps(1, 0, 1, 0, 1, 1), 0.5, nested, valid).sum().backward()
        assert (shown.grad.flatten(2)[..., 4:] == 0).all()
        assert (shown.grad.flatten(2)[..., :4] != 0).all()


def test_an_empty_target_has_a_dice_and_a_finite_gradient() -> None:
    assert soft_dice(maps(), maps()).item() == 1.0
    # nothing wanted, 0.5 predicted once: (0 + e) / (0.5 + e), next to 0
    assert soft_dice(maps(0.5), maps()).item() == pytest.approx(0.0, abs=1e-4)
    for start in (0.0, 0.5):
        probabilities = torch.full((1, 1, 2, 2, 2), start, dtype=torch.float64, requires_grad=True)
        dice_loss(probabilities, maps()).sum().backward()
        assert torch.isfinite(probabilities.grad).all()
        assert (probabilities.grad > 0).all()  # what is not wanted goes down


# Equation 2: R_t = r_t + gamma r_{t+1} + ...


def test_eq2_discounted_returns() -> None:
    # gamma = 0.5: R_2 = 4; R_1 = 2 + 0.5 * 4 = 4; R_0 = 1 + 0.5 * 4 = 3
    returns = discounted_returns(step_rewards(1, 2, 4), 0.5)
    assert [r.unique().tolist() for r in returns] == [[3.0], [4.0], [4.0]]


def test_eq2_with_credit_shared_between_neighbours() -> None:
    first, second = torch.zeros(1, 1, 3, 1, 1), torch.tensor([0.0, 4.0, 0.0]).view(1, 1, 3, 1, 1)
    # R_1 = (0, 4, 0), smoothed (1, 2, 1); R_0 = 0 + 0.5 (1, 2, 1)
    returns = discounted_returns([first, second], 0.5, smooth=True)
    assert returns[0].flatten().tolist() == [0.5, 1.0, 0.5]
    assert returns[1].flatten().tolist() == [0.0, 4.0, 0.0]


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_smoothing_by_hand(axis: int) -> None:
    shape = [1, 1, 1, 1, 1]
    shape[axis] = 4
    x = torch.tensor([4.0, 0.0, 0.0, 8.0]).view(shape)
    # (1, 2, 1) / 4 with repeated borders: (4 + 8 + 0)/4, (4 + 0 + 0)/4, (0 + 0 + 8)/4, (0 + 16 + 8)/4
    assert binomial_smoothing(x).flatten().tolist() == [3.0, 1.0, 2.0, 6.0]


def test_smoothing_keeps_means_and_constants() -> None:
    x = torch.rand(2, 1, 5, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(binomial_smoothing(x).mean((2, 3, 4)), x.mean((2, 3, 4)))
    constant = torch.full((1, 1, 3, 4, 5), 0.7)
    torch.testing.assert_close(binomial_smoothing(constant), constant)


# Equations 3 to 7.


def test_eq3_value_loss() -> None:
    assert value_loss(maps(3, 1), maps(1, 1.5)).flatten().tolist()[:3] == [4.0, 0.25, 0.0]


def test_eq4_transition_loss() -> None:
    # lambda = 0.3: 0.7 * 0.5 + 0.3 * 2 = 0.95
    loss = transition_loss(torch.tensor(0.5), torch.tensor(2.0), AgentConfig())
    assert loss.item() == pytest.approx(0.95)


def test_eq5_advantage() -> None:
    assert advantage(maps(3, 1), maps(1, 2)).flatten().tolist()[:3] == [2.0, -1.0, 0.0]


def test_advantages_carry_no_gradient() -> None:
    value = maps(1).requires_grad_()
    assert not advantage(maps(3), value).requires_grad
    assert not advantage(maps(3), value, standardise=True).requires_grad
    logits = torch.zeros(1, 1, 3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    log_prob = log_prob_of(log_policy(logits), torch.ones(1, 1, 2, 2, 2, dtype=torch.long))
    policy_loss(log_prob, advantage(maps(3), value)).mean().backward()
    assert value.grad is None
    assert logits.grad.abs().sum() > 0


def test_standardised_advantages_have_mean_0_and_sd_1() -> None:
    # R - V = (6, 2, 0 ...): mean 1, mean square (36 + 4) / 8 = 5, variance 4, SD 2
    a = advantage(maps(7, 2), maps(1), standardise=True)
    assert a.flatten().tolist()[:3] == pytest.approx([2.5, 0.5, -0.5], abs=1e-5)
    assert a.mean().item() == pytest.approx(0, abs=1e-9)
    assert a.std(unbiased=False).item() == pytest.approx(1, abs=1e-5)
    constant = advantage(maps(*[2.0] * 8), maps(), standardise=True)
    assert (constant == 0).all()  # no difference, no push; and no division by 0


def test_eq6_policy_loss() -> None:
    # -ln(1/4) * 2 = 4 ln 2; a bad surprise pushes the other way: -ln(1/4) * (-1) = -2 ln 2
    losses = policy_loss(maps(*[math.log(0.25)] * 8), maps(2, -1))
    assert losses.flatten().tolist()[:2] == pytest.approx([4 * math.log(2), -2 * math.log(2)])


def test_eq7_full_rl_loss() -> None:
    agents = AgentConfig(value_weight=0.1, policy_weight=0.3)
    # (1 - 0.1 - 0.3) * 0.5 + 0.1 * 2 + 0.3 * 3 = 0.3 + 0.2 + 0.9
    loss = full_rl_loss(torch.tensor(0.5), torch.tensor(2.0), torch.tensor(3.0), agents)
    assert loss.item() == pytest.approx(1.4)
    assert (PRINTED.value_weight, PRINTED.policy_weight, PRINTED.transition_value_weight) == (0.2, 0.2, 0.3)


# Equations 8 and 9: rewards of the single agents.


def test_eq9_a_voxel_is_paid_for_coming_nearer_to_the_label() -> None:
    # 0.2 -> 0.6 where 1 is wanted: 0.64 - 0.16 = 0.48; where 0 is wanted: 0.04 - 0.36 = -0.32
    fall = error_fall(maps(0.2, 0.2), maps(0.6, 0.6), maps(1, 0))
    assert fall.flatten().tolist()[:3] == pytest.approx([0.48, -0.32, 0.0])


def test_eq9_falls_of_the_error_add_up_over_an_episode() -> None:
    path = [maps(0.2), maps(0.9), maps(0.4), maps(0.7)]
    total = sum(error_fall(a, b, maps(1)) for a, b in pairwise(path))
    torch.testing.assert_close(total, error_fall(path[0], path[-1], maps(1)))


# Equation 10: keep, enhance, weaken.

IMAGE = maps(0.5, 0.5, 0.5, 0.9, 0.9, 0.0, 1.0, 0.2).float()
ACTIONS = maps(KEEP, ENHANCE, WEAKEN, ENHANCE, WEAKEN, ENHANCE, WEAKEN, KEEP).long()


def test_eq10_all_actions_and_both_clips() -> None:
    # epsilon = 1: 0.5 kept; 0.5 * 1.3; 0.5 * 0.7; min(0.9 * 1.3, 1); 0.9 * 0.7; 0 * 1.3; 1 * 0.7; 0.2 kept
    moved = act_on_image(IMAGE, ACTIONS, torch.ones(()))
    assert moved.flatten().tolist() == pytest.approx([0.5, 0.65, 0.35, 1.0, 0.63, 0.0, 0.7, 0.2])
    below = act_on_image(torch.full_like(IMAGE, -0.1), ACTIONS, torch.ones(()))
    assert (below == 0).all()


def test_eq10_epsilon_of_each_voxel() -> None:
    # 0.5 * (1 + 0.3 * 0.5) = 0.575; 0.5 * (1 - 0.3 * 0.2) = 0.47
    moved = act_on_image(IMAGE, ACTIONS, maps(1, 0.5, 0.2).float())
    assert moved.flatten().tolist()[:4] == pytest.approx([0.5, 0.575, 0.47, 0.9])


def test_eq10_one_action_map_serves_all_channels() -> None:
    moved = act_on_image(torch.cat([IMAGE, 0.5 * IMAGE], dim=1), ACTIONS, torch.ones(()))
    assert moved[:, 1].flatten().tolist()[:3] == pytest.approx([0.25, 0.325, 0.175])


def test_eq10_bound_to_where_the_episode_started() -> None:
    # 0.5 -> 0.65 -> 0.845, held at 0.65; 0.5 -> 0.35 -> 0.245, held at 0.35
    once = act_on_image(IMAGE, ACTIONS, torch.ones(()))
    free = act_on_image(once, ACTIONS, torch.ones(()))
    bound = act_on_image(once, ACTIONS, torch.ones(()), start=IMAGE)
    assert free.flatten().tolist()[1:3] == pytest.approx([0.845, 0.245])
    assert bound.flatten().tolist()[:3] == pytest.approx([0.5, 0.65, 0.35])
    assert bound.flatten().tolist()[3] == 1.0  # 0.9 * 1.3 lies beyond 1


def test_eq10_epsilon_is_uniform_and_drawn_for_whom_the_variant_says() -> None:
    image = torch.zeros(3, 2, 20, 20, 20)
    voxel = draw_epsilon(image, "voxel", torch.Generator().manual_seed(0))
    assert voxel.shape == (3, 1, 20, 20, 20)
    assert (voxel.min() >= 0, voxel.max() < 1) == (True, True)
    # 24,000 draws: SD of the mean 0.0019, of the share below 1/4 0.0028
    assert voxel.mean().item() == pytest.approx(0.5, abs=0.01)
    assert (voxel < 0.25).double().mean().item() == pytest.approx(0.25, abs=0.015)
    volume = draw_epsilon(image, "volume", torch.Generator().manual_seed(0))
    assert volume.shape == (3, 1, 1, 1, 1)
    assert len(set(volume.flatten().tolist())) == 3


def test_the_same_actions_on_a_mask() -> None:
    moved = act_on_mask(maps(0.5, 0.5, 0.5, 0.9, 0.1), maps(KEEP, ENHANCE, WEAKEN, ENHANCE, WEAKEN).long(), 0.4)
    assert moved.flatten().tolist()[:5] == pytest.approx([0.5, 0.9, 0.1, 1.0, 0.0])


# Equations 11 to 14: the reward.


def test_eq12_change_of_dice() -> None:
    # Dice(f_t, G) = 2 * 1.5 / 4 = 0.75; Dice(f_{t-1}, G) = 2 * 1 / 4 = 0.5
    change = delta_dice(maps(1, 0.5, 0.5), maps(1, 0, 1), maps(1, 1))
    assert change.item() == pytest.approx(0.25, abs=1e-5)


def test_eq13_components_by_face_and_by_corner() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True  # they touch at a corner
    mask[3, 3, 2:] = True  # a pair apart from both
    assert count_components(mask, connectivity=6) == 3
    assert count_components(mask, connectivity=26) == 2
    assert count_components(mask, connectivity=6, smallest=2) == 1
    assert count_components(mask, connectivity=26, smallest=3) == 0
    assert count_components(np.zeros((2, 2, 2), bool)) == 0


def test_eq13_counts_what_is_more_than_one_component() -> None:
    only_components = replace(PRINTED, gradient_weight=0.0)
    two = cube(6, ((0, 0, 0), 2), ((4, 4, 4), 2))
    assert implausibility(two, only_components).item() == 1.0
    assert implausibility(two * 0.5, only_components).item() == 0.0  # f > 0.5 counts
    assert implausibility(cube(6), only_components).item() == 0.0  # max(0 - 1, 0)
    three = torch.cat([two, cube(6, ((0, 0, 0), 2))], dim=1)
    assert implausibility(three, only_components).item() == 0.5  # mean over structures
    small_is_nothing = replace(only_components, smallest_component=9)
    assert implausibility(two, small_is_nothing).item() == 0.0


def test_eq14_in_slices_and_in_the_volume() -> None:
    # A 2x2x2 cube of ones at 1..2 of 4x4x4. In each of its two slices, forward differences are 1 or -1
    # before and at the end of the square: (0,1) (0,2) (1,0) (2,0) see one side from outside, (1,2) and (2,1)
    # one from inside: 6 times sqrt(1); (2,2) sees both: sqrt(2). Two slices: 2 (6 + sqrt 2).
    f = cube(4, ((1, 1, 1), 2))
    assert total_gradient_slices(f).item() == pytest.approx(2 * (6 + math.sqrt(2)))
    # With differences from slice to slice: slice 0 adds the square's four voxels; slice 1 stays 6 + sqrt 2;
    # in slice 2 the four voxels of the square also see the end: 4 outside ones, (1,1): 1, (1,2) and (2,1):
    # sqrt 2 each, (2,2): sqrt 3.
    volume = 4 + (6 + math.sqrt(2)) + (4 + 1 + 2 * math.sqrt(2) + math.sqrt(3))
    assert total_gradient_volume(f).item() == pytest.approx(volume)


def test_eq14_of_a_ramp_and_a_constant() -> None:
    ramp = torch.arange(4.0, dtype=torch.float64).view(1, 1, 1, 1, 4).expand(1, 1, 4, 4, 4) * 0.25
    # 3 of 4 columns step by 0.25, 16 rows: 48 * 0.25 = 12
    assert total_gradient_slices(ramp).item() == pytest.approx(12)
    assert total_gradient_volume(ramp).item() == pytest.approx(12)
    along_d = ramp.transpose(2, 4)
    assert total_gradient_slices(along_d).item() == 0  # the printed equation sees single slices
    assert total_gradient_volume(along_d).item() == pytest.approx(12)
    assert total_gradient_volume(torch.ones(1, 1, 4, 4, 4)).item() == 0


def test_implausibility_of_both_variants() -> None:
    f = cube(4, ((1, 1, 1), 2))
    slices, volume = 2 * (6 + math.sqrt(2)), 15 + 3 * math.sqrt(2) + math.sqrt(3)
    assert implausibility(f, PRINTED).item() == pytest.approx(slices)
    # relative to the surface of a ball of 8 voxels: 4.84 * 8^(2/3) = 19.36
    agents = replace(CORRECTED, gradient_weight=0.5, component_weight=1.0)
    assert implausibility(f, agents).item() == pytest.approx(0.5 * volume / 19.36)


def test_eq11_as_printed() -> None:
    target, previous = cube(4, ((1, 1, 1), 2)), cube(4)
    # Delta Dice = 1 - 0; C(f_t) = 0 + 2 (6 + sqrt 2), added as a level, the same for every voxel
    paid = reward(previous, target, target, PRINTED)
    assert paid.shape == (1, 1, 4, 4, 4)
    assert paid.unique().tolist() == pytest.approx([1 + 2 * (6 + math.sqrt(2))], abs=1e-4)
    standing_still = reward(target, target, target, PRINTED)
    assert standing_still.mean().item() == pytest.approx(2 * (6 + math.sqrt(2)))  # paid for surface


def test_eq11_both_signs_and_both_forms_of_the_constraint() -> None:
    target, previous = cube(4, ((1, 1, 1), 2)), cube(4)
    level = 2 * (6 + math.sqrt(2))
    given = {"previous": previous, "current": target, "target": target}
    for sign in (1, -1):
        printed = replace(PRINTED, plausibility_sign=sign)
        assert reward(**given, config=printed).mean().item() == pytest.approx(1 + sign * level, abs=1e-4)
        difference = replace(printed, plausibility="difference")
        assert reward(**given, config=difference).mean().item() == pytest.approx(1 + sign * level, abs=1e-4)
        back = reward(target, previous, target, difference)
        assert back.mean().item() == pytest.approx(-1 - sign * level, abs=1e-4)


def test_eq11_voxel_rewards_are_the_own_error_and_the_volumes_term() -> None:
    target, previous = cube(4, ((1, 1, 1), 2)), cube(4)
    agents = replace(CORRECTED, reward_scale=2.0, component_weight=0.0, gradient_weight=0.0)
    paid = reward(previous, target, target, agents)
    # inside: 2 * (1 - 0 + Delta Dice 1) = 4; outside, where nothing changed: 2 * (0 + 1) = 2
    assert paid[target > 0].unique().tolist() == pytest.approx([4.0], abs=1e-4)
    assert paid[target == 0].unique().tolist() == pytest.approx([2.0], abs=1e-4)


def test_given_implausibilities_spare_their_computation_and_change_nothing() -> None:
    generator = torch.Generator().manual_seed(2)
    previous, current, target = (torch.rand(2, 2, 6, 6, 6, generator=generator) for _ in range(3))
    for agents in (PRINTED, CORRECTED):
        burdens = implausibility(previous, agents), implausibility(current, agents)
        expected = reward(previous, current, target.round(), agents)
        torch.testing.assert_close(reward(previous, current, target.round(), agents, *burdens), expected)


def test_an_island_raises_the_printed_reward_and_lowers_the_corrected_one() -> None:
    organ = cube(12, ((1, 1, 1), 5))
    island = cube(12, ((1, 1, 1), 5), ((8, 8, 8), 3))
    attached = cube(12, ((1, 1, 1), 5), ((6, 1, 1), 3))  # as many wrong voxels, in one piece
    for added in (island, attached):
        assert delta_dice(added, organ, organ).item() == pytest.approx(-27 / 277, abs=1e-3)
    printed, corrected = (
        {name: reward(organ, f, organ, agents).mean().item() for name, f in
         (("same", organ), ("island", island), ("attached", attached))}
        for agents in (PRINTED, CORRECTED)
    )  # fmt: skip
    assert printed["island"] > printed["attached"] > printed["same"] > 0
    assert corrected["island"] < corrected["attached"] < corrected["same"]
    assert corrected["same"] == pytest.approx(0, abs=1e-6)
