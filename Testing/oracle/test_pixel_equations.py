"""PixelDRL-MG's equations on images of 3 x 3, beside loops and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from SVLDRLCore.config.settings import NetworkConfig
from SVLDRLCore.networks.pixel_episodes import KEEP_PIXEL, SET_TO_ZERO, EpisodeSettings, after_actions
from SVLDRLCore.networks.pixel_layers import Neighbourhood, SelfAttention
from SVLDRLCore.networks.pixel_q_unet import PixelQUNet, QNetworkSettings
from SVLDRLCore.pixel_drl.deep_q import q_target
from SVLDRLCore.pixel_drl.episode import drawn_actions, pixel_episode, pixel_reward
from SVLDRLCore.pixel_drl.equations import (
    actor_loss,
    critic_loss,
    dice_weights,
    episode_returns,
    every_action_loss,
    one_step_returns,
)
from SVLDRLCore.pixel_drl.method import gains_of
from SVLDRLCore.pixel_drl.settings import PixelSettings

TARGET = torch.tensor([[0.0, 1, 1], [0, 1, 0], [0, 0, 0]]).view(1, 1, 3, 3)
ALL = torch.ones(1, 1, 3, 3)


def maps(seed: int, channels: int = 1) -> Tensor:
    return torch.randn(1, channels, 3, 3, generator=torch.Generator().manual_seed(seed))


def window_of(weights: list[list[float]]) -> Neighbourhood:
    made = Neighbourhood(3)
    made.logits.data = torch.tensor(weights).log()
    return made


def test_reward_pays_each_pixel_that_came_nearer() -> None:
    """Eq. 12: of the first mask, all ones, six pixels are wrong; two are put right, one is put wrong."""
    mask = ALL.clone()
    following = torch.tensor([[0.0, 1, 1], [0, 0, 1], [1, 1, 1]]).view(1, 1, 3, 3)
    by_hand = torch.tensor([[1.0, 0, 0], [1, -1, 0], [0, 0, 0]]).view(1, 1, 3, 3)
    assert torch.equal(pixel_reward(mask, following, TARGET), by_hand)
    halves = pixel_reward(torch.full_like(mask, 0.5), torch.full_like(mask, 0.8), TARGET)
    assert torch.allclose(halves, 0.25 - (0.8 - TARGET) ** 2)


def test_actions_set_to_zero_for_good_or_not() -> None:
    mask = torch.tensor([[0.0, 1], [0, 1]]).view(1, 1, 2, 2)
    actions = torch.tensor([[KEEP_PIXEL, KEEP_PIXEL], [SET_TO_ZERO, SET_TO_ZERO]]).view(1, 1, 2, 2)
    printed, ours = EpisodeSettings(reversible=False), EpisodeSettings(reversible=True)
    assert after_actions(mask, actions, printed).flatten().tolist() == [0, 1, 0, 0]
    assert after_actions(mask, actions, ours).flatten().tolist() == [1, 1, 0, 0]
    adjust = EpisodeSettings(actions="adjust")
    moved = after_actions(torch.full((1, 1, 1, 3), 0.5), torch.tensor([0, 3, 2]).view(1, 1, 1, 3), adjust)
    assert moved.flatten().tolist() == pytest.approx([0.5, 0.9, 0.0])


def test_the_window_weighs_neighbours_by_their_offset() -> None:
    """sum_j omega_{i-j} x_j with a window that is nowhere symmetric, against loops."""
    window = window_of([[0.01, 0.02, 0.03], [0.04, 0.5, 0.06], [0.07, 0.08, 0.19]])
    omega = window.kernel().detach().numpy()
    assert omega.sum() == pytest.approx(1.0)
    assert omega[2, 1] == pytest.approx(0.08)
    x = maps(1)
    by_hand = np.zeros((3, 3))
    for iy, ix in np.ndindex(3, 3):
        for jy, jx in np.ndindex(3, 3):
            if abs(iy - jy) <= 1 and abs(ix - jx) <= 1:
                by_hand[iy, ix] += omega[iy - jy + 1, ix - jx + 1] * x[0, 0, jy, jx].item()
    assert np.allclose(window(x)[0, 0].detach(), by_hand, atol=1e-6)


def test_return_of_one_step() -> None:
    """Eq. 8 in the centre: r + gamma sum omega_{i-j} V_j, all nine neighbours by hand."""
    window = window_of([[0.1, 0.1, 0.1], [0.1, 0.2, 0.1], [0.1, 0.1, 0.1]])
    values = torch.arange(9.0).view(1, 1, 3, 3).requires_grad_()
    (found,) = one_step_returns([2 * ALL], [values], 0.5, window)
    assert found[0, 0, 1, 1].item() == pytest.approx(2 + 0.5 * (0.1 * (36 - 4) + 0.2 * 4))
    assert found[0, 0, 0, 0].item() == pytest.approx(2 + 0.5 * (0.2 * 0 + 0.1 * (1 + 3 + 4)))
    found.sum().backward()
    assert window.logits.grad is not None
    assert window.logits.grad.abs().sum() > 0  # omega learns,
    assert values.grad is None  # V does not


def test_return_to_the_end_of_an_episode() -> None:
    """Algorithm 1, lines 17 to 19, with the window; for a window of one pixel eq. 2."""
    rewards = [maps(seed) for seed in (1, 2, 3)]
    alone = episode_returns(rewards, 0.5, Neighbourhood(1))
    assert torch.allclose(alone[0], rewards[0] + 0.5 * rewards[1] + 0.25 * rewards[2])
    window = window_of([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])
    found = episode_returns(rewards, 0.5, window)
    assert torch.allclose(found[1], rewards[1] + 0.5 * window(rewards[2]))
    assert torch.allclose(found[0], rewards[0] + 0.5 * window(found[1]))
    later = maps(4)
    assert torch.allclose(episode_returns(rewards, 0.5, window, later)[2], rewards[2] + 0.5 * window(later))


def test_gradients_of_critic_actor_and_shared_parameters() -> None:
    """Eq. 13 to 16 where each pixel has parameters of its own: each derivative has a closed form."""
    n = 9
    value = maps(5).requires_grad_()
    logits = maps(6, 2).view(1, 1, 2, 3, 3).requires_grad_()
    shared = maps(7).requires_grad_()  # added to V and to the logit of "keep"
    actions = torch.tensor([[0, 1, 1], [0, 0, 1], [1, 0, 1]]).view(1, 1, 3, 3)
    returns = maps(8)
    seen_value = value + shared
    seen_logits = logits + torch.stack([torch.zeros_like(shared), shared], dim=2)
    log_policy = seen_logits.log_softmax(2)
    log_prob = log_policy.gather(2, actions.unsqueeze(2)).squeeze(2)
    actor = actor_loss([returns], [seen_value], [log_prob], ALL)
    critic = critic_loss([returns], [seen_value], ALL)
    advantage = (returns - seen_value).detach()
    assert actor.item() == pytest.approx((-(log_prob * advantage).sum() / n).item())  # eq. 14, 15
    assert critic.item() == pytest.approx((advantage.square().sum() / n).item())
    of_value, of_logits, of_shared = torch.autograd.grad(actor + critic, [value, logits, shared])
    assert torch.allclose(of_value, -2 * advantage / n)  # eq. 13; the actor does not move V
    chosen = torch.nn.functional.one_hot(actions, 2).movedim(-1, 2)
    score = chosen - log_policy.exp().detach()
    assert torch.allclose(of_logits, -score * advantage.unsqueeze(2) / n, atol=1e-7)  # eq. 15
    assert torch.allclose(of_shared, of_value + of_logits[:, :, 1], atol=1e-7)  # eq. 16: the sum of both


def test_padding_counts_nowhere() -> None:
    valid = ALL.clone()
    valid[..., 0] = 0
    value = maps(5).requires_grad_()
    loss = critic_loss([maps(8)], [value], valid)
    loss.backward()
    assert loss.item() == pytest.approx((maps(8) - value.detach()).square()[..., 1:].mean().item())
    assert value.grad is not None
    assert (value.grad[..., 0] == 0).all()


def test_every_action_is_the_mean_over_draws() -> None:
    """Ours: the gradient of the expected reward, which single draws have in the mean (eq. 11 at gamma 0, V = 0)."""
    logits = maps(9, 2).view(1, 1, 2, 3, 3).requires_grad_()
    weights = dice_weights(ALL, TARGET)
    (exact,) = torch.autograd.grad(every_action_loss([logits.log_softmax(2)], [gains_of(TARGET, weights)], ALL), logits)
    generator, drawn = torch.Generator().manual_seed(0), torch.zeros_like(exact)
    count = 4000
    for _ in range(count):
        actions = drawn_actions(logits, generator)
        earned = pixel_reward(torch.zeros(1, 1, 3, 3), actions.float(), TARGET, weights)
        log_prob = logits.log_softmax(2).gather(2, actions.unsqueeze(2)).squeeze(2)
        drawn += torch.autograd.grad(actor_loss([earned], [torch.zeros(1, 1, 3, 3)], [log_prob], ALL), logits)[0]
    assert torch.allclose(drawn / count, exact, atol=0.01)


def test_weights_are_the_slope_of_dice() -> None:
    """Dice of all ones on three of nine pixels is 0.5: an object pixel is worth 1.5 to 0.5 of the background."""
    found = dice_weights(ALL, TARGET)
    assert found[0, 0, 0, 1].item() / found[0, 0, 0, 0].item() == pytest.approx(3.0)
    assert found.mean().item() == pytest.approx(1.0)
    mask = torch.tensor([[0.0, 1, 0], [1, 1, 0], [0, 0, 0]]).view(1, 1, 3, 3)

    def dice(p: Tensor) -> float:
        return (2 * (p * TARGET).sum() / (p + TARGET).sum()).item()

    small = 1e-4
    gains = []
    for place in ((0, 2), (2, 2)):  # one of the object that is missing, one of the background
        moved = mask.clone()
        moved[0, 0][place] += small
        gains.append((dice(moved) - dice(mask)) / small)
    found = dice_weights(mask, TARGET)
    assert found[0, 0, 0, 2].item() / found[0, 0, 2, 2].item() == pytest.approx(-gains[0] / gains[1], rel=1e-2)
    assert torch.equal(dice_weights(ALL, torch.zeros_like(TARGET)), ALL)


def test_attention_is_a_softmax_over_positions() -> None:
    """Eq. 1 with W by hand: M adds up to 1 over the image, and each pixel gets the weighted mean of all."""
    layer = SelfAttention(2)
    layer.weight.weight.data = torch.tensor([[0.5, 0.0], [1.0, -1.0]]).view(2, 2, 1, 1)
    layer.weight.bias.data.zero_()
    f = maps(3, 2)
    wf = torch.stack([0.5 * f[:, 0], f[:, 0] - f[:, 1]], dim=1)
    by_hand = torch.exp(wf + f) / torch.exp(wf + f).sum((2, 3), keepdim=True)
    assert torch.allclose(layer.attention_map(f), by_hand)
    assert torch.allclose(layer(f), f + (by_hand * f).sum((2, 3), keepdim=True))


class Table(nn.Module):
    """A network whose agents know nothing but their place."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.value = nn.Parameter(torch.zeros(1, 1, 2, 3, 3)), nn.Parameter(torch.zeros(1, 1, 3, 3))
        self.neighbourhood = Neighbourhood(3)

    def look(self, image: Tensor) -> Tensor:
        return image

    def first_mask(self, seen: Tensor, image: Tensor) -> Tensor:
        return torch.ones_like(image)

    def actor_and_critic(self, seen: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits.expand(len(mask), -1, -1, -1, -1), self.value.expand(len(mask), -1, -1, -1)


@pytest.mark.parametrize(("reversible", "every_action"), [(True, False), (False, False), (True, True)])
def test_agents_learn_a_bandit_whose_best_action_differs_by_pixel(reversible: bool, every_action: bool) -> None:
    settings = PixelSettings(t_max=3, reversible=reversible, gamma=0.5, reward_weights="none")
    network, generator = Table(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), 0.1)
    image, target = torch.zeros(8, 1, 3, 3), TARGET.expand(8, -1, -1, -1)
    valid = torch.ones_like(image)
    for _ in range(150):
        episode = pixel_episode(network, image, target, settings, generator)
        returns = episode_returns(episode.rewards, settings.gamma, network.neighbourhood)
        actor = actor_loss(returns, episode.values[:-1], episode.log_probs, valid)
        if every_action:
            gains = [gains_of(target, weights) for weights in episode.weights]
            actor = every_action_loss(episode.log_policies, gains, valid)
        loss = actor + critic_loss(returns, episode.values[:-1], valid)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    keeps = network.logits.softmax(2)[0, 0, KEEP_PIXEL]
    assert torch.equal((keeps > 0.9).float(), TARGET[0, 0])
    assert torch.equal((keeps < 0.1).float(), 1 - TARGET[0, 0])
    assert network.neighbourhood.kernel().detach()[1, 1] != pytest.approx(window_start())  # omega has moved


