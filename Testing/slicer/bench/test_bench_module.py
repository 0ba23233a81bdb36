"""The bench's scripted modules, parameter nodes, packaging and sample data."""

from __future__ import annotations

import enum
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
import slicerbench
from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper

MODULE = """
import slicer
from slicer.i18n import tr as _, translate
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin

calls = []

class Probe(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Probe")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        slicer.app.connect("startupCompleted()", lambda: calls.append("started"))

class ProbeWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = ProbeLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onClose)
        calls.append("setup")

    def onClose(self, caller, event):
        calls.append("close")

    def enter(self):
        calls.append("enter")

    def exit(self):
        calls.append("exit")

    def cleanup(self):
        self.removeObservers()
        calls.append("cleanup")

class ProbeLogic(ScriptedLoadableModuleLogic):
    pass
"""


class Method(enum.Enum):
    FAST = "quick and rough"
    EXACT = "slow and exact"

    def label(self) -> str:
        return self.value


@parameterNodeWrapper
class Parameters:
    volume: vtkMRMLScalarVolumeNode
    enabled: bool
    overlap: Annotated[float, WithinRange(0.0, 0.9)] = 0.5
    name: str
    folder: Path
    method: Method
    skipped: list[str]
    size: Annotated[int, Default(7)]
    steps: Annotated[int, WithinRange(0, 20)] = 3
    device: Annotated[str, Choice(["auto", "cpu"])]


@pytest.fixture
def parameters(bench):
    import slicer

    return Parameters(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "Parameters"))


@pytest.fixture
def probe(bench, tmp_path):
    path = tmp_path / "Probe.py"
    path.write_text(textwrap.dedent(MODULE), encoding="utf-8")
    return bench.load(path)


def test_defaults(parameters):
    p = parameters
    assert (p.volume, p.enabled, p.overlap, p.name, p.folder) == (None, False, 0.5, "", Path())
    assert (p.method, p.skipped, p.size) == (Method.FAST, [], 7)
    assert (p.steps, p.device) == (3, "auto")


def test_values_live_in_the_scene(parameters, phantomVolume, tmp_path):
    import slicer

    p = parameters
    p.volume, p.enabled, p.overlap, p.name, p.folder = phantomVolume, True, 0.25, "é 软\nline", Path("/é/软")
    p.method, p.skipped, p.steps = Method.EXACT, ["a,b", "软"], 9
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))

    p = Parameters(slicer.util.getNode("Parameters"))
    assert p.volume is slicer.util.getNode("Phantom")
    assert (p.enabled, p.overlap, p.name, p.folder) == (True, 0.25, "é 软\nline", Path("/é/软"))
    assert (p.method, p.skipped, p.steps) == (Method.EXACT, ["a,b", "软"], 9)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("overlap", 0.95, ValueError),
        ("overlap", "0.5", TypeError),
        ("size", 1.5, TypeError),
        ("enabled", 1, TypeError),
        ("name", None, TypeError),
        ("folder", "/data", TypeError),
        ("method", "FAST", TypeError),
        ("skipped", [1], TypeError),
        ("volume", 3, TypeError),
        ("noSuch", 1, AttributeError),
    ],
)
def test_wrong_values_raise(parameters, name, value, error):
    with pytest.raises(error):
        setattr(parameters, name, value)
    with pytest.raises(ValueError, match="one of"):
        parameters.device = "tpu"
    with pytest.raises(TypeError, match="assign a new list"):
        parameters.skipped.append("x")


def test_removed_nodes_are_none(parameters, phantomVolume):
    import slicer

    parameters.volume = phantomVolume
    slicer.mrmlScene.RemoveNode(phantomVolume)
    assert parameters.volume is None


def makeWidgets():
    import ctk
    import qt
    import slicer

    widgets = {
        "volume": slicer.qMRMLNodeComboBox(),
        "enabled": qt.QCheckBox(),
        "overlap": ctk.ctkSliderWidget(),
        "name": qt.QLineEdit(),
        "method": qt.QComboBox(),
        "size": qt.QSpinBox(),
        "steps": qt.QSlider(),
        "device": qt.QComboBox(),
    }
    widgets["volume"].nodeTypes = ["vtkMRMLScalarVolumeNode"]
    widgets["volume"].noneEnabled = True
    widgets["volume"].setMRMLScene(slicer.mrmlScene)
    for name, widget in widgets.items():
        widget.setProperty("SlicerParameterName", name)
    return widgets


