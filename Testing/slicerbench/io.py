"""`slicer.app.coreIOManager()`: loads and saves nodes and scenes through the real storage nodes and logics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk

_FILE_TYPES = {
    "SceneFile": (".mrml", ".mrb"),
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr", ".vtm", ".seg.vtm"),
    "VolumeFile": (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".hdr", ".img", ".tif", ".tiff"),
    "TableFile": (".csv", ".tsv", ".schema.csv"),
}


class IOManager:
    """The part of `qSlicerCoreIOManager` that `slicer.util` calls."""

    def fileType(self, fileName: str) -> str:
        matches = [
            (len(ending), kind)
            for kind, endings in _FILE_TYPES.items()
            for ending in endings
            if fileName.lower().endswith(ending)
        ]
        return max(matches)[1] if matches else "NoFile"

    def fileWriterFileType(self, node: Any) -> str:
        return node.GetClassName()

    def loadNodes(self, fileType: str, properties: dict, loaded: Any = None, messages: Any = None) -> bool:
        """Read `properties["fileName"]` as `fileType`; the nodes are appended to the collection `loaded`."""
        path = str(properties["fileName"])
        if fileType == "SceneFile":
            return self._loadScene(path, properties, messages)
        if not Path(path).is_file():
            return _fail(messages, f"File does not exist: {path}")
        reader = getattr(self, f"_load{fileType}", None)
        node = reader(path, properties) if reader else None
        if node is None:
            return _fail(messages, f"Cannot read {path} as {fileType}")
        if properties.get("name") and node.GetName() != properties["name"]:
            node.SetName(slicer.mrmlScene.GetUniqueNameByString(properties["name"]))
        if loaded is not None:
            loaded.AddItem(node)
        return True

    def saveNodes(self, fileType: str, properties: dict, messages: Any = None) -> bool:
        path = str(properties["fileName"])
        if fileType == "SceneFile":
            return self._saveScene(path, messages)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode(path)
        storage = node.GetStorageNode()
        storage.SetFileName(path)
        if "useCompression" in properties:
            storage.SetUseCompression(int(properties["useCompression"]))
        return bool(storage.WriteData(node)) or _fail(messages, f"Cannot write {path}")

    def fileWriterExtensions(self, node: Any) -> list[str]:
        storage = node.CreateDefaultStorageNode()
        formats = storage.GetSupportedWriteFileTypes()
        return [formats.GetValue(i) for i in range(formats.GetNumberOfValues())]

    def extractKnownExtension(self, fileName: str, node: Any) -> str:
        return node.CreateDefaultStorageNode().GetSupportedFileExtension(fileName, False, True)

    def exportNodes(self, nodeIDs: list, fileNames: list, properties: dict, harden: bool, messages: Any = None) -> bool:
        if harden:
            raise NotImplementedError("exporting in world coordinates")
        for nodeID, fileName in zip(nodeIDs, fileNames, strict=True):
            node = slicer.mrmlScene.GetNodeByID(nodeID)
            storage = node.CreateDefaultStorageNode()
            storage.SetScene(slicer.mrmlScene)
            storage.SetFileName(str(fileName))
            if not storage.WriteData(node):
                return _fail(messages, f"Cannot write {fileName}")
        return True

    def _loadScene(self, path: str, properties: dict, messages: Any) -> bool:
        scene = slicer.mrmlScene
        clear = properties.get("clear", False)
        if path.lower().endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear, messages)) or _fail(messages, f"Cannot load {path}")
        scene.SetURL(path)
        return bool(scene.Connect(messages) if clear else scene.Import(messages)) or _fail(
            messages, f"Cannot load {path}"
        )

    def _saveScene(self, path: str, messages: Any) -> bool:
        scene = slicer.mrmlScene
        if path.lower().endswith(".mrb"):
            return bool(scene.WriteToMRB(path, None, messages)) or _fail(messages, f"Cannot save {path}")
        scene.SetURL(path)
        return bool(scene.Commit(path, messages)) or _fail(messages, f"Cannot save {path}")

    def _loadVolumeFile(self, path: str, properties: dict) -> Any:
        name = properties.get("name") or Path(path).name.split(".")[0]
        options = 1 if properties.get("labelmap") else 0
        return slicer.modules.volumes.logic().AddArchetypeVolume(path, name, options)

    def _loadSegmentationFile(self, path: str, properties: dict) -> Any:
        return slicer.modules.segmentations.logic().LoadSegmentationFromFile(
            path, properties.get("autoOpacities", True)
        )

    def _loadTableFile(self, path: str, properties: dict) -> Any:
        return slicer.modules.tables.logic().AddTable(path)


def _fail(messages: Any, text: str) -> bool:
    if messages is not None:
        messages.AddMessage(vtk.vtkCommand.ErrorEvent, text)
    return False
