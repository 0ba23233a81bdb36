"""The module as a whole: opens at once, three tabs, no torch in the application, everything has a tooltip."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import qt
import slicer
from panel_tools import MODULE, ROOT, panel  # noqa: F401

SIDE = ROOT / "SVLDRLSegmentation"
LIGHT = {
    "numpy", "packaging", "vtk", "slicer", "qt", "ctk",
    "SVLDRLSegmentationLib", "SVLDRLCore", "SampleData", "PyTorchUtils",
    "SegmentEditorEffects", "qSlicerSegmentationsEditorEffectsPythonQt",
}  # fmt: skip
"""What the Slicer side may import beside the standard library."""
INTERACTIVE = {
    "QPushButton", "QToolButton", "QComboBox", "QLineEdit", "QSpinBox", "QDoubleSpinBox", "QCheckBox", "QListWidget",
    "QTableWidget", "QPlainTextEdit", "QProgressBar", "ctkSliderWidget", "qMRMLNodeComboBox",
}  # fmt: skip
TOOLTIP_BY_STATE = {"applyButton", "startButton"}
"""Their tooltip says what is missing, or what they do; set by the panel."""


def test_it_opens_with_three_tabs(panel: Any) -> None:  # noqa: F811
    tabs = panel.ui.tabs
    assert [tabs.tabText(index) for index in range(tabs.count)] == ["Refine", "Train", "Audit"]
    for name in ("refinePanel", "trainPanel", "auditPanel"):
        ui = getattr(panel, name).ui
        button = getattr(ui, "startButton", None) or ui.applyButton
        assert not button.enabled
        assert button.toolTip


def test_what_it_says_about_itself(bench: Any) -> None:
    module = bench.load(MODULE)
    assert module.categories == ["Segmentation"]
    assert "tutorial" in module.helpText
    assert "No data leaves your computer" in module.helpText
    assert "not a medical device" in module.helpText
    assert "cite" in module.acknowledgementText
    assert "arxiv.org/abs/2601.03875" in module.acknowledgementText
    assert not module.icon.isNull()


def test_its_own_test_runs(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = bench.load(MODULE)
    bench.show("SVLDRLSegmentation")
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda name: module.widget)
    module.code.SVLDRLSegmentationTest().runTest()


def test_the_module_file_is_short() -> None:
    assert len(MODULE.read_text(encoding="utf-8").splitlines()) < 150


def imports(path: Path) -> list[tuple[str, bool]]:
    """Each imported module and whether that happens when the file is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in inner) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((node.module, id(node) not in inner))
    return found


@pytest.mark.parametrize("path", sorted(SIDE.rglob("*.py")), ids=lambda path: path.name)
def test_it_imports_nothing_heavy(path: Path) -> None:
    for name, atFileScope in imports(path):
        top = name.split(".")[0]
        assert top in LIGHT or top in sys.stdlib_module_names, f"{path.name} imports {name}"
        if atFileScope:
            assert top not in {"SampleData", "PyTorchUtils"}, f"{path.name} imports {name} when it is imported"


def test_no_torch_in_the_application() -> None:
    """Opening the module and filling its panels imports neither torch nor MONAI, nor scipy."""
    code = (
        "import sys; sys.path[:0] = ['Testing', 'Testing/slicer', 'SVLDRLSegmentation']\n"
        "import conftest, slicerbench, panel_tools\n"
        "with slicerbench.session() as bench:\n"
        "    bench.load(panel_tools.MODULE)\n"
        "    panel = bench.show('SVLDRLSegmentation')\n"
        "    panel.trainPanel.parameters.dataPath = 'nowhere'\n"
        "    print(sorted({'torch', 'monai', 'scipy', 'jsonargparse'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


@pytest.mark.parametrize("path", sorted(SIDE.rglob("*.ui")), ids=lambda path: path.stem)
def test_everything_to_click_has_a_tooltip(path: Path) -> None:
    for widget in ElementTree.parse(path).getroot().iter("widget"):
        name, properties = widget.get("name"), {p.get("name"): p for p in widget.findall("property")}
        if widget.get("class") in INTERACTIVE and name not in TOOLTIP_BY_STATE:
            assert "toolTip" in properties, f"{path.name}: {name}"
            assert properties["toolTip"].findtext("string"), f"{path.name}: {name}"
        assert "styleSheet" not in properties, f"{path.name}: {name}"


def test_closing_the_scene_empties_the_panels(panel: Any) -> None:  # noqa: F811
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "image")
    panel.refinePanel.parameters.inputVolume = slicer.util.getNode("image")
    panel.refinePanel.parameters.trust = 0.9
    slicer.mrmlScene.Clear()
    assert panel.refinePanel.ui.volumeSelector.currentNode() is None
    assert panel.refinePanel.ui.trustSlider.value == 0.5
    assert panel.refinePanel.parameters.parameterNode.GetScene() is slicer.mrmlScene


