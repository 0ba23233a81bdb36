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
from SVLDRLCore.inference.case_predictions import predict_cases
from SVLDRLCore.jobs.audit import audit
from SVLDRLCore.models.trained_model import load_model

PATCH, BARELY_MORE = (48, 48, 48), (52, 54, 54)


@group("reviews")
def review_rows(folder: Path) -> Iterator[Row]:
    """Voxels of the windows of a case that barely exceeds the patch; an audit's case."""
    mask = np.zeros((1, *BARELY_MORE), np.uint8)
    mask[:, 18:34, 18:34, 18:34] = 1
    case = in_memory("case", np.zeros((1, *BARELY_MORE), np.float32), mask, (2.0, 2.0, 2.0), PATCH)
    network, seen = network_of(1, feature_size=8), 0
    forward = network.forward

    def counted(x: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += x[:, 0].numel()
        return forward(x)

    network.forward = counted
    config = load_config("general", "extended", {"data": {"patch_size": list(PATCH)}})
    list(predict_cases(network, [case], config, False, torch.device("cpu"), lambda: None, near_labels=True))
    yield Row("voxels that a review predicts", seen, case.image.numel(), 1.5, "the case's voxels", unit="voxels")
    model = small_model(folder, steps=24)
    datalist = folder / "phantoms_1" / "datalist.json"
    audited = cpu_seconds(lambda: audit(datalist, model=model, output=folder / "audit", device="cpu"))
    trained = load_model(model)
    plain = cpu_seconds(lambda: _predicted(datalist, trained))
    yield Row("audit of four cases", audited, plain, 1.5, "predicting them")


def _predicted(datalist: Path, trained: object) -> None:
    from SVLDRLCore.data.cases import load_image
    from SVLDRLCore.files.datalist import load_datalist
    from SVLDRLCore.mask_refinement.editing import predict

    for case in load_datalist(datalist).training:
        image = load_image(case, trained.config.data)  # type: ignore[attr-defined]
        predict(trained, image.array)  # type: ignore[arg-type]
