"""PixelDRL-MG: the mask is made pixel by pixel by agents that learn by PA3C. Reads as Algorithm 1.

Source: Y. Liu, D. Yuan, Z. Xu, Y. Zhan, H. Zhang, J. Lu, T. Lukasiewicz, "Pixel level deep reinforcement learning for
accurate and robust medical image segmentation", Scientific Reports 15 (2025).

As published, in the variant `as_printed`: network, actions, reward, returns, gradients and schedule.
Adapted: the others, see `settings.FORMS` and docs/pixel_drl.md. "Asynchronous" is one worker here, as in PixelRL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from SVLDRLCore.config.settings import Config
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.method import MethodInput, StepResult
from SVLDRLCore.learning.method_words import MethodWords
from SVLDRLCore.learning.segmentation_method import SegmentationMethod
from SVLDRLCore.learning.stages import Plan, Stage
from SVLDRLCore.networks.pixel_episodes import folded
from SVLDRLCore.pixel_drl.episode import ActorCriticNetwork, PixelEpisode, pixel_episode
from SVLDRLCore.pixel_drl.equations import (
    actor_loss,
    critic_loss,
    episode_returns,
    every_action_loss,
    mean_of_valid,
    one_step_returns,
)
from SVLDRLCore.pixel_drl.settings import FORMS, PRINTED_SCHEDULE, ActorSettings, PixelSettings
from SVLDRLCore.svl_drl.returns import explained_variance

AGENTS_LEARN = "full_rl"
"""The stage in which they do."""
FORM_NAMES = {
    "as_printed": "as printed in the paper",
    "corrected": "the paper's method with what hinders it put right",
    "extended": "with the gain of both actions in place of the one drawn",
}
SURE_OF_ONE = 0.02
"""Dice at the end of an episode below which the agents have learned nothing but one action."""


def of_form(form: str, **more: Any) -> dict[str, Any]:
    """Settings that a form of PixelDRL-MG lays over the variant of its name."""
    off = SegmentationMethod.over_the_variant
    return {**off, "network": {"backbone": "pixel_actor_critic"}, "method_settings": FORMS[form], **more}


def one_stage(network: nn.Module, config: Config) -> Plan:
    """All parts of the network learn in all steps; labels are first judged after `reliability.first_review` of them."""
    steps = config.train.steps
    parts = tuple(name for name, _ in network.named_children())
    return Plan((Stage(AGENTS_LEARN, 0, steps, parts),), round(config.reliability.first_review * steps))


class PixelAgents(SegmentationMethod):
    """An actor and a critic in each pixel, that learn from the first step on."""

    own_settings: ClassVar[type | None] = PixelSettings
    backbones: ClassVar[tuple[str, ...]] = ("pixel_actor_critic",)

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        kind = cast("type[ActorSettings]", self.own_settings)
        self.settings: Any = given.settings(kind)
        self.actor_critic = cast("ActorCriticNetwork", given.network)

    def plan(self) -> Plan:
        """One stage of all steps; labels are first judged after `reliability.first_review` of them."""
        return one_stage(self.network, self.config)

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """An episode, and the loss whose gradients are those of eq. 13, 15 and 16."""
        settings = self.settings
        image, valid = folded(batch.image), folded(batch.valid)
        target = folded(batch.target) * valid
        episode = pixel_episode(self.actor_critic, image, target, settings, self.generator, valid)
        returns = self.returns_of(episode)
        critic = critic_loss(returns, episode.values[:-1], valid)
        if settings.every_action:
            gains = [gains_of(target, weights) for weights in episode.weights]
            actor = every_action_loss(episode.log_policies, gains, valid)
        else:
            actor = actor_loss(returns, episode.values[:-1], episode.log_probs, valid)
        entropy = torch.stack([mean_of_valid(each, valid) for each in episode.entropies]).sum()
        loss = actor + settings.value_weight * critic - settings.entropy_bonus * entropy
        logged = {"policy_loss": float(actor.detach()), "value_loss": float(critic.detach())}
        if settings.anchor_weight:
            anchor = anchor_loss(episode.log_policies, target, valid)
            loss = loss + settings.anchor_weight * anchor
            logged["anchor_loss"] = float(anchor.detach())
        return StepResult(loss, {**logged, **told_of(episode, returns, target, valid)})

    def returns_of(self, episode: PixelEpisode) -> list[Tensor]:
        """R of each step (eq. 8 or Algorithm 1)."""
        window = self.actor_critic.neighbourhood
        if self.settings.returns == "one_step":
            return one_step_returns(episode.rewards, episode.values[1:], self.settings.gamma, window)
        return episode_returns(episode.rewards, self.settings.gamma, window)

    def warnings(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Whether the agents ended with one action for all pixels."""
        dice = [row["episode_dice"] for row in rows if "episode_dice" in row]
        if not dice or dice[-1] >= SURE_OF_ONE:
            return []
        return [f"The agents learned one action for all pixels: Dice at the end of their episodes is {dice[-1]:.3f}."]


class PixelDRL(PixelAgents):
    """PixelDRL-MG, the variant `extended`."""

    over_the_variant: ClassVar[Mapping[str, Any]] = of_form("extended")

    @classmethod
    def card_words(cls, words: MethodWords, config: Config) -> MethodWords:
        """With the form."""
        return MethodWords(f"{words.title}, {FORM_NAMES[config.variant]}", words.handling, words.reference)


class PixelDRLCorrected(PixelDRL):
    """The variant `corrected`."""

    over_the_variant: ClassVar[Mapping[str, Any]] = of_form("corrected")


class PixelDRLAsPrinted(PixelDRL):
    """The variant `as_printed`, with its schedule."""

    over_the_variant: ClassVar[Mapping[str, Any]] = of_form("as_printed", **PRINTED_SCHEDULE)


def gains_of(target: Tensor, weights: Tensor) -> Tensor:
    """What setting to zero and keeping earn at each pixel (eq. 12) but for what both share, (B, C, 2, H, W)."""
    return -torch.stack([weights * target.square(), weights * (1 - target).square()], dim=2)


def anchor_loss(log_policies: Sequence[Tensor], target: Tensor, valid: Tensor) -> Tensor:
    """Sum over the steps of the cross entropy of "keep" against the label (ours)."""
    labels = torch.stack([1 - target, target], dim=2)
    return torch.stack([mean_of_valid(-(labels * log_p).sum(2), valid) for log_p in log_policies]).sum()


@torch.no_grad()
def told_of(episode: PixelEpisode, returns: Sequence[Tensor], target: Tensor, valid: Tensor) -> dict[str, float]:
    """What shows whether the agents learn: entropy, reward, explained variance of V, Dice at the end."""
    rewards, last = torch.stack(episode.rewards), (episode.masks[-1] > 0.5).to(target.dtype) * valid
    return {
        "pixel_entropy": float(torch.stack(episode.entropies).mean()),
        "reward_mean": float(rewards.mean()),
        "reward_sd": float(rewards.std(unbiased=False)),
        "explained_variance": explained_variance(torch.stack(episode.values[:-1]), torch.stack(list(returns))),
        "episode_dice": float(2 * (last * target).sum() / (last + target).sum().clamp_min(1.0)),
    }
