"""The Train tab: its panel, its logic for scripts, cases, stages and curves."""
