"""The texts inside a model package: settings, labels and training curves as JSON and CSV bytes, and back."""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from SVLDRLCore.csv_cells import as_cell, as_cells, cell_text
from SVLDRLCore.events import plain

MAX_CELLS = 1_000_000
"""Of a table: 20,000 epochs of 50 numbers. Each cell takes a hundred bytes in memory, whatever it takes in the file."""
MAX_NAME = 300
_LARGEST_INTEGER = 1 << 53  # what JSON of other programs keeps exactly, too

Labels = dict[int, dict[str, Any]]
TrainingRows = list[dict[str, float | str | None]]


def json_bytes(value: Any) -> bytes:
    """Readable UTF-8 JSON; raises ValueError for NaN and infinities, TypeError for what JSON cannot hold."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def parse_config(data: bytes) -> dict[str, Any]:
    """Raises ValueError for anything but a JSON object of plain values."""
    config = parse_json(data)
    if not isinstance(config, dict):
        raise ValueError("config.json holds no settings")
    return config


def labels_bytes(labels: Mapping[int, Mapping[str, Any]]) -> bytes:
    """labels.json; raises ValueError for labels that `parse_labels` would refuse."""
    table = {str(value): dict(labels[value]) for value in sorted(labels)}
    for label in table.values():
        if isinstance(label.get("name"), str):
            label["name"] = plain_name(label["name"])
    data = json_bytes(table)
    parse_labels(data)
    return data


def parse_labels(data: bytes) -> Labels:
    """Label value -> its name, colour, terminology; raises ValueError for labels that cannot be used."""
    labels = parse_json(data)
    if not isinstance(labels, dict) or not labels:
        raise ValueError("labels.json names no labels")
    parsed: Labels = {}
    for text, label in labels.items():
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535 or int(text) in parsed:
            raise ValueError(f"label value {text!r} is no whole number in 1..65535, or is there twice")
        if not isinstance(label, dict) or not is_plain_name(label.get("name")):
            raise ValueError(f"label {text} has no name that can be shown in a line")
        if "color" in label and not _is_color(label["color"]):
            raise ValueError(f"the colour of label {text} is not three numbers in 0..1: {label['color']!r}")
        parsed[int(text)] = label
    return parsed


def plain_name(text: str) -> str:
    """A name as a package may hold it: one line, without characters that command a terminal."""
    shown = "".join(" " if _commands(character) else character for character in text).strip()
    return shown[:MAX_NAME] or "unnamed"


def is_plain_name(text: Any) -> bool:
    """Whether a value is a name as `plain_name` gives it."""
    return isinstance(text, str) and 0 < len(text) <= MAX_NAME and not any(map(_commands, text))


def _commands(character: str) -> bool:
    """Control characters, line ends and halves of a character."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def csv_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A table with the columns of all rows, in the order they first appear; None and NaN as empty cells."""
    columns = [as_cell(key) for key in dict.fromkeys(key for row in rows for key in row)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([as_cells({key: plain(cell) for key, cell in row.items()}) for row in rows])
    return text.getvalue().encode("utf-8")


def parse_csv(data: bytes) -> TrainingRows:
    """Rows with numbers as float and empty cells as None; raises ValueError for a table that is none."""
    first, _, rest = data.partition(b"\n")
    if (first.count(b",") + 1) * (rest.count(b"\n") + 1) > MAX_CELLS:
        raise ValueError(f"training.csv has more than {MAX_CELLS:,} cells")
    reader = csv.DictReader(io.StringIO(data.decode("utf-8")))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"training.csv: {error}") from error
    if any(None in row for row in rows):
        raise ValueError("training.csv has a row with more cells than columns")
    return [{cell_text(key): _number(cell) for key, cell in row.items()} for row in rows]


def parse_json(data: bytes) -> Any:
    """Plain values; raises ValueError for what is no JSON, and for numbers or keys that others would read otherwise."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON number")

    def finite(text: str) -> float:
        number = float(text)
        return number if math.isfinite(number) else refuse(text[:20])

    def whole(text: str) -> int:
        number = int(text) if len(text) < 20 else _LARGEST_INTEGER + 1
        return number if abs(number) <= _LARGEST_INTEGER else refuse(text[:20])

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            raise ValueError("a key is there twice")
        return table

    try:
        value = json.loads(
            data.decode("utf-8"), parse_constant=refuse, parse_float=finite, parse_int=whole, object_pairs_hook=once
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # halves of a character are no text
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error
    return value


def _is_color(color: Any) -> bool:
    numbers = isinstance(color, list) and len(color) == 3 and all(type(c) in (int, float) for c in color)
    return numbers and all(0 <= c <= 1 for c in color)


def _number(cell: str | None) -> float | str | None:
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return cell_text(cell)
