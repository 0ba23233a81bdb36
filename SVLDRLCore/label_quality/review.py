"""At stage borders every training case is predicted and compared with its own label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from SVLDRLCore.atomic_files import write_json_atomically
from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.config.settings import Config
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import CaseOrder
from SVLDRLCore.events import EventLog
from SVLDRLCore.inference.case_predictions import predict_cases
from SVLDRLCore.label_quality.agent_features import label_voxels
from SVLDRLCore.label_quality.asking_for_trust import with_cases_to_look_at
from SVLDRLCore.label_quality.border_correction import moved_masks, quality_of_moved, shifts_onto_edge
from SVLDRLCore.label_quality.features import (
    EdgeOffsets,
    LabelFeatures,
    PerStructure,
    edge_offsets,
    label_edges,
    label_features,
    label_sharpness,
)
from SVLDRLCore.label_quality.fragments import movable
from SVLDRLCore.label_quality.judging import Judging, SignsOfCase, signs_of_case
from SVLDRLCore.label_quality.kept_versions import KeptVersions
from SVLDRLCore.label_quality.label_agents import (
    also_by_label_agents,
    enough_trusted,
    label_agent_weights,
    policy_features,
)
from SVLDRLCore.label_quality.missing_structures import enough_of_each, filled_in
from SVLDRLCore.label_quality.signs import before_a_look, spoiled_of_each
from SVLDRLCore.label_quality.thresholds import (
    ALL_UPDATES,
    ENOUGH_BELIEVED,
    FEWEST_TO_CONFIRM,
    FEWEST_TO_LEARN,
    LOW_WEIGHT,
    MOVED_WORTH,
)
from SVLDRLCore.label_quality.weights import (
    LabelQuality,
    judge_unseen,
    reliability_rows,
)
from SVLDRLCore.masks.borders import FAR_APART_MM, voxel_mm
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.known_voxels import where_known

MOST_MASK_CASES = 200
"""Cases that the mask's agents learn from at most: their predictions are kept in memory."""


