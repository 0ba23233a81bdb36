"""What killed jobs leave is swept by the next one; what lives, or may be the only copy, stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from SVLDRLCore.errors import NotWritten
from SVLDRLCore.jobs.phantom import phantom
from SVLDRLCore.learning.checkpoints import FolderLock
from SVLDRLCore.models.package import save_package
from SVLDRLCore.scratch_folders import REPLACED, put_folder, scratch_folder

HOLDER = """
import sys
from pathlib import Path
from SVLDRLCore.scratch_folders import REPLACED, scratch_folder
with scratch_folder(Path(sys.argv[1])) as place:
    (place / "half").mkdir()
    (place / "half" / "file").write_bytes(b"half")
    if sys.argv[2:]:
        (place / REPLACED).mkdir()
    print(place, flush=True)
    sys.stdin.read()
"""


def killed_in(folder: Path, *more: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A process that works in a scratch folder, and that folder."""
    command = [sys.executable, "-c", HOLDER, str(folder), *more]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return process, Path(process.stdout.readline().decode().strip())


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_the_next_start_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    process, place = killed_in(tmp_path)
    phantom(tmp_path / "first", 2)
    assert (place / "half" / "file").is_file()  # its owner lives
    end(process)
    assert place.is_dir()
    phantom(tmp_path / "second", 2)
    assert sorted(os.listdir(tmp_path)) == ["first", "second"]


def test_what_may_be_the_only_copy_stays(tmp_path: Path) -> None:
    process, place = killed_in(tmp_path, "with an old result")
    end(process)
    phantom(tmp_path / "new", 2)
    assert (place / REPLACED).is_dir()


def test_a_killed_phantom_leaves_nothing_after_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "SVLDRLCore", "phantom", "--cases", "100", "--output", str(tmp_path / "p")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".svldrl-scratch-*/phantom/images/*")):
        assert process.poll() is None
        assert time.monotonic() < until
    process.kill()
    process.wait()
    assert list(tmp_path.glob(".svldrl-scratch-*"))
    phantom(tmp_path / "p", 2)
    assert os.listdir(tmp_path) == ["p"]


def test_folders_that_only_look_like_ours_stay(tmp_path: Path) -> None:
    (tmp_path / ".svldrl-scratch-new").mkdir()  # its owner has not come to lock it
    (tmp_path / ".svldrl-scratch-file").write_bytes(b"")
    os.symlink(tmp_path, tmp_path / ".svldrl-scratch-link")
    (tmp_path / "data").mkdir()
    before = sorted(os.listdir(tmp_path))
    with scratch_folder(tmp_path):
        assert len(os.listdir(tmp_path)) == len(before) + 1
    assert sorted(os.listdir(tmp_path)) == before
    os.utime(tmp_path / ".svldrl-scratch-new", (0, 0))
    with scratch_folder(tmp_path):
        pass
    assert ".svldrl-scratch-new" not in os.listdir(tmp_path)


def test_a_failure_takes_the_made_folders_with_it_and_keeps_the_old_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path / "new" / "place"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_bytes(b"old")
    replace = os.replace

    def breaking(source: Path, target: Path) -> None:
        if Path(source).name == "made":
            raise PermissionError(13, "in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", breaking)

    def put() -> None:
        with scratch_folder(tmp_path) as place:
            (place / "made").mkdir()
            put_folder(place / "made", tmp_path / "out")

    with pytest.raises(NotWritten, match="in use"):
        put()
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out" / "old").read_bytes() == b"old"


def test_a_training_folder_is_cleared_of_half_files_and_half_packages(tmp_path: Path) -> None:
    (tmp_path / ".writing-abc.seg.nrrd").write_bytes(b"half")
    (tmp_path / ".package-abc" / "new").mkdir(parents=True)
    (tmp_path / ".package-def" / "old").mkdir(parents=True)  # killed between two renames: the only copy
    with FolderLock(tmp_path):
        left = sorted(name for name in os.listdir(tmp_path) if not name.startswith(".training"))
    assert left == [".package-def"]


def test_all_files_of_a_package_have_the_mode_that_others_have(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        (tmp_path / "plain").write_bytes(b"")
        save_package(
            tmp_path / "model", tensors={"w": torch.zeros(3)}, config={}, labels={1: {"name": "organ"}},
            training_rows=[], card="card",
        )  # fmt: skip
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert set(modes.values()) == {(tmp_path / "plain").stat().st_mode & 0o777} == {0o640}
    assert "model.safetensors" in modes
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o750
