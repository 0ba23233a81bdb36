"""Pseudo-label purification: an agent sets for each region of a pseudo-label how strongly it is learned from.

Source: "Reinforcement Learning-Guided Pseudo-Label Purification for Robust Unsupervised Domain Adaptation In Medical
Image Segmentation" (an abstract). From it: regions by anchor patches, their reliability by decomposition and
recomposition, an agent that modulates the strength of supervision, confident regions strong and ambiguous ones weak.
All else is ours: which contexts there are, what the agent sees and does, its reward and where it learns.

A round: the teacher predicts the target images; each is predicted again in several contexts (`recomposition`), whose
agreement is a region's reliability; some labelled images in another appearance are predicted in the same way, where
the truth is known; the agent learns on both (`region_agent`); its choices become the strengths that the next
steps learn with. The training stops where the reward has stopped rising.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from SVLDRLCore.adaptation.adapting import (
    AdaptingMethod,
    taught_with,
)
from SVLDRLCore.adaptation.appearance import fourier_swap, grey_levels, match_histogram, random_appearance
from SVLDRLCore.adaptation.compared import MatchedSettings
from SVLDRLCore.adaptation.recomposition import PREDICTIONS, of_same_size
from SVLDRLCore.adaptation.region_agent import (
    BY_CONSENSUS,
    STRENGTH_OF,
    STRENGTHS,
    RegionAgent,
    RegionTable,
    balanced,
    chosen_actions,
    mean_reward,
    rewards_of_actions,
    train_agent,
)
from SVLDRLCore.adaptation.regions import FEATURES
from SVLDRLCore.adaptation.views import Viewed, region_table, viewed
from SVLDRLCore.config.building import choice, number
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.inference.sliding_window import predict_probabilities
from SVLDRLCore.learning.method import MethodInput, Taught

SHOWN_CASES = 2
"""Images of which the report has maps."""
STYLES = 3
"""Labelled images whose grey values each image is shown with."""


@dataclass(frozen=True)
class PurificationSettings(MatchedSettings):
    """Settings of the method."""

    agent: Literal["reinforced", "threshold", "random"] = choice("reinforced")
    """Who sets the strengths: the agent, or one of two controls."""
    threshold: float = number(0.6, 0, 1)
    """Reliability from which the control `threshold` learns from a region, and with which the agent is compared."""
    simulated: int = number(8, 1, 1000, "cases")
    """Labelled images that are looked at in another appearance in each round."""
    most_images: int = number(50, 1, 10**6, "cases")
    """Images without labels that are looked at in each round; of more, others in each."""
    updates: int = number(300, 1, 10**6)
    """Updates of the agent in each round."""
    plausibility_weight: float = number(0.5, 0, 100)
    """Charge for what makes a region implausible (b in the reward)."""
    balance: bool = True
    """Whether each class is taught with the same mean strength."""
    least_gain: float = number(0.002, 0, 10)
    """Rise of the reward below which a round counts as none."""
    patience: int = number(2, 1, 1000, "rounds")
    """Rounds without a rise after which the training stops."""


class PseudoLabelPurification(AdaptingMethod):
    """Rounds of pseudo-labels, whose strengths an agent sets for each region."""

    own_settings = PurificationSettings

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.seed, self.patch = self.config.train.seed, self.config.data.patch_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 2)
            classes = 1 + (len(self.cases[0].masks) if self.cases else 1)
            self.agent = RegionAgent(len(FEATURES) + classes)
        self.history: list[dict[str, Any]] = []
        """What each round found, plain numbers."""
        self.pictures: list[dict[str, Any]] = []
        """Of each round and some images one slice: grey values, pseudo-label, reliability and strength."""
        self.finished = False

    def review(self, predicted: Iterable[tuple[TrainingCase, np.ndarray]]) -> None:
        """One round: look, let the agent learn, set the strengths."""
        rng = np.random.default_rng([self.seed, 11, self.rounds_done])
        targets, tables = self._look(predicted, rng)
        agent = self._trained_agent(tables, rng)
        actions = [self._actions(agent, table, rng) for table in tables]
        strength = self._strengths(tables[0], actions[0])
        taught, pictures = self._labels(targets, actions[0], strength)
        # All that a round changes is changed here, so that a cancel before leaves nothing half done.
        self.agent = agent
        self.taught = {**self.taught, **taught}
        self.history = [*self.history, self._row(tables, actions, strength)]
        self.pictures = [*self.pictures, *pictures]
        self.finished = self.settings.agent == "reinforced" and self._without_rise() >= self.settings.patience
        self.rounds_done += 1

    def _look(
        self, predicted: Iterable[tuple[TrainingCase, np.ndarray]], rng: np.random.Generator
    ) -> tuple[list[tuple[TrainingCase, Viewed]], list[RegionTable]]:
        """Target images in all contexts; their regions for the agent, and those of labelled images."""
        sources = rng.permutation(self.sources)[: self.settings.simulated].tolist()
        wanted = self._looked_at(rng)
        total = len(wanted) * (PREDICTIONS + STYLES) + len(sources) * (PREDICTIONS + STYLES + 1)
        done = 0

        def seen(case: TrainingCase, image: np.ndarray, maps: np.ndarray | None) -> Viewed:
            nonlocal done

            def predict(volume: np.ndarray) -> np.ndarray:
                nonlocal done
                self.report(done, total, "purifying pseudo-labels")
                done += 1
                return self._predict(volume)

            first = predict(image) if maps is None else maps
            around, styles = self._surroundings(case, rng), self._styles(case, rng)
            return viewed(image, first, predict, self.patch, around, styles, self.nested, self.config)

        targets = [(case, seen(case, case.image.numpy(), maps)) for case, maps in predicted if case.name in wanted]
        looks = [self._in_other_appearance(i, rng) for i in sources]
        simulated = [(self.cases[i], seen(self.cases[i], image, None)) for i, image in zip(sources, looks)]
        tables = [
            joined([region_table(each, None, self.nested) for _, each in targets]),
            joined([region_table(each, case.masks.numpy(), self.nested) for case, each in simulated]),
        ]
        return targets, tables

    def _trained_agent(self, tables: list[RegionTable], rng: np.random.Generator) -> RegionAgent:
        """The agent after this round's updates; the one before is left as it is."""
        settings = self.settings
        agent = RegionAgent(tables[0].features.shape[1])
        agent.load_state_dict(self.agent.state_dict())
        if settings.agent == "reinforced":
            train_agent(
                agent, tables, settings.updates, rng, settings.plausibility_weight,
                between=lambda done: self.report(done, settings.updates, "training the region agent"),
            )  # fmt: skip
        return agent

    def _strengths(self, table: RegionTable, actions: np.ndarray) -> np.ndarray:
        """The strengths of the actions, each class with the same mean."""
        chosen = STRENGTH_OF[actions]
        return balanced(chosen, table.size, table.code) if self.settings.balance else chosen

    def _labels(
        self, targets: list[tuple[TrainingCase, Viewed]], actions: np.ndarray, strengths: np.ndarray
    ) -> tuple[dict[int, Taught], list[dict[str, Any]]]:
        """What the images are learned from, by the index of each, and pictures of some; in the regions' order."""
        index_of = {self.cases[i].name: i for i in self.targets}
        ends = np.cumsum([len(each.regions.size) for _, each in targets])[:-1]
        taught: dict[int, Taught] = {}
        pictures: list[dict[str, Any]] = []
        for (case, each), chosen, strong in zip(targets, np.split(actions, ends), np.split(strengths, ends)):
            masks, strength = each.taught_by(chosen, strong)
            taught[index_of[case.name]] = taught_with(case, masks, strength)
            if len(pictures) < SHOWN_CASES:
                pictures.append(each.picture(case, masks, strength, self.rounds_done))
        return taught, pictures

    def _looked_at(self, rng: np.random.Generator) -> set[str]:
        """Names of the target images of a round."""
        most = self.settings.most_images
        few = self.targets if len(self.targets) <= most else rng.permutation(self.targets)[:most].tolist()
        return {self.cases[i].name for i in few}

    def _without_rise(self) -> int:
        return int(self.history[-1]["without_rise"]) if self.history else 0

    def _actions(self, agent: RegionAgent, table: RegionTable, rng: np.random.Generator) -> np.ndarray:
        if self.settings.agent == "random":
            return rng.integers(0, len(STRENGTHS), len(table))
        if self.settings.agent == "threshold":
            return self._plain(table)
        return chosen_actions(agent, table.features)

    def _plain(self, table: RegionTable) -> np.ndarray:
        """The plain threshold's actions: all or nothing."""
        reliable = table.features[:, FEATURES.index("reliability")] >= self.settings.threshold
        return np.where(reliable, len(STRENGTHS) - 1, 0)

    def _row(self, tables: list[RegionTable], actions: list[np.ndarray], taught: np.ndarray) -> dict[str, Any]:
        """Numbers of a round: the reward and its parts, and how the agent differs from the plain threshold."""
        settings, of_target = self.settings, actions[0]
        parts = {}
        for name, table, chosen in zip(("target", "source"), tables, actions):
            whole, bare = (
                mean_reward(table, chosen, rewards_of_actions(table, weight))
                for weight in (settings.plausibility_weight, 0.0)
            )
            parts[name] = {"reward": whole, "gain": bare, "plausibility": whole - bare}
        strength = STRENGTH_OF[of_target]
        weight = tables[0].size / tables[0].size.sum()
        foreground = tables[0].code > 0
        plain = STRENGTH_OF[self._plain(tables[0])]
        reward = 0.5 * (parts["target"]["reward"] + parts["source"]["reward"])
        best = max((each["reward"] for each in self.history), default=-np.inf)
        return {
            "round": self.rounds_done,
            "reward": reward,
            "consistency": parts["target"]["gain"],
            "truth_in_simulation": parts["source"]["gain"],
            "plausibility": 0.5 * (parts["target"]["plausibility"] + parts["source"]["plausibility"]),
            "reliability": float((tables[0].features[:, 0] * weight).sum()),
            "strength": float((strength * weight).sum()),
            "strength_of_structures": float(
                (strength * weight)[foreground].sum() / max(weight[foreground].sum(), 1e-9)
            ),
            "by_consensus": float((weight * BY_CONSENSUS[of_target] * (strength > 0)).sum()),
            "differs_from_threshold": float((weight * (np.abs(strength - plain) > 0.5)).sum()),
            "regions_differing": float((np.abs(strength - plain) > 0.5).mean()),
            "taught_strength": float((taught * weight).sum()),
            "without_rise": 0 if reward > best + settings.least_gain else self._without_rise() + 1,
        }

    def _predict(self, image: np.ndarray) -> np.ndarray:
        device = next(self.predictor.parameters()).device
        return predict_probabilities(
            self.predictor, image, self.patch, self.nested, 0.25, batch_size=8, device=device,
            name="the network in training",
        )  # fmt: skip

    def _surroundings(self, case: TrainingCase, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Another target image and a labelled one, to lie around a case's blocks."""
        found = {}
        for name, indices in (("in target", self.targets), ("in source", self.sources)):
            others = [i for i in indices if self.cases[i].name != case.name]
            if others:
                found[name] = self.cases[int(rng.choice(others))].image.numpy()
        return found

    def _styles(self, case: TrainingCase, rng: np.random.Generator) -> list[np.ndarray]:
        """Labelled images whose grey values a case is shown with; never itself, which would undo what was simulated."""
        others = [i for i in self.sources if self.cases[i].name != case.name]
        return [self.cases[i].image.numpy() for i in rng.permutation(others)[:STYLES].tolist()]

    def _in_other_appearance(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """A labelled image (M, D, H, W) as another scanner might show it, so that the agent meets wrong labels.

        Half of them with the grey values or the low frequencies of a target image, which the network has learned
        from and knows well; half at random, which it has never seen, as little as the target's labels.
        """
        image, other = self.cases[index].image, self.cases[int(rng.choice(self.targets))].image
        kind = rng.random()
        if kind < 0.5:
            drawn = torch.Generator().manual_seed(int(rng.integers(2**31)))
            return random_appearance(image[None], drawn)[0].numpy()
        if kind < 0.75:
            return match_histogram(image, grey_levels(image), grey_levels(other)).numpy()
        style = torch.from_numpy(np.ascontiguousarray(of_same_size(other.numpy(), image.shape[1:])))
        return fourier_swap(image[None], style[None], self.settings.fourier_share)[0].numpy()

    def state(self) -> dict[str, Any]:
        """Pseudo-labels, the agent, and what the rounds found."""
        own = {
            "agent": self.agent.state_dict(), "history": self.history, "pictures": self.pictures,
            "finished": self.finished,
        }  # fmt: skip
        return {**super().state(), **own}

    def findings(self) -> dict[str, Any]:
        """Rows and pictures of all rounds."""
        return {"rounds": self.history, "pictures": self.pictures}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        super().restore(state)
        self.agent.load_state_dict(state["agent"])
        self.history, self.pictures = list(state["history"]), list(state["pictures"])
        self.finished = bool(state["finished"])


def joined(tables: list[RegionTable]) -> RegionTable:
    """One table of all their regions, in order."""
    return RegionTable(
        features=np.concatenate([each.features for each in tables]),
        gain=np.concatenate([each.gain for each in tables]),
        implausible=np.concatenate([each.implausible for each in tables]),
        size=np.concatenate([each.size for each in tables]),
        code=np.concatenate([each.code for each in tables]),
        truth=tables[0].truth,
    )
