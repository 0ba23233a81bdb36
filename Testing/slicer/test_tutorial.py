"""The console example of the tutorial runs as it stands, with settings for seconds instead of minutes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import slicer
from panel_tools import MODULE, ROOT

pytestmark = pytest.mark.worker

QUICK = {
    "data": {"spacing_mm": [6.0, 6.0, 6.0], "patch_size": [8, 16, 16]},
    "network": {"levels": 2},
    "mask_agents": {"transition_steps": 2, "full_rl_steps": 2},
    "train": {"steps": 6, "validate_every": 6, "device": "cpu"},
}


def test_the_console_example(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.load(MODULE)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr("SVLDRLSegmentationLib.scene.PhantomData.CASES", 6)
    page = (ROOT / "docs" / "tutorial_slicer.md").read_text("utf-8")
    example = re.search(r"```python slicer\n(.+?)```", page, re.DOTALL)[1]
    quick = re.sub(r'"demo"(?=, \w+=)', '"demo", overrides=QUICK', example)
    quick = quick.replace('"preset": "demo"', '"preset": "demo", "overrides": QUICK')
    quick = quick.replace('"steps": 400', '"steps": 8')
    told: dict[str, Any] = {"QUICK": QUICK}
    exec(compile(quick, "tutorial_slicer.md", "exec"), told)
    assert told["refined"].GetSegmentation().GetNumberOfSegments() == 1
    assert told["refined"] is not told["segmentationNode"]
    assert slicer.mrmlScene.IsNodePresent(told["refined"])
    assert (tmp_path / "SVLDRL example" / "audit" / "audit.csv").is_file()
    assert len(told["doubtful"]) == 7
    assert [result["status"] for result in told["results"]] == ["finished", "finished"]
