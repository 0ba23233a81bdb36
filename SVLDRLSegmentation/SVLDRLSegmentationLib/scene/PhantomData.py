"""A noisy phantom for Sample Data: made by the core in a worker process, nothing is downloaded."""

from __future__ import annotations

import tempfile
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ..jobs.Core import RESOURCES, coreFolder
from ..jobs.Job import Job
from .Parameters import moduleParameters

SAMPLE_NAME = "SVLDRLPhantom"
CASES = 12
NODE_NAMES = ("Phantom", "Phantom rough", "Phantom true")


def registerSampleData() -> None:
    """Offer the phantom in the Sample Data module; to be called when Slicer has started."""
    slicer.modules.sampleDataSources.setdefault(_("SVL-DRL"), []).append(_phantomSource())


def _phantomSource() -> object:
    """A SampleDataSource; its button calls `loadSample`.

    Scripts come by `SampleDataLogic.downloadSample`, which asks for the files' addresses alone: the files are made
    then, in the cache folder, and are found there.
    """
    import SampleData

    class PhantomSource(SampleData.SampleDataSource):
        """Sources are compared by their text, which must not make the phantom."""

        def __str__(self) -> str:
            return SAMPLE_NAME

        @property
        def uris(self) -> list[str]:
            return [path.as_uri() for path in _sampleFiles()]

        @uris.setter
        def uris(self, uris: list[str]) -> None:
            """They are not known before."""

        @property
        def fileNames(self) -> list[str]:
            return [path.relative_to(_cacheFolder()).as_posix() for path in _sampleFiles()]

        @fileNames.setter
        def fileNames(self, fileNames: list[str]) -> None:
            """They are not known before."""

    return PhantomSource(
        sampleName=SAMPLE_NAME,
        uris=[""] * len(NODE_NAMES),
        fileNames=[""] * len(NODE_NAMES),
        nodeNames=list(NODE_NAMES),
        loadFileType=["VolumeFile", "SegmentationFile", "SegmentationFile"],
        thumbnailFileName=str(RESOURCES / "Icons" / f"{SAMPLE_NAME}.png"),
        customDownloader=lambda source: loadSample(),
    )


def _cacheFolder() -> Path:
    return Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory())


def _sampleFiles(folder: Path | None = None) -> tuple[Path, Path, Path]:
    """Image, rough label and true label of the case that is shown; the data set is made when it is not there.

    Raises:
        JobError: it cannot be made.
    """
    datalist = makePhantomData(folder or _cacheFolder() / SAMPLE_NAME)
    coreFolder()
    from SVLDRLCore.files.datalist import load_datalist

    case = load_datalist(datalist).validation[0]
    true = load_datalist(datalist.with_name("datalist_clean.json")).validation[0]
    assert case.label is not None, "a phantom has labels"
    assert true.label is not None, "a phantom has labels"
    return case.images[0], case.label, true.label


def loadSample() -> list[slicer.vtkMRMLNode]:
    """What Sample Data's button does: `loadPhantom`, with failures in a message box."""
    loaded: list[slicer.vtkMRMLNode] = []
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be made."), waitCursor=True):
        loaded = loadPhantom()
    return loaded


def loadPhantom(folder: Path | None = None) -> list[slicer.vtkMRMLNode]:
    """Load a case of the phantom data set, which is made when it is not there, and fill the module's panels.

    Returns:
        The volume, its rough segmentation and its true one.

    Raises:
        JobError: the data set cannot be made.
    """
    place = folder or _cacheFolder() / SAMPLE_NAME
    files = _sampleFiles(place)
    volume = slicer.util.loadVolume(str(files[0]), {"name": NODE_NAMES[0]})
    rough, reference = (_loadSegmentation(file, name, volume) for file, name in zip(files[1:], NODE_NAMES[1:]))
    reference.GetDisplayNode().SetVisibility(False)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    parameters = moduleParameters()
    parameters.inputVolume, parameters.roughSegmentation = volume, rough
    parameters.referenceSegmentation = reference
    parameters.dataPath = str(place / "datalist.json")
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


def _loadSegmentation(path: Path, name: str, volume: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLSegmentationNode:
    node = slicer.util.loadSegmentation(str(path), {"name": name})
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return node
