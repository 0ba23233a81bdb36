"""A process that does one job after the other: each as in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rough_masks_to_refine import GRIDS, block, files, model_that

from SVLDRLCore.child_processes import child_environment
from SVLDRLCore.svl_drl.actions import ENHANCE, WEAKEN
from SVLDRLCore.warm_worker import IDLE_LINE


def job_folder(folder: Path, **options: Any) -> Path:
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"output": "out.nrrd", "device": "cpu", **options}))
    return folder


def test_each_job_is_done_as_in_a_process_of_its_own(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    grow, shrink = (str(model_that(tmp_path / name, what)) for name, what in (("g", ENHANCE), ("s", WEAKEN)))
    given = {"image": str(image), "rough": str(rough)}
    jobs = [
        job_folder(tmp_path / "1", **given, model=grow),
        job_folder(tmp_path / "2", **given, model=shrink),
        job_folder(tmp_path / "3", **given),
        job_folder(tmp_path / "4", **given, model=grow),
    ]
    environment = child_environment(single_threaded=True)
    command = [sys.executable, "-P", "-m", "SVLDRLCore"]
    alone = job_folder(tmp_path / "alone", **given, model=grow)
    subprocess.run([*command, "refine", "--config", "job.json"], cwd=alone, env=environment, check=True)
    worker = subprocess.Popen(
        [*command[:-1], "SVLDRLCore.warm_worker"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin is not None
    assert worker.stdout is not None

    def answers(folder: Path) -> list[str]:
        worker.stdin.write(b'{"command": "pause"}\n')  # meant for the job before, and a moment too late
        worker.stdin.write(json.dumps({"job": "refine", "folder": str(folder)}).encode() + b"\n")
        worker.stdin.flush()
        told = list(iter(lambda: worker.stdout.readline().decode().strip(), IDLE_LINE))
        return [json.loads(line)["event"] for line in told]

    with worker:
        for folder in jobs:
            events = answers(folder)
            assert (events[0], events[-1]) == ("started", "finished")
        written = [(folder / "out.nrrd").read_bytes() for folder in (*jobs, alone)]
        assert written[0] == written[3] == written[4]
        assert len(set(written)) == 3
        broken = job_folder(tmp_path / "5", **given, model="none")
        worker.stdin.write(json.dumps({"job": "refine", "folder": str(broken)}).encode() + b"\n")
        worker.stdin.flush()
        assert json.loads(worker.stdout.readlines()[-1])["event"] == "failed"
        assert worker.wait() == 2  # and does no other job
