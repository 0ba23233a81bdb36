"""Doubtful annotations: listed, looked at, corrected beside the original."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from small_models import trainSmallModel
from SVLDRLSegmentationLib.AuditLogic import AuditLogic, readAudit
from SVLDRLSegmentationLib.AuditRow import AuditRow
from SVLDRLSegmentationLib.JobError import JobError

from SVLDRLCore.data.volumes import Geometry, write_label


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small model in a folder with its data."""
    folder = tmp_path_factory.mktemp("audit")
    return trainSmallModel(folder, {"1": "organ"}), folder / "data" / "datalist.json"


@pytest.mark.worker
def test_audit_load_accept(bench: Any, audited: tuple[Path, Path], tmp_path: Path) -> None:
    model, datalist = audited
    shutil.copytree(datalist.parent, tmp_path / "Daten 影像")
    logic, shares = AuditLogic(), []
    task = logic.start(tmp_path / "Daten 影像" / "datalist.json", model, tmp_path / "audit é", device="cpu")
    task.onProgress = lambda share, stage, left: shares.append(share)
    rows = task.wait()
    assert rows
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
    assert shares
    assert readAudit(tmp_path / "audit é") == rows

    original = rows[0].label.read_bytes()
    volume, label, corrected = logic.load(rows[0])
    assert label.GetSegmentation().GetNumberOfSegments() > 0
    assert logic.load(rows[0]) == (volume, label, corrected)
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    center = [red.GetSliceToRAS().GetElement(i, 3) for i in range(3)]
    assert center[2] == pytest.approx(rows[0].centroidRas[2], abs=1e-3)

    plain = logic.accept(rows[0])
    assert plain.parent == rows[0].label.parent
    assert plain.name.removesuffix(".seg.nrrd") == f"{rows[0].label.name.removesuffix('.seg.nrrd')}_corrected"
    assert plain.read_bytes() == rows[0].corrected.read_bytes()
    segmentID = corrected.GetSegmentation().GetNthSegmentID(0)
    everywhere = np.ones_like(slicer.util.arrayFromVolume(volume), np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(everywhere, corrected, segmentID, volume)
    edited = logic.accept(rows[0])
    assert edited != plain
    again = slicer.util.loadSegmentation(str(edited))
    assert slicer.util.arrayFromSegmentBinaryLabelmap(again, segmentID, volume).all()
    assert rows[0].label.read_bytes() == original

    other = next(row for row in rows if row.label != rows[0].label)
    logic.load(other)
    assert corrected.GetScene() is slicer.mrmlScene  # it was edited
    third = next(row for row in rows if row.label not in (rows[0].label, other.label))
    shown = logic.load(other)
    logic.load(third)
    assert all(node.GetScene() is None for node in shown)
    third.corrected.unlink()
    with pytest.raises(JobError, match="no such file"):
        AuditLogic().load(third)


def test_a_copy_that_is_cut_by_a_full_disk_is_no_correction(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.zeros((4, 5, 6), np.uint8)
    label, corrected = (write_label(tmp_path / name, mask, Geometry(mask.shape)) for name in ("a.nrrd", "b.nrrd"))
    row = AuditRow("a", "organ", 1.0, "leak", (0.0, 0.0, 0.0), 1.0, label, label, corrected)
    monkeypatch.setattr(shutil, "copyfile", lambda source, target: target.write_bytes(source.read_bytes()[:-1]))
    with pytest.raises(JobError, match=r"cut off|damaged"):
        AuditLogic().accept(row)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nrrd", "b.nrrd"]
    monkeypatch.undo()
    assert AuditLogic().accept(row).read_bytes() == corrected.read_bytes()


def test_an_audit_that_is_none(bench: Any, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no audit"):
        readAudit(tmp_path)
    with pytest.raises(JobError, match="no model"):
        AuditLogic().start(tmp_path, tmp_path, tmp_path / "out")
