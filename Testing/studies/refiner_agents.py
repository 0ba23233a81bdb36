"""Do agents decide better than fixed thresholds and the gate what is done with the universal refiner's belief?

    python Testing/studies/refiner_agents.py SCENES even_out agents.pt [--own-opinion] [--steps 600] [--seed 0]

SCENES is a folder that `refiner_scenes.py` made. The mask's agents (`mask_refinement`) begin as the fixed threshold
that their price stands for, and learn by A2C what to change about it. `refiner_agents_report.py` compares.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from refiner_scenes import Asked, load_asked
from torch import Tensor

from SVLDRLCore.config.settings import MaskAgentConfig, NetworkConfig
from SVLDRLCore.learning.class_probabilities import mean_where
from SVLDRLCore.learning.segmentation_loss import segmentation_loss
from SVLDRLCore.mask_refinement.episode import edit_mask, mask_episode
from SVLDRLCore.mask_refinement.method import POLICY_WEIGHT
from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.networks.cpu_convolutions import channels_last
from SVLDRLCore.networks.mask_agent_network import MaskAgentNetwork, TrunkOutput
from SVLDRLCore.svl_drl.actions import act_on_mask
from SVLDRLCore.svl_drl.episode import Episode
from SVLDRLCore.svl_drl.losses import policy_loss, value_loss
from SVLDRLCore.svl_drl.method import mean_over_steps
from SVLDRLCore.svl_drl.returns import advantage, discounted_returns
from SVLDRLCore.svl_drl.rewards import error_fall
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, SNAP
from SVLDRLCore.universal_refiner.deciding import NOT_SHOWN, SHOWN, WRONG

MODES = {"snap": SNAP, "even_out": EVEN_OUT}
UNSURE = 0.05
"""Agents act where the belief is at least this far from the mask."""
HIGHEST_PRICE = 16.0
"""Of spoiling a good voxel, beside 1 for mending a wrong one; each episode draws one from 1 on."""
ROOT_UNIT = 0.1
WINDOW = (32, 40, 40)
MULTIPLE = 8
CRITIC_FIRST = 0.15
"""Share of the steps in which the policy stays the rule that it begins with."""


def towards_mask(told: Tensor, rough: Tensor) -> Tensor:
    """By how much a price, as agents are told it, moves the log odds of the structure."""
    return math.log(HIGHEST_PRICE) * told * (2 * rough - 1)


class PricedAgents(MaskAgentNetwork):
    """Mask agents whose opinion is the refiner's belief, moved towards the mask by the price.

    Image channels: the look, what the gate expects, the price. The policy begins as "change what is believed otherwise
    with a probability of price / (1 + price)", which is what would earn the most if the belief were right.

    Args:
        own_opinion: the trunk learns an opinion of its own, which begins as the belief, as `mask_refinement` does it;
            else the opinion stays the belief, and the trunk learns by the policy gradient.
    """

    def __init__(self, own_opinion: bool) -> None:
        super().__init__(NetworkConfig(), 3, MaskAgentConfig().step_size, 1)
        self.own_opinion = own_opinion

    def read(self, image: Tensor, rough: Tensor, prediction: Tensor, alignment: Tensor) -> TrunkOutput:
        features, opinion = self._features_and_opinion(image, rough, prediction, alignment)
        features = features.detach() if self.own_opinion else features
        told = self.agent_features(channels_last(features)).contiguous()
        return TrunkOutput(told, opinion + towards_mask(image[:, 2:], rough))

    def _features_and_opinion(
        self, image: Tensor, rough: Tensor, prediction: Tensor, alignment: Tensor
    ) -> tuple[Tensor, Tensor]:
        features = self._trunk(torch.cat([image, rough - 0.5, prediction - 0.5, alignment], dim=1))
        opinion = torch.logit(prediction, 1e-4)
        return features, opinion + self.opinion_head(features)[:, :1] if self.own_opinion else opinion


@dataclass(frozen=True)
class Maps:
    """What agents are given, (B, channels, D, H, W): `image` (3), mask, belief, depths (2), where to act, goal."""

    image: Tensor
    rough: Tensor
    belief: Tensor
    depths: Tensor
    unsure: Tensor
    goal: Tensor

    @property
    def prices(self) -> Tensor:
        return HIGHEST_PRICE ** self.image[:, 2:]


def channels_of(asked: Asked, mode: int) -> np.ndarray:
    """All that `Maps` stacks but for the price (8, D, H, W), float32."""
    seen = asked.seen
    belief, goal = seen.beliefs[mode], asked.goals[mode]
    root = np.full(belief.shape, np.clip(seen.roots[mode] / ROOT_UNIT, -3, 3))
    drawn, believed = (np.clip(signed_distance(each, seen.spacing) / 6, -1, 1) for each in (seen.mask, belief > 0.5))
    unsure = np.abs(belief - seen.mask) >= UNSURE
    return np.stack([seen.look, root, seen.mask, belief, drawn, believed, unsure, goal]).astype(np.float32)


def maps_of(channels: Tensor, price: Tensor) -> Maps:
    """From (B, 8, D, H, W) and prices (B,)."""
    told = (price.log() / math.log(HIGHEST_PRICE)).view(-1, 1, 1, 1, 1).expand(-1, 1, *channels.shape[2:])
    parts = [channels[:, i : i + 1] for i in (2, 3, 6, 7)]
    return Maps(torch.cat([channels[:, :2], told], 1), parts[0], parts[1], channels[:, 4:6], parts[2], parts[3])


@torch.no_grad()
def acted(network: PricedAgents, channels: np.ndarray, prices: Sequence[float]) -> tuple[list[np.ndarray], np.ndarray]:
    """The mask (D, H, W) after the agents have acted, at each price, and their opinion where they may act."""
    inner = tuple(slice(0, n) for n in channels.shape[1:])
    padded = np.pad(channels, [(0, 0), *((0, -n % MULTIPLE) for n in channels.shape[1:])], mode="edge")
    made = []
    for price in prices:
        maps = maps_of(torch.from_numpy(padded)[None], torch.tensor([price]))
        edited = edit_mask(network, maps.image, maps.rough, maps.belief, maps.depths, MaskAgentConfig(), [0.5])
        made.append(torch.where(maps.unsure > 0, edited, maps.rough)[0, 0].numpy()[inner] > 0.5)
    opinion = maps.belief
    if network.own_opinion:
        opinion = network.opinion(maps.image, maps.rough, maps.belief, maps.depths).sigmoid()
    return made, torch.where(maps.unsure > 0, opinion, maps.rough)[0, 0].numpy()[inner]


def price_rewards(episode: Episode, maps: Maps, config: MaskAgentConfig) -> None:
    """What a good voxel's error costs is multiplied by the price; the rewards are then of one size at any price."""
    belief, prices = maps.rough, maps.prices
    weight = torch.where(maps.rough == maps.goal, prices, 1.0)
    for step, actions in enumerate(episode.actions):
        after = act_on_mask(belief, actions, config.step_size)
        paid = episode.rewards[step] + (weight - 1) * error_fall(belief, after, maps.goal)
        episode.rewards[step], belief = 2 * paid / (1 + prices), after
    episode.returns = discounted_returns(episode.rewards, config.gamma)


