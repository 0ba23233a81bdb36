"""Where memory runs out: told before it is needed, then smaller steps with the same result, then a clear error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_models import made_model
from rough_masks_to_refine import GRIDS, block, files, model_that, refined
from tiny_trainings import given_run, run, same_weights

from SVLDRLCore import cli, memory
from SVLDRLCore.baselines.supervised import Supervised
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError, is_out_of_memory
from SVLDRLCore.files.datalist import Case, DataList, save_datalist
from SVLDRLCore.files.volumes import Geometry, write_image
from SVLDRLCore.inference.sliding_window import predict_maps
from SVLDRLCore.jobs import audit as audit_module
from SVLDRLCore.jobs import audited_case
from SVLDRLCore.jobs.audit import audit
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.learning.checkpoints import load_checkpoint
from SVLDRLCore.mask_refinement.editing import BATCH
from SVLDRLCore.memory import free_memory_bytes, require_memory
from SVLDRLCore.models.memory_needs import prediction_bytes
from SVLDRLCore.models.trained_model import load_model
from SVLDRLCore.svl_drl.actions import ENHANCE
from SVLDRLCore.training.train import train

CPU_WORDS = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8"
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError(CPU_WORDS),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried"),
    MemoryError("Unable to allocate 8.00 GiB for an array"),
]
NOT_OURS = RuntimeError("Expected 5D input")
PATCH = (8, 16, 16)


def failing(predictor: Callable, error: BaseException, most: int, at_call: int = 0) -> Callable:
    """From a call on, more than so many windows at a time do not fit."""
    calls = []

    def predict(windows: torch.Tensor) -> torch.Tensor:
        calls.append(len(windows))
        if len(calls) > at_call and len(windows) > most:
            raise error
        return predictor(windows)

    predict.calls = calls
    return predict


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__ + str(error)[-5:])
@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("at_call", [0, 1])
def test_fewer_windows_at_a_time_give_the_same_to_the_bit(
    tmp_path: Path, error: BaseException, most: int, at_call: int
) -> None:
    network = load_model(model_that(tmp_path, None)).network
    inputs = torch.rand(1, 13, 30, 30, generator=torch.Generator().manual_seed(0))
    expected = predict_maps(network, inputs, PATCH, batch_size=4)
    told: list[str] = []
    done: list[int] = []
    predictor = failing(network, error, most, at_call)
    found = predict_maps(predictor, inputs, PATCH, batch_size=4, tell=told.append, progress=lambda n, _: done.append(n))
    assert torch.equal(found, expected)
    assert told == [
        f"The memory did not suffice for {tried} windows at a time; going on with {tried // 2}."
        for tried in ((4,) if most == 2 else (4, 2))
    ]
    assert done == sorted(done)
    assert max(predictor.calls[-3:]) <= most


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__ + str(error)[-5:])
def test_not_one_window_is_a_clear_error(error: BaseException) -> None:
    predictor = failing(torch.nn.Identity(), error, 0)
    with pytest.raises(InputError, match=r"model x: the memory does not suffice for 13 x 30 x 30 voxels") as caught:
        predict_maps(predictor, torch.rand(1, 13, 30, 30), PATCH, batch_size=4, name="model x")
    assert "patch_size" in caught.value.do
    assert predictor.calls == [4, 2, 1]


def test_another_error_is_not_taken_for_one_of_memory() -> None:
    predictor = failing(torch.nn.Identity(), NOT_OURS, 0)
    with pytest.raises(RuntimeError, match="5D input"):
        predict_maps(predictor, torch.rand(1, 13, 30, 30), PATCH, batch_size=4)
    assert predictor.calls == [4]


def test_in_the_end_the_cpu_takes_over_and_the_network_comes_back() -> None:
    """The device "meta" stands for a graphics card: it has no memory at all, not even for one window."""
    network = torch.nn.Conv3d(1, 1, 3, padding=1)
    moved: list[str] = []
    told: list[str] = []

    class Card(torch.nn.Module):
        def to(self, device: torch.device) -> None:
            moved.append(str(device))

    def predictor(windows: torch.Tensor) -> torch.Tensor:
        if windows.is_meta:
            raise ERRORS[0]
        return network(windows)

    inputs = torch.rand(1, 13, 30, 30)
    found = predict_maps(predictor, inputs, PATCH, batch_size=4, device="meta", tell=told.append, modules=[Card()])
    assert torch.equal(found, predict_maps(network, inputs, PATCH, batch_size=1))
    assert moved == ["cpu", "meta"]
    assert len(told) == 3
    assert "going on with the CPU" in told[-1]


def test_the_words_of_all_are_known() -> None:
    assert all(map(is_out_of_memory, ERRORS))
    assert is_out_of_memory(np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f4")))
    wrapped = RuntimeError("Seems to be OOM")
    wrapped.__cause__ = ERRORS[0]
    assert is_out_of_memory(wrapped)
    assert not is_out_of_memory(NOT_OURS)
    assert not is_out_of_memory(None)


# The commands.


def test_refine_tells_its_needs_and_each_step_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = Geometry((24, 40, 40), (4.0, 4.0, 4.0))
    image, rough = files(tmp_path, geometry, block(geometry))
    model, seen = model_that(tmp_path, ENHANCE), []
    _, expected = refined(tmp_path, model, image, rough)
    network_class = type(load_model(model).network)
    original = network_class.forward

    def forward(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 2:
            raise ERRORS[1]
        return original(network, x)

    monkeypatch.setattr(network_class, "forward", forward)
    _, result = refined(tmp_path, model, image, rough, overwrite=True, listeners=[seen.append])
    np.testing.assert_array_equal(result.array, expected.array)
    needs = [e["text"] for e in seen if e["event"] == "message" and "memory" in e["text"]]
    assert len(needs) == 1
    assert re.match(r"This needs about \d+ MB of memory", needs[0])
    assert [e["text"] for e in seen if e["event"] == "warning" and "memory" in e["text"]] == [
        "The memory did not suffice for 4 windows at a time; going on with 2."
    ]


def test_what_is_too_large_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grid of micrometres on a millimetre image: 2000 terabytes."""
    image, rough = files(tmp_path, GRIDS["as_trained"], block(GRIDS["as_trained"]))
    model, seen = model_that(tmp_path, ENHANCE, spacing=[0.0005, 0.0005, 0.0005]), []
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"needs about [\d,]+ GB of memory, [\d.,]+ GB are free") as refused:
        refine(image, rough, model=model, output=tmp_path / "o.seg.nrrd", listeners=[seen.append])
    assert "larger data.spacing_mm" in refused.value.do
    assert [e["event"] for e in seen] == ["started", "failed"]
    assert sorted(tmp_path.rglob("*")) == before


