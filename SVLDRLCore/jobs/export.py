"""A model in the form that another program takes: a zip, a MONAI Bundle, ONNX."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from SVLDRLCore.atomic_files import files_together, made_folder, write_bytes_atomically
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_files, require_output_folder
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.run_folder import resolve_model
from SVLDRLCore.models.package import load_package, write_folder, zip_package


def export(
    model: str | Path,
    *,
    bundle: str | Path | None = None,
    onnx: str | Path | None = None,
    zip: str | Path | None = None,  # noqa: A002  the option's name
    overwrite: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> list[Path]:
    """Write a model in other forms; returns what was written.

    Args:
        model: a model's folder or zip, or a finished training's folder.
        bundle: a new folder for a MONAI Bundle, see `models.bundle`.
        onnx: a file for the network alone: windows (B, M, D, H, W) in [0, 1] to probabilities (B, C, D, H, W).
        zip: a file for the package itself, to hand it on.
        overwrite: whether files, not folders, that exist may be replaced.

    Raises:
        InputError: no model; a place that cannot be written; a form that does not predict the same.
        Cancelled: stopped; what was written before is whole.
    """
    control = control or JobControl()
    with EventLog(None, listeners) as events, failures_told(events):
        package = resolve_model(model)
        files = [Path(file) for file in (onnx, zip) if file is not None]
        if not files and bundle is None:
            raise InputError("export", "no form was asked for", "Add --bundle FOLDER, --onnx FILE or --zip FILE")
        require_output_files(files, [package] if package.is_file() else [], closed=[package], overwrite=overwrite)
        if bundle is not None:
            require_output_folder(bundle, closed=[package])
            if os.path.lexists(bundle):
                raise InputError(str(bundle), "the folder exists", "Choose another name, or remove it first")
        events.emit("started", job="export", output=str(bundle or files[0]))
        asked = [form for form in ("zip", "bundle", "onnx") if {"zip": zip, "bundle": bundle, "onnx": onnx}[form]]
        written: list[Path] = []
        for done, form in enumerate(asked):
            control.check()
            events.progress(done, len(asked), "exporting")
            if form == "zip":
                written.append(_zip(package, Path(str(zip)), overwrite))
            elif form == "bundle":
                written.append(_bundle(package, Path(str(bundle))))
            else:
                written.append(_onnx(package, Path(str(onnx))))
        events.emit("finished", output=[str(path) for path in written])
    return written


def _zip(package: Path, place: Path, overwrite: bool) -> Path:
    if package.is_dir():
        zip_package(package, place, overwrite)
    else:
        load_package(package)
        with made_folder(place.parent):
            write_bytes_atomically(place, package.read_bytes())
    return place


def _bundle(package: Path, place: Path) -> Path:
    from SVLDRLCore.models.bundle import bundle_files
    from SVLDRLCore.models.trained_model import load_model

    name = place.name.replace(" ", "_") or "model"
    files = bundle_files(load_model(package), name, load_package(package).card)
    with made_folder(place.parent):
        write_folder(place, files)
    return place


def _onnx(package: Path, place: Path) -> Path:
    from SVLDRLCore.models.onnx_form import write_onnx
    from SVLDRLCore.models.trained_model import load_model

    model = load_model(package)
    with made_folder(place.parent), files_together():
        write_bytes_atomically(place, write_onnx(model))
    return place
