"""Refinement of rough masks of a data list's clean validation cases, at many kinds and strengths of error.

    python Testing/studies/refine_rough_masks.py runs/model data/datalist.json results.csv [--seed 0]

The model is one with mask agents (`svldrl train` with the extended variant); its training never saw these cases.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rough_masks import rough_masks

from SVLDRLCore.benchmarking.source_model import source_model_labels
from SVLDRLCore.data.cases import TrainingCase, load_training_cases
from SVLDRLCore.evaluation.metrics import mask_metrics
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.datalist import DataList, load_datalist
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.mask_refinement.editing import (
    agent_inputs,
    edited,
    predict,
)
from SVLDRLCore.mask_refinement.limits import DEFAULT_TRUST
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.pieces import without_far_pieces
from SVLDRLCore.models.trained_model import TrainedModel, load_model

TRUSTS = (0.0, 0.5, 0.9)
LARGEST_NUMBER_OF_CASES = 10
NETWORK_MADE = "network's (SFDA)"
MARGIN_MM = 20.0
"""The agents look at both masks and so much around them; `svldrl refine` looks so far around the rough mask."""
SOURCE_CASES = 2
"""Training cases (clean) that the network learns from whose masks are refined."""


def refine_rows(
    model: TrainedModel, listed: DataList, seed: int, wanted: Sequence[str] = (), trusts: Sequence[float] = TRUSTS
) -> list[dict[str, Any]]:
    """A row a case, structure and kind: Dice and ASD before, of the prediction alone, and after at each trust.

    Args:
        wanted: kinds of error; all where it is empty.
    """
    if model.mask_network is None:
        raise SystemExit("the model has no mask agents")
    cases = load_training_cases(listed.validation[:LARGEST_NUMBER_OF_CASES], model.config.data, model.structures)
    weak = network_made(model, listed, cases) if not wanted or NETWORK_MADE in wanted else None
    rng = np.random.default_rng([seed, 5])
    rows = []
    for number, case in enumerate(cases):
        prediction = predict(model, case.image.numpy(), batch_size=8)
        for structure, name in enumerate(model.structures.names):
            truth = case.masks[structure].numpy() > 0
            if truth.any():
                kinds = rough_masks(truth, case.spacing_dhw, rng)
                if weak is not None:
                    kinds[NETWORK_MADE] = weak[number][structure] > 0.5
                kinds = {kind: rough for kind, rough in kinds.items() if not wanted or kind in wanted}
                place = {"case": case.name, "structure": name}
                rows += [
                    place | row for row in structure_rows(model, case, structure, prediction, truth, kinds, trusts)
                ]
    return rows


def structure_rows(
    model: TrainedModel,
    case: TrainingCase,
    structure: int,
    prediction: np.ndarray,
    truth: np.ndarray,
    kinds: dict[str, np.ndarray],
    trusts: Sequence[float],
) -> list[dict[str, Any]]:
    """Rows of one structure of a case."""
    rows = []
    alone = mask_metrics(prediction[structure] > 0.5, truth, case.spacing_dhw)
    for kind, rough in kinds.items():
        before = mask_metrics(rough, truth, case.spacing_dhw)
        row = {"kind": kind, "before": before.dice, "before_asd": before.asd_mm,
               "prediction": alone.dice, "prediction_asd": alone.asd_mm}  # fmt: skip
        drawn = rough.astype(np.float32)
        for trust, belief in beliefs(model, case, structure, drawn, prediction[structure], trusts).items():
            after = mask_metrics(belief > 0.5, truth, case.spacing_dhw)
            row |= {f"after {trust}": after.dice, f"after_asd {trust}": after.asd_mm}
        rows.append(row)
    return rows


def beliefs(
    model: TrainedModel,
    case: TrainingCase,
    structure: int,
    rough: np.ndarray,
    prediction: np.ndarray,
    trusts: Sequence[float],
) -> dict[float, np.ndarray]:
    """What `refine` makes of a rough mask at each trust; trusts whose agents see the same go together."""
    seen: list[tuple[np.ndarray, list[float]]] = []
    for trust in trusts:
        given = (case.image.numpy(), rough, prediction, case.spacing_dhw)
        inputs = agent_inputs(model, structure, *given, trust)
        same = next((alike for other, alike in seen if np.array_equal(other, inputs)), None)
        if same is None:
            seen.append((inputs, [trust]))
        else:
            same.append(trust)
    made = {}
    near = bounding_box((rough > 0.5) | (prediction > 0.5), [MARGIN_MM / s for s in case.spacing_dhw])
    for inputs, alike in seen:
        maps = edited(model, structure, np.ascontiguousarray(inputs[:, *near]), alike, batch_size=8)
        for trust, inside in zip(alike, maps):
            belief = rough.copy()
            belief[near] = inside
            made[trust] = without_far_pieces(belief, rough, case.spacing_dhw) if trust > 0 else belief
    return made


def network_made(model: TrainedModel, listed: DataList, cases: Sequence[TrainingCase]) -> list[np.ndarray]:
    """Masks of the cases by a network that stopped learning at Dice 0.70 to 0.75 (SFDA noise)."""
    source = load_training_cases(listed.training[:SOURCE_CASES], model.config.data, model.structures)
    with EventLog(None) as events:
        weak, _ = source_model_labels(
            source, cases, model.config, model.structures, lowest_dice=0.70, highest_dice=0.75, largest_steps=400,
            device=torch.device("cpu"), events=events, control=JobControl(),
        )  # fmt: skip
    return weak


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A CSV of rows with the same keys, numbers to four places."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means over cases and structures, Dice in points, as markdown."""
    assert DEFAULT_TRUST in TRUSTS
    head = ["error", "before", "prediction alone", *(f"trust {t:g}" for t in TRUSTS), "worse than before"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of = [row for row in rows if row["kind"] == kind]
        values = [100 * np.mean([r[k] for r in of]) for k in ("before", "prediction", *(f"after {t}" for t in TRUSTS))]
        worse = sum(row[f"after {DEFAULT_TRUST}"] < row["before"] - 1e-9 for row in of)
        lines.append(f"| {kind} | " + " | ".join(f"{value:.1f}" for value in values) + f" | {worse} of {len(of)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("output", type=Path, help="results, .csv; the table of means is printed")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = refine_rows(load_model(given.model), load_datalist(given.datalist), given.seed)
    write_rows(given.output, rows)
    print(table(rows))


if __name__ == "__main__":
    main()