def test_closing_the_scene_from_elsewhere_is_harmless(bench: Any, panel: Any) -> None:  # noqa: F811
    bench.leave()
    slicer.mrmlScene.Clear()
    assert panel.refinePanel.parameters is None
    bench.show("SVLDRLSegmentation")
    assert panel.refinePanel.parameters is not None


def test_the_first_volume_is_chosen(bench: Any) -> None:
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "no image, though a scalar volume")
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "image")
    bench.load(MODULE)
    assert bench.show("SVLDRLSegmentation").refinePanel.ui.volumeSelector.currentNode() is volume


def test_a_model_can_be_taken_from_the_train_tab(panel: Any, tmp_path: Path) -> None:  # noqa: F811
    panel.ui.tabs.currentIndex = 1
    panel.trainPanel.onUseModel(str(tmp_path / "model"))
    assert panel.ui.tabs.currentIndex == 0
    assert panel.refinePanel.parameters.model == str(tmp_path / "model")


class FakePackages:
    """Stands for `Dependencies`: two packages are missing until they are installed, or the installation fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.installed, self.trusted = error, False, False

    def summary(self) -> str:
        return "" if self.installed else "Missing: PyTorch, monai (download: about 2.5 GB)."

    def question(self) -> str:
        return "PyTorch, monai will be downloaded (about 2.5 GB). Go on?"

    def install(self) -> None:
        if self.error:
            raise self.error
        self.installed = True

    def verify(self) -> None:
        self.trusted = True


@pytest.mark.worker
def test_nothing_is_said_when_nothing_is_missing(panel: Any) -> None:  # noqa: F811
    assert panel.ui.dependenciesFrame.isHidden()


def test_one_line_and_one_button_when_packages_are_missing(bench: Any, panel: Any) -> None:  # noqa: F811
    from SVLDRLSegmentationLib.widgets.DependenciesBar import DependenciesBar

    packages = FakePackages()
    panel.ui.installButton.disconnect("clicked()")
    bar = DependenciesBar(panel.ui, packages)
    assert not panel.ui.dependenciesFrame.isHidden()
    assert "2.5 GB" in panel.ui.dependenciesLabel.text
    bench.answers.extend([qt.QMessageBox.Cancel, qt.QMessageBox.Ok])
    with bench.notTesting():
        panel.ui.installButton.click()
        assert bench.asked == ["PyTorch, monai will be downloaded (about 2.5 GB). Go on?"]
        assert not packages.installed
        assert panel.ui.installButton.enabled
        assert "2.5 GB" in panel.ui.dependenciesLabel.text
        panel.ui.installButton.click()
    assert packages.installed
    assert packages.trusted
    assert panel.ui.dependenciesFrame.isHidden()
    assert bar.dependencies is packages


def test_a_failed_installation_says_what_why_and_what_to_do(bench: Any, panel: Any) -> None:  # noqa: F811
    from SVLDRLSegmentationLib.jobs.JobError import JobError
    from SVLDRLSegmentationLib.widgets.DependenciesBar import DependenciesBar

    packages = FakePackages(JobError("PyTorch", "the network is gone", "Connect and try again"))
    panel.ui.installButton.disconnect("clicked()")
    bar = DependenciesBar(panel.ui, packages)
    bench.answers.append(qt.QMessageBox.Ok)
    with bench.notTesting():
        panel.ui.installButton.click()
    assert panel.ui.dependenciesLabel.text.split("\n") == [
        "PyTorch", "Why: the network is gone", "What to do: Connect and try again",
    ]  # fmt: skip
    assert panel.ui.installButton.enabled
    assert bar.dependencies is packages
