"""Agents on the refiner's belief: they begin as thresholds, learn what the image shows, pay their price."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from SVLDRLCore.config.settings import MaskAgentConfig
from SVLDRLCore.mask_refinement.episode import mask_episode
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT
from SVLDRLCore.universal_refiner.deciding import NOT_SHOWN, SHOWN, WRONG

STUDIES = Path(__file__).parents[2] / "studies"
sys.path.insert(0, str(STUDIES))
import refiner_agents  # noqa: E402
from refiner_agents import PricedAgents, acted, channels_of, learn, maps_of, price_rewards  # noqa: E402
from refiner_agents_report import gains_at, harm_and_gain  # noqa: E402
from refiner_scenes import Asked, Seen, asked_in_scene, load_asked, save_asked  # noqa: E402

SIZE = 16


def ball(radius: float) -> np.ndarray:
    at = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    return np.sqrt((at**2).sum(0)) < radius


def drawn_too_small(number: int) -> Asked:
    """A shell may be missing, the belief does not know (0.55), the image shows it: in even numbers it is missing."""
    mask, wide = ball(4), ball(6)
    goal, group = (wide, WRONG) if number % 2 == 0 else (mask, SHOWN)
    rng = np.random.default_rng(number)
    look = (np.where(goal, 1.0, -1.0) + 0.3 * rng.normal(size=mask.shape)).astype(np.float32)
    belief = np.where(mask, 1.0, np.where(wide, 0.55, 0.0)).astype(np.float32)
    seen = Seen(look, mask, np.stack([belief, belief]), (1.0, 1.0, 1.0), np.zeros(2))
    return Asked(seen, np.stack([goal, goal]), np.array([group, group]))


@pytest.mark.parametrize("own_opinion", [False, True])
@pytest.mark.parametrize("price", [1.0, 4.0, 16.0])
def test_agents_begin_as_the_threshold_of_their_price(price: float, own_opinion: bool) -> None:
    asked = drawn_too_small(0)
    belief = np.random.default_rng(0).random((SIZE,) * 3).astype(np.float32)
    near = abs(belief - price / (1 + price)) < 0.02
    near |= abs(1 - belief - price / (1 + price)) < 0.02
    seen = Seen(asked.seen.look, asked.seen.mask, np.stack([belief, belief]), (1.0, 1.0, 1.0), np.zeros(2))
    (made,), _ = acted(
        PricedAgents(own_opinion), channels_of(Asked(seen, asked.goals, asked.groups), EVEN_OUT), [price]
    )
    sure = price / (1 + price)
    by_threshold = np.where(seen.mask, belief >= 1 - sure, belief > sure)
    assert np.array_equal(made[~near], by_threshold[~near])


def test_agents_learn_to_do_what_the_image_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refiner_agents, "WINDOW", (SIZE,) * 3)
    files = [tmp_path / f"{number:03d}_00.npz" for number in range(8)]
    for number, file in enumerate(files):
        save_asked(file, drawn_too_small(number))
    network = learn(files, EVEN_OUT, False, 120, 0).eval()
    for number in (100, 101):
        asked = drawn_too_small(number)
        (made,), _ = acted(network, channels_of(asked, EVEN_OUT), [1.0])
        assert dice_of(made, asked.goals[EVEN_OUT]) > 0.97


def test_a_spoiled_good_voxel_costs_the_price() -> None:
    channels = torch.from_numpy(channels_of(drawn_too_small(1), EVEN_OUT))[None]
    paid = {}
    for price in (1.0, 4.0):
        maps, config = maps_of(channels, torch.tensor([price])), MaskAgentConfig()
        episode = mask_episode(
            PricedAgents(False), maps.image, maps.rough, maps.belief, maps.depths, maps.goal, config,
            torch.Generator().manual_seed(0),
        )  # fmt: skip
        episode.actions = [torch.ones_like(each) for each in episode.actions]  # all enhance: the shell is spoiled
        episode.rewards = [torch.zeros_like(each) for each in episode.rewards]
        price_rewards(episode, maps, config)
        paid[price] = (episode.rewards[0] * (1 + price) / 2)[0, 0][torch.from_numpy(ball(6) & ~ball(4))]
    assert torch.allclose(paid[1.0], torch.zeros(1))
    assert torch.allclose(paid[4.0], torch.full((1,), -3 / 9))  # a third too high: three ninths more than at price 1


def test_masks_of_a_scene_are_kept_as_they_are(tmp_path: Path) -> None:
    asked = next(asked_in_scene(1001, 3))
    save_asked(tmp_path / "003_00.npz", asked)
    kept = load_asked(tmp_path / "003_00.npz")
    assert np.array_equal(kept.seen.mask, asked.seen.mask)
    assert np.array_equal(kept.goals, asked.goals)
    assert np.array_equal(kept.groups, asked.groups)
    assert np.allclose(kept.seen.beliefs, asked.seen.beliefs, atol=1e-3)


def test_gains_are_compared_at_equal_harm() -> None:
    groups = np.array([WRONG, WRONG, SHOWN, NOT_SHOWN])
    careful, bold = np.array([1.0, 3.0, 0.0, -1.0]), np.array([5.0, 7.0, -1.0, -2.0])
    assert harm_and_gain(careful, groups) == (0.5, 2.0)
    assert harm_and_gain(bold, groups) == (1.5, 6.0)
    found = gains_at({"careful": careful, "bold": bold}, groups, [0.25, 0.5, 1.0, 9.0])
    assert np.allclose(found, [1.0, 2.0, 4.0, 6.0])
