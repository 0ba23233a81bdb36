"""What the pages name is in the code: each equation's function, events, the files of a model, compared methods."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from pages import ROOT

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.events import EVENTS
from SVLDRLCore.models.package_files import REQUIRED
from SVLDRLCore.training.registry import METHODS

DOCS = ROOT / "docs"


def rows(page: str, head: str) -> list[list[str]]:
    """The cells below a table's head."""
    lines = (DOCS / page).read_text("utf-8").split(head, 1)[1].splitlines()[2:]
    end = next(i for i, line in enumerate(lines) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[:end]]


def defined_in(room: Path) -> set[str]:
    trees = [ast.parse(path.read_text("utf-8")) for path in room.glob("*.py")]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_equation_is_where_the_map_says() -> None:
    found = rows("paper.md", "| paper | function | room |")
    assert len(found) >= 15
    for _, functions, room in found:
        for name in re.findall(r"`(\w+)`", functions):
            assert name in defined_in(ROOT / "SVLDRLCore" / room.strip("` ")), name


def test_what_the_default_adds_are_settings() -> None:
    told = " ".join(cells[-1] for cells in rows("paper.md", "| question | `extended` | setting |"))
    config = load_config()
    found = re.findall(r"`(\w+)\.(\w+)`", told)
    assert found
    for group, name in found:
        assert hasattr(getattr(config, group), name)


def test_all_events_are_told() -> None:
    assert {cells[0].strip("` ") for cells in rows("reference/events.md", "| event | when |")} == EVENTS


def test_all_files_of_a_model_are_told() -> None:
    told = " ".join(cells[0] for cells in rows("reference/models.md", "| file | content |"))
    assert all(f"`{name}`" in told for name in REQUIRED)


def test_all_methods_are_told() -> None:
    pages = rows("paper.md", "| `--method` | what it lacks"), rows("pixel_drl.md", "| `--method` | what differs |")
    told = {cells[0].strip("` ") for page in pages for cells in page}
    assert told == METHODS.keys() - {"supervised"}
