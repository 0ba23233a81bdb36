"""The metrics of a pair of masks, beside the same four from MONAI; `Testing/oracle` compares their values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from made_data import ball
from measuring import side_by_side
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance, compute_iou
from scipy import ndimage
from table import Row, group

from SVLDRLCore.evaluation.metrics import mask_metrics

SHAPE, SPACING = (160, 160, 160), (1.0, 1.0, 1.0)


@group("metrics")
def metric_rows(folder: Path) -> Iterator[Row]:
    """Masks of several forms in 160 cubed."""
    middle = (80.0, 80.0, 80.0)
    vessels = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 3)
    pairs = {
        "an organ": (ball(SHAPE, middle, (55, 60, 50)), ball(SHAPE, (83, 78, 81), (52, 62, 51)), 0.3),
        "a ragged organ": (
            ball(SHAPE, middle, (55, 60, 50)) & (vessels < 0.04), ball(SHAPE, (82, 79, 80), (54, 60, 50)), 0.3,
        ),
        "vessels everywhere": (vessels > 0.06, ndimage.shift(vessels, (0, 1, 0), order=0) > 0.06, 0.3),
        "a gland": (ball(SHAPE, middle, (14, 16, 12)), ball(SHAPE, (81, 80, 80), (13, 16, 13)), 0.1),
    }  # fmt: skip
    for name, (a, b, target) in pairs.items():
        found = side_by_side(lambda a=a, b=b: mask_metrics(a, b, SPACING), lambda a=a, b=b: _by_monai(a, b), 3)
        yield Row(f"metrics of {name} in 160 cubed", target=target, against="MONAI's metrics", **found.sides())


def _by_monai(prediction: np.ndarray, reference: np.ndarray) -> None:
    a, b = (torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference))
    compute_dice(a, b)
    compute_iou(a, b)
    compute_hausdorff_distance(a, b, percentile=95, spacing=list(SPACING))
    compute_average_surface_distance(a, b, symmetric=True, spacing=list(SPACING))
