"""`train` looks at its cases as `check` does: it names all that cannot be used, or leaves them out and says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_trainings import TINY

from SVLDRLCore.cli import main
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.files import case_checks, rated_labels
from SVLDRLCore.files.volumes import (
    read_image,
    read_label,
    write_image,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.check import check
from SVLDRLCore.training.train import train

SETTINGS = TINY | {"data": TINY["data"] | {"spacing_mm": None, "held_out_fraction": 0.2}}


def data_set(folder: Path, training: int = 6, validation: int = 1) -> Path:
    return write_phantom_dataset(folder, training, validation, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))


def files_of(datalist: Path, part: str, index: int) -> tuple[Path, Path]:
    entry = json.loads(datalist.read_text())[part][index]
    return tuple(datalist.parent / entry[key] for key in ("image", "label"))


def spoil(datalist: Path) -> None:
    """An image cut short, and a label of other values."""
    image, label = files_of(datalist, "training", 1)[0], files_of(datalist, "training", 4)[1]
    image.write_bytes(image.read_bytes()[:-100])
    shutil.copy(files_of(datalist, "training", 4)[0], label)


def without(datalist: Path, *indices: int) -> Path:
    content = json.loads(datalist.read_text())
    content["training"] = [case for i, case in enumerate(content["training"]) if i not in indices]
    datalist.with_name("rest.json").write_text(json.dumps(content))
    return datalist.with_name("rest.json")


def warnings_in(seen: list[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in seen if event["event"] == "warning"]


def test_all_bad_cases_are_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    datalist = data_set(tmp_path / "data")
    sound = datalist.read_bytes(), files_of(datalist, "training", 1)[0].read_bytes()
    label = files_of(datalist, "training", 4)[1].read_bytes()
    spoil(datalist)
    errors = [(p.case, p.why) for p in check(datalist) if p.severity == "error"]
    assert [case for case, _ in errors] == ["case_002", "case_005"]
    seen: list[dict[str, Any]] = []
    with pytest.raises(InputError) as refused:
        train(datalist, tmp_path / "run", overrides=SETTINGS, listeners=[seen.append])
    for case, why in errors:
        assert case in refused.value.what
        assert why in refused.value.why
    assert "--skip-bad-cases" in refused.value.do
    assert [e["event"] for e in seen if e["event"] in ("failed", "stage")] == ["failed"]
    assert not (tmp_path / "run").exists()
    files_of(datalist, "training", 1)[0].write_bytes(sound[1])
    files_of(datalist, "training", 4)[1].write_bytes(label)
    assert train(datalist, tmp_path / "run", variant="corrected", overrides=SETTINGS).is_dir()  # mended: it starts


def test_what_is_left_is_trained_as_if_the_bad_cases_had_never_been_listed(tmp_path: Path) -> None:
    datalist = data_set(tmp_path / "data")
    spoil(datalist)
    seen: list[dict[str, Any]] = []
    model = train(
        datalist, tmp_path / "run", overrides=SETTINGS, skip_bad_cases=True, listeners=[seen.append],
        trusted=["case_002", "case_003"],
    )  # fmt: skip
    told = [text for text in warnings_in(seen) if text.startswith("Left out")]
    assert [text.split(": ")[0] for text in told] == ["Left out, case_002", "Left out, case_005"]
    assert all(text in (model / "MODEL_CARD.md").read_text() for text in ("Left out, case_002", "Left out, case_005"))
    rest = without(datalist, 1, 4)
    same = train(rest, tmp_path / "same", overrides=SETTINGS, trusted=["case_003"])
    assert (model / "model.safetensors").read_bytes() == (same / "model.safetensors").read_bytes()
    reviewed = [
        json.loads((p / "reliability.json").read_text())["cases"] for p in (tmp_path / "run", tmp_path / "same")
    ]
    assert reviewed[0] == reviewed[1]


def test_nothing_left(tmp_path: Path) -> None:
    datalist = data_set(tmp_path / "data", 1)
    files_of(datalist, "training", 0)[1].write_bytes(b"")
    with pytest.raises(InputError, match="no training case is left"):
        train(datalist, tmp_path / "run", overrides=SETTINGS, skip_bad_cases=True)


def test_from_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    datalist = data_set(tmp_path / "data", 3)
    files_of(datalist, "training", 1)[1].write_bytes(b"")
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    arguments = ["train", str(datalist), "--output", str(tmp_path / "run"), "--settings"]
    arguments += [str(tmp_path / "settings.json"), "--variant", "corrected"]
    assert main(arguments) == 2
    assert "case_002" in capfd.readouterr().err
    assert main([*arguments, "--skip-bad-cases"]) == 0
    assert "Left out, case_002" in "".join(capfd.readouterr())


def test_a_copied_image_in_both_lists_is_an_error(tmp_path: Path) -> None:
    datalist = data_set(tmp_path / "data")
    shutil.copy(files_of(datalist, "validation", 0)[0], files_of(datalist, "training", 2)[0])
    (problem,) = [p for p in check(datalist) if p.severity == "error"]
    assert (problem.case, "case_007" in problem.why) == ("case_003", True)
    with pytest.raises(InputError, match=r"case_003.*case_007.*in both lists"):
        train(datalist, tmp_path / "run", overrides=SETTINGS)
    seen: list[dict[str, Any]] = []
    train(
        datalist, tmp_path / "run", variant="corrected", overrides=SETTINGS, skip_bad_cases=True,
        listeners=[seen.append],
    )  # fmt: skip
    assert any(text.startswith("Left out, case_003") for text in warnings_in(seen))


def test_an_image_that_is_learned_from_chooses_no_model(tmp_path: Path) -> None:
    datalist = data_set(tmp_path / "data")
    content = json.loads(datalist.read_text())
    clean = {"labels": content["labels"], "training": [], "validation": content["training"][:1]}
    datalist.with_name("clean.json").write_text(json.dumps(clean))
    with pytest.raises(InputError, match=r"case_001.*in both lists"):
        train(datalist, tmp_path / "run", overrides=SETTINGS, clean_list=datalist.with_name("clean.json"))


def test_held_out_copies_are_learned_from_instead(tmp_path: Path) -> None:
    datalist = data_set(tmp_path / "data", 5)
    for index in range(1, 5):
        shutil.copy(files_of(datalist, "training", 0)[0], files_of(datalist, "training", index)[0])
    seen: list[dict[str, Any]] = []
    train(datalist, tmp_path / "run", variant="corrected", overrides=SETTINGS, listeners=[seen.append])
    assert any("is not held out: its image is that of" in text for text in warnings_in(seen))
    assert not any("validation_dice" in event for event in seen)


def test_every_file_is_read_once_and_variant_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datalist, read = data_set(tmp_path / "data", 4), []

    def counted(real: Callable[[Path], Any]) -> Callable[[Path], Any]:
        return lambda path: read.append(path) or real(path)

    for module, name in ((case_checks, "read_image"), (rated_labels, "read_label")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    train(datalist, tmp_path / "run", variant="corrected", overrides=SETTINGS)
    assert len(read) == len(set(read)) == 8
    control = JobControl()

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["done"] == 2:
            control.cancel()

    read.clear()
    with pytest.raises(Cancelled):
        train(datalist, tmp_path / "run 2", overrides=SETTINGS, listeners=[stop], control=control)
    assert len(read) == 4


def test_what_is_refused_before_it_begins_leaves_nothing_behind(tmp_path: Path) -> None:
    """Faults that show only when all is read: the next start, without resuming, works."""
    datalist, other, run = data_set(tmp_path / "data"), data_set(tmp_path / "other"), tmp_path / "run"
    model = train(datalist, tmp_path / "earlier", variant="corrected", overrides=SETTINGS)
    sound = [files_of(other, "training", i)[1].read_bytes() for i in range(6)]
    for i in range(6):
        label = read_label(files_of(other, "training", i)[1])
        write_label(label.path, label.array * 0, label.geometry, label.segments, overwrite=True)
    wider = SETTINGS | {"network": SETTINGS["network"] | {"feature_size": 16}}
    assert SETTINGS["network"]["feature_size"] != 16
    refusals = [
        ("every label is empty", other, {"overrides": SETTINGS}),
        ("another network", datalist, {"overrides": wider, "initial_model": model}),
    ]
    for why, cases, options in refusals:
        with pytest.raises(InputError, match=why):
            train(cases, run, variant="corrected", **options)
        assert not run.exists(), why
    (tmp_path / "run").mkdir()
    (tmp_path / "run/events.jsonl").write_text("somebody's")
    with pytest.raises(InputError, match="holds other files"):
        train(datalist, run, overrides=SETTINGS)
    assert (tmp_path / "run/events.jsonl").read_text() == "somebody's"
    (tmp_path / "run/events.jsonl").unlink()
    for i, data in enumerate(sound):
        files_of(other, "training", i)[1].write_bytes(data)
    assert train(other, run, variant="corrected", overrides=SETTINGS).is_dir()


def test_a_case_that_cannot_be_prepared_is_left_out_too(tmp_path: Path) -> None:
    """Its label is known in a corner that no voxel of the model's grid shows; another image is no unit image."""
    datalist = data_set(tmp_path / "data")
    content = json.loads(datalist.read_text())
    datalist.write_text(json.dumps(content | {"labels": content["labels"] | {"9": "ignore"}}))
    label = read_label(files_of(datalist, "training", 2)[1])
    hidden = np.full(label.array.shape, 9, np.uint8)
    hidden[0, 0, 0] = 0
    write_label(label.path, hidden, label.geometry, overwrite=True)
    image = read_image(files_of(datalist, "training", 4)[0])
    write_image(image.path, image.array * 0 - 7.0, image.geometry, overwrite=True)
    settings = SETTINGS | {"data": SETTINGS["data"] | {"spacing_mm": [12.0, 12.0, 12.0], "intensity": "unit"}}
    for i in (0, 1, 2, 3, 5):
        other = read_image(files_of(datalist, "training", i)[0])
        write_image(other.path, np.clip(other.array, 0, 255), other.geometry, overwrite=True)
    with pytest.raises(InputError, match=r"case_003, case_005.*leave them out") as refused:
        train(datalist, tmp_path / "run", variant="corrected", overrides=settings)
    assert "all of it is to be ignored" in refused.value.why
    assert "values run from -7" in refused.value.why
    seen: list[dict[str, Any]] = []
    train(
        datalist, tmp_path / "run", variant="corrected", overrides=settings, skip_bad_cases=True,
        listeners=[seen.append],
    )  # fmt: skip
    assert [text.split(":")[0] for text in warnings_in(seen) if text.startswith("Left out")] == [
        "Left out, case_003", "Left out, case_005"
    ]  # fmt: skip


def test_cases_of_both_lists_may_have_one_name(tmp_path: Path) -> None:
    """A clean case that cannot be used costs no training case of the same name."""
    datalist, run = data_set(tmp_path / "data"), tmp_path / "run"
    clean = write_phantom_dataset(tmp_path / "clean", 2, 0, 50, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    content = json.loads(clean.read_text())
    label = files_of(clean, "training", 1)[1]
    label.write_bytes(label.read_bytes()[:-50])
    clean.write_text(json.dumps(content | {"training": [], "validation": content["training"]}))
    seen: list[dict[str, Any]] = []
    options = {"clean_list": clean, "skip_bad_cases": True, "listeners": [seen.append]}
    train(datalist, run, variant="corrected", overrides=SETTINGS, **options)
    bound = json.loads((run / "run.json").read_text())["bound"]
    assert [case["name"] for case in bound["cases"]] == [f"case_{i:03}" for i in range(1, 7)]
    (left_out,) = [text for text in warnings_in(seen) if text.startswith("Left out")]
    assert left_out.startswith("Left out, case_002 of the clean list: ")
    assert train(datalist, run, resume=True).is_dir()
