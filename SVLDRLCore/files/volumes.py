"""Volumes: voxels with their place in the patient, read from and written to files.

Arrays are (D, H, W) = (slice, row, column), the order of SimpleITK and of Slicer's `arrayFromVolume`. World
coordinates are LPS in mm. This is the one place where (x, y, z) and (D, H, W) meet.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SVLDRLCore.atomic_files import made_folder, new_file, not_written
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.integrity import (
    check_header,
    require_finite,
    require_orthogonal_axes,
    require_voxels,
)
from SVLDRLCore.files.nifti_forms import NiftiForms, disagreement, keep_forms
from SVLDRLCore.files.segment_metadata import (
    Segment,
    merge_layers,
    read_segments,
    segmentation_metadata,
    segments_on_layers,
)
from SVLDRLCore.files.volume_headers import read_header, volume_suffix
from SVLDRLCore.files.voxel_data import VoxelData
from SVLDRLCore.files.voxel_reading import components_of, itk_errors_named, read_voxels
from SVLDRLCore.masks.drawn_values import values_drawn

__all__ = [
    "Geometry", "Segment", "Volume", "files_of", "read_geometry", "read_image", "read_label",
    "require_same_geometry", "require_writable_format", "same_geometry", "write_image", "write_label",
]  # fmt: skip

MAX_LABEL = 65535
APART_VOXELS, TOLD_VOXELS = 0.05, 0.01
"""Grids farther apart are refused; a twentieth of a voxel changes no voxel's label but those that the border halves.
Grids that are closer still are told apart from rounding, which stays below a hundredth."""


@dataclass(frozen=True)
class Geometry:
    """Where a grid of voxels lies.

    Attributes:
        size_dhw: number of voxels along (D, H, W).
        spacing_dhw: distance of voxel centres in mm along (D, H, W).
        origin_xyz: world position (LPS, mm) of the centre of voxel [0, 0, 0].
        direction: 9 direction cosines, row-major; column 0 is the world direction of W, column 2 that of D.
        nifti_forms: both places that a NIfTI file gave, where they differ; NIfTI results on this grid get them.
    """

    size_dhw: tuple[int, ...]
    spacing_dhw: tuple[float, ...] = (1.0, 1.0, 1.0)
    origin_xyz: tuple[float, ...] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    nifti_forms: NiftiForms | None = field(default=None, compare=False, repr=False)

    @property
    def spacing_xyz(self) -> tuple[float, ...]:
        return self.spacing_dhw[::-1]

    @property
    def axes(self) -> np.ndarray:
        """(3, 3); column a is the step in mm (LPS) from one voxel to the next along (W, H, D)[a]."""
        return np.array(self.direction).reshape(3, 3) * np.array(self.spacing_xyz)

    def world(self, index_dhw: np.ndarray) -> np.ndarray:
        """World positions (..., 3) in LPS mm of continuous voxel indices (..., 3) in (D, H, W) order."""
        return np.asarray(index_dhw, float)[..., ::-1] @ self.axes.T + np.array(self.origin_xyz)

    def ras(self, index_dhw: Sequence[float]) -> tuple[float, float, float]:
        """World position in RAS mm, as Slicer shows it, of a voxel index; all else here speaks LPS."""
        left, posterior, superior = self.world(np.asarray(index_dhw)).tolist()
        return -left, -posterior, superior


@dataclass(frozen=True)
class Volume:
    """An image (float32) or a label map (integers), both (D, H, W), with its geometry.

    `warnings` are sentences that name the file: what was read in spite of something that a user should look at.
    """

    array: np.ndarray
    geometry: Geometry
    segments: tuple[Segment, ...] = ()
    path: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How messages call it."""
        return str(self.path) if self.path else "the volume"


