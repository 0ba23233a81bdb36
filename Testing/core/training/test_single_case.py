"""Refining with a model learned from this case alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rough_masks_to_refine import FLIPPED, GRIDS, block, files, refined, with_islands

from SVLDRLCore.errors import Cancelled
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    Volume,
    same_geometry,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.training import single_case as learn_from_case


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn_from_case, "STEPS", 8)


@pytest.mark.usefixtures("short")
def test_it_learns_from_this_case_alone(tmp_path: Path) -> None:
    geometry, seen = Geometry((12, 24, 22), (4.0, 3.0, 3.0), (1.0, 2.0, 3.0), FLIPPED), []
    label = with_islands(geometry)
    segments = (Segment(7, "Mine", (0.1, 0.2, 0.3)), Segment(3, "Other"))
    image, rough = files(tmp_path, geometry, label, segments)
    kept = tmp_path / "kept"
    done, result = refined(
        tmp_path, None, image, rough, structures=["mine"], learn_from_this_case=True, keep_model=kept, trust=0.0,
        listeners=[seen.append],
    )  # fmt: skip
    assert same_geometry(result.geometry, geometry)
    assert result.segments == segments
    np.testing.assert_array_equal(result.array == 3, label == 3)
    assert [row["structure"] for row in done.changes] == ["Mine"]
    assert done.changes[0]["dice"] < 1  # it has an opinion of its own
    events = [e["event"] for e in seen]
    assert (events.count("started"), events.count("finished"), events[-1]) == (1, 1, "finished")
    assert {"warm_up", "predicting"} <= {e["stage"] for e in seen if e["event"] == "progress"}
    assert any(e["seconds_left"] is not None for e in seen if e["event"] == "progress" and e["stage"] == "warm_up")
    _, again = refined(tmp_path, kept, image, rough, trust=0.0, output=tmp_path / "again.seg.nrrd")
    np.testing.assert_array_equal(again.array, result.array)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.seg.nrrd", "image.nrrd", "kept", "refined.seg.nrrd", "rough.seg.nrrd",
    ]  # fmt: skip


@pytest.mark.usefixtures("short")
def test_a_cancel_while_it_learns_leaves_nothing(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    before, control = sorted(tmp_path.iterdir()), JobControl()
    stop = [lambda event: control.cancel("enough") if event.get("stage") == "warm_up" else None]
    with pytest.raises(Cancelled, match="enough"):
        refined(tmp_path, None, image, rough, learn_from_this_case=True, listeners=stop, control=control)
    assert sorted(tmp_path.iterdir()) == before


def test_a_large_image_is_learned_from_on_a_coarser_grid() -> None:
    geometry = Geometry((40, 200, 200), (2.0, 0.5, 0.5))
    array = np.zeros(geometry.size_dhw, np.uint8)
    array[10:30, 20:180, 20:180] = 1  # 80 mm
    grid, size = learn_from_case._grid(Volume(array.astype(np.float32), geometry), Volume(array, geometry))
    assert grid == pytest.approx((79.5 / 64, 79.5 / 64, 2.0), abs=1e-3)
    assert size == (40, 81, 81)
