"""What `svldrl refine` asks of its arguments before it reads a voxel."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from SVLDRLCore.config.building import require_number
from SVLDRLCore.errors import InputError
from SVLDRLCore.mask_refinement.limits import LARGEST_OVERLAP

OF_MODELS = {
    "trust": "the trust in the mask",
    "margin_mm": "the margin around the mask",
    "overlap": "the overlap of windows",
    "policy_steps": "the steps of the agents",
    "guard": "turning the guard off",
}
"""Options that say something to a model alone, in plain words."""
WITHOUT_MODEL = {"mode": "the mode"}
"""The same of a refinement without one."""


def without_effect(given: Mapping[str, Any], function: Callable[..., Any]) -> tuple[dict[str, Any], str]:
    """Options that say nothing here although they are no defaults: those defaults, and a sentence on them.

    Args:
        given: options, "model" among them; function: whose arguments they are.
    """
    by_model = given["model"] is not None
    words = WITHOUT_MODEL if by_model else OF_MODELS
    defaults = {name: inspect.signature(function).parameters[name].default for name in words}
    idle = {name: value for name, value in defaults.items() if given.get(name, value) != value}
    told = f"With{'' if by_model else 'out'} a model this has no effect: {', '.join(words[name] for name in idle)}."
    return idle, told if idle else ""


def require_refining_numbers(
    trust: float, margin_mm: float, overlap: float, policy_steps: int, smallest_fragment_ml: float
) -> None:
    require_number("trust", trust, 0, 1)
    require_number("margin_mm", margin_mm, 0, 10_000)
    require_number("overlap", overlap, 0, LARGEST_OVERLAP)
    require_number("policy_steps", policy_steps, 0, 100, whole=True)
    require_number("smallest_fragment_ml", smallest_fragment_ml, 0, 1e6)


def refuse_learning_from_this_case(asked: bool, keep_model: str | Path | None = None) -> None:
    """InputError for what 0.1 had: a small network trained on one rough mask, which lost to the universal refiner."""
    if asked:
        why = "it is gone: refining any structure, without a model, gives better masks"
        raise InputError("--learn-from-this-case", why, "Leave it out: without --model, any structure is refined")
    if keep_model is not None:
        why = "it is gone with --learn-from-this-case: a refinement trains no model"
        raise InputError("--keep-model", why, "Leave it out; svldrl train makes a model of a data list")


def require_source(
    model: str | Path | None, rough: str | Path | None, mapping: Mapping[str, str] | None = None
) -> None:
    """InputError where nothing says what to draw: without a model there must be a rough mask."""
    if model is None and rough is None:
        raise InputError("The model", "none was given, nor a rough mask", "Give a rough mask to refine, or a --model")
    if mapping and (rough is None or model is None):
        why = "there is no rough mask" if rough is None else "without a model segments keep their own names"
        raise InputError("map", why, "Leave it out, or give a rough mask and a model")


def require_steps_of_agents(steps: str | Path | None, model: str | Path | None) -> None:
    """InputError for steps to write where no trained model is given: only such a one draws a mask step by step."""
    if steps is not None and model is None:
        why = "only models of pixel_drl draw a mask step by step, and no model is given"
        raise InputError("--steps", why, "Leave it out, or give such a --model")
