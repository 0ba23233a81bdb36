"""A part of a volume is prepared, and carried back, as the whole is: to the bit."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from rough_masks_to_refine import ROTATED, SAGITTAL, files, model_that, refined

from SVLDRLCore.data.cases import intensity_of
from SVLDRLCore.data.grey_counts import quick_grey_range
from SVLDRLCore.data.parts import on_native, pasted, prepared_grid, prepared_label_part, prepared_part, shown_box
from SVLDRLCore.data.resampling import Intensity, grey_range, prepare_image, prepare_label, to_native
from SVLDRLCore.files.volumes import Geometry, Volume, read_image, read_label
from SVLDRLCore.mask_refinement.editing import box_around, edit_label, predict
from SVLDRLCore.mask_refinement.segments import draw_structures, structure_masks
from SVLDRLCore.masks.boxes import whole_box
from SVLDRLCore.models.trained_model import load_model
from SVLDRLCore.svl_drl.actions import ENHANCE

FLIPPED_OBLIQUE = tuple((np.array(ROTATED).reshape(3, 3) @ np.diag([-1.0, 1.0, -1.0])).ravel().tolist())
NATIVE = {
    "oblique": Geometry((19, 33, 28), (3.0, 1.3, 1.3), (10.0, -20.0, 30.0), FLIPPED_OBLIQUE),
    "sagittal": Geometry((30, 17, 26), (1.1, 4.0, 2.0), (0.0, 0.0, 0.0), SAGITTAL),
}
ASKED = {"shrunk": (2.9, 2.5, 4.1), "stretched": (0.9, 1.0, 1.7), "kept": None, "slices_kept": (2.0, 2.0, 0.0)}
BOXES = ((0.0, 0.4), (0.3, 0.7), (0.6, 1.0))


@pytest.mark.parametrize(("grid_name", "asked_name"), itertools.product(NATIVE, ASKED))
def test_a_part_is_as_the_whole(grid_name: str, asked_name: str) -> None:
    native, asked, rng = NATIVE[grid_name], ASKED[asked_name], np.random.default_rng(0)
    image = Volume(rng.integers(-500, 900, native.size_dhw).astype(np.int16), native)
    label = Volume((rng.integers(0, 4, native.size_dhw) * (rng.random(native.size_dhw) > 0.5)).astype(np.uint8), native)
    intensity, grid = Intensity("percentile", 1.0, 99.5), prepared_grid(native, asked)
    whole = prepare_image([image], asked, intensity)
    drawn = prepare_label(label, whole)
    assert grid.geometry == whole.geometry
    for ends in itertools.product(BOXES, repeat=2):
        shares = (*ends, ends[0])
        box = tuple(slice(int(a * n), max(int(b * n), int(a * n) + 1)) for (a, b), n in zip(shares, drawn.shape))
        np.testing.assert_array_equal(prepared_part([image], grid, intensity, box), whole.array[:, *box])
        np.testing.assert_array_equal(prepared_label_part(label, grid, box), drawn[box])
        maps = np.zeros((2, *drawn.shape), np.float32)
        maps[:, *box] = rng.normal(size=maps[:, *box].shape)
        np.testing.assert_array_equal(on_native(maps[:, *box], box, grid), to_native(maps, whole))
        np.testing.assert_array_equal(pasted(maps[:, *box], box, whole_box(drawn.shape)), maps)
        inside = grid.native_box(grid.upright_box(grid.native_box(tuple(slice(1, 9) for _ in range(3)))))
        alone = np.zeros_like(label.array)
        alone[inside] = 1
        there = prepare_label(Volume(alone, native), whole)
        there[shown_box(grid, grid.upright_box(inside))] = 0
        assert not there.any()


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("padding", [None, 0, 127])
def test_percentiles_from_counts_are_those_of_sorting(kind: type, padding: int | None) -> None:
    rng = np.random.default_rng(1)
    for size, asked in (((3, 40, 50), (1.0, 99.5)), ((2, 3, 5), (0.0, 100.0)), ((1, 1, 1), (3.0, 97.0))):
        array = rng.normal(30, 9, size).clip(0, 60).astype(kind)
        if padding is not None:
            array[..., :1] = padding
        image, intensity = Volume(array, Geometry(size)), Intensity("percentile", *asked)
        assert quick_grey_range(image, intensity) == grey_range(image, intensity)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_what_is_read_in_one_pass_is_what_itk_reads(tmp_path: Path, suffix: str, kind: type) -> None:
    array = np.random.default_rng(2).integers(0, 200, (4, 5, 6)).astype(kind)
    path = str(tmp_path / f"a{suffix}")
    sitk.WriteImage(sitk.GetImageFromArray(array), path, useCompression=True)
    read = read_image(path, stored=True).array
    np.testing.assert_array_equal(read, array)
    assert read.dtype == (np.float32 if read.dtype.kind == "f" else kind)
    np.testing.assert_array_equal(read_image(path).array, array.astype(np.float32))


@pytest.mark.parametrize("grid_name", NATIVE)
def test_refining_in_a_part_draws_what_the_whole_gives(tmp_path: Path, grid_name: str) -> None:
    """The whole is prepared, edited and drawn here as it was before anything was done in parts."""
    native = NATIVE[grid_name]
    drawn = np.zeros(native.size_dhw, np.uint8)
    drawn[tuple(slice(n // 2 - 3, n // 2 + 2) for n in drawn.shape)] = 1
    image, rough = files(tmp_path, native, drawn)
    path = model_that(tmp_path, ENHANCE, spacing=[2.0, 2.0, 2.0])
    done, result = refined(tmp_path, path, image, rough, trust=0.0, margin_mm=3.0)
    trained, label = load_model(path), read_label(rough)
    config = trained.config.data
    prepared = prepare_image([read_image(image)], config.spacing_mm, intensity_of(config))
    maps = structure_masks(prepare_label(label, prepared), {0: [1]}, 1)
    box = box_around(maps, prepared, 3.0, config.patch_size)
    found = predict(trained, np.ascontiguousarray(prepared.array[:, *box]))
    beliefs = edit_label(
        trained, prepared, label, maps, found, box, {0: [1]}, [0], trust=0.0, overlap=0.5, device="cpu"
    )
    expected = draw_structures(trained.structures, label.array, beliefs, {0: (1,)}, native.spacing_dhw)
    assert (expected != label.array).any()
    np.testing.assert_array_equal(result.array, expected)
    np.testing.assert_array_equal(done.confidence, 2 * np.abs(beliefs - 0.5).min(0))
