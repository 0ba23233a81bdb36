"""What a refinement may be asked for; without torch, so that one without a model starts fast."""

DEFAULT_TRUST = 0.5
"""How far the user's mask is believed: 1 returns it unchanged, 0 follows the agents' policy."""
LARGEST_OVERLAP = 0.95
"""Of two sliding windows; with more, a volume takes days."""
