"""A training goes on with the data and settings it was started with, and from a sound checkpoint, or says why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from SVLDRLCore.benchmarking.corrupt import corrupt
from SVLDRLCore.cli import main
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.files.volumes import (
    read_image,
    read_label,
    write_image,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.checkpoints import FolderLock, load_checkpoint, save_checkpoint
from SVLDRLCore.learning.run_folder import RunFolder, previous_generation
from SVLDRLCore.models.package import load_package
from SVLDRLCore.training.train import train

SETTINGS = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0], "held_out_fraction": 0.25},
    "network": {"feature_size": 8, "levels": 3},
    "mask_agents": {"transition_steps": 3, "full_rl_steps": 3, "rollout_steps": 2, "feature_size": 8},
    "train": {"steps": 10, "batch_size": 1, "steps_per_epoch": 2, "validate_every": 2, "device": "cpu", "threads": 1},
}
CASES = 5
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def stopped(datalist: Path, folder: Path, stage: str, done: int, **options: Any) -> None:
    """A training that is cancelled there."""
    control = JobControl()

    def listen(event: Event) -> None:
        if event["event"] == "progress" and (event["stage"], event["done"]) == (stage, done):
            control.cancel("enough")

    with pytest.raises(Cancelled):
        train(datalist, folder, overrides=SETTINGS, listeners=[listen], control=control, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with `data`, a training `unbroken`, and two that were stopped: `network` and `agents`."""
    folder = tmp_path_factory.mktemp("place")
    datalist = write_phantom_dataset(
        folder / "data", CASES, 1, noise="mt", size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0)
    )
    train(datalist, folder / "unbroken", overrides=SETTINGS)
    stopped(datalist, folder / "network", "warm_up", 9)
    stopped(datalist, folder / "agents", "full_rl", 15)
    return folder


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """A copy that may be changed; its data lie elsewhere than they did."""
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    return tmp_path


def listed(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "data" / "datalist.json").read_text())


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = listed(folder)
    change(content)
    path = folder / "data" / "datalist.json"
    path.write_text(json.dumps(content))
    return path


def goes_on(folder: Path, run: str = "network", *more: str) -> tuple[int, list[Event]]:
    """`svldrl train --resume`: its exit status, and what it wrote to its events from then on."""
    log = folder / run / "events.jsonl"
    before = len(log.read_bytes())
    status = main(["train", str(folder / "data" / "datalist.json"), "--output", str(folder / run), "--resume", *more])
    return status, [json.loads(line) for line in log.read_bytes()[before:].splitlines()]


def warnings_in(seen: list[Event]) -> list[str]:
    """What is warned of because the training goes on: its policy has no time to learn in any case."""
    told = [event["text"] for event in seen if event["event"] == "warning"]
    return [text for text in told if not text.startswith("The policy did not learn")]


def same_as_unbroken(folder: Path, run: str, place: Path) -> None:
    for name in ("model", "model_best"):
        ours, theirs = load_package(folder / run / name), load_package(place / "unbroken" / name)
        a, b = ours.tensors(), theirs.tensors()
        assert a.keys() == b.keys()
        assert [key for key in a if not torch.equal(a[key], b[key])] == []
        assert ours.training == theirs.training


def kept(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("run.json", "checkpoint.pt", "checkpoint_previous.pt")}


# What is the same goes on.


@pytest.mark.parametrize("run", ["network", "agents"])
def test_data_that_have_moved_are_the_same(place: Path, copy: Path, run: str) -> None:
    status, seen = goes_on(copy, run)
    assert status == 0
    assert warnings_in(seen) == []
    same_as_unbroken(copy, run, place)
    assert json.loads((copy / run / "run.json").read_text())["datalist"] == str(copy / "data" / "datalist.json")


def test_the_same_content_in_other_files_and_the_same_settings_again_are_the_same(place: Path, copy: Path) -> None:
    entries = listed(copy)["training"]
    for entry in entries:
        for key, read, write in (("image", read_image, write_image), ("label", read_label, write_label)):
            old = copy / "data" / entry[key]
            volume = read(old)
            new = old.with_name(old.name.partition(".")[0] + ".nii.gz")
            write(new, volume.array, volume.geometry)
            old.unlink()
            entry[key] = str(new)  # an absolute path
    rewrite(copy, lambda content: content.update(training=entries))
    settings = copy / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    more = ["--settings", str(settings), "--set", "train.device=auto", "--preset", "general", "--method", "svl_drl"]
    if torch.cuda.is_available():
        more += ["--set", "train.device=cpu"]
    assert goes_on(copy, "network", *more)[0] == 0
    same_as_unbroken(copy, "network", place)


# What is not is refused by name.


