"""Is a volume file whole, sane and finite? Asked before any of its voxels is used.

SimpleITK reads a truncated NIfTI without an error, ignores gzip checksums, turns NaN in a NIfTI into 0 and
follows a detached header wherever it points. So the bytes a header promises are counted here.
"""

from __future__ import annotations

import bz2
import gzip
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from SVLDRLCore.errors import InputError
from SVLDRLCore.file_places import require_readable
from SVLDRLCore.files.header_fields import LARGEST_MM, SMALLEST_MM
from SVLDRLCore.files.volume_headers import read_header, volume_suffix
from SVLDRLCore.files.voxel_data import VoxelData
from SVLDRLCore.memory import gigabytes, physical_memory_bytes

MAX_SHEAR = 1e-3
"""Largest |cosine| between two axes that still counts as rounding (0.06 degrees)."""

_CHUNK = 1 << 24
_EXPORT = "Copy or export the file again from where it came"


def check_file(path: Path) -> VoxelData:
    """Refuse a volume file that is missing, empty, torn, mislabelled, detached, too large or not finite.

    Reads the voxels once, in blocks of constant memory, so that checksums are verified. Returns the header's promises.
    Raises InputError naming the file.
    """
    data = check_header(path)
    if data.encoding in ("text", "hex"):
        _require_whole_text(path, data)
    else:
        _require_whole_and_finite(path, data)
    return data


def read_checked(path: Path) -> tuple[VoxelData, np.ndarray | None]:
    """`check_file`, and the values (n,) as they are stored, from the same pass over the file.

    None where they are written as text or the header scales them: ITK reads those. It would read the others a second
    time, which takes as long as the check.
    """
    data = check_header(path)
    if data.encoding in ("text", "hex") or data.scaled != (1.0, 0.0):
        return check_file(path), None
    stored = np.empty(data.promised_bytes, np.uint8)
    _require_whole_and_finite(path, data, stored)
    values = stored.view(data.dtype)
    native = data.dtype.newbyteorder("=")
    return data, values if values.dtype == native else values.astype(native)


def check_header(path: Path) -> VoxelData:
    """The promises of a volume file's header, once they are known to be possible ones; InputError names the file."""
    suffix = volume_suffix(path)
    require_readable(path)
    if path.stat().st_size == 0:
        raise InputError(str(path), "the file is empty (0 bytes)", _EXPORT)
    try:
        data = read_header(path)
    except (ValueError, KeyError, ArithmeticError, struct.error, EOFError, OSError, zlib.error) as error:
        why = f"it does not begin like a {suffix} file ({_in_words(error)})"
        raise InputError(str(path), why, f"Check that the suffix is the right one. {_EXPORT}") from error
    _require_sane_sizes(path, data)
    require_orthogonal_axes(path, data.axes)
    if data.forms and list(forms := data.forms.affines()) == ["sform"]:  # with a qform beside it ITK takes that
        long = [axis for axis, n in enumerate(data.sizes[:3]) if n > 1]
        require_orthogonal_axes(path, forms["sform"][:, long].T)
    return data


def require_orthogonal_axes(path: Path, axes: np.ndarray) -> None:
    """Refuse axis vectors (n, n), one a row, that are zero, not finite or sheared (InputError)."""
    if not axes.size:
        return
    lengths = np.linalg.norm(axes, axis=1)
    if not np.isfinite(lengths).all() or (lengths <= 0).any():
        why = f"a voxel spacing is zero or not a number ({', '.join(f'{s:g}' for s in lengths)} mm)"
        raise InputError(str(path), why, "Set the true spacing, for example in Slicer's Volumes module")
    if lengths.min() < SMALLEST_MM or lengths.max() > LARGEST_MM:
        why = f"a voxel spacing is impossible ({', '.join(f'{s:g}' for s in lengths)} mm)"
        raise InputError(str(path), why, "Set the true spacing, for example in Slicer's Volumes module")
    unit = axes / lengths[:, None]
    shear = float(np.abs(unit @ unit.T - np.eye(len(unit))).max(initial=0.0))
    if shear > MAX_SHEAR:
        angle = 90 - math.degrees(math.acos(min(shear, 1.0)))
        why = f"its axes are not at right angles (off by {angle:.2f} degrees, for example a tilted CT gantry)"
        do = "in Slicer: Resample Scalar/Vector/DWI Volume, with a straight volume as reference"
        if path.name.lower().endswith((".nii", ".nii.gz")):  # no program that reads with ITK opens it, Slicer included
            do = "in Python: nibabel.processing.resample_to_output(nibabel.load(file))"
        raise InputError(str(path), why, f"Resample it onto a straight grid, {do}")


