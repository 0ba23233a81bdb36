"""The agents learn what can be learned: toys whose best policy is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from SVLDRLCore.config.settings import (
    AgentConfig,
    MaskAgentConfig,
    NetworkConfig,
    load_config,
)
from SVLDRLCore.learning.segmentation_loss import soft_dice
from SVLDRLCore.mask_refinement.episode import edit_mask, mask_episode
from SVLDRLCore.mask_refinement.method import MaskAgents
from SVLDRLCore.mask_refinement.patches import MaskBatch
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.trained_model import build_mask_network
from SVLDRLCore.networks.actor_critic_unetr import ActorCriticUNETR
from SVLDRLCore.networks.mask_agent_network import MaskAgentNetwork, TrunkOutput
from SVLDRLCore.svl_drl.actions import (
    ENHANCE,
    KEEP,
    WEAKEN,
    act_on_mask,
    entropy_of,
    log_policy,
    log_prob_of,
    sample_actions,
    steepest_actions,
)
from SVLDRLCore.svl_drl.episode import Episode, image_episode
from SVLDRLCore.svl_drl.losses import policy_loss, value_loss
from SVLDRLCore.svl_drl.returns import advantage, discounted_returns

CORRECTED = load_config("general", "corrected").agents


def halves(size: int = 6) -> Tensor:
    """1 in the upper half of the columns, 0 in the lower, (1, 1, size, size, size)."""
    volume = torch.zeros(1, 1, size, size, size)
    volume[..., size // 2 :] = 1
    return volume


def agent_loss(episode: Episode, entropy_bonus: float) -> Tensor:
    """Policy and value loss of an episode, as the full RL stage combines them."""
    terms = [
        policy_loss(log_prob, advantage(r, v, standardise=True)).mean()
        - entropy_bonus * entropy.mean()
        + value_loss(r, v).mean()
        for log_prob, r, v, entropy in zip(episode.log_probs, episode.returns, episode.values, episode.entropies)
    ]
    return torch.stack(terms).mean()


def test_a_bandit_whose_best_action_differs_by_voxel_is_learned() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    upper = halves()
    best = torch.where(upper > 0, ENHANCE, WEAKEN).long()
    seen = torch.cat([upper, 1 - upper], dim=1)
    actor, critic = nn.Conv3d(2, 3, 1), nn.Conv3d(2, 1, 1)
    optimiser = torch.optim.Adam([*actor.parameters(), *critic.parameters()], 0.05)
    for _ in range(150):
        logits = actor(seen).unsqueeze(1)
        actions = sample_actions(logits, 1.0, generator)
        log_probs = log_policy(logits)
        noise = torch.randn(actions.shape, generator=generator)
        paid = torch.where(actions == best, 1.0, -1.0) + noise + 3.0  # an offset that the critic must take away
        returns, value = discounted_returns([paid], 0.95)[0], critic(seen)
        loss = policy_loss(log_prob_of(log_probs, actions), advantage(returns, value, standardise=True)).mean()
        loss = loss + value_loss(returns, value).mean() - 0.01 * entropy_of(log_probs).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    probabilities = actor(seen).softmax(1)
    assert probabilities[:, ENHANCE][upper[:, 0] > 0].min() > 0.9
    assert probabilities[:, WEAKEN][upper[:, 0] == 0].min() > 0.9
    assert entropy_of(log_policy(actor(seen).unsqueeze(1))).mean() < 0.5


class Threshold(nn.Module):
    """A world where brighter voxels are segmented: enhancing helps where the label is 1, weakening elsewhere."""

    def __init__(self, label: Tensor) -> None:
        super().__init__()
        self.config = NetworkConfig()
        self.where = torch.cat([label, 1 - label], dim=1)
        self.actor, self.critic = nn.Conv3d(2, 3, 1), nn.Conv3d(2, 1, 1)
        self.states: list[Tensor] = []

    def encode(self, image: Tensor) -> list[Tensor]:
        self.states.append(image)
        return [image]

    def segment(self, features: list[Tensor], image: Tensor) -> Tensor:
        return 10 * (image - 0.5)

    def value(self, features: list[Tensor], image: Tensor) -> Tensor:
        return self.critic(self.where).expand(len(image), -1, -1, -1, -1)

    def policy(self, features: list[Tensor], image: Tensor) -> Tensor:
        return self.actor(self.where).unsqueeze(1).expand(len(image), -1, -1, -1, -1, -1)


def test_agents_learn_to_make_the_image_easier_to_segment() -> None:
    torch.manual_seed(0)
    label, generator = halves(), torch.Generator().manual_seed(2)
    world = Threshold(label)
    agents = replace(CORRECTED, rollout_steps=2)
    optimiser = torch.optim.Adam(world.parameters(), 0.05)
    image = torch.full((2, 1, 6, 6, 6), 0.5)
    for _ in range(120):
        episode = image_episode(
            world, image, label.expand(2, -1, -1, -1, -1), agents, temperature=1.0, generator=generator, nested=True
        )
        optimiser.zero_grad()
        agent_loss(episode, agents.entropy_bonus).backward()
        optimiser.step()
    chosen = world.policy([], image).argmax(2)[:1]
    assert (chosen[label > 0] == ENHANCE).all()
    assert (chosen[label == 0] == WEAKEN).all()
    assert (
        soft_dice(torch.sigmoid(episode.last_logits.detach()), label).mean()
        > soft_dice(torch.sigmoid(episode.first_logits), label).mean()
    )


def test_an_episode_is_a_chain_of_states_and_its_returns_are_discounted() -> None:
    world, generator = Threshold(halves()), torch.Generator().manual_seed(0)
    agents = replace(CORRECTED, rollout_steps=3, smooth_returns=False, gamma=0.5)
    image = torch.full((2, 1, 6, 6, 6), 0.5)
    valid = torch.ones(2, 1, 6, 6, 6)
    valid[1] = 0
    episode = image_episode(
        world,
        image,
        halves().expand(2, -1, -1, -1, -1),
        agents,
        temperature=1.0,
        generator=generator,
        nested=True,
        valid=valid,
    )
    assert len(world.states) == 4  # once a state, x^0 to x^3
    assert torch.equal(world.states[0], image)
    assert len(episode.actions) == len(episode.rewards) == 3
    for before, actions, after, reward in zip(world.states, episode.actions, world.states[1:], episode.rewards):
        kept = actions == KEEP
        assert torch.equal(after[kept], before[kept])
        assert (after[actions == ENHANCE] >= before[actions == ENHANCE]).all()
        assert (after[actions == WEAKEN] <= before[actions == WEAKEN]).all()
        assert (reward[1] == 0).all()  # nothing is earned in padding
        assert reward[0].abs().sum() > 0
    r = episode.rewards
    torch.testing.assert_close(episode.returns[0], r[0] + 0.5 * r[1] + 0.25 * r[2])
    torch.testing.assert_close(episode.last_logits, 10 * (world.states[-1] - 0.5))


@pytest.mark.parametrize("variant", ["corrected", "as_printed"])
def test_who_learns_from_what_in_an_episode(variant: str) -> None:
    """Corrected: the agents' losses stop at the features. As printed: they reach the encoder."""
    config = load_config("general", variant, {"network": {"levels": 2}, "data": {"patch_size": [4, 8, 8]}})
    torch.manual_seed(0)
    network = ActorCriticUNETR(config.network, 1, 1)
    for head in (network.value_decoder.head, network.policy_decoder.head):
        nn.init.normal_(head.weight)  # heads of zeros let nothing through
    target = torch.zeros(1, 1, 4, 8, 8)
    target[..., 2:6] = 1
    agents = replace(config.agents, rollout_steps=2)
    episode = image_episode(
        network,
        torch.rand(1, 1, 4, 8, 8),
        target,
        agents,
        temperature=1.0,
        generator=torch.Generator().manual_seed(0),
        nested=True,
    )
    agent_loss(episode, 0.0).backward(retain_graph=True)
    reached = any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.encoder.parameters())
    assert reached == (variant == "as_printed")
    assert all(p.grad is None for p in network.segmentation_decoder.parameters())
    network.zero_grad()
    episode.last_logits.sum().backward()
    assert all(p.grad is not None for p in network.encoder.parameters())
    assert (episode.first_logits.requires_grad) == (agents.segmentation_state == "both")


