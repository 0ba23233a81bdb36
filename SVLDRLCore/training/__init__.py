"""Composes a run: from a data list to a model package."""