def changed_voxel(folder: Path, case: int, key: str) -> None:
    path = folder / "data" / listed(folder)["training"][case][key]
    read, write = (read_image, write_image) if key == "image" else (read_label, write_label)
    volume = read(path)
    array = volume.array.copy()
    array[0, 0, 0] = array[0, 0, 0] + 1 if key == "image" else 1
    write(path, array, volume.geometry, overwrite=True)


def other_spacing(folder: Path) -> None:
    from dataclasses import replace

    entry = listed(folder)["training"][1]
    for key, read, write in (("image", read_image, write_image), ("label", read_label, write_label)):
        volume = read(folder / "data" / entry[key])
        geometry = replace(volume.geometry, spacing_dhw=(4.1, 4.0, 4.0))
        write(folder / "data" / entry[key], volume.array, geometry, overwrite=True)


DATA = {
    "order": (lambda f: rewrite(f, lambda c: c["training"].reverse()), "order of the cases"),
    "label": (lambda f: changed_voxel(f, 2, "label"), "case case_003: its label has changed"),
    "image": (lambda f: changed_voxel(f, 4, "image"), "case case_005: its image has changed"),
    "spacing": (other_spacing, "case case_002: its image has changed"),
    "exchanged": (
        lambda f: rewrite(
            f,
            lambda c: (
                c["training"][0].update(name="case_001", label=c["training"][1]["label"]),
                c["training"][1].update(name="case_002", label=listed(f)["training"][0]["label"]),
            ),
        ),
        "case case_001: its label has changed",
    ),
    "fewer": (lambda f: rewrite(f, lambda c: c["training"].pop(3)), "case case_004: the training was started with it"),
    "more": (
        lambda f: rewrite(f, lambda c: c["training"].append(c["validation"].pop(0))),
        "case case_006: it was not in the data list",
    ),
    "renamed": (lambda f: rewrite(f, lambda c: c["training"][0].update(name="first")), "case case_001"),
    "trusted": (lambda f: rewrite(f, lambda c: c["training"][1].update(trusted=True)), "trusted case case_002"),
    "labels": (lambda f: rewrite(f, lambda c: c["labels"].update({"1": "liver"})), "label table"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_other_data_are_refused_by_name(copy: Path, capsys, name: str) -> None:
    change, why = DATA[name]
    change(copy)
    before = kept(copy / "network")
    status, seen = goes_on(copy)
    told = capsys.readouterr().err.replace("\n  why", "")
    assert status == 2
    assert why in told
    assert "another folder" in told
    assert seen[-1]["event"] == "failed"
    assert not any(event["event"] in ("stage", "metrics") for event in seen)
    assert kept(copy / "network") == before
    assert not (copy / "network" / "model").exists()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--set", "train.steps=400"], "setting train.steps: the training was started with 10, now it is 400"),
        (["--set", "train.seed=1"], "setting train.seed"),
        (["--set", "train.threads=2"], "setting train.threads"),
        (["--set", "mask_agents.transition_steps=4"], "setting mask_agents.transition_steps"),
        (["--set", "reliability.enabled=false"], "setting reliability.enabled"),
        (["--preset", "demo"], "preset: the training was started with general, demo is asked now"),
        (["--variant", "corrected"], "variant"),
        (["--method", "supervised"], "method: the training was started with svl_drl"),
        (["--trusted", "case_001"], "trusted case case_001: it was not trusted"),
        (["--clean-list", "data/datalist.json"], "clean list: the training was started without one"),
        (["--initial-model", "unbroken"], "initial model"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_other_settings_are_refused_by_name(
    copy: Path, capsys, monkeypatch: pytest.MonkeyPatch, more: list[str], why: str
) -> None:
    monkeypatch.chdir(copy)
    before = kept(copy / "network")
    assert goes_on(copy, "network", *more)[0] == 2
    assert why in capsys.readouterr().err.replace("\n  why", "")
    assert kept(copy / "network") == before


def test_what_is_not_given_is_as_it_was(copy: Path, capsys) -> None:
    """Trusted cases, a clean list and an initial model, named at the start alone."""
    datalist = copy / "data" / "datalist.json"
    initial = copy / "unbroken" / "model"
    options = {"trusted": ["case_002"], "clean_list": datalist, "initial_model": initial, "method": "supervised"}
    stopped(datalist, copy / "run", "warm_up", 5, **options)
    assert goes_on(copy, "run")[0] == 0
    train(datalist, copy / "whole", overrides=SETTINGS, **options)
    a, b = (load_package(copy / name / "model").tensors() for name in ("run", "whole"))
    assert all(torch.equal(a[key], b[key]) for key in b)
    # Changed weights of the initial model are seen, as are changed clean cases.
    stopped(datalist, copy / "other", "warm_up", 5, **options)
    shutil.rmtree(initial)
    shutil.copytree(copy / "whole" / "model", initial)
    assert goes_on(copy, "other")[0] == 2
    assert "initial model\n  why: it has other weights" in capsys.readouterr().err


def test_a_checkpoint_of_another_training_is_refused(copy: Path, capsys) -> None:
    other = corrupt(copy / "data" / "datalist.json", copy / "noisy", noise="mt", ratio=1.0)
    stopped(other, copy / "second", "warm_up", 9)
    shutil.copy(copy / "second" / "checkpoint.pt", copy / "network" / "checkpoint.pt")
    assert goes_on(copy)[0] == 2
    assert "it belongs to another training: case case_001: its label has changed" in capsys.readouterr().err
    shutil.copy(copy / "second" / "checkpoint_previous.pt", copy / "agents" / "checkpoint_mask_agents.pt")
    assert goes_on(copy, "agents")[0] == 2
    assert "it belongs to another training" in capsys.readouterr().err


# Runs of version 0.1.


def as_of_0_1(folder: Path) -> None:
    """Take out what 0.1 did not write, and put in the decoders that every network had."""
    run = RunFolder(folder)
    settings = json.loads(run.settings.read_text())
    run.settings.write_text(json.dumps({key: part for key, part in settings.items() if key not in ("format", "bound")}))
    for path in run.checkpoints:
        if path.is_file() and "previous" in path.name:
            path.unlink()
        elif path.is_file():
            state = load_checkpoint(path)
            path.unlink()
            if "mask" not in path.name:
                state = with_image_agents(state)
            save_checkpoint(path, {key: part for key, part in state.items() if key not in ("run", "threads")})


def with_image_agents(state: dict[str, Any]) -> dict[str, Any]:
    """A state with two decoders behind the others, as all of 0.1's; the optimiser knows one of them."""
    heads = {"value_decoder.head.weight": torch.ones(1, 8), "policy_decoder.head.weight": torch.ones(3, 8)}
    optimiser, count = state["optimiser"], len(state["optimiser"]["param_groups"][0]["params"])
    labels = state["review"]["labels"]
    seen = {"labels": labels | {"snapshots": [{**each, **heads} for each in labels["snapshots"]]}}
    group = {**optimiser["param_groups"][0], "params": list(range(count + 2))}
    moments = {name: torch.ones(1, 8) for name in ("exp_avg", "exp_avg_sq")} | {"step": torch.tensor(1.0)}
    return state | {
        "network": {**state["network"], **heads},
        "average": {**state["average"], **{f"module.{name}": each for name, each in heads.items()}},
        "best_weights": {**state["best_weights"], **heads},
        "optimiser": {"state": {**optimiser["state"], count: moments}, "param_groups": [group]},
        "review": {**state["review"], **seen},
    }


@pytest.mark.parametrize("run", ["network", "agents"])
def test_a_run_of_an_older_version_goes_on_with_a_warning(place: Path, copy: Path, run: str) -> None:
    as_of_0_1(copy / run)
    status, seen = goes_on(copy, run)
    warnings = warnings_in(seen)
    assert status == 0
    assert warnings
    assert all("written by an older version" in text and "cannot be checked" in text for text in warnings)
    same_as_unbroken(copy, run, place)
    assert json.loads((copy / run / "run.json").read_text())["bound"]["cases"][0]["label"]  # from now on it is bound


def test_a_compared_method_of_an_older_version_goes_on_as_it_began(copy: Path) -> None:
    """0.1 weighed labels in it, and trained no mask agents whatever the settings said."""
    datalist = copy / "data" / "datalist.json"
    weighed = {"reliability": {"enabled": True}, "mask_agents": {"enabled": False}}
    control = JobControl()
    with pytest.raises(Cancelled):
        train(
            datalist, copy / "run", method="supervised", overrides=SETTINGS | weighed, control=control,
            listeners=[lambda e: control.cancel() if e["event"] == "progress" and e["done"] == 7 else None],
        )  # fmt: skip
    as_of_0_1(copy / "run")
    run = json.loads((copy / "run" / "run.json").read_text())
    run["config"]["mask_agents"]["enabled"] = True
    (copy / "run" / "run.json").write_text(json.dumps(run))
    assert goes_on(copy, "run")[0] == 0
    train(datalist, copy / "whole", method="supervised", overrides=SETTINGS | weighed)
    ours, whole = load_package(copy / "run" / "model"), load_package(copy / "whole" / "model")
    a, b = ours.tensors(), whole.tensors()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in b)
    assert "Cases whose labels look unreliable weigh less." in ours.card


# Two generations of checkpoints.


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def damaged(path: Path) -> None:
    """More bytes than lie unused between two entries of the archive."""
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 256):
        data[place] ^= 0x10
    path.write_bytes(data)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [torn, damaged, emptied, Path.unlink])
