"""Voxels under the data set's ignore label count nowhere: not in what is learned, judged, measured or corrected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_trainings import CPU, PATCH, TINY, given_run, run, same_weights

from SVLDRLCore.baselines.adele import ADELESettings, corrected_labels
from SVLDRLCore.benchmarking.corrupt import corrupt
from SVLDRLCore.config.settings import DataConfig, load_config, with_values
from SVLDRLCore.data.cases import TrainingCase, in_memory, load_training_case
from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.data.sampler import PatchSampler
from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.metrics import mask_metrics
from SVLDRLCore.files.datalist import Case, load_datalist, save_datalist
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    read_label,
    write_image,
    write_label,
)
from SVLDRLCore.jobs.audit import audit
from SVLDRLCore.jobs.evaluate import evaluate
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.label_quality.agent_features import label_voxels
from SVLDRLCore.label_quality.border_correction import moved_masks
from SVLDRLCore.label_quality.comparison import compare_label
from SVLDRLCore.label_quality.features import label_features
from SVLDRLCore.masks.alignment import measure_border
from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.image_edge import edge_positions
from SVLDRLCore.masks.known_voxels import completed
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.models.trained_model import build_networks, load_model
from SVLDRLCore.training.registry import METHODS, method_named
from SVLDRLCore.training.train import train

SIZE, SPACING = (10, 20, 20), (4.0, 4.0, 4.0)
ONE = structures_of({1: "organ"})
TWO = structures_of({1: "front", 2: "back"})
NESTED = structures_of({1: "rim", 2: "core"}, {"whole": (1, 2), "core": (2,)})
HIDDEN = np.zeros(SIZE, bool)
HIDDEN[:, :9] = True
"""Nearly half of each case, through the middle of the organ."""


def partly_labelled(structures: Structures, under: str, count: int = 8) -> list[TrainingCase]:
    """Phantoms whose `HIDDEN` voxels nobody has labelled; what the masks hold there is `under`."""
    cases = []
    for seed in range(count):
        image, label = make_phantom(seed, SIZE, SPACING, len(structures.labels), nested=structures.nested)
        masks = structures.masks(label)
        if under == "other":
            other = np.random.default_rng(seed).integers(0, len(masks) + 1, SIZE)
            masks = np.where(HIDDEN, other == np.arange(1, len(masks) + 1)[:, None, None, None], masks)
        elif under == "nothing":
            masks = masks & ~HIDDEN
        cases.append(in_memory(f"case_{seed}", image, masks, SPACING, PATCH, seed % 2 == 0, HIDDEN))
    return cases


def test_a_partly_labelled_case_holds_no_valid_voxel_there() -> None:
    case = partly_labelled(ONE, "nothing", 1)[0]
    np.testing.assert_array_equal(case.valid.numpy()[0] == 0, HIDDEN)
    image = np.zeros((1, 4, 20, 20), np.float32)
    padded = in_memory("small", image, np.zeros((1, 4, 20, 20)), SPACING, PATCH, ignored=HIDDEN[:4])
    np.testing.assert_array_equal(padded.valid.numpy()[0, 2:6] == 0, HIDDEN[:4])
    np.testing.assert_array_equal(padded.ignored[2:6], HIDDEN[:4])
    assert not padded.ignored[:2].any()
    assert in_memory("all", image, image, SPACING, PATCH, ignored=np.zeros((4, 20, 20), bool)).ignored is None


IN_3D = [name for name in METHODS if "unet" in method_named(name).backbones]
"""Those whose agents are in the pixels of a slice: `test_pixel_methods`."""


@pytest.mark.parametrize("method", IN_3D)
@pytest.mark.parametrize("structures", [TWO, NESTED], ids=["exclusive", "nested"])
def test_no_method_learns_from_what_lies_under_it(method: str, structures: Structures) -> None:
    count = 8 if method == "svl_drl" else 5
    settings = {"reliability": {"enabled": method == "svl_drl"}, "mask_agents": {"enabled": method == "svl_drl"}}
    made = [
        run(given_run("extended", method, partly_labelled(structures, under, count), structures, 1, **settings))[0]
        for under in ("nothing", "other")
    ]
    assert same_weights(made[0].network, made[1].network)
    assert same_weights(made[0].mask_network, made[1].mask_network)
    assert made[0].rows == made[1].rows
    assert made[0].reliability == made[1].reliability
    assert made[0].best_score == made[1].best_score
    assert made[0].warnings == made[1].warnings


@pytest.mark.parametrize("variant", ["as_printed", "corrected"])
def test_agents_on_intensities_earn_nothing_there(variant: str) -> None:
    made = [run(given_run(variant, cases=partly_labelled(ONE, under)))[0] for under in ("nothing", "other")]
    assert same_weights(made[0].network, made[1].network)
    assert made[0].rows == made[1].rows


def test_what_lies_beside_it_is_learned_from() -> None:
    cases = partly_labelled(ONE, "nothing")
    changed = [replace(c, masks=c.masks * torch.from_numpy(HIDDEN.copy())) for c in cases[:4]]
    a, b = (run(given_run("corrected", cases=each))[0] for each in (cases, [*changed, *cases[4:]]))
    assert not same_weights(a.network, b.network)


def test_patches_lie_around_labelled_voxels() -> None:
    ignored = np.ones((8, 64, 64), bool)
    ignored[:, :4, :4] = False
    masks = np.zeros((1, 8, 64, 64), np.uint8)
    case = in_memory("c", np.zeros((1, 8, 64, 64), np.float32), masks, SPACING, (8, 8, 8), ignored=ignored)
    sampler = PatchSampler([case], DataConfig(patch_size=(8, 8, 8)), 4, seed=0)
    for _ in range(10):
        batch = sampler.next()
        assert (batch.valid.flatten(1).sum(1) > 0).all()
        assert torch.equal(batch.valid, batch.known)


def ball(radius_mm: float, size: int = 32) -> np.ndarray:
    return np.hypot(np.hypot(*(np.indices((size,) * 3)[1:] - 15.5)), np.indices((size,) * 3)[0] - 15.5) <= radius_mm


def test_where_labels_end_is_no_border() -> None:
    true, spacing = ball(10.0), (1.0, 1.0, 1.0)
    image = true[None].astype(np.float32)
    ignored = np.indices(true.shape)[0] < 14
    drawn = shift_border(true, spacing, -2.0) & ~ignored
    whole = edge_positions(shift_border(true, spacing, -2.0), image, spacing)
    assert edge_positions(drawn, image, spacing, ignored) == pytest.approx(whole, abs=0.3)  # 2 mm outside, as without
    measure = measure_border(completed(drawn, ignored, spacing), true, image, spacing, ignored)
    assert measure.model_mm == pytest.approx(2.0, abs=0.4)
    features = label_features(true[None] * 0.98 + 0.01, drawn[None], spacing, ignored=ignored)
    assert features.bias_mm == pytest.approx(2.0, abs=0.6)
    # Two halves that only unlabelled voxels join are one piece.
    gap = np.abs(np.indices(true.shape)[0] - 15.5) < 3
    assert label_features(None, (true & ~gap)[None], spacing, ignored=gap).fragments == 0.0
    assert label_features(None, (true & ~gap)[None], spacing).fragments > 0.4
    case = in_memory("c", image, drawn[None], spacing, (8, 8, 8), ignored=ignored)
    moved = moved_masks(case, [2.0]).numpy()[0] > 0
    assert ((moved ^ true) & ~ignored).sum() < 0.08 * (true & ~ignored).sum()
    shrunk = moved_masks(case, [-2.0]).numpy()[0] > 0
    assert shrunk[14, 15, 15]  # deep inside, next to the unlabelled voxels: not eroded from there


def test_the_audit_sees_no_fault_there() -> None:
    true, spacing = ball(10.0), (1.0, 1.0, 1.0)
    ignored = np.indices(true.shape)[0] < 14
    probability = true * 0.98 + 0.01
    found = compare_label(true & ~ignored, probability, spacing, ignored)
    assert (found.dice, found.missing, found.leak) == (1.0, 0.0, 0.0)
    assert found.label_voxels == (true & ~ignored).sum()
    other = compare_label(np.where(ignored, ~true, true), probability, spacing, ignored)
    assert other == found
    nothing = compare_label(np.zeros_like(true), probability, spacing, ignored)
    assert nothing.found_voxels == (true & ~ignored).sum()


def test_metrics_leave_it_out() -> None:
    true, spacing = ball(10.0), (1.0, 1.0, 1.0)
    predicted = shift_border(true, spacing, 2.0)
    ignored = np.indices(true.shape)[0] < 14
    whole, part = mask_metrics(predicted, true, spacing), mask_metrics(predicted, true, spacing, ignored=ignored)
    assert part.volume_reference_ml == (true & ~ignored).sum() / 1000
    assert part.dice == 2 * (true & ~ignored).sum() / ((true & ~ignored).sum() + (predicted & ~ignored).sum())
    assert part.asd_mm == pytest.approx(whole.asd_mm, abs=0.1)  # the cut is no surface that both share
    assert part.hd95_mm == pytest.approx(whole.hd95_mm, abs=0.5)
    noise = predicted ^ (ignored & (np.indices(true.shape).sum(0) % 3 == 0))
    assert mask_metrics(noise, true, spacing, ignored=ignored) == part
    assert mask_metrics(predicted, true, spacing, ignored=np.zeros_like(true)) == whole


def test_resampled_labels_are_judged_by_what_is_known(tmp_path: Path) -> None:
    array = np.zeros((4, 16, 16), np.uint8)
    array[:, :, :8], array[:, 8:] = 1, 9
    write_image(tmp_path / "i.nrrd", np.random.default_rng(0).random((4, 16, 16)), Geometry((4, 16, 16)))
    write_label(tmp_path / "l.nrrd", array, Geometry((4, 16, 16)))
    case = Case("c", (tmp_path / "i.nrrd",), tmp_path / "l.nrrd", ignore=9)
    loaded = load_training_case(case, DataConfig(spacing_mm=(1.5, 1.5, 1.0), patch_size=(4, 8, 8)), ONE)
    known = ~loaded.ignored
    assert known.mean() == pytest.approx(0.5, abs=0.07)
    assert known[0].any(1).sum() in (5, 6)  # rows above the unlabelled half
    drawn = loaded.masks.numpy()[0, 0][known[0].any(1)]
    assert (drawn == drawn[0]).all()  # the border between organ and background stays straight beside it
    array[:] = 9
    write_label(tmp_path / "l.nrrd", array, Geometry((4, 16, 16)), overwrite=True)
    with pytest.raises(InputError, match=r"l\.nrrd.*all of it is to be ignored"):
        load_training_case(case, DataConfig(patch_size=(4, 8, 8)), ONE)


def nnunet_folder(folder: Path, cases: int = 3) -> Path:
    """A data set as nnU-Net 2 has it, with half of each label to be ignored (value 2)."""
    geometry = Geometry(SIZE, SPACING)
    for seed in range(cases):
        image, label = make_phantom(seed, SIZE, SPACING)
        write_image(folder / f"imagesTr/c_{seed}_0000.nii.gz", image[0], geometry)
        write_label(folder / f"labelsTr/c_{seed}.nii.gz", np.where(HIDDEN, 2, label), geometry)
    labels = {"background": 0, "liver": 1, "ignore": 2}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_from_an_nnunet_folder_to_an_audit(tmp_path: Path) -> None:
    folder = nnunet_folder(tmp_path / "data")
    listed = load_datalist(folder)
    assert (listed.labels, listed.ignore) == ({1: "liver"}, 2)
    assert [case.ignore for case in listed.cases] == [2, 2, 2]
    again = load_datalist(save_datalist(listed, tmp_path / "list.json"))
    assert (again.labels, again.ignore, again.training[0].ignore) == ({1: "liver"}, 2, 2)

    model = train(folder, tmp_path / "run", overrides=TINY)
    assert {value: entry["name"] for value, entry in load_model(model).labels.items()} == {1: "liver"}

    done = audit(folder, model=model, output=tmp_path / "audit")
    assert {row.structure for row in done.rows} == {"liver"}
    for case in listed.cases:
        proposal = read_label(tmp_path / "audit/corrected" / f"{case.name}.seg.nrrd")
        np.testing.assert_array_equal(proposal.array == 2, HIDDEN)
        assert {segment.value: segment.name for segment in proposal.segments} == {1: "liver", 2: "ignore"}

    rough = listed.training[0].label
    refined = refine(listed.training[0].images[0], rough, model=model, output=tmp_path / "r.nii.gz", trust=0)
    np.testing.assert_array_equal(read_label(refined.output).array == 2, HIDDEN)


@pytest.mark.parametrize("noise", ["mt", "sloppy"])
def test_noise_leaves_it_alone(tmp_path: Path, noise: str) -> None:
    folder = nnunet_folder(tmp_path / "data", 2)
    noisy = load_datalist(corrupt(folder, tmp_path / "noisy", noise=noise, ratio=1.0))
    assert noisy.ignore == 2
    for before, after in zip(load_datalist(folder).training, noisy.training):
        old, new = read_label(before.label).array, read_label(after.label).array
        np.testing.assert_array_equal(new == 2, HIDDEN)
        assert (new != old).any()


def test_evaluation_leaves_it_out(tmp_path: Path) -> None:
    folder, predictions = nnunet_folder(tmp_path / "data", 2), tmp_path / "predicted"
    for seed in range(2):
        label = make_phantom(seed, SIZE, SPACING)[1]
        junk = np.where(HIDDEN, np.indices(SIZE).sum(0) % 2, label)
        write_label(predictions / f"c_{seed}.nii.gz", junk, Geometry(SIZE, SPACING))
    for references in (folder, folder / "labelsTr", save_datalist(load_datalist(folder), tmp_path / "list.json")):
        done = evaluate(predictions, references)
        assert [row.metrics.dice for row in done.rows] == [1.0, 1.0], references
        assert [row.metrics.asd_mm for row in done.rows] == [0.0, 0.0]
        assert done.warnings == ()
    label = make_phantom(0, SIZE, SPACING)[1]
    named = [Segment(1, "liver"), Segment(2, "Ignore")]
    write_label(tmp_path / "a.seg.nrrd", np.where(HIDDEN, 2, label), Geometry(SIZE, SPACING), named)
    for predicted in (predictions / "c_0.nii.gz", tmp_path / "a.seg.nrrd"):  # a refined label keeps such a segment
        done = evaluate(predicted, tmp_path / "a.seg.nrrd")
        (row,) = done.rows
        assert (row.structure, row.metrics.dice, done.warnings) == ("liver", 1.0, ())
        (row,) = evaluate(predicted, folder / "labelsTr/c_0.nii.gz").rows
        assert (row.structure, row.metrics.dice) == ("label 1", 1.0)


def test_the_best_model_is_chosen_without_it() -> None:
    made = []
    for under in ("nothing", "other"):
        cases = partly_labelled(ONE, "nothing", 4)
        held_out = partly_labelled(ONE, under, 6)[4:]
        given = replace(given_run("corrected", cases=cases), held_out=held_out, device=CPU)
        made.append(run(given)[0])
    assert made[0].best_score == made[1].best_score
    assert made[0].rows == made[1].rows


def test_refinement_takes_it_for_no_structure(tmp_path: Path) -> None:
    model = train(nnunet_folder(tmp_path / "data"), tmp_path / "run", variant="corrected", overrides=TINY)
    image = load_datalist(tmp_path / "data").training[0].images[0]
    only = np.where(HIDDEN, 1, 0)
    write_label(tmp_path / "r.seg.nrrd", only, Geometry(SIZE, SPACING), [Segment(1, "ignore")])
    with pytest.raises(InputError, match="empty"):
        refine(image, tmp_path / "r.seg.nrrd", model=model, output=tmp_path / "o.seg.nrrd")


def test_a_structure_shown_there_alone_is_not_shown() -> None:
    labels = torch.zeros(1, 1, 2, 1, 1, 4)  # background everywhere, but the organ at the last voxel
    labels[:, :, 0, ..., :3], labels[:, :, 1, ..., 3] = 1, 1
    sure = torch.tensor([0.05, 0.95]).view(1, 1, 2, 1, 1, 1).expand(labels.shape)  # of the organ
    valid = torch.tensor([1.0, 1, 1, 0]).view(1, 1, 1, 1, 4)
    settings = ADELESettings()
    assert (corrected_labels(labels, sure, [True], settings)[0, 0, 1] == 1).all()  # shown: corrected to the organ
    assert torch.equal(corrected_labels(labels, sure, [True], settings, valid), labels)


def test_label_agents_look_at_labelled_voxels_alone() -> None:
    config = with_values(load_config("general", "extended", TINY), data={"patch_size": (16, 32, 32)})
    size, hidden = (16, 48, 48), np.zeros((16, 48, 48), bool)
    hidden[:, 26:] = True
    image, label = np.random.default_rng(0).random((1, *size), np.float32), np.zeros(size, bool)
    label[6:10, 20:26, 20:26] = True
    network = build_networks(config, 1, ONE)
    with torch.no_grad():
        network.segmentation_decoder.head.bias[1] = -50.0  # nothing is predicted: the label's border is the only one
    found = []
    for under in (np.zeros(size, bool), np.indices(size).sum(0) % 9 == 0):
        case = in_memory("c", image, np.where(hidden, under, label)[None], SPACING, (16, 32, 32), ignored=hidden)
        found += label_voxels(network, [case], config.data, False, CPU, lambda: None)
    np.testing.assert_array_equal(found[0].features, found[1].features)
    np.testing.assert_array_equal(found[0].drawn, found[1].drawn)
    assert found[0].drawn.any()
