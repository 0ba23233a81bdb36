"""The grid that a data set is trained on when the preset names none: the median spacing of its images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .datalist import Case
from .prepare import upright_spacing
from .volumes import read_geometry


def median_spacing(cases: Sequence[Case]) -> tuple[float, float, float]:
    """Median spacing (x, y, z) in mm along the LPS axes, from the headers alone."""
    spacings = [upright_spacing(read_geometry(case.images[0])) for case in cases]
    return tuple(float(s) for s in np.median(spacings, axis=0).round(4))
