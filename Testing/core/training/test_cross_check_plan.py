"""How many folds, which cases in which, and settings that keep a cross-check short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.volumes import Geometry, write_image
from SVLDRLCore.training.cross_check_plan import MOST_VOXELS, cross_check_config, deal_folds, fold_count


@pytest.mark.parametrize(
    ("cases", "folds"),
    [(3, 3), (4, 4), (5, 5), (6, 5), (37, 5), (38, 5), (40, 4), (44, 4), (45, 3), (59, 3), (60, 2), (500, 2)],
)
def test_as_few_folds_as_leave_thirty_cases_to_learn_from(cases: int, folds: int) -> None:
    assert fold_count(cases) == folds


@pytest.mark.parametrize("cases", [0, 1, 2])
def test_too_few_cases_need_a_model(cases: int) -> None:
    with pytest.raises(InputError, match="--model"):
        fold_count(cases)


def test_every_case_is_held_out_once_and_trusted_ones_are_spread() -> None:
    trusted = [n in (0, 1, 2, 3) for n in range(11)]
    folds = deal_folds(trusted, 4, seed=0)
    assert sorted(index for fold in folds for index in fold) == list(range(11))
    assert sorted(len(fold) for fold in folds) == [2, 3, 3, 3]
    assert [sum(trusted[index] for index in fold) for fold in folds] == [1, 1, 1, 1]
    assert deal_folds(trusted, 4, seed=0) == folds != deal_folds(trusted, 4, seed=1)


def cases_of(folder: Path, *grids: Geometry) -> list[Case]:
    files = [write_image(folder / f"{n}.nrrd", np.zeros(g.size_dhw, np.uint8), g) for n, g in enumerate(grids)]
    return [Case(file.stem, (file,), None) for file in files]


def test_small_images_keep_their_grid_and_are_not_padded_much(tmp_path: Path) -> None:
    cases = cases_of(tmp_path, Geometry((13, 48, 48), (3.0, 1.0, 1.0)), Geometry((10, 48, 33), (3.0, 1.0, 1.0)))
    config = cross_check_config("general", {}, cases, "cpu")
    assert config.data.spacing_mm == (1.0, 1.0, 3.0)
    assert config.data.patch_size == (16, 48, 48)
    assert (config.train.steps, config.train.device, config.data.held_out_fraction) == (600, "cpu", 0.0)
    assert (config.reliability.enabled, config.mask_agents.enabled) == (False, False)


@pytest.mark.parametrize(
    ("size_dhw", "spacing_dhw", "grid_xyz", "patch"),
    [
        ((12, 96, 96), (1.5, 0.7, 0.7), (1.4, 1.4, 1.5), (16, 48, 48)),  # thick slices stay, twice is the most
        ((40, 60, 60), (1.0, 1.0, 1.0), (1.25, 1.25, 1.25), (32, 48, 48)),
        ((20, 200, 200), (5.0, 2.5, 2.5), (5.0, 5.0, 5.0), (24, 48, 48)),
    ],
)
def test_a_patch_spans_the_usual_case_where_half_of_the_resolution_does_it(
    tmp_path: Path,
    size_dhw: tuple[int, int, int],
    spacing_dhw: tuple[float, float, float],
    grid_xyz: tuple[float, ...],
    patch: tuple[int, ...],
) -> None:
    config = cross_check_config("general", {}, cases_of(tmp_path, Geometry(size_dhw, spacing_dhw)), "cpu")
    assert config.data.spacing_mm == pytest.approx(grid_xyz)
    assert config.data.patch_size == patch


def test_large_images_are_looked_at_on_a_coarser_grid_the_finest_axes_first(tmp_path: Path) -> None:
    usual = Geometry((60, 256, 256), (3.0, 0.5, 0.5))
    cases = cases_of(tmp_path, usual, usual, Geometry((20, 64, 64), (3.0, 0.5, 0.5)))
    config = cross_check_config("general", {}, cases, "cpu")
    x, y, z = config.data.spacing_mm
    assert x == y > 0.5
    assert z == 3.0
    voxels = 60 * (256 * 0.5 / x) ** 2
    assert 0.8 * MOST_VOXELS < voxels <= MOST_VOXELS
    assert config.data.patch_size == (32, 48, 48)


def test_networks_on_slices_leave_the_slices_where_they_are(tmp_path: Path) -> None:
    config = cross_check_config("slices", {}, cases_of(tmp_path, Geometry((60, 256, 256), (3.0, 0.5, 0.5))), "cpu")
    x, y, z = config.data.spacing_mm
    assert x == y > 0.5
    assert z == 0.0
    assert config.data.patch_size == (1, 128, 128)


def test_what_is_asked_for_stays(tmp_path: Path) -> None:
    asked = {"data": {"spacing_mm": [0.5, 0.5, 1.0], "patch_size": [32, 64, 64]}, "train": {"steps": 2000}}
    config = cross_check_config("general", asked, cases_of(tmp_path, Geometry((13, 48, 48), (3.0, 1.0, 1.0))), "cpu")
    assert config.data.spacing_mm == (0.5, 0.5, 1.0)
    assert config.data.patch_size == (32, 64, 64)
    assert config.train.steps == 2000
    demo = cross_check_config("demo", {}, [], "cpu")
    assert demo.train.steps == 240  # shorter than the most
    with pytest.raises(InputError, match="mask_agents"):
        cross_check_config("general", {"mask_agents": {"enabled": True}}, [], "cpu")
