"""Q-learning in each pixel: what an action will earn is predicted, and the best one is taken.

Sources: V. Mnih et al., "Human-level control through deep reinforcement learning", Nature 518 (2015); H. van Hasselt,
A. Guez, D. Silver, "Deep reinforcement learning with double Q-learning", AAAI 2016; Z. Wang et al., "Dueling network
architectures for deep reinforcement learning", ICML 2016.

As published: targets, epsilon-greedy actions, squared error, a second network for the targets.
Adapted: one agent a pixel on a U-Net, in PixelDRL-MG's environment. Errors are not clipped at 1: a clipped error learns
the median, and the median pixel near a small object is background. The second network is the moving average of the
first. The whole episode is learned from at once, since it holds tens of thousands of agents; nothing is kept from
image to image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.method import MethodInput, StepResult
from SVLDRLCore.learning.segmentation_method import SegmentationMethod
from SVLDRLCore.learning.stages import Plan
from SVLDRLCore.networks.pixel_episodes import after_actions, best_actions, folded
from SVLDRLCore.networks.pixel_q_unet import PixelQUNet
from SVLDRLCore.pixel_drl.episode import pixel_reward, weights_of
from SVLDRLCore.pixel_drl.equations import mean_of_valid
from SVLDRLCore.pixel_drl.method import one_stage
from SVLDRLCore.pixel_drl.settings import DeepQSettings


def q_target(reward: Tensor, of_average: Tensor | None, gamma: float, of_network: Tensor | None = None) -> Tensor:
    """y = r + gamma max_a Q'(s', a) (Mnih 2015); with `of_network` y = r + gamma Q'(s', argmax_a Q(s', a)).

    Args:
        reward: (B, C, H, W).
        of_average: Q' of the next state, (B, C, A, H, W); None: the episode is over.
        of_network: Q of the next state, where it chooses (van Hasselt 2016).
    """
    if of_average is None:
        return reward
    if of_network is None:
        return reward + gamma * of_average.amax(2)
    chosen = best_actions(of_network).unsqueeze(2)
    return reward + gamma * of_average.gather(2, chosen).squeeze(2)


def with_random_share(actions: Tensor, count: int, epsilon: float, generator: torch.Generator) -> Tensor:
    """The actions (B, C, H, W), a share `epsilon` of them drawn anew from `count` ones."""
    draws = torch.rand((2, *actions.shape), generator=generator).to(actions.device)
    return torch.where(draws[0] < epsilon, (draws[1] * count).long().clamp_max(count - 1), actions)


def of_heads(heads: str, **more: Any) -> dict[str, Any]:
    """Settings that a method of this file lays over the variant."""
    own = {"heads": heads, "gamma": 0.5, **more}
    return {**SegmentationMethod.over_the_variant, "network": {"backbone": "pixel_q_unet"}, "method_settings": own}


class DQN(SegmentationMethod):
    """Deep Q-learning."""

    over_the_variant: ClassVar[Mapping[str, Any]] = of_heads("q")
    own_settings: ClassVar[type | None] = DeepQSettings
    backbones: ClassVar[tuple[str, ...]] = ("pixel_q_unet",)

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.settings = given.settings(DeepQSettings)
        self.q_network = cast(PixelQUNet, given.network)

    def plan(self) -> Plan:
        """One stage of all steps; labels are first judged after `reliability.first_review` of them."""
        return one_stage(self.network, self.config)

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """An episode, and half of the squared error of Q against its targets, summed over the steps."""
        settings, network = self.settings, self.q_network
        average = cast(PixelQUNet, self.predictor)
        image, valid = folded(batch.image), folded(batch.valid)
        target = folded(batch.target) * valid
        share = min(1.0, progress / max(settings.epsilon_share, 1e-6))
        epsilon = settings.epsilon_start + (settings.epsilon_end - settings.epsilon_start) * share
        seen = network.look(image)
        with torch.no_grad():
            seen_by_average = average.look(image)
        mask = network.first_mask(seen, image)
        q = network.preferences(seen, mask)
        losses: list[Tensor] = []
        earned: list[Tensor] = []
        for step in range(settings.t_max):
            actions = with_random_share(best_actions(q.detach()), q.shape[2], epsilon, self.generator)
            following = after_actions(mask, actions, settings)
            weights = weights_of(mask, target, settings.reward_weights, valid)
            earned.append(pixel_reward(mask, following, target, weights))
            taken = q.gather(2, actions.unsqueeze(2)).squeeze(2)
            over = step == settings.t_max - 1
            q = q if over else network.preferences(seen, following)
            with torch.no_grad():
                later = None if over else average.preferences(seen_by_average, following)
                wanted = q_target(earned[-1], later, settings.gamma, q.detach() if settings.double else None)
            losses.append(mean_of_valid(0.5 * (taken - wanted).square(), valid))
            mask = following
        loss = torch.stack(losses).sum()
        dice = 2 * (mask * target).sum() / (mask * valid + target).sum().clamp_min(1.0)
        return StepResult(
            loss,
            {
                "q_loss": float(loss.detach()),
                "epsilon": epsilon,
                "reward_mean": float(torch.stack(earned).mean()),
                "episode_dice": float(dice),
            },
        )


class DoubleDQN(DQN):
    """The network chooses the next action, its average tells what that is worth."""

    over_the_variant: ClassVar[Mapping[str, Any]] = of_heads("q", double=True)


class DuelingDQN(DQN):
    """Q = V + A - mean A."""

    over_the_variant: ClassVar[Mapping[str, Any]] = of_heads("dueling")