def audit_list(folder: Path, count: int) -> Path:
    cases = []
    for name in [f"case_{n}" for n in range(count)]:
        (folder / name).mkdir()
        image, rough = files(folder / name, GRIDS["as_trained"], block(GRIDS["as_trained"]))
        cases.append(Case(name, (image,), rough))
    return save_datalist(DataList("d", {1: "organ"}, tuple(cases), ()), folder / "d.json")


ODD = [*ERRORS, NOT_OURS, IndexError("list index out of range"), ZeroDivisionError(), OSError(5, "Input/output error")]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__ + str(error)[-5:])
def test_the_audit_goes_on_whatever_one_case_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    original, calls = audited_case.predict, []

    def predict(*given: Any, **options: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return original(*given, **options)

    monkeypatch.setattr(audited_case, "predict", predict)
    done = audit(audit_list(tmp_path, 3), model=model_that(tmp_path, ENHANCE), output=tmp_path / "a", device="cpu")
    assert sorted(row.case for row in done.rows) == ["case_0", "case_1", "case_2"]
    assert (done.rows[-1].case, done.rows[-1].kind) == ("case_1", "error")
    assert "case_1" in done.rows[-1].error
    assert type(error).__name__ in done.rows[-1].error or "enough" in done.rows[-1].error
    assert sorted(p.name for p in (tmp_path / "a" / "corrected").iterdir()) == ["case_0.seg.nrrd", "case_2.seg.nrrd"]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__ + str(error)[-5:])
def test_an_audit_without_one_good_case_ends_with_the_first_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def predict(*given: Any, **options: Any) -> np.ndarray:
        raise error

    monkeypatch.setattr(audited_case, "predict", predict)
    with pytest.raises(InputError, match="case_0"):
        audit(audit_list(tmp_path, 2), model=model_that(tmp_path, ENHANCE), output=tmp_path / "a", device="cpu")
    assert not (tmp_path / "a").exists()


def test_a_full_disk_is_not_the_cases_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*given: Any, **options: Any) -> None:
        raise InputError("o", "the disk is full", "Free some space")

    monkeypatch.setattr(audit_module, "write_label", write)
    with pytest.raises(InputError, match="the disk is full"):
        audit(audit_list(tmp_path, 2), model=model_that(tmp_path, ENHANCE), output=tmp_path / "a", device="cpu")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__ + str(error)[-5:])
