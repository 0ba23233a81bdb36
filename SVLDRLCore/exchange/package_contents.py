"""The texts inside a model package: settings, labels and training curves as JSON and CSV bytes, and back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from SVLDRLCore.csv_cells import as_cell, as_cells, cell_text
from SVLDRLCore.events import plain

Labels = dict[int, dict[str, Any]]
TrainingRows = list[dict[str, float | str | None]]


def json_bytes(value: Any) -> bytes:
    """Readable UTF-8 JSON; raises ValueError for NaN and infinities, TypeError for what JSON cannot hold."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def parse_config(data: bytes) -> dict[str, Any]:
    """Raises ValueError for anything but a JSON object of plain values."""
    config = _parse_json(data)
    if not isinstance(config, dict):
        raise ValueError("config.json holds no settings")
    return config


def labels_bytes(labels: Mapping[int, Mapping[str, Any]]) -> bytes:
    """labels.json; raises ValueError for labels that `parse_labels` would refuse."""
    data = json_bytes({str(value): labels[value] for value in sorted(labels)})
    parse_labels(data)
    return data


def parse_labels(data: bytes) -> Labels:
    """Label value -> its name, colour, terminology; raises ValueError for labels that cannot be used."""
    labels = _parse_json(data)
    if not isinstance(labels, dict) or not labels:
        raise ValueError("labels.json names no labels")
    parsed: Labels = {}
    for text, label in labels.items():
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535 or int(text) in parsed:
            raise ValueError(f"label value {text!r} is no whole number in 1..65535, or is there twice")
        if not isinstance(label, dict) or not isinstance(label.get("name"), str):
            raise ValueError(f"label {text} has no name")
        if "color" in label and not _is_color(label["color"]):
            raise ValueError(f"the colour of label {text} is not three numbers in 0..1: {label['color']!r}")
        parsed[int(text)] = label
    return parsed


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
    reader = csv.DictReader(io.StringIO(data.decode("utf-8")))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"training.csv: {error}") from error
    if any(None in row for row in rows):
        raise ValueError("training.csv has a row with more cells than columns")
    return [{cell_text(key): _number(cell) for key, cell in row.items()} for row in rows]


def _parse_json(data: bytes) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON number")

    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error


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
