"""CSV cells that a spreadsheet would take for formulas: made plain text for it, and read back as they were."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_ONE = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_NUMBER = re.compile(f"{_ONE}( {_ONE})*", re.ASCII)
"""One, or several with a space between, such as a place: no spreadsheet computes anything of those."""
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_MARK = "'"
"""What spreadsheets understand as "this is text"."""


def as_cell(value: Any) -> Any:
    """The value to write: text that begins like a formula (=, +, -, @, tab, line end) gets an apostrophe in front.

    Numbers stay, those with a sign and places of several included, whether they are numbers or their text.
    `cell_text` takes it back.

    Example:
        >>> as_cell("=1+1"), as_cell("-2.5 8.0 1.2"), as_cell(-2.5), as_cell("liver")
        ("'=1+1", '-2.5 8.0 1.2', -2.5, 'liver')
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return _MARK + value if _FORMULA.match(value.lstrip(_MARK)) else value


def as_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for `csv.DictWriter`; its keys must be those of a header written by `as_cell`."""
    return {as_cell(key): as_cell(value) for key, value in row.items()}


def cell_text(text: str) -> str:
    """What was given to `as_cell`.

    Example:
        >>> cell_text("'=1+1"), cell_text("'liver'")
        ('=1+1', "'liver'")
    """
    return text[1:] if text.startswith(_MARK) and _FORMULA.match(text.lstrip(_MARK)) else text
