"""Fixtures of the Slicer-side tests: the bench with a fresh scene, and a small phantom in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "SVLDRLSegmentation")]

import slicerbench  # noqa: E402

slicerbench.install()

from slicerbench import phantom  # noqa: E402


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test with a trained model has had a worker: it trains the model."""
    for item in items:
        if "tinyModel" in getattr(item, "fixturenames", ()):
            item.add_marker("worker")


LIBRARIES = ("SVLDRLSegmentationLib", "SVLDRLCore")


@pytest.fixture(autouse=True)
def sameLibraryAfterwards() -> Iterator[None]:
    """After a Reload, the modules from before: other tests compare with classes that they have imported."""

    def loaded() -> dict[str, Any]:
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in LIBRARIES}

    before = loaded()
    yield
    if any(sys.modules.get(name) is not module for name, module in before.items()):
        for name in loaded():
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture
def bench() -> Iterator[slicerbench.Bench]:
    """A fresh scene, fresh settings and no modules; exceptions of slots and observers fail the test at its end."""
    with slicerbench.session() as session:
        yield session


@pytest.fixture
def phantomVolume(bench: slicerbench.Bench) -> Any:
    """A `vtkMRMLScalarVolumeNode` "Phantom" on an oblique, flipped, anisotropic grid."""
    return phantom.addVolume()


@pytest.fixture
def phantomSegmentation(phantomVolume: Any) -> Any:
    """A `vtkMRMLSegmentationNode` "Rough" with segments "Ball" and "Box" on the grid of `phantomVolume`."""
    return phantom.addSegmentation(phantomVolume)
