"""An audit without a model: each label beside a network that has not seen it, stopped and gone on with, or refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.files.datalist import Case, DataList, load_datalist, save_datalist
from SVLDRLCore.files.volumes import Geometry, read_label, write_image, write_label
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.audit import Audit, audit

GRID = Geometry((8, 16, 16), (4.0, 4.0, 4.0))
SETTINGS = [
    "data.patch_size=[8,16,16]", "network.feature_size=8", "network.levels=3", "train.steps=16", "train.batch_size=2",
    "train.validate_every=4", "train.threads=1", "optimiser.ema_decay=0.7", "optimiser.learning_rate=0.01",
]  # fmt: skip
OVERRIDES: dict[str, Any] = {
    "data": {"patch_size": [8, 16, 16]},
    "network": {"feature_size": 8, "levels": 3},
    "train": {"steps": 16, "batch_size": 2, "validate_every": 4, "threads": 1},
    "optimiser": {"ema_decay": 0.7, "learning_rate": 0.01},
}
WRONG = "case_2"


def blob(seed: int) -> np.ndarray:
    centre = np.random.default_rng(seed).uniform((3, 6, 6), (4, 9, 9))
    return np.linalg.norm(np.indices(GRID.size_dhw) - centre.reshape(3, 1, 1, 1), axis=0) < 3.2


def write_cases(folder: Path, count: int = 4, trusted: int = -1) -> Path:
    """A bright blob in each image; one label is of another place."""
    cases = []
    for n in range(count):
        organ, name = blob(n), f"case_{n}"
        image = 100.0 * organ + np.random.default_rng(n).normal(0, 5, GRID.size_dhw)
        label = np.roll(organ, 6, axis=2) if name == WRONG else organ
        file = write_image(folder / f"{name}.nrrd", image.astype(np.float32), GRID)
        drawn = write_label(folder / f"{name}_label.nrrd", label.astype(np.uint8), GRID)
        cases.append(Case(name, (file,), drawn, trusted=n == trusted))
    split = max(1, count - 1)
    listed = DataList("blobs", {1: "organ"}, tuple(cases[:split]), tuple(cases[split:]))
    return save_datalist(listed, folder / "datalist.json")


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    """To be changed."""
    return write_cases(tmp_path / "data")


@dataclass(frozen=True)
class Unbroken:
    """An audit that nothing has stopped, its data (not to be changed) and its events."""

    datalist: Path
    done: Audit
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    datalist, events = write_cases(tmp_path_factory.mktemp("shared") / "data"), []
    return Unbroken(datalist, check(datalist, listeners=[events.append]), events)


def check(datalist: Path, **more: Any) -> Audit:
    given = {"output": datalist.parents[1] / "audit", "overrides": OVERRIDES, "device": "cpu", **more}
    return audit(datalist, **given)


def require_the_same(done: Audit, unbroken: Audit) -> None:
    here, there = (f"{each.output}/" for each in (done, unbroken))
    assert [replace(row, corrected=row.corrected.replace(here, there)) for row in done.rows] == list(unbroken.rows)
    assert corrections(done.output) == corrections(unbroken.output)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def corrections(folder: Path) -> dict[str, bytes]:
    return everything(folder / "corrected")


def stopping_at(share: float, control: JobControl) -> Any:
    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["done"] >= share * event["total"]:
            control.cancel("enough")

    return listen


def test_a_wrong_label_is_found_without_a_model(unbroken: Unbroken) -> None:
    done = unbroken.done
    assert done.rows[0].case == WRONG
    assert done.rows[0].score > 0.5
    assert done.rows[0].dice < 0.5 < min(row.dice for row in done.rows[1:])
    assert sorted(row.case for row in done.rows) == [f"case_{n}" for n in range(4)]
    assert sorted(path.name for path in done.output.iterdir()) == [
        "audit.csv", "audit.html", "audit.json", "corrected"
    ]  # fmt: skip
    told = json.loads((done.output / "audit.json").read_text("utf-8"))
    assert (told["model"], told["cross_check"]) == (None, {"preset": "general", "steps": 16, "networks": 4})


def test_one_bar_covers_it_all(unbroken: Unbroken) -> None:
    progress = [event for event in unbroken.events if event["event"] == "progress"]
    shares = [event["done"] / event["total"] for event in progress]
    assert shares == sorted(shares)
    assert len({event["total"] for event in progress}) == 1
    networks = [f"training network {n} of 4" for n in range(1, 5)]
    assert list(dict.fromkeys(event["stage"] for event in progress)) == ["reading cases", *networks, "auditing"]
    assert progress[-1]["seconds_left"] is not None
    assert {event["event"] for event in unbroken.events} <= {"started", "progress", "message", "warning", "finished"}


@pytest.mark.parametrize("share", [0.35, 0.9], ids=["while a network is trained", "while labels are compared"])
def test_a_stopped_audit_goes_on_and_ends_as_an_unbroken_one(unbroken: Unbroken, tmp_path: Path, share: float) -> None:
    control, folder = JobControl(), tmp_path / "audit"
    with pytest.raises(Cancelled):
        check(unbroken.datalist, output=folder, control=control, listeners=[stopping_at(share, control)])
    assert [path.name for path in folder.iterdir()] == ["cross_check"]
    assert len(list(folder.glob("cross_check/fold_*/model"))) == (1 if share < 0.5 else 4)
    seen: list[dict[str, Any]] = []
    again = check(unbroken.datalist, output=folder, listeners=[seen.append])
    first = next(event for event in seen if event.get("stage", "").startswith("training"))
    assert first["done"] >= 0.2 * first["total"]  # the first network is not trained again
    require_the_same(again, unbroken.done)


def test_a_killed_audit_goes_on(unbroken: Unbroken, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "SVLDRLCore", "audit", str(unbroken.datalist), "--output", str(tmp_path / "audit")]
    command += ["--set", *SETTINGS, "--device", "cpu", "--events"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("stage") == "training network 2 of 4" and event["done"] > 0.4 * event["total"]:
            process.kill()
            break
    process.communicate()
    place = tmp_path / "audit" / "cross_check"
    assert (place / "fold_2" / "checkpoint.pt").is_file()
    assert not (place / "fold_2" / "model").exists()
    require_the_same(check(unbroken.datalist, output=tmp_path / "audit"), unbroken.done)


def begun(datalist: Path) -> Path:
    control = JobControl()
    with pytest.raises(Cancelled):
        check(datalist, control=control, listeners=[stopping_at(0.1, control)])
    return datalist.parents[1] / "audit"


def test_what_was_begun_with_other_data_or_settings_is_refused(datalist: Path) -> None:
    folder = begun(datalist)
    before = everything(folder)
    with pytest.raises(InputError, match=r"train\.steps.*started with 16, now it is 17"):
        check(datalist, overrides={**OVERRIDES, "train": {**OVERRIDES["train"], "steps": 17}})
    with pytest.raises(InputError, match="not empty"):
        check(datalist, model=folder / "cross_check" / "fold_1", overrides=None)
    case = load_datalist(datalist).training[0]
    label = read_label(case.label)
    write_label(case.label, np.roll(label.array, 1, axis=0), label.geometry, overwrite=True)
    with pytest.raises(InputError, match="case_0: its label has changed"):
        check(datalist)
    assert everything(folder) == before
    assert check(datalist, overwrite=True).rows[0].case == WRONG  # begun anew
    assert not (folder / "cross_check").exists()


def test_refusals_leave_nothing_behind(datalist: Path, tmp_path: Path) -> None:
    few = write_cases(tmp_path / "two", 2)
    for match, more in (
        ("reliability", {"overrides": {"reliability": {"enabled": True}}}),
        ("nonsense", {"preset": "nonsense"}),
        ("model has its own", {"model": tmp_path, "preset": "general"}),
        ("--model", {"datalist": few}),
    ):
        with pytest.raises(InputError, match=match):
            check(**{"datalist": datalist, **more})
        assert not (tmp_path / "audit").exists()
    foreign = tmp_path / "audit" / "cross_check" / "mine.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("precious")
    with pytest.raises(InputError, match="other files"):
        check(datalist, overwrite=True)
    assert [path.name for path in foreign.parent.iterdir()] == ["mine.txt"]


def test_a_bad_case_is_named_and_does_not_stop_the_rest(datalist: Path) -> None:
    load_datalist(datalist).training[0].label.write_bytes(b"NRRD0004\nrubbish")
    done = check(datalist)
    assert (done.rows[-1].case, done.rows[-1].kind) == ("case_0", "error")
    assert done.rows[0].case == WRONG
    assert len(done.rows) == 4


def test_a_cancel_before_anything_is_learned_leaves_nothing(datalist: Path, tmp_path: Path) -> None:
    control = JobControl()
    with pytest.raises(Cancelled):
        check(datalist, control=control, listeners=[stopping_at(0.0, control)])
    assert not (tmp_path / "audit").exists()


def test_networks_on_slices_do_it_too(unbroken: Unbroken, tmp_path: Path) -> None:
    small = {
        "data": {"patch_size": [1, 16, 16]}, "network": {"feature_size": 8, "levels": 3},
        "train": {**OVERRIDES["train"], "batch_size": 8}, "optimiser": OVERRIDES["optimiser"],
    }  # fmt: skip
    done = check(unbroken.datalist, output=tmp_path / "a", preset="slices", overrides=small)
    assert done.rows[0].case == WRONG


def test_a_model_that_was_trained_on_these_labels_is_told(datalist: Path, tmp_path: Path) -> None:
    from SVLDRLCore.training.train import train

    settings = {
        **OVERRIDES,
        "train": {**OVERRIDES["train"], "steps": 2},
        "data": {**OVERRIDES["data"], "held_out_fraction": 0.34},
    }
    train(datalist, tmp_path / "run", method="supervised", overrides=settings)
    done = audit(datalist, model=tmp_path / "run", output=tmp_path / "a", device="cpu")
    assert any("trained on 2 of these 4 labels" in text for text in done.warnings)
    others = write_cases(tmp_path / "others", 3)
    for case in load_datalist(others).cases:  # of the same names
        label = read_label(case.label)
        write_label(case.label, np.roll(label.array, 1, axis=1), label.geometry, overwrite=True)
    done = audit(others, model=tmp_path / "run" / "model", output=tmp_path / "b", device="cpu")
    assert not any("trained on" in text for text in done.warnings)
