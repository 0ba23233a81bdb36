"""Volumes: voxels with their place in the patient, read from and written to files.

Arrays are (D, H, W) = (slice, row, column), the order of SimpleITK and of Slicer's `arrayFromVolume`. World
coordinates are LPS in mm. This is the one place where (x, y, z) and (D, H, W) meet.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SVLDRLCore.atomic_files import made_folder, new_file, not_written
from SVLDRLCore.data.file_integrity import check_file, require_finite, require_orthogonal_axes, require_voxels
from SVLDRLCore.data.segment_metadata import Segment, merge_layers, read_segments, segmentation_metadata
from SVLDRLCore.data.volume_headers import read_header, volume_suffix
from SVLDRLCore.errors import InputError

__all__ = [
    "Geometry", "Segment", "Volume", "files_of", "read_image", "read_label", "require_same_geometry",
    "require_writable_format", "same_geometry", "write_image", "write_label",
]  # fmt: skip

MAX_LABEL = 65535
HEADER_TOLERANCE_VOXELS = 0.05
"""How far a grid may move when it is written: NIfTI keeps its place in single precision."""


@dataclass(frozen=True)
class Geometry:
    """Where a grid of voxels lies.

    Attributes:
        size_dhw: number of voxels along (D, H, W).
        spacing_dhw: distance of voxel centres in mm along (D, H, W).
        origin_xyz: world position (LPS, mm) of the centre of voxel [0, 0, 0].
        direction: 9 direction cosines, row-major; column 0 is the world direction of W, column 2 that of D.
    """

    size_dhw: tuple[int, int, int]
    spacing_dhw: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin_xyz: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @property
    def spacing_xyz(self) -> tuple[float, float, float]:
        return self.spacing_dhw[::-1]

    @property
    def axes(self) -> np.ndarray:
        """(3, 3); column a is the step in mm (LPS) from one voxel to the next along (W, H, D)[a]."""
        return np.array(self.direction).reshape(3, 3) * np.array(self.spacing_xyz)

    def world(self, index_dhw: np.ndarray) -> np.ndarray:
        """World positions (..., 3) in LPS mm of continuous voxel indices (..., 3) in (D, H, W) order."""
        return np.asarray(index_dhw, float)[..., ::-1] @ self.axes.T + np.array(self.origin_xyz)


@dataclass(frozen=True)
class Volume:
    """An image (float32) or a label map (integers), both (D, H, W), with its geometry."""

    array: np.ndarray
    geometry: Geometry
    segments: tuple[Segment, ...] = ()
    path: Path | None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        return str(self.path) if self.path else "the volume"


def read_image(path: str | Path) -> Volume:
    """A grey-value image as float32 (D, H, W); a two-dimensional file has D = 1.

    Raises InputError for a file that is damaged, not finite, sheared, or holds several values a voxel.
    """
    path = Path(path)
    image = _read(path)
    if image.GetNumberOfComponentsPerPixel() > 1:
        why = f"it holds {image.GetNumberOfComponentsPerPixel()} values a voxel (colour, vectors or layers)"
        raise InputError(str(path), why, "Save each channel as a file of its own and list them as the case's images")
    array = sitk.GetArrayFromImage(image).astype(np.float32, copy=False)
    require_finite(path, int(np.isnan(array).sum()), int(np.isinf(array).sum()))
    geometry = _geometry(image, path)
    return Volume(array.reshape(geometry.size_dhw), geometry, path=path)


def read_label(path: str | Path) -> Volume:
    """A label map as uint8 or uint16 (D, H, W), with the segments that a .seg.nrrd names.

    Layers of a .seg.nrrd are merged where no two segments overlap (colliding label values are renumbered).
    Raises InputError for a damaged file, overlapping segments, and values that are negative, fractional or
    above 65535.
    """
    path = Path(path)
    image = _read(path)
    geometry = _geometry(image, path)
    array = _integers(sitk.GetArrayFromImage(image), path)
    segments = read_segments({key: image.GetMetaData(key) for key in image.GetMetaDataKeys()})
    if image.GetNumberOfComponentsPerPixel() > 1:
        array, segments = merge_layers(array.reshape(*geometry.size_dhw, -1), segments, path)
    plain = tuple(replace(segment, layer=0) for segment in segments)
    return Volume(array.reshape(geometry.size_dhw), geometry, plain, path)


def write_image(path: str | Path, array: np.ndarray, geometry: Geometry, overwrite: bool = False) -> Path:
    """Write an image (D, H, W) of any real type, compressed; InputError if it exists, unless `overwrite`."""
    return _write(Path(path), array, geometry, {}, overwrite)


def write_label(
    path: str | Path,
    array: np.ndarray,
    geometry: Geometry,
    segments: Sequence[Segment] = (),
    overwrite: bool = False,
) -> Path:
    """Write a label map (D, H, W), compressed; a .seg.nrrd also keeps the segments' names and colours.

    Values without a segment get one called "Segment <value>", because Slicer drops what has no segment.
    Raises InputError when the file exists, unless `overwrite`.
    """
    path = Path(path)
    array = _integers(np.asarray(array), path)
    metadata: dict[str, str] = {}
    if volume_suffix(path) == ".seg.nrrd":
        named = {segment.value for segment in segments}
        extra = [Segment(int(v), f"Segment {v}") for v in np.unique(array) if v and int(v) not in named]
        metadata = segmentation_metadata([*segments, *extra], geometry.size_dhw)
    return _write(path, array, geometry, metadata, overwrite)


def require_writable_format(path: str | Path) -> None:
    """InputError unless the name ends like a volume that is written as one file."""
    if volume_suffix(Path(path)) in (".nhdr", ".mhd"):
        raise InputError(str(path), "it would be two files", "Choose .nrrd, .nii.gz or .mha")


def files_of(path: str | Path) -> tuple[Path, ...]:
    """A volume's file and, where its voxels lie in another one beside it, that one, too."""
    path = Path(path)
    try:
        return (path, read_header(path).path) if volume_suffix(path) in (".nhdr", ".mhd") else (path,)
    except (InputError, ValueError, KeyError, OSError):  # whoever reads it will tell
        return (path,)


