"""One call of the core's refinement: segments that one label map and one model can hold together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from slicer.i18n import tr as _

from .JobError import JobError
from .LabelLayer import LabelLayer
from .Model import Model


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
    before: Sequence[LabelLayer], wanted: Sequence[str], names: dict[str, str], model: Model | None
) -> tuple[list[RefineRun], list[str]]:
    """How to refine the wanted segments so that no overlap is lost: a run for each layer that holds some of them.

    Args:
        before: all segments.
        names: of all segments.
        model: None where one is to be trained on the case.

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
            _("nothing is drawn there") if empty else _("none is ticked"),
            _("Draw something, tick another segment, or choose no segmentation to segment from scratch"),
        )
    warnings = [_("{}: nothing is drawn there, it stays empty.").format(name) for name in empty]
    known = _knownAs(wanted, names, model)
    if not known:
        raise JobError(
            ", ".join(names[i] for i in wanted),
            _("the model {} knows other structures: {}").format(model.name, ", ".join(model.structures)),
            _("Rename the segment as the model calls it, or choose another model"),
        )
    for segmentID in wanted:
        if segmentID not in known:
            warnings.append(_("{}: the model does not know it, it stays as it is.").format(names[segmentID]))
    runs = []
    for layer in before:
        left = [i for i in layer.values if i in known]
        while left:  # two segments of one name are two runs
            together = {known[i].casefold(): i for i in reversed(left)}
            left = [i for i in left if i not in together.values()]
            runs.append(_run(layer, list(together.values()), known, model))
    return runs, warnings


def _knownAs(wanted: Sequence[str], names: dict[str, str], model: Model | None) -> dict[str, str]:
    """Segment ID -> the model's name for it; a single segment is taken for a model's single structure."""
    if model is None:
        return {i: names[i].strip() or i for i in wanted}
    spelled = {name.strip().casefold(): name for name in (*(label.name for label in model.labels), *model.structures)}
    known = {i: spelled[names[i].strip().casefold()] for i in wanted if names[i].strip().casefold() in spelled}
    if not known and len(wanted) == len(model.structures) == 1:
        known = {wanted[0]: model.structures[0]}
    return known


def _run(layer: LabelLayer, segmentIDs: list[str], known: dict[str, str], model: Model | None) -> RefineRun:
    """Labels that the model has get its value: the core takes names first, then values."""
    labels = {label.name: label.value for label in model.labels} if model is not None else {}
    free = max(labels.values(), default=0)
    values = {}
    for segmentID in (i for i in layer.values if i in segmentIDs):
        if known[segmentID] not in labels:
            free += 1
        values[segmentID] = labels.get(known[segmentID], free)
    return RefineRun(layer.renumbered(values), {i: known[i] for i in values})
