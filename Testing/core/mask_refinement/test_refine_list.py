"""Many cases refined with the same options: results, table, failures, resuming, what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_models import made_model
from rough_masks_to_refine import block

from SVLDRLCore.cli import main
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.files.datalist import Case, DataList
from SVLDRLCore.files.volumes import Geometry, read_label, write_image, write_label
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs import refine_list as module
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.jobs.refine_list import refine_list
from SVLDRLCore.jobs.refine_list_folder import ListRecord, alone_in, model_digest, open_record, seen
from SVLDRLCore.jobs.refine_pool import WORKER_BYTES
from SVLDRLCore.jobs.refine_worker import refine_task
from SVLDRLCore.models.kept_model import last_model_kept, model_loaded
from SVLDRLCore.models.package import zip_package

ROOT = Path(__file__).resolve().parents[3]
GRID = Geometry((12, 20, 20), (2.0, 2.0, 2.0))


def write_cases(folder: Path, count: int) -> Path:
    """A data list whose masks have a hole in a slice each, larger from case to case; no names in the files."""
    listed = []
    for index in range(count):
        truth = block(GRID)
        image = 100 * truth + 5 * np.random.default_rng(index).standard_normal(truth.shape)
        rough = truth.copy()
        rough[6, 6 : 7 + 2 * index, 6:13] = 0
        write_image(folder / f"c{index}.nrrd", image.astype(np.float32), GRID)
        write_label(folder / f"c{index}_rough.nii.gz", rough, GRID)
        listed.append({"image": f"c{index}.nrrd", "label": f"c{index}_rough.nii.gz"})
    path = folder / "list.json"
    path.write_text(json.dumps({"labels": {"1": "organ", "2": "ignore"}, "training": listed}))
    return path


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "refined.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def states(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.seg.nrrd")}


def test_all_cases_are_refined_and_what_is_done_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, output = write_cases(tmp_path, 4), tmp_path / "out"
    content = json.loads(listed.read_text())
    content["training"][3]["verified"] = True
    listed.write_text(json.dumps(content))
    broken = tmp_path / "c1_rough.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    said: list[dict[str, Any]] = []
    done = refine_list(listed, output=output, workers=2, listeners=[said.append])
    assert done.failed == ("c1",)
    assert [row["case"] for row in done.rows] == ["c1", "c2", "c0", "c3"]
    assert "c1_rough.nii.gz" in done.rows[0]["error"]
    assert [row["case"] for row in rows_of(output)] == ["c1", "c2", "c0", "c3"]
    for name in ("c0", "c2"):
        alone = refine(tmp_path / f"{name}.nrrd", tmp_path / f"{name}_rough.nii.gz", output=tmp_path / "one.seg.nrrd",
                       overwrite=True)  # fmt: skip
        result = read_label(output / f"{name}.seg.nrrd")
        assert (result.array == read_label(alone.output).array).all()
        assert [segment.name for segment in result.segments] == ["organ"]  # as the list names it
        (row,) = (row for row in done.rows if row["case"] == name)
        assert row["added_ml"] == pytest.approx(alone.changes[0]["added_ml"], abs=1e-4)
    assert done.rows[2]["added_ml"] > 0
    assert not (output / "c3.seg.nrrd").exists()
    assert "verified" in done.rows[3]["reason"]
    shares = [event["done"] / event["total"] for event in said if event["event"] == "progress"]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert said[-1]["event"] == "finished"

    # one is mended, one changed; with no memory left they come one after the other
    broken.write_bytes(whole)
    os.utime(tmp_path / "c2.nrrd", ns=(1, 1))
    before = states(output)
    monkeypatch.setattr(module, "free_memory_bytes", lambda: 0)
    said.clear()
    again = refine_list(listed, output=output, workers=2, listeners=[said.append])
    after = states(output)
    assert again.failed == ()
    assert {name for name in after if after[name] != before.get(name)} == {"c1.seg.nrrd", "c2.seg.nrrd"}
    assert [event["case"] for event in said if "done (" in event.get("text", "")] == ["c1", "c2"]
    assert list(output.glob(".writing-*")) == []


def test_a_killed_list_goes_on_where_it_was(tmp_path: Path) -> None:
    listed, output = write_cases(tmp_path, 3), tmp_path / "out"
    command = [sys.executable, "-m", "SVLDRLCore", "refine", "--list", str(listed), "--output", str(output)]
    process = subprocess.Popen(
        [*command, "--workers", "1", "--events"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert any(b"c0: done (1 of 3)" in line for line in process.stdout)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()
    assert (output / "c0.seg.nrrd").is_file()
    before, control = states(output), JobControl()

    def cancel_soon(event: dict[str, Any]) -> None:
        if "done (" in event.get("text", ""):
            control.cancel()

    with pytest.raises(Cancelled):
        refine_list(listed, output=output, workers=1, listeners=[cancel_soon], control=control)
    done = json.loads((output / "refined.json").read_text())["cases"]
    assert done["c0"] is not None
    assert sum(entry is not None for entry in done.values()) > 1 or len(before) == 3
    assert states(output)["c0.seg.nrrd"] == before["c0.seg.nrrd"]
    assert list(output.glob(".writing-*")) == []


def test_a_list_is_bound_to_its_options(tmp_path: Path) -> None:
    """Here no mask can be refined without a model, which is known before a worker is started."""
    table, output = tmp_path / "cases.csv", tmp_path / "out"
    write_image(tmp_path / "a.nrrd", np.zeros(GRID.size_dhw, np.float32), GRID)
    table.write_text("image,rough\na.nrrd,\n")
    with pytest.raises(InputError, match="none of its 1 cases could be refined; the first one: The model"):
        refine_list(table, output=output, mode="snap")
    assert rows_of(output)[0]["error"]
    with pytest.raises(InputError, match=r"begun with mode 'snap', 'even_out' is asked now"):
        refine_list(table, output=output)
    with alone_in(output), pytest.raises(InputError, match="another process"):
        refine_list(table, output=output, mode="snap")
    told: list[dict[str, Any]] = []
    with pytest.raises(InputError, match="none of its 1 cases"):  # what has no effect is no difference, and is told
        refine_list(table, output=output, mode="snap", trust=0.25, guard=False, listeners=[told.append])
    assert "Without a model this has no effect: the trust in the mask, turning the guard off." in [
        event.get("text") for event in told if event["event"] == "warning"
    ]
    with pytest.raises(InputError, match="none of its 1 cases"):
        refine_list(table, output=output, overwrite=True)
    (output / "refined.json").unlink()
    (output / "a.seg.nrrd").write_text("of somebody else")
    (output / "refined.csv").unlink()
    with pytest.raises(InputError, match=r"a\.seg\.nrrd: the file exists already"):
        refine_list(table, output=output)


def test_a_result_that_somebody_changed_is_not_lost(tmp_path: Path) -> None:
    for name in ("a.nrrd", "a.seg.nrrd"):
        (tmp_path / name).write_text("1")
    case = Case("a", (tmp_path / "a.nrrd",), None)
    record = ListRecord(tmp_path, tmp_path, {}, DataList("list", {}, (case,), ()))
    record.note(case, seen(case.files), [], [])
    assert record.is_done(case)
    (tmp_path / "a.seg.nrrd").write_text("edited")
    assert record.is_done(case)
    (tmp_path / "a.nrrd").write_text("changed")
    assert not record.is_done(case)
    with pytest.raises(InputError, match="so was this result"):
        record.require_ours(case)
    record.note_failure(case, {"what": "a", "why": "b", "do": "c"})
    with pytest.raises(InputError, match="so was this result"):
        record.require_ours(case)


def test_nothing_that_is_read_is_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_cases(folder, 1)
    (folder / "list.json").unlink()
    (folder / "c0_rough.nii.gz").rename(folder / "c0_mask.nii.gz")
    with pytest.raises(InputError, match="the folder of the images"):
        refine_list(folder, output=folder)
    table = tmp_path / "cases.csv"
    table.write_text("image,rough\ndata/c0.nrrd,out/c0.seg.nrrd\n")
    (tmp_path / "out").mkdir()
    write_label(tmp_path / "out" / "c0.seg.nrrd", block(GRID), GRID)
    with pytest.raises(InputError, match="read for the case c0"):
        refine_list(table, output=tmp_path / "out", overwrite=True)


def test_a_worker_leaves_what_the_list_ignores(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rough = block(GRID)
    rough[0, :3] = 2
    image = write_image(tmp_path / "a.nrrd", 100.0 * (rough == 1).astype(np.float32), GRID)
    label = write_label(tmp_path / "a.nii.gz", rough, GRID)
    task = {"images": [str(image)], "rough": str(label), "output": str(tmp_path / "out.seg.nrrd"), "options": {}}
    refine_task({**task, "names": {"1": "organ", "2": "ignore"}}, JobControl())
    (last,) = (json.loads(line) for line in capfdbinary.readouterr().out.splitlines()[-1:])
    assert [row["structure"] for row in last["changes"]] == ["organ"]
    result = read_label(tmp_path / "out.seg.nrrd")
    assert {segment.value: segment.name for segment in result.segments} == {1: "organ", 2: "ignore"}
    assert ((result.array == 2) == (rough == 2)).all()
    refine_task({**task, "rough": str(tmp_path / "none.nii.gz"), "names": {"1": "organ"}}, JobControl())
    (last,) = (json.loads(line) for line in capfdbinary.readouterr().out.splitlines()[-1:])
    assert last["event"] == "failed"
    assert last["what"] == str(tmp_path / "none.nii.gz")


def test_a_line_of_a_table_whose_file_is_missing_is_a_failed_case(tmp_path: Path) -> None:
    write_cases(tmp_path, 1)
    table = tmp_path / "cases.csv"
    table.write_text("image,rough\nnone.nrrd,c0_rough.nii.gz\nc0.nrrd,c0_rough.nii.gz\nc0.nrrd,no.nii.gz\n")
    done = refine_list(table, output=tmp_path / "out")
    assert done.failed == ("none", "c0_no")
    assert all("is not there" in row["error"] for row in done.rows[:2])
    assert (tmp_path / "out" / "c0_rough.seg.nrrd").is_file()


def test_what_the_list_says_anew_is_noticed(tmp_path: Path) -> None:
    """Names of label values, and that a case is verified: an edited result stays, another one goes."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.nrrd").write_text("1")
    cases = [Case(name, (tmp_path / f"{name}.nrrd",), None) for name in ("a", "b")]

    def record(labels: dict[int, str], trusted: bool = False) -> ListRecord:
        marked = tuple(replace(case, trusted=trusted) for case in cases)
        return open_record(tmp_path / "out", DataList("list", labels, marked, ()), tmp_path, {}, False)

    (tmp_path / "out").mkdir()
    first = record({1: "organ"})
    for case in cases:
        (tmp_path / "out" / f"{case.name}.seg.nrrd").write_text("refined")
        first.note(case, first.inputs(case), [], [])
    first.save()
    assert record({1: "organ"}).is_done(cases[0])
    assert not record({1: "liver"}).is_done(cases[0])
    (tmp_path / "out" / "b.seg.nrrd").write_text("edited by hand")
    (told,) = record({1: "organ"}, trusted=True).withdraw_verified()
    assert told.startswith("b is marked as verified now")
    assert [file.name for file in (tmp_path / "out").glob("*.seg.nrrd")] == ["b.seg.nrrd"]


