"""SVL-DRL segmentation: refine rough masks, train on imperfect labels, find doubtful annotations."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from SVLDRLSegmentationLib import forgetLibrary
from SVLDRLSegmentationLib.About import acknowledgementText, helpText
from SVLDRLSegmentationLib.audit.AuditPanel import AuditPanel
from SVLDRLSegmentationLib.editor.Registration import registerEffect
from SVLDRLSegmentationLib.refine.RefinePanel import RefinePanel
from SVLDRLSegmentationLib.scene.Parameters import Parameters, moduleParameters
from SVLDRLSegmentationLib.scene.PhantomData import registerSampleData
from SVLDRLSegmentationLib.Scripting import ScriptingLogic
from SVLDRLSegmentationLib.train.TrainPanel import TrainPanel
from SVLDRLSegmentationLib.widgets.DependenciesBar import DependenciesBar
from SVLDRLSegmentationLib.widgets.Panel import Panel
from SVLDRLSegmentationLib.widgets.UserInterface import loadUi


class SVLDRLSegmentation(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent: qt.QWidget) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("SVL-DRL Segmentation")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.contributors = ["SVL-DRL contributors"]
        parent.helpText, parent.acknowledgementText = helpText(), acknowledgementText()
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", registerEffect)


class SVLDRLSegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Three tabs, and above them a line when something has to be installed first."""

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.panels: tuple[Panel, ...] = ()

    def setup(self) -> None:
        """Make the panels, when the module is opened first, and anew on Reload, while it is shown."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = SVLDRLSegmentationLogic()
        widget, self.ui = loadUi("SVLDRLSegmentation")
        self.layout.addWidget(widget)
        self.dependencies = DependenciesBar(self.ui)
        logic, self.refinePanel = self.logic, RefinePanel(self.logic.refineLogic, self.logic.refineListLogic)
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

    def onSceneClose(self, caller: object, event: object) -> None:
        """The parameter node goes with the scene."""
        self.setParameters(None)
        for panel in self.panels:
            panel.sceneClosed()

    def onSceneChanged(self, caller: object, event: object) -> None:
        """All nodes have arrived: the scene's own parameters, unless the module is not shown."""
        if self.parent.isEntered:
            self.setParameters(moduleParameters())

    def setParameters(self, parameters: Parameters | None) -> None:
        """Let the panels show these parameters; None disconnects them."""
        for panel in self.panels:
            panel.setParameters(parameters)

    def goOn(self, panel: Panel, use: Callable[[str], None], path: str) -> None:
        """Another tab goes on with a model or a data list."""
        use(path)
        self.ui.tabs.setCurrentWidget(panel.widget)


class SVLDRLSegmentationLogic(ScriptingLogic):
    """For scripts: `refine`, `refineList`, `train`, `adapt`, `trainBatch`, `audit`. Its base tells more of them."""


class SVLDRLSegmentationTest(ScriptedLoadableModuleTest):
    """Does the module open in this Slicer and say what it lacks? The project's own tests are in Testing."""

    def runTest(self) -> None:
        slicer.mrmlScene.Clear()
        panel = slicer.util.getModuleWidget("SVLDRLSegmentation").refinePanel
        assert panel.ui.applyButton.toolTip
        assert not panel.ui.applyButton.enabled