def same_geometry(a: Geometry, b: Geometry, tolerance_voxels: float = 1e-3) -> bool:
    """Whether two grids have one size and no corners further apart than this part of the least spacing."""
    return a.size_dhw == b.size_dhw and _corner_distance_mm(a, b) <= tolerance_voxels * min(
        *a.spacing_dhw, *b.spacing_dhw
    )


def require_same_geometry(image_volume: Volume, label_volume: Volume) -> None:
    """InputError, naming both files and what differs, unless two volumes lie on one grid."""
    a, b = image_volume.geometry, label_volume.geometry
    if same_geometry(a, b):
        return
    if a.size_dhw != b.size_dhw:
        why = f"it has {_by(b.size_dhw)} voxels, {image_volume.name} has {_by(a.size_dhw)}"
    else:
        distance = f"{_corner_distance_mm(a, b):.3g} mm"
        why = f"it lies up to {distance} away from {image_volume.name}: {_difference(a, b)}"
    do = "Resample it onto the image's grid (in Slicer: Resample Scalar/Vector/DWI Volume, nearest neighbour)"
    raise InputError(label_volume.name, why, do)


def _read(path: Path) -> sitk.Image:
    check_file(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        do = "Open it in Slicer and save it again as .nrrd"
        raise InputError(str(path), f"it cannot be read ({reason})", do) from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() not in (2, 3):
        why = f"it has {image.GetDimension()} dimensions ({_by(image.GetSize())})"
        raise InputError(str(path), why, "Save each time point or channel as a three-dimensional file of its own")
    return image


def _geometry(image: sitk.Image, path: Path) -> Geometry:
    n = image.GetDimension()
    direction, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    direction[:n, :n] = np.array(image.GetDirection()).reshape(n, n)
    spacing[:n], origin[:n] = image.GetSpacing(), image.GetOrigin()
    require_orthogonal_axes(path, (direction * spacing).T)
    size = (*image.GetSize(), 1)[:3]
    return Geometry(
        size[::-1], tuple(spacing[::-1].tolist()), tuple(origin.tolist()), tuple(direction.ravel().tolist())
    )


def _integers(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        odd = array != np.rint(array)  # NaN differs from everything
        if odd.any():
            why = f"{int(odd.sum()):,} voxels are not whole numbers (for example {array[odd].flat[0]:g})"
            raise InputError(str(path), why, "Give a label map, not an image or a probability map")
    if array.size and (array.min() < 0 or array.max() > MAX_LABEL):
        n_odd = int(((array < 0) | (array > MAX_LABEL)).sum())
        why = f"{n_odd:,} voxels are outside 0 to {MAX_LABEL} (from {array.min():g} to {array.max():g})"
        raise InputError(str(path), why, "Give a label map with 0 for the background")
    return array.astype(np.uint8 if array.max(initial=0) <= 255 else np.uint16)


def _write(path: Path, array: np.ndarray, geometry: Geometry, metadata: dict[str, str], overwrite: bool) -> Path:
    require_writable_format(path)
    if array.shape != geometry.size_dhw:
        raise ValueError(f"array {array.shape} does not fit the geometry {geometry.size_dhw}")
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(geometry.spacing_xyz)
    image.SetOrigin(geometry.origin_xyz)
    image.SetDirection(geometry.direction)
    for key, value in metadata.items():
        image.SetMetaData(key, value)
    if os.path.lexists(path) and not overwrite:
        raise InputError(str(path), "the file exists already", "Choose another name, or allow overwriting")

    def check(written: Path) -> str | None:
        return _differs(written, image, geometry, metadata)

    with made_folder(path.parent), new_file(path, check, volume_suffix(path)) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:  # SimpleITK's word for all that goes wrong; much of it goes untold
            raise not_written(path, str(error).strip().splitlines()[-1]) from error
    return path


def _differs(path: Path, image: sitk.Image, geometry: Geometry, metadata: dict[str, str]) -> str | None:
    """What is wrong with a file that should hold this image; None where voxels and header came back as they were."""
    header = sitk.ImageFileReader()
    try:
        require_voxels(path, sitk.GetArrayViewFromImage(image))
        header.SetFileName(str(path))
        header.ReadImageInformation()
        found = _geometry(header, path)
    except InputError as error:
        return error.why
    except RuntimeError as error:
        return str(error).strip().splitlines()[-1]
    if not same_geometry(found, geometry, HEADER_TOLERANCE_VOXELS):
        return f"the file's format cannot hold its place: {_difference(found, geometry)}"
    lost = [key for key, text in metadata.items() if not header.HasMetaDataKey(key) or header.GetMetaData(key) != text]
    return f"its header came back without {lost[0]}" if lost else None


def _corner_distance_mm(a: Geometry, b: Geometry) -> float:
    corners = np.array(list(itertools.product(*((0, n - 1) for n in a.size_dhw))), float)
    return float(np.linalg.norm(a.world(corners) - b.world(corners), axis=1).max())


def _difference(a: Geometry, b: Geometry) -> str:
    for name, x, y in (
        ("spacing", a.spacing_xyz, b.spacing_xyz),
        ("direction", a.direction, b.direction),
        ("origin", a.origin_xyz, b.origin_xyz),
    ):
        if not np.allclose(x, y, rtol=1e-4, atol=1e-4):
            return f"{name} {_numbers(y)} instead of {_numbers(x)}"
    return "the sum of small differences"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
