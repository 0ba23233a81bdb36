"""Settings, numbers and lines that make no sense are refused by name, before any work, and never end a job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from SVLDRLCore.benchmarking.benchmark import benchmark, check_noises
from SVLDRLCore.benchmarking.benchmark_settings import settings_from_dict
from SVLDRLCore.benchmarking.corrupt import corrupt
from SVLDRLCore.cli import main
from SVLDRLCore.config.settings import load_config
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog, read_events
from SVLDRLCore.job_control import LONGEST_LINE, JobControl, listen_to_stdin
from SVLDRLCore.jobs.audit import audit
from SVLDRLCore.jobs.phantom import phantom
from SVLDRLCore.jobs.refine import refine

NAN, INFINITE, HALF = float("nan"), float("inf"), "\ud800"
DEEP = "[" * 100_000 + "]" * 100_000
BAD_SETTINGS = [
    ("mask_agents.gamma", NAN),
    ("mask_agents.entropy_bonus", NAN),
    ("mask_agents.roughness_mm", INFINITE),
    ("mask_agents.shift_share", -0.1),
    ("optimiser.poly_power", NAN),
    ("optimiser.momentum", 2.0),
    ("optimiser.learning_rate", True),
    ("agents.component_weight", INFINITE),
    ("agents.smallest_component", -1),
    ("agents.plausibility_sign", 0),
    ("agents.connectivity", 26.0),
    ("reliability.floor_mm", NAN),
    ("reliability.edge", 1),
    ("data.spacing_mm", [1.0, NAN, 1.0]),
    ("data.spacing_mm", [1.0, 0.0, 1.0]),
    ("data.spacing_mm", [1.0, 1.0]),
    ("data.patch_size", [0, 16, 16]),
    ("data.patch_size", [2**40, 16, 16]),
    ("data.intensity_low", -1.0),  # a percentile, unless intensity is window
    ("data.flip_axes", [1, 1]),
    ("data.flip_axes", [3]),
    ("data.regions", {"core": [256]}),
    ("data.regions", {HALF: [1]}),
    ("network.depths", [2, 2, 2]),
    ("network.depths", [10**6, 2, 2, 2]),
    ("train.steps", 0),
    ("train.steps", -5),
    ("train.steps", "300"),
    ("train.seed", -1),
    ("train.seed", 2**63),
    ("train.threads", -1),
    ("train.threads", 10**6),
    ("train.threads", False),
    ("train.most_non_finite", 0),
    ("train.device", HALF),
    ("train.device", "meta"),
]


def overrides(name: str, value: Any) -> dict[str, Any]:
    section, key = name.split(".")
    return {section: {key: value}}


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS, ids=lambda part: ascii(part)[:40])
def test_a_setting_that_cannot_be_used_is_named_before_the_data_list_is_looked_at(
    tmp_path: Path, capsys, name: str, value: Any
) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(overrides(name, value)))
    command = ["train", str(tmp_path / "none.json"), "--output", str(tmp_path / "run"), "--settings", str(settings)]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert name.removeprefix("train.") in told
    assert "\n  do:  " in told
    assert "none.json" not in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [10**5000, 10**400], ids=["5000 digits", "400 digits"])
def test_numbers_of_thousands_of_digits_are_refused(value: int) -> None:
    for name in ("train.steps", "optimiser.learning_rate", "data.spacing_mm"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            load_config(overrides=overrides(name, value))


@pytest.mark.parametrize(
    "text",
    ['{"train": {"steps": ' + "9" * 5000 + "}}", '{"train": ' + DEEP + "}", DEEP, '{"train": {"steps": NaN}}', "[]"],
    ids=["5000 digits", "deep value", "deep", "NaN", "list"],
)
def test_files_of_settings_that_cannot_be_used_are_refused(tmp_path: Path, capsys, text: str) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(text)
    command = ["train", str(tmp_path / "none.json"), "--output", str(tmp_path / "run"), "--settings", str(settings)]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "settings.json" in told or "train.steps" in told
    with pytest.raises(InputError):
        benchmark(settings, tmp_path / "out")


@pytest.mark.parametrize(
    "value", [DEEP, "9" * 5000, "NaN", "Infinity", "-1", "true", '"300"', "[300]"], ids=lambda v: v[:9]
)
def test_a_value_on_the_command_line_is_refused_by_name(tmp_path: Path, capsys, value: str) -> None:
    command = ["train", str(tmp_path / "none.json"), "--output", str(tmp_path / "run"), "--set", f"train.steps={value}"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "train.steps" in told
    assert len(told) < 500


REFINE = ["refine", "i.nrrd", "--model", "m", "--output", "o.nrrd"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ([*REFINE, "--trust", "nan"], "trust"),
        ([*REFINE, "--margin-mm", "inf"], "margin_mm"),
        ([*REFINE, "--margin-mm", "-1"], "margin_mm"),
        ([*REFINE, "--overlap", "nan"], "overlap"),
        ([*REFINE, "--overlap", "0.999"], "overlap"),
        ([*REFINE, "--policy-steps", "-1"], "policy_steps"),
        ([*REFINE, "--smallest-fragment-ml", ".nan"], "smallest_fragment_ml"),
        ([*REFINE, "--trust", ".nan"], "trust"),
        ([*REFINE, "--margin-mm", ".inf"], "margin_mm"),
        (["audit", "d.json", "--model", "m", "--output", "o", "--overlap", "nan"], "overlap"),
        (["audit", "d.json", "--model", "m", "--output", "o", "--overlap", "1"], "overlap"),
        (["corrupt", "d.json", "--output", "o", "--noise", "mt", "--ratio", "nan"], "ratio"),
        (["corrupt", "d.json", "--output", "o", "--noise", "sloppy", "--left-out", "inf"], "left_out"),
        (["corrupt", "d.json", "--output", "o", "--noise", "mt", "--seed", "-1"], "seed"),
        (["corrupt", "d.json", "--output", "o", "--noise", "sfda", "--source-cases", "0"], "source_cases"),
        (["phantom", "--output", "o", "--cases", "-1"], "cases"),
        (["phantom", "--output", "o", "--cases", "1000000000"], "cases"),
        (["phantom", "--output", "o", "--seed", "-1"], "seed"),
        (["demo", "--output", "o", "--seed", "-1"], "seed"),
        (["demo", "--output", "o", "--seed", str(2**64)], "seed"),
        (["benchmark", "b.json", "--output", "o", "--workers", "0"], "workers"),
        (["benchmark", "b.json", "--output", "o", "--workers", "1000000"], "workers"),
    ],
    ids=lambda part: " ".join(part[:1] + part[-2:]) if isinstance(part, list) else part,
)  # fmt: skip
def test_numbers_of_every_command_are_looked_at_before_any_file(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, command: list[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(command)
    except SystemExit as left:  # the parser itself takes "nan" for a word
        status = left.code
    told = capsys.readouterr().err
    assert status == 2
    assert told.startswith(f"{name}\n") or f'"{name}"' in told
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "value", [True, "0.5", None, NAN, 10**5000, [0.5]], ids=lambda v: ascii(v)[:9] if v != 10**5000 else "5000"
)
def test_functions_take_numbers_alone(tmp_path: Path, value: Any) -> None:
    where = {"model": "m", "output": tmp_path / "o.nrrd"}
    for call in (
        lambda: refine("i.nrrd", "r.nrrd", trust=value, **where),
        lambda: refine("i.nrrd", "r.nrrd", policy_steps=value, **where),
        lambda: audit("d.json", overlap=value, **where),
        lambda: corrupt("d.json", tmp_path / "o", noise="mt", ratio=value),
        lambda: phantom(tmp_path / "o", cases=value),
        lambda: benchmark("b.json", tmp_path / "o", workers=value),
    ):
        with pytest.raises(InputError, match=r"trust|policy_steps|overlap|ratio|cases|workers"):
            call()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"steps": 0}, "setting steps"),
        ({"seeds": [-1]}, "setting seeds"),
        ({"seeds": [2**64]}, "setting seeds"),
        ({"ratios": [NAN]}, "setting ratios"),
        ({"about": HALF}, "setting about"),
        ({"rows": {"a": {"method": "supervised", "trusted": -1}}}, "setting rows.a.trusted"),
        ({"rows": {"a": {"method": "supervised", "ratios": [INFINITE]}}}, "setting rows.a.ratios"),
        ({"rows": {"a": {"method": "mtcl", "overrides": {"method_settings": {"weight": NAN}}}}}, "settings.weight"),
        ({"rows": {"a": {"method": "supervised"}, HALF: {"method": "supervised"}}}, "setting rows"),
        ({"noises": {"mt": {"kind": "mt", "strength": ["strong"]}}}, "setting noises.mt"),
        ({"noises": {"mt": {"kind": "sloppy", "left_out": NAN}}}, "setting noises.mt: left_out"),
        ({"noises": {"mt": {"kind": "sfda", "preset": "liver"}}}, "setting noises.mt: preset"),
        ({"noises": {"mt": {"kind": "sfda", "source_cases": True}}}, "setting noises.mt: source_cases"),
    ],
    ids=lambda part: ascii(part)[:50],
)  # fmt: skip
def test_settings_of_a_benchmark_are_named(change: dict[str, Any], name: str) -> None:
    usual = {
        "datalist": "d.json", "noises": {"mt": {"kind": "mt"}}, "rows": {"a": {"method": "supervised"}},
        "reference": "a", "baseline": "a",
    }  # fmt: skip
    check_noises(settings_from_dict(usual))
    with pytest.raises(InputError) as refused:
        check_noises(settings_from_dict(usual | change))
    assert name in str(refused.value)
    str(refused.value).encode()  # it can be written and printed


GARBAGE = [
    DEEP.encode(),
    b'{"command": ' + DEEP.encode() + b"}",
    b"x" * (3 * LONGEST_LINE),
    b"\xff\xfe\x00",
    b'{"command": ' + b"9" * 5000 + b"}",
    b'{"command": NaN}',
    b'{"command": "\\ud800"}',
    b"",
]


@pytest.mark.parametrize("then", [b'{"command": "cancel"}\n', b""], ids=["cancel", "end of the parent"])
def test_a_line_of_garbage_kills_neither_cancel_nor_the_watch_over_the_parent(then: bytes) -> None:
    reader, writer = os.pipe()
    control = JobControl()
    with os.fdopen(reader, "rb", buffering=0) as source, os.fdopen(writer, "wb") as sink:
        thread = listen_to_stdin(control, source)
        for line in GARBAGE:
            sink.write(line + b"\n")
        sink.write(then)
        sink.close()
        thread.join(20)
    assert not thread.is_alive()
    assert control.reason == ("cancelled by the user" if then else "the program that started this job has ended")


def test_a_worker_obeys_after_garbage_and_says_nothing_of_it() -> None:
    code = (
        "import threading\n"
        "from SVLDRLCore.job_control import JobControl, listen_to_stdin\n"
        "control = JobControl()\n"
        "listen_to_stdin(control).join()\n"
        "print(control.reason)\n"
    )
    lines = b"".join(line + b"\n" for line in GARBAGE) + b'{"command": "cancel"}\n'
    done = subprocess.run([sys.executable, "-c", code], input=lines, capture_output=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (b"cancelled by the user\n", b"")


def test_events_are_read_past_garbage(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.emit("message", text="one")
        log.emit("message", text=f"of {HALF}")  # a file name that is no UTF-8
    with path.open("ab") as file:
        file.write(b"".join(line + b"\n" for line in GARBAGE))
    with EventLog(path) as log:
        log.emit("message", text="two")
    assert [event["text"] for event in read_events(path)] == ["one", f"of {HALF}", "two"]
