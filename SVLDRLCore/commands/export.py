"""Write a model for another program: MONAI Bundle, ONNX or zip."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, listeners_of, tell
from SVLDRLCore.job_control import JobControl


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("model", type=str, help="model folder or zip, or a finished training's folder")
    sub.add_argument("--bundle", type=str, default=None, help="new folder for a MONAI Bundle")
    sub.add_argument("--onnx", type=str, default=None, help="file for the network alone (pip install svldrl[onnx])")
    sub.add_argument("--zip", type=str, default=None, help="file for the model itself, to hand it on")
    sub.add_argument("--overwrite", action="store_true", help="replace files that exist; folders never")
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.jobs.export import export

    listeners = listeners_of(values, control)
    written = export(**values, listeners=listeners, control=control)
    tell("\n".join(f"Written: {path}" for path in written), listeners)
    return 0
