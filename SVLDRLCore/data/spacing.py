"""The grid that a data set is trained on when the preset names none: the median spacing of its images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .datalist import Case


def median_spacing(cases: Sequence[Case]) -> tuple[float, float, float]:
    """Median spacing (x, y, z) in mm along the LPS axes, from the headers alone."""
    return tuple(float(s) for s in np.median([_spacing_lps(case) for case in cases], axis=0).round(4))


def _spacing_lps(case: Case) -> np.ndarray:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(case.images[0]))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(str(case.images[0]), "its header cannot be read", "Check or replace the file") from error
    spacing = np.ones(3)
    spacing[: min(3, reader.GetDimension())] = reader.GetSpacing()[:3]
    if reader.GetDimension() != 3:
        return spacing
    axes = np.abs(np.array(reader.GetDirection()).reshape(3, 3))
    return spacing[[int(axes[row].argmax()) for row in range(3)]]
