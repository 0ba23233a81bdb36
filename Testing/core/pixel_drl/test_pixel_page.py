"""docs/pixel_drl.md tells the forms and the weights that the code has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from SVLDRLCore.networks.backbones import count_parameters
from SVLDRLCore.networks.pixel_actor_critic import PixelActorCritic
from SVLDRLCore.pixel_drl.settings import FORMS, PixelSettings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "pixel_drl.md").read_text("utf-8")


def cells() -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if "|" in line]


def value(cell: str) -> Any:
    text = cell.strip("`")
    return json.loads(text) if re.fullmatch(r"true|false|[\d.]+", text) else text


def test_the_forms_are_those_of_the_code() -> None:
    told = {row[1].strip("`"): row[2:5] for row in cells() if len(row) == 6 and "method_settings." in row[1]}
    for column, form in enumerate(("as_printed", "corrected", "extended")):
        assert {name.removeprefix("method_settings."): value(row[column]) for name, row in told.items()} == FORMS[form]


def test_the_weights_are_those_of_the_network() -> None:
    settings = PixelSettings(**FORMS["as_printed"])
    network = PixelActorCritic(settings, 32, 1, 1)
    parts = {name: count_parameters(child) for name, child in network.named_children()}
    told = {
        row[0]: int(row[2].replace(",", "")) for row in cells() if len(row) == 3 and re.fullmatch(r"[\d,]+", row[2])
    }
    assert told == {
        "encoder": parts["encoder"],
        "self-attention": parts["attention"],
        "policy network": parts["body"] + parts["policy_head"],
        "value network": parts["value_body"] + parts["value_head"],
        "omega": parts["neighbourhood"],
        "all": count_parameters(network),
    }


def test_the_functions_that_it_names_are_there() -> None:
    rows = [row for row in cells() if len(row) == 3 and row[2].strip("`") in ("networks", "pixel_drl")]
    assert len(rows) == 12
    for _, code, room in rows:
        sources = "".join(p.read_text("utf-8") for p in (ROOT / "SVLDRLCore" / room.strip("`")).glob("*.py"))
        for name in re.findall(r"`([\w.]+)`", code):
            assert re.search(rf"(def|class) {name.split('.')[-1]}\b", sources), name
