"""`scripts/grid.py` of a MONAI Bundle: from MONAI's image to what the network sees, and back.

The functions that do it are taken over from `data.resampling` word by word, so that a bundle cannot come to do
something else than the program. What stands below joins them to MONAI, and goes into the bundle, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from SVLDRLCore.data import resampling
from SVLDRLCore.data.resampling import Intensity, PreparedImage, prepare_image, to_native
from SVLDRLCore.files.volumes import Geometry, Volume
from SVLDRLCore.masks.structures import Structures

_HEAD = '''\
"""From MONAI's image to what the network sees, and back; written by svldrl (Apache License 2.0)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage


class InputError(ValueError):
    """What, why, what to do."""


def require_same_geometry(image, other):
    """MONAI has stacked the channels."""
'''
_TAKEN = (
    "prepare_image", "to_native", "_percentiles", "_unit_range", "as_unit", "grey_range", "upright_view",
    "upright_axes", "upright_geometry", "resampled_geometry", "smooth_for_shrinking", "shrinking_sigma",
    "_interpolate", "places_between", "blended",
)  # fmt: skip
_CONSTANTS = ("SAME_SPACING", "KEPT", "PADDED_FACES", "PADDED_GAP", "_MODES")


class Prepared:
    """Dictionary transform: "image", as MONAI has loaded it, as the network sees it; "native" is its own grid."""

    def __init__(self, spacing_xyz: Sequence[float] | None, mode: str, low: float, high: float) -> None:
        self.spacing_xyz = None if spacing_xyz is None else tuple(spacing_xyz)
        self.intensity = Intensity(mode, low, high)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        image = data["image"]
        prepared = self.prepare(image)
        return {**data, "native": image, "image": torch.from_numpy(prepared.array)}

    def prepare(self, image: MetaTensor) -> PreparedImage:
        """MONAI's arrays are (M, X, Y, Z), its world is RAS; here they are (M, D, H, W) and LPS."""
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine, float)
        arrays = np.asarray(image, np.float32).transpose(0, 3, 2, 1)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        direction = tuple((affine[:3, :3] / spacing).ravel().tolist())
        place = tuple(affine[:3, 3].tolist())
        geometry = Geometry(arrays.shape[1:], tuple(spacing[::-1].tolist()), place, direction)
        return prepare_image([Volume(array, geometry) for array in arrays], self.spacing_xyz, self.intensity)


class LabelMap:
    """Dictionary transform: "label", the label map on the image's own grid, of the probabilities in "pred"."""

    def __init__(self, prepared: Prepared, structures: Mapping[str, Any]) -> None:
        names, values = tuple(structures["names"]), tuple(map(tuple, structures["values"]))
        outputs = tuple(structures["output_values"])
        self.prepared, self.structures = prepared, Structures(names, values, bool(structures["nested"]), outputs)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        native = data["native"]
        maps = to_native(np.asarray(data["pred"].cpu()), self.prepared.prepare(native))
        label = self.structures.label_map(maps).transpose(2, 1, 0)[None]
        about = {key: item for key, item in native.meta.items() if key != "affine"}
        return {**data, "label": MetaTensor(label.copy(), affine=native.affine, meta=about)}


def script() -> str:
    """The text of scripts/grid.py, which imports nothing of this package."""
    constants = [f"{name} = {getattr(resampling, name)!r}" for name in _CONSTANTS]
    classes = (Geometry, Volume, Intensity, PreparedImage, Structures)
    functions = [getattr(resampling, name) for name in _TAKEN]
    taken = [inspect.getsource(item).rstrip() for item in (*classes, *functions, Prepared, LabelMap)]
    return "\n\n\n".join([_HEAD.rstrip(), "\n".join(constants), *taken]) + "\n"
