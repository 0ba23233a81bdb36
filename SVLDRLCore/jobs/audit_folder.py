"""The folder of an audit: what may lie in it before, and how the results get there, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from SVLDRLCore.atomic_files import made_folder, not_written
from SVLDRLCore.errors import InputError
from SVLDRLCore.file_places import require_output_files, require_output_folder
from SVLDRLCore.files.datalist import DataList
from SVLDRLCore.learning.run_folder import resolve_model
from SVLDRLCore.scratch_folders import REPLACED
from SVLDRLCore.training.cross_check import FOLDER, is_foreign

CORRECTED, PAGE = "corrected", "audit.html"
OFFERED = "datalist_missing.json"
"""The data list with structures as missing that nobody may have drawn; the audit writes it only to be chosen."""
RESULTS = ("audit.csv", "audit.json", PAGE, OFFERED, CORRECTED)


def refuse_folder_in_use(output: Path, overwrite: bool, goes_on: bool) -> None:
    """InputError for a folder with other files; `goes_on`: a cross-check that was begun there is none of them."""
    require_output_folder(output)
    if goes_on and is_foreign(output / FOLDER):
        why = "the networks of the cross-check would lie there, and it holds other files"
        raise InputError(str(output / FOLDER), why, "Choose another folder")
    if overwrite or not output.exists():
        return
    if any(not (goes_on and path.name == FOLDER) for path in output.iterdir()):
        raise InputError(str(output), "the folder is not empty", "Choose a new or empty folder, or allow overwriting")


def refuse_originals_there(listed: DataList, folder: Path) -> None:
    """InputError where results would take the place of the files that are audited."""
    for case in listed.cases:
        for file in case.files:
            if folder in file.resolve().parents:
                why = f"the audited file {file} lies in it"
                raise InputError(str(folder), why, "Choose another folder")


def check_places(listed: DataList, datalist: Path, model: str | Path | None, output: Path) -> None:
    """InputError where a result would take the place of an input, or cannot be written."""
    inputs = [datalist, *(file for case in listed.cases for file in case.files)]
    closed = [] if model is None else [resolve_model(model)]
    require_output_folder(output, inputs, closed=closed)
    proposals = [output / CORRECTED / f"{case.name}.seg.nrrd" for case in listed.cases]
    results = [output / name for name in RESULTS if name != CORRECTED]
    require_output_files(results, inputs, closed=closed, overwrite=True)
    for proposal in proposals:
        require_output_files([proposal], overwrite=True)


def move_into(output: Path, made: Path) -> None:
    """Put the results into the output folder; an earlier audit's go with the scratch folder."""
    replaced: list[str] = []
    with made_folder(output):
        try:
            for name in RESULTS:
                if (output / name).exists():
                    (made / REPLACED).mkdir(exist_ok=True)
                    os.replace(output / name, made / REPLACED / name)
                    replaced.append(name)
                if (made / name).exists():  # the page needs packages that not everybody has
                    os.replace(made / name, output / name)
        except OSError as error:
            for name in replaced:
                os.replace(made / REPLACED / name, output / name)
            if replaced:
                (made / REPLACED).rmdir()
            raise not_written(output, error) from error
