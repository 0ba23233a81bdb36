"""The header of a NIfTI-1 file: read and checked field by field, because ITK's reader trusts it."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.header_fields import EXPORT, LARGEST_MM, refused
from SVLDRLCore.files.nifti_forms import NiftiForms
from SVLDRLCore.files.voxel_data import ATTACHED, MOST_AXES, VoxelData

_HEADER = 348  # bytes
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_COLOURS = {128: "RGB", 2304: "RGBA"}
_OTHER_TYPES = {
    1: "single bits", 32: "complex numbers", 1536: "128-bit numbers", 1792: "complex numbers",
    2048: "complex numbers",
}  # fmt: skip
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Unknown, metres, millimetres, micrometres."""
_FARTHEST_VOXELS = 1 << 40
"""Bytes before the first voxel: more than that is no offset."""


def read_nifti(path: Path, compressed: bool) -> VoxelData:
    """The promises of a NIfTI file's header; see `volume_headers.read_header`."""
    head = _head(path, compressed)
    sizes_of_header = {order: struct.unpack_from(order + "i", head)[0] for order in "<>"}
    if 540 in sizes_of_header.values():  # SimpleITK does not read it either
        raise InputError(str(path), "it is a NIfTI-2 file", ATTACHED)
    order = next((order for order, size in sizes_of_header.items() if size == _HEADER), None)
    if order is None:
        raise ValueError("its first number is not 348")
    if head[344:348] not in (b"n+1\0", b"n+2\0", b"n+3\0", b"\0\0\0\0"):  # "ni1": the voxels are in an .img file
        if head[344:346] == b"ni":
            raise InputError(str(path), "its voxels are in another file (.img)", ATTACHED)
        raise ValueError("its magic word is not 'n+1'")
    dim = struct.unpack_from(order + "8h", head, 40)
    if not 1 <= dim[0] <= MOST_AXES:
        raise ValueError(f"{dim[0]} dimensions")
    sizes = tuple(dim[1 : dim[0] + 1])
    dtype = np.dtype(order + _TYPES[_voxel_type(path, struct.unpack_from(order + "h", head, 70)[0])])
    pixdim = struct.unpack_from(order + "8f", head, 76)
    # NIfTI often leaves the spacing of an axis of one voxel at 0, where it means nothing.
    spacing = [s if n > 1 else 1.0 for s, n in zip(pixdim[1:4], sizes)]
    if any(abs(s) > LARGEST_MM for s in pixdim[1:4] if not math.isnan(s)):
        raise refused(path, "pixdim", f"{pixdim[1:4]}", f"which is beyond {LARGEST_MM:g} mm")
    if any(s < 0 for s in spacing):
        raise refused(path, "pixdim", f"{pixdim[1:4]}", "but a voxel size is positive")
    first, slope, intercept = struct.unpack_from(order + "3f", head, 108)
    if not abs(first) < _FARTHEST_VOXELS or first != int(first):
        raise refused(path, "vox_offset", first, "not a number of bytes")
    skip = max(int(first), _HEADER)
    return VoxelData(
        path=path,
        offset=0 if compressed else skip,
        encoding="gzip" if compressed else "raw",
        skip=skip if compressed else 0,
        sizes=sizes,
        dtype=dtype,
        axes=np.diag(spacing),
        scaled=_scaling(path, slope, intercept),
        forms=_forms(path, head, order, pixdim) if head[344:345] == b"n" else None,
    )


def _head(path: Path, compressed: bool) -> bytes:
    with (gzip.open if compressed else open)(path, "rb") as file:
        head = file.read(_HEADER)
    if len(head) < _HEADER:
        raise EOFError(f"it has {len(head)} bytes")
    return head


def _voxel_type(path: Path, code: int) -> int:
    if code in _COLOURS:
        why = f"its voxels are colours ({_COLOURS[code]})"
        raise InputError(str(path), why, "Make grey values of them, in Slicer: Vector to Scalar Volume, then save")
    if code in _OTHER_TYPES:
        do = "Save real or whole numbers, for example the magnitude of complex ones"
        raise InputError(str(path), f"its voxels are {_OTHER_TYPES[code]}", do)
    if code not in _TYPES:
        raise ValueError(f"voxel type {code}, neither integer nor real")
    return code


def _scaling(path: Path, slope: float, intercept: float) -> tuple[float, float]:
    """Slope and intercept; none where the header leaves them out (slope 0 or not a number)."""
    if not slope or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and abs(slope) < 1e30 and abs(intercept) < 1e30):
        raise refused(path, "scl_slope, scl_inter", f"{slope:g}, {intercept:g}", "with which no voxel keeps a value")
    return slope, intercept


def _forms(path: Path, head: bytes, order: str, pixdim: tuple[float, ...]) -> NiftiForms:
    """Both forms of the header; InputError for numbers in one that counts which no place in a patient has."""
    q_code, s_code = struct.unpack_from(order + "2h", head, 252)
    quaternion, offset = struct.unpack_from(order + "3f", head, 256), struct.unpack_from(order + "3f", head, 268)
    rows = struct.unpack_from(order + "12f", head, 280)
    if not math.isfinite(pixdim[0]) or not all(math.isfinite(value) for value in quaternion):
        raise refused(path, "qform", f"{pixdim[:1] + quaternion}", "which is not finite")
    if math.hypot(*quaternion) > 1.01:
        raise refused(path, "qform", f"{quaternion}", "which is no rotation")
    for name, values in (("qform", offset), ("sform", rows)):
        if not all(abs(value) <= LARGEST_MM for value in values):
            raise refused(path, name, f"{values}", f"which is not finite or beyond {LARGEST_MM:g} mm")
    unit = head[123] & 7
    if unit not in _UNITS_MM:
        raise InputError(str(path), f"its header names an unknown unit of length ({unit})", EXPORT)
    return NiftiForms(pixdim[:4], q_code, s_code, quaternion, offset, rows, _UNITS_MM[unit])
