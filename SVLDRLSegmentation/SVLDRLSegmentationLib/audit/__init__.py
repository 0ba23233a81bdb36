"""The Audit tab: its panel, its logic for scripts, and corrections on disk."""
