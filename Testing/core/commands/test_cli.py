"""The command line: help, exit codes, errors that say what, why and what to do, and options that reach the job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from SVLDRLCore import __version__
from SVLDRLCore.cli import (
    COMMANDS,
    EXIT_CANCELLED,
    EXIT_INPUT_ERROR,
    SPINS,
    main,
)
from SVLDRLCore.config.settings import config_from_dict, load_config
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import Cancelled
from SVLDRLCore.jobs import refine as refine_module
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.training import train as train_module
from SVLDRLCore.training.registry import METHODS

TINY = [
    "data.patch_size=[8,16,16]", "data.spacing_mm=[4,4,4]", "network.levels=3", "agents.rollout_steps=1",
    "mask_agents.transition_steps=2", "mask_agents.full_rl_steps=2", "train.batch_size=1",
    "train.steps=4", "train.device=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def datalist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return write_phantom_dataset(folder, 3, 0, noise="mt", size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))


def exit_of(arguments: list[str]) -> int:
    """Exit status, whether argparse leaves or main returns."""
    try:
        return main(arguments)
    except SystemExit as left:
        return int(left.code or 0)


def trained_with(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> dict[str, Any]:
    """What `svldrl train` hands to the function."""
    got: dict[str, Any] = {}
    monkeypatch.setattr(train_module, "train", lambda **values: got.update(values) or Path("model"))
    assert main(["train", *arguments]) == 0
    return got


def test_it_tells_its_version(capsys) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code in (None, 0)
    assert capsys.readouterr().out.strip() == f"svldrl {__version__}"


def test_help_names_every_command(capsys) -> None:
    assert exit_of(["--help"]) == 0
    text = capsys.readouterr().out
    assert "svldrl" in text
    assert set(COMMANDS) >= {"train", "refine", "audit", "evaluate", "corrupt", "check", "info", "demo", "phantom"}
    for name in COMMANDS:
        assert name in text


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(capsys, command: str) -> None:
    assert exit_of([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert COMMANDS[command].__doc__.split(".")[0].split(",")[0] in " ".join(text.split())


def test_help_of_train_names_every_method(capsys) -> None:
    assert exit_of(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert [name for name in METHODS if name not in text] == []


@pytest.mark.parametrize(
    "arguments",
    [[], ["paint"], ["train"], ["settings", "--colour", "red"], ["train", "d", "--output", "o", "--stepz", "3"]],
    ids=str,
)
def test_wrong_usage_exits_with_2(capsys, arguments: list[str]) -> None:
    assert exit_of(arguments) == 2
    assert "error" in capsys.readouterr().err


def test_help_comes_fast_and_without_torch() -> None:
    code = "import sys; from SVLDRLCore.cli import build_parser; build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("own", [None, "7"])
def test_waiting_threads_leave_the_cores_to_others(own: str | None) -> None:
    """GNU OpenMP reads the variable when torch is imported: it must be there by then. The user's own value stays."""
    code = (
        "import os, sys\nfrom SVLDRLCore import cli\nassert 'torch' not in sys.modules\n"
        "assert cli.main(['info', 'no such model']) == 2\nprint(os.environ['GOMP_SPINCOUNT'])\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"} | (
        {"GOMP_SPINCOUNT": own} if own else {}
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [own or SPINS]


@pytest.mark.parametrize("variant", ["extended", "corrected", "as_printed"])
def test_settings_are_those_of_the_preset_and_variant(capsys, variant: str) -> None:
    assert main(["settings", "--preset", "left_atrium", "--variant", variant, "--all"]) == 0
    assert config_from_dict(json.loads(capsys.readouterr().out)) == load_config("left_atrium", variant)


def test_errors_say_what_why_and_what_to_do(capsys, tmp_path: Path) -> None:
    assert main(["train", str(tmp_path / "none.json"), "--output", str(tmp_path / "run")]) == EXIT_INPUT_ERROR
    text = capsys.readouterr().err
    assert "none.json" in text
    assert "\n  why: there is no such datalist" in text
    assert "\n  do:  Check the path" in text
    assert "Traceback" not in text
    assert main(["settings", "--preset", "liver"]) == EXIT_INPUT_ERROR
    assert "liver" in capsys.readouterr().err


def test_a_cancelled_job_exits_with_130(monkeypatch, capsys) -> None:
    def stopped(**values: Any) -> Path:
        raise Cancelled("stopped by SIGINT")

    monkeypatch.setattr(train_module, "train", stopped)
    assert main(["train", "data.json", "--output", "run"]) == EXIT_CANCELLED == 130
    assert "stopped by SIGINT" in capsys.readouterr().err


# Options reach the job.


def test_set_takes_numbers_lists_words_and_null(monkeypatch) -> None:
    got = trained_with(
        monkeypatch,
        [
            "d.json", "--output", "run", "--set", "train.steps=12", "data.patch_size=[8,16,16]",
            "optimiser.name=sgd", "data.spacing_mm=null", "agents.bound_to_image=false",
            'data.regions={"core": [2]}',
        ],
    )  # fmt: skip
    assert got["overrides"] == {
        "train": {"steps": 12},
        "data": {"patch_size": [8, 16, 16], "spacing_mm": None, "regions": {"core": [2]}},
        "optimiser": {"name": "sgd"},
        "agents": {"bound_to_image": False},
    }
    assert load_config(overrides=got["overrides"]).data.regions == {"core": (2,)}


def test_set_may_be_given_again_and_lies_over_the_settings_file(monkeypatch, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"train": {"steps": 5, "seed": 3}}')
    arguments = ["d.json", "--output", "run", "--settings", str(settings)]
    assert trained_with(monkeypatch, arguments)["overrides"] == {"train": {"steps": 5, "seed": 3}}
    again = [*arguments, "--set", "train.steps=6", "--set", "agents.gamma=0.5"]
    got = trained_with(monkeypatch, again)["overrides"]
    assert got == {"train": {"steps": 6, "seed": 3}, "agents": {"gamma": 0.5}}


@pytest.mark.parametrize("text", ["steps=5", "train.steps", "train"])
def test_set_wants_section_key_and_value(capsys, text: str) -> None:
    assert main(["train", "d.json", "--output", "run", "--set", text]) == EXIT_INPUT_ERROR
    assert "section.key=value" in capsys.readouterr().err


def test_set_names_what_it_does_not_know(capsys, tmp_path: Path) -> None:
    arguments = ["train", "d.json", "--output", str(tmp_path / "run"), "--set", "train.stepz=5"]
    assert main(arguments) == EXIT_INPUT_ERROR
    assert "train.stepz" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    settings = tmp_path / "settings.json"
    settings.write_text('{"train": 5}')
    assert main([*arguments[:4], "--settings", str(settings), "--set", "train.steps=5"]) == EXIT_INPUT_ERROR
    assert "setting train" in capsys.readouterr().err


def test_all_options_of_train_arrive(monkeypatch) -> None:
    got = trained_with(
        monkeypatch,
        [
            "d.json", "--output", "run", "--preset", "left_atrium", "--method", "supervised", "--variant", "corrected",
            "--trusted", "a", "b", "--clean-list", "c.json", "--initial-model", "m", "--resume",
            "--skip-bad-cases", "--from", "f", "--weights", "w",
        ],
    )  # fmt: skip
    kept = {key: value for key, value in got.items() if key not in ("listeners", "control")}
    assert kept == {
        "datalist": "d.json", "output": "run", "preset": "left_atrium", "method": "supervised",
        "variant": "corrected", "overrides": {}, "trusted": ["a", "b"], "clean_list": "c.json",
        "initial_model": "m", "begin_with": "f", "weights": "w", "resume": True, "skip_bad_cases": True,
    }  # fmt: skip


def test_options_come_from_a_config_file(monkeypatch, tmp_path: Path) -> None:
    options = tmp_path / "options.json"
    options.write_text('{"variant": "corrected", "trusted": ["a"]}')
    got = trained_with(monkeypatch, ["--config", str(options), "d.json", "--output", "run"])
    assert (got["variant"], got["trusted"]) == ("corrected", ["a"])


@pytest.mark.parametrize(("text", "images"), [("a.nrrd", ["a.nrrd"]), ("a.nrrd,b.nrrd", ["a.nrrd", "b.nrrd"])])
def test_channels_are_separated_by_commas(monkeypatch, tmp_path: Path, text: str, images: list[str]) -> None:
    got: dict[str, Any] = {}

    def refined(**values: Any) -> refine_module.Refinement:
        got.update(values)
        return refine_module.Refinement(Path("out"), [], None)  # type: ignore[arg-type]

    monkeypatch.setattr(refine_module, "refine", refined)
    assert main(["refine", text, "rough.nrrd", "--model", "m", "--output", "out", "--trust", "0.7"]) == 0
    assert got["image"] == images
    assert (got["rough"], got["trust"], got["margin_mm"]) == ("rough.nrrd", 0.7, 20.0)
    assert (got["policy_steps"], got["smallest_fragment_ml"], got["keep_largest"]) == (0, 0.0, False)
    odd = tmp_path / "a,b.nrrd"  # a file's name may hold a comma
    odd.write_bytes(b"")
    assert main(["refine", str(odd), "--model", "m", "--output", "out"]) == 0
    assert (got["image"], got["rough"]) == (str(odd), None)
    more = ["--policy-steps", "5", "--smallest-fragment-ml", "0.5", "--keep-largest"]
    assert main(["refine", "a.nrrd", "rough.nrrd", "--output", "out", *more]) == 0
    assert (got["policy_steps"], got["smallest_fragment_ml"], got["keep_largest"]) == (5, 0.5, True)
    assert got["model"] is None


@pytest.mark.parametrize(
    ("size", "command", "told"),
    [("8", "refine", True), ("8", "train", False), ("", "train", True), ("many", "refine", True), ("1", "train", True)],
)
def test_of_processes_that_do_not_train_together_each_tells_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], size: str, command: str, told: bool
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)  # as clusters set them, also for other jobs than trainings
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(SystemExit):
        main([command, "--nonsense"])
    assert ("--nonsense" in capsys.readouterr().err) == told


