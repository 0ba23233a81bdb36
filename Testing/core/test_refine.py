"""Refining a rough mask: on the image's own grid, nothing touched that was not asked for, nothing lost on errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SVLDRLCore.commands import learn_from_case
from SVLDRLCore.commands.refine import Refinement, refine
from SVLDRLCore.commands.segment_matching import match_structures
from SVLDRLCore.commands.train import train
from SVLDRLCore.config import load_config
from SVLDRLCore.data.phantoms import make_phantom, write_phantom_dataset
from SVLDRLCore.data.structures import Structures, structures_of
from SVLDRLCore.data.volumes import Geometry, Segment, Volume, read_label, same_geometry, write_image, write_label
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.exchange.model_package import save_package
from SVLDRLCore.exchange.trained_model import build_mask_network, build_networks, package_config, package_tensors
from SVLDRLCore.inference.islands import without_far_pieces, without_islands
from SVLDRLCore.inference.refinement import threshold_of
from SVLDRLCore.job_control import JobControl

PATCH = [8, 16, 16]
TINY: dict[str, Any] = {
    "data": {"patch_size": PATCH, "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"feature_size": 8, "levels": 3},
    "agents": {"rollout_steps": 1},
    "mask_agents": {"opinion_steps": 6, "reinforcement_steps": 2, "rollout_steps": 2, "step_size": 0.4},
    "train": {"steps": 12, "batch_size": 1, "device": "cpu"},
}
KEEP, ENHANCE, WEAKEN = range(3)
ONE = structures_of({1: "organ"})
NESTED = structures_of({1: "rim", 2: "core"}, {"whole": (1, 2), "core": (2,)})

ROTATED = tuple(np.linalg.qr(np.array([[0.9, 0.3, 0.1], [-0.3, 0.9, 0.2], [0.1, -0.2, 0.95]]))[0].ravel().tolist())
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
GRIDS = {
    "as_trained": Geometry((12, 20, 20), (4.0, 4.0, 4.0), (1.0, 2.0, 3.0)),
    "oblique": Geometry((12, 22, 20), (4.0, 3.5, 3.5), (10.0, -20.0, 30.0), ROTATED),
    "flipped": Geometry((12, 20, 22), (4.0, 4.0, 4.0), (-5.0, 5.0, 0.0), FLIPPED),
    "sagittal": Geometry((20, 12, 24), (4.0, 4.0, 3.0), (0.0, 0.0, 0.0), SAGITTAL),
    "anisotropic": Geometry((9, 40, 44), (7.0, 1.9, 1.9)),
    "single_slice": Geometry((1, 36, 40), (5.0, 2.0, 2.0)),
    "smaller_than_the_patch": Geometry((5, 9, 10), (4.0, 4.0, 4.0)),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A model of a few steps, through the command."""
    folder = tmp_path_factory.mktemp("trained")
    datalist = write_phantom_dataset(folder / "data", 3, 0, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    return train(datalist, folder / "run", overrides=TINY)


def model_that(
    folder: Path, action: int | None, structures: Structures = ONE, channels: int = 1, spacing: list | None = None
) -> Path:
    """A model package whose mask agents always want one action; None: a model without mask agents."""
    overrides = TINY | {"data": TINY["data"] | {"spacing_mm": spacing or [4.0, 4.0, 4.0]}}
    config = load_config("general", "extended", overrides)
    torch.manual_seed(0)
    network, agents = build_networks(config, channels, structures), None
    if action is not None:
        mask_network = build_mask_network(config, channels, structures)
        torch.nn.init.zeros_(mask_network.policy_head.weight)
        torch.nn.init.zeros_(mask_network.policy_head.bias)
        with torch.no_grad():
            mask_network.policy_head.bias[action] = 50.0
        agents = mask_network.state_dict()
    path = folder / f"model_{action}_{channels}"
    save_package(
        path,
        tensors=package_tensors(network.state_dict(), agents),
        config=package_config(config, "svl_drl", channels, structures),
        labels={value: {"name": name} for value, name in structures.labels.items()},
        training_rows=[],
        card="A model for tests.",
    )
    return path


def block(geometry: Geometry, value: int = 1, shrink: float = 0.3) -> np.ndarray:
    """A box in the middle of the volume."""
    label = np.zeros(geometry.size_dhw, np.uint8)
    low = [int(n * shrink) for n in label.shape]
    label[tuple(slice(a, max(a + 1, n - a)) for a, n in zip(low, label.shape))] = value
    return label


def files(
    folder: Path, geometry: Geometry, label: np.ndarray, segments: tuple[Segment, ...] = (), suffix: str = ".seg.nrrd"
) -> tuple[Path, Path]:
    """An image and a rough mask."""
    image = 100 * np.random.default_rng(0).random(geometry.size_dhw).astype(np.float32) + 300.0 * (label > 0)
    return (
        write_image(folder / "image.nrrd", image, geometry),
        write_label(folder / f"rough{suffix}", label, geometry, segments),
    )


def refined(
    folder: Path, model: Path | None, image: Path, rough: Path | None, **more: Any
) -> tuple[Refinement, Volume]:
    output = more.pop("output", folder / "refined.seg.nrrd")
    done = refine(image, rough, model=model, output=output, device="cpu", **more)
    assert done.output == output
    return done, read_label(output)


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


def with_islands(geometry: Geometry) -> np.ndarray:
    """A block of 7 with an island of 4 voxels, and one of 3 with an island of its own."""
    label = block(geometry, 7)
    label[0, 0, :4] = 7
    label[-1, -3:, -2:] = 3
    label[-1, 0, 0] = 3
    return label


@pytest.mark.parametrize(
    ("options", "left"),
    [({}, 4), ({"smallest_island_ml": 4 * 0.064}, 4), ({"smallest_island_ml": 0.3}, 0), ({"keep_largest": True}, 0)],
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
    clean = without_islands(label, members, [0, 1], 3, False)
    assert clean[1, 7, 7] == 1
    assert not clean[1, 11].any()
    assert (clean != label).sum() == 3
    only_core = without_islands(label, members, [1], 3, True)
    assert only_core[1, 7, 7] == only_core[1, 11, 11] == only_core[1, 11, 10] == 1
    only_whole = without_islands(label, members, [0], 3, False)
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


# From this case alone.


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn_from_case, "STEPS", 8)


@pytest.mark.usefixtures("short")
def test_it_learns_from_this_case_alone(tmp_path: Path) -> None:
    geometry, seen = Geometry((12, 24, 22), (4.0, 3.0, 3.0), (1.0, 2.0, 3.0), FLIPPED), []
    label = with_islands(geometry)
    segments = (Segment(7, "Mine", (0.1, 0.2, 0.3)), Segment(3, "Other"))
    image, rough = files(tmp_path, geometry, label, segments)
    kept = tmp_path / "kept"
    done, result = refined(
        tmp_path, None, image, rough, structures=["mine"], learn_from_this_case=True, keep_model=kept, trust=0.0,
        listeners=[seen.append],
    )  # fmt: skip
    assert same_geometry(result.geometry, geometry)
    assert result.segments == segments
    np.testing.assert_array_equal(result.array == 3, label == 3)
    assert [row["structure"] for row in done.changes] == ["Mine"]
    assert done.changes[0]["dice"] < 1  # it has an opinion of its own
    events = [e["event"] for e in seen]
    assert (events.count("started"), events.count("finished"), events[-1]) == (1, 1, "finished")
    assert {"warm_up", "predicting"} <= {e["stage"] for e in seen if e["event"] == "progress"}
    assert any(e["seconds_left"] is not None for e in seen if e["event"] == "progress" and e["stage"] == "warm_up")
    _, again = refined(tmp_path, kept, image, rough, trust=0.0, output=tmp_path / "again.seg.nrrd")
    np.testing.assert_array_equal(again.array, result.array)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.seg.nrrd", "image.nrrd", "kept", "refined.seg.nrrd", "rough.seg.nrrd",
    ]  # fmt: skip