def shifted_boxes(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images of a bright box, its mask, and a rough mask shifted by two voxels or too small or too large."""
    target, rough = torch.zeros(n, 1, 8, 8, 8), torch.zeros(n, 1, 8, 8, 8)
    for i in range(n):
        a = torch.randint(1, 4, (3,), generator=generator).tolist()
        target[i, 0, a[0] : a[0] + 4, a[1] : a[1] + 4, a[2] : a[2] + 4] = 1
        grow = int(torch.randint(-1, 2, (1,), generator=generator))
        shift = int(torch.randint(-1, 2, (1,), generator=generator))
        low = [max(0, x - grow + shift) for x in a]
        rough[i, 0, low[0] : a[0] + 4 + grow, low[1] : a[1] + 4 + grow, low[2] : a[2] + 4 + grow] = 1
    noise = 0.1 * torch.randn(target.shape, generator=generator)
    return (0.3 + 0.5 * target + noise).clamp(0, 1), target, rough


ONE = structures_of({0: "background", 1: "box"})


def mask_agents(size: int = 8) -> tuple[MaskAgentNetwork, MaskAgentConfig]:
    patch = {"data": {"patch_size": [size] * 3}, "network": {"levels": 2}}
    config = load_config("general", "extended", patch)
    torch.manual_seed(0)
    return build_mask_network(config, 1, ONE), config.mask_agents


def mask_batch(n: int, generator: torch.Generator) -> MaskBatch:
    image, target, rough = shifted_boxes(n, generator)
    nothing = torch.full_like(image, 0.5)
    return MaskBatch(image, target, torch.ones_like(image), rough, nothing, no_alignment(rough), tuple(range(n)))


def no_alignment(rough: Tensor) -> Tensor:
    """What is seen when there is nothing to align with: the mask where it is, no shift."""
    nothing = torch.zeros_like(rough)
    return torch.cat([2 * rough - 1, nothing, nothing, nothing + 1], dim=1)


def test_mask_agents_learn_to_move_a_rough_mask() -> None:
    network, agents = mask_agents()
    generator = torch.Generator().manual_seed(3)
    method = MaskAgents(network, agents, generator)
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for step in range(80):
        stage = "transition" if step < 60 else "full_rl"
        loss = method.training_step(mask_batch(6, generator), stage, 0.0).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    seen = mask_batch(20, torch.Generator().manual_seed(4))
    maps = (seen.image, seen.rough, seen.prediction, seen.alignment, agents)
    edited, kept = edit_mask(network.eval(), *maps, [0.5, 1.5]).split(1, dim=1)
    edited = (edited > 0.5).float()
    before, after = soft_dice(seen.rough, seen.target).mean(), soft_dice(edited, seen.target).mean()
    assert before < 0.85
    assert after > before + 0.08
    assert torch.equal(kept, seen.rough)  # no policy is that sure


def test_policy_gradient_alone_teaches_mask_agents_where_the_reward_lies() -> None:
    """One stroke at a time, from rewards only: the mask is to grow into the bright voxels and leave the dark ones."""
    generator = torch.Generator().manual_seed(3)
    image, target, rough = shifted_boxes(12, generator)

    class Eyes(nn.Module):
        """A policy that sees image and belief, and no trunk."""

        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.actor, self.critic = nn.Conv3d(2, 8, 1), nn.Conv3d(8, 3, 1), nn.Conv3d(8, 1, 1)

        def read(self, image: Tensor, rough: Tensor, prediction: Tensor, alignment: Tensor) -> TrunkOutput:
            return TrunkOutput(image, torch.zeros_like(rough))

        def step(self, seen_once: TrunkOutput, belief: Tensor) -> tuple[Tensor, Tensor]:
            seen = torch.cat([5 * (seen_once.features - 0.5), 2 * belief - 1], dim=1)
            hidden = torch.tanh(self.hidden(seen))
            return self.actor(hidden).unsqueeze(1), self.critic(hidden.detach())

    torch.manual_seed(0)
    eyes, agents = Eyes(), MaskAgentConfig()
    optimiser = torch.optim.Adam(eyes.parameters(), 0.03)
    for _ in range(150):
        episode = mask_episode(eyes, image, rough, rough, no_alignment(rough), target, agents, generator)
        optimiser.zero_grad()
        agent_loss(episode, 0.01).backward()
        optimiser.step()
    edited = (edit_mask(eyes, image, rough, rough, no_alignment(rough), agents, [0.5]) > 0.5).float()
    assert soft_dice(edited, target).mean() > soft_dice(rough, target).mean() + 0.1


def test_a_mask_episode_is_paid_for_the_fall_of_the_error(monkeypatch) -> None:
    network, agents = mask_agents()
    agents = replace(agents, gamma=0.5)
    image, target, rough = shifted_boxes(2, torch.Generator().manual_seed(5))
    seen = (image, rough, rough, no_alignment(rough), target)
    beliefs: list[Tensor] = []
    step = network.step
    monkeypatch.setattr(network, "step", lambda read, belief: (beliefs.append(belief), step(read, belief))[1])
    episode = mask_episode(network, *seen, agents, torch.Generator().manual_seed(6))
    assert len(beliefs) == len(episode.actions) == len(episode.rewards) == agents.rollout_steps
    assert torch.equal(beliefs[0], rough)
    for belief, actions, after in zip(beliefs, episode.actions, beliefs[1:]):
        assert torch.equal(after, act_on_mask(belief, actions, agents.step_size))
    r = episode.rewards
    expected = sum(0.5**k * item for k, item in enumerate(r))
    torch.testing.assert_close(episode.returns[0], expected)
    better = (beliefs[1] - target).abs() < (rough - target).abs()
    worse = (beliefs[1] - target).abs() > (rough - target).abs()
    for sample in range(2):
        assert r[0][sample][better[sample]].min() > r[0][sample][worse[sample]].max()


@pytest.mark.parametrize("step_size", [0.1, 0.25, 0.4])
def test_the_rule_that_the_policy_starts_from_is_the_best_of_all_three_actions(step_size: float) -> None:
    """If the opinion o were the truth's probability, E (z - y)^2 = (z - o)^2 + o (1 - o): the nearest z is best."""
    network = MaskAgentNetwork(NetworkConfig(feature_size=8, levels=2), 1, step_size, 1)
    beliefs = [z for z in (0.0, 0.1, 0.26, 0.5, 0.71, 0.9, 1.0) if step_size <= z <= 1 - step_size]  # no clipping
    for opinion in (0.02, 0.17, 0.5, 0.64, 0.98):
        logit = torch.logit(torch.full((1, 1, 2, 2, 2), opinion))
        seen_once = TrunkOutput(torch.zeros(1, network.agent_features.out_channels, 2, 2, 2), logit)
        for belief in beliefs:
            logits, _ = network.step(seen_once, torch.full((1, 1, 2, 2, 2), belief))
            after = {KEEP: belief, ENHANCE: belief + step_size, WEAKEN: belief - step_size}
            expected = {
                action: opinion * (z - 1) ** 2 + (1 - opinion) * z**2 for action, z in after.items()
            }  # fmt: skip
            assert (logits.argmax(2) == min(expected, key=expected.get)).all(), (opinion, belief)


def test_a_scripted_random_policy_stays_a_control() -> None:
    """`random_policy` draws uniformly whatever the policy says, and does not look at it."""
    world = Threshold(halves())
    nn.init.constant_(world.actor.bias, 0.0)
    with torch.no_grad():
        world.actor.bias[ENHANCE] = 50.0
    agents: AgentConfig = replace(CORRECTED, random_policy=True, rollout_steps=4)
    episode = image_episode(
        world,
        torch.full((8, 1, 6, 6, 6), 0.5),
        halves().expand(8, -1, -1, -1, -1),
        agents,
        temperature=0.3,
        generator=torch.Generator().manual_seed(0),
        nested=True,
    )
    actions = torch.stack(episode.actions).flatten()
    shares = torch.bincount(actions, minlength=3) / len(actions)
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.03)