def test_a_worker_keeps_its_model_from_case_to_case(tmp_path: Path) -> None:
    first, second = made_model(tmp_path / "first"), made_model(tmp_path / "second", seed=1)
    cpu = torch.device("cpu")
    with last_model_kept():
        kept = model_loaded(first, cpu)
        assert model_loaded(first, cpu) is kept
        assert model_loaded(second, cpu) is not kept
        assert model_loaded(first, cpu) is not kept  # one at a time
        again = model_loaded(first, cpu)
        shutil.rmtree(first)
        made_model(first, seed=2)  # trained anew at the same place
        assert not torch.equal(*(next(each.network.parameters()) for each in (again, model_loaded(first, cpu))))
    assert model_loaded(first, cpu) is not model_loaded(first, cpu)


def test_models_are_known_by_what_they_hold(tmp_path: Path) -> None:
    first = made_model(tmp_path / "first")
    zip_package(first, tmp_path / "first.zip")
    assert model_digest(first) == model_digest(tmp_path / "first.zip")
    assert model_digest(first) != model_digest(made_model(tmp_path / "second", seed=1))


def test_the_command_refuses_what_is_of_one_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["refine", "--list", str(tmp_path / "list.json"), "--output", str(tmp_path / "out")]
    for more, told in ((["--only", "mask.nrrd"], "--only"), (["--right-slices", "k:1-2"], "--right-slices")):
        assert main([*given, *more]) == 2
        assert f"{told}\n  why: it is of one case" in capsys.readouterr().err
    assert main(["refine", "--output", str(tmp_path / "out.nrrd")]) == 2
    assert "Give an image with its rough mask, or a --list" in capsys.readouterr().err


