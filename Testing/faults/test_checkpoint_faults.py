"""Kills, full disks, torn, foreign and hostile checkpoints."""

from __future__ import annotations

import os
import random
import resource
import signal
import threading
import zipfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.checkpoints import FolderLock, load_checkpoint, save_checkpoint


def forked(work: Callable[[BinaryIO], None]) -> tuple[int, BinaryIO]:
    """Run `work` in a child that never returns here; it writes to the pipe of which we get the other end.

    A fork, because each fresh process would import torch for seconds. Threads do not survive a fork, so the
    child keeps to tensors that torch handles in one thread.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "wb", buffering=0) as pipe:
                work(pipe)
        finally:
            os._exit(0)
    os.close(writer)
    return child, os.fdopen(reader, "rb")


def test_no_kill_in_the_middle_of_saving_costs_the_checkpoint(tmp_path: Path) -> None:
    bulk = torch.zeros(1_000_000)
    rng = random.Random(0)
    step = 0

    def save_for_ever(pipe: BinaryIO) -> None:
        with FolderLock(tmp_path):
            for number in count(step):
                state = {"step": number, "bulk": bulk, "check": torch.full((8,), number)}
                save_checkpoint(tmp_path / "last.pt", state)
                pipe.write(b"%d\n" % number)

    torn = 0
    for _ in range(20):
        child, pipe = forked(save_for_ever)
        with pipe:
            told = [int(pipe.readline()) for _ in range(rng.randint(1, 3))][-1]
            sum(range(rng.randrange(200_000)))  # another moment of the next save each time
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        torn += bool(list(tmp_path.glob(".writing-*")))
        state = load_checkpoint(tmp_path / "last.pt")
        assert state["step"] >= told  # what was reported as saved is there
        assert state["check"].tolist() == [state["step"]] * 8
        step = state["step"] + 1
    assert torn  # some kills did come in the middle of saves
    # the killed holders' lock is free, and their half files go with the next training
    with FolderLock(tmp_path):
        assert not list(tmp_path.glob(".writing-*"))


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})
    weights = torch.zeros(1_000_000)

    def save(pipe: BinaryIO) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save_checkpoint(path, {"step": 2, "weights": weights})
        except InputError as error:
            pipe.write(str(error).encode())

    child, pipe = forked(save)
    with pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    assert str(path) in told
    assert "File too large" in told
    assert "MB are free" in told
    assert load_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not be written"):
        save_checkpoint(tmp_path / "gone" / "last.pt", {"step": 1})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 3, "weights": torch.arange(2000.0), "name": "x"})
    return path


def test_a_missing_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99, -1])
def test_torn_checkpoints_are_refused(checkpoint: Path, keep: float) -> None:
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[:-1] if keep < 0 else data[: int(len(data) * keep)])
    with pytest.raises(InputError, match="cannot be read as a checkpoint") as refused:
        load_checkpoint(checkpoint)
    assert refused.value.what == str(checkpoint)


def test_no_flipped_bit_gives_other_numbers(checkpoint: Path) -> None:
    data = checkpoint.read_bytes()
    refused = 0
    for position in range(0, len(data), 53):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        checkpoint.write_bytes(damaged)
        try:
            state = load_checkpoint(checkpoint)
        except InputError:
            refused += 1
        else:  # padding and dates of the archive
            assert state["step"] == 3
            assert torch.equal(state["weights"], torch.arange(2000.0))
    assert refused > 0.8 * len(range(0, len(data), 53))


def test_a_bit_that_makes_a_tensor_a_folder_is_seen(checkpoint: Path) -> None:
    # torch reads nothing then, and returns memory that nobody has written
    data = bytearray(checkpoint.read_bytes())
    entry = data.index(b"archive/data/0", data.index(b"PK\x01\x02")) - 46
    data[entry + 38] ^= 0x10
    checkpoint.write_bytes(data)
    with pytest.raises(InputError):
        load_checkpoint(checkpoint)


def test_checkpoints_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pth"
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, path)
    with pytest.raises(InputError, match="another program"):
        load_checkpoint(path)
    torch.save(torch.nn.Linear(2, 2), path)  # a whole module: needs its class
    with pytest.raises(InputError, match="other than plain tensors"):
        load_checkpoint(path)
    torch.save({"weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="of another kind"):
        load_checkpoint(path)


def test_a_newer_format_is_told(tmp_path: Path) -> None:
    torch.save({"format": "svldrl-checkpoint", "version": 99, "state": {}}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="format version 99"):
        load_checkpoint(tmp_path / "last.pt")


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple:
        return (open, (str(self.witness), "w"))


def test_a_hostile_checkpoint_is_never_run(tmp_path: Path) -> None:
    witness, path = tmp_path / "run", tmp_path / "last.pt"
    torch.save({"format": "svldrl-checkpoint", "version": 1, "state": Attack(witness)}, path)
    with pytest.raises(InputError, match="other than plain tensors"):
        load_checkpoint(path)
    assert not witness.exists()
    # the attack itself works, or this test would prove nothing
    torch.load(path, weights_only=False)
    assert witness.exists()


def test_a_compressed_archive_cannot_unpack_to_any_size(checkpoint: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(checkpoint) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(InputError, match="another program"):
        load_checkpoint(bomb)


def test_a_lock_is_free_after_its_holder_was_killed(tmp_path: Path) -> None:
    def hold(pipe: BinaryIO) -> None:
        with FolderLock(tmp_path):
            pipe.write(b"held\n")
            threading.Event().wait()

    child, pipe = forked(hold)
    with pipe:
        assert pipe.readline() == b"held\n"
        with pytest.raises(InputError, match=f"process {child} on "), FolderLock(tmp_path):
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with FolderLock(tmp_path):
        pass
