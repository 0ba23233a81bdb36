"""The voxels of a volume file, read once: the pass that checks it keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.integrity import read_checked
from SVLDRLCore.files.voxel_data import VoxelData

_NUMPY_TYPES = {
    sitk.sitkUInt8: np.uint8, sitk.sitkInt8: np.int8, sitk.sitkUInt16: np.uint16, sitk.sitkInt16: np.int16,
    sitk.sitkUInt32: np.uint32, sitk.sitkInt32: np.int32, sitk.sitkFloat32: np.float32, sitk.sitkFloat64: np.float64,
}  # fmt: skip


@contextmanager
def itk_errors_named(path: Path) -> Iterator[None]:
    """InputError, naming the file, for what ITK cannot read in the block."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        do = "Export it again from the program that wrote it, as .nrrd or .nii.gz"
        raise InputError(str(path), f"it cannot be read ({reason})", do) from error


def read_voxels(path: Path) -> tuple[VoxelData, sitk.Image | sitk.ImageFileReader, np.ndarray]:
    """A file's promises, what tells of its grid and its components, and its voxels.

    The file is read once, where its stored values are the voxels; ITK reads the others anew.
    """
    data, values = read_checked(path)
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    with itk_errors_named(path):
        header.ReadImageInformation()
        if values is not None and _is_plain(header, values, data):
            return data, header, values.reshape(header.GetSize()[::-1])
        image = sitk.ReadImage(str(path))
    return data, image, sitk.GetArrayFromImage(image)


def components_of(image: sitk.Image | sitk.ImageFileReader) -> int:
    """How many values a voxel has."""
    if isinstance(image, sitk.ImageFileReader):
        return image.GetNumberOfComponents()
    return image.GetNumberOfComponentsPerPixel()


def _is_plain(header: sitk.ImageFileReader, values: np.ndarray, data: VoxelData) -> bool:
    """Whether these values are the voxels: one a voxel, of the type that they are stored in.

    A NIfTI header whose slope is 0 scales nothing, by the standard; ITK would add its intercept all the same.
    """
    one_each = header.GetNumberOfComponents() == 1 and math.prod(header.GetSize()) == values.size
    return one_each and (data.forms is not None or _NUMPY_TYPES.get(header.GetPixelID()) == values.dtype)
