"""Checkpoints hold everything needed to go on, and nothing that the safe loading would refuse."""

from __future__ import annotations

import json
import os
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from SVLDRLCore.atomic_files import write_atomically, write_json_atomically, write_text_atomically
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.checkpoints import (
    FolderLock,
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)


def test_model_optimiser_and_plain_values_come_back_as_they_were(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.randn(5, 3)).sum().backward()
    optimiser.step()
    state = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": 7,
        "best": -float("inf"),
        "stage": "Übergang",
        "order": [3, 1, 2],
        "pair": (None, True),
        "by_case": {1: {"loss": 0.25}},
    }
    save_checkpoint(tmp_path / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "last.pt")

    plain = ("step", "best", "stage", "order", "pair", "by_case")
    assert {key: loaded[key] for key in plain} == {key: state[key] for key in plain}
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded["network"][name], tensor)
        assert loaded["network"][name].dtype == tensor.dtype
    other = torch.optim.AdamW(network.parameters())
    other.load_state_dict(loaded["optimiser"])
    assert other.param_groups[0]["lr"] == 0.1
    assert torch.equal(other.state_dict()["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.float64(1.0), "numpy.float64"),  # a subclass of float
        (np.int64(1), "numpy.int64"),
        (np.zeros(2), "numpy.ndarray"),
        (Path("x"), "Path"),
        ({1}, "builtins.set"),
        (b"x", "builtins.bytes"),
        (torch.float32, "torch.dtype"),
    ],
)
def test_what_the_safe_loading_refuses_is_refused_at_saving_by_key_path(
    tmp_path: Path, value: object, kind: str
) -> None:
    with pytest.raises(TypeError, match=r"state\['sampler'\]\['a'\]\[1\] is a ") as refused:
        save_checkpoint(tmp_path / "last.pt", {"sampler": OrderedDict(a=[0, value])})
    assert kind in str(refused.value)
    assert os.listdir(tmp_path) == []


def test_a_key_that_is_no_text_or_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\['a'\] has a key of type tuple"):
        save_checkpoint(tmp_path / "last.pt", {"a": {(1, 2): 0}})


def test_a_view_does_not_drag_its_whole_storage_along(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", {"row": torch.zeros(1000, 1000)[0]})
    assert (tmp_path / "last.pt").stat().st_size < 20_000


def test_checkpoints_do_not_follow_the_weights_they_were_made_from(tmp_path: Path) -> None:
    weight = torch.ones(3, requires_grad=True)
    save_checkpoint(tmp_path / "last.pt", {"weight": weight})
    with torch.no_grad():
        weight.zero_()
    loaded = load_checkpoint(tmp_path / "last.pt")["weight"]
    assert loaded.tolist() == [1, 1, 1]
    assert not loaded.requires_grad


def draw(generators: dict[str, np.random.Generator | torch.Generator]) -> list[float]:
    numbers = [random.random(), random.gauss(0, 1), np.random.rand(), torch.rand(()).item()]
    for generator in generators.values():
        if isinstance(generator, torch.Generator):
            numbers.append(torch.rand((), generator=generator).item())
        else:
            # 32-bit draws leave half a word behind, which is part of the state
            numbers += [float(generator.integers(0, 9, dtype=np.uint32)), generator.standard_normal()]
    return numbers


def test_random_numbers_go_on_exactly_where_they_were_saved(tmp_path: Path) -> None:
    generators = {
        "sampler": np.random.default_rng(1),
        "noise": np.random.Generator(np.random.MT19937(2)),
        "augmentation": np.random.Generator(np.random.Philox(3)),
        "policy": torch.Generator().manual_seed(4),
    }
    random.gauss(0, 1)  # leaves a spare number behind
    draw(generators)
    save_checkpoint(tmp_path / "last.pt", {"random": random_states(generators)})
    expected = [draw(generators) for _ in range(3)]

    fresh = {
        "sampler": np.random.default_rng(),
        "noise": np.random.Generator(np.random.MT19937()),
        "augmentation": np.random.Generator(np.random.Philox()),
        "policy": torch.Generator(),
    }
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    restore_random_states(load_checkpoint(tmp_path / "last.pt")["random"], fresh)
    assert [draw(fresh) for _ in range(3)] == expected


def test_a_second_training_in_a_folder_is_told_who_holds_it(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        with pytest.raises(InputError) as refused, FolderLock(tmp_path):
            pass
        assert refused.value.what == str(tmp_path)
        assert f"process {os.getpid()} on " in refused.value.why
    with FolderLock(tmp_path):
        pass


def test_the_lock_clears_what_a_killed_save_left(tmp_path: Path) -> None:
    (tmp_path / ".writing-abc.tmp").write_bytes(b"half a checkpoint")
    (tmp_path / "mine.tmp").write_bytes(b"of the user")
    with FolderLock(tmp_path):
        assert not (tmp_path / ".writing-abc.tmp").exists()
    assert (tmp_path / "mine.tmp").exists()


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    write_text_atomically(path, "old ü\n")

    def fail(file) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomically(path, fail)
    assert path.read_bytes() == "old ü\n".encode()
    assert os.listdir(tmp_path) == ["report.txt"]


def test_json_has_null_for_what_is_no_number_and_long_names_work(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 240 + ".json")
    write_json_atomically(path, {"hd95": [float("nan"), float("inf"), 1.5], "name": "体积"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"hd95": [None, None, 1.5], "name": "体积"}


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_replaced_file_keeps_its_mode_and_a_new_one_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text_atomically(tmp_path / "new", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    (tmp_path / "new").chmod(0o600)
    write_text_atomically(tmp_path / "new", "y")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
