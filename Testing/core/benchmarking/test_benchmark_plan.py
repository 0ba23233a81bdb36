"""What a benchmark plans: settings with every mistake named, jobs and what they need, recipes, the results' columns."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import SVLDRLCore
from SVLDRLCore.benchmarking.benchmark import check_noises
from SVLDRLCore.benchmarking.benchmark_jobs import TrainingClock
from SVLDRLCore.benchmarking.benchmark_settings import (
    BenchmarkSettings,
    datalist_path,
    read_settings,
    row_overrides,
    settings_from_dict,
    slug,
    warm_up_overrides,
)
from SVLDRLCore.benchmarking.plan import (
    Job,
    Place,
    first_difference,
    needs,
    plan_jobs,
    plan_runs,
    recipe,
)
from SVLDRLCore.benchmarking.results import (
    COLUMNS,
    ResultRow,
    pack_masks,
    read_results,
    unpack_masks,
    write_results,
)
from SVLDRLCore.config.settings import load_config
from SVLDRLCore.errors import InputError

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("benchmark_*.json"))


def tree(**changes: Any) -> dict[str, Any]:
    """A CONFIG.json with two rows, two noises, two seeds."""
    return {
        "datalist": "datalist.json",
        "noises": {"mt strong": {"kind": "mt", "strength": "strong"}, "sfda": {"kind": "sfda"}},
        "ratios": [0.5],
        "seeds": [0, 1],
        "rows": {"supervised": {"method": "supervised"}, "svl_drl": {}},
    } | changes


def planned(**changes: Any) -> BenchmarkSettings:
    return settings_from_dict(tree(**changes))


def with_row(**row: Any) -> dict[str, Any]:
    return {"rows": {**tree()["rows"], "other": row}}


def test_a_config_is_read_with_its_defaults() -> None:
    settings = planned(**with_row(labels="only_clean", ratios=[0.5], overrides={"agents": {"gamma": 0.5}}))
    assert (settings.steps, settings.reference, settings.baseline) == (500, "svl_drl", "supervised")
    assert settings.noises["mt strong"].options == {"strength": "strong"}
    assert settings.rows["other"].ratios == (0.5,)
    assert settings.rows["other"].overrides == {"agents": {"gamma": 0.5}}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_are_sound(path: Path) -> None:
    settings = read_settings(path)
    check_noises(settings)
    trained = [job for job in plan_jobs(settings) if job.kind == "train"]
    assert len({job.row for job in trained}) == len(settings.rows)
    assert len(trained) >= len(settings.rows) * len(settings.seeds)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"stepz": 5}, "setting stepz"),
        ({"steps": 0}, "setting steps"),
        ({"steps": "5"}, "setting steps"),
        ({"ratios": [1.5]}, "setting ratios"),
        ({"ratios": [0.5, 0.5]}, "setting ratios"),
        ({"seeds": []}, "setting seeds"),
        ({"seeds": [-1]}, "setting seeds"),
        ({"rows": {}}, "setting rows"),
        ({"rows": []}, "setting rows"),
        ({"reference": "nobody"}, "setting reference"),
        ({"baseline": "nobody"}, "setting baseline"),
        ({"noises": {"mt": {}}}, "setting noises.mt.kind"),
        ({"noises": {"clean": {"kind": "mt"}}}, "setting noises.clean"),
        ({"noises": {"mt 1": {"kind": "mt"}, "MT-1": {"kind": "mt"}}}, "setting noises.MT-1"),
        ({"overrides": {"train": {"seed": 3}}}, "setting overrides.train.seed"),
        ({"preset": "liver"}, "preset 'liver'"),
        (with_row(colour="red"), "setting rows.other.colour"),
        (with_row(labels="true"), "setting rows.other.labels"),
        (with_row(trusted=-1), "setting rows.other.trusted"),
        (with_row(noises=["rician"]), "setting rows.other.noises"),
        (with_row(ratios=[0.3]), "setting rows.other.ratios"),
        (with_row(variant="free"), "rows.other: variant 'free'"),
        (with_row(overrides={"agents": {"gama": 1}}), "rows.other: setting agents.gama"),
        (with_row(overrides={"network": {"levels": 3}}), "rows.other.overrides.network.levels"),
        (with_row(overrides={"train": {"steps": 3}}), "rows.other.overrides.train.steps"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_mistake_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as raised:
        planned(**changes)
    assert named in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"noises": {"mt": {"kind": "salt"}}}, "setting noises.mt.kind"),
        ({"noises": {"mt": {"kind": "mt", "seed": 3}}}, "setting noises.mt.seed"),
        (with_row(method="magic"), "setting rows.other.method"),
    ],
)
def test_unknown_noises_and_methods_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named.replace(".", r"\.")):
        check_noises(planned(**changes))


def test_the_datalist_is_beside_the_config_or_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, data = planned(), tmp_path / "data"
    data.mkdir()
    (data / "datalist.json").touch()
    monkeypatch.delenv("SVLDRL_DATA", raising=False)
    with pytest.raises(InputError, match="SVLDRL_DATA"):
        datalist_path(settings, tmp_path)
    monkeypatch.setenv("SVLDRL_DATA", str(data))
    assert datalist_path(settings, tmp_path) == data / "datalist.json"
    (tmp_path / "datalist.json").touch()
    assert datalist_path(settings, tmp_path) == tmp_path / "datalist.json"


# Jobs.


def test_each_job_comes_once_and_after_what_it_needs() -> None:
    settings = planned(ratios=[0, 0.5], same_time=True, **with_row(labels="only_clean"))
    jobs = plan_jobs(settings)
    assert len(set(jobs)) == len(jobs) == len({job.name for job in jobs})
    for index, job in enumerate(jobs):
        assert set(needs(settings, job)) <= set(jobs[:index])


def test_what_a_job_needs() -> None:
    settings, place = planned(), Place("sfda", 0.5, 1)
    corrupted, warm_up = Job("corrupt", place), Job("warm_up", place)
    assert needs(settings, corrupted) == ()
    assert needs(settings, warm_up) == (corrupted,)
    assert needs(settings, Job("train", place, row="svl_drl")) == (corrupted, warm_up)
    timed = Job("train", place, row="supervised", budget="time", match=place)
    assert needs(settings, timed)[2:] == (
        Job("train", place, row="supervised"),
        Job("train", place, row="svl_drl"),
    )
    clean = Place("clean", 0.0, 1)
    assert needs(settings, Job("train", clean, "clean", "svl_drl")) == (Job("warm_up", clean, "clean"),)
    untrained = planned(**with_row(warm_up="none"))
    assert needs(untrained, Job("train", place, row="other")) == (corrupted,)
    made = recipe(untrained, Job("train", place, row="other"), "data")
    assert "warm_up" not in made
    assert made["settings"]["train"]["steps"] == 750
    assert made["settings"]["stages"]["warm_up"] == 0.0
    alone = planned(**with_row(warm_up="own"))
    assert needs(alone, Job("train", place, row="other")) == (corrupted,)
    settings_of = recipe(alone, Job("train", place, row="other"), "data")["settings"]
    assert settings_of["train"]["steps"] == 750
    stages = settings_of["stages"]
    assert stages["warm_up"] == pytest.approx(1 / 3)  # as long as the shared one
    assert stages["full_rl"] / stages["transition"] == pytest.approx(
        made["settings"]["stages"]["full_rl"] / made["settings"]["stages"]["transition"]
    )
    assert sum(stages.values()) == pytest.approx(1.0)


def test_rows_with_the_same_labels_share_a_warm_up() -> None:
    jobs = plan_jobs(planned(**with_row(labels="only_clean")))
    assert sum(job.kind == "corrupt" for job in jobs) == 4
    assert sum(job.kind == "warm_up" for job in jobs) == 8
    assert sum(job.kind == "train" for job in jobs) == 12


def test_clean_labels_are_trained_on_once_for_all_noises() -> None:
    settings = planned(ratios=[0, 0.5], **with_row(labels="clean"))
    runs = [run for run in plan_runs(settings) if run.row == "other"]
    assert len(runs) == 8
    assert {run.job.name for run in runs} == {"train_other_clean_0_0", "train_other_clean_0_1"}
    at_zero = {run.job.labels for run in plan_runs(settings) if run.place.ratio == 0}
    assert at_zero == {"clean"}


def test_the_most_telling_jobs_come_first() -> None:
    runs = plan_runs(planned(rows={"other": {}, "supervised": {"method": "supervised"}, "svl_drl": {}}))
    assert [run.row for run in runs[:3]] == ["svl_drl", "supervised", "other"]
    assert [run.place.seed for run in runs] == [0] * 6 + [1] * 6


def test_a_row_may_be_limited_to_some_noises_and_ratios() -> None:
    runs = plan_runs(planned(ratios=[0.25, 0.5], **with_row(noises=["sfda"], ratios=[0.5])))
    assert {run.place for run in runs if run.row == "other"} == {Place("sfda", 0.5, 0), Place("sfda", 0.5, 1)}


def test_a_row_with_other_masks_of_the_same_training_needs_only_that() -> None:
    rows = {**tree()["rows"], "largest": {"method": "supervised", "keep_largest": True, "group": "controls"}}
    place = Place("sfda", 0.5, 1)
    largest, supervised = Job("train", place, row="largest"), Job("train", place, row="supervised")
    assert needs(planned(rows=rows), largest) == (supervised,)
    clean = Place("clean", 0.0, 1)
    assert needs(planned(rows=rows), Job("train", clean, "clean", "largest")) == (
        Job("train", clean, "clean", "supervised"),
    )
    trained_otherwise = (
        {"overrides": {"optimiser": {"learning_rate": 1e-4}}},
        {"trusted": 1},
        {"labels": "only_clean"},
        {"warm_up": "own"},
    )
    for other in trained_otherwise:
        assert supervised not in needs(planned(rows={**rows, "largest": {**rows["largest"], **other}}), largest)
    elsewhere = planned(rows={**rows, "supervised": {**rows["supervised"], "noises": ["mt strong"]}})
    assert supervised not in needs(elsewhere, largest)
    timed = Job("train", place, row="largest", budget="time", match=place)
    assert Job("train", place, row="supervised", budget="time", match=place) not in needs(planned(rows=rows), timed)


def test_the_same_time_is_a_second_run_of_all_but_the_reference() -> None:
    runs = [run for run in plan_runs(planned(same_time=True)) if run.budget == "time"]
    assert len(runs) == 8
    assert {run.row for run in runs if run.job.budget == "time"} == {"supervised"}
    assert all(run.job.match == run.place for run in runs if run.row == "supervised")
    assert not any(run.budget == "time" for run in plan_runs(planned()))


def test_a_recipe_tells_what_changes_a_result_and_nothing_else() -> None:
    job = Job("train", Place("mt strong", 0.5, 0), row="supervised")
    before = recipe(planned(), job, "data")
    same = planned(about="said otherwise", seeds=[0, 5], reference="supervised", **with_row(trusted=2))
    assert first_difference(before, recipe(same, job, "data")) is None
    assert first_difference(before, recipe(planned(), job, "other")) == 'data: "data" -> "other"'
    longer = first_difference(before, recipe(planned(warm_up_steps=251), job, "data"))
    assert longer == "warm_up.train.steps: 250 -> 251"
    weaker = planned(noises={"mt strong": {"kind": "mt", "strength": "mild"}})
    assert first_difference(before, recipe(weaker, job, "data")) == 'noise.strength: "strong" -> "mild"'


def test_a_recipe_holds_the_defaults_too_so_that_a_later_version_with_others_is_noticed() -> None:
    extended = planned(**with_row(variant="extended", warm_up="own"))
    made = recipe(extended, Job("train", Place("mt strong", 0.5, 0), row="other"), "data")["settings"]
    usual = asdict(load_config("general", "extended").reliability)
    assert made["reliability"] == {**usual, "first_review": 250 / 750}  # where the shared warm-up of others ends
    other = {**made, "reliability": {**made["reliability"], "floor": 0.5}}
    assert first_difference(other, made) == "reliability.floor: 0.5 -> 0.02"
    supervised = recipe(extended, Job("train", Place("mt strong", 0.5, 0), row="supervised"), "data")
    assert supervised["settings"]["reliability"] == {"enabled": False}  # what is not used changes nothing
    assert supervised["warm_up"]["optimiser"]["poly_power"] == 0.0
    assert "about" not in supervised["settings"]


def test_the_share_of_the_warm_up_goes_to_the_stages_after_it() -> None:
    settings = planned(**with_row(overrides={"stages": {"warm_up": 1.0, "transition": 0.0, "full_rl": 0.0}}))
    config = load_config("general", "corrected", row_overrides(settings, settings.rows["svl_drl"], 3, 40))
    preset = load_config("general", "corrected").stages
    assert (config.train.steps, config.train.seed, config.stages.warm_up) == (40, 3, 0)
    assert config.stages.transition / config.stages.full_rl == pytest.approx(preset.transition / preset.full_rl)
    only_warm_up = load_config("general", "corrected", row_overrides(settings, settings.rows["other"], 3, 40))
    assert only_warm_up.stages.warm_up == 1
    assert warm_up_overrides(settings, 3)["optimiser"] == {"poly_power": 0.0}


@pytest.mark.parametrize(("text", "short"), [("mt, strong", "mt-strong"), ("SVL_DRL", "svl-drl"), ("0.5", "0.5")])
def test_names_become_parts_of_file_names(text: str, short: str) -> None:
    assert slug(text) == short


# Results.


def result(**changes: Any) -> ResultRow:
    numbers = dict.fromkeys(COLUMNS[9:], 0.1) | {"weight_auc": None}
    names = {"noise": "mt", "row": "a, b", "group": "compared", "budget": "steps", "case": "c", "structure": "s"}
    return ResultRow(**{**names, **numbers, "ratio": 0.5, "seed": 1, "steps": 5, **changes})


def test_results_come_back_to_the_bit(tmp_path: Path) -> None:
    rows = [result(dice=1 / 3), result(volume_ratio=math.inf, dice=0.0), result(dice=None, iou=None)]
    write_results(tmp_path / "results.csv", rows)
    assert read_results(tmp_path / "results.csv") == rows
    head = (tmp_path / "results.csv").read_text().splitlines()[0]
    assert head == (
        "noise,ratio,seed,row,group,budget,steps,case,structure,dice,iou,hd95_mm,asd_mm,volume_ratio,train_seconds,"
        "warm_up_seconds,predict_seconds,peak_memory_mb,label_dice,weight_auc,ppv,sensitivity,boundary_iou"
    )


def test_tables_of_older_versions_lack_the_last_columns(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", [result(dice=1 / 3)])
    lines = [line.rsplit(",", 3)[0] for line in (tmp_path / "results.csv").read_text().splitlines()]
    (tmp_path / "results.csv").write_text("\n".join(lines) + "\n")
    assert read_results(tmp_path / "results.csv") == [result(dice=1 / 3, ppv=None, sensitivity=None, boundary_iou=None)]


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="its columns are a, b"):
        read_results(tmp_path / "results.csv")


def test_masks_come_back() -> None:
    masks = np.random.default_rng(0).random((2, 3, 5, 7)) > 0.5
    np.testing.assert_array_equal(unpack_masks(pack_masks(masks), masks.shape), masks)


# The public function and the clock.


def test_it_is_a_public_function() -> None:
    assert "benchmark" in SVLDRLCore.__all__
    with pytest.raises(InputError, match="no-such"):
        SVLDRLCore.benchmark("no-such.json", "nowhere")


def step(done: int) -> dict[str, Any]:
    return {"event": "progress", "stage": "robust", "done": done, "total": 9}


def test_the_clock_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    now = iter([0.0, 10.0, 20.0, 30.0])
    killed = TrainingClock(tmp_path / "seconds.tsv", lambda: next(now))
    for done in (1, 2, 3):
        killed(step(done))
    with (tmp_path / "seconds.tsv").open("a") as file:
        file.write("robust 4\t4")  # torn by the kill
    time = [100.0]
    resumed = TrainingClock(tmp_path / "seconds.tsv", lambda: time[0])
    time[0] = 107.0  # start-up
    resumed(step(2))  # the checkpoint was after step 1
    assert resumed.seconds == 20.0
    time[0] = 117.0
    resumed(step(3))
    assert resumed.seconds == 30.0
