"""The library of the SVLDRLSegmentation module. What scripts need of it is named here:

from SVLDRLSegmentationLib import Case, JobError, loadPhantom
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .jobs.JobError import JobError
    from .scene.Cases import Case
    from .scene.PhantomData import loadPhantom, makePhantomData

__all__ = ["Case", "JobError", "forgetLibrary", "loadPhantom", "makePhantomData"]

_PLACES = {
    "Case": "scene.Cases",
    "JobError": "jobs.JobError",
    "loadPhantom": "scene.PhantomData",
    "makePhantomData": "scene.PhantomData",
}


def __getattr__(name: str) -> object:
    """Public names are imported when they are asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)


def forgetLibrary() -> None:
    """For the developer's button Reload: the next import reads the files of the extension's packages again."""
    warmWorker = sys.modules.get(f"{__name__}.jobs.WarmWorker")
    if warmWorker is not None:
        warmWorker.endWarmWorker()  # it has the old code
    for name in [name for name in sys.modules if name.partition(".")[0] in (__name__, "SVLDRLCore")]:
        del sys.modules[name]
