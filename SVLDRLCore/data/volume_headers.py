"""What the headers of NRRD, MetaImage and NIfTI files promise, read without touching a voxel."""

from __future__ import annotations

import gzip
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SVLDRLCore.errors import InputError

SUFFIXES = (".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd", ".nii.gz", ".nii")
_HEADER_LIMIT = 1 << 20  # bytes; a header is a page or two, DWI headers a few more
_ATTACHED = "Save it as one file: NRRD (.nrrd), MetaImage (.mha) or NIfTI-1 (.nii.gz)"


@dataclass(frozen=True)
class VoxelData:
    """Where the voxels of a file lie and how many bytes there must be.

    Attributes:
        path: the file that holds the voxels: the volume file itself, or one in its folder.
        offset: bytes before the voxels, or before the compressed stream.
        encoding: "raw", "gzip", "zlib", "bzip2" or "text".
        skip: bytes to drop after decompression (-1 in a raw file: the voxels are its last bytes).
        sizes: the header's sizes, components included.
        dtype: one value, with its byte order.
        axes: the header's axis vectors in mm as rows, where it has any (zeros and NaN included).
    """

    path: Path
    offset: int
    encoding: str
    skip: int
    sizes: tuple[int, ...]
    dtype: np.dtype
    axes: np.ndarray

    @property
    def promised_bytes(self) -> int:
        return math.prod(self.sizes) * self.dtype.itemsize


def volume_suffix(path: Path) -> str:
    """The volume suffix of a file name, such as ".nii.gz"; InputError when it is none of `SUFFIXES`."""
    name = path.name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    why = f"the name ends in {path.suffix!r}, not in one of {', '.join(SUFFIXES)}"
    raise InputError(str(path), why, "Save the volume as NRRD (.nrrd) or NIfTI (.nii.gz)")


def read_header(path: Path) -> VoxelData:
    """The promises of a volume file's header.

    Raises InputError for data detached into another folder; ValueError, KeyError, struct.error, OSError or
    EOFError where the header cannot be understood.
    """
    suffix = volume_suffix(path)
    if suffix in (".nii", ".nii.gz"):
        return _nifti(path, compressed=suffix == ".nii.gz")
    if suffix in (".mha", ".mhd"):
        return _metaimage(path)
    return _nrrd(path)


_NIFTI_HEADER = 348  # bytes
_NIFTI_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip


def _nifti(path: Path, compressed: bool) -> VoxelData:
    with (gzip.open if compressed else open)(path, "rb") as file:
        head = file.read(_NIFTI_HEADER)
    sizes_of_header = {order: struct.unpack_from(order + "i", head)[0] for order in "<>"}
    if 540 in sizes_of_header.values():  # SimpleITK does not read it either
        raise InputError(str(path), "it is a NIfTI-2 file", _ATTACHED)
    order = next((order for order, size in sizes_of_header.items() if size == _NIFTI_HEADER), None)
    if order is None:
        raise ValueError("its first number is not 348")
    dim = struct.unpack_from(order + "8h", head, 40)
    (code,) = struct.unpack_from(order + "h", head, 70)
    spacing = struct.unpack_from(order + "8f", head, 76)
    offset = int(struct.unpack_from(order + "f", head, 108)[0])
    if not head[344:348].startswith((b"n+", b"\0\0")):  # "ni": the voxels are in an .img file
        raise InputError(str(path), "its voxels are in another file (.img)", _ATTACHED)
    if not 1 <= dim[0] <= 7:
        raise ValueError(f"{dim[0]} dimensions")
    if code not in _NIFTI_TYPES:
        raise ValueError(f"voxel type {code}, neither integer nor real")
    # NIfTI often leaves the spacing of an axis of one voxel at 0, where it means nothing.
    axes = np.diag([s if n > 1 else 1.0 for s, n in zip(spacing[1 : dim[0] + 1], dim[1:])])[:3, :3]
    skip = max(offset, _NIFTI_HEADER)
    return VoxelData(
        path=path,
        offset=0 if compressed else skip,
        encoding="gzip" if compressed else "raw",
        skip=skip if compressed else 0,
        sizes=tuple(dim[1 : dim[0] + 1]),
        dtype=np.dtype(order + _NIFTI_TYPES[code]),
        axes=axes,
    )