def test_the_closed_form_goes_downhill_where_it_matters_most() -> None:
    slope = torch.tensor([3.0, -2.0, 0.1, -0.2, 5.0, -4.0]).view(1, 1, 1, 1, 6)
    expected = [WEAKEN, ENHANCE, KEEP, KEEP, WEAKEN, ENHANCE]
    assert steepest_actions(slope).flatten().tolist() == expected
    two = torch.cat([slope, 100 * slope])  # each sample by its own least third
    assert steepest_actions(two).flatten(1).tolist() == [expected, expected]


def test_the_closed_form_helps_the_label_and_learns_nothing() -> None:
    world, label = Threshold(halves()), halves().expand(8, -1, -1, -1, -1)
    image = 0.45 + 0.1 * torch.rand(label.shape, generator=torch.Generator().manual_seed(2))
    rewards = {}
    for control in ("closed_form", "random_policy"):
        agents: AgentConfig = replace(CORRECTED, **{control: True}, rollout_steps=4)
        episode = image_episode(
            world, image, label, agents, temperature=1.0, generator=torch.Generator().manual_seed(0), nested=True
        )
        rewards[control] = float(torch.stack(episode.rewards).mean())
        assert not episode.last_logits.requires_grad  # nor does any state before it
    assert rewards["closed_form"] > abs(rewards["random_policy"]) + 0.05
    assert world.actor.weight.grad is None
    assert world.critic.weight.grad is None
