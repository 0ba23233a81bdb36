"""Sample Data's phantom: made by the core in a worker, and enough to try every panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from panel_tools import MODULE, panel  # noqa: F401
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.scene.PhantomData import CASES, SAMPLE_NAME, loadPhantom, makePhantomData


def source() -> Any:
    (found,) = (s for s in slicer.modules.sampleDataSources["SVL-DRL"] if s.sampleName == SAMPLE_NAME)
    return found


def test_sample_data_offers_it_without_a_download(bench: Any) -> None:
    bench.load(MODULE)
    slicer.app.startupCompleted.emit()
    assert Path(source().thumbnailFileName).is_file()
    assert callable(source().customDownloader)
    assert str(source()) == SAMPLE_NAME  # compared by it, and nothing is made
    assert list(Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()).glob("*Phantom*")) == []


@pytest.mark.worker
def test_scripts_get_the_volume_by_its_name(bench: Any) -> None:
    import SampleData

    bench.load(MODULE)
    volume = SampleData.SampleDataLogic().downloadSample(SAMPLE_NAME)
    assert volume is slicer.util.getNode("Phantom")
    assert np.ptp(slicer.util.arrayFromVolume(volume)) > 50
    segmentations = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert [node.GetName() for node in segmentations] == ["Phantom rough", "Phantom true"]
    again = SampleData.SampleDataLogic().downloadSamples(SAMPLE_NAME)
    assert len(again) == 3


@pytest.mark.worker
def test_it_fills_the_panels_and_is_made_once(bench: Any, panel: Any, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "données 幻影"
    volume, rough, true = loadPhantom(folder)
    masks = [
        slicer.util.arrayFromSegmentBinaryLabelmap(n, n.GetSegmentation().GetNthSegmentID(0), volume) > 0
        for n in (rough, true)
    ]
    dice = 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum())
    assert 0.3 < dice < 0.97
    assert np.ptp(slicer.util.arrayFromVolume(volume)) > 50
    assert panel.refinePanel.ui.volumeSelector.currentNode() is volume
    assert panel.refinePanel.ui.segmentationSelector.currentNode() is rough
    assert panel.refinePanel.ui.referenceSelector.currentNode() is true
    assert not true.GetDisplayNode().GetVisibility()
    assert rough.GetNodeReference(rough.GetReferenceImageGeometryReferenceRole()) is volume
    assert len(panel.trainPanel.cases.table.names) == CASES
    assert panel.auditPanel.ui.dataPathLineEdit.text == str(folder / "datalist.json")

    made = (folder / "datalist.json").stat().st_mtime_ns
    assert makePhantomData(folder) == folder / "datalist.json"
    assert (folder / "datalist.json").stat().st_mtime_ns == made


@pytest.mark.worker
def test_a_folder_in_use_is_told(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "somebody's.txt").write_text("keep me")
    with pytest.raises(JobError, match="in use"):
        makePhantomData(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["somebody's.txt"]
