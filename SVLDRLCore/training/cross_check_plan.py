"""How a data set is checked against itself: on how many folds, which cases in which, with what settings."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.config.building import merge
from SVLDRLCore.config.settings import Config, with_values
from SVLDRLCore.data.resampling import upright_size, upright_spacing
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.volumes import read_geometry
from SVLDRLCore.training.registry import load_method_config
from SVLDRLCore.training.training_data import grid_for

METHOD = "supervised"
FEWEST_CASES = 3
"""Two others must agree before a label stands apart."""
FEWEST_FOLDS, MOST_FOLDS = 2, 5
"""More folds are more trainings; five leave four fifths to learn from."""
ENOUGH_TO_LEARN_FROM = 30
"""Cases from which a small network learns what is usual."""
MOST_STEPS = 600
"""Of each network: 100 seconds of a CPU core on 79 nodules of 16 x 48 x 48 voxels, so that five folds take minutes."""
MOST_VOXELS = 1_000_000
"""Of the usual case on the grid: about 14 patches, which a CPU predicts with overlaps in seconds. A patch then spans a
third of the image or more, enough to tell where it lies."""
COARSER, MOST_COARSENED = 1.05, 100
TO_SPAN_A_CASE = 2.0
"""Fine axes are coarsened until a patch spans the usual case, so many times at most. A short training then learns where
things lie, and half of the resolution still shows a border. On nodules of 96 x 96 x 16 voxels that is the difference
between an AUC of 0.63 and one of 0.89."""
THICK_SLICES = 1.5
"""Axes so much coarser than the finest one stay as they are: slices that lie far apart hold little between them."""
ALONE = ("reliability", "mask_agents")
"""Groups of settings that a network which believes every label alike has no use for."""


def fold_count(cases: int) -> int:
    """As few folds as leave enough cases to learn from.

    Raises:
        InputError: too few cases.
    """
    if cases < FEWEST_CASES:
        why = f"{cases} usable {'case is' if cases == 1 else 'cases are'} too few to check against each other"
        do = f"Name a model with --model, or add cases: {FEWEST_CASES} are the least"
        raise InputError("data set", why, do)
    for folds in range(FEWEST_FOLDS, MOST_FOLDS):
        if cases - math.ceil(cases / folds) >= ENOUGH_TO_LEARN_FROM:
            return folds
    return min(MOST_FOLDS, cases)


def deal_folds(trusted: Sequence[bool], folds: int, seed: int) -> list[list[int]]:
    """Indices of the cases of each fold, seeded; every case is in one.

    Trusted ones are dealt first: no network misses more of them than it must, and each is compared with one that has
    not seen it.
    """
    rng = np.random.default_rng([seed, 5])
    marked = np.asarray(trusted, bool)
    order = [*rng.permutation(np.flatnonzero(marked)).tolist(), *rng.permutation(np.flatnonzero(~marked)).tolist()]
    return [sorted(order[fold::folds]) for fold in range(folds)]


def cross_check_config(preset: str, overrides: dict[str, Any], cases: Sequence[Case], device: str) -> Config:
    """The settings of all folds' networks: the preset's, short, on a grid and with patches that fit the cases.

    What `overrides` name stays as they say.

    Raises:
        InputError: a setting of label weights or mask agents, or one that cannot be used, by name.
    """
    for group in ALONE:
        if group in overrides:
            why = "the networks of a cross-check learn from every label alike"
            raise InputError(f"setting {group}", why, "Leave it out")
    given = merge({"train": {"device": device}, "data": {"held_out_fraction": 0.0}}, overrides)
    config = load_method_config(METHOD, preset, "extended", given)
    if "steps" not in overrides.get("train", {}):
        config = with_values(config, train={"steps": min(config.train.steps, MOST_STEPS)})
    grids = _grids(cases)
    if not grids:
        return config  # whoever reads the cases says why
    if config.data.spacing_mm is None:
        config = with_values(config, data={"spacing_mm": _spacing(config, grids)})
    if "patch_size" not in overrides.get("data", {}):
        config = with_values(config, data={"patch_size": _patch(config, grids)})
    return config


Grid = tuple[np.ndarray, np.ndarray]
"""Size (d, h, w) in voxels and spacing in mm of an image that stands upright."""


def _grids(cases: Sequence[Case]) -> list[Grid]:
    found = []
    for case in cases:
        with contextlib.suppress(InputError):  # it will be told when the case is read
            native = read_geometry(case.images[0])
            found.append((np.array(upright_size(native)), np.array(upright_spacing(native)[::-1])))
    return found


def _sizes(grids: Sequence[Grid], spacing_xyz: Sequence[float]) -> np.ndarray:
    """Sizes (N, 3), in voxels along d, h and w, on a grid of that spacing; 0 keeps an axis."""
    asked = np.array(spacing_xyz[::-1])
    return np.array([np.where(size == 1, 1, size * np.where(asked > 0, own / np.where(asked > 0, asked, 1), 1))
                     for size, own in grids])  # fmt: skip


def _spacing(config: Config, grids: Sequence[Grid]) -> tuple[float, ...]:
    """The median spacing (x, y, z), coarsened so far that a patch spans the usual case, but `TO_SPAN_A_CASE` at most.

    Then the finest axes first, until that case has `MOST_VOXELS` at most.
    """
    median = np.median([own for _, own in grids], axis=0)[::-1]
    if not backbone_of(config.network).on_slices:
        extent = np.median([size * own for size, own in grids], axis=0)[::-1]
        fine = median <= THICK_SLICES * median.min()
        factor = (extent / np.array(config.data.patch_size[::-1]) / median)[fine].max()
        median = np.where(fine, median * np.clip(factor, 1.0, TO_SPAN_A_CASE), median)
    least = float(median.min())
    while True:
        spacing = grid_for(config, tuple(np.maximum(median, least).round(4).tolist()))
        if np.median(_sizes(grids, spacing).prod(axis=1)) <= MOST_VOXELS or least > median.max() * MOST_COARSENED:
            return spacing
        least *= COARSER


def _patch(config: Config, grids: Sequence[Grid]) -> tuple[int, ...]:
    """The preset's patch, no wider along any side than the usual case: padding is learned from in vain."""
    backbone, patch = backbone_of(config.network), config.data.patch_size
    unit = backbone.patch_multiple(config.network)
    spacing = config.data.spacing_mm or (1.0, 1.0, 1.0)
    usual = np.ceil(np.median(_sizes(grids, spacing), axis=0).round(6))
    cut = [min(side, max(1, math.ceil(size / unit)) * unit) for side, size in zip(patch, usual)]
    if backbone.on_slices:
        cut[0] = patch[0]
    return tuple(cut) if max(cut) >= backbone.smallest_side else patch
