"""Structures through all slices, on grids finest across them: their border is found, measured and learned from."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_trainings import PATCH, TINY

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.files.volumes import (
    Geometry,
    read_label,
    write_image,
    write_label,
)
from SVLDRLCore.jobs.audit import audit
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.mask_refinement.patches import MaskPatchSampler
from SVLDRLCore.masks.alignment import MOST_VOXELS, measure_border, thinning
from SVLDRLCore.masks.borders import border_spacing
from SVLDRLCore.masks.image_edge import edge_positions, edge_sharpness
from SVLDRLCore.training.train import train

SMALL = {
    "data": {"patch_size": list(PATCH), "spacing_mm": None},
    "train": TINY["train"] | {"steps": 5},
}
SPACINGS = [(0.625, 0.977, 0.977), (0.2, 1.0, 1.0), (1.0, 2.0, 2.0), (0.5, 1.2, 0.9), (1.0, 1.0, 1.0), (3.0, 1.0, 1.0)]


def tube(
    radius_mm: float, spacing: tuple[float, ...], shape: tuple[int, ...], axis: int = 0, ends: int = 0
) -> np.ndarray:
    """A tube along an axis, through all slices but the first `ends`."""
    place = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing)]
    grid = np.meshgrid(*place, indexing="ij")
    mask = sum(grid[a] ** 2 for a in range(3) if a != axis) <= radius_mm**2
    mask[(slice(None),) * axis + (slice(0, ends),)] = False
    return mask


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("ends", [0, 2])
def test_the_shift_of_a_tube_is_the_difference_of_its_radii(spacing, axis, ends):
    shape = tuple(np.roll((int(70 / spacing[0]), 48, 48), axis))
    spacing = tuple(np.roll(spacing, axis).tolist())
    rough, model = tube(8.0, spacing, shape, axis, ends), tube(11.0, spacing, shape, axis, ends)
    image = (0.2 + 0.5 * model + 0.02 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)[None]
    measure, voxel = measure_border(rough, model, image, spacing), max(spacing)
    assert measure.model_mm == pytest.approx(3.0, abs=0.6 * voxel)
    assert measure.edges_mm[0] == pytest.approx(3.0, abs=0.6 * voxel)
    assert measure_border(model, model, image, spacing).model_mm == 0.0
    assert edge_positions(model, image, spacing)[0] == pytest.approx(0.0, abs=0.4 * voxel)
    assert np.isfinite(edge_sharpness(model, image, spacing)[0])


def test_all_slice_counts_of_a_thinned_tube_are_measured():
    """Every n-th voxel of a large box: which axis is finest changes with the number of slices."""
    spacing, thinned = (0.625, 0.977, 0.977), 0
    for slices in range(60, 100):
        shape = (slices, 44, 44)
        rough, model = tube(10.0, spacing, shape), tube(12.0, spacing, shape)
        thinned += int(np.prod(shape) > MOST_VOXELS and max(thinning(shape, spacing)) > 1)
        measure = measure_border(rough, model, np.zeros((0, *shape)), spacing)
        assert measure.model_mm == pytest.approx(2.0, abs=0.6)
    assert thinned > 30


def test_one_slice_is_measured_whatever_its_thickness():
    measured = []
    for thickness in (0.01, 1.0, 2.0, 50.0):
        spacing, shape = (thickness, 2.0, 2.0), (1, 60, 60)
        rough, model = tube(30.0, spacing, shape), tube(36.0, spacing, shape)
        measured.append(measure_border(rough, model, model[None].astype(np.float32), spacing))
        assert measured[-1].model_mm == pytest.approx(6.0, abs=1.0)
        assert measured[-1].edges_mm[0] == pytest.approx(6.0, abs=3.0)
    assert len({m.model_mm for m in measured}) == 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 2.0, 1.0), (3.0, 1.0, 1.0), (0.625, 0.977, 0.977)])
def test_a_closed_body_has_the_spacing_of_its_grid(spacing):
    """What was measured rightly before is measured in the same way, to the bit."""
    shape = tuple(int(40 / s) for s in spacing)
    place = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing)]
    ball = sum(p**2 for p in np.meshgrid(*place, indexing="ij")) <= 12.0**2
    assert border_spacing(ball, spacing) == spacing
    assert border_spacing(np.zeros(shape, bool), spacing) == border_spacing(np.ones(shape, bool), spacing) == spacing


def test_masks_that_touch_every_border_of_the_image():
    for spacing in itertools.product((0.5, 1.0, 2.0), repeat=3):
        hole = np.ones((6, 8, 10), bool)
        hole[2:4, 3:5, 4:6] = False
        corner = np.ones((6, 8, 10), bool)
        corner[0, 0, 0] = False
        for rough, model in itertools.product((hole, corner), repeat=2):
            assert measure_border(rough, model, np.zeros((1, 6, 8, 10), np.float32), spacing) is not None


def test_a_label_that_fills_its_image_gives_patches():
    image = np.random.default_rng(0).random((1, *PATCH)).astype(np.float32)
    full = [in_memory(f"c{i}", image, np.ones((1, *PATCH)), (1.0, 1.0, 1.0), PATCH) for i in range(2)]
    config = load_config("general", "extended", TINY)
    predictions = [[np.ones((1, *PATCH), np.float32)]] * 2
    sampler = MaskPatchSampler(full, predictions, config.data, config.mask_agents, 2, 0, [1.0, 1.0])
    for _ in range(30):
        assert sampler.next().rough.shape == (2, 1, *PATCH)


def cord(folder: Path, count: int, shape: tuple[int, ...], spacing_dhw: tuple[float, ...]) -> Path:
    """A data set of a bright cord through all slices."""
    folder.mkdir()
    rng, cases = np.random.default_rng(0), []
    for k in range(count):
        label = tube(6.0 + k % 2, spacing_dhw, shape)
        image = 100 + 100 * label + rng.normal(0, 10, shape)
        grid = Geometry(shape, spacing_dhw)
        write_image(folder / f"i{k}.nrrd", image.astype(np.float32), grid)
        write_label(folder / f"l{k}.nrrd", label.astype(np.uint8), grid)
        cases.append({"image": f"i{k}.nrrd", "label": f"l{k}.nrrd"})
    (folder / "datalist.json").write_text(json.dumps({"labels": {"1": "cord"}, "training": cases}))
    return folder / "datalist.json"


@pytest.mark.parametrize("spacing", [(0.625, 0.977, 0.977), (0.5, 2.0, 2.0)])
def test_a_cord_through_all_slices_is_trained_refined_and_audited(tmp_path, spacing):
    listed = cord(tmp_path / "data", 4, (12, 24, 24), spacing)
    settings = TINY | SMALL
    model = train(listed, tmp_path / "run", overrides=settings)
    folder = listed.parent
    refine(folder / "i0.nrrd", folder / "l0.nrrd", model=model, output=tmp_path / "o.nrrd", trust=0.5)
    assert read_label(tmp_path / "o.nrrd").array.shape == (12, 24, 24)
    rows = audit(listed, model=model, output=tmp_path / "audit").rows
    assert len(rows) == 4
    assert not any(row.error for row in rows)


def test_an_image_of_one_slice_is_trained_and_refined(tmp_path):
    listed = cord(tmp_path / "data", 4, (1, 24, 24), (1.0, 2.0, 2.0))
    settings = TINY | SMALL
    model = train(listed, tmp_path / "run", overrides=settings)
    folder = listed.parent
    refine(folder / "i0.nrrd", folder / "l0.nrrd", model=model, output=tmp_path / "o.nrrd", trust=0.5)
    assert read_label(tmp_path / "o.nrrd").array.shape == (1, 24, 24)
