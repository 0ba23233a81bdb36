"""Python modules of Slicer that are not in slicer-core: bases of scripted modules, i18n, packaging, SampleData."""

from __future__ import annotations

import sys
import types
import unittest
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
import vtk
from PySide6 import QtGui, QtWidgets

from .mrmlwidgets import qMRMLWidget


class ScriptedLoadableModule:
    """Base of a module's description; `parent` is the `loader.ScriptedModule`."""

    def __init__(self, parent: Any):
        self.parent = parent
        self.moduleName = type(self).__name__
        for extension in ("svg", "png"):
            icon = Path(parent.path).parent / "Resources" / "Icons" / f"{self.moduleName}.{extension}"
            if icon.is_file():
                parent.icon = QtGui.QIcon(str(icon))

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return f'<p>For more information see the <a href="{docPage or self.moduleName}">online documentation</a>.</p>'


class ScriptedLoadableModuleWidget:
    """Base of a module's panel; without a parent it makes its own `qMRMLWidget`."""

    def __init__(self, parent: Any = None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        if parent is None:
            parent = qMRMLWidget()
            parent.setLayout(QtWidgets.QVBoxLayout())
            parent.setMRMLScene(slicer.mrmlScene)
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, filename: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """Make the widgets; the base offers the developer's section, which the bench leaves out."""

    def onReload(self) -> None:
        """The developer's button Reload."""
        slicer.util.reloadScriptedModule(self.moduleName)

    def cleanup(self) -> None:
        """The panel goes away."""

    def enter(self) -> None:
        """The module is shown."""

    def exit(self) -> None:
        """Another module is shown."""


class ScriptedLoadableModuleLogic:
    """Base of a module's logic: finds or makes its parameter node."""

    def __init__(self, parent: Any = None):
        self.parent = parent
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                return node
        else:
            existing = self.getAllParameterNodes()
            if existing:
                return existing[0]
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[Any]:
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> Any:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetModuleName(self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's self test."""

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        slicer.util.delayDisplay(message, 0)

    def runTest(self, **kwargs: Any) -> None:
        raise NotImplementedError


class Packaging:
    """`slicer.packaging`: records what would be installed, in `calls`; never the network.

    `failure`, when set, is raised by the next installation.
    """

    def __init__(self) -> None:
        self.calls: list[SimpleNamespace] = []
        self.failure: Exception | None = None

    def load_requirements(self, path: str | Path) -> list[Any]:
        from packaging.requirements import Requirement

        lines = (line.split("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
        return [Requirement(line) for line in lines if line]

    def pip_check(self, requirements: Any) -> bool:
        requirements = requirements if isinstance(requirements, list) else [requirements]
        return all(_isInstalled(requirement) for requirement in requirements)

    def pip_ensure(
        self,
        requirements: list,
        constraints: str | Path | None = None,
        skip_packages: list[str] | None = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> None:
        options = {"constraints": constraints, "skip_packages": skip_packages, "requester": requester}
        self._record("pip_ensure", requirements, **options)

    def pip_install(
        self,
        requirements: str | list[str],
        constraints: str | Path | None = None,
        no_deps_requirements: str | list[str] | None = None,
        skip_packages: list[str] | None = None,
        blocking: bool = True,
        show_progress: bool = True,
        requester: str | None = None,
        parent: Any = None,
        logCallback: Callable[[str], None] | None = None,
        completedCallback: Callable[[int], None] | None = None,
    ) -> None:
        options = {"constraints": constraints, "skip_packages": skip_packages, "requester": requester}
        self._record("pip_install", requirements, **options)
        if completedCallback:
            completedCallback(0)

    def pip_uninstall(self, requirements: str | list[str]) -> None:
        self._record("pip_uninstall", requirements)

    def isPipInstallInProgress(self) -> bool:
        return False

    def _record(self, name: str, requirements: Any, **options: Any) -> None:
        listed = [requirements] if isinstance(requirements, str) else [str(r) for r in requirements]
        self.calls.append(SimpleNamespace(name=name, requirements=listed, **options))
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure


def _isInstalled(requirement: Any) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


class SampleDataSource:
    """Files of a sample; lists of one length. `customDownloader` is what the button of the Sample Data module calls."""

    def __init__(
        self,
        sampleName: str | None = None,
        sampleDescription: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Callable | None = None,
        thumbnailFileName: str | None = None,
        loadFileType: Any = None,
        loadFileProperties: dict | None = None,
    ) -> None:
        kinds = [loadFileType] * len(uris) if loadFileType is None or isinstance(loadFileType, str) else loadFileType
        lists = {"nodeNames": nodeNames, "checksums": checksums, "loadFiles": loadFiles}
        lists = {name: [None] * len(uris) if given is None else given for name, given in lists.items()}
        lists |= {"uris": uris, "fileNames": fileNames, "loadFileType": kinds}
        if len({len(given) for given in lists.values()}) > 1:
            raise ValueError("All fields of sample data source must have the same length")
        for name, given in lists.items():
            setattr(self, name, given)
        self.sampleName, self.sampleDescription = sampleName, sampleDescription or sampleName
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}


class SampleDataLogic:
    """Records sources. Nothing is downloaded: files must be in the scene's cache folder already."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom", loadFileType: Any = "VolumeFile", **source: Any
    ) -> None:
        made = SampleDataSource(loadFileType=loadFileType, **source)
        slicer.modules.sampleDataSources.setdefault(category, []).append(made)

    def downloadFromSource(self, source: Any) -> list[Any]:
        """The nodes of all files; a source's `customDownloader` has no part in it."""
        cache = slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()
        loaded = []
        files = zip(source.uris, source.fileNames, source.nodeNames, source.loadFileType)
        for uri, fileName, nodeName, kind in files:
            if not Path(cache, fileName).is_file():
                raise RuntimeError(f"{uri} would be downloaded")
            nodes = vtk.vtkCollection()
            properties = {**source.loadFileProperties, "fileName": f"{cache}/{fileName}", "name": nodeName}
            slicer.app.coreIOManager().loadNodes(kind, properties, nodes)
            loaded.append(nodes.GetItemAsObject(0))
        return loaded

    def downloadSamples(self, sampleName: str) -> list[Any]:
        sources = (source for group in slicer.modules.sampleDataSources.values() for source in group)
        found = next((source for source in sources if source.sampleName == sampleName), None)
        return [] if found is None else self.downloadFromSource(found)

    def downloadSample(self, sampleName: str) -> Any:
        return self.downloadSamples(sampleName)[0]


def _module(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    return module


def install() -> None:
    """Put the modules into `sys.modules` and below `slicer`."""
    bases = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    slicer.ScriptedLoadableModule = _module(
        "slicer.ScriptedLoadableModule",
        **{base.__name__: base for base in bases},
        __all__=[base.__name__ for base in bases],
    )
    slicer.i18n = _module(
        "slicer.i18n",
        tr=lambda text: text,
        translate=lambda context, text: text,
        getContext=lambda sourceFile: Path(sourceFile).stem,
    )
    _module("SampleData", SampleDataLogic=SampleDataLogic, SampleDataSource=SampleDataSource)
    startPackaging()


def startPackaging() -> None:
    """An empty record of installations."""
    slicer.packaging = Packaging()
    sys.modules["slicer.packaging"] = slicer.packaging
