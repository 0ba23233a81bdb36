"""`svldrl adapt`: from labelled images of one kind and images without labels of another to a model for the latter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from SVLDRLCore.events import Listener
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.training.registry import ADAPTING
from SVLDRLCore.training.train import Asked, start_training


def adapt(
    source: str | Path,
    target: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    preset: str | None = None,
    method: str | None = None,
    overrides: dict[str, Any] | None = None,
    trusted: Sequence[str] | None = None,
    initial_model: str | Path | None = None,
    resume: bool = False,
    skip_bad_cases: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Path:
    """Adapt a model to images without labels; returns the model package (`output`/model).

    Args:
        source: the labelled images: MONAI / Decathlon JSON or a folder; its training list is learned from.
        target: the images without labels: a data list (its training list; labels named there are never opened), a
            folder of images, or image files.
        output: a new folder; with `resume` one where an adaptation was started.
        preset, overrides, trusted, initial_model, skip_bad_cases, listeners, control: see `train`.
        method: "matched_self_training" (if not given) or another of `training.registry.ADAPTATIONS`.
        resume: go on with the adaptation in `output`, see `train`.

    Raises:
        InputError: bad input, by name, before training starts; or a training that cannot go on.
        Cancelled: stopped; `resume=True` goes on from there.
    """
    places = [target] if isinstance(target, str | Path) else list(target)
    chosen = method if method is not None or resume else ADAPTING
    asked = Asked(
        Path(source), preset, chosen, None, overrides or {}, None if trusted is None else tuple(trusted),
        None, None if initial_model is None else Path(initial_model), skip_bad_cases,
        tuple(Path(place) for place in places),
    )  # fmt: skip
    return start_training("adapt", asked, Path(output), resume, listeners, control)
