"""What is missing is told at once, with its size; nothing is imported, and a click installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import slicer
from small_models import ROOT
from SVLDRLSegmentationLib.jobs.Dependencies import Dependencies
from SVLDRLSegmentationLib.jobs.JobError import JobError


def installed(folder: Path, name: str, version: str) -> None:
    """What pip leaves of a package."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("raise ImportError('nobody may import this here')")
    (folder / f"{name}-{version}.dist-info").mkdir()
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )


@pytest.fixture
def needs(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Dependencies on packages that nobody has, and a folder to put them into."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# for tests\nsvldrlone>=1.6\nsvldrltwo  # any\n")
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr("SVLDRLSegmentationLib.jobs.Dependencies.TORCH_VERSION", ">=999")
    slicer.packaging.calls.clear()
    return SimpleNamespace(dependencies=Dependencies(requirements), place=place)


def test_missing_old_and_present_packages(needs: Any) -> None:
    assert needs.dependencies.missing() == ["torch", "svldrlone", "svldrltwo"]
    summary = needs.dependencies.summary()
    assert "PyTorch, svldrlone, svldrltwo" in summary
    assert "GB" in summary or "MB" in summary
    question = needs.dependencies.question()
    assert question.startswith("PyTorch, svldrlone, svldrltwo will be downloaded")
    assert ("about 100 MB" if sys.platform == "darwin" else "about 2.5 GB") in question
    installed(needs.place, "svldrlone", "1.5")
    installed(needs.place, "svldrltwo", "0.1")
    assert needs.dependencies.missing() == ["torch", "svldrlone"]


def test_nothing_to_say_when_all_is_there(needs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("SVLDRLSegmentationLib.jobs.Dependencies.TORCH_VERSION", ">=1")
    installed(needs.place, "torch", "2.10")
    installed(needs.place, "svldrlone", "1.6")
    installed(needs.place, "svldrltwo", "0.1")
    assert needs.dependencies.missing() == []
    assert needs.dependencies.summary() == ""
    needs.dependencies.install()
    assert slicer.packaging.calls == []


def test_a_half_installed_package_is_recognised(needs: Any) -> None:
    (needs.place / "svldrlone").mkdir()
    (needs.place / "svldrlone" / "__init__.py").write_text("")
    assert needs.dependencies.broken() == ["svldrlone"]
    assert "only in part" in needs.dependencies.summary()


def test_a_click_installs_torch_by_its_extension_and_then_the_rest(needs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Logic:
        def installTorch(self, askConfirmation: bool = True, torchVersionRequirement: str = "") -> Any:
            calls.append((askConfirmation, torchVersionRequirement, len(slicer.packaging.calls)))
            return object()

    monkeypatch.setitem(sys.modules, "PyTorchUtils", SimpleNamespace(PyTorchUtilsLogic=Logic))
    needs.dependencies.install()
    assert calls == [(False, ">=999", 0)]
    (call,) = slicer.packaging.calls
    assert "torch" in str(call)
    assert "numpy" in str(call)


def test_an_older_pytorch_extension_will_do(needs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Logic:
        def installTorch(self, askConfirmation: bool = True) -> Any:
            calls.append(askConfirmation)
            return object()

    monkeypatch.setitem(sys.modules, "PyTorchUtils", SimpleNamespace(PyTorchUtilsLogic=Logic))
    needs.dependencies.install()
    assert calls == [False]


def test_without_the_pytorch_extension_it_says_what_to_do(needs: Any) -> None:
    with pytest.raises(JobError, match="Extensions Manager"):
        needs.dependencies.install()
    assert slicer.packaging.calls == []


def test_a_failed_installation_is_explained(needs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(needs.place, "torch", "999.1")
    monkeypatch.setattr(slicer.packaging, "failure", OSError("no space left on device"))
    with pytest.raises(JobError, match="no space left") as caught:
        needs.dependencies.install()
    assert "disk" in caught.value.do


def test_a_package_that_does_not_load_is_explained(needs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = needs.place / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise OSError('WinError 126: a DLL is missing')")
    monkeypatch.setenv("PYTHONPATH", str(needs.place))
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # tests of the core have imported it
    with pytest.raises(JobError, match="WinError 126") as caught:
        needs.dependencies.verify()
    assert str(broken) in caught.value.do


def test_the_library_imports_nothing_heavy() -> None:
    """Every file of the Slicer side, in a clean interpreter."""
    code = (
        "import sys, importlib, pathlib; sys.path[:0] = sys.argv[1:3]; import slicerbench; slicerbench.install()\n"
        "before = set(sys.modules)\n"
        "for file in sorted(pathlib.Path(sys.argv[2], 'SVLDRLSegmentationLib').rglob('*.py')):\n"
        "    name = file.relative_to(sys.argv[2]).with_suffix('').as_posix().replace('/', '.')\n"
        "    importlib.import_module(name.removesuffix('.__init__'))\n"
        "from SVLDRLSegmentationLib.jobs.Dependencies import Dependencies; Dependencies().summary()\n"
        "heavy = {'torch', 'monai', 'torchvision', 'pandas', 'matplotlib'} & (set(sys.modules) - before)\n"
        "sys.exit(', '.join(heavy) or 0)\n"
    )
    command = [sys.executable, "-c", code, str(ROOT / "Testing"), str(ROOT / "SVLDRLSegmentation")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_in_developer_mode_the_core_beside_the_module_is_found(tmp_path: Path) -> None:
    """Slicer adds the module's own folder to sys.path and nothing else; no installed core helps out here."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]; import slicerbench; slicerbench.install()\n"
        "sys.path[:] = [p for p in sys.path if p not in ('', sys.argv[1], sys.argv[3])] + [sys.argv[2]]\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "import importlib.util; assert importlib.util.find_spec('SVLDRLCore') is None\n"
        "from SVLDRLSegmentationLib.jobs.Core import coreFolder; print(coreFolder())\n"
        "import SVLDRLCore.events\n"
    )
    command = [sys.executable, "-c", code, str(ROOT / "Testing"), str(ROOT / "SVLDRLSegmentation"), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip().splitlines()[-1]) == ROOT
