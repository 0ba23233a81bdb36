"""The house rules of the Slicer side: which room may import which, how much is left untyped, and the way of a click."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest
from panel_tools import ROOT

SIDE = ROOT / "SVLDRLSegmentation"
LIBRARY = SIDE / "SVLDRLSegmentationLib"
BELOW = {
    "jobs": set(),
    "scene": {"jobs"},
    "widgets": {"jobs", "scene"},
    "refine": {"jobs", "scene", "widgets"},
    "editor": {"jobs", "scene", "widgets", "refine"},
    "train": {"jobs", "scene", "widgets"},
    "audit": {"jobs", "scene", "widgets"},
}
"""Room -> rooms that it may import; modules at the top may import all."""
MOST_ANY = 20
MOST_FILES_OF_A_CLICK = 8


def importedRooms(path: Path) -> set[str]:
    """Rooms from which a file of a room imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 2:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("SVLDRLSegmentation"):
            found.add(node.module or "")
    return found


def test_every_room_is_known() -> None:
    assert {path.parent.name for path in LIBRARY.glob("*/*.py")} == set(BELOW)
    assert all((LIBRARY / room / "__init__.py").is_file() for room in BELOW)


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_imports_point_one_way(path: Path) -> None:
    assert importedRooms(path) <= BELOW[path.parent.name]


def test_imports_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("from ..jobs.Job import Job\ndef late():\n    from ..train import X\nfrom .Other import y\n")
    assert importedRooms(file) == {"jobs", "train"}


def countOf(word: str, text: str) -> int:
    """How often a name stands in a source, strings and comments left out."""
    return sum(token.string == word for token in tokenize.generate_tokens(io.StringIO(text).readline))


def test_little_is_left_untyped() -> None:
    counts = {path.name: countOf("Any", path.read_text("utf-8")) for path in SIDE.rglob("*.py")}
    assert sum(counts.values()) < MOST_ANY, {name: count for name, count in counts.items() if count}
    assert countOf("Any", 'from typing import Any\nx: Any = "Any"  # Any\n') == 2


def test_the_way_of_a_click_is_short_and_written_down() -> None:
    text = (SIDE / "README.md").read_text("utf-8")
    way = re.findall(r"^\d+\. `(\S+\.py)`", text, re.MULTILINE)
    assert 0 < len(way) <= MOST_FILES_OF_A_CLICK
    for name in re.findall(r"`((?:jobs|scene|widgets|refine|train|audit)/\w+\.py)`", text):
        assert (LIBRARY / name).is_file(), name
    for path in re.findall(r"`(Testing/\S+)`", text):
        assert (ROOT / path).exists(), path


def test_public_names_of_scripts(bench: object) -> None:
    import SVLDRLSegmentationLib as library

    for name in library.__all__:
        assert callable(getattr(library, name)), name
    with pytest.raises(AttributeError, match="nosuch"):
        library.nosuch  # noqa: B018
