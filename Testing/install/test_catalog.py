"""The extension's entry in Slicer's catalog, its metadata and its dependencies say the same."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "SVLDRLSegmentation"
BUNDLED = {"numpy", "scipy", "SimpleITK"}
"""What Slicer 5.12 brings along."""

SCHEMA: dict[str, Any] = {  # Slicer's slicer-extension-catalog-entry-schema-v1.0.1.json
    "required": ["$schema", "category", "scm_url"],
    "properties": {
        "$schema": {"type": "string"},
        "category": {"type": "string"},
        "scm_url": {"type": "string"},
        "scm_revision": {"type": "string"},
        "scm_type": {"type": "string", "enum": ["git", "local"]},
        "build_dependencies": {"type": "array", "items": {"type": "string"}},
        "build_subdirectory": {"type": "string"},
        "enabled": {"type": "boolean"},
        "tier": {"type": "integer", "enum": [1, 3, 5]},
    },
}
KINDS = {"string": str, "array": list, "boolean": bool, "integer": int}


def schema_errors(entry: dict[str, Any]) -> list[str]:
    """What the schema (which allows no other properties) has against an entry."""
    errors = [f"{key} is missing" for key in SCHEMA["required"] if key not in entry]
    for key, value in entry.items():
        rule = SCHEMA["properties"].get(key)
        if rule is None:
            errors.append(f"{key} is unknown")
        elif type(value) is not KINDS[rule["type"]]:
            errors.append(f"{key} is no {rule['type']}")
        elif value not in rule.get("enum", [value]):
            errors.append(f"{key} is {value!r}")
        elif isinstance(value, list) and not all(type(v) is KINDS[rule["items"]["type"]] for v in value):
            errors.append(f"{key} holds {value!r}")
    return errors


def metadata() -> dict[str, str]:
    """`set(EXTENSION_X "...")` lines, read as the catalog's scripts do: by regular expression, line by line."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\(EXTENSION_(\w+) "(.*)"\)$', text, re.MULTILINE))


@pytest.fixture
def entry() -> dict[str, Any]:
    return json.loads((ROOT / f"{NAME}.json").read_text(encoding="utf-8"))


def test_the_entry_follows_the_schema(entry: dict[str, Any]) -> None:
    assert schema_errors(entry) == []
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert schema_errors({**entry, "tier": 2, "scm_url": 1, "screenshots": []}) == [
        "scm_url is no string", "tier is 2", "screenshots is unknown",
    ]  # fmt: skip
    assert schema_errors({}) == ["$schema is missing", "category is missing", "scm_url is missing"]


def test_the_entry_is_written_as_the_catalog_wants_it(entry: dict[str, Any]) -> None:
    text = (ROOT / f"{NAME}.json").read_text(encoding="utf-8")
    assert list(entry) == sorted(entry)
    assert text.endswith("}\n")
    assert "\r" not in text
    assert '\n  "build' in text


def test_the_entry_and_cmake_agree(entry: dict[str, Any]) -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert f"project({NAME})" in cmake
    assert metadata()["DEPENDS"].split() == entry["build_dependencies"] == ["PyTorch"]
    assert entry["scm_url"].removesuffix(".git") == metadata()["HOMEPAGE"]
    assert re.search(r"/(Slicer|SlicerExtension-)[\w-]+\.git$", entry["scm_url"])
    about = (ROOT / NAME / f"{NAME}Lib" / "About.py").read_text(encoding="utf-8")
    assert f'HOMEPAGE = "{metadata()["HOMEPAGE"]}"' in about


def test_pictures_of_the_catalog_are_in_the_repository() -> None:
    urls = [metadata()["ICONURL"], *metadata()["SCREENSHOTURLS"].split()]
    assert len(urls) >= 2
    for url in urls:
        path = ROOT / url.split("/main/", 1)[1]
        assert path.read_bytes().startswith(b"\x89PNG"), path


def test_the_icon_has_the_size_that_the_catalog_shows() -> None:
    header = (ROOT / NAME / "Resources/Icons" / f"{NAME}.png").read_bytes()[16:24]
    assert (int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")) == (128, 128)


def test_requirements_are_those_of_the_core() -> None:
    """The same packages as pyproject.toml names, but for what Slicer brings and for torch (PyTorch extension)."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    lines = (ROOT / NAME / "Resources/requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    names = {line: re.split(r"[<>=]", line)[0] for line in [*wanted, *listed]}
    assert listed == {line for line in wanted if names[line] not in BUNDLED | {"torch"}}
    assert {"torch", *BUNDLED} <= {names[line] for line in wanted}
