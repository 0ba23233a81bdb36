"""What a header's fields may hold, whatever the format: so many numbers, finite and of a possible size.

ITK's readers write past their buffers or never return for fields that are too long, too many or not finite. So each
field is looked at here before they see the file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from SVLDRLCore.errors import InputError

LARGEST_MM = 1e7
"""No voxel is farther than ten kilometres from the origin; above that, single precision loses millimetres."""
SMALLEST_MM = 1e-7
"""A tenth of a nanometre, well below any microscope's voxel."""
LONGEST_FIELD = 512
"""Bytes of a line that ITK has to understand; a matrix of sixteen numbers has four hundred."""
LONGEST_NOTE = 1 << 16
"""Bytes of a line that nobody has to understand, such as a comment."""
_SHOWN = 40
EXPORT = "Copy or export the file again from where it came"


def refused(path: Path, field: str, value: object, why: str) -> InputError:
    """The error that names a header's field and what is wrong with it."""
    text = str(value)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return InputError(str(path), f"its header field {field[:_SHOWN]!r} is {shown!r}, {why}", EXPORT)


def whole_number(path: Path, field: str, text: str, lowest: int, highest: int) -> int:
    """The whole number that a field holds; InputError where it is none, or outside its bounds."""
    if not re.fullmatch(r"[+-]?\d{1,18}", text.strip(), re.ASCII) or not lowest <= int(text) <= highest:
        raise refused(path, field, text, f"not a whole number from {lowest} to {highest}")
    return int(text)


def whole_numbers(path: Path, field: str, text: str, count: int) -> list[int]:
    """The `count` whole numbers that a field holds, InputError for anything else."""
    words = text.split()
    if len(words) != count or not all(re.fullmatch(r"[+-]?\d{1,18}", word, re.ASCII) for word in words):
        raise refused(path, field, text, f"not {count} whole number{'s' * (count > 1)}")
    return [int(word) for word in words]


def real_numbers(
    path: Path, field: str, text: str, count: int, largest: float = LARGEST_MM, nan: bool = False
) -> list[float]:
    """The `count` numbers that a field holds; InputError for others, for infinite ones and for NaN unless allowed."""
    words = text.split()
    try:
        values = [float(word) for word in words] if len(words) == count else None
    except ValueError:
        values = None
    if values is None or "_" in text or not text.isascii():
        raise refused(path, field, text, f"not {count} number{'s' * (count > 1)}")
    if not all(abs(value) <= largest or (nan and math.isnan(value)) for value in values):
        raise refused(path, field, text, f"which is not finite or beyond {largest:g}")
    return values


def as_text(raw: bytes) -> str:
    """UTF-8, or Latin-1 as older programs wrote it."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
