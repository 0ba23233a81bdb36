"""docs/reliability.md names a test for each fault; each of them is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTING = Path(__file__).parents[1]
PAGE = TESTING.parent / "docs" / "reliability.md"


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def rows() -> list[str]:
    lines = PAGE.read_text("utf-8").splitlines()
    return [line for line in lines if line.startswith("|") and not re.match(r"\| (fault|---)", line)]


def test_every_row_names_tests_that_are_there() -> None:
    assert len(rows()) > 100
    wrong = []
    for row in rows():
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", row.rsplit("|", 2)[1])
        if not named:
            wrong.append(f"no test: {row}")
        for file, test in named:
            path = TESTING / file
            if not path.is_file() or (test and test not in names_in(path)):
                wrong.append(f"{file}::{test}")
    assert not wrong
