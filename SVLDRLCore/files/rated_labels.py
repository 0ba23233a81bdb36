"""A case's label as it is learned from: the file, or the consensus of several raters' files."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.cropped_segmentations import on_image_grid
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.volumes import Geometry, Volume, read_label, require_same_geometry
from SVLDRLCore.masks.consensus import consensus_of


@dataclass(frozen=True)
class RatedLabel:
    """The label of a case, and those of its raters where there are several, all on one grid."""

    label: Volume
    raters: tuple[Volume, ...] = ()


def read_case_label(case: Case, grid: Geometry | None, values: Collection[int]) -> RatedLabel:
    """A case's label on the grid of its image (Slicer saves segmentations cropped).

    Of several raters it is the consensus, with the value `case.ignore` where that is undecided.

    Args:
        grid: of the image; None: that of the label itself.
        values: the label values of structures.

    Raises:
        InputError: no label, a file that cannot be read, or raters' labels on different grids.
    """
    if case.label is None:
        raise InputError(f"case {case.name}", "it has no label", "Give a label, or remove the case")
    read = [read_label(file) for file in case.label_files]
    labels = read if grid is None else [on_image_grid(volume, grid) for volume in read]
    if len(labels) == 1:
        return RatedLabel(labels[0])
    grid = grid or read[0].geometry
    for other in labels:
        require_same_geometry(Volume(np.empty(0), grid, path=case.images[0]), other)
    stack = np.stack([volume.array for volume in labels])
    ignored = None if case.ignore is None else (stack == case.ignore).any(axis=0)
    consensus, undecided = consensus_of(stack, sorted(values), ignored)
    marked = np.where(undecided, np.uint16(case.ignore or 0), consensus).astype(np.uint16)
    if marked.max(initial=0) <= 255:
        marked = marked.astype(np.uint8)
    warnings = tuple(dict.fromkeys(text for volume in labels for text in volume.warnings))
    return RatedLabel(replace(labels[0], array=marked, warnings=warnings), tuple(labels))