class LabelReview:
    """Sets how often each case is trained on (`reliability.enabled`) and remembers the models it looked with.

    Args:
        cases: training cases with their given labels; no other label is ever seen.
        order: takes the weights: how often each case has its turn.
        relabel: takes the masks that a case is learned from in place of its own.
        folder: `reliability.json` is written there (None: nowhere).
        structures: their names, for the reasons in the rows.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        order: CaseOrder,
        config: Config,
        nested: bool,
        device: torch.device,
        events: EventLog,
        folder: Path | None = None,
        between: Callable[[], None] = lambda: None,
        relabel: Callable[[int, torch.Tensor], None] = lambda index, masks: None,
        structures: Sequence[str] = (),
    ) -> None:
        if config.data.slices_apart:
            cases = [replace(case, spacing_dhw=(FAR_APART_MM, *case.spacing_dhw[1:])) for case in cases]
        self.cases, self.order, self.config, self.nested = cases, order, config, nested
        self.device, self.events, self.folder, self.between = device, events, folder, between
        self.rows: list[dict[str, Any]] = []
        self.rule = ""
        self.weights = [1.0] * len(cases)
        self.inverted = False
        self.warnings: list[str] = []
        self.snapshots: list[dict[str, torch.Tensor]] = []
        self.predictions: list[list[np.ndarray]] = []
        """What each snapshot's network predicted, a float16 map a case, where agents of the mask want it; not kept in
        checkpoints."""
        self._maps: list[np.ndarray] = []
        self.relabel, self.structures = relabel, structures
        self.moved: dict[int, list[float]] = {}
        self.moved_quality = 0.0
        self._seen: list[tuple[PerStructure, PerStructure]] = []
        self._versions = KeptVersions()

    def __call__(self, network: nn.Module) -> None:
        """Predict, compare, weigh; pure reading of the network, so that training goes on as if nothing was."""
        if self.config.reliability.enabled:
            self._weigh(network)
        # Last: a review that is cancelled half way begins anew on resuming, and must not count twice.
        self.snapshots.append({k: v.detach().cpu().clone() for k, v in network.state_dict().items()})
        self.predictions.append(self._maps)
        self._maps = []

    def review_early(self, network: nn.Module) -> None:
        """Weigh, and do not remember the network: it has hardly learned anything."""
        self._weigh(network)

    def before_training(self) -> None:
        """Weigh the labels by what needs no network."""
        config = self.config.reliability
        if not (config.enabled and (config.edge or config.sharpness or self._some_lack_something())):
            return
        features = [
            label_features(None, case.masks.numpy(), case.spacing_dhw, *seen, ignored=case.ignored)
            for case, seen in zip(self.cases, self._seen_in_images())
        ]
        quality = judge_unseen(features, self._trusted, self._spacing_mm, config)
        if self._signs_decide and sum(weight >= LOW_WEIGHT for weight in quality.weights) >= ENOUGH_BELIEVED:
            quality = before_a_look(quality)
        self._take(features, quality)
        if config.edge and config.move_borders:
            self._move_borders(features, edge_offsets(features, self._spacing_mm, config))

    @cached_property
    def _volumes(self) -> np.ndarray:
        """Of each label's structures, mm3, (cases, structures); the given labels never change."""
        return np.array([case.masks.flatten(1).sum(1).numpy() * np.prod(case.spacing_dhw) for case in self.cases])

    @property
    def _showing(self) -> list[int]:
        """How many labels show each structure."""
        return np.count_nonzero(self._volumes, axis=0).tolist()

    def _some_lack_something(self) -> bool:
        has = self._volumes > 0
        whole = np.array([case.ignored is None for case in self.cases])[:, None]
        return bool((has.any(axis=0) & ~has & whole).any())

    @property
    def near_labels(self) -> bool:
        """Whether cases are predicted near their labels alone: what a label forgot is judged by all of the others."""
        return not self._some_lack_something()

    @property
    def _signs_decide(self) -> bool:
        """Whether there are labels enough to learn what is usual, and too few trusted ones to tell it."""
        enough = max(self._showing) >= FEWEST_TO_LEARN and sum(self._trusted) < FEWEST_TO_CONFIRM
        return self.config.reliability.signs and enough

    def _seen_in_images(self) -> list[tuple[PerStructure, PerStructure]]:
        """`label_edges` and `label_sharpness` of each case, measured once: neither labels nor images change."""
        config = self.config.reliability
        if not (config.edge or config.sharpness):
            return [((), ())] * len(self.cases)
        if not self._seen:
            found = []
            for done, case in enumerate(self.cases, start=1):
                self.between()
                given = case.masks.numpy(), case.image.numpy(), case.spacing_dhw, case.ignored
                edges = label_edges(*given) if config.edge else ()
                found.append((edges, label_sharpness(*given) if config.sharpness else ()))
                self.events.progress(done, len(self.cases), "reviewing labels")
            self._seen = found
        return self._seen

    def _move_borders(self, features: Sequence[LabelFeatures], edges: EdgeOffsets) -> None:
        """Learn from the doubted labels with their borders on the edge."""
        can_be, shown = movable(features, edges), self._shown
        doubted = [i for i, weight in enumerate(self.weights) if weight < LOW_WEIGHT and can_be[i] and shown[i]]
        believed = [i for i, weight in enumerate(self.weights) if weight >= LOW_WEIGHT and shown[i]]
        if not doubted or not 0 < len(believed) < ENOUGH_BELIEVED:
            return
        shifts = shifts_onto_edge(edges, doubted)
        self.moved_quality = quality_of_moved(self.cases, edges, believed, shifts)
        self._learn_moved({i: row for i, row in zip(doubted, shifts.tolist()) if any(row)})
        text = f"{len(self.moved)} borders are moved onto the edge (expected Dice {self.moved_quality:.2f})"
        self.events.emit("message", text=text)

    def _learn_moved(self, moved: dict[int, list[float]]) -> None:
        for index in self.moved.keys() - moved.keys():
            self.relabel(index, self.cases[index].masks)
        self.moved = moved
        for index, shifts in moved.items():
            self.relabel(index, moved_masks(self.cases[index], shifts))
        turns = [1.0 if i in moved else weight for i, weight in enumerate(self.weights)]
        self.order.weigh(turns, self.config.reliability.floor)

    @property
    def _shown(self) -> list[bool]:
        """Whether each label shows something, and lacks nothing that it is doubted for: no border makes up for that."""
        return [bool(c.masks.any()) and row["absence"] >= LOW_WEIGHT for c, row in zip(self.cases, self.rows)]

    @property
    def _trusted(self) -> list[bool]:
        return [case.trusted for case in self.cases]

    @property
    def _spacing_mm(self) -> float:
        return float(np.median([voxel_mm(case.spacing_dhw) for case in self.cases]))

    def _weigh(self, network: nn.Module) -> None:
        features: list[LabelFeatures] = []
        drawn = []
        signs: list[SignsOfCase] = []
        decide, spoiled = self._signs_decide, [spoiled_of_each(labels) for labels in self._showing]
        self._maps = []
        keeps = self.config.mask_agents.enabled and len(self.cases) <= MOST_MASK_CASES
        enough = enough_of_each(self._volumes) if self._some_lack_something() else ()
        predicted = predict_cases(
            network, self.cases, self.config, self.nested, self.device, self.between, self.events.warn,
            near_labels=self.near_labels,
        )  # fmt: skip
        for done, ((case, probabilities), seen) in enumerate(zip(predicted, self._seen_in_images()), start=1):
            given = case.masks.numpy()
            found = label_features(probabilities, given, case.spacing_dhw, *seen, case.ignored, self.nested, enough)
            features.append(found)
            if decide:
                signs.append(signs_of_case(case, probabilities, spoiled, self._versions))
            pair = (where_known(maps, case.ignored) for maps in (probabilities > 0.5, given > 0))
            drawn.append(_dice_of_shown(*pair))
            if keeps:
                self._maps.append(probabilities.astype(np.float16))
            self.events.progress(done, len(self.cases), "reviewing labels")
        judging = Judging(self._trusted, self._spacing_mm, self.config.reliability)
        quality = judging.judged(features, signs, self.weights if self.inverted else None)
        asks = self.config.reliability.label_agents != "none" and backbone_of(self.config.network).in_parts
        if asks and enough_trusted(self._trusted):
            quality = self._asked_agents(network, features, quality)
        self._take(features, quality)
        if self.moved:
            own = float(np.mean([d for d, w in zip(drawn, self.weights) if w >= LOW_WEIGHT and d is not None] or [1.0]))
            worth = not self.inverted and self.moved_quality > own + MOVED_WORTH
            self._learn_moved({i: s for i, s in self.moved.items() if worth and self.weights[i] < LOW_WEIGHT})
            told = f"Dice {self.moved_quality:.2f}, the network {own:.2f}"
            text = f"Moved labels ({told}): {len(self.moved)} learned from"
            self.events.emit("message", text=text)

    def _asked_agents(
        self, network: nn.Module, features: Sequence[LabelFeatures], quality: LabelQuality
    ) -> LabelQuality:
        """A quality that believes no label more than its agent does.

        A label that shows nothing has no agent, nor has one that is doubted for what it lacks.
        """
        missing = quality.missing
        credible = [missing is None or missing.weight[i] >= LOW_WEIGHT for i in range(len(self.cases))]
        asked = [i for i, case in enumerate(self.cases) if credible[i] and case.masks.any()]
        trusted = [self.cases[i].trusted for i in asked]
        if not enough_trusted(trusted):
            return quality
        config, done = self.config, count(1)
        learned = config.reliability.label_agents == "reinforced"
        total = len(asked) + ALL_UPDATES * learned

        def between() -> None:
            self.between()
            self.events.progress(next(done), total, "asking label agents")

        cases = [self.cases[i] for i in asked]
        voxels = label_voxels(network, cases, config.data, self.nested, self.device, between)
        seen, believed = policy_features(filled_in(features), quality)[asked], np.ones(len(self.cases))
        believed[asked] = label_agent_weights(seen, voxels, np.asarray(trusted, bool), learned, between)
        return also_by_label_agents(quality, believed)

    def _take(self, features: Sequence[LabelFeatures], quality: LabelQuality) -> None:
        self.weights, self.inverted = list(quality.weights), quality.inverted
        self.order.weigh(self.weights, self.config.reliability.floor)
        names = [c.name for c in self.cases]
        self.rows = reliability_rows(names, features, quality, self._trusted, self.structures)
        self.rule = quality.rule
        drawn = [(name, each) for name, each, case in zip(names, features, self.cases) if case.masks.any()]
        told = with_cases_to_look_at(quality.warnings, [name for name, _ in drawn], [each for _, each in drawn])
        self.warnings += told
        mean = float(np.mean(quality.weights))
        self.events.emit("message", text=f"Label review ({quality.rule}): mean weight {mean:.2f}", mean_weight=mean)
        for warning in told:
            self.events.emit("warning", text=warning)
        if self.folder is not None:
            content = {"rule": self.rule, "warnings": self.warnings, "cases": self.rows}
            write_json_atomically(self.folder / "reliability.json", content)

    def state(self) -> dict[str, Any]:
        """Weights, rows and snapshots for the checkpoint."""
        return {
            "weights": self.weights,
            "inverted": self.inverted,
            "rows": self.rows,
            "rule": self.rule,
            "warnings": self.warnings,
            "snapshots": self.snapshots,
            "moved": self.moved,
            "moved_quality": self.moved_quality,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where `state()` was taken."""
        self.weights, self.inverted = list(state["weights"]), state["inverted"]
        self.rows, self.rule = list(state["rows"]), state["rule"]
        self.warnings, self.snapshots = list(state["warnings"]), list(state["snapshots"])
        self.predictions = [[] for _ in self.snapshots]
        self.moved_quality = state.get("moved_quality", 0.0)
        self._learn_moved(dict(state.get("moved", {})))


def _dice_of_shown(drawn: np.ndarray, masks: np.ndarray) -> float | None:
    """Mean Dice of what a network draws with the structures that a label (C, D, H, W) has; None where it has none."""
    dice = [dice_of(d, m) for d, m in zip(drawn, masks) if m.any()]
    return float(np.mean(dice)) if dice else None
