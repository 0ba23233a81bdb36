"""The settings as a person reads them: which are for users, their units and ranges, and what each means.

All of it stands beside the fields in `config.settings`: ranges, units and whether a setting is public in the metadata,
the meaning in the string below the field.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin, get_type_hints

from SVLDRLCore.config.settings import Config


@dataclass(frozen=True)
class Setting:
    """One of them.

    Attributes:
        name: "section.key", as `--set` takes it.
        value: in the config that was asked about.
        unit: empty where it has none.
        range: "0 to 1", or the words to choose from; empty where anything of its kind may stand.
        meaning: what it does, with its source.
        public: one that a user may want.
        control: one that only experiments need.
    """

    name: str
    value: Any
    unit: str
    range: str
    meaning: str
    public: bool
    control: bool


def described(config: Config) -> list[Setting]:
    """All settings of a config, in order."""
    return list(_described(config, ""))


def public_tree(config: Config, tree: dict[str, Any]) -> dict[str, Any]:
    """Of a config's dictionary what is for users, and which preset and variant it is."""
    kept = {key: tree[key] for key in ("preset", "variant")}
    for each in described(config):
        if each.public:
            section, _, key = each.name.partition(".")
            kept.setdefault(section, {})[key] = tree[section][key]
    return kept


def _described(section: Any, prefix: str) -> Iterator[Setting]:
    hints, meanings = get_type_hints(type(section)), _meanings(type(section))
    for each in fields(section):
        value, name, told = getattr(section, each.name), f"{prefix}{each.name}", each.metadata
        if is_dataclass(value):
            yield from _described(value, f"{name}.")
            continue
        kind = hints[each.name]
        bounds = told.get("range")
        allowed = f"{bounds[0]:g} to {bounds[1]:g}" if bounds else ""
        if get_origin(kind) is Literal:
            allowed = ", ".join(map(str, get_args(kind)))
        elif kind is bool:
            allowed = "true, false"
        yield Setting(
            name, value, told.get("unit", ""), allowed, meanings.get(each.name, ""),
            told.get("public", False), told.get("control", False),
        )  # fmt: skip


def _meanings(kind: type) -> dict[str, str]:
    """The string below each field of a dataclass."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    statements = body.body if isinstance(body, ast.ClassDef) else []
    found = {}
    for line, below in pairwise(statements):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[line.target.id] = " ".join(text.value.split())
    return found
