"""A noisy phantom for Sample Data: made by the core in a worker process, nothing is downloaded."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .CoreLocation import coreFolder
from .Job import Job
from .Parameters import moduleParameters
from .UserInterface import RESOURCES

SAMPLE_NAME = "SVLDRLPhantom"
CASES = 12


def registerSampleData() -> None:
    """Offer the phantom in the Sample Data module; to be called when Slicer has started."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=_("SVL-DRL"),
        sampleName=SAMPLE_NAME,
        uris=[],
        fileNames=[],
        nodeNames=[],
        thumbnailFileName=str(RESOURCES / "Icons" / f"{SAMPLE_NAME}.png"),
        customDownloader=lambda source: loadSample(),
    )


def loadSample() -> list[Any]:
    """What Sample Data's button does: `loadPhantom`, with failures in a message box."""
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be made."), waitCursor=True):
        return loadPhantom()
    return []


def loadPhantom(folder: Path | None = None) -> list[Any]:
    """Load a case of the phantom data set, which is made when it is not there, and fill the module's panels.

    Returns:
        The volume, its rough segmentation and its true one.

    Raises:
        JobError: the data set cannot be made.
    """
    datalist = makePhantomData(
        folder or Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()) / SAMPLE_NAME
    )
    coreFolder()
    from SVLDRLCore.data.datalist import load_datalist

    case = load_datalist(datalist).validation[0]
    true = load_datalist(datalist.with_name("datalist_clean.json")).validation[0]
    volume = slicer.util.loadVolume(str(case.images[0]), {"name": "Phantom"})
    rough = _loadSegmentation(case.label, "Phantom rough", volume)
    reference = _loadSegmentation(true.label, "Phantom true", volume)
    reference.GetDisplayNode().SetVisibility(False)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    parameters = moduleParameters()
    parameters.inputVolume, parameters.roughSegmentation = volume, rough
    parameters.referenceSegmentation = reference
    parameters.dataPath = str(datalist)
    return [volume, rough, reference]


def makePhantomData(folder: Path) -> Path:
    """The data list of a phantom data set with noisy labels in `folder`, made there when it is not there yet.

    Raises:
        JobError: it cannot be made.
    """
    datalist = folder / "datalist.json"
    if datalist.is_file():
        return datalist
    with tempfile.TemporaryDirectory() as jobFolder:
        job = Job("phantom", {"output": str(folder), "cases": CASES, "seed": 0}, Path(jobFolder))
        job.start()
        end = job.wait()
    if end.status != "finished":
        raise end.error()
    return datalist


def _loadSegmentation(path: Path, name: str, volume: Any) -> Any:
    node = slicer.util.loadSegmentation(str(path), {"name": name})
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return node
