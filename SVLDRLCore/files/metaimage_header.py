"""The header of a MetaImage file: read and checked field by field, because ITK's reader trusts it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.header_fields import (
    LONGEST_FIELD,
    LONGEST_NOTE,
    as_text,
    real_numbers,
    refused,
    whole_number,
    whole_numbers,
)
from SVLDRLCore.files.voxel_data import (
    HEADER_LIMIT,
    MOST_AXES,
    VoxelData,
    file_beside,
)

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_AXIS_LISTS = ("ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "CenterOfRotation", "SequenceID")
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
_NUMBERS = ("ElementMin", "ElementMax", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")
_WHOLE = ("ID", "ParentID", "CompressionLevel", "HeaderSizePerSlice", "ElementNBits")
_YES_OR_NO = ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData")
_WORDS = ("NDims", "DimSize", "ElementType", "ElementDataFile", "ElementNumberOfChannels", "HeaderSize",
          "CompressedDataSize")  # fmt: skip
_FIELDS = {*_AXIS_LISTS, *_MATRICES, *_NUMBERS, *_WHOLE, *_YES_OR_NO, *_WORDS}
MOST_OFF_UNIT = 1e-3
"""Length of a column of TransformMatrix beside 1 that still counts as rounding."""


def read_metaimage(path: Path) -> VoxelData:
    """The promises of a MetaImage file's header; see `volume_headers.read_header`."""
    fields, notes, offset = _lines(path)
    n = whole_number(path, "NDims", fields["NDims"], 1, MOST_AXES)
    sizes = whole_numbers(path, "DimSize", fields["DimSize"], n)
    if fields["ElementType"] not in _TYPES:
        raise refused(path, "ElementType", fields["ElementType"], "neither integer nor real")
    _check_numbers(path, fields, n)
    channels = whole_number(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1, 1 << 16)
    big = _says_yes(fields, "BinaryDataByteOrderMSB") or _says_yes(fields, "ElementByteOrderMSB")
    compressed = _says_yes(fields, "CompressedData")
    binary = fields.get("BinaryData") is None or _says_yes(fields, "BinaryData")
    file, attached = path, fields["ElementDataFile"] in ("LOCAL", "Local", "local")
    if not attached:
        file, offset = file_beside(path, fields["ElementDataFile"]), 0
    header_size = whole_number(path, "HeaderSize", fields.get("HeaderSize", "0"), -1, 2**62)
    if header_size and (compressed or not binary or (attached and header_size > 0)):
        raise refused(path, "HeaderSize", header_size, "which ITK reads in another way than it is meant here")
    stream = None
    if compressed:
        stream = whole_number(path, "CompressedDataSize", fields.get("CompressedDataSize", "0"), 0, 2**62)
        if not stream and attached:  # ITK takes the header for a part of the stream then
            raise refused(path, "CompressedDataSize", stream, "without which nobody can read the voxels")
    return VoxelData(
        path=file,
        offset=offset + max(header_size, 0),
        encoding="text" if not binary else "zlib" if compressed else "raw",
        skip=-1 if header_size == -1 else 0,
        sizes=(*sizes, channels) if channels > 1 else tuple(sizes),
        dtype=np.dtype((">" if big else "<") + _TYPES[fields["ElementType"]]),
        axes=_axes(path, fields, n),
        compressed_bytes=stream or None,
        notes=notes,
    )


def _lines(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields, all other names with their values, and where the voxels begin."""
    fields: dict[str, str] = {}
    notes: dict[str, str] = {}
    with open(path, "rb") as file:
        for raw in iter(lambda: file.readline(HEADER_LIMIT), b""):
            name, separator, value = as_text(raw).partition("=")
            name, value = name.strip(), value.strip()
            if not separator or file.tell() > HEADER_LIMIT or not raw.endswith(b"\n") or not name.isprintable():
                raise ValueError("a line is not of the form 'name = value'")
            if len(name) > LONGEST_FIELD // 4 or len(raw) > (LONGEST_FIELD if name in _FIELDS else LONGEST_NOTE):
                raise refused(path, name, value, f"which makes a line of {len(raw):,} bytes")
            if "\0" in value:
                raise refused(path, name, value.replace("\0", " "), "which is no text")
            if name in fields or (name in notes and name in _FIELDS):
                raise refused(path, name, value, "but stands there twice")
            (fields if name in _FIELDS else notes)[name] = value
            if name == "ElementDataFile":
                break
        return fields, notes, file.tell()


def _check_numbers(path: Path, fields: Mapping[str, str], n: int) -> None:
    for name in _YES_OR_NO:
        if fields.get(name, "True").lower() not in ("true", "false", "1", "0"):
            raise refused(path, name, fields[name], "neither True nor False")
    for names, count in ((_AXIS_LISTS, n), (_MATRICES, n * n), (_NUMBERS, 1)):
        for name in names:
            if name in fields and name not in ("ElementSpacing", "ElementSize"):
                real_numbers(path, name, fields[name], count)
    for name in _WHOLE:
        if name in fields:
            whole_number(path, name, fields[name], -(2**31), 2**31 - 1)
    for name in _MATRICES:
        if name in fields:
            _require_unit_columns(path, name, np.reshape(real_numbers(path, name, fields[name], n * n), (n, n)))


def _require_unit_columns(path: Path, name: str, matrix: np.ndarray) -> None:
    """InputError where the matrix holds more than directions: the voxel size would count twice, or not at all."""
    lengths = np.linalg.norm(matrix, axis=1)
    if np.abs(lengths - 1).max() > MOST_OFF_UNIT:
        why = (
            f"its {name} scales the axes by {', '.join(f'{x:g}' for x in lengths)}, but it may only turn them; "
            "the voxel size belongs into ElementSpacing"
        )
        do = "Write it again with directions of length 1, for example with SimpleITK's SetDirection and SetSpacing"
        raise InputError(str(path), why, do)


def _axes(path: Path, fields: Mapping[str, str], n: int) -> np.ndarray:
    for name in ("ElementSpacing", "ElementSize"):
        if name in fields:
            spacing = real_numbers(path, name, fields[name], n, nan=True)
            return np.diag(spacing)
    return np.empty((0, 0))


def _says_yes(fields: Mapping[str, str], name: str) -> bool:
    return fields.get(name, "False").lower() in ("true", "1")