def loss_of(
    network: PricedAgents, maps: Maps, policy_learns: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Loss, and mean reward of an episode, both where the opinion is unsure."""
    config = MaskAgentConfig()
    episode = mask_episode(
        network, maps.image, maps.rough, maps.belief, maps.depths, maps.goal, config, generator
    )  # fmt: skip
    price_rewards(episode, maps, config)
    values = zip(episode.returns, episode.values)
    loss = mean_over_steps([mean_where(value_loss(r, v), maps.unsure) for r, v in values])
    if network.own_opinion:
        opinion = episode.first_logits - towards_mask(maps.image[:, 2:], maps.rough)
        loss = loss + segmentation_loss(opinion, maps.goal, 0.5, True, maps.unsure).mean()
    if policy_learns:
        steps = zip(episode.log_probs, episode.returns, episode.values, episode.entropies)
        loss = loss + POLICY_WEIGHT * mean_over_steps([
            mean_where(policy_loss(log_prob, advantage(r, v)), maps.unsure)
            - config.entropy_bonus * mean_where(entropy, maps.unsure)
            for log_prob, r, v, entropy in steps
        ])  # fmt: skip
    return loss, mean_where(episode.returns[0], maps.unsure)


def window_of(channels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window (8, *WINDOW) about a voxel where agents act, mirrored at random; padded with edges."""
    at = np.argwhere(channels[6] > 0)
    centre = at[rng.integers(len(at))] if len(at) else np.array(channels.shape[1:]) // 2
    starts = [int(np.clip(c - w // 2, 0, max(0, n - w))) for c, w, n in zip(centre, WINDOW, channels.shape[1:])]
    cut = channels[:, *(slice(s, s + w) for s, w in zip(starts, WINDOW))]
    cut = np.pad(cut, [(0, 0), *((0, w - n) for w, n in zip(WINDOW, cut.shape[1:]))], mode="edge")
    return np.flip(cut, [axis for axis in (1, 2, 3) if rng.random() < 0.5])


def learn(files: Sequence[Path], mode: int, own: bool, steps: int, seed: int, batch: int = 2) -> PricedAgents:
    """Agents of one mode: half of the masks are wrong, a quarter perfect and shown, a quarter perfect and not shown."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network, groups = PricedAgents(own), np.array([np.load(file)["groups"][mode] for file in files])
    pools = [np.flatnonzero(groups == g) for g in (WRONG, WRONG, SHOWN, NOT_SHOWN) if (groups == g).any()]
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-4)
    earned, began = [], time.process_time()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20) * (0.05 + 0.95 * (1 - step / steps))
        chosen = [int(rng.choice(pools[int(rng.integers(len(pools)))])) for _ in range(batch)]
        cut = np.stack([window_of(channels_of(load_asked(files[i]), mode), rng) for i in chosen])
        price = torch.from_numpy(HIGHEST_PRICE ** rng.random(batch)).float()
        loss, paid = loss_of(network, maps_of(torch.from_numpy(cut), price), step >= CRITIC_FIRST * steps, generator)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        earned.append(float(paid.detach()))
        if step % 50 == 49:
            print(step + 1, f"reward {np.mean(earned[-50:]):+.4f}, {time.process_time() - began:.0f} CPU s", flush=True)
    return network


def load_agents(file: Path) -> PricedAgents:
    kept = torch.load(file, weights_only=True)
    network = PricedAgents(kept["own_opinion"])
    network.load_state_dict(kept["weights"])
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("agents", type=Path)
    parser.add_argument("--own-opinion", action="store_true")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    files, own = sorted(options.scenes.glob("*.npz")), options.own_opinion
    network = learn(files, MODES[options.mode], own, options.steps, options.seed)
    torch.save({"own_opinion": own, "weights": network.state_dict()}, options.agents)


if __name__ == "__main__":
    main()
