"""Refining a rough mask: on the image's own grid, and nothing touched that was not asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rough_masks_to_refine import GRIDS, NESTED, TINY, block, files, model_that, refined, with_islands

from SVLDRLCore.data.phantoms import make_phantom, write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    read_label,
    same_geometry,
    write_image,
)
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.mask_refinement.editing import threshold_of
from SVLDRLCore.masks.pieces import without_far_pieces, without_fragments
from SVLDRLCore.svl_drl.actions import ENHANCE, KEEP, WEAKEN
from SVLDRLCore.training.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A model of a few steps, through the command."""
    folder = tmp_path_factory.mktemp("trained")
    datalist = write_phantom_dataset(folder / "data", 3, 0, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    return train(datalist, folder / "run", overrides=TINY)


@pytest.mark.parametrize("grid", list(GRIDS))
def test_the_result_lies_on_the_images_own_grid(trained: Path, tmp_path: Path, grid: str) -> None:
    geometry = GRIDS[grid]
    image, rough = files(tmp_path, geometry, block(geometry))
    for trust, suffix in ((0.0, ".seg.nrrd"), (0.5, ".nii.gz"), (1.0, ".nrrd")):
        done, result = refined(tmp_path, trained, image, rough, trust=trust, output=tmp_path / f"r{trust}{suffix}")
        assert same_geometry(result.geometry, geometry)
        assert set(np.unique(result.array)) <= {0, 1}
        assert done.confidence.shape == geometry.size_dhw
        assert done.confidence.min() >= 0
        assert done.confidence.max() <= 1
    np.testing.assert_array_equal(result.array, read_label(rough).array)  # trust 1
    _, scratch = refined(tmp_path, trained, image, None)
    assert same_geometry(scratch.geometry, geometry)


@pytest.mark.parametrize("grid", list(GRIDS))
def test_agents_that_keep_change_nothing_and_others_act_where_they_are(tmp_path: Path, grid: str) -> None:
    """Whatever is resampled on the way: only edits come back from the model's grid."""
    geometry = GRIDS[grid]
    ragged = block(geometry) * (np.random.default_rng(1).random(geometry.size_dhw) > 0.2)
    image, rough = files(tmp_path, geometry, ragged.astype(np.uint8))
    done, kept = refined(tmp_path, model_that(tmp_path, KEEP), image, rough, trust=0.0)
    np.testing.assert_array_equal(kept.array, ragged)
    assert done.changes[0]["dice"] == 1.0
    _, grown = refined(tmp_path, model_that(tmp_path, ENHANCE), image, rough, trust=0.5, overwrite=True)
    assert (grown.array[ragged > 0] == 1).all()
    assert grown.array.sum() > ragged.sum()
    done, gone = refined(tmp_path, model_that(tmp_path, WEAKEN), image, rough, trust=0.5, overwrite=True)
    assert (gone.array[ragged == 0] == 0).all()
    assert gone.array.sum() < 0.5 * ragged.sum()


def test_an_agent_that_takes_all_away_warns(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    seen: list[dict[str, Any]] = []
    done, result = refined(tmp_path, model_that(tmp_path, WEAKEN), image, rough, listeners=[seen.append])
    assert not result.array.any()
    assert "nothing is left" in done.warnings[0]
    assert [e["event"] for e in seen if e["event"] in ("started", "warning", "finished")] == [
        "started", "warning", "finished",
    ]  # fmt: skip
    voxel_ml = 0.064
    row = done.changes[0]
    assert row["structure"] == "organ"
    assert row["before_ml"] == row["removed_ml"] == pytest.approx(block(geometry).sum() * voxel_ml)
    assert (row["after_ml"], row["added_ml"], row["dice"]) == (0.0, 0.0, 0.0)
    progress = [e["done"] for e in seen if e["event"] == "progress"]
    assert progress == sorted(progress)
    assert progress[-1] <= 100


def test_who_wonders_why_nothing_changes_is_told_of_a_careful_model(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    careful = model_that(tmp_path, KEEP, generalisation_factor=3.25)
    done, _ = refined(tmp_path, careful, image, rough)
    assert "organ: nothing was changed" in done.warnings[0]
    assert "changes only what is plainly wrong. Lower the trust" in done.warnings[0]
    assert not refined(tmp_path, careful, image, rough, trust=1.0, overwrite=True)[0].warnings  # as asked
    assert not refined(tmp_path, model_that(tmp_path, KEEP), image, rough, overwrite=True)[0].warnings
    eager = model_that(tmp_path, ENHANCE, generalisation_factor=3.25)
    assert not refined(tmp_path, eager, image, rough, overwrite=True)[0].warnings


@pytest.mark.parametrize("action", [ENHANCE, WEAKEN])
def test_other_segments_names_and_colours_survive(tmp_path: Path, action: int) -> None:
    geometry = GRIDS["anisotropic"]
    label = block(geometry, 7)
    label[:, :8], label[0, 20:, 20:] = 3, 9
    segments = (
        Segment(9, "Vessel", (0.1, 0.2, 0.3)),
        Segment(7, "Organ", (0.9, 0.8, 0.1)),
        Segment(3, "Bone", (1.0, 1.0, 0.9)),
        Segment(4, "Empty", (0.0, 0.0, 1.0)),
    )
    image, rough = files(tmp_path, geometry, label, segments)
    _, result = refined(tmp_path, model_that(tmp_path, action), image, rough)
    assert result.segments == segments
    for value in (3, 9):
        np.testing.assert_array_equal(result.array == value, label == value)
    assert set(np.unique(result.array)) <= {0, 3, 7, 9}
    assert ((result.array == 7).sum() > (label == 7).sum()) == (action == ENHANCE)


def test_a_label_map_without_names_gets_the_models(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    label = block(geometry)
    label[0, 0, 0] = 5
    image, rough = files(tmp_path, geometry, label, suffix=".nii.gz")
    _, result = refined(tmp_path, model_that(tmp_path, KEEP), image, rough)
    assert [(s.value, s.name) for s in result.segments] == [(1, "organ"), (5, "Segment_5")]
    np.testing.assert_array_equal(result.array, label)


def test_the_model_looks_at_the_masks_box_and_the_margin_alone(tmp_path: Path) -> None:
    geometry = Geometry((30, 40, 40), (4.0, 4.0, 4.0))
    label = np.zeros(geometry.size_dhw, np.uint8)
    label[12:20, 12:30, 11:29] = 1  # larger than the patch, so that the margin decides
    image, rough = files(tmp_path, geometry, label)
    model = model_that(tmp_path, ENHANCE)
    for margin_mm, voxels in ((0.0, 0), (7.0, 2), (20.0, 5)):
        _, result = refined(tmp_path, model, image, rough, margin_mm=margin_mm, overwrite=True)
        expected = np.zeros_like(label)
        expected[12 - voxels : 20 + voxels, 12 - voxels : 30 + voxels, 11 - voxels : 29 + voxels] = 1
        np.testing.assert_array_equal(result.array, expected)


# Nested regions.


def nested_label(geometry: Geometry) -> np.ndarray:
    return np.maximum(block(geometry, 1, 0.2), block(geometry, 2, 0.35))


def test_nested_regions_are_refined_as_wholes(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    label = nested_label(geometry)
    image, rough = files(tmp_path, geometry, label, (Segment(1, "whole"), Segment(2, "core")))
    done, kept = refined(tmp_path, model_that(tmp_path, KEEP, NESTED), image, rough)
    np.testing.assert_array_equal(kept.array, label)
    assert [row["structure"] for row in done.changes] == ["whole", "core"]
    # the whole is what it consists of, not what is left around the core
    assert done.changes[0]["before_ml"] == pytest.approx((label > 0).sum() * 0.064)
    assert done.changes[1]["before_ml"] == pytest.approx((label == 2).sum() * 0.064)
    _, grown = refined(tmp_path, model_that(tmp_path, ENHANCE, NESTED), image, rough, overwrite=True)
    assert (grown.array[label > 0] == 2).all()  # both regions grow; the inner one is drawn last
    _, gone = refined(tmp_path, model_that(tmp_path, WEAKEN, NESTED), image, rough, overwrite=True)
    assert not gone.array.any()


def test_one_of_two_nested_regions_can_be_asked_for(tmp_path: Path) -> None:
    geometry = GRIDS["anisotropic"]
    label = nested_label(geometry)
    image, rough = files(tmp_path, geometry, label, (Segment(1, "whole"), Segment(2, "core")))
    model = model_that(tmp_path, ENHANCE, NESTED)
    done, result = refined(tmp_path, model, image, rough, structures=["WHOLE"])
    np.testing.assert_array_equal(result.array == 2, label == 2)
    assert (result.array == 1).sum() > (label == 1).sum()
    assert [row["structure"] for row in done.changes] == ["whole"]
    assert done.changes[0]["after_ml"] > done.changes[0]["before_ml"]


# From scratch.


def test_without_a_rough_mask_it_segments_from_scratch(trained: Path, tmp_path: Path) -> None:
    image, _ = make_phantom(3, (10, 20, 20), (4.0, 4.0, 4.0))
    geometry = Geometry((10, 20, 20), (4.0, 4.0, 4.0))
    path = write_image(tmp_path / "image.nii.gz", image[0], geometry)
    done, result = refined(tmp_path, trained, path, None)
    assert [(s.value, s.name) for s in result.segments] == [(1, "part 1")]
    assert done.changes[0]["before_ml"] == 0
    assert done.changes[0]["after_ml"] == pytest.approx((result.array == 1).sum() * 0.064)
    assert done.changes[0]["added_ml"] == done.changes[0]["after_ml"]


def test_a_model_without_mask_agents_blends_by_trust(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    label = block(geometry)
    image, rough = files(tmp_path, geometry, label)
    model = model_that(tmp_path, None)
    _, scratch = refined(tmp_path, model, image, None, margin_mm=1000.0)
    changed = []
    for trust in (0.0, 0.1, 0.3, 0.6, 0.9, 1.0):
        _, result = refined(tmp_path, model, image, rough, trust=trust, margin_mm=1000.0, overwrite=True)
        changed.append(int((result.array != label).sum()))
        if trust == 0:
            assert (result.array == scratch.array).mean() > 0.99
    assert changed == sorted(changed, reverse=True)
    assert changed[0] > 0 == changed[-1]


def test_trust_is_a_threshold_that_only_rises() -> None:
    thresholds = [threshold_of(t) for t in np.linspace(0, 1, 21)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] == 0.5  # one of three actions is likelier than the others together
    assert thresholds[-2] < 1 < thresholds[-1]


def test_several_channels_in_their_order(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    other = write_image(tmp_path / "other.nrrd", np.ones(geometry.size_dhw, np.float32), geometry)
    model = model_that(tmp_path, KEEP, channels=2)
    done = refine([image, other], rough, model=model, output=tmp_path / "out.nrrd", device="cpu")
    assert done.output.is_file()
    for given in (image, [image], [image, other, image]):
        with pytest.raises(InputError, match="needs 2 image channels"):
            refine(given, rough, model=model, output=tmp_path / "no.nrrd", device="cpu")
    assert not (tmp_path / "no.nrrd").exists()


# What is done to the result.


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, 4),
        ({"smallest_fragment_ml": 4 * 0.064}, 4),
        ({"smallest_fragment_ml": 0.3}, 0),
        ({"keep_largest": True}, 0),
    ],
)
def test_islands_of_what_was_refined_go_where_asked(tmp_path: Path, options: dict[str, Any], left: int) -> None:
    geometry = GRIDS["as_trained"]
    label = with_islands(geometry)
    image, rough = files(tmp_path, geometry, label, (Segment(7, "organ"), Segment(3, "other")))
    done, result = refined(tmp_path, model_that(tmp_path, KEEP), image, rough, **options)
    assert (result.array[0, 0, :4] == 7).sum() == left
    np.testing.assert_array_equal(result.array == 3, label == 3)  # nobody asked for these
    np.testing.assert_array_equal(result.array[1:] == 7, label[1:] == 7)
    assert done.changes[0]["removed_ml"] == pytest.approx((4 - left) * 0.064)


def test_islands_of_nested_regions() -> None:
    label = np.zeros((3, 12, 12), np.uint8)
    label[:, 1:9, 1:9], label[:, 2:5, 2:5], label[1, 7, 7] = 1, 2, 2  # the core has an island inside the whole
    label[1, 11, 10:12] = 1, 2  # and there is an island of both
    members = {0: [1, 2], 1: [2]}
    clean = without_fragments(label, members, [0, 1], 3, False)
    assert clean[1, 7, 7] == 1
    assert not clean[1, 11].any()
    assert (clean != label).sum() == 3
    only_core = without_fragments(label, members, [1], 3, True)
    assert only_core[1, 7, 7] == only_core[1, 11, 11] == only_core[1, 11, 10] == 1
    only_whole = without_fragments(label, members, [0], 3, False)
    assert (only_whole[1, 7, 7], only_whole[1, 11, 10], only_whole[1, 11, 11]) == (2, 0, 2)


def test_more_policy_steps_are_more_edits(tmp_path: Path) -> None:
    """Steps of 0.4: one cannot cross one half from 0, two can."""
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    model = model_that(tmp_path, ENHANCE)
    voxels = [
        int(refined(tmp_path, model, image, rough, policy_steps=n, overwrite=True)[1].array.sum()) for n in (0, 1, 2)
    ]
    assert voxels[1] == block(geometry).sum() < voxels[2] == voxels[0]


def test_far_pieces_that_nobody_drew_go_back_to_the_mask() -> None:
    rough = np.zeros((20, 20, 40), np.float32)
    rough[5:10, 5:10, 5:10] = 1
    belief = 0.9 * rough
    belief[5:10, 5:10, 12:14] = 0.8  # 2 voxels away: may be a part the user missed
    belief[5:10, 5:10, 30:34] = 0.8  # 20 voxels away
    near = without_far_pieces(belief, rough, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(near[..., :28], belief[..., :28])
    assert near[..., 28:].max() == 0
    far = without_far_pieces(belief, rough, (1.0, 1.0, 6.0))  # 2 voxels are 12 mm here
    assert far[..., 10:].max() == 0
    np.testing.assert_array_equal(without_far_pieces(belief, 0 * rough, (1.0, 1.0, 1.0)), belief)
    np.testing.assert_array_equal(without_far_pieces(0 * belief, rough, (1.0, 1.0, 1.0)), 0 * belief)


def test_a_small_u_net_needs_no_monai(tmp_path: Path) -> None:
    """MONAI takes longer to import than all else, torch included."""
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    code = (
        "import sys; from SVLDRLCore.cli import main; status = main(sys.argv[1:])\n"
        "heavy = {'monai', 'scipy.stats', 'matplotlib', 'SVLDRLCore.training.train'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "sys.exit(status)\n"
    )
    model, output = model_that(tmp_path, ENHANCE), tmp_path / "out.nrrd"
    command = ["refine", str(image), str(rough), "--model", str(model), "--output", str(output), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_label(output).array.any()