def window_start() -> float:
    return float(Neighbourhood(3).kernel().detach()[1, 1])


def test_targets_of_the_three_q_methods() -> None:
    """r = 1, gamma = 0.5; Q' = (3, 4) and Q = (2, 1): DQN takes Q's largest, Double DQN what Q chooses."""
    reward = torch.ones(1, 1, 1, 1)
    average = torch.tensor([3.0, 4.0]).view(1, 1, 2, 1, 1)
    network = torch.tensor([2.0, 1.0]).view(1, 1, 2, 1, 1)
    assert q_target(reward, average, 0.5).item() == 3.0  # 1 + 0.5 * 4
    assert q_target(reward, average, 0.5, network).item() == 2.5  # 1 + 0.5 * 3
    assert q_target(reward, None, 0.5).item() == 1.0  # the episode is over


def test_a_dueling_q_is_value_plus_centred_advantages() -> None:
    network = PixelQUNet(QNetworkSettings(heads="dueling"), NetworkConfig(levels=2), 1, 1)
    for head, told in ((network.action_head, [3.0, 1.0]), (network.value_head, [5.0])):
        assert head.out.bias is not None
        head.out.bias.data = torch.tensor(told)
    q = network.preferences(network.look(torch.rand(1, 1, 4, 4)), torch.ones(1, 1, 4, 4))
    assert q[0, 0, :, 0, 0].tolist() == pytest.approx([5 + 3 - 2, 5 + 1 - 2])
