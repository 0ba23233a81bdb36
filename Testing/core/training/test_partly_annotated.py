"""Structures that nobody has drawn in a case are unknown there, not absent: they count nowhere in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_trainings import PATCH, TINY, given_run, phantom_cases, run, same_weights
from torch.nn import functional as F

from SVLDRLCore.benchmarking.corrupt import corrupt
from SVLDRLCore.config.settings import DataConfig, load_config
from SVLDRLCore.data.cases import FAR_FROM_DRAWN_MM, TrainingCase, as_reviewed, in_memory, load_training_case
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.data.sampler import PatchSampler
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.case_checks import check_data_set
from SVLDRLCore.files.datalist import load_datalist, save_datalist
from SVLDRLCore.files.partly_annotated import unknown_values
from SVLDRLCore.files.volumes import read_label, write_label
from SVLDRLCore.jobs.evaluate import evaluate
from SVLDRLCore.learning.segmentation_loss import segmentation_loss, soft_dice
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.training.registry import METHODS, method_named
from SVLDRLCore.training.train import train

TWO = structures_of({1: "liver", 2: "spleen"})
FIRST = torch.tensor([1, 0], dtype=torch.uint8).view(2, 1, 1, 1)
NESTED = structures_of({1: "rim", 2: "core"}, {"whole": (1, 2), "core": (2,)})


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    """Five training cases and a validation case of two structures; of two, and of the latter, one is missing."""
    size, spacing = (10, 20, 20), (4.0, 4.0, 4.0)
    path = write_phantom_dataset(tmp_path / "data", 5, 1, structures=2, size_dhw=size, spacing_dhw=spacing)
    content = json.loads(path.read_text())
    content["labels"] = {"1": "liver", "2": "spleen"}
    for entry in (*content["training"][:2], *content["validation"]):
        label = read_label(path.parent / entry["label"])
        write_label(path.parent / entry["label"], label.array * (label.array == 1), label.geometry, overwrite=True)
        entry["missing"] = ["Spleen"]
    path.write_text(json.dumps(content))
    return path


def partly(structures: Structures, count: int, without: int = 2) -> list[TrainingCase]:
    """Phantoms, of the first of which the second structure is missing."""
    cases = phantom_cases(count, structures, structures=2, nested=structures.nested)
    gone = [replace(case, masks=case.masks * FIRST, missing=(1,)) for case in cases]
    return [*gone[:without], *cases[without:]]


def test_names_are_read_as_the_table_spells_them_and_written_again(datalist: Path, tmp_path: Path) -> None:
    listed = load_datalist(datalist)
    assert [case.missing for case in listed.training] == [("spleen",)] * 2 + [()] * 3
    again = load_datalist(save_datalist(listed, tmp_path / "again.json"))
    assert [case.missing for case in again.cases] == [case.missing for case in listed.cases]


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        (["kidney"], "no structure of that name"),
        ("spleen", "missing 'spleen'"),
        ([2], "missing"),
        (["liver", "spleen"], "misses all structures"),
    ],
)
def test_what_cannot_be_missing_is_refused_by_file(datalist: Path, missing: object, why: str) -> None:
    content = json.loads(datalist.read_text())
    content["training"][3]["missing"] = missing
    datalist.write_text(json.dumps(content))
    with pytest.raises(InputError, match=why) as refused:
        load_datalist(datalist)
    assert str(datalist) in str(refused.value)


def test_of_exclusive_classes_the_background_may_be_a_missing_one() -> None:
    """Three voxels by hand: liver, and two of background; the spleen's probability joins the background's."""
    probabilities = torch.tensor([[0.5, 0.2, 0.1], [0.3, 0.1, 0.2], [0.2, 0.7, 0.7]])  # background, liver, spleen
    logits = probabilities.log().view(1, 3, 1, 1, 3)
    target = torch.tensor([[1.0, 0, 0], [0, 0, 0]]).view(1, 2, 1, 1, 3)
    missing = torch.tensor([[False, True]])
    found = segmentation_loss(logits, target, 1.0, missing=missing)
    assert float(found) == pytest.approx(-np.mean(np.log([0.3, 0.2 + 0.7, 0.1 + 0.7])), rel=1e-5)
    dice = segmentation_loss(logits, target, 0.0, missing=missing)
    assert float(dice) == pytest.approx(1 - 2 * 0.3 / (0.6 + 1), rel=1e-3)  # the liver's alone
    moved = probabilities.clone()
    moved[0], moved[2] = probabilities[0] + 0.1, probabilities[2] - 0.1
    for weight in (0.0, 0.5, 1.0):
        other = segmentation_loss(moved.log().view(1, 3, 1, 1, 3), target, weight, missing=missing)
        assert float(other) == pytest.approx(
            float(segmentation_loss(logits, target, weight, missing=missing)), rel=1e-5
        )


def test_of_nested_regions_its_channel_is_left_out() -> None:
    logits = torch.randn((2, 2, 3, 4, 5), generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = (torch.rand((2, 2, 3, 4, 5), generator=torch.Generator().manual_seed(1)) > 0.5).float()
    missing = torch.tensor([[False, True], [False, False]])
    loss = segmentation_loss(logits, target, 0.5, True, missing=missing)
    alone = segmentation_loss(logits[:1, :1], target[:1, :1], 0.5, True)
    torch.testing.assert_close(loss[0], alone[0])
    torch.testing.assert_close(loss[1], segmentation_loss(logits[1:], target[1:], 0.5, True)[0])
    loss.sum().backward()
    assert logits.grad is not None
    assert not logits.grad[0, 1].any()
    assert logits.grad[1, 1].any()


@pytest.mark.parametrize("nested", [False, True])
def test_where_nothing_is_missing_the_loss_is_the_plain_one(nested: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn((2, 3, 2, 3, 4), generator=generator), torch.zeros((2, 3 - (not nested), 2, 3, 4))
    none = torch.zeros(target.shape[:2], dtype=torch.bool)
    plain = segmentation_loss(logits, target, 0.5, nested)
    torch.testing.assert_close(segmentation_loss(logits, target, 0.5, nested, missing=none), plain)
    probabilities = F.softmax(logits, dim=1)[:, :2]
    torch.testing.assert_close(
        soft_dice(probabilities, target[:, :2], none[:, :2]), soft_dice(probabilities, target[:, :2])
    )


def test_what_is_drawn_of_a_missing_structure_is_not_seen(datalist: Path) -> None:
    config = DataConfig(patch_size=PATCH, spacing_mm=(4.0, 4.0, 4.0))
    whole = load_datalist(datalist).training[4]
    case = load_training_case(replace(whole, missing=("spleen",)), config, TWO)
    full = load_training_case(whole, config, TWO)
    assert case.missing == (1,)
    assert full.masks[1].any()
    assert not case.masks[1].any()
    assert torch.equal(case.masks[0], full.masks[0])
    with pytest.raises(InputError, match="declare regions"):
        load_training_case(replace(whole, missing=("spleen",)), config, NESTED)


def test_batches_tell_which_structures_are_missing() -> None:
    config = load_config("general", "extended", TINY).data
    sampler = PatchSampler(partly(TWO, 3, 1), config, 6, 0)
    batch = sampler.next()
    assert batch.missing is not None
    assert batch.missing.tolist() == [[False, case == 0] for case in batch.cases]
    assert PatchSampler(partly(TWO, 3, 0), config, 2, 0).next().missing is None


@pytest.mark.parametrize("structures", [TWO, NESTED], ids=["exclusive", "nested"])
def test_the_network_is_not_taught_that_it_is_absent(structures: Structures) -> None:
    """All cases lack it: its channel never hears anything where channels are apart, and is not pushed down else."""
    cases = partly(structures, 4, 4)
    with_it, _ = run(given_run("extended", "supervised", cases, structures))
    absent = [replace(case, missing=()) for case in cases]
    without, _ = run(given_run("extended", "supervised", absent, structures))
    assert not same_weights(with_it.network, without.network)
    last = [name for name in with_it.network if "head" in name and name.endswith("bias")][-1]
    channel = 1 if structures.nested else 2
    assert with_it.network[last][channel] > without.network[last][channel]


def test_reviews_do_not_doubt_a_case_for_what_is_missing() -> None:
    cases = partly(TWO, 8)
    made, _ = run(given_run("extended", "svl_drl", cases, TWO, reliability={"enabled": True}))
    rows = {row["case"]: row for row in made.reliability}
    assert all(row["absence"] == 1 for row in rows.values())
    doubted, _ = run(
        given_run("extended", "svl_drl", [replace(c, missing=()) for c in cases], TWO, reliability={"enabled": True})
    )
    assert {row["case"] for row in doubted.reliability if row["absence"] < 1} >= {"case_0", "case_1"}
    assert made.mask_network is not None


def test_reviews_see_nothing_far_from_what_is_drawn() -> None:
    masks = np.zeros((2, 10, 20, 20))
    masks[0, 4:6, 4:6, 4:6] = 1
    case = in_memory("a", np.zeros((1, 10, 20, 20), np.float32), masks, (4.0, 4.0, 4.0), PATCH)
    assert as_reviewed(case) is case
    seen = as_reviewed(replace(case, missing=(1,)))
    assert seen.ignored is not None
    away = 4.0 * np.stack([np.maximum(np.maximum(4 - i, i - 5), 0) for i in np.indices((10, 20, 20))])
    np.testing.assert_array_equal(seen.ignored, np.linalg.norm(away, axis=0) >= FAR_FROM_DRAWN_MM)
    nothing = as_reviewed(replace(case, masks=case.masks * 0, missing=(1,)))
    assert nothing.ignored is not None
    assert not nothing.ignored.all()


def test_label_agents_have_no_say_where_structures_are_missing() -> None:
    cases = [replace(case, trusted=i >= 20) for i, case in enumerate(partly(TWO, 24))]
    settings = {"reliability": {"enabled": True}, "mask_agents": {"enabled": False}}
    _, events = run(given_run("extended", "svl_drl", cases, TWO, **settings))
    texts = [event["text"] for event in events if event["event"] == "message"]
    assert any("Label agents have no say" in text for text in texts)
    assert not any("and label agents" in text for text in texts)


def test_held_out_scores_leave_it_out() -> None:
    """Absent, the second structure has Dice 1 or 0 in the mean of the two; missing, the first one's Dice is all."""
    cases = phantom_cases(4, TWO, structures=2)
    scores = []
    for missing in ((), (1,)):
        held_out = replace(cases[3], masks=cases[3].masks * FIRST, missing=missing)
        made, _ = run(given_run("extended", "supervised", [*cases[:3], held_out], TWO, 1))
        scores.append([row["validation_dice"] for row in made.rows if "validation_dice" in row])
    for absent, alone in zip(*scores, strict=True):
        assert min(abs(2 * absent - alone), abs(2 * absent - alone - 1)) < 1e-3