@pytest.mark.parametrize("at_step", [2, 7])
def test_a_training_without_memory_stops_and_goes_on_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, at_step: int
) -> None:
    """Step 2 comes before the first checkpoint, step 7 after it."""
    overrides = {"reliability": {"enabled": False}, "mask_agents": {"enabled": False}}
    given = given_run("corrected", "supervised", **overrides)
    expected, _ = run(given)
    original = Supervised.training_step
    calls = []

    def step(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == at_step + 1:
            raise error
        return original(*arguments)

    folder = tmp_path / "short"
    folder.mkdir()
    with monkeypatch.context() as context:
        context.setattr(Supervised, "training_step", step)
        with pytest.raises(InputError, match=f"training at step {at_step}: the memory of the device cpu") as caught:
            run(given, folder)
    assert "train.batch_size" in caught.value.do
    assert ("resume" in caught.value.do) == (at_step == 7)
    if at_step == 7:
        assert load_checkpoint(folder / "checkpoint.pt")["step"] == 4
        resumed, _ = run(given, folder, resume=True)
        assert same_weights(resumed.network, expected.network)


def test_a_training_that_cannot_fit_is_refused_before_it_reads(tmp_path: Path) -> None:
    datalist = write_phantom_dataset(tmp_path / "data", 2, 0, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    overrides = {"data": {"patch_size": [512, 512, 512]}, "train": {"batch_size": 64}, "network": {"feature_size": 64}}
    seen: list[dict[str, Any]] = []
    with pytest.raises(InputError, match=r"this training: it needs about [\d,]+ GB of memory, .* are free") as caught:
        train(datalist, tmp_path / "run", overrides=overrides, listeners=[seen.append])
    assert "train.batch_size" in caught.value.do
    assert not [e for e in seen if e["event"] == "progress"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__ + str(error)[-5:])
def test_no_traceback_where_memory_runs_out_anywhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, error: BaseException
) -> None:
    def command(*given: Any) -> int:
        raise error

    monkeypatch.setattr(cli.COMMANDS["info"], "run", command)
    assert cli.main(["info", "model"]) == 2
    told = capsys.readouterr().err
    assert "memory" in told
    assert "do:" in told
    monkeypatch.setattr(cli.COMMANDS["info"], "run", lambda *_: (_ for _ in ()).throw(NOT_OURS))
    with pytest.raises(RuntimeError, match="5D input"):
        cli.main(["info", "model"])


def test_the_event_of_a_failure_says_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, rough = files(tmp_path, GRIDS["as_trained"], block(GRIDS["as_trained"]))
    seen: list[dict[str, Any]] = []

    def prepare(*given: Any) -> None:
        raise ERRORS[3]

    monkeypatch.setattr("SVLDRLCore.jobs.refine_by_model.prepared_part", prepare)
    model = model_that(tmp_path, ENHANCE)
    with pytest.raises(MemoryError):
        refine(image, rough, model=model, output=tmp_path / "o.seg.nrrd", listeners=[seen.append])
    assert (seen[-1]["event"], seen[-1]["what"]) == ("failed", "memory")
    assert "8.00 GiB" in seen[-1]["why"]
    assert "crop" in seen[-1]["do"]


@pytest.mark.skipif(os.name != "posix", reason="address-space limits")
def test_a_large_image_in_a_small_address_space(tmp_path: Path) -> None:
    """20 million voxels; the process may have 200 MB more than it takes to start."""
    geometry = Geometry((200, 320, 320), (1.0, 1.0, 1.0))
    image = write_image(tmp_path / "i.nrrd", np.zeros(geometry.size_dhw, np.uint8), geometry)
    model = model_that(tmp_path, ENHANCE)
    code = (
        "import sys, resource; from SVLDRLCore import cli; import SVLDRLCore.jobs.refine_by_model\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "sys.exit(cli.main(sys.argv[2:]))\n"
    )
    command = ["refine", str(image), "--model", str(model), "--output", str(tmp_path / "o.nrrd"), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", code, "200000000", *command], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert re.search(r"i.nrrd\n  why: it needs about 2\d\d MB of memory, 1?\d?\d MB are free", done.stderr), done.stderr
    assert not (tmp_path / "o.nrrd").exists()


BEYOND_IMPORTS = """
import sys
import SVLDRLCore.jobs.refine_by_model
from SVLDRLCore.jobs.refine import refine

def peak():
    return int(dict(line.split(":", 1) for line in open("/proc/self/status"))["VmHWM"].split()[0]) * 1024

before = peak()
refine(sys.argv[1], model=sys.argv[2], output=sys.argv[3], device="cpu")
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process's peak alone")
def test_what_is_asked_for_is_no_more_than_is_used(tmp_path: Path) -> None:
    """Or a case that fits would be refused."""
    size, image = (160, 256, 256), tmp_path / "image.nrrd"
    write_image(image, np.random.default_rng(0).random(size, np.float32), Geometry(size, (1.0, 1.0, 1.0)))
    model = made_model(tmp_path / "model")
    command = [sys.executable, "-c", BEYOND_IMPORTS, str(image), str(model), str(tmp_path / "out.nrrd")]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    needed = prediction_bytes(load_model(model, "cpu"), image, BATCH, torch.device("cpu"))
    assert 0.3 * int(told.splitlines()[-1]) < needed < int(told.splitlines()[-1])


def test_free_memory_is_what_limits_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e8 < free_memory_bytes() <= memory.UNKNOWN
    for part in ("_system_bytes", "_limit_bytes", "_container_bytes"):
        with monkeypatch.context() as context:
            context.setattr(memory, part, lambda: 5 * 10**7)
            assert free_memory_bytes() == 5 * 10**7
            assert require_memory("it", 1e7) == "This needs about 10 MB of memory; 50 MB are free."
            with pytest.raises(InputError, match=r"it: it needs about 2\.0 GB of memory, 50 MB are free"):
                require_memory("it", 2e9)