def _in_words(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _require_sane_sizes(path: Path, data: VoxelData) -> None:
    if min(data.sizes) < 1:
        raise InputError(str(path), f"its header says {_by(data.sizes)} voxels", _EXPORT)
    needed = data.promised_bytes + 4 * math.prod(data.sizes)  # as stored, and once as float32
    memory = physical_memory_bytes()
    if needed > memory:
        why = (
            f"its header says {_by(data.sizes)} voxels, which need {gigabytes(needed)}"
            f" of this machine's {gigabytes(memory)}"
        )
        raise InputError(str(path), why, "Crop or resample the volume, or use a machine with more memory")


def _by(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _require_whole_text(path: Path, data: VoxelData) -> None:
    """InputError where a file of written numbers holds fewer of them than promised."""
    with open(data.path, "rb") as file:
        file.seek(data.offset)
        text = file.read()
    promised = math.prod(data.sizes)
    if data.encoding == "hex":
        promised, found = data.promised_bytes, len(re.findall(rb"[0-9a-fA-F]", text)) // 2
    else:
        found = len(re.findall(rb"[^\s,]+", text))
    if found < promised:
        why = f"it is cut off: {found:,} of the {promised:,} numbers that its header promises"
        raise InputError(str(path), why, _EXPORT)


def _require_whole_and_finite(path: Path, data: VoxelData, stored: np.ndarray | None = None) -> None:
    """InputError for a file that is torn or not finite; `stored` gets its bytes."""
    promised, readable, n_nan, n_inf = data.promised_bytes, 0, 0, 0
    present = data.path.stat().st_size - data.offset
    if data.compressed_bytes is not None and data.compressed_bytes > present:
        why = f"it is cut off: {present:,} of the {data.compressed_bytes:,} compressed bytes that its header promises"
        raise InputError(str(path), why, _EXPORT)
    rest = b""
    try:
        for block in _voxel_blocks(data):
            block = block[: promised - readable]
            if stored is not None:
                stored[readable : readable + len(block)] = np.frombuffer(block, np.uint8)
            readable += len(block)
            if data.dtype.kind == "f":
                block = rest + block
                whole = len(block) - len(block) % data.dtype.itemsize
                values, rest = np.frombuffer(block[:whole], data.dtype), block[whole:]
                n_nan += int(np.isnan(values).sum())
                n_inf += int(np.isinf(values).sum())
    except (EOFError, OSError, zlib.error) as error:
        why = f"it is damaged: decompression failed after {readable:,} of {promised:,} bytes ({error})"
        raise InputError(str(path), why, _EXPORT) from error
    if readable < promised:
        why = f"it is cut off: {readable:,} of the {promised:,} bytes that its header promises"
        raise InputError(str(path), why, _EXPORT)
    require_finite(path, n_nan, n_inf)


def require_finite(path: Path, n_nan: int, n_inf: int) -> None:
    """Refuse a volume with NaN or infinite voxels, of which a single one silences a network (InputError)."""
    if n_nan or n_inf:
        why = f"{n_nan:,} voxels are NaN and {n_inf:,} infinite"
        raise InputError(str(path), why, "Replace them, for example by the background's grey value")


def require_voxels(path: Path, array: np.ndarray) -> None:
    """Refuse a file that was just written unless it holds exactly these voxels, checksums included (InputError).

    Reads in blocks: a second copy of a large volume may not fit into the memory.
    """
    again = "Write it again"
    try:
        data = read_header(path)
        if data.dtype.newbyteorder("=") != array.dtype:
            raise InputError(str(path), f"{array.dtype} came back from the disk as {data.dtype}", again)
        expected = np.ascontiguousarray(array, data.dtype).reshape(-1).view(np.uint8)
        at = 0
        for block in _voxel_blocks(data):
            if not np.array_equal(np.frombuffer(block, np.uint8), expected[at : at + len(block)]):
                raise InputError(str(path), "other voxels came back from the disk", again)
            at += len(block)
    except (ValueError, KeyError, struct.error, EOFError, OSError, zlib.error) as error:
        raise InputError(str(path), f"what came back from the disk is damaged ({_in_words(error)})", again) from error
    if at != len(expected) or data.promised_bytes != at:
        why = f"{at:,} of {len(expected):,} bytes of voxels came back from the disk"
        raise InputError(str(path), why, again)


def _voxel_blocks(data: VoxelData) -> Iterator[bytes]:
    """The voxel bytes in blocks, to the end of the stream, so that trailing checksums are verified."""
    with open(data.path, "rb") as file:
        file.seek(data.offset)
        if data.skip == -1:
            file.seek(max(data.path.stat().st_size - data.promised_bytes, 0))
        if data.encoding == "zlib":
            yield from _zlib_blocks(_chunks(file, data.compressed_bytes))
            return
        streams: dict[str, Callable[[Any], Any]] = {
            "raw": lambda f: f,
            "gzip": lambda f: gzip.GzipFile(fileobj=f),
            "bzip2": bz2.BZ2File,
        }
        with streams[data.encoding](file) as voxels:
            left = max(data.skip, 0)
            while left and (block := voxels.read(min(left, _CHUNK))):
                left -= len(block)
            yield from iter(lambda: voxels.read(_CHUNK), b"")


def _chunks(file: BinaryIO, count: int | None) -> Iterator[bytes]:
    """The next `count` bytes, or all; what lies behind them is not read, as ITK does not read it."""
    left = math.inf if count is None else count
    while left and (chunk := file.read(int(min(left, _CHUNK)))):
        left -= len(chunk)
        yield chunk


def _zlib_blocks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zlib.decompressobj()
    for chunk in chunks:
        while chunk:  # a block at a time: a small stream may hold gigabytes
            yield decompressor.decompress(chunk, _CHUNK)
            chunk = decompressor.unconsumed_tail
        if decompressor.eof:
            return
    raise EOFError("the compressed stream does not end")
