"""Staged voxel-level deep reinforcement learning for 3D segmentation with noisy annotations.

The commands are functions here, imported when first used, so that `import SVLDRLCore` costs nothing:

    from SVLDRLCore import train, refine
    model = train("datalist.json", "runs/atrium", preset="left_atrium")
    refine("image.nrrd", "rough.seg.nrrd", model=model, output="refined.seg.nrrd")
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0"
_ROOMS = {
    "adapt": "training",
    "audit": "jobs",
    "benchmark": "benchmarking",
    "check": "jobs",
    "corrupt": "benchmarking",
    "demo": "jobs",
    "evaluate": "jobs",
    "info": "jobs",
    "phantom": "jobs",
    "refine": "jobs",
    "refine_list": "jobs",
    "train": "training",
    "tune": "training",
}
__all__ = ["InputError", "__version__", *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}.{name}"), name)
    if name == "InputError":
        return importlib.import_module(f"{__name__}.errors").InputError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
