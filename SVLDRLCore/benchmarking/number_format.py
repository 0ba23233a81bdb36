"""Numbers as the report writes them."""

from __future__ import annotations

import math

DASH, TIMES = "–", "×"


def counted(n: int, name: str) -> str:
    """ "1 case", "10 cases"."""
    return f"{n} {name}" if n == 1 else f"{n} {name}s"


def percent(ratio: float) -> str:
    """0.5 -> "50%"."""
    return f"{100 * ratio:g}%"


def p_text(p: float) -> str:
    """Three decimals; "<0.001" below them."""
    if not math.isfinite(p):
        return DASH
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def signed(value: float, decimals: int, plus: bool = False) -> str:
    """A number with a true minus sign (and none before zero), or a dash where there is no number."""
    if not math.isfinite(value):
        return DASH
    return f"{round(value, decimals) + 0.0:{'+' if plus else ''}.{decimals}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """ "0.25 s", "12 s", "3.4 min", "2.1 h"."""
    if not math.isfinite(seconds):
        return DASH
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
