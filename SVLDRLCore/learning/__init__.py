"""Stages, trainer and checkpoints."""
