"""Lists of cases that are no data list: a CSV of images and masks, or a plain folder; and which of all it is."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from SVLDRLCore.csv_cells import cell_text
from SVLDRLCore.errors import InputError, shown, shown_path
from SVLDRLCore.file_places import require_readable
from SVLDRLCore.files.datalist import Case, DataList, load_datalist, named_cases
from SVLDRLCore.files.datalist_keys import is_file
from SVLDRLCore.files.dataset_folders import stem_of
from SVLDRLCore.files.image_folders import images_with_masks, is_dataset
from SVLDRLCore.files.volume_headers import volume_suffix

_IMAGE = re.compile(r"(?:image|channel)[ _]?(\d*)")
_MASKS = ("rough", "mask", "label", "segmentation")
_NAMES = ("name", "case")
DO = "Begin with a line such as image,rough and write a line a case below it"


def cases_listed(path: str | Path) -> DataList:
    """The cases of a data list, a CSV, a data set's folder, or a plain folder of images with masks beside.

    The last two kinds name no structures: their `labels` are empty.

    Raises:
        InputError: it cannot be read as any of these, or names a missing file; of a CSV whose other lines can be read,
            a file that is not there is named all the same.
    """
    path = Path(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        return _table(path)
    if is_dataset(path):
        return load_datalist(path)
    return DataList(path.resolve().name, {}, images_with_masks(path), (), path)


def _table(path: Path) -> DataList:
    """Columns: image (further channels image2, image3 ...), rough (or mask, label), name; paths relative to the file.

    Separated by comma, semicolon or tab, as spreadsheets write it.
    """
    require_readable(path, "list")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(str(path), "it is no text in UTF-8", "Save it as CSV UTF-8") from error
    first = text.partition("\n")[0]
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True))
    except csv.Error as error:
        raise InputError(str(path), f"it is no CSV ({error})", DO) from error
    head = [cell_text(cell).strip().casefold() for cell in lines[0]] if lines else []
    places = {name: index for index, name in reversed(list(enumerate(head)))}
    images = sorted((int(found[1] or 1), index) for index, cell in enumerate(head) if (found := _IMAGE.fullmatch(cell)))
    masks = [places[name] for name in _MASKS if name in places]
    if not images or len(masks) != 1:
        why = f"its first line is {shown(first.strip())}, not the names of a column for images and of one for masks"
        raise InputError(str(path), why, DO)
    name = next((places[word] for word in _NAMES if word in places), None)
    cases: dict[int, Case] = {}
    for number, line in enumerate(lines[1:], 2):
        cells = [cell_text(cell).strip() for cell in line] + [""] * (len(head) - len(line))
        if any(cells):
            files = [_file(path, number, cells[index]) for _, index in images]
            label = _file(path, number, cells[masks[0]]) if cells[masks[0]] else None
            cases[number] = Case("" if name is None else cells[name], tuple(files), label)
    if not cases:
        raise InputError(str(path), "it lists no case", DO)
    named = named_cases(_told_apart(path, cases), path)
    _require_files(path, cases)
    used = {index for _, index in images} | {masks[0], name}
    unused = [shown(cell) for index, cell in enumerate(head) if index not in used and cell]
    notes = (f"Columns that nothing is known of are ignored: {', '.join(unused)}",) if unused else ()
    return DataList(path.stem, {}, named, (), path, notes=notes)


def _file(path: Path, number: int, cell: str) -> Path:
    if not cell:
        raise InputError(str(path), f"line {number} names no image", DO)
    file = path.parent / cell
    volume_suffix(file)
    return file


def _require_files(path: Path, cases: Mapping[int, Case]) -> None:
    """InputError where no line can be read; a line alone that cannot costs its own case."""
    missing = {number: next((f for f in case.files if not is_file(f)), None) for number, case in cases.items()}
    if None not in missing.values():
        number, file = next(iter(missing.items()))
        assert file is not None  # none of them can be read
        why = f"line {number} names the missing file {shown_path(file)}"
        raise InputError(str(path), why, "Correct the path or remove the case")


def _told_apart(path: Path, cases: Mapping[int, Case]) -> list[Case]:
    """The cases; those of one image without a name of their own are called by their masks, too.

    Raises:
        InputError: lines of one name, or of one image with the same mask.
    """
    known: dict[object, int] = {}
    # one file has many spellings: through links, through folders above
    images = {number: tuple(image.resolve() for image in case.images) for number, case in cases.items()}
    for number, case in cases.items():
        same = case.name.casefold() or (images[number], case.label and case.label.resolve())
        first = known.setdefault(same, number)
        if first != number:
            both, do = f"lines {first} and {number}", "Give each line a name of its own"
            if not case.name:
                raise InputError(str(path), f"{both} are the same image and mask", "Remove one of the lines")
            raise InputError(str(path), f"{both} have the name {shown(case.name)}", do)
    often = Counter(images[number] for number, case in cases.items() if not case.name)
    told = []
    for number, case in cases.items():
        image, mask = stem_of(case.images[0]), "" if case.label is None else stem_of(case.label)
        name = mask if mask.startswith(image) else f"{image}_{mask}"
        told.append(replace(case, name=name) if not case.name and mask and often[images[number]] > 1 else case)
    for name, count in Counter(case.name.casefold() for case in told if case.name).items():
        if count > 1:
            numbers = [n for n, case in zip(cases, told) if case.name.casefold() == name]
            why = f"the results of lines {' and '.join(map(str, numbers))} would have one name, {name}"
            raise InputError(str(path), why, "Add a column name, with a name of its own for each line")
    return told
