"""Two pieces of work measured side by side, in CPU seconds: other programs on the machine hardly change them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
"""Where the scripts that run in child processes lie."""

Work = Callable[[], Any]


@dataclass(frozen=True)
class Compared:
    """Medians of both sides in CPU seconds, and the median of the repetitions' ratios."""

    ours: float
    reference: float
    ratio: float

    def sides(self) -> dict[str, float]:
        """As a row takes them."""
        return {"ours": self.ours, "reference": self.reference, "ratio": self.ratio}


@dataclass(frozen=True)
class Used:
    """What a child process took, and what it printed as JSON on its last line."""

    cpu_seconds: float
    peak_bytes: float
    told: dict[str, Any]


def cpu_seconds(work: Work) -> float:
    """Of all threads of this process while the work is done."""
    began = time.process_time()
    work()
    return time.process_time() - began


def side_by_side(ours: Work, reference: Work, repetitions: int = 5, warm_up: bool = True) -> Compared:
    """Both, in turns. The first turn is not counted where `warm_up` is set."""
    if warm_up:
        ours(), reference()
    pairs = [(cpu_seconds(ours), cpu_seconds(reference)) for _ in range(repetitions)]
    return compared(pairs)


def compared(pairs: Sequence[tuple[float, float]]) -> Compared:
    """Medians of (ours, reference) pairs."""
    mine, theirs = zip(*pairs)
    ratios = [a / b for a, b in pairs]
    return Compared(statistics.median(mine), statistics.median(theirs), statistics.median(ratios))


def child(arguments: Sequence[str]) -> Used:
    """Run Python with these arguments in a process of its own, single-threaded, and wait for it.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    assert process.stdout is not None
    text = process.stdout.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:200]} failed:\n{text[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, _last_json(text))


def _last_json(text: str) -> dict[str, Any]:
    last = text.strip().rpartition("\n")[2]
    try:
        told = json.loads(last)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
