"""What the panels remember in the scene; choices of the machine (device, models folder) are in the settings."""

import enum
from typing import TYPE_CHECKING, Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScriptedModuleNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic


class OutputChoice(enum.Enum):
    """Where a refined segmentation goes."""

    NEW = "new"
    OVERWRITE = "overwrite"

    def label(self) -> str:
        """The text in the panel."""
        texts = {
            OutputChoice.NEW: _("New segmentation"),
            OutputChoice.OVERWRITE: _("Overwrite the rough one (can be undone)"),
        }
        return texts[self]


class CaseSource(enum.Enum):
    """Where the cases of a training come from."""

    FILES = "files"
    SCENE = "scene"

    def label(self) -> str:
        """The text in the panel."""
        return {CaseSource.FILES: _("Folder or data list"), CaseSource.SCENE: _("This scene")}[self]


@parameterNodeWrapper
class Parameters:
    """One node for the three panels: Refine and Audit share the model, Train and Audit the data set.

    `skippedSegments` holds segment IDs without a tick, so that new segments are ticked. `segmentStructures` is JSON:
    {segmentation's ID: {segment ID: what the model calls it, or "" to leave it alone}}. `verifiedCases` holds
    names of cases. `overlap` is a share of the window; 0 policy steps are those of the training; 0 training
    steps are the preset's; an empty method is the usual one;
    `keepSegment`, `neverSegment` and `onlySegment` are segment IDs, "" for none;
    `beginWith` is the path of a model that goes on learning. `batchData` and `batchFolder` are cases on disk to
    refine, and where their results go. `auditFolder` holds the audit that is listed; with `crossCheck` an audit needs
    no model. The scene's own cases are node references of the same node (see SceneCases).
    """

    inputVolume: vtkMRMLScalarVolumeNode
    roughSegmentation: vtkMRMLSegmentationNode
    referenceSegmentation: vtkMRMLSegmentationNode
    skippedSegments: list[str]
    segmentStructures: str
    model: str
    trust: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    output: OutputChoice = OutputChoice.NEW
    overlap: Annotated[float, WithinRange(0.0, 0.9)] = 0.5
    marginMm: Annotated[float, WithinRange(0.0, 500.0)] = 20.0
    policySteps: Annotated[int, WithinRange(0, 20)] = 0
    smallestIslandMl: Annotated[float, WithinRange(0.0, 1000.0)] = 0.0
    keepLargest: bool = False
    showSteps: bool = False
    batchData: str
    batchFolder: str
    keepSegment: str
    neverSegment: str
    onlySegment: str
    rightSlices: str
    confidence: bool = False

    source: CaseSource = CaseSource.FILES
    dataPath: str
    verifiedCases: list[str]
    skipBadCases: bool = False
    method: str
    preset: str = "general"
    beginWith: str
    structures: str
    modelName: str
    warmUpSteps: Annotated[int, WithinRange(0, 1000000)] = 0
    transitionSteps: Annotated[int, WithinRange(0, 1000000)] = 0
    fullRlSteps: Annotated[int, WithinRange(0, 1000000)] = 0

    adaptSource: str
    adaptTarget: str
    adaptFolder: str
    adaptMethod: str
    adaptPreset: str = "general"
    adaptSteps: Annotated[int, WithinRange(0, 1000000)] = 0

    outputFolder: str
    auditFolder: str
    crossCheck: bool = False

    if TYPE_CHECKING:  # what the wrapper adds
        parameterNode: vtkMRMLScriptedModuleNode

        def __init__(self, parameterNode: vtkMRMLScriptedModuleNode) -> None: ...

        def connectGui(self, gui: object) -> object: ...

        def disconnectGui(self, tag: object) -> None: ...


def moduleParameters() -> Parameters:
    """The parameters in the scene; their node is made when there is none."""
    logic = ScriptedLoadableModuleLogic()
    logic.moduleName = "SVLDRLSegmentation"
    return Parameters(logic.getParameterNode())
