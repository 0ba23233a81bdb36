"""The Refine tab: its panel, its logic for scripts, and how a result gets into the scene."""
