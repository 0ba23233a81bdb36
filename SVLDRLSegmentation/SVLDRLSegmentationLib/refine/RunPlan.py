"""Which segments are refined together: a call of the core for each label map that holds segments to refine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.Models import Model
from ..scene.SceneFiles import LabelLayer


@dataclass(frozen=True)
class RefineRun:
    """One call of the core's refinement.

    Attributes:
        layer: the segments, with the values that the core gets.
        names: segment ID -> the name under which the core knows it.
    """

    layer: LabelLayer
    names: dict[str, str]


def planRuns(
    before: Sequence[LabelLayer],
    wanted: Sequence[str],
    names: dict[str, str],
    model: Model | None,
    structureOf: Mapping[str, str] | None = None,
) -> tuple[list[RefineRun], list[str]]:
    """How to refine the wanted segments so that no overlap is lost: a run for each layer that holds some of them.

    Segments of one name that do not overlap are one structure: they are refined together and share the result.

    Args:
        before: all segments.
        names: of all segments.
        model: None where one is to be trained on the case.
        structureOf: segment ID -> the model's name for it, or "" to leave it alone; by name where it is not told.

    Returns:
        The runs, and sentences on the segments that are left as they are.

    Raises:
        JobError: nothing is left to refine.
    """
    drawn = {i for layer in before for i, value in layer.values.items() if np.any(layer.array == value)}
    empty = [names[i] for i in wanted if i not in drawn]
    wanted = [i for i in wanted if i in drawn]
    if not wanted:
        raise JobError(
            ", ".join(empty) or _("Segments"),
            _("nothing is drawn there inside of the volume") if empty else _("none is ticked"),
            _("Draw something, tick another segment, or choose no segmentation to segment from scratch"),
        )
    warnings = [_("{}: nothing is drawn there inside of the volume, it stays as it is.").format(name) for name in empty]
    known = {i: names[i].strip() or i for i in wanted} if model is None else model.knownAs(wanted, names, structureOf)
    if model is not None and not known:
        raise JobError(
            ", ".join(names[i] for i in wanted),
            _("the model {} knows other structures: {}").format(model.name, ", ".join(model.structures)),
            _("Say which structure it is, rename the segment as the model calls it, or choose another model"),
        )
    for segmentID in wanted:
        if segmentID not in known:
            warnings.append(_("{}: the model does not know it, it stays as it is.").format(names[segmentID]))
    together = ([i for i in layer.values if i in known] for layer in before)
    return [_run(layer, ids, known, model) for layer, ids in zip(before, together) if ids], warnings


def _run(layer: LabelLayer, segmentIDs: list[str], known: dict[str, str], model: Model | None) -> RefineRun:
    """Each segment under the model's name for it; the first of a name gets its value in the model, others a new one."""
    labels = {label.name: label.value for label in model.labels} if model is not None else {}
    free = max(labels.values(), default=0)
    values: dict[str, int] = {}
    for segmentID in segmentIDs:
        value = labels.pop(known[segmentID], None)
        if value is None:
            free += 1
        values[segmentID] = free if value is None else value
    return RefineRun(layer.renumbered(values), {i: known[i] for i in values})
