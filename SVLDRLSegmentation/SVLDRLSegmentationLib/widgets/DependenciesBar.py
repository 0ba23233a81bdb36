"""The line above the tabs when something has to be installed first, with the one button that installs it."""

from __future__ import annotations

from typing import Protocol

import slicer
from slicer.i18n import tr as _

from ..jobs.Dependencies import Dependencies
from ..jobs.JobError import JobError
from .UserInterface import Ui


class Packages(Protocol):
    """What the bar needs to know of packages; `jobs.Dependencies` knows it, and a test may give another."""

    def summary(self) -> str: ...

    def question(self) -> str: ...

    def install(self) -> None: ...

    def verify(self) -> object: ...


class DependenciesBar:
    """Works on the upper part of SVLDRLSegmentation.ui; hidden while nothing is missing."""

    def __init__(self, ui: Ui, dependencies: Packages | None = None) -> None:
        self.ui = ui
        self.dependencies: Packages = dependencies or Dependencies()
        ui.installButton.connect("clicked()", self._onInstall)
        self.refresh()

    def refresh(self) -> None:
        """Look again; fast, nothing is imported."""
        self._show(self.dependencies.summary())

    def _show(self, text: str) -> None:
        self.ui.dependenciesLabel.text = text
        self.ui.dependenciesFrame.visible = bool(text)

    def _onInstall(self) -> None:
        title = _("Install Python packages")
        if not slicer.util.confirmOkCancelDisplay(self.dependencies.question(), windowTitle=title):
            return
        self.ui.installButton.enabled = False
        self._show(_("Installing. This takes some minutes."))
        slicer.app.processEvents()
        try:
            self.dependencies.install()
            self._show(_("Trying out what was installed."))
            self.dependencies.verify()
        except JobError as error:
            self._show(_("{what}\nWhy: {why}\nWhat to do: {do}").format(what=error.what, why=error.why, do=error.do))
        else:
            self.refresh()
        finally:
            self.ui.installButton.enabled = True
