"""SVL-DRL segmentation: refine rough masks, train on imperfect labels, find doubtful annotations."""

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from SVLDRLSegmentationLib.About import acknowledgementText, helpText
from SVLDRLSegmentationLib.audit.AuditLogic import AuditLogic
from SVLDRLSegmentationLib.audit.AuditPanel import AuditPanel
from SVLDRLSegmentationLib.refine.RefineLogic import RefineLogic
from SVLDRLSegmentationLib.refine.RefinePanel import RefinePanel
from SVLDRLSegmentationLib.Reload import forgetLibrary
from SVLDRLSegmentationLib.scene.Parameters import moduleParameters
from SVLDRLSegmentationLib.scene.PhantomData import registerSampleData
from SVLDRLSegmentationLib.train.TrainBatchLogic import TrainBatchLogic
from SVLDRLSegmentationLib.train.TrainLogic import TrainLogic
from SVLDRLSegmentationLib.train.TrainPanel import TrainPanel
from SVLDRLSegmentationLib.widgets.DependenciesBar import DependenciesBar
from SVLDRLSegmentationLib.widgets.UserInterface import loadUi


class SVLDRLSegmentation(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("SVL-DRL Segmentation")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.contributors = ["SVL-DRL contributors"]
        parent.helpText, parent.acknowledgementText = helpText(), acknowledgementText()
        slicer.app.connect("startupCompleted()", registerSampleData)


class SVLDRLSegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Three tabs, and above them a line when something has to be installed first."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.panels = ()

    def setup(self) -> None:
        """Make the panels, when the module is opened first, and anew on Reload, while it is shown."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = SVLDRLSegmentationLogic()
        widget, self.ui = loadUi("SVLDRLSegmentation")
        self.layout.addWidget(widget)
        self.dependencies = DependenciesBar(self.ui)
        logic, self.refinePanel = self.logic, RefinePanel(self.logic.refineLogic)
        self.trainPanel, self.auditPanel = TrainPanel(logic.trainLogic), AuditPanel(logic.auditLogic)
        self.panels = (self.refinePanel, self.trainPanel, self.auditPanel)
        for panel, title in zip(self.panels, (_("Refine"), _("Train"), _("Audit")), strict=True):
            self.ui.tabs.addTab(panel.widget, title)
        self.trainPanel.onUseModel = lambda model: self.goOn(self.refinePanel, self.refinePanel.useModel, model)
        self.auditPanel.onTrainAgain = lambda data: self.goOn(self.trainPanel, self.trainPanel.useData, data)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneClose)
        self.addObserver(scene, scene.StartImportEvent, lambda caller, event: self.setParameters(None))
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self.onSceneChanged)
        self.enter()

    def onReload(self) -> None:
        """For developers: the library's files are read anew, too."""
        forgetLibrary()
        ScriptedLoadableModuleWidget.onReload(self)

    def cleanup(self) -> None:
        """The application closes, or another panel takes over."""
        for panel in self.panels:
            panel.cleanup()
        self.removeObservers()

    def enter(self) -> None:
        self.dependencies.refresh()
        self.setParameters(moduleParameters())
        for panel in self.panels:
            panel.enter()

    def exit(self) -> None:
        """Another module is shown; jobs go on."""
        self.setParameters(None)

    def onSceneClose(self, caller: Any, event: str) -> None:
        """The parameter node goes with the scene."""
        self.setParameters(None)
        for panel in self.panels:
            panel.sceneClosed()

    def onSceneChanged(self, caller: Any, event: str) -> None:
        """All nodes have arrived: the scene's own parameters, unless the module is not shown."""
        if self.parent.isEntered:
            self.setParameters(moduleParameters())

    def setParameters(self, parameters: Any) -> None:
        """Let the panels show these parameters; None disconnects them."""
        for panel in self.panels:
            panel.setParameters(parameters)

    def goOn(self, panel: Any, use: Any, path: str) -> None:
        """Another tab goes on with a model or a data list."""
        use(path)
        self.ui.tabs.setCurrentWidget(panel.widget)


class SVLDRLSegmentationLogic(ScriptedLoadableModuleLogic):
    """For scripts: no popups, JobError on failure, options as for the logics' `start`; without waiting, the task."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.refineLogic, self.trainLogic, self.auditLogic = RefineLogic(), TrainLogic(), AuditLogic()

    def refine(self, volumeNode: Any, segmentationNode: Any = None, *, waitForCompletion: bool = True, **options: Any):
        """The refined segmentation node."""
        do = self.refineLogic.refine if waitForCompletion else self.refineLogic.start
        return do(volumeNode, segmentationNode, **options)

    def train(self, cases: Any, outputFolder: Path, preset="", *, waitForCompletion=True, **options: Any):
        """The trained model's folder."""
        do = self.trainLogic.train if waitForCompletion else self.trainLogic.start
        return do(cases, outputFolder, preset, **options)

    def trainBatch(self, jobs: list[dict[str, Any]], csvPath: Path | None = None) -> list[dict[str, Any]]:
        """Results of trainings one after another; each job holds the arguments of `train`."""
        return TrainBatchLogic(self.trainLogic).trainBatch(jobs, csvPath)

    def audit(self, cases: Any, model: Path, outputFolder: Path, *, waitForCompletion: bool = True, **options: Any):
        """Doubtful annotations, worst first."""
        do = self.auditLogic.audit if waitForCompletion else self.auditLogic.start
        return do(cases, model, outputFolder, **options)


class SVLDRLSegmentationTest(ScriptedLoadableModuleTest):
    """Does the module open in this Slicer and say what it lacks? The project's own tests are in Testing."""

    def runTest(self) -> None:
        slicer.mrmlScene.Clear()
        panel = slicer.util.getModuleWidget("SVLDRLSegmentation").refinePanel
        assert panel.ui.applyButton.toolTip
        assert not panel.ui.applyButton.enabled
