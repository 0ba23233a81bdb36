"""What the developer's button Reload needs beside the new panel: the library anew, and what goes on meanwhile."""

from __future__ import annotations

import sys
from typing import Any

import slicer

LIBRARIES = ("SVLDRLSegmentationLib", "SVLDRLCore")
_HANDED_OVER = "SVLDRLSegmentationTraining"


def forgetLibrary() -> None:
    """Let the next import read the files of the extension's packages again."""
    for name in [name for name in sys.modules if name.partition(".")[0] in LIBRARIES]:
        del sys.modules[name]


def handOver(task: Any) -> None:
    """Keep a running training for the panel that comes next; it is an object of the old code, and does its work."""
    setattr(slicer.modules, _HANDED_OVER, task)


def takeOver() -> Any:
    """The training that an earlier panel left running; None when there is none. It is given once."""
    task = getattr(slicer.modules, _HANDED_OVER, None)
    setattr(slicer.modules, _HANDED_OVER, None)
    return None if task is None or task.ended else task
