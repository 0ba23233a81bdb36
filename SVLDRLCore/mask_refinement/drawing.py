"""Beliefs on the model's grid, drawn on the image's own: where anything may change, a few slices at a time.

A map of each structure on the whole of a large image would take gigabytes, and most of the time of a refinement.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from SVLDRLCore.data.parts import (
    PreparedGrid,
    on_native_part,
    prepared_label_part,
    reached_box,
)
from SVLDRLCore.data.resampling import upright_view
from SVLDRLCore.files.volumes import Volume
from SVLDRLCore.mask_refinement.segments import structure_masks
from SVLDRLCore.masks.boxes import Box, extent_of, placed_in, size_of, united
from SVLDRLCore.masks.structures import Structures

MOST_VALUES = 8_000_000
"""Of the maps of some slices, all structures together: 32 MB, of which a few copies are needed."""


def extent_of_values(label: np.ndarray, values: Collection[int]) -> Box | None:
    """The box of a label map (D, H, W), unsigned, in which these values lie; None without any."""
    drawn = extent_of(label)  # of anything: looking up each value of a whole volume takes longer
    if drawn is None:
        return None
    looked_for = np.zeros(max(int(label.max()), *values, 0) + 1, bool)
    looked_for[list(values)] = True
    extent = extent_of(looked_for[label[drawn]])
    return None if extent is None else placed_in(extent, drawn)


def rough_maps_in(
    label: Volume, grid: PreparedGrid, members: Mapping[int, Sequence[int]], count: int, window: Box
) -> np.ndarray:
    """Maps (C, d, h, w) of a label map's structures in a box of the prepared grid."""
    return structure_masks(prepared_label_part(label, grid, window), members, count)


def part_to_draw(grid: PreparedGrid, box: Box, extent: Box) -> Box:
    """Upright voxels that may change: those that a box of the prepared grid has a part in, and the drawn ones."""
    return united(reached_box(grid, box), grid.upright_box(extent))


def drawn_part(
    structures: Structures,
    grid: PreparedGrid,
    maps: np.ndarray,
    box: Box,
    part: Box,
    rough: tuple[np.ndarray, dict[int, list[int]], Collection[int]] | None = None,
    settle: Callable[[np.ndarray], np.ndarray] = lambda beliefs: beliefs,
    check: Callable[[], object] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The model's label map, uint8, and the sureness, float32, of a part of the image, in its own array's order.

    Args:
        maps: in `box` of the prepared grid (C, d, h, w), 0 elsewhere: beliefs, or with `rough` what is added to it.
        part: of the upright grid.
        rough: the label map on the image's grid, the values of each structure, and the structures to draw.
        check: called before each slab; what it raises ends the work.
        settle: what becomes of beliefs (C, d, h, w) of some slices before they are drawn, voxel by voxel.
    """
    label = np.empty(size_of(grid.native_box(part)), np.uint8)
    sureness = np.empty(label.shape, np.float32)
    drawn, sure = (upright_view(each, grid.native) for each in (label, sureness))
    height = max(1, MOST_VALUES // (len(maps) * drawn.shape[1] * drawn.shape[2]))
    for first in range(0, len(drawn), height):
        check()
        rows = slice(first, min(first + height, len(drawn)))
        slab = (slice(part[0].start + rows.start, part[0].start + rows.stop), *part[1:])
        beliefs = on_native_part(maps, box, grid, slab)
        shown = beliefs
        if rough is not None:
            array, members, wanted = rough
            beliefs += structure_masks(upright_view(array, grid.native)[slab], members, len(maps))
            beliefs = settle(beliefs.clip(0.0, 1.0, out=beliefs))
            shown = np.where(np.isin(np.arange(len(maps)), list(wanted))[:, None, None, None], beliefs, 0)
        sure[rows] = 2 * np.abs(beliefs - 0.5).min(0)
        drawn[rows] = structures.label_map(shown)
    return label, sureness
