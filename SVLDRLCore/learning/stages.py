"""The three stages as data: what learns, and until when (SVL-DRL section 3.2, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from torch import nn

from SVLDRLCore.config.settings import StageConfig
from SVLDRLCore.config.stage_steps import shared_steps

TRAINED_PARTS = {
    "warm_up": ("encoder", "segmentation_decoder"),
    "transition": ("encoder", "segmentation_decoder", "value_decoder"),
    "full_rl": ("encoder", "segmentation_decoder", "value_decoder", "policy_decoder"),
}
"""Parts of the network that each stage moves; the rest stands still to the bit."""


@dataclass(frozen=True)
class Stage:
    """Steps first <= step < last; only the parts of the network in `trains` learn."""

    name: str
    first: int
    last: int
    trains: tuple[str, ...]

    def progress(self, step: int) -> float:
        """Share of the stage behind `step`, in [0, 1)."""
        return (step - self.first) / max(1, self.last - self.first)


@dataclass(frozen=True)
class Plan:
    """A method's stages, and when labels are judged.

    Attributes:
        first_review: the step before which the labels are first judged.
        rounds: steps before which the method sees the unlabelled cases with what is predicted for them.
    """

    stages: tuple[Stage, ...]
    first_review: int
    rounds: tuple[int, ...] = ()


def plan_stages(steps: int, shares: StageConfig) -> tuple[Stage, ...]:
    """Half-open stages of a run; a share of 0 leaves a stage out, the last one takes what rounding leaves.

    `shares.overlap`: those of Algorithm 1 as it is printed (`printed_stages`).
    """
    stages = stages_of(shared_steps(steps, shares), TRAINED_PARTS)
    return printed_stages(stages) if shares.overlap else stages


def stages_of(steps: Mapping[str, int], trains: Mapping[str, tuple[str, ...]]) -> tuple[Stage, ...]:
    """Stages one after the other, by name, of so many steps each."""
    stages: list[Stage] = []
    for name, count in steps.items():
        first = stages[-1].last if stages else 0
        stages.append(Stage(name, first, first + count, trains[name]))
    return tuple(stages)


def printed_stages(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Algorithm 1, lines 3, 7 and 18, with the borders of these half-open stages and t = step + 1.

    Its second `if` has the Full RL as `else`. So in the warm-up every part learns (what Full RL adds there is the
    method's), and at t = t_warm and t = t_transition, which no `<` takes, Full RL runs. Without a Full RL (the
    ablation) there is no `else`.
    """
    ends = {stage.name: stage.last for stage in stages}
    if "full_rl" not in ends:
        return stages
    t_warm = ends.get("warm_up", 0)
    t_transition = ends.get("transition", t_warm)

    def name_at(step: int) -> str:
        t = step + 1
        if t < t_warm:
            return "warm_up"
        return "transition" if t_warm < t < t_transition else "full_rl"

    found: list[Stage] = []
    for name, steps in groupby(range(stages[-1].last), name_at):
        first, *rest = steps
        trains = TRAINED_PARTS["transition" if name == "transition" else "full_rl"]
        found.append(Stage(name, first, rest[-1] + 1 if rest else first + 1, trains))
    return tuple(found)


def stage_at(stages: tuple[Stage, ...], step: int) -> Stage:
    """The stage that a step belongs to."""
    return next(stage for stage in stages if stage.first <= step < stage.last)


def open_parts(network: nn.Module, trains: tuple[str, ...]) -> None:
    """Let exactly the named children of a network learn; all of one that has none of these names."""
    children = dict(network.named_children())
    whole = not children.keys() & set(trains)
    for name, child in children.items():
        child.requires_grad_(whole or name in trains)
