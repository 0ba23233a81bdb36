"""The folder of a list of refined cases: what was done with what, so that a second call goes on with the rest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from SVLDRLCore.atomic_files import made_folder, remove_leftovers, write_json_atomically, write_text_atomically
from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.evaluation.tables import csv_text
from SVLDRLCore.file_places import require_output_files, require_output_folder
from SVLDRLCore.files.datalist import Case, DataList
from SVLDRLCore.files.label_tables import IGNORE
from SVLDRLCore.files.volumes import files_of
from SVLDRLCore.learning.run_folder import resolve_model
from SVLDRLCore.strict_json import read_json_object

RECORD, TABLE = "refined.json", "refined.csv"
VERSION = 1
_LOCK = ".refining.lock"
_NUMBERS = ("before_ml", "after_ml", "added_ml", "removed_ml", "dice", "expected_gain")
_COLUMNS = ("case", "structure", *_NUMBERS, "reason", "warnings", "error", "file", "image", "rough")
_ENTRY = {"inputs", "result", "changes", "warnings", "error"}
VERIFIED = "verified in the data list: left as drawn"

Entry = dict[str, Any]
"""Of a case: "inputs" and "result" (names, sizes, times of files), "changes", "warnings", "error" or none."""


def result_of(case: Case) -> str:
    """The name of a case's result."""
    return f"{case.name}.seg.nrrd"


def label_names(listed: DataList, case: Case) -> dict[int, str]:
    """What a list calls the values of a mask that names none itself."""
    names = dict(listed.labels)
    if names and case.ignore is not None:
        names[case.ignore] = IGNORE
    return names