def test_a_single_case_may_come_from_a_file_of_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cases(tmp_path, 1)
    output = tmp_path / "out.seg.nrrd"
    given = {"image": str(tmp_path / "c0.nrrd"), "rough": str(tmp_path / "c0_rough.nii.gz"), "output": str(output)}
    (tmp_path / "job.json").write_text(json.dumps(given))
    assert main(["refine", "--config", str(tmp_path / "job.json")]) == 0
    assert output.is_file()
    assert "Written" in capsys.readouterr().out


def test_parts_of_a_list_are_refined_by_the_slurm_script_into_folders_of_their_own(tmp_path: Path) -> None:
    listed, output = write_cases(tmp_path, 3), tmp_path / "out"
    script = ROOT / "docs" / "jobs" / "refine_array.sh"
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for part in ("1", "2"):
        task = {"SLURM_ARRAY_TASK_ID": part, "SLURM_ARRAY_TASK_COUNT": "2", "PATH": places}
        subprocess.run(["bash", script, listed, output, "--trust", "0.25"], env=os.environ | task, check=True)
    assert states(output / "part_1").keys() == {"c0.seg.nrrd", "c2.seg.nrrd"}
    assert states(output / "part_2").keys() == {"c1.seg.nrrd"}
    with pytest.raises(InputError, match="begun with shard '2/2', '1/2' is asked now"):
        refine_list(listed, output=output / "part_2", shard="1/2", trust=0.25)
    for wrong in ("0/2", "3/2", "2", "a/b"):
        with pytest.raises(InputError, match="no part of a list"):
            refine_list(listed, output=output / "wrong", shard=wrong)


