"""Checkpoints of version 0.1, whose networks all had decoders for agents on the image, as today's trainer takes them.

Where those agents acted (0.1's default), they left encoder and segmentation decoder the same to the bit. So a training
that was stopped then goes on to the same segmentation network without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

AGENTS = ("value_decoder", "policy_decoder")


def without_image_agents(state: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
    """The state of a trainer without what it holds of decoders that `network` does not have.

    Args:
        state: as `Trainer.state` gives it; one without such decoders comes back as it is.
        network: what is trained now.
    """
    wanted = network.state_dict().keys()
    gone = {name for name in state["network"] if name not in wanted and _is_of_agents(name)}
    if not gone:
        return dict(state)
    learned = {name for name, _ in network.named_parameters()} | gone
    before = [name for name in state["network"] if name in learned]  # in the optimiser's order
    kept = [index for index, name in enumerate(before) if name not in gone]
    optimiser, average = state["optimiser"], state["average"]
    moments = {new: optimiser["state"][old] for new, old in enumerate(kept) if old in optimiser["state"]}
    groups = [{**group, "params": list(range(len(kept)))} for group in optimiser["param_groups"]]
    return {
        **state,
        "network": _without(state["network"], gone),
        "average": None if average is None else _without(average, {f"module.{name}" for name in gone}),
        "best_weights": {name: each for name, each in state["best_weights"].items() if not _is_of_agents(name)},
        "optimiser": {"state": moments, "param_groups": groups},
        "review": _review_without(state["review"], gone),
    }


def _is_of_agents(name: str) -> bool:
    """Of the network that predicts, or of a companion that is built alike."""
    return any(part in AGENTS for part in name.split(".")[:2])


def _review_without(review: Mapping[str, Any], gone: set[str]) -> dict[str, Any]:
    """The networks that the label reviews have kept, too."""
    labels = review.get("labels")
    if not labels:
        return dict(review)
    return {**review, "labels": {**labels, "snapshots": [_without(each, gone) for each in labels["snapshots"]]}}


def _without(table: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: each for name, each in table.items() if name not in names}