_NRRD_TYPES = {
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
_NRRD_DTYPE = {name: code for code, names in _NRRD_TYPES.items() for name in names.split("|")}
_NRRD_ENCODINGS = {
    "raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2",
    "txt": "text", "text": "text", "ascii": "text", "hex": "text",
}  # fmt: skip


def _nrrd(path: Path) -> VoxelData:
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        if not file.read(8).startswith(b"NRRD000"):
            raise ValueError("it does not start with NRRD")
        file.readline()
        for raw_line in iter(lambda: file.readline(_HEADER_LIMIT), b""):
            line = raw_line.decode("utf-8", "replace").rstrip("\r\n")
            if not line:
                break
            key, separator, value = line.partition(": ")
            if separator and ":=" not in key and not line.startswith("#"):
                fields[key.strip().lower()] = value.strip()
            if file.tell() > _HEADER_LIMIT:
                raise ValueError("it does not end")
        offset = file.tell()
    sizes = tuple(int(n) for n in fields["sizes"].split())
    if len(sizes) != int(fields["dimension"]):
        raise ValueError(f"{len(sizes)} sizes for dimension {fields['dimension']}")
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "little").lower(), "<")
    encoding = _NRRD_ENCODINGS[fields["encoding"].lower()]
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    detached = fields.get("data file", fields.get("datafile"))
    if detached is not None:
        path, offset = _file_beside(path, detached), 0
    if int(fields.get("line skip", fields.get("lineskip", "0"))):
        raise ValueError("line skip is not supported")
    return VoxelData(
        path,
        offset,
        encoding,
        skip,
        sizes,
        np.dtype(order + _NRRD_DTYPE[fields["type"].lower()]),
        _nrrd_axes(fields),
    )


def _nrrd_axes(fields: dict[str, str]) -> np.ndarray:
    if "space directions" in fields:
        vectors = re.findall(r"\(([^)]*)\)", fields["space directions"])  # "none": an axis of components
        return np.array([[float(x) for x in vector.split(",")] for vector in vectors], float)
    spacings = [float(word) for word in fields.get("spacings", "").split()]
    return np.diag([s for s in spacings if not math.isnan(s)])  # NaN: an axis of components


_META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


def _metaimage(path: Path) -> VoxelData:
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        for raw_line in iter(lambda: file.readline(_HEADER_LIMIT), b""):
            key, separator, value = raw_line.decode("utf-8", "replace").partition("=")
            if not separator or file.tell() > _HEADER_LIMIT:
                raise ValueError("a line is not of the form 'name = value'")
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
        offset = file.tell()
    sizes = tuple(int(n) for n in fields["DimSize"].split())
    if len(sizes) != int(fields["NDims"]):
        raise ValueError(f"{len(sizes)} sizes for {fields['NDims']} dimensions")
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    msb = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    spacing = [float(s) for s in fields.get("ElementSpacing", fields.get("ElementSize", "")).split()]
    if fields["ElementDataFile"].upper() != "LOCAL":
        path, offset = _file_beside(path, fields["ElementDataFile"]), 0
    header_size = int(fields.get("HeaderSize", "0"))
    compressed = _is_true(fields.get("CompressedData", "False"))
    binary = _is_true(fields.get("BinaryData", "True"))
    return VoxelData(
        path=path,
        offset=offset + max(header_size, 0),
        encoding="zlib" if compressed else "raw" if binary else "text",
        skip=-1 if header_size == -1 else 0,
        sizes=(*sizes, channels) if channels > 1 else sizes,
        dtype=np.dtype((">" if _is_true(msb) else "<") + _META_TYPES[fields["ElementType"]]),
        axes=np.diag(spacing),
    )


def _is_true(word: str) -> bool:
    return word[:1] in "Tt1Yy"


def _file_beside(header: Path, name: str) -> Path:
    """The data file of a detached header, which must lie in the header's own folder."""
    inside = Path(name).name == name and "\\" not in name and not name.upper().startswith("LIST") and "%" not in name
    if not inside or (header.parent / name).resolve().parent != header.parent.resolve():
        raise InputError(str(header), f"its voxels are in another place ({name})", _ATTACHED)
    if not (header.parent / name).is_file():
        raise InputError(str(header), f"its voxels should be in {name}, which is missing", _ATTACHED)
    return header.parent / name
