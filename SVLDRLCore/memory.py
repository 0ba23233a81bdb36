"""How much memory there is, and whether a job will need more: asked before it starts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from SVLDRLCore.errors import FREE_MEMORY, InputError

UNKNOWN = 1 << 63
"""Where the system does not tell."""


def free_memory_bytes() -> int:
    """Memory that a program can still have: free or soon freed, swap included, within this process's own limits."""
    return max(0, min(_system_bytes(), _limit_bytes(), _container_bytes()))


def physical_memory_bytes() -> int:
    """The machine's physical memory; `UNKNOWN` where the system does not tell."""
    if sys.platform == "win32":
        return _windows_memory()[1]  # ullTotalPhys
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return UNKNOWN


def require_memory(what: str, needed_bytes: float, do: str = FREE_MEMORY) -> str:
    """What a job will need, in a sentence.

    Args:
        what: the job or file, for the error.
        needed_bytes: a careful guess that rather says too little: what fits is not to be refused.

    Raises:
        InputError: it is more than there is.
    """
    free = free_memory_bytes()
    if needed_bytes > free:
        raise InputError(what, f"it needs about {gigabytes(needed_bytes)} of memory, {gigabytes(free)} are free", do)
    there = "" if free >= UNKNOWN else f"; {gigabytes(free)} are free"
    return f"This needs about {gigabytes(needed_bytes)} of memory{there}."


def gigabytes(count: float) -> str:
    """Bytes in MB or GB, as a file manager counts them."""
    if count < 1e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 1e12 else f"{count / 1e9:,.0f} GB"


def _system_bytes() -> int:
    if sys.platform == "win32":
        return _windows_memory()[4]  # ullAvailPageFile: physical memory and page file together
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        table = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        return table["MemAvailable"] + table["SwapFree"]
    return physical_memory_bytes()  # macOS tells what it has, not what is free


def _windows_memory() -> list[int]:
    status = (ctypes.c_ulonglong * 8)()  # MEMORYSTATUSEX: dwLength and dwMemoryLoad share the first word
    status[0] = ctypes.sizeof(status)
    windll: Any = vars(ctypes)["windll"]  # on Windows alone
    windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return [int(word) for word in status]


def _limit_bytes() -> int:
    """What `ulimit -v` leaves to this process."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
            return most - pages * resource.getpagesize()
    return UNKNOWN


def _container_bytes() -> int:
    """What a container's limit (cgroup 2) leaves; files that the system keeps in memory can be dropped."""
    folder = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError, KeyError):
        most = int((folder / "memory.max").read_text("ascii"))  # "max": no limit
        lines = (folder / "memory.stat").read_text("ascii").splitlines()
        kept = {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}["inactive_file"]
        return most - int((folder / "memory.current").read_text("ascii")) + kept
    return UNKNOWN