def test_parameters_and_widgets_follow_each_other(parameters, phantomVolume):
    p = parameters
    widgets = makeWidgets()
    ui = SimpleNamespace(**widgets)
    p.overlap, p.method = 0.3, Method.EXACT
    tag = p.connectGui(ui)
    assert widgets["overlap"].value == pytest.approx(0.3)
    assert (widgets["overlap"].minimum, widgets["overlap"].maximum) == (0.0, 0.9)
    assert widgets["method"].currentText == "slow and exact"
    assert widgets["steps"].maximum == 20

    widgets["volume"].setCurrentNode(phantomVolume)
    widgets["enabled"].click()
    widgets["overlap"].value = 0.6
    widgets["name"].text = "é 软"
    widgets["method"].currentIndex = 0
    widgets["size"].value = 11
    widgets["device"].currentIndex = 1
    assert p.volume is phantomVolume
    assert (p.enabled, p.overlap, p.name, p.method, p.size) == (True, pytest.approx(0.6), "é 软", Method.FAST, 11)
    assert p.device == "cpu"

    p.volume, p.enabled, p.name, p.steps = None, False, "back", 5
    assert widgets["volume"].currentNode() is None
    assert not widgets["enabled"].checked
    assert (widgets["name"].text, widgets["steps"].value) == ("back", 5)

    p.disconnectGui(tag)
    widgets["name"].text = "no longer"
    p.size = 12
    assert p.name == "back"
    assert widgets["size"].value == 11


def test_widgets_that_cannot_show_a_parameter_raise(parameters):
    import ctk
    import qt

    for name, widget, message in (
        ("enabled", qt.QLineEdit(), "Unable to create GUI connector"),
        ("enabled", qt.QPushButton(), "Unable"),
        ("name", qt.QComboBox(), "Unable"),
        ("size", qt.QSlider(), "needs a range"),
        ("overlap", qt.QSpinBox(), "Unable"),
        ("name", ctk.ctkSliderWidget(), "Unable"),
    ):
        with pytest.raises(RuntimeError, match=message):
            parameters.connectParametersToGui({name: widget})
    with pytest.raises(ValueError, match="noSuch"):
        parameters.connectParametersToGui({"noSuch": qt.QLineEdit()})


def test_module_life(bench, probe):
    import slicer

    calls = sys.modules["Probe"].calls
    assert (probe.title, probe.categories, slicer.modules.probe) == ("Probe", ["Segmentation"], probe)
    widget = bench.show("Probe")
    assert widget is slicer.modules.ProbeWidget
    assert widget is slicer.util.getModuleWidget("Probe")
    assert widget.parent.mrmlScene() is slicer.mrmlScene
    assert Path(widget.resourcePath("UI/Probe.ui")) == Path(probe.path).parent / "Resources/UI/Probe.ui"
    bench.leave()
    bench.show("Probe")
    slicer.mrmlScene.Clear(0)
    assert calls == ["started", "setup", "enter", "exit", "enter", "close"]

    quits = []
    slicer.app.connect("aboutToQuit()", lambda: quits.append(1))
    bench.quit()
    assert quits == [1]
    assert calls[-2:] == ["exit", "cleanup"]


def test_nothing_outlives_a_test():
    import qt
    import slicer

    with slicerbench.session():
        selector = slicer.qMRMLNodeComboBox()
        selector.setMRMLScene(slicer.mrmlScene)
        scene = slicer.mrmlScene
        qt.QTimer.singleShot(0, lambda: 1 / 0)
    with slicerbench.session() as bench:
        assert slicer.mrmlScene is not scene
        assert not slicer.app.topLevelWidgets()
        slicer.app.processEvents()
        assert not scene.HasObserver(scene.NodeAddedEvent)
        assert not bench.errors


def test_parameter_node_of_a_logic(bench, probe):
    import slicer

    logic = sys.modules["Probe"].ProbeLogic()
    node = logic.getParameterNode()
    assert node is logic.getParameterNode()
    assert node.GetAttribute("ModuleName") == "Probe"
    slicer.mrmlScene.Clear(0)
    assert logic.getParameterNode().GetScene() is slicer.mrmlScene