def read_image(path: str | Path, *, stored: bool = False) -> Volume:
    """A grey-value image as float32 (D, H, W); a two-dimensional file has D = 1.

    Args:
        stored: keep the file's own type, for whoever looks at a part of a large volume.

    Raises InputError for a file that is damaged, not finite, sheared, or holds several values a voxel.
    """
    path = Path(path)
    data, image, array = read_voxels(path)
    if components_of(image) > 1:
        why = f"it holds {components_of(image)} values a voxel (colour, vectors or layers)"
        do = "Make one grey value of colours, in Slicer: Vector to Scalar Volume; save channels as a file each"
        raise InputError(str(path), why, do)
    if array.dtype.kind == "f" or not stored:
        array = array.astype(np.float32, copy=False)
        require_finite(path, int(np.isnan(array).sum()), int(np.isinf(array).sum()))
    geometry, warnings = _geometry(image, path, data)
    return Volume(array.reshape(geometry.size_dhw), geometry, path=path, warnings=warnings)


def read_geometry(path: str | Path) -> Geometry:
    """Where a volume file's voxels lie, from its header alone.

    Raises InputError for a header that is damaged, sheared or has more than three dimensions.
    """
    path = Path(path)
    data = check_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with itk_errors_named(path):
        reader.ReadImageInformation()
    return _geometry(reader, path, data)[0]


def read_label(path: str | Path) -> Volume:
    """A label map as uint8 or uint16 (D, H, W), with the segments that a .seg.nrrd names.

    Layers of a .seg.nrrd are merged where no two segments overlap (colliding label values are renumbered).
    Raises InputError for a damaged file, overlapping segments, and values that are negative, fractional or
    above 65535.
    """
    path = Path(path)
    data, image, array = read_voxels(path)
    geometry, warnings = _geometry(image, path, data)
    array = _integers(array, path, data.scaled)
    layers = components_of(image)
    segments, lost = segments_on_layers(read_segments(data.notes, path), layers, path)
    if layers > 1:
        array, segments = merge_layers(array.reshape(*geometry.size_dhw, -1), segments, path)
    plain = tuple(replace(segment, layer=0) for segment in segments)
    return Volume(array.reshape(geometry.size_dhw), geometry, plain, path, (*warnings, *lost))


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
        extra = [Segment(v, f"Segment {v}") for v in values_drawn(array) if v not in named]
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


def require_same_geometry(image_volume: Volume, label_volume: Volume) -> str | None:
    """InputError, naming both files and what differs, unless two volumes lie on one grid.

    What counts is how far corners lie apart along each of the image's axes, in voxels of that axis: this is by how
    much an overlay is wrong, while the least spacing would forbid across thick slices what nobody can see. Above
    `APART_VOXELS` it is refused. Returns a sentence to tell where it is above `TOLD_VOXELS`, else None.
    """
    a, b = image_volume.geometry, label_volume.geometry
    if a.size_dhw != b.size_dhw:
        why = f"it has {_by(b.size_dhw)} voxels, {image_volume.name} has {_by(a.size_dhw)}"
    else:
        apart = voxels_apart(a, b)
        if apart <= TOLD_VOXELS:
            return None
        distance = f"{_corner_distance_mm(a, b):.3g} mm"
        why = f"it lies up to {distance} away from {image_volume.name}: {_difference(a, b)}"
        if apart <= APART_VOXELS:
            return f"{label_volume.name}: {why}. That is {apart:.2g} voxels, too little to matter"
    do = "Resample it onto the image's grid (in Slicer: Resample Scalar/Vector/DWI Volume, nearest neighbour)"
    forms = [text for volume in (image_volume, label_volume) for text in volume.warnings if "sform" in text]
    raise InputError(label_volume.name, "; ".join([why, *forms]), do)


def voxels_apart(a: Geometry, b: Geometry) -> float:
    """How far the corners of two grids of one size lie apart, in voxels along the axis of `a` where it is most."""
    corners = np.array(list(itertools.product(*((0, n - 1) for n in a.size_dhw))), float)
    return float(np.abs(np.linalg.solve(a.axes, (b.world(corners) - a.world(corners)).T)).max())


