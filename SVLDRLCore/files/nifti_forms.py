"""The two places that a NIfTI header gives a volume, its qform and its sform, and what to do where they differ.

Read is what ITK and Slicer read: the sform where its code is 1 or the qform has none, else the qform; voxel sizes come
from pixdim. Other programs always take the sform. A header whose two forms lie apart is therefore told, and both forms
go into NIfTI results, so that these lie on their input whatever reads them.
"""

from __future__ import annotations

import gzip
import itertools
import math
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

APART_VOXELS = 0.05
"""Forms that lie no farther apart are one form, rounded."""
_LPS = np.diag([-1.0, -1.0, 1.0])  # NIfTI's world is RAS
_BETWEEN_FLOATS = 2.0**-22
"""What rounding to single precision may change in a quaternion's squared length."""


@dataclass(frozen=True)
class NiftiForms:
    """The orientation fields of a NIfTI header, as they stand there.

    Attributes:
        pixdim: qfac and the voxel size (x, y, z); q_code, s_code: what each form means, 0 for nothing.
        quaternion: b, c, d; offset: of the qform; rows: the sform, row-major (3, 4).
        unit_mm: length of the header's unit in mm.
    """

    pixdim: tuple[float, ...]
    q_code: int
    s_code: int
    quaternion: tuple[float, ...]
    offset: tuple[float, ...]
    rows: tuple[float, ...]
    unit_mm: float = 1.0

    def affines(self) -> dict[str, np.ndarray]:
        """The forms that count, as (3, 4) matrices from voxel index (i, j, k) to LPS in mm."""
        found = {}
        if self.q_code > 0:
            found["qform"] = self._qform()
        if self.s_code > 0:
            found["sform"] = np.reshape(self.rows, (3, 4))
        return {name: self.unit_mm * _LPS @ matrix for name, matrix in found.items()}

    def _qform(self) -> np.ndarray:
        b, c, d = self.quaternion
        square = 1.0 - (b * b + c * c + d * d)
        a = math.sqrt(square) if square > 1e-7 else 0.0
        if not a:
            b, c, d = (x / math.sqrt(b * b + c * c + d * d) for x in (b, c, d))
        turn = np.array([
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ])  # fmt: skip
        x, y, z = (s if s > 0 else 1.0 for s in self.pixdim[1:4])
        size = np.array([x, y, -z if self.pixdim[0] < 0 else z])
        return np.column_stack([turn * size, self.offset])

    def rounding(self) -> float:
        """How far (radians) single precision may have turned the qform: most where it is half a turn."""
        square = max(0.0, 1.0 - sum(x * x for x in self.quaternion))
        return 2 * (math.sqrt(square + _BETWEEN_FLOATS) - math.sqrt(max(0.0, square - _BETWEEN_FLOATS)))


@dataclass(frozen=True)
class Disagreement:
    """Forms that lie apart: what to tell, and whether they differ in more than their place."""

    text: str
    is_another_grid: bool


def disagreement(
    forms: NiftiForms, axes: np.ndarray, origin: np.ndarray, size_xyz: tuple[int, ...]
) -> Disagreement | None:
    """Where the forms differ from each other, or from what was read; None within rounding.

    Args:
        axes: (3, 3), column a is the step (LPS, mm) along axis a, as read; origin: of voxel (0, 0, 0).
        size_xyz: voxels along (i, j, k).
    """
    found = forms.affines()
    if not found:
        text = "its header gives it no place in the patient (qform and sform code 0), so left and right are a guess"
        return Disagreement(text, False)
    corners = np.array(list(itertools.product(*((0, n - 1) for n in size_xyz))), float)
    apart, far = {}, np.linalg.norm(corners @ axes.T, axis=1)
    for name, matrix in found.items():
        moved = corners @ (matrix[:, :3] - axes).T + matrix[:, 3] - origin
        if name == "qform":  # take off what rounding explains
            length = np.linalg.norm(moved, axis=1, keepdims=True)
            excess = np.maximum(length - forms.rounding() * far[:, None], 0.0)
            moved = moved * np.divide(excess, length, out=np.zeros_like(length), where=length > 0)
        apart[name] = float(np.abs(np.linalg.solve(axes, moved.T)).max())
    if max(apart.values()) <= APART_VOXELS:
        return None
    used, other = min(apart, key=apart.__getitem__), max(apart, key=apart.__getitem__)
    reasons = _other_grid(found[other][:, :3], axes, size_xyz)
    if len(found) == 1:
        return Disagreement(f"its {other} and its pixdim differ: {reasons or 'in direction'}", True)
    text = (
        f"its qform (code {forms.q_code}) and its sform (code {forms.s_code}) differ by up to {apart[other]:.3g} voxels"
    )
    if reasons:
        return Disagreement(f"{text}: {reasons}", True)
    return Disagreement(f"{text}; the {used} is read here, as in Slicer, but other programs may read the other", False)


def _other_grid(form: np.ndarray, axes: np.ndarray, size_xyz: tuple[int, ...]) -> str:
    """In what a form differs from what was read beside its place: voxel size, angles or handedness."""
    long = [axis for axis, n in enumerate(size_xyz) if n > 1]
    lengths, read = (np.linalg.norm(m, axis=0) for m in (form, axes))
    grown = max((abs(lengths[a] / read[a] - 1) * (size_xyz[a] - 1) for a in long), default=0.0)
    unit = form[:, long] / np.maximum(lengths[long], 1e-12)
    if grown > 10 * APART_VOXELS:
        return f"voxel sizes {_by(lengths)} mm and {_by(read)} mm"
    if np.abs(unit.T @ unit - np.eye(len(long))).max(initial=0.0) > 1e-3:
        return "the axes of one are not at right angles"
    if len(long) == 3 and np.linalg.det(form) * np.linalg.det(axes) < 0:
        return "one is the mirror image of the other"
    return ""


def keep_forms(path: Path, forms: NiftiForms) -> None:
    """Put forms into a NIfTI file that was just written (little-endian, mm), instead of its own; in place."""
    compressed = path.name.endswith(".gz")
    opened = gzip.open if compressed else open
    scratch = path.with_name(f"{path.name}.forms")
    try:
        with opened(path, "rb") as old, opened(scratch, "wb") as new:
            head = bytearray(old.read(348))
            order = "<" if struct.unpack_from("<i", head)[0] == 348 else ">"
            struct.pack_into(order + "f", head, 76, forms.pixdim[0])
            struct.pack_into(order + "2h", head, 252, forms.q_code, forms.s_code)
            struct.pack_into(order + "18f", head, 256, *forms.quaternion, *forms.offset, *forms.rows)
            new.write(head)
            shutil.copyfileobj(old, new, 1 << 24)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _by(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)