@pytest.mark.parametrize("method", sorted(METHODS))
def test_methods_that_cannot_learn_from_such_cases_say_so(method: str) -> None:
    for variant in METHODS[method].variants or ("extended",):
        able = method_named(method, variant).learns_partly
        assert able == ((method, variant) in (("svl_drl", "extended"), ("supervised", "extended")))
        if not able:
            given = replace(given_run("extended", "supervised", partly(TWO, 3), TWO), method=method)
            given = replace(given, config=replace(given.config, variant=variant))
            with pytest.raises(InputError, match=r"cannot learn from cases .*case_0, case_1"):
                run(given)


def test_it_is_refused_before_anything_is_written(datalist: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="structures are missing"):
        train(datalist, tmp_path / "run", method="mtcl", overrides=TINY)
    assert not (tmp_path / "run").exists()


def test_a_training_of_files_and_no_other_on_resuming(datalist: Path, tmp_path: Path) -> None:
    settings = {**TINY, "data": {**TINY["data"], "held_out_fraction": 0.2}}
    model = train(datalist, tmp_path / "run", overrides=settings)
    assert (model / "model.safetensors").is_file()
    content = json.loads(datalist.read_text())
    del content["training"][0]["missing"]
    datalist.write_text(json.dumps(content))
    with pytest.raises(InputError, match="spleen was missing in it"):
        train(datalist, tmp_path / "run", resume=True)


