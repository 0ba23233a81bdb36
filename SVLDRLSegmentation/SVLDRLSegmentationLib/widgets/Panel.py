"""What the three tabs have in common: parameters of the scene, a device, a job bar, and one task at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..jobs.JobError import JobError
from ..scene.Parameters import Parameters
from .JobBar import JobBar
from .Selectors import DeviceSelector
from .StageBar import stageText
from .UserInterface import loadUi, setReady


class RunningTask(Protocol):
    """What a tab needs of its task; `jobs.Task` has it all, and a test may give another."""

    cancelling: bool
    onProgress: Callable[[float, str, float | None], None] | None
    onMessage: Callable[[str], None] | None
    onFailed: Callable[[JobError], None] | None
    onCancelled: Callable[[], None] | None

    def cancel(self) -> None: ...

    def detach(self) -> None: ...


class Panel(VTKObservationMixin):
    """A tab. It shows what it is given (`_showReady`), starts a task, and follows it to its end.

    Attributes:
        parameters: of the scene; None while there is none.
        task: the task at work; None otherwise.
    """

    parameters: Parameters | None = None
    task: RunningTask | None = None

    def __init__(self, uiName: str) -> None:
        VTKObservationMixin.__init__(self)
        self.widget, self.ui = loadUi(uiName)
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.deviceSelector = DeviceSelector(self.ui.deviceComboBox)
        self.jobBar = JobBar(self.ui.jobPlace)
        self._guiTag: object = None

    # What a tab adds

    def _prepare(self, parameters: Parameters) -> None:
        """Before the widgets show these parameters."""

    def _onParameters(self, caller: object = None, event: object = None) -> None:
        """They are others, or have changed."""
        self._showReady()

    def _missing(self) -> str:
        """What is missing before a task can start; empty when nothing is."""
        raise NotImplementedError

    def _showReady(self) -> None:
        """Enable what can be done, and let tooltips say what is missing for the rest."""
        raise NotImplementedError

    def sceneClosed(self) -> None:
        """What was shown of the scene is gone."""

    # Parameters

    def setParameters(self, parameters: Parameters | None) -> None:
        """Show and change these parameters from now on; None while there is no scene."""
        self.removeObservers(self._onParameters)
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
        self.parameters = parameters
        if parameters is not None:
            self._prepare(parameters)
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self._onParameters()

    @property
    def given(self) -> Parameters:
        """The parameters, for what is done only while there are some."""
        assert self.parameters is not None
        return self.parameters

    def enter(self) -> None:
        """The module is shown: another tab may have chosen another device."""
        self.deviceSelector.refresh()

    def cleanup(self) -> None:
        """The module goes away, and the task with it."""
        if self.task is not None:
            task = self.task
            self._release()
            task.cancel()
        self.setParameters(None)
        self.removeObservers()

    # The task

    def _follow(self, task: RunningTask) -> None:
        """Show this task from now on."""
        self.task = task
        task.onProgress, task.onMessage = self._onProgress, self.jobBar.addLog
        task.onFailed, task.onCancelled = self._onFailed, self._onCancelled

    def _release(self) -> None:
        """Follow the task no longer; it goes on, unless it has ended."""
        if self.task is not None:
            self.task.detach()
            self.task = None

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
        self.jobBar.cancelling()
        self._showReady()

    def _onProgress(self, fraction: float, stage: str, secondsLeft: float | None) -> None:
        self.jobBar.progress(fraction, stageText(stage), secondsLeft)

    def _onFailed(self, error: JobError) -> None:
        self._release()
        self.jobBar.fail(error)
        self._showReady()

    def _onCancelled(self) -> None:
        self._release()
        self.jobBar.end(_("Cancelled."))
        self._showReady()

    def _showApply(self, text: str, toolTip: str, cancelToolTip: str) -> None:
        """The button that starts the task, and cancels it while it is at work."""
        if self.task is None:
            self.ui.applyButton.text = text
            setReady(self.ui.applyButton, self._missing(), toolTip)
            return
        stopping = _("It stops after the present step.") if self.task.cancelling else ""
        self.ui.applyButton.text = _("Cancelling...") if stopping else _("Cancel")
        setReady(self.ui.applyButton, stopping, cancelToolTip)
