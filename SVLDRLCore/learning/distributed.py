"""One training in several processes, on several GPUs or machines: `torchrun ... -m SVLDRLCore train ...`.

Each process takes its own patches of every step; gradients are averaged, so that all networks stay equal to the bit.
The first process alone looks at labels, validates, tells and writes. What it found goes to the others.
Everything here is the identity, and costs nothing, where a single process trains.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from SVLDRLCore.errors import Cancelled, InputError, ToldElsewhere, is_out_of_memory
from SVLDRLCore.job_control import JobControl, processes_started

T = TypeVar("T")
STARTED_BY = ".torchrun"
TOGETHER = "training in several processes"
LONGEST_MEETING, LONGEST_WAIT = timedelta(minutes=30), timedelta(hours=12)
"""For all to start; then for the first one, which may be paused or review many labels. A death is noticed at once."""


@contextmanager
def joined_processes() -> Iterator[None]:
    """The other processes that torchrun has started are met for the length of the block; alone, nothing happens."""
    if processes_started() == 1 or not dist.is_available() or dist.is_initialized():
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    with _others_needed():
        store, number, count = next(rendezvous("env://", timeout=LONGEST_MEETING))
        if os.environ.get("LOCAL_WORLD_SIZE") == str(count):
            # torchrun keeps one store, in which those that it has ended have left their addresses (pytorch#135712);
            # only on one machine does everybody know how often it has started them
            store = PrefixStore(f"start {_starts()}", store)
        dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=LONGEST_WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def processes() -> int:
    """How many train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Of this process, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def is_first() -> bool:
    """Whether this process tells and writes."""
    return rank() == 0


def note_start(folder: Path) -> None:
    """Leave in a run's folder which torchrun has begun it, so that its next start knows the run as its own."""
    if processes() > 1:
        (folder / STARTED_BY).write_text(_torchrun(), encoding="utf-8")


def started_again(folder: Path) -> bool:
    """Whether torchrun has started the processes anew, since one of them ended, and has begun this run itself."""
    mark = folder / STARTED_BY
    return _starts() > 0 and mark.is_file() and mark.read_text(encoding="utf-8") == _torchrun()


def _torchrun() -> str:
    """The same in all starts by one torchrun, and of no other."""
    return f"{os.environ.get('TORCHELASTIC_RUN_ID', '')} {os.getppid()}"


