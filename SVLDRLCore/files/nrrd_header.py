"""The header of an NRRD file: read and checked field by field, because ITK's reader trusts it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from SVLDRLCore.files.header_fields import (
    LARGEST_MM,
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
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPE = {name: code for code, names in _TYPES.items() for name in names.split("|")}
_ENCODINGS = {
    "raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2",
    "txt": "text", "text": "text", "ascii": "text", "hex": "hex",
}  # fmt: skip
_FREE = {"content", "number", "sample units", "units", "labels", "space units", "min", "max", "old min", "old max"}
_FREE |= {"block size"}
"""Fields whose values are not used; only their length is bounded."""
_FIELDS = _FREE | {
    "type", "dimension", "space", "space dimension", "sizes", "spacings", "thicknesses", "axis mins", "axis maxs",
    "centers", "kinds", "endian", "encoding", "space origin", "space directions", "measurement frame", "line skip",
    "byte skip", "data file",
}  # fmt: skip
_SPELLINGS = {
    "centerings": "centers", "axismins": "axis mins", "axismaxs": "axis maxs", "oldmin": "old min",
    "oldmax": "old max", "blocksize": "block size", "sampleunits": "sample units", "lineskip": "line skip",
    "byteskip": "byte skip", "datafile": "data file",
}  # fmt: skip


def read_nrrd(path: Path) -> VoxelData:
    """The promises of an NRRD file's header; see `volume_headers.read_header`."""
    fields, notes, offset = _lines(path)
    n = whole_number(path, "dimension", fields["dimension"], 1, MOST_AXES)
    sizes = whole_numbers(path, "sizes", fields["sizes"], n)
    encoding = _one_of(path, fields, "encoding", _ENCODINGS)
    order = _one_of(path, fields, "endian", {"little": "<", "big": ">"}) if "endian" in fields else "<"
    dtype = np.dtype(order + _one_of(path, fields, "type", _DTYPE))
    lowest = -1 if encoding == "raw" else 0
    skip = whole_number(path, "byte skip", fields.get("byte skip", "0"), lowest, 2**62)
    if whole_number(path, "line skip", fields.get("line skip", "0"), 0, 2**31):
        raise refused(path, "line skip", fields["line skip"], "which is not supported")
    file = path
    if "data file" in fields:
        file, offset = file_beside(path, fields["data file"]), 0
    _check_lists(path, fields, n)
    return VoxelData(
        path=file,
        offset=offset,
        encoding=encoding,
        skip=skip,
        sizes=tuple(sizes),
        dtype=dtype,
        axes=_axes(path, fields, n),
        notes=notes,
    )


def _one_of(path: Path, fields: Mapping[str, str], name: str, known: Mapping[str, str]) -> str:
    if fields[name].lower() not in known:
        raise refused(path, name, fields[name], "which is not known")
    return known[fields[name].lower()]


def _lines(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields, keys with their values, and where the voxels begin."""
    fields: dict[str, str] = {}
    notes: dict[str, str] = {}
    with open(path, "rb") as file:
        if not re.match(rb"NRRD000[1-6]\r?\n", file.readline(64)):
            raise ValueError("it does not start with NRRD0001 to NRRD0006")
        for raw in iter(lambda: file.readline(HEADER_LIMIT), b""):
            line = raw.rstrip(b"\r\n")
            if not line:
                break
            if file.tell() > HEADER_LIMIT or not raw.endswith(b"\n"):
                raise ValueError("it does not end")
            key, is_note, value = line.partition(b":=")
            if line.startswith(b"#"):
                _check_length(path, "#", line, LONGEST_NOTE)
            elif is_note and b": " not in key:
                notes[as_text(key)] = _unescaped(as_text(value))
            else:
                _add_field(path, fields, line)
        return fields, notes, file.tell()


def _add_field(path: Path, fields: dict[str, str], line: bytes) -> None:
    key, separator, value = as_text(line).partition(": ")
    name = _SPELLINGS.get(key.lower(), key.lower())
    if not separator or name not in _FIELDS:
        raise refused(path, key, value, "which is no field of an NRRD file")
    _check_length(path, name, line, LONGEST_NOTE if name == "content" else LONGEST_FIELD)
    if name in fields:
        raise refused(path, name, value, "but stands there twice")
    if "\0" in value:
        raise refused(path, name, value.replace("\0", " "), "which is no text")
    fields[name] = value.strip()


def _check_length(path: Path, field: str, line: bytes, most: int) -> None:
    if len(line) > most:
        raise refused(path, field, as_text(line[:80]), f"which is {len(line):,} bytes long")


def _unescaped(text: str) -> str:
    return re.sub(r"\\([\\n])", lambda match: "\n" if match[1] == "n" else "\\", text)


def _check_lists(path: Path, fields: Mapping[str, str], n: int) -> None:
    """InputError for lists of another length than there are axes, and for numbers that are none."""
    for name in ("thicknesses", "axis mins", "axis maxs", "spacings"):
        if name in fields:
            real_numbers(path, name, fields[name], n, nan=True)
    for name in ("kinds", "centers"):
        if name in fields and len(fields[name].split()) != n:
            raise refused(path, name, fields[name], f"not {n} words")
    world = _vectors(path, "space directions", fields.get("space directions", ""))
    across = {len(vector) for vector in world if vector is not None}
    if "space directions" in fields and (len(world) != n or len(across) != 1):
        raise refused(path, "space directions", fields["space directions"], f"not a vector for each of {n} axes")
    if "space origin" in fields:
        origin = _vectors(path, "space origin", fields["space origin"])
        if len(origin) != 1 or origin[0] is None or not np.isfinite(origin[0]).all():
            raise refused(path, "space origin", fields["space origin"], "not a vector of finite numbers")
        if across and len(origin[0]) not in across:
            raise refused(path, "space origin", fields["space origin"], f"not of {across.pop()} numbers")
    if "measurement frame" in fields:
        frame = _vectors(path, "measurement frame", fields["measurement frame"])
        if any(vector is not None and not np.isfinite(vector).all() for vector in frame):
            raise refused(path, "measurement frame", fields["measurement frame"], "not finite numbers")
    if "space dimension" in fields:
        whole_number(path, "space dimension", fields["space dimension"], 1, MOST_AXES)


def _vectors(path: Path, field: str, text: str) -> list[list[float] | None]:
    """The vectors "(1,0,0) none (0,0,2)" of a field, None for "none"; NaN is left to the check of the axes."""
    words = re.findall(r"\([^()]*\)|[^\s()]+", text)
    found: list[list[float] | None] = []
    for word in words:
        if word == "none":
            found.append(None)
            continue
        inner = word[1:-1] if word.startswith("(") else ""
        found.append(real_numbers(path, field, inner.replace(",", " "), max(1, inner.count(",") + 1), nan=True))
    if "".join(words).replace(" ", "") != re.sub(r"\s", "", text):
        raise refused(path, field, text, "not vectors like (1,0,0)")
    return found


def _axes(path: Path, fields: Mapping[str, str], n: int) -> np.ndarray:
    if "space directions" in fields:
        world = _vectors(path, "space directions", fields["space directions"])
        return np.array([vector for vector in world if vector is not None], float)
    if "spacings" not in fields:
        return np.empty((0, 0))
    spacings = real_numbers(path, "spacings", fields["spacings"], n, LARGEST_MM, nan=True)
    return np.diag([s for s in spacings if s == s])  # NaN: an axis of components
