"""The numbers of label quality stand in one file, each with its unit and reason."""

from __future__ import annotations

import ast
from pathlib import Path

from SVLDRLCore.label_quality import thresholds

FILE = Path(thresholds.__file__)


def test_each_threshold_says_what_it_is() -> None:
    body = ast.parse(FILE.read_text("utf-8")).body
    lacking = [
        ast.unparse(line)
        for line, below in zip(body, [*body[1:], None])
        if isinstance(line, ast.Assign)
        and not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and below.value.value)
    ]
    assert lacking == []


def test_each_threshold_is_used_and_has_no_twin_in_the_room() -> None:
    names = {name for name in vars(thresholds) if name.isupper()}
    assert len(names) > 50
    texts = {path.name: path.read_text("utf-8") for path in FILE.parent.glob("*.py") if path != FILE}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    used = {node.id for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Name)}
    own = {name for name in names if name in {"POLICIES", "UPDATES"}}  # also in a product of the two
    assert names - used - own == set()
    elsewhere = [
        f"{file}: {ast.unparse(node)}"
        for file, tree in trees.items()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and type(node.value.value) is float
    ]
    assert elsewhere == []
