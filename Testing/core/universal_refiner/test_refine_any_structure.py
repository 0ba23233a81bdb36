"""A rough mask of any structure is refined without a model, and what cannot be judged is left as drawn."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.files.volumes import Geometry, Segment, read_image, read_label, write_image, write_label
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.jobs.refine_any_structure import segments_to_refine
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.modes import NOTHING, Rule, changed_where_sure, expected_gain, moved_to_habit
from SVLDRLCore.universal_refiner.neighbours import filled_together, put_together, segments_in_boxes
from SVLDRLCore.universal_refiner.refining import (
    BESIDE_THE_EDGE,
    NO_CONTRAST,
    NO_OUTSIDE,
    TOO_SMALL,
    TOO_THIN,
    refine_mask,
)
from SVLDRLCore.universal_refiner.skipped_slices import filling_of
from SVLDRLCore.universal_refiner.working_grid import working_grid


def ball(size: int = 36, radius: float = 10.0, centre: float | None = None) -> np.ndarray:
    at = np.indices((size,) * 3) - (size / 2 if centre is None else centre)
    return (at**2).sum(0) < radius**2


def seen(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.08, mask.shape)
    return (0.3 + 0.5 * mask + noise).astype(np.float32)


def test_a_bite_is_filled_in_the_default_mode() -> None:
    truth = ball()
    rough = truth & ~ball(radius=5.0, centre=12.0)
    done = refine_mask(seen(truth), rough, (1.0, 1.0, 1.0))
    assert dice_of(done.mask, truth) > dice_of(rough, truth) + 0.01
    assert done.reasons == ()
    assert done.confidence.dtype == np.float32
    assert 0 <= done.confidence.min() <= done.confidence.max() <= 1


@pytest.mark.parametrize("radius", [8.0, 12.0])
def test_snap_moves_the_border_to_the_edge_and_even_out_keeps_its_offset(radius: float) -> None:
    truth, rough = ball(), ball(radius=radius)
    snapped, even = (refine_mask(seen(truth), rough, (1.0, 1.0, 1.0), mode=m).mask for m in ("snap", "even_out"))
    assert dice_of(snapped, truth) > dice_of(rough, truth) + 0.05
    assert dice_of(even, rough) > 0.95


def test_a_clean_mask_stays() -> None:
    truth = ball()
    assert dice_of(refine_mask(seen(truth), truth, (1.0, 1.0, 1.0)).mask, truth) > 0.99


def test_trusted_slices_stay_and_set_the_offset() -> None:
    truth, rough = ball(), ball(radius=12.0)
    trusted = np.zeros_like(rough)
    trusted[14:22] = True
    free, told = (
        refine_mask(seen(truth), rough, (1.0, 1.0, 1.0), mode="snap", trusted=t).mask for t in (None, trusted)
    )
    assert np.array_equal(told[trusted], rough[trusted])
    assert dice_of(told, rough) > dice_of(free, rough) + 0.05


def test_locked_voxels_stay() -> None:
    truth, rough = ball(), ball(radius=12.0)
    locked = np.zeros_like(rough)
    locked[:, :, :18] = True
    done = refine_mask(seen(truth), rough, (1.0, 1.0, 1.0), mode="snap", locked=locked).mask
    assert np.array_equal(done[locked], rough[locked])
    assert not np.array_equal(done, rough)


@pytest.mark.parametrize(
    ("image", "mask", "reason"),
    [
        (seen(ball()), np.zeros((36,) * 3, bool), TOO_SMALL),
        (seen(ball()), ball(radius=1.2), TOO_SMALL),
        (seen(ball()), np.ones((36,) * 3, bool), NO_OUTSIDE),
        (np.full((36,) * 3, 7.0, np.float32), ball(), NO_CONTRAST),
    ],
)
def test_what_cannot_be_judged_is_left_as_drawn(image: np.ndarray, mask: np.ndarray, reason: str) -> None:
    done = refine_mask(image, mask, (1.0, 1.0, 1.0))
    assert np.array_equal(done.mask, mask)
    assert done.reasons == (reason,)


@pytest.mark.parametrize("shape", [(1, 40, 40), (40, 1, 40), (3, 40, 40), (40, 40, 2)])
@pytest.mark.parametrize("spacing", [(8.0, 0.4, 0.4), (0.4, 0.8, 3.0)])
def test_flat_volumes_and_uneven_spacings_are_refined(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    at = np.indices(shape) - np.reshape([n / 2 for n in shape], (3, 1, 1, 1))
    mask = (at**2).sum(0) < 100
    assert refine_mask(seen(mask), mask, spacing, mode="snap").mask.any()


def test_a_mask_at_the_image_border_and_several_channels() -> None:
    truth = ball(centre=3.0)
    image = np.stack([np.zeros_like(seen(truth)), seen(truth)])
    done = refine_mask(image, ball(radius=8.0, centre=3.0), (1.0, 1.0, 1.0), mode="snap")
    assert dice_of(done.mask, truth) > 0.85


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("every", [2, 4, 8])
def test_skipped_slices_are_filled(axis: int, every: int) -> None:
    truth = ball(60, 24.0)
    sparse = np.zeros_like(truth)
    drawn = [slice(None)] * axis + [slice(6, None, every)]
    sparse[tuple(drawn)] = truth[tuple(drawn)]
    filling = filling_of(sparse, seen(truth))
    filled, count = filling.mask, len(filling.depths)
    assert dice_of(filled, truth) > 0.9  # nothing is drawn beyond the last drawn slices
    assert count > 15
    assert np.array_equal(filled[tuple(drawn)], truth[tuple(drawn)])


def test_a_single_gap_stays_as_it_may_be_anatomy() -> None:
    mask = ball()
    mask[18] = False
    for given in (mask, ball()):
        filling = filling_of(given, seen(ball()))
        assert filling.mask is given
        assert not filling.depths


@pytest.mark.parametrize("thick", [1, 2])
def test_discs_with_other_tissue_between_them_stay_apart(thick: int) -> None:
    discs = np.zeros((40, 30, 30), bool)
    at = np.indices((30, 30)) - 14.5
    discs[np.arange(40) % 6 < thick] = (at**2).sum(0) < 81
    image = seen(discs)
    assert filling_of(discs, image).mask is discs
    assert dice_of(refine_mask(image, discs, (3.0, 1.0, 1.0)).mask, discs) > 0.95


def test_what_is_too_thin_for_the_working_grid_says_so() -> None:
    thin = np.zeros((200, 200, 200), bool)
    for i in range(8, 192):
        thin[i, i, i : i + 2] = True
    done = refine_mask(seen(thin), thin, (0.5, 0.5, 0.5))
    assert done.reasons == (TOO_THIN,)
    assert np.array_equal(done.mask, thin)


def test_an_image_that_is_not_finite_is_refused() -> None:
    image = seen(ball())
    image[18, 18, 18] = np.nan
    with pytest.raises(InputError, match="not finite"):
        refine_mask(image, ball(), (1.0, 1.0, 1.0))


def test_what_was_filled_and_what_snapping_would_move_is_told() -> None:
    truth = ball()
    sparse = truth.copy()
    sparse[1::2] = False
    done = refine_mask(seen(truth), sparse, (1.0, 1.0, 1.0))
    assert dice_of(done.mask, truth) > 0.95
    assert any("skipped slices were filled" in hint for hint in done.hints)
    wide, right = (refine_mask(seen(truth), mask, (1.0, 1.0, 1.0)).hints for mask in (ball(radius=12.0), truth))
    assert wide == (BESIDE_THE_EDGE,)
    assert right == ()


def test_a_wrong_mode_and_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="is none"):
        refine_mask(seen(ball()), ball(), (1.0, 1.0, 1.0), mode="melt")
    with pytest.raises(InputError, match="shape"):
        refine_mask(seen(ball()), ball(30), (1.0, 1.0, 1.0))


def test_what_is_likely_changes_near_to_what_is_sure_alone() -> None:
    mask = ball()
    belief = np.where(ball(radius=11.0), 0.7, 0.0).astype(np.float32)
    belief[mask] = 1.0
    belief[17:20, 17:20, 28:30] = 0.99
    none, near = (changed_where_sure(mask, belief, Rule(0.9, spread), (1.0, 1.0, 1.0)) for spread in (0.0, 2.0))
    assert (none != mask).sum() == ((belief == np.float32(0.99)) & ~mask).sum() > 0
    assert (none & ~mask).sum() < (near & ~mask).sum() < (ball(radius=11.0) & ~mask).sum() / 4
    assert not near[18, 18, 7]


def test_what_a_change_promises_is_what_the_belief_says() -> None:
    mask, belief = ball(), ball(radius=11.0).astype(np.float32)
    gain = expected_gain(mask, ball(radius=11.0), belief)
    assert gain == pytest.approx(1 - dice_of(mask, ball(radius=11.0)), abs=1e-4)
    made = [changed_where_sure(mask, belief, rule, (1.0, 1.0, 1.0)) for rule in (Rule(0.9), NOTHING)]
    assert np.array_equal(made[0], ball(radius=11.0))
    assert np.array_equal(made[1], mask)


def test_a_habit_is_measured_where_the_mask_is_trusted() -> None:
    snapped, drawn = ball(), ball(radius=12.0)
    moved = moved_to_habit(drawn, snapped, np.ones_like(drawn), (1.0, 1.0, 1.0))
    assert moved is not None
    assert dice_of(moved, drawn) > 0.97
    assert moved_to_habit(drawn, snapped, np.zeros_like(drawn), (1.0, 1.0, 1.0)) is None


def test_a_large_mask_is_refined_in_blocks_and_what_stays_is_the_same_to_the_voxel() -> None:
    mask = ball(100, 40.0)
    grid = working_grid(mask, (0.5, 0.5, 0.5))
    assert grid.factors == (2, 2, 2)
    shares = grid.shrunk(mask)
    assert np.array_equal(grid.changed(mask, shares, shares > 0.5), mask)
    wider = working_grid(mask, (0.5, 0.5, 0.5)).shrunk(ball(100, 44.0)) > 0.5
    assert dice_of(grid.changed(mask, shares, wider), ball(100, 44.0)) > 0.98


@pytest.fixture
def case(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    one, two = ball(), ball(radius=4.0, centre=31.0)
    geometry = Geometry(one.shape, (2.0, 1.0, 1.0))
    image = write_image(tmp_path / "image.nrrd", seen(one | two), geometry)
    bitten = one & ~ball(radius=5.0, centre=12.0)
    label = np.where(bitten, 1, np.where(two, 4, 0)).astype(np.uint8)
    rough = write_label(tmp_path / "rough.seg.nrrd", label, geometry, (Segment(1, "organ"), Segment(4, "node")))
    return image, rough, one


def test_each_segment_is_refined_and_keeps_its_name(case: tuple[Path, Path, np.ndarray], tmp_path: Path) -> None:
    image, rough, one = case
    shares: list[float] = []
    done = refine(
        image, rough, output=tmp_path / "out.seg.nrrd", confidence=tmp_path / "sure.nrrd",
        listeners=[lambda e: shares.append(e["done"]) if e["event"] == "progress" else None],
    )  # fmt: skip
    result = read_label(done.output)
    assert [s.name for s in result.segments] == ["organ", "node"]
    assert dice_of(result.array == 1, one) > dice_of(read_label(rough).array == 1, one)
    assert [(row["structure"], row["reason"]) for row in done.changes] == [("organ", ""), ("node", "")]
    assert shares == sorted(shares)
    assert read_image(tmp_path / "sure.nrrd").array.shape == one.shape


def test_only_what_is_asked_for_is_refined(case: tuple[Path, Path, np.ndarray], tmp_path: Path) -> None:
    image, rough, _ = case
    done = refine(image, rough, output=tmp_path / "out.nrrd", structures=["Node"], trust=0.9)
    assert "Without a model this has no effect: the trust in the mask." in done.warnings
    assert np.array_equal(read_label(done.output).array == 1, read_label(rough).array == 1)
    with pytest.raises(InputError, match="no model is given"):
        refine(image, rough, output=tmp_path / "no.nrrd", steps=tmp_path / "steps")
    with pytest.raises(InputError, match="no segment has voxels"):
        refine(image, rough, output=tmp_path / "no.nrrd", structures=["liver"])


def test_a_cancelled_refinement_writes_nothing(case: tuple[Path, Path, np.ndarray], tmp_path: Path) -> None:
    control = JobControl()
    control.cancel()
    with pytest.raises(Cancelled):
        refine(case[0], case[1], output=tmp_path / "out.nrrd", control=control)
    assert not (tmp_path / "out.nrrd").exists()


def test_it_needs_no_torch(tmp_path: Path) -> None:
    """Loading torch and MONAI takes several times as long as the refinement."""
    truth = ball(24, 7.0)
    write_image(tmp_path / "i.nrrd", seen(truth), Geometry(truth.shape))
    write_label(tmp_path / "r.nrrd", truth.astype(np.uint8), Geometry(truth.shape))
    code = (
        "import sys; from SVLDRLCore.cli import main; status = main(sys.argv[1:])\n"
        "heavy = {'torch', 'monai', 'scipy.stats', 'matplotlib'} & sys.modules.keys(); assert not heavy, heavy\n"
        "sys.exit(status)\n"
    )
    command = ["refine", str(tmp_path / "i.nrrd"), str(tmp_path / "r.nrrd"), "--output", str(tmp_path / "o.nrrd")]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.nrrd").is_file()


def test_touching_segments_are_filled_side_by_side_and_lose_nothing_drawn() -> None:
    at = np.indices((17, 24, 24)) - 11.5
    truth = np.where(np.hypot(at[1], at[2]) < 9, np.where(at[2] + 0.5 * at[0] > -2, 2, 1), 0)
    label = np.zeros_like(truth)
    label[::4] = truth[::4]
    image, rows = seen(truth > 0)[None], {"one": [1], "two": [2]}
    parts = list(segments_in_boxes(image, label, rows, (1.0, 1.0, 1.0), lambda: None).values())
    filled = filled_together(label, parts)
    assert min(dice_of(filled == value, truth == value) for value in (1, 2)) > 0.95
    assert not ((filled == 0) & (truth > 0)).any()  # no crack between them
    np.testing.assert_array_equal(filled[::4], label[::4])
    # even a segment that would grow over everything takes no slice of the other, and one that shrinks leaves its own
    everything = np.ones(parts[0].mask.shape, bool)
    grown = put_together(label, filled, [(parts[0], everything), (parts[1], filled[parts[1].box] == 2)], (1, 1, 1))
    assert ((grown == 2) | (filled != 2)).all()
    alone = put_together(label, filled, [(parts[0], everything)], (1, 1, 1))
    assert not (alone[filled == 2] == 1).any()
    given = put_together(label, filled, [(parts[0], everything), (parts[1], parts[1].mask)], (1, 1, 1))
    assert (given[(filled == 2) & (label == 0)] == 1).all()


def test_what_is_told_of_skipped_slices_is_what_stayed_and_what_is_left() -> None:
    truth = ball()
    sparse, never = truth.copy(), np.zeros_like(truth)
    sparse[1::2] = False
    never[1:22:2] = True
    done = refine_mask(seen(truth), sparse, (1.0, 1.0, 1.0), locked=never)
    stayed = int((done.mask & ~sparse)[11:26:2].any((1, 2)).sum())
    assert done.hints == (f"{stayed} skipped slices were filled",)
    assert 0 < stayed < 8
    far = np.zeros((60,) * 3, bool)
    far[[10, 24, 38]] = ball(60, 24.0)[[10, 24, 38]]
    assert filling_of(far, seen(ball(60, 24.0))).left == 26
    (hint,) = refine_mask(seen(ball(60, 24.0)), far, (1.0, 1.0, 1.0)).hints
    assert hint.startswith("26 slices between drawn ones stay empty")
    assert filling_of(far, seen(far)).left == 0  # nothing shows there


def test_a_segment_does_not_take_the_skipped_slices_of_its_neighbour(tmp_path: Path) -> None:
    at = np.indices((24,) * 3) - 11.5
    truth = np.where((abs(at[0]) < 10) & (abs(at[1:]) < 3).all(0), np.where(at[2] > 0, 2, 1), 0).astype(np.uint8)
    label = np.zeros_like(truth)
    label[::4] = truth[::4]
    image = write_image(tmp_path / "image.nrrd", seen(truth > 0), Geometry(truth.shape))
    rough = write_label(tmp_path / "rough.nrrd", label, Geometry(truth.shape))
    done = refine(image, rough, output=tmp_path / "out.nrrd", mode="snap")
    result = read_label(done.output).array[2:22]
    assert min(dice_of(result == value, truth[2:22] == value) for value in (1, 2)) > 0.9


def test_segments_of_one_name_keep_their_own_slices_and_what_others_hold_is_not_told_as_filled(tmp_path: Path) -> None:
    """Two kidneys of one name; a third segment lies in all slices that a fourth skips."""
    rough, image = np.zeros((25, 34, 38), np.uint8), np.full((25, 34, 38), 50, np.float32)
    z, y, x = np.indices(rough.shape)
    for value, centre in ((1, 9), (2, 28)):
        there = (2 * (z - 12)) ** 2 + (y - 10) ** 2 + (x - centre) ** 2 < 49
        image[there], rough[there] = 200, value
    rough[1::2] = 0
    rough[::2, 24:30, 10:20], rough[1::2, 24:30, 10:20] = 3, 4
    geometry = Geometry(rough.shape, (2.0, 1.0, 1.0))
    write_image(tmp_path / "image.nrrd", image + np.random.default_rng(0).normal(0, 4, image.shape), geometry)
    names = (Segment(1, "Kidney"), Segment(2, "Kidney"), Segment(3, "even"), Segment(4, "odd"))
    write_label(tmp_path / "rough.seg.nrrd", rough, geometry, names)
    done = refine(tmp_path / "image.nrrd", tmp_path / "rough.seg.nrrd", output=tmp_path / "out.seg.nrrd")
    found = read_label(tmp_path / "out.seg.nrrd").array
    assert not (found[:, :20, :18] == 2).any()
    assert not (found[:, :20, 20:] == 1).any()
    assert (found[11:14, 10, 28] == 2).all()
    assert any("Kidney" in text and "filled" in text for text in done.warnings)
    assert not any(name in text and "filled" in text for text in done.warnings for name in ("even", "odd"))


def test_names_that_differ_in_case_are_chosen_as_they_are_spelled(case: tuple[Path, Path, np.ndarray]) -> None:
    named = replace(read_label(case[1]), segments=(Segment(1, "Kidney"), Segment(4, "kidney")))
    assert segments_to_refine(named, ["kidney"]) == {"kidney": [4]}
    assert segments_to_refine(named, ["KIDNEY"]) == {"Kidney": [1], "kidney": [4]}
