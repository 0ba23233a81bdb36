"""What a run leaves: its models, with tables and pictures of what its reviews found."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.adaptation_report import write_adaptation_report
from SVLDRLCore.evaluation.figures import reliability_figure
from SVLDRLCore.evaluation.tables import csv_text
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.mask_refinement.guard_file import guard_files
from SVLDRLCore.models.card import write_model_card
from SVLDRLCore.models.package import save_package
from SVLDRLCore.models.trained_model import package_calibration, package_config, package_tensors
from SVLDRLCore.training.registry import card_words
from SVLDRLCore.training.run import RunResult


def write_models(
    given: RunInput, result: RunResult, labels: dict[int, str], folder: RunFolder, with_best: bool = True
) -> Path:
    """Save the last model, before it the best one on held-out cases; returns the last one's package.

    Args:
        labels: label value -> name, of the data list.
        with_best: False where no case was held out to choose it by.
    """
    config = package_config(given.config, given.method, given.training[0].image.shape[0], given.structures)
    table = {value: {"name": name} for value, name in labels.items()}
    numbers = {"Dice on held-out cases (their labels are noisy, too)": round(result.best_score, 2)}
    card = write_model_card(
        config,
        table,
        card_words(given.method, given.config),
        {
            **_counted(given),
            **({"begun with": given.begun_with} if given.begun_with else {}),
            "trusted cases": sum(case.trusted for case in given.training),
            "steps": given.config.train.steps,
            "minutes": round(sum(result.stage_seconds.values()) / 60, 1),
        },
        numbers if given.held_out else {},
        result.warnings,
    )
    extra = {"stage_seconds.json": json.dumps(result.stage_seconds).encode(), **reliability_files(result)}
    extra |= package_calibration(result.mask_network, given.structures)
    extra |= adaptation_files(result, given, folder)
    best = [(folder.best_model, result.best_network, result.best_guard)] if with_best else []
    for path, weights, guard in (*best, (folder.model, result.network, result.guard)):
        save_package(
            path,
            tensors=package_tensors(weights, result.mask_network),
            config=config,
            labels=table,
            training_rows=result.rows,
            card=card,
            extra=extra | guard_files(guard, given.structures.names),
            overwrite=True,
        )
    return folder.model


def reliability_files(result: RunResult) -> dict[str, bytes]:
    """Weights and cues of all cases as a table, and as a plot where matplotlib is installed."""
    if not result.reliability:
        return {}
    files = {"reliability.csv": csv_text(result.reliability).encode()}
    try:
        plot = reliability_figure(result.reliability)
    except InputError:  # the report extra is not installed: the table must do
        plot = None
    return files | ({"reliability.svg": plot} if plot else {})


def adaptation_files(result: RunResult, given: RunInput, folder: RunFolder) -> dict[str, bytes]:
    """The rounds of an adaptation as a table; as a report in the run's folder where its extra is installed."""
    rounds = result.findings.get("rounds") or []
    if not rounds:
        return {}
    with contextlib.suppress(InputError):  # the report extra is not installed: the table must do
        write_adaptation_report(
            folder.path / "adaptation.html", given.structures.names, rounds, result.findings["pictures"], result.rows
        )
    return {"adaptation.csv": csv_text(rounds).encode()}


def _counted(given: RunInput) -> dict[str, int]:
    unlabelled = sum(case.unlabelled for case in given.training)
    if not unlabelled:
        return {"cases": len(given.training)}
    return {"labelled cases": len(given.training) - unlabelled, "images without labels": unlabelled}
