"""How the Segment Editor learns of the effect."""

from __future__ import annotations

from ..jobs.Core import RESOURCES

EFFECT = RESOURCES.parent / "SVLDRLSegmentEditorEffects" / "SegmentEditorSVLDRLRefineEffect.py"
"""Slicer names the effect's Python module as its folder: the name must be ours alone."""


def registerEffect() -> None:
    """Once, when the application has started; editors work with clones of what is registered."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource(EFFECT.as_posix())
    effect.self().register()
