"""Slicer without Slicer, for tests: real MRML (slicer-core), real Qt widgets (PySide6), stand-ins for the rest.

`install()` makes `import slicer, qt, ctk, vtk` work as in the application, `session()` is one test with a fresh scene.
Nothing here is installed with the extension. Known differences to the application: no windows (a main window, for
`selectModule`, where a test asks for the Segment Editor), no display of tables and plots, no subject hierarchy plugins,
no translation, enums of Qt are not plain integers, and ctk and qMRML widgets are instances of `qt.QWidget`.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

_folder: tempfile.TemporaryDirectory | None = None


def install() -> None:
    """Put `slicer`, `qt`, `ctk` and `vtk` into `sys.modules` and start the application object, once a process."""
    global _folder
    if _folder is not None:
        return
    _folder = tempfile.TemporaryDirectory(prefix="slicerbench-")
    _importSlicer()
    from . import ctk_, qt_

    sys.modules["qt"] = qt_.build()
    sys.modules["ctk"] = ctk_.build()

    import slicer

    from . import app, mrmlwidgets, parameters, scripted, segmenteditor

    mrmlWidgetClasses = (cls for name, cls in vars(mrmlwidgets).items() if name.startswith("qMRML"))
    vars(slicer).update({cls.__name__: cls for cls in mrmlWidgetClasses})
    slicer.app = app.SlicerApplication(Path(_folder.name))
    scripted.install()
    segmenteditor.install()
    slicer.parameterNodeWrapper = sys.modules["slicer.parameterNodeWrapper"] = parameters.build()
    start()


def start() -> Bench:
    """Begin with a fresh scene, fresh settings and empty records."""
    import slicer

    from . import qt_, scene, scripted, segmenteditor

    folder = Path(tempfile.mkdtemp(dir=_folder.name))
    built = scene.buildScene(folder)
    slicer.mrmlScene = built.mrmlScene
    slicer.modules = built.modules()
    slicer.app.start(built, folder)
    scripted.startPackaging()
    segmenteditor.start()
    for record in (qt_.errors, qt_.answers, qt_.asked, qt_.openedUrls):
        record.clear()
    return Bench(built)


@contextmanager
def session() -> Iterator[Bench]:
    """One test: a fresh start; at the end, exceptions of slots, observers and threads are raised together."""
    from . import qt_

    bench = start()
    hooks = sys.excepthook, threading.excepthook
    sys.excepthook = lambda kind, error, trace: qt_.errors.append(error)
    threading.excepthook = lambda arguments: qt_.errors.append(arguments.exc_value)
    try:
        yield bench
    except BaseException as failure:
        for error in qt_.errors:  # often the reason
            failure.add_note("Earlier, in a slot:\n" + "".join(traceback.format_exception(error)))
        raise
    finally:
        bench.close()
        sys.excepthook, threading.excepthook = hooks
    if qt_.errors:
        raise BaseExceptionGroup("exceptions that PythonQt would only have printed", list(qt_.errors))


class Bench:
    """What a test asks of the bench."""

    def __init__(self, scene: Any):
        from .loader import Loader

        self.scene = scene
        self._loader = Loader()

    def load(self, path: str | Path) -> Any:
        """Load a scripted module file; returns the module (title, categories, helpText, ...)."""
        return self._loader.load(path)

    def show(self, name: str) -> Any:
        """Switch to a loaded module; returns its panel object."""
        return self._loader.show(name)

    def openSegmentEditor(self) -> None:
        """The application's main window with its module Segment Editor, which `selectModule` shows."""
        self._loader.load(Path(__file__).parent / "modules" / "SegmentEditor.py")
        self._loader.openMainWindow()

    def reload(self) -> Any:
        """Press the developer's button Reload of the shown module; returns its new panel object."""
        return self._loader.reload()

    def leave(self) -> None:
        """Switch away from the shown module."""
        self._loader.leave()

    @property
    def errors(self) -> list[BaseException]:
        """Exceptions collected so far; a test that expects some takes them out."""
        from . import qt_

        return qt_.errors

    @property
    def answers(self) -> deque:
        """Answers for the next modal dialogs, in order: a path, a button, a bool."""
        from . import qt_

        return qt_.answers

    @property
    def asked(self) -> list[str]:
        """Texts of the message boxes that would have opened, in order."""
        from . import qt_

        return qt_.asked

    @contextmanager
    def notTesting(self) -> Iterator[None]:
        """As users have it: message boxes of `slicer.util` open, and take the next of `answers`."""
        import slicer

        slicer.app.setTesting(False)
        try:
            yield
        finally:
            slicer.app.setTesting(True)

    @property
    def openedUrls(self) -> list[str]:
        from . import qt_

        return qt_.openedUrls

    def slicePositions(self) -> dict[str, tuple[float, float, float]]:
        """RAS in mm of the middle of each slice view, by the view's name."""
        import slicer

        nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
        return {n.GetLayoutName(): tuple(n.GetSliceToRAS().GetElement(row, 3) for row in range(3)) for n in nodes}

    def waitFor(self, condition: Callable[[], Any], seconds: float = 30.0) -> Any:
        """Let the event loop run until `condition()` is true; returns its value, raises TimeoutError."""
        from PySide6.QtCore import QEventLoop, QTimer

        end = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > end:
                raise TimeoutError(f"not true within {seconds} s: {condition}")
            loop = QEventLoop()
            QTimer.singleShot(20, loop.quit)
            loop.exec()
        return value

    def quit(self) -> None:
        """What the application does on exit: `aboutToQuit()`, then modules are unloaded."""
        import slicer

        slicer.app.aboutToQuit.emit()
        self.close()

    def close(self) -> None:
        """End of the test: panels are cleaned up; no widget and no pending `singleShot` outlives it."""
        import slicer
        from PySide6.QtCore import QEvent, QTimer

        self._loader.unload()
        windows = [widget for widget in slicer.app.topLevelWidgets() if widget.parent() is None]
        for left in (*windows, *slicer.app.findChildren(QTimer)):
            left.deleteLater()
        slicer.app.sendPostedEvents(None, QEvent.DeferredDelete)


def _importSlicer() -> None:
    """Import slicer-core while no test folder called "slicer" is in sight: it imports what lies in such folders."""
    path = list(sys.path)
    sys.path[:] = [p for p in path if not _isBareFolder(Path(p or ".") / "slicer")]
    try:
        importlib.import_module("slicer")
        importlib.import_module("slicer.util")
        importlib.import_module("vtk")
    finally:
        sys.path[:] = path


def _isBareFolder(folder: Path) -> bool:
    return folder.is_dir() and not (folder / "__init__.py").exists()