class ListRecord:
    """What is known of a folder's cases; `save` writes it, and the table beside it.

    A case without an entry that the record names was begun: what lies there under its name is ours.
    """

    def __init__(self, folder: Path, source: Path, options: Mapping[str, Any], listed: DataList) -> None:
        self.folder, self.source, self.options, self.listed = folder, source, dict(options), listed
        self.cases = listed.cases
        self.entries: dict[str, Entry | None] = {}

    def is_done(self, case: Case) -> bool:
        """Refined from the files as they are now, and the result is there."""
        entry = self.entries.get(case.name)
        if entry is None or entry["error"]:
            return False
        return bool(entry["inputs"] == self.inputs(case)) and (self.folder / result_of(case)).is_file()

    def inputs(self, case: Case) -> list[list[Any]]:
        """What a case's result depends on, beside the options: its files as they are now, and names of label values."""
        names = label_names(self.listed, case)
        return [*seen(case.files), *([["labels", *map(list, sorted(names.items()))]] if names else [])]

    def withdraw_verified(self) -> list[str]:
        """Remove the results of cases that were marked as verified since; what to tell of those that somebody edited.

        The record is saved before, so that a kill leaves no result that nothing is known of.
        """
        told = []
        for case in self.cases:
            if case.trusted and case.name in self.entries:
                entry, file = self.entries.pop(case.name), self.folder / result_of(case)
                if entry is not None and entry["result"] and entry["result"] != seen([file]) and file.is_file():
                    told.append(f"{case.name} is marked as verified now. {file} was edited, so it stays; remove it.")
                else:
                    file.unlink(missing_ok=True)
        if told:
            self.save()
        return told

    def failed(self, case: Case) -> bool:
        """Whether it could not be refined."""
        entry = self.entries.get(case.name)
        return entry is not None and bool(entry["error"])

    def require_ours(self, case: Case) -> None:
        """InputError where a result was changed since it was written: somebody's work would be lost."""
        entry, file = self.entries.get(case.name), self.folder / result_of(case)
        if entry is not None and entry["result"] and file.is_file() and entry["result"] != seen([file]):
            why = "its image, mask or labels have changed, and so was this result since it was written"
            raise InputError(str(file), why, "Move the result, or allow overwriting to lose the changes")

    def note(self, case: Case, inputs: Any, changes: Sequence[Mapping[str, Any]], warnings: Sequence[str]) -> None:
        """It is done, from files that were seen as `inputs` before."""
        result = seen([self.folder / result_of(case)])
        self.entries[case.name] = {
            "inputs": inputs, "result": result, "changes": [dict(c) for c in changes], "warnings": list(warnings),
            "error": None,
        }  # fmt: skip

    def note_failure(self, case: Case, error: Mapping[str, str]) -> None:
        """It could not be refined; an earlier result stays, and stays known."""
        before = self.entries.get(case.name)
        told = {key: str(error[key]) for key in ("what", "why", "do")}
        result = before["result"] if before else None
        self.entries[case.name] = {"inputs": None, "result": result, "changes": [], "warnings": [], "error": told}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each structure of each case that was looked at: failures first, then what changed most."""
        rows = [row for case in self.cases for row in self._rows_of(case)]
        return sorted(rows, key=lambda row: (not row["error"], 2.0 if row["dice"] is None else row["dice"]))

    def _rows_of(self, case: Case) -> Iterator[dict[str, Any]]:
        entry = self.entries.get(case.name)
        images = [str(image.resolve()) for image in case.images]
        files = {"image": images, "rough": str(case.label.resolve()) if case.label else None}
        texts = dict.fromkeys(("structure", "reason", "warnings", "error"), "")
        blank = dict.fromkeys(_COLUMNS) | {"case": case.name} | texts
        if case.trusted:
            yield {**blank, "reason": VERIFIED, "file": None, **files}
        elif entry is not None and entry["error"]:
            error = entry["error"]
            yield {**blank, "error": f"{error['what']}: {error['why']}. {error['do']}", "file": None, **files}
        elif entry is not None:
            reasons = [change.get("reason") or "" for change in entry["changes"]]
            other = [text for text in entry["warnings"] if not any(reason and reason in text for reason in reasons)]
            for change, reason in zip(entry["changes"], reasons):
                told = {"structure": change["structure"], "reason": reason, "warnings": " ".join(other)}
                yield {**blank, **told, **_numbers(change), "file": result_of(case), **files}

    def save(self) -> None:
        """Both files, each whole or as it was."""
        rows = self.rows()
        content = {
            "version": VERSION, "list": str(self.source), "options": self.options, "cases": self.entries, "rows": rows,
        }  # fmt: skip
        write_json_atomically(self.folder / RECORD, content)
        cells = [{**row, "image": ",".join(row["image"])} for row in rows]
        write_text_atomically(self.folder / TABLE, csv_text(cells, _COLUMNS))


def _numbers(change: Mapping[str, Any]) -> dict[str, float | None]:
    return {key: None if change.get(key) is None else round(float(change[key]), 4) for key in _NUMBERS}


def open_record(
    output: Path, listed: DataList, source: Path, options: Mapping[str, Any], overwrite: bool
) -> ListRecord:
    """The record of a folder that is new, or with the same options the one that is there; it is saved.

    Raises:
        InputError: it was begun with other options, or a result would take the place of another file.
    """
    record = ListRecord(output, source.resolve(), json.loads(json.dumps(options)), listed)
    known = {} if overwrite else _known(record)
    record.entries.update(known)
    for case in record.cases:
        file = output / result_of(case)
        if not case.trusted and case.name not in known:
            require_output_files([file], overwrite=overwrite)
            record.entries[case.name] = None
    record.save()
    return record


def _known(record: ListRecord) -> dict[str, Entry | None]:
    file = record.folder / RECORD
    if not file.is_file():
        require_output_files([file, record.folder / TABLE])
        return {}
    do = "Choose another folder, or allow overwriting to begin anew"
    content = read_json_object(file, do)
    was, cases = content.get("options"), content.get("cases")
    if content.get("version") != VERSION or not isinstance(was, dict) or not isinstance(cases, dict):
        raise InputError(str(file), "it was written by another program or version", do)
    for name in sorted({*was, *record.options}):
        old, new = was.get(name), record.options.get(name)
        if old != new:
            told = "another model" if name == "model" else f"{name} {shown(old)}, {shown(new)} is asked now"
            why = f"its cases were begun with {told}"
            raise InputError(str(record.folder), why, f"Go on with that. {do}")
    for name, entry in cases.items():
        if entry is not None and not (isinstance(entry, dict) and entry.keys() >= _ENTRY):
            raise InputError(str(file), f"what it says of the case {name} cannot be understood", do)
    return cases


def check_list_places(listed: DataList, source: Path, model: str | Path | None, output: Path) -> None:
    """InputError where results would take the place of what is read, or be taken for masks of the next call."""
    closed = [] if model is None else [resolve_model(model)]
    if source.is_dir() and (output.exists() and os.path.samefile(source, output)):
        raise InputError(str(output), "it is the folder of the images", "Choose another folder, such as one in it")
    require_output_folder(output, [source], closed=closed)
    require_output_files([output / RECORD, output / TABLE], [source], closed=closed, overwrite=True)
    read = {_identity(file): case.name for case in listed.cases for file in case.files}
    for case in listed.cases:
        file = output / result_of(case)
        if not case.trusted and _identity(file) in read:
            why = f"it is read for the case {read[_identity(file)]}"
            raise InputError(str(file), why, "Choose another folder: inputs are never written over")


def _identity(file: Path) -> tuple[int, int] | str:
    """Equal for all names of one file."""
    with contextlib.suppress(OSError):
        found = file.stat()
        if found.st_ino:
            return found.st_dev, found.st_ino
    return os.path.realpath(file)


def seen(files: Sequence[Path]) -> list[list[Any]]:
    """Name, size in bytes and time of the last change in ns of each file, detached data included."""
    every = [part for file in files for part in files_of(file)]
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in every if f.is_file()]


def model_digest(model: str | Path) -> str:
    """SHA-256 of all that a model's answers depend on, the same for its folder and its zip."""
    from SVLDRLCore.learning.run_binding import weights_digest
    from SVLDRLCore.models.package import load_package  # with torch, which a list without a model does not need

    package = load_package(resolve_model(model))
    digest = hashlib.sha256(weights_digest(package.tensors()).encode())
    digest.update(json.dumps([package.config, package.labels], sort_keys=True, default=str).encode())
    for name in sorted(package.extra):
        digest.update(name.encode() + package.read_extra(name))
    return digest.hexdigest()


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else refines into the folder during the block; what a kill left half written is removed.

    Raises:
        InputError: somebody does.
    """
    with made_folder(folder):
        lock = filelock.FileLock(folder / _LOCK, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            why = "another process refines cases into this folder"
            raise InputError(str(folder), why, "Wait for it, stop it, or choose another folder") from error
        try:
            remove_leftovers(folder)
            yield
        finally:
            lock.release()