def _geometry(
    image: sitk.Image | sitk.ImageFileReader, path: Path, data: VoxelData
) -> tuple[Geometry, tuple[str, ...]]:
    """A volume's grid, and what to warn of; axes of one voxel beyond the third (one time point) are left out."""
    n = image.GetDimension()
    if n < 2 or any(size > 1 for size in image.GetSize()[3:]):
        why = f"it has {n} dimensions ({_by(image.GetSize())})"
        raise InputError(str(path), why, "Save each time point or channel as a three-dimensional file of its own")
    direction, spacing, origin, kept = np.eye(3), np.ones(3), np.zeros(3), min(n, 3)
    direction[:kept, :kept] = np.array(image.GetDirection()).reshape(n, n)[:kept, :kept]
    spacing[:kept], origin[:kept] = image.GetSpacing()[:kept], image.GetOrigin()[:kept]
    require_orthogonal_axes(path, (direction * spacing).T)
    size = (*image.GetSize(), 1)[:3]
    forms: NiftiForms | None = None
    warnings: tuple[str, ...] = ()
    if data.forms is not None:
        forms, warnings = _forms(path, data.forms, direction * spacing, origin, size)
    spacing_dhw, origin_xyz = tuple(spacing[::-1].tolist()), tuple(origin.tolist())
    return Geometry(size[::-1], spacing_dhw, origin_xyz, tuple(direction.ravel().tolist()), forms), warnings


def _forms(
    path: Path, forms: NiftiForms, axes: np.ndarray, origin: np.ndarray, size_xyz: tuple[int, ...]
) -> tuple[NiftiForms | None, tuple[str, ...]]:
    """A NIfTI header's forms and a warning, where they differ; InputError where they do not describe one grid."""
    found = disagreement(forms, axes, origin, size_xyz)
    if found is None:
        return None, ()
    if found.is_another_grid:
        do = "Open it in Slicer, look whether it lies right, and save it again, which makes both the same"
        raise InputError(str(path), found.text, do)
    return forms if forms.unit_mm == 1 else None, (f"{path}: {found.text}",)


def _integers(array: np.ndarray, path: Path, scaled: tuple[float, float] = (1.0, 0.0)) -> np.ndarray:
    """Labels as uint8 or uint16; `scaled` are the slope and intercept that a header applied to them."""
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        odd = array != np.rint(array)  # NaN differs from everything
        if odd.any():
            why = f"{int(odd.sum()):,} voxels are not whole numbers (for example {array[odd].flat[0]:g})"
            if scaled != (1.0, 0.0):
                why += f", because its header multiplies what is stored by {scaled[0]:g} (scl_slope)"
                do = "Round the values and save them as whole numbers without a slope, or export the labels again"
                raise InputError(str(path), why, do)
            raise InputError(str(path), why, "Give a label map, not an image or a probability map")
    if array.size and (array.min() < 0 or array.max() > MAX_LABEL):
        n_odd = int(((array < 0) | (array > MAX_LABEL)).sum())
        why = f"{n_odd:,} voxels are outside 0 to {MAX_LABEL} (from {array.min():g} to {array.max():g})"
        raise InputError(str(path), why, "Give a label map with 0 for the background")
    return array.astype(np.uint8 if array.max(initial=0) <= 255 else np.uint16, copy=False)


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
        if geometry.nifti_forms is not None and volume_suffix(path) in (".nii", ".nii.gz"):
            keep_forms(temporary, geometry.nifti_forms)
    return path


def _differs(path: Path, image: sitk.Image, geometry: Geometry, metadata: dict[str, str]) -> str | None:
    """What is wrong with a file that should hold this image; None where voxels and header came back as they were."""
    header = sitk.ImageFileReader()
    try:
        require_voxels(path, sitk.GetArrayViewFromImage(image))
        header.SetFileName(str(path))
        header.ReadImageInformation()
        found, _ = _geometry(header, path, check_header(path))
    except InputError as error:
        return error.why
    except RuntimeError as error:
        return str(error).strip().splitlines()[-1]
    if found.size_dhw != geometry.size_dhw or voxels_apart(geometry, found) > APART_VOXELS:
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
