"""Voxels that a user locks steer the refinement and are never changed, with a trained model and without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rough_masks_to_refine import GRIDS, block, files, model_that, refined

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.volumes import Geometry, read_label, write_image, write_label
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.mask_refinement.locks import Locks, slices_of
from SVLDRLCore.svl_drl.actions import ENHANCE, WEAKEN

ROOT = Path(__file__).parents[3]


def row(*voxels: int) -> np.ndarray:
    return np.array(voxels, np.uint8).reshape(1, 1, -1)


def on(*voxels: int) -> np.ndarray:
    return row(*voxels).astype(bool)


def test_kept_voxels_are_added_and_forbidden_ones_taken_away() -> None:
    locks = Locks(keep=on(1, 1, 0, 0, 0), never=on(0, 0, 0, 1, 1))
    steered = locks.steered(row(0, 2, 1, 1, 2), {0: (1,)})
    np.testing.assert_array_equal(steered, row(1, 2, 1, 0, 2))  # another segment stays
    np.testing.assert_array_equal(locks.held(row(0, 0, 0, 1, 1), steered), row(1, 2, 0, 0, 2))


def test_of_several_structures_a_kept_voxel_is_the_segments_that_lies_there() -> None:
    locks = Locks(keep=on(1, 1, 1))
    steered = locks.steered(row(0, 1, 2), {0: (1,), 1: (2,)})
    np.testing.assert_array_equal(steered, row(1, 1, 2))
    np.testing.assert_array_equal(locks.held(row(2, 2, 1), steered), row(1, 1, 2))


def test_of_several_structures_a_kept_stroke_in_none_is_the_nearest_ones() -> None:
    """A stroke as a whole: the one from a segment far towards another is the first one's; 3 is not to be refined."""
    locks = Locks(keep=on(0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 1, 0))
    drawn = row(1, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3)
    steered = locks.steered(drawn, {0: (1,), 1: (2,)})
    np.testing.assert_array_equal(steered, row(1, 1, 1, 1, 1, 0, 2, 0, 2, 0, 2, 3))
    np.testing.assert_array_equal(drawn, row(1, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3))


def test_what_lies_within_a_structure_is_forbidden_with_it() -> None:
    """Of nested structures: the outer one is refined, and holds the inner one's voxels, too."""
    locks = Locks(never=on(0, 1, 1))
    np.testing.assert_array_equal(locks.steered(row(1, 2, 1), {0: (1,)}, {0: (1, 2)}), row(1, 0, 0))


def test_where_nothing_may_change_nothing_does() -> None:
    locks = Locks(keep=on(1, 0, 0, 1), never=on(0, 1, 1, 0), only=on(0, 0, 1, 1), right=on(0, 0, 0, 1))
    steered = locks.steered(row(0, 1, 1, 0), {0: (1,)})
    np.testing.assert_array_equal(steered, row(0, 1, 0, 0))
    np.testing.assert_array_equal(locks.held(row(1, 0, 1, 1), steered), row(0, 1, 0, 0))
    np.testing.assert_array_equal(locks.surer(np.full((1, 1, 4), 0.5, np.float32)), np.ones((1, 1, 4)))


def test_slices_are_counted_along_the_files_own_axes() -> None:
    geometry = Geometry((2, 3, 4))
    assert slices_of((), geometry) is None
    found = slices_of(("k:0", "i:2-3"), geometry)
    expected = np.zeros((2, 3, 4), bool)
    expected[0], expected[:, :, 2:] = True, True
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("text", "why"), [("k", "AXIS"), ("z:1-2", "AXIS"), ("k:1-2", "0 to 1"), ("j:2-1", "0 to 2")])
def test_slices_that_are_not_there(text: str, why: str) -> None:
    geometry = Geometry((2, 3, 4))
    with pytest.raises(InputError, match=why):
        slices_of((text,), geometry)


@pytest.mark.parametrize("grid", list(GRIDS))
def test_locks_hold_against_agents_that_would_change_everything(tmp_path: Path, grid: str) -> None:
    geometry = GRIDS[grid]
    drawn = block(geometry)
    image, rough = files(tmp_path, geometry, drawn)
    where = np.argwhere(drawn)
    low, high = where.min(0), where.max(0)
    keep, never = np.zeros_like(drawn), np.zeros_like(drawn)
    beside = np.array([0, 0, 1])
    keep[tuple(low)] = keep[tuple(low - beside)] = 1
    never[tuple(high)] = never[tuple(high + beside)] = 1
    locks = {"keep": write_label(tmp_path / "keep.nrrd", keep, geometry)}
    locks["never"] = write_label(tmp_path / "never.nrrd", never, geometry)
    middle = int(where[:, 1].mean())
    for action in (ENHANCE, WEAKEN):
        model = model_that(tmp_path, action)
        done, result = refined(
            tmp_path, model, image, rough, trust=0.0, right_slices=[f"j:{middle}"], overwrite=True, **locks
        )
        assert (result.array[keep > 0] == 1).all()
        assert (result.array[never > 0] == 0).all()
        np.testing.assert_array_equal(result.array[:, middle], drawn[:, middle])
        assert (done.confidence[:, middle] == 1).all()
        assert (result.array != drawn).any()  # the rest follows the agents
    only = np.zeros_like(drawn)
    only[:, middle:] = 1
    area = write_label(tmp_path / "only.nrrd", only, geometry)
    _, result = refined(tmp_path, model, image, rough, trust=0.0, only=area, overwrite=True)
    np.testing.assert_array_equal(result.array[:, :middle], drawn[:, :middle])
    assert (result.array != drawn).any()


def test_the_command_takes_them_without_a_model_too(tmp_path: Path) -> None:
    distance = np.sqrt(((np.indices((24, 24, 24)) - 12) ** 2).sum(0))
    truth = distance < 8
    geometry = Geometry((24, 24, 24))
    noise = np.random.default_rng(0).normal(0, 0.05, truth.shape)
    write_image(tmp_path / "image.nrrd", (truth + noise).astype(np.float32), geometry)
    rough, right = (distance < 6).astype(np.uint8), slice(8, 17)
    write_label(tmp_path / "rough.nrrd", rough, geometry)
    never = np.zeros_like(rough)
    never[:, :, 18:] = 1  # beyond what is drawn: it would grow there
    write_label(tmp_path / "never.nrrd", never, geometry)
    arguments = "refine image.nrrd rough.nrrd --output out.nrrd --mode snap --never never.nrrd --right-slices k:8-16"
    command = [sys.executable, "-m", "SVLDRLCore", *arguments.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = read_label(tmp_path / "out.nrrd").array
    assert not (result[never > 0]).any()
    np.testing.assert_array_equal(result[right], rough[right])


def test_locks_that_cannot_be_meant(tmp_path: Path) -> None:
    geometry = next(iter(GRIDS.values()))
    image, rough = files(tmp_path, geometry, block(geometry))
    empty = write_label(tmp_path / "empty.nrrd", np.zeros(geometry.size_dhw, np.uint8), geometry)

    model = model_that(tmp_path, ENHANCE)

    def attempt(given: Path | None = rough, **locks: Path) -> None:
        refine(image, given, model=model, output=tmp_path / "out.nrrd", **locks)

    with pytest.raises(InputError, match="no voxel is set"):
        attempt(only=empty)
    with pytest.raises(InputError, match="are in"):
        attempt(keep=rough, never=rough)
    with pytest.raises(InputError, match="no rough mask"):
        attempt(None, keep=rough)
