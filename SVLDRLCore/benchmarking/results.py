"""The results of a benchmark as one table: a row a run, case and structure; and the masks behind the numbers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.atomic_files import write_bytes_atomically, write_text_atomically
from SVLDRLCore.csv_cells import cell_text
from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.metrics import SHARE_NAMES
from SVLDRLCore.evaluation.tables import csv_text


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One structure of one case of one run; None (an empty cell) where there is nothing to tell.

    A structure that is in neither mask has no metrics and no part in means (see `evaluation.metrics`).
    """

    noise: str
    ratio: float
    seed: int
    row: str
    group: str
    budget: str
    steps: int
    case: str
    structure: str
    dice: float | None
    iou: float | None
    hd95_mm: float | None
    asd_mm: float | None
    volume_ratio: float | None
    """Infinite where the reference lacks the structure."""
    train_seconds: float | None
    """CPU seconds on a CPU, seconds on a GPU; without the warm-up."""
    warm_up_seconds: float | None
    predict_seconds: float | None
    """Of the whole case."""
    peak_memory_mb: float | None
    """Largest resident memory of the job's process."""
    label_dice: float | None
    """Mean Dice of the corrupted labels against the originals."""
    weight_auc: float | None
    """How well case weights tell clean from corrupted labels; empty where there are none."""
    ppv: float | None = None
    sensitivity: float | None = None
    boundary_iou: float | None = None


COLUMNS = tuple(f.name for f in fields(ResultRow))
NEWER = SHARE_NAMES
"""The last columns, which tables of version 0.1 lack."""
MEASURED_ANEW = ("train_seconds", "warm_up_seconds", "predict_seconds", "peak_memory_mb")
"""Columns that differ when a benchmark is repeated; all others are the same to the bit on the same machine."""
_INTEGERS, _TEXTS = ("seed", "steps"), ("noise", "row", "group", "budget", "case", "structure")


def write_results(path: Path, rows: Iterable[ResultRow]) -> None:
    """Write results.csv, whole or not at all."""
    cells = [asdict(row) for row in rows]
    text = csv_text(cells) if cells else ",".join(COLUMNS) + "\n"
    write_text_atomically(path, text)


def read_results(path: Path) -> list[ResultRow]:
    """The rows of a results.csv.

    Raises:
        InputError: there is no such table, its columns are others, or a cell holds no number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            records, header = list(reader), tuple(reader.fieldnames or ())
    except OSError as error:
        raise InputError(str(path), f"it cannot be read ({error})", "Run the benchmark first") from error
    if header not in (COLUMNS, COLUMNS[: -len(NEWER)]):
        raise InputError(str(path), f"its columns are {', '.join(header)}", f"They must be {', '.join(COLUMNS)}")
    try:
        return [ResultRow(**{name: _parsed(name, record[name]) for name in header}) for record in records]
    except ValueError as error:
        raise InputError(str(path), f"a cell cannot be read ({error})", "Run the benchmark again") from error


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """The bits of boolean masks (C, D, H, W) as uint8."""
    return np.packbits(np.asarray(masks, bool).ravel())


def unpack_masks(bits: np.ndarray, shape: Iterable[int]) -> np.ndarray:
    """Boolean masks of `shape` (C, D, H, W) from their bits."""
    shape = tuple(int(n) for n in shape)
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).astype(bool)


def known(value: float | None) -> float:
    """The value, or NaN where a cell was empty."""
    return math.nan if value is None else value


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz, whole or not at all."""
    buffer = io.BytesIO()
    given: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **given)
    write_bytes_atomically(path, buffer.getvalue())


def reference_arrays(
    case: str, image: np.ndarray, masks: np.ndarray, spacing_dhw: tuple[float, ...]
) -> dict[str, np.ndarray]:
    """Entries of masks/reference.npz for one case.

    `CASE/image` float16 (D, H, W) of the first channel, `CASE/masks` bits, `CASE/shape` (C, D, H, W) and
    `CASE/spacing_dhw` mm.
    """
    return {
        f"{case}/image": np.asarray(image[0], np.float16),
        f"{case}/masks": pack_masks(masks),
        f"{case}/shape": np.asarray(masks.shape, np.int64),
        f"{case}/spacing_dhw": np.asarray(spacing_dhw, np.float64),
    }


def _parsed(name: str, text: str) -> Any:
    if name in _TEXTS:
        return cell_text(text)
    if text == "":
        return None
    return int(text) if name in _INTEGERS else float(text)
