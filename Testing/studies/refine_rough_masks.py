"""Refinement of rough masks of the clean validation cases, at several kinds and strengths of error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SVLDRLCore.data.cases import TrainingCase, load_training_cases
from SVLDRLCore.data.datalist import load_datalist
from SVLDRLCore.data.noise import roughen_border, shift_border
from SVLDRLCore.evaluation.metrics import mask_metrics
from SVLDRLCore.events import EventLog
from SVLDRLCore.exchange.trained_model import load_model
from SVLDRLCore.inference.refinement import DEFAULT_TRUST, agent_inputs, edited, predict, threshold_of
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.source_model import source_model_labels

TRUSTS = (0.0, 0.25, 0.5, 0.75, 0.9)


def rough_masks(case: TrainingCase, made_by_network: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Boolean masks (D, H, W): each voxel centre within 1, 2, 4 mm of the border switched, and more."""
    mask, spacing = case.masks[0].numpy() > 0, case.spacing_dhw
    made = {f"erosion {d} mm": shift_border(mask, spacing, -d) for d in (1, 2, 4)}
    made |= {f"dilation {d} mm": shift_border(mask, spacing, d) for d in (1, 2, 4)}
    made["irregular border"] = roughen_border(mask, spacing, 3.0, 6.0, rng)
    made["network's (SFDA)"] = made_by_network
    made["clean"] = mask
    return made


def refine_rows(folder: Path, clean: Path, corrupted: Path, seed: int) -> list[dict[str, Any]]:
    """A row a case and kind: Dice and ASD before, of the prediction without a mask, and after at each trust."""
    assert DEFAULT_TRUST in TRUSTS
    model = load_model(folder)
    if model.mask_network is None:
        raise SystemExit(f"{folder} has no mask agents")
    cases = load_training_cases(load_datalist(clean).validation, model.config.data, model.structures)
    listed = load_datalist(clean)
    names = json.loads((corrupted.parent / "corruption.json").read_text())["source_cases"]
    source = load_training_cases(
        [case for case in listed.training if case.name in names], model.config.data, model.structures
    )
    with EventLog(None) as events:
        weak, _ = source_model_labels(
            source, cases, model.config, model.structures, lowest_dice=0.70, highest_dice=0.75, largest_steps=400,
            device=torch.device("cpu"), events=events, control=JobControl(),
        )  # fmt: skip
    rng = np.random.default_rng([seed, 5])
    rows = []
    for case, network_made in zip(cases, weak):
        image, truth = case.image.numpy(), case.masks[0].numpy() > 0
        prediction = predict(model, image, batch_size=8)
        alone = mask_metrics(prediction[0] > 0.5, truth, case.spacing_dhw)
        for kind, rough in rough_masks(case, network_made[0] > 0.5, rng).items():
            before = mask_metrics(rough, truth, case.spacing_dhw)
            row = {"case": case.name, "kind": kind, "before": before.dice, "before_asd": before.asd_mm,
                   "prediction": alone.dice, "prediction_asd": alone.asd_mm}  # fmt: skip
            inputs = agent_inputs(model, 0, image, rough.astype(np.float32), prediction[0], case.spacing_dhw)
            beliefs = edited(model, inputs, [threshold_of(trust) for trust in TRUSTS], batch_size=8)
            for trust, belief in zip(TRUSTS, beliefs):
                after = mask_metrics(belief > 0.5, truth, case.spacing_dhw)
                row |= {f"after {trust}": after.dice, f"after_asd {trust}": after.asd_mm}
            rows.append(row)
    return rows