def rows_here(batch_size: int) -> list[bool]:
    """For all patches of a step, `batch_size` a process: whether they are made here."""
    count, here = processes(), rank()
    return [row % count == here for row in range(count * batch_size)]


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them: plain types and tensors, on the CPU.

    Raises:
        Cancelled: the first one is to stop, and so are all.
        InputError: the first one cannot make it, and tells why.
    """
    if processes() == 1:
        return make()
    if not is_first():
        return _made_by_first(_sent(torch.empty(0, dtype=torch.uint8)))
    try:
        made = _packed(made=make())
    except Cancelled as stop:
        with suppress(InputError):  # somebody is gone already
            _sent(_packed(cancelled=str(stop)))
        raise
    except Exception:
        with suppress(InputError):
            _sent(_packed(failed=True))
        raise
    _sent(made)
    return _made_by_first(made)


def _packed(**content: Any) -> Tensor:
    file = io.BytesIO()
    torch.save(content, file)
    return torch.frombuffer(file.getbuffer(), dtype=torch.uint8)


def _sent(packed: Tensor) -> Tensor:
    """What the first process has packed, in all of them."""
    size = torch.tensor([len(packed)])
    with _others_needed():
        dist.broadcast(size, 0)
        packed = packed if is_first() else torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(packed, 0)
    return packed


def _made_by_first(packed: Tensor) -> Any:
    told = torch.load(io.BytesIO(packed.numpy().data), map_location="cpu", weights_only=True)
    if "cancelled" in told:
        raise Cancelled(told["cancelled"])
    if "failed" in told:
        raise InputError(TOGETHER, "the first one of them has ended", "Look at what it told")
    return told["made"]


@contextmanager
def heard_once() -> Iterator[None]:
    """What goes wrong in all processes alike is told by the first one, and on other machines by one of theirs.

    Memory may run out in one of them alone.

    Raises:
        ToldElsewhere: in place of other InputErrors, in the processes that keep quiet.
    """
    try:
        yield
    except InputError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0" or is_out_of_memory(error):
            raise
        raise ToldElsewhere(error.what, error.why, error.do) from error


@contextmanager
def failing_together() -> Iterator[None]:
    """For the first process, while the others wait for what it makes: where it fails or is stopped, they end, too."""
    try:
        yield
    except Exception as error:
        if processes() > 1:
            from_first(partial(_fail, error))
        raise


def _fail(error: Exception) -> None:
    raise error


def all_of(true: bool) -> bool:
    """Whether it is so in all processes."""
    return true if processes() == 1 else bool(_summed(torch.tensor([float(not true)])) == 0)


def seen_by_any(numbers: Iterable[int], count: int) -> list[int]:
    """Those of 0 ... `count` - 1 that any process names, in order."""
    named = torch.zeros(count)
    named[list(numbers)] = 1
    return torch.nonzero(named if processes() == 1 else _summed(named)).flatten().tolist()


def stop_together(control: JobControl) -> None:
    """`control.check()`, of all processes at the same step.

    Raises:
        Cancelled: one of them is to stop.
    """
    control.wait_while_paused()
    if not all_of(not control.cancelled):
        control.cancel("another process of the training was told to stop")
    control.check()


def mean_over_processes(numbers: Mapping[str, float | list[float]]) -> dict[str, Any]:
    """What the first process has logged, as means over all that have logged the same."""
    if processes() == 1:
        return dict(numbers)
    names = from_first(lambda: {name: len(_listed(value)) for name, value in numbers.items()})
    rows = [[float(name in numbers), *_listed(numbers.get(name, [0.0] * count))] for name, count in names.items()]
    sums = iter(_summed(torch.tensor([value for row in rows for value in row], dtype=torch.float64)).tolist())
    found: dict[str, Any] = {}
    for name, count in names.items():
        told = next(sums)
        means = [next(sums) / told for _ in range(count)]
        found[name] = means if isinstance(numbers.get(name), list) or count > 1 else means[0]
    return found


def average_gradients(network: nn.Module) -> None:
    """Gradients become their means over the processes; a parameter that got one nowhere still has none.

    One sum over everything that learns: the method's step is not one forward pass, whose parts could be awaited.
    """
    if processes() == 1:
        return
    learning = [p for p in network.parameters() if p.requires_grad]
    moved = torch.tensor([float(p.grad is not None) for p in learning], device=learning[0].device)
    parts = [moved, *(torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in learning)]
    flags, *means = _summed(torch.cat(parts)).split([len(part) for part in parts])
    for parameter, flag, mean in zip(learning, flags.tolist(), means):
        if flag:
            parameter.grad = (mean / processes()).view_as(parameter)


def draw_apart(seed: int, step: int, number: int, generators: Iterable[torch.Generator]) -> None:
    """From here on a process draws its own random numbers, which follow from the seed, the step and its number.

    Called at the start and after each checkpoint, which holds the first process's alone: so the rest of a training
    is the same whether it was interrupted there or not.
    """
    own = hash((seed, step, number)) % 2**63  # of whole numbers: the same in every process
    torch.manual_seed(own)
    for place, generator in enumerate(generators, start=1):
        generator.manual_seed((own + place) % 2**63)


def require_equal_weights(network: nn.Module) -> None:
    """RuntimeError where the processes' weights differ: one of them went astray, and the model is of no use."""
    if processes() == 1:
        return
    own = torch.stack([t.detach().double().sum().cpu() for t in network.state_dict().values()])
    first = from_first(lambda: own)
    if not all_of(torch.equal(own, first)):
        raise RuntimeError("the processes that train together have come to different weights")


def _starts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _summed(values: Tensor) -> Tensor:
    with _others_needed():
        dist.all_reduce(values)
    return values


def _listed(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]


@contextmanager
def _others_needed() -> Iterator[None]:
    """InputError where another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            TOGETHER,
            f"another one of them has ended, or cannot be reached ({str(error).splitlines()[0][:120]})",
            "Go on with --resume, or let torchrun do so by itself with --max-restarts",
        ) from error
