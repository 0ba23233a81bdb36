"""What label reviews and audits predict, beside what they need and beside a plain prediction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from made_data import small_model
from measuring import cpu_seconds
from prediction_rows import network_of
from table import Row, group

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.inference.case_predictions import predict_cases
from SVLDRLCore.jobs.audit import audit
from SVLDRLCore.models.trained_model import load_model

PATCH, BARELY_MORE = (48, 48, 48), (52, 54, 54)
FEWER, MORE = 4, 12
"""Cases of two audits: what more of them take more is a case's time, without what is done once."""


@group("reviews")
def review_rows(folder: Path) -> Iterator[Row]:
    """Voxels of the windows of a case that barely exceeds the patch; an audit's case."""
    mask = np.zeros((1, *BARELY_MORE), np.uint8)
    mask[:, 18:34, 18:34, 18:34] = 1
    case = in_memory("case", mask.astype(np.float32), mask, (2.0, 2.0, 2.0), PATCH)
    network, seen = network_of(1, feature_size=8), 0

    def as_the_image_shows(x: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += x[:, 0].numel()
        return torch.cat([0.5 - x, x - 0.5], 1) * 20

    network.forward = as_the_image_shows
    config = load_config("general", "extended", {"data": {"patch_size": list(PATCH)}})
    list(predict_cases(network, [case], config, False, torch.device("cpu"), lambda: None, near_labels=True))
    yield Row("voxels that a review predicts", seen, case.image.numel(), 1.5, "the case's voxels", unit="voxels")
    model = small_model(folder, steps=60)
    trained, took = load_model(model), {}
    for count in (FEWER, MORE):
        data = write_phantom_dataset(folder / f"cases_{count}", count, 0, seed=1, size_dhw=(48, 80, 80))
        plain = cpu_seconds(lambda data=data: _predicted(data, trained))
        output = folder / f"audit_{count}"
        took[count] = (
            cpu_seconds(lambda data=data, out=output: audit(data, model=model, output=out, device="cpu")),
            plain,
        )
    ours, reference = (more - fewer for fewer, more in zip(took[FEWER], took[MORE]))
    yield Row(f"an audit's {MORE - FEWER} more cases", ours, reference, 1.5, "predicting them")


def _predicted(datalist: Path, trained: object) -> None:
    from SVLDRLCore.data.cases import load_image
    from SVLDRLCore.files.datalist import load_datalist
    from SVLDRLCore.mask_refinement.editing import predict

    for case in load_datalist(datalist).training:
        image = load_image(case, trained.config.data)  # type: ignore[attr-defined]
        predict(trained, image.array)  # type: ignore[arg-type]
