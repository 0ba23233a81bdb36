"""Lists of cases that are no data list: a CSV of images and masks, or a plain folder; and which of all it is."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from SVLDRLCore.csv_cells import cell_text
from SVLDRLCore.errors import InputError, shown, shown_path
from SVLDRLCore.file_places import require_readable
from SVLDRLCore.files.datalist import Case, DataList, load_datalist, named_cases
from SVLDRLCore.files.datalist_keys import is_file
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
        InputError: it cannot be read as any of these, or names a missing file.
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
    cases = []
    for number, line in enumerate(lines[1:], 2):
        cells = [cell_text(cell).strip() for cell in line] + [""] * (len(head) - len(line))
        if any(cells):
            files = [_file(path, number, cells[index]) for _, index in images]
            label = _file(path, number, cells[masks[0]]) if cells[masks[0]] else None
            cases.append(Case("" if name is None else cells[name], tuple(files), label))
    if not cases:
        raise InputError(str(path), "it lists no case", DO)
    used = {index for _, index in images} | {masks[0], name}
    unused = [shown(cell) for index, cell in enumerate(head) if index not in used and cell]
    notes = (f"Columns that nothing is known of are ignored: {', '.join(unused)}",) if unused else ()
    return DataList(path.stem, {}, named_cases(cases, path), (), path, notes=notes)


def _file(path: Path, number: int, cell: str) -> Path:
    if not cell:
        raise InputError(str(path), f"line {number} names no image", DO)
    file = path.parent / cell
    if not is_file(file):
        why = f"line {number} names the missing file {shown_path(file)}"
        raise InputError(str(path), why, "Correct the path or remove the case")
    volume_suffix(file)
    return file
