"""What a run leaves beside its models: tables and pictures of what its reviews found."""

from __future__ import annotations

import contextlib

from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.adaptation_report import write_adaptation_report
from SVLDRLCore.evaluation.figures import reliability_figure
from SVLDRLCore.evaluation.tables import csv_text
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.training.run import RunResult


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
