"""Batches of patches, beside MONAI's cache with a cropping transform of the same crops, flips and intensities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from made_data import ball
from measuring import side_by_side
from monai.data import CacheDataset, DataLoader
from monai.transforms import (
    Compose,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from table import Row, group

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.data.sampler import PatchSampler

SHAPE, CASES, BATCHES = (112, 128, 128), 4, 12


def cases_of(patch: tuple[int, ...]) -> list[TrainingCase]:
    """Balls in noise."""
    rng = np.random.default_rng(0)
    mask = ball(SHAPE, (56, 64, 64), (30, 34, 32)).astype(np.uint8)[None]
    images = [rng.random((1, *SHAPE), np.float32) for _ in range(CASES)]
    return [in_memory(f"case_{n}", image, mask, (1.0, 1.0, 1.0), patch) for n, image in enumerate(images)]


@group("sampler")
def sampler_rows(folder: Path) -> Iterator[Row]:
    """Patches of three sizes."""
    for size in (32, 64, 96):
        patch = (size,) * 3
        cases = cases_of(patch)
        config = load_config("general", "extended", {"data": {"patch_size": list(patch)}}).data
        sampler = PatchSampler(cases, config, 2, 0)
        loader = _monai(cases, patch)

        def ours(sampler: PatchSampler = sampler) -> None:
            for _ in range(BATCHES):
                sampler.next()

        def theirs(loader: DataLoader = loader) -> None:
            done = 0
            while done < BATCHES:
                for _ in loader:
                    done += 1

        found = side_by_side(ours, theirs, 3)
        yield Row(
            f"{BATCHES} batches of 2 patches of {size} cubed", target=0.1,
            against="CacheDataset with RandCropByPosNegLabeld", **found.sides(),
        )  # fmt: skip


def _monai(cases: list[TrainingCase], patch: tuple[int, ...]) -> DataLoader:
    keys = ["image", "label"]
    transforms = Compose(
        [
            RandCropByPosNegLabeld(keys=keys, label_key="label", spatial_size=patch, pos=2, neg=1, num_samples=1),
            *(RandFlipd(keys=keys, prob=0.5, spatial_axis=axis) for axis in range(3)),
            RandScaleIntensityd(keys="image", factors=0.1, prob=1.0),
            RandShiftIntensityd(keys="image", offsets=0.05, prob=1.0),
        ]
    )
    data = [{"image": case.image, "label": case.masks.to(torch.float32)} for case in cases]
    return DataLoader(CacheDataset(data, transforms, progress=False), batch_size=2, shuffle=True, num_workers=0)