@pytest.mark.parametrize(("run", "name"), [("network", "checkpoint.pt"), ("agents", "checkpoint_mask_agents.pt")])
def test_the_generation_before_a_damaged_checkpoint_is_taken_up(
    place: Path, copy: Path, run: str, name: str, harm: Callable[[Path], None]
) -> None:
    newest = copy / run / name
    assert load_checkpoint(previous_generation(newest))["step"] < load_checkpoint(newest)["step"]
    harm(newest)
    status, seen = goes_on(copy, run)
    warnings = warnings_in(seen)
    assert status == 0
    assert len(warnings) == 1
    assert name in warnings[0]
    assert "goes on from the one before it" in warnings[0]
    same_as_unbroken(copy, run, place)
    for path in (newest, previous_generation(newest)):  # both are sound again
        load_checkpoint(path)


def test_only_when_both_generations_are_damaged_it_is_an_error(copy: Path, capsys) -> None:
    newest = copy / "network" / "checkpoint.pt"
    torn(newest)
    emptied(previous_generation(newest))
    assert goes_on(copy)[0] == 2
    told = capsys.readouterr().err
    assert f"{newest}\n  why: " in told
    assert "checkpoint_previous.pt" in told
    assert not (copy / "network" / "model").exists()


def test_a_checkpoint_of_a_newer_format_is_not_passed_over(copy: Path, capsys) -> None:
    newest = copy / "network" / "checkpoint.pt"
    content = torch.load(newest, weights_only=True)
    torch.save(content | {"version": 99}, newest)
    before = newest.read_bytes()
    assert goes_on(copy)[0] == 2
    assert "format version 99" in capsys.readouterr().err
    assert newest.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"config": 5, "method": "x"}', b"[" * 100_000, b"\xff"])