def test_a_part_without_a_case_says_so_and_writes_the_heads_of_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, output = write_cases(tmp_path, 2), tmp_path / "out"
    assert main(["refine", "--list", str(listed), "--shard", "3/4", "--output", str(output)]) == 0
    told = capsys.readouterr()
    assert "part 3/4 has no case, as the list has 2" in told.out + told.err
    assert rows_of(output) == []
    heads = (output / "refined.csv").read_text().splitlines()
    assert main(["refine", "--list", str(listed), "--shard", "2/2", "--output", str(tmp_path / "b")]) == 0
    assert heads == (tmp_path / "b" / "refined.csv").read_text().splitlines()[:1]  # parts are joined by their heads


PEAK = """
import sys
from SVLDRLCore.jobs.refine import refine
refine(sys.argv[1], sys.argv[2], output=sys.argv[3])
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(lines["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process's peak alone")
def test_a_mask_that_fills_its_image_takes_no_more_memory_than_a_list_reckons_with(tmp_path: Path) -> None:
    size, noise = (128, 192, 192), np.random.default_rng(0)
    grid, places = Geometry(size, (1.0, 1.0, 1.0)), np.ogrid[-1:1:128j, -1:1:192j, -1:1:192j]
    far = np.sqrt(sum(place**2 for place in places)) / 0.9
    write_image(tmp_path / "i.nrrd", (1000 * (far < 1) + 80 * noise.standard_normal(size)).astype(np.float32), grid)
    rough = (far < np.where(np.arange(size[0]) % 8 < 2, 0.9, 1.0)[:, None, None]).astype(np.uint8)
    write_label(tmp_path / "r.nrrd", rough, grid)
    command = [sys.executable, "-c", PEAK, *(str(tmp_path / name) for name in ("i.nrrd", "r.nrrd", "o.nrrd"))]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    reckoned = WORKER_BYTES + rough.size * module.VOXEL_BYTES
    assert 0.5 * reckoned < int(told.splitlines()[-1]) < reckoned