@pytest.mark.usefixtures("short")
def test_a_cancel_while_it_learns_leaves_nothing(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    before, control = sorted(tmp_path.iterdir()), JobControl()
    stop = [lambda event: control.cancel("enough") if event.get("stage") == "warm_up" else None]
    with pytest.raises(Cancelled, match="enough"):
        refined(tmp_path, None, image, rough, learn_from_this_case=True, listeners=stop, control=control)
    assert sorted(tmp_path.iterdir()) == before


def test_a_large_image_is_learned_from_on_a_coarser_grid() -> None:
    geometry = Geometry((40, 200, 200), (2.0, 0.5, 0.5))
    array = np.zeros(geometry.size_dhw, np.uint8)
    array[10:30, 20:180, 20:180] = 1  # 80 mm
    grid, size = learn_from_case._grid(Volume(array.astype(np.float32), geometry), Volume(array, geometry))
    assert grid == pytest.approx((79.5 / 64, 79.5 / 64, 2.0), abs=1e-3)
    assert size == (40, 81, 81)


# Matching structures to segments.


def volume_of(array: list[int], names: dict[int, str]) -> Volume:
    data = np.array(array, np.uint8).reshape(1, 1, -1)
    return Volume(data, Geometry(data.shape), tuple(Segment(v, n) for v, n in names.items()), Path("rough.seg.nrrd"))


def test_structures_are_matched_by_name_then_by_value_then_as_the_only_ones() -> None:
    two = structures_of({1: "Left Atrium", 2: "Aorta"})
    assert match_structures(two, volume_of([0, 5, 6], {5: " left atrium ", 6: "AORTA"}), ()) == {0: 5, 1: 6}
    assert match_structures(two, volume_of([0, 2, 1], {}), ()) == {0: 1, 1: 2}
    assert match_structures(two, volume_of([0, 2, 9], {9: "left atrium"}), ()) == {0: 9, 1: 2}
    assert match_structures(two, volume_of([0, 1], {1: "aorta"}), ()) == {1: 1}  # a value is given to one only
    assert match_structures(ONE, volume_of([0, 42], {}), ()) == {0: 42}
    assert match_structures(two, volume_of([0, 1, 2], {}), ["aorta "]) == {1: 2}


@pytest.mark.parametrize(
    ("array", "names", "asked", "why"),
    [
        ([0, 0], {}, (), "empty"),
        ([0, 3, 4], {3: "liver", 4: "spleen"}, (), "no segment fits"),
        ([0, 1, 2], {}, ["liver"], "no segment fits"),
    ],
)
def test_rough_masks_that_fit_nothing_are_refused(array: list[int], names: dict, asked: list[str], why: str) -> None:
    two = structures_of({1: "left atrium", 2: "aorta"})
    with pytest.raises(InputError, match=why) as caught:
        match_structures(two, volume_of(array, names), asked)
    assert "rough.seg.nrrd" in caught.value.what


# Errors leave the folder as it was.


def listing(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_an_existing_output_is_kept_unless_overwriting_is_asked(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    model, output = model_that(tmp_path, ENHANCE), tmp_path / "mine.nrrd"
    output.write_text("precious")
    with pytest.raises(InputError, match=r"mine\.nrrd.*exists"):
        refine(image, rough, model=model, output=output, device="cpu")
    assert output.read_text() == "precious"
    refine(image, rough, model=model, output=output, device="cpu", overwrite=True)
    assert read_label(output).array.any()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"trust": 1.5}, "trust"),
        ({"policy_steps": -1}, "policy_steps"),
        ({"smallest_island_ml": -0.5}, "smallest_island_ml"),
        ({"learn_from_this_case": True}, "both were given"),
        ({"model": None}, "none was given"),
        ({"model": None, "rough": None, "learn_from_this_case": True}, "no rough mask to learn from"),
        ({"keep_model": "kept"}, "keep_model"),
        (
            {"model": None, "rough": "void.seg.nrrd", "structures": ["organ"], "learn_from_this_case": True},
            "no segment",
        ),
        ({"overlap": 1.0}, "overlap"),
        ({"structures": ["spleen"]}, "no segment fits"),
        ({"output": "out.txt"}, "out.txt"),
        ({"device": "toaster"}, "toaster"),
        ({"model": "nowhere"}, "nowhere"),
        ({"image": "nowhere.nrrd"}, "nowhere.nrrd"),
        ({"rough": "elsewhere.nrrd"}, "elsewhere.nrrd"),
        ({"rough": "void.seg.nrrd"}, "hold no voxel"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_mistakes_are_named_and_nothing_is_written(tmp_path: Path, change: dict[str, Any], names: str) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    moved = replace(geometry, origin_xyz=(90.0, 0.0, 0.0))
    write_label(tmp_path / "elsewhere.nrrd", block(geometry), moved)
    write_label(tmp_path / "void.seg.nrrd", block(geometry, 4), geometry, [Segment(1, "organ"), Segment(4, "other")])
    model = model_that(tmp_path, ENHANCE)
    given: dict[str, Any] = {"image": image, "rough": rough, "model": model, "output": "out.nrrd", "device": "cpu"}
    given |= change
    for key in ("image", "rough", "model", "output"):
        given[key] = given[key] and tmp_path / given[key]
    before, seen = listing(tmp_path), []
    with pytest.raises(InputError, match=names):
        refine(given.pop("image"), given.pop("rough"), **given, listeners=[seen.append])
    assert listing(tmp_path) == before
    assert seen[-1]["event"] == "failed"


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_half_written(tmp_path: Path, monkeypatch, overwrite: bool) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    model, output = model_that(tmp_path, ENHANCE), tmp_path / "out.nrrd"
    if overwrite:
        output.write_text("the old one")
    before = listing(tmp_path)

    def torn(image: sitk.Image, path: str, **how: Any) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError("disk full")

    given = {"model": model, "output": output, "device": "cpu", "overwrite": overwrite}
    with monkeypatch.context() as patch:
        patch.setattr(sitk, "WriteImage", torn)
        with pytest.raises((RuntimeError, InputError), match="disk full"):
            refine(image, rough, **given)
    assert listing(tmp_path) == before
    control = JobControl()
    stop = [lambda event: control.cancel("enough") if event.get("stage") == "refining" else None]
    with pytest.raises(Cancelled, match="enough"):
        refine(image, rough, **given, listeners=stop, control=control)
    assert listing(tmp_path) == before


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
