"""What lies in the current folder or in a job's folder is data: no Python that the module starts imports it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_models import ROOT
from SVLDRLSegmentationLib.jobs.Core import pythonExecutable
from SVLDRLSegmentationLib.jobs.Dependencies import Dependencies
from SVLDRLSegmentationLib.jobs.Job import Job

PLANTED = ("json.py", "torch.py", "monai.py", "jsonargparse.py", "SVLDRLCore/__init__.py")


@pytest.fixture
def downloads(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, full of modules that leave a note when somebody imports them."""
    folder = tmp_path / "downloads"
    for name in PLANTED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"open({str(folder / 'note')!r}, 'a').write(__name__)\nraise ImportError\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    return folder


@pytest.mark.worker
def test_a_job_imports_nothing_from_its_folder_and_finds_the_core(downloads: Path) -> None:
    job = Job("refine", {"image": "i.nrrd", "model": "none", "output": "o.nrrd"}, downloads)
    job.start()
    end = job.wait()
    assert (end.what, end.why) == ("none", "there is no model there"), end.log
    assert not (downloads / "note").exists()


@pytest.mark.worker
def test_the_check_of_the_dependencies_imports_nothing_from_the_current_folder(downloads: Path) -> None:
    told = Dependencies().verify()
    assert told["torch"]
    assert not (downloads / "note").exists()


def test_no_python_in_the_current_folder_is_started(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = downloads / "PythonSlicer"
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep + "." + os.pathsep + os.environ["PATH"])
    assert pythonExecutable() == sys.executable
    monkeypatch.setenv("PATH", str(downloads))  # who names it in full wants it
    assert pythonExecutable() == str(launcher)


def test_a_core_in_the_current_folder_is_not_the_extensions(downloads: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]; import slicerbench; slicerbench.install()\n"
        "sys.path[:] = ['', *(p for p in sys.path if p not in ('', sys.argv[1], sys.argv[3])), sys.argv[2]]\n"
        "from SVLDRLSegmentationLib.jobs.Core import coreFolder; print(coreFolder())\n"
        "import SVLDRLCore.events\n"
    )
    command = [sys.executable, "-P", "-c", code, str(ROOT / "Testing"), str(ROOT / "SVLDRLSegmentation"), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": ""}
    (downloads / "json.py").unlink()  # the application's own path is not ours to mend
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=downloads, env=environment)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip().splitlines()[-1]) == ROOT
    assert not (downloads / "note").exists()
