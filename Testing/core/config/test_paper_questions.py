"""docs/paper_questions.md: each setting in it has the values told, and none that the variant sets is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from SVLDRLCore.config.settings import VARIANTS, config_to_dict, load_config

PAGE = Path(__file__).parents[3] / "docs" / "paper_questions.md"


def rows() -> list[tuple[str, str, str]]:
    """(setting, value of as_printed, value of corrected) of each row that names a setting."""
    found = []
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and len(cells) >= 5 and re.fullmatch(r"[a-z_]+\.[a-z_]+", cells[1]):
            found.append((cells[1], cells[2], cells[3]))
    return found


def told(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.mark.parametrize(("setting", "printed", "corrected"), rows(), ids=lambda part: str(part))
def test_the_values_are_those_of_the_variants(setting: str, printed: str, corrected: str) -> None:
    section, name = setting.split(".")
    for variant, value in (("as_printed", printed), ("corrected", corrected)):
        assert config_to_dict(load_config("general", variant))[section][name] == told(value), variant


def test_no_setting_of_the_variant_is_missing() -> None:
    named = {setting for setting, _, _ in rows()}
    elsewhere = {"reliability.enabled", "mask_agents.enabled"}  # off in both: not of the paper
    laid = {f"{section}.{name}" for section, table in VARIANTS["as_printed"].items() for name in table}
    assert laid - elsewhere <= named
    assert len(named) > 40
