"""Progress, failure and log of one job, the same in all panels."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib import metadata

import qt
import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.Task import Stopwatch
from .UserInterface import loadUi

LOG_LINES = 5000
PACKAGES = ("svldrl", "torch", "monai", "numpy", "SimpleITK", "scipy", "safetensors", "einops")


class JobBar:
    """A progress bar with stage and time left; warnings; a failure as what, why and what to do; the log in a fold."""

    def __init__(self, place: qt.QWidget, clock: Callable[[], float] = time.monotonic) -> None:
        """`place`: an empty widget with a layout, where the bar goes. `clock`: seconds."""
        self.widget, self.ui = loadUi("JobBar")
        place.layout().addWidget(self.widget)
        self.ui.logText.setMaximumBlockCount(LOG_LINES)
        self.ui.copyLogButton.connect("clicked()", self.copyDiagnostics)
        self._stage, self._instead = "", ""
        self._secondsLeft: float | None = None
        self._time, self._watch = clock, Stopwatch(clock=clock)
        self._clock = qt.QTimer(self.widget)
        self._clock.setInterval(1000)
        self._clock.connect("timeout()", self._showStatus)
        self.clear()

    def clear(self) -> None:
        """As before any job."""
        self._clock.stop()
        self.ui.progressBar.visible = False
        self.ui.statusLabel.visible = False
        self.ui.errorFrame.visible = False
        self.ui.warningFrame.visible = False
        self.ui.warningLabel.text = ""
        self.ui.logButton.visible = False
        self.ui.logText.clear()

    def begin(self, stage: str, seconds: float = 0.0) -> None:
        """A job has started, `seconds` ago."""
        self.clear()
        self._watch, self._instead = Stopwatch(seconds, self._time), ""
        self.ui.progressBar.visible = True
        self.ui.statusLabel.visible = True
        self.ui.logButton.visible = True
        self._clock.start()
        self.progress(-1.0, stage, None)

    def progress(self, fraction: float, stage: str, secondsLeft: float | None) -> None:
        """`fraction` of the job is done; -1 while that is not known."""
        self.ui.progressBar.setRange(0, 0 if fraction < 0 else 1000)
        if fraction >= 0:
            self.ui.progressBar.value = round(1000 * min(fraction, 1.0))
        self._stage, self._secondsLeft = stage, secondsLeft
        self._showStatus()

    def setPaused(self, paused: bool) -> None:
        """The job waits, and its clock stands; or it goes on."""
        (self._watch.pause if paused else self._watch.resume)()
        self._instead = _("Paused") if paused else ""
        self._showStatus()

    def cancelling(self) -> None:
        """The job was asked to stop; from now on this is what it does, until it has ended."""
        self._watch.resume()
        self._instead, self._secondsLeft = _("Cancelling..."), None
        self._showStatus()

    def addWarning(self, text: str) -> None:
        """Something to know before the result is used; it stays when the job is over."""
        told = self.ui.warningLabel.text.split("\n") if self.ui.warningLabel.text else []
        if text not in told:
            self.ui.warningLabel.text = "\n".join([*told, text])
        self.ui.warningFrame.visible = True

    def addLog(self, text: str) -> None:
        """One more line for the log."""
        self.ui.logText.appendPlainText(text)

    def end(self, text: str) -> None:
        """The job is over, as it should be; `text` stays below."""
        self._clock.stop()
        self.ui.progressBar.visible = False
        self.ui.statusLabel.visible = bool(text)
        self.ui.statusLabel.text = text

    def fail(self, error: JobError) -> None:
        """The job did not succeed, or could not be started."""
        self.end("")
        self.ui.errorLabel.text = _("{what}\nWhy: {why}\nWhat to do: {do}").format(
            what=error.what, why=error.why, do=error.do
        )
        self.ui.errorFrame.visible = True
        if error.log and not self.ui.logText.toPlainText():
            self.addLog(error.log)
        self.ui.logButton.visible = bool(self.ui.logText.toPlainText())

    def forgetFailure(self) -> None:
        """What the error speaks of has changed: it goes away, the log stays."""
        self.ui.errorFrame.visible = False

    def copyDiagnostics(self) -> None:
        """Versions, error and log to the clipboard."""
        qt.QApplication.clipboard().setText(self.diagnostics())

    def diagnostics(self) -> str:
        """Versions, error and log as text."""
        versions = [
            f"Slicer {slicer.app.applicationVersion}",
            f"Python {platform.python_version()}",
            platform.platform(),
        ]
        for package in PACKAGES:
            try:
                versions.append(f"{package} {metadata.version(package)}")
            except metadata.PackageNotFoundError:
                versions.append(f"{package} -")
        return "\n".join([*versions, "", self.ui.errorLabel.text, "", self.ui.logText.toPlainText()])

    def _showStatus(self) -> None:
        texts = [self._instead or self._stage, _("{time} elapsed").format(time=durationText(self._watch.seconds))]
        if self._secondsLeft is not None and self._instead != _("Cancelling..."):
            texts.append(_("about {time} left").format(time=durationText(self._secondsLeft)))
        self.ui.statusLabel.text = " \u00b7 ".join(text for text in texts if text)


def durationText(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss.

    Example:
        >>> durationText(75), durationText(3675)
        ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