def test_check_names_such_cases_and_does_not_miss_it_there(datalist: Path) -> None:
    listed = load_datalist(datalist)
    problems, lacking = check_data_set(listed)
    names = [case.name for case in listed.cases if case.missing]
    (told,) = [problem for problem in problems if "listed as missing" in problem.why]
    assert all(name in told.why for name in names)
    assert lacking == {}
    shown = replace(listed, training=(*listed.training[:4], replace(listed.training[4], missing=("spleen",))))
    assert any("it shows 'spleen'" in problem.why for problem in check_data_set(shown)[0])


def test_metrics_leave_it_out(datalist: Path, tmp_path: Path) -> None:
    listed = load_datalist(datalist)
    case, wrong = listed.validation[0], tmp_path / "predictions"
    label = read_label(case.label)
    drawn = label.array.copy()
    drawn[:2] = 2  # a spleen that nobody can judge
    write_label(wrong / f"{case.name}.nrrd", drawn, label.geometry)
    rows = evaluate(wrong, datalist).rows
    assert [row.structure for row in rows] == ["liver"]


def test_what_is_unknown_of_nested_regions() -> None:
    labels, regions = {1: "oedema", 2: "core", 3: "enhancing"}, {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert unknown_values(["enhancing"], labels, regions) == {1, 2, 3}
    assert unknown_values(["core"], labels, regions) == {1, 2}
    assert unknown_values(["whole"], labels, regions) == {1}
    assert unknown_values(["core"], labels, {}) == {2}


def test_noise_is_measured_on_what_is_known(datalist: Path, tmp_path: Path) -> None:
    made = corrupt(datalist, tmp_path / "noisy", noise="empty", ratio=1.0)
    rows = json.loads(made.with_name("corruption.json").read_text())["cases"]
    assert [row["label_dice"] for row in rows] == [0.0] * 5  # the missing one is not counted as found
    assert [case.missing for case in load_datalist(made).training] == [("spleen",)] * 2 + [()] * 3
