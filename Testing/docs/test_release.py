"""What a release says of itself is the same everywhere, and its files are ones that others can read."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from pages import ROOT

import SVLDRLCore

YAML = sorted([ROOT / "CITATION.cff", *(ROOT / ".github").rglob("*.yml")])


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)[1]
    assert project["version"] == SVLDRLCore.__version__ == citation["version"] == newest


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_github_can_read_it(path: Any) -> None:
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


def test_the_workflows_run_what_make_runs() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]
    assert {"lint", "tests", "docs"} <= jobs.keys()
    assert len(jobs["tests"]["strategy"]["matrix"]["system"]) == 3