def test_slicer_util_works(bench):
    import slicer

    assert "PATH" in slicer.util.startupEnvironment()
    assert slicer.util.tempDirectory().startswith(slicer.app.temporaryPath)
    assert slicer.util.mainWindow() is None
    slicer.util.delayDisplay("soon", autoCloseMsec=100)
    with slicer.util.WaitCursor(), slicer.util.RenderBlocker():
        pass
    with pytest.raises(KeyError), slicer.util.tryWithErrorDisplay("failed", waitCursor=True):
        raise KeyError
    lines, codes = [], []
    command = [sys.executable, "-c", "print('é 软')"]
    slicer.util.launchConsoleProcess(command, blocking=False, logCallback=lines.append, completedCallback=codes.append)
    bench.waitFor(lambda: codes)
    assert (lines, codes) == (["é 软"], [0])


def test_packaging_records_and_never_installs(bench, tmp_path):
    import slicer

    path = tmp_path / "requirements.txt"
    path.write_text("numpy>=1\nno-such-package-here>=2  # comment\n", encoding="utf-8")
    requirements = slicer.packaging.load_requirements(path)
    assert [slicer.packaging.pip_check(r) for r in requirements] == [True, False]
    slicer.packaging.pip_ensure(requirements, requester="Probe", skip_packages=["torch"])
    slicer.util.pip_install("monai>=1.6")
    assert [(call.name, call.requirements) for call in slicer.packaging.calls] == [
        ("pip_ensure", ["numpy>=1", "no-such-package-here>=2"]),
        ("pip_install", ["monai>=1.6"]),
    ]
    slicer.packaging.failure = RuntimeError("declined")
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure(requirements)
    with pytest.raises(TypeError):
        slicer.packaging.pip_ensure(requirements, no_such_option=True)


def test_sample_data_loads_files_from_the_cache(bench, phantomVolume):
    import SampleData
    import slicer

    logic = SampleData.SampleDataLogic()
    logic.registerCustomSampleDataSource(
        category="Probe", sampleName="Own", uris=[], fileNames=[], customDownloader=lambda source: source.sampleName
    )
    (own,) = slicer.modules.sampleDataSources["Probe"]
    assert own.customDownloader(own) == "Own"
    with pytest.raises(IndexError):  # as in Slicer: only the button of the module knows the downloader
        logic.downloadSample("Own")
    logic.registerCustomSampleDataSource(
        category="Probe", sampleName="File", uris=["https://a/b.nrrd"], fileNames=["b.nrrd"], nodeNames=["B"]
    )
    with pytest.raises(RuntimeError, match="would be downloaded"):
        logic.downloadSample("File")
    cache = slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()
    slicer.util.saveNode(phantomVolume, f"{cache}/b.nrrd")
    assert logic.downloadSample("File") is slicer.util.getNode("B")
    with pytest.raises(ValueError, match="same length"):
        SampleData.SampleDataSource("Odd", uris=["a"], fileNames=[])


def test_outside_of_testing_mode_questions_are_asked(bench):
    import qt
    import slicer

    assert not slicer.util.confirmOkCancelDisplay("Sure?")  # its own answer, True, is none of the buttons
    assert bench.asked == []
    bench.answers.extend([qt.QMessageBox.Cancel, qt.QMessageBox.Ok])
    with bench.notTesting():
        assert not slicer.util.confirmOkCancelDisplay("Really?")
        assert slicer.util.confirmOkCancelDisplay("Really now?")
        with pytest.raises(RuntimeError, match="a modal dialog would open"):
            slicer.util.confirmOkCancelDisplay("And now?")
    assert bench.asked == ["Really?", "Really now?", "And now?"]
    assert slicer.app.testingEnabled()


def test_reload_makes_a_new_panel_from_the_code_as_it_is_now(bench, probe):
    import slicer

    old, first = bench.show("Probe"), sys.modules["Probe"]
    assert old.parent.isEntered
    Path(probe.path).write_text(MODULE + "\nchanged = True\n", encoding="utf-8")
    new = bench.reload()
    assert new is not old
    assert new is slicer.modules.ProbeWidget
    assert new.parent is old.parent
    assert sys.modules["Probe"].changed
    assert first.calls == ["started", "setup", "enter", "cleanup"]
    assert sys.modules["Probe"].calls == ["setup"]  # the module stays entered
    bench.leave()
    assert not new.parent.isEntered
    assert sys.modules["Probe"].calls == ["setup", "exit"]