def test_a_damaged_run_json_is_told(copy: Path, capsys, content: bytes) -> None:
    (copy / "network" / "run.json").write_bytes(content)
    assert goes_on(copy)[0] == 2
    assert "run.json" in capsys.readouterr().err


# Two trainings that start in one folder.


def test_a_start_beside_another_writes_nothing(copy: Path, capsys) -> None:
    folder = copy / "new"
    with FolderLock(folder):  # another has just begun and has not written its settings
        command = ["train", str(copy / "data" / "datalist.json"), "--output", str(folder), "--method", "supervised"]
        assert main(command) == 2
        assert "is training in this folder" in capsys.readouterr().err
        assert not (folder / "run.json").exists()
        assert not (folder / "events.jsonl").exists()


def test_a_start_that_comes_a_moment_later_leaves_the_others_settings(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other begins, ends and lets go between this one's look at the folder and its lock."""
    datalist, folder = copy / "data" / "datalist.json", copy / "new"
    entered = FolderLock.__enter__

    def after_another(lock: FolderLock) -> FolderLock:
        monkeypatch.setattr(FolderLock, "__enter__", entered)
        train(datalist, folder, method="supervised", overrides=SETTINGS)
        told.append((folder / "events.jsonl").read_bytes())
        return entered(lock)

    told: list[bytes] = []
    monkeypatch.setattr(FolderLock, "__enter__", after_another)
    with pytest.raises(InputError, match="a training has been started there"):
        train(datalist, folder, method="mtcl", overrides=SETTINGS)
    assert json.loads((folder / "run.json").read_text())["method"] == "supervised"
    assert load_package(folder / "model").config["method"] == "supervised"
    assert (folder / "events.jsonl").read_bytes() == told[0]


# What is refused before anything is written.


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--set", "train.precision=bfloat16"], "setting train.precision"),
        (["--preset", "left_atrium_paper", "--set", "train.precision=bfloat16"], "setting train.precision"),
        (["--trusted", "case_077"], "trusted case case_077"),
        (["--set", 'data.regions={"core": [9]}'], "region 'core'"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_nothing_is_left_of_a_start_that_is_refused(copy: Path, capsys, more: list[str], named: str) -> None:
    command = ["train", str(copy / "data" / "datalist.json"), "--output", str(copy / "new"), *more]
    assert main([*command, "--set", "train.device=cpu"]) == 2
    assert capsys.readouterr().err.startswith(named)
    assert not (copy / "new").exists()


def test_other_threads_are_told(copy: Path) -> None:
    path = copy / "network" / "checkpoint.pt"
    state = load_checkpoint(path)
    save_checkpoint(path, state | {"threads": 7})
    _, seen = goes_on(copy)
    (text,) = warnings_in(seen)
    assert "7 CPU threads so far, now on 1" in text


def test_the_digest_is_of_the_content(place: Path) -> None:
    bound = json.loads((place / "network" / "run.json").read_text())["bound"]
    digests = [case[key] for case in bound["cases"] for key in ("image", "label")]
    assert len(set(digests)) == 2 * CASES
    assert all(len(digest) == 64 for digest in digests)
    assert [case["held_out"] for case in bound["cases"]].count(True) == 1
