"""The three stages as data: what learns, and until when (SVL-DRL section 3.2, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from SVLDRLCore.config.settings import StageConfig

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


def plan_stages(steps: int, shares: StageConfig) -> tuple[Stage, ...]:
    """Half-open stages of a run; a share of 0 leaves a stage out, the last one takes what rounding leaves.

    (Algorithm 1 prints two separate `if`s, by which the full RL stage would run during warm-up.)
    """
    wanted = [(name, getattr(shares, name)) for name in TRAINED_PARTS if getattr(shares, name) > 0]
    stages: list[Stage] = []
    total = 0.0
    for index, (name, share) in enumerate(wanted):
        total += share
        first = stages[-1].last if stages else 0
        last = steps if index == len(wanted) - 1 else min(steps, round(total * steps))
        if last > first:
            stages.append(Stage(name, first, last, TRAINED_PARTS[name]))
    return tuple(stages)


def stage_at(stages: tuple[Stage, ...], step: int) -> Stage:
    """The stage that a step belongs to."""
    return next(stage for stage in stages if stage.first <= step < stage.last)


def open_parts(network: nn.Module, trains: tuple[str, ...]) -> None:
    """Let exactly the named children of a network learn."""
    for name, child in network.named_children():
        child.requires_grad_(name in trains)
