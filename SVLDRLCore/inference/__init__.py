"""Sliding-window prediction and refinement of rough masks."""
