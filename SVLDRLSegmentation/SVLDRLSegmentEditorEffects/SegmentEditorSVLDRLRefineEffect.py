"""The effect "SVL-DRL Refine" as the Segment Editor wants it: a class named as its file, and its fixed methods."""

from __future__ import annotations

import qt
import slicer
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _
from SVLDRLSegmentationLib.editor.EffectPanel import EffectPanel
from SVLDRLSegmentationLib.jobs.Core import RESOURCES


class SegmentEditorSVLDRLRefineEffect(AbstractScriptedSegmentEditorEffect):
    """Refines the selected segment; `panel` is there once an editor has asked for the options."""

    def __init__(self, scriptedEffect: slicer.qSlicerSegmentEditorScriptedEffect) -> None:
        scriptedEffect.name = "SVL-DRL Refine"  # not translated: modules find effects by it
        scriptedEffect.title = _("SVL-DRL Refine")
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.panel: EffectPanel | None = None

    def clone(self) -> slicer.qSlicerSegmentEditorScriptedEffect:
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(__file__.replace("\\", "/"))
        return cloned

    def icon(self) -> qt.QIcon:
        return qt.QIcon(str(RESOURCES / "Icons" / "SVLDRLSegmentation.svg"))

    def helpText(self) -> str:
        return _(
            "Refine the selected segment: even out what deviates from your own way of drawing, snap its border onto "
            "the visible edge, or follow a trained model.<br>Preview shows the result as an outline. Apply obeys the "
            "masking settings, and Undo takes it back. The editor stays usable meanwhile."
        )

    def setupOptionsFrame(self) -> None:
        self.panel = EffectPanel(self.scriptedEffect)

    def setMRMLDefaults(self) -> None:
        if self.panel is not None:
            self.panel.setDefaults()

    def updateGUIFromMRML(self) -> None:
        if self.panel is not None:
            self.panel.readNode()

    def updateMRMLFromGUI(self) -> None:
        if self.panel is not None:
            self.panel.writeNode()

    def activate(self) -> None:
        if self.panel is not None:
            self.panel.activate()

    def deactivate(self) -> None:
        """Another effect, or another module: the work is stopped, the preview goes."""
        if self.panel is not None:
            self.panel.deactivate()

    def cleanup(self) -> None:
        if self.panel is not None:
            self.panel.deactivate()