@pytest.mark.parametrize("of", [["a.nrrd", "rough.nrrd"], ["--list", "cases.csv"]])
@pytest.mark.parametrize("gone", ["--learn-from-this-case", "--keep-model=kept"])
def test_options_of_0_1_say_what_took_their_place(
    of: list[str], gone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["refine", *of, gone, "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "it is gone" in told
    assert ("any structure is refined" if gone == "--learn-from-this-case" else "svldrl train") in told
    assert not any(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        main(["refine", "--help"])
    assert gone.partition("=")[0] not in capsys.readouterr().out


# End to end, in the test's own process.


def test_train_refine_and_tell(datalist: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    assert main(["train", str(datalist), "--output", str(run), "--set", *TINY]) == 0
    assert f"Model: {RunFolder(run).model}" in capsys.readouterr().out
    assert main(["info", str(RunFolder(run).model)]) == 0
    assert "part 1" in capsys.readouterr().out
    assert main(["check", str(datalist)]) == 0
    case = sorted((datalist.parent / "images").iterdir())[0]
    rough, output = datalist.parent / "labels" / "case_001.seg.nrrd", tmp_path / "out.seg.nrrd"
    arguments = ["refine", str(case), str(rough), "--model", str(run), "--output", str(output), "--device", "cpu"]
    capsys.readouterr()
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "part 1" in shown
    assert f"Written: {output}" in shown
    assert main(arguments) == EXIT_INPUT_ERROR  # it is there already
    assert main([*arguments, "--overwrite"]) == 0
    assert main(["evaluate", str(output), str(rough)]) == 0


def job(command: str, options: dict[str, Any], folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """A command as Slicer starts it: options from a file, events as lines, standard input open until it has ended."""
    file = folder / "job.json"
    file.write_text(json.dumps(options))
    arguments = [sys.executable, "-m", "SVLDRLCore", command, "--config", str(file), "--events"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        lines, errors = process.stdout.read().splitlines(), process.stderr.read()
        code = process.wait()
    assert b"Traceback" not in errors
    assert b"Fatal" not in errors
    return code, [json.loads(line) for line in lines]


def test_jobs_give_their_results_in_the_last_event(datalist: Path, tmp_path: Path) -> None:
    code, events = job("check", {"datalist": str(datalist)}, tmp_path)
    assert (code, events[-1]["event"]) == (0, "finished")
    assert [problem["severity"] for problem in events[-1]["problems"]] == ["warning"]  # no validation case
    bad = json.loads(datalist.read_text())
    bad["labels"] = {"2": "part 1"}
    datalist.with_name("bad.json").write_text(json.dumps(bad))
    code, events = job("check", {"datalist": str(datalist.with_name("bad.json"))}, tmp_path)
    assert code == EXIT_INPUT_ERROR
    problem = next(problem for problem in events[-1]["problems"] if problem["severity"] == "error")
    assert set(problem) == {"case", "severity", "what", "why", "do"}
    assert problem["case"] == "case_001"
    code, events = job("check", {"datalist": str(tmp_path / "none.json")}, tmp_path)
    assert (code, events[-1]["event"]) == (EXIT_INPUT_ERROR, "failed")
    assert "none.json" in events[-1]["what"]

    folders = {"predictions": str(datalist.parent / "labels"), "references": str(datalist.parent / "clean")}
    code, events = job("evaluate", folders, tmp_path)
    assert (code, events[-1]["event"]) == (0, "finished")
    assert [row["case"] for row in events[-1]["rows"]] == ["case_001", "case_002", "case_003"]
    assert {"structure", "dice", "iou", "hd95_mm", "asd_mm"} <= set(events[-1]["rows"][0])
    code, events = job("phantom", {"output": str(tmp_path / "phantom"), "cases": 2}, tmp_path)
    assert (code, events[-1]["event"]) == (0, "finished")
    assert Path(events[-1]["datalist"]).is_file()


def test_audit_and_phantom_at_the_terminal(datalist: Path, tmp_path: Path, capsys) -> None:
    run, made = tmp_path / "run", tmp_path / "phantom"
    assert main(["phantom", "--output", str(made), "--cases", "2"]) == 0
    assert str(made / "datalist.json") in capsys.readouterr().out
    assert main(["train", str(datalist), "--output", str(run), "--set", *TINY]) == 0
    arguments = ["audit", str(datalist), "--model", str(run), "--output", str(tmp_path / "audit"), "--device", "cpu"]
    capsys.readouterr()
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert f"Written: {tmp_path / 'audit'}" in shown
    assert shown.count("case_00") == 3
    assert main(arguments) == EXIT_INPUT_ERROR
    assert main([*arguments, "--overwrite"]) == 0
    told = json.loads((tmp_path / "audit" / "audit.json").read_text("utf-8"))
    learned = {row["case"]: row["weight"] for row in told["rows"]}
    assert all(weight is not None for weight in learned.values())  # the model comes from these very cases


def test_corrupt_and_check(datalist: Path, tmp_path: Path, capsys) -> None:
    assert main(["corrupt", str(datalist), "--output", str(tmp_path / "noisy"), "--noise", "mt", "--ratio", "1"]) == 0
    assert (tmp_path / "noisy" / "datalist.json").is_file()
    (tmp_path / "noisy" / "labels").joinpath("case_001_label.nrrd").write_bytes(b"rubbish")
    capsys.readouterr()
    assert main(["check", str(tmp_path / "noisy" / "datalist.json")]) == EXIT_INPUT_ERROR
    assert "case_001" in capsys.readouterr().out
