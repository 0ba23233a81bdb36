"""`svldrl demo`: noisy phantoms, the three stages, mask agents, refined masks and a report, in a few minutes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.atomic_files import write_json_atomically
from SVLDRLCore.config.building import LARGEST_SEED, require_number
from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.metrics import definition_text, mask_metrics
from SVLDRLCore.evaluation.report import CasePicture, write_report
from SVLDRLCore.evaluation.tables import text_table
from SVLDRLCore.events import (
    EventLog,
    Listener,
    TimeLeft,
    failures_told,
    passing_on,
)
from SVLDRLCore.file_places import require_output_folder
from SVLDRLCore.files.volumes import read_label
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.demo_cases import (
    SPACING_DHW,
    HeldOutCase,
    label_dice,
    write_held_out_cases,
    write_training_data,
)
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.models.package import ModelPackage, load_package
from SVLDRLCore.scratch_folders import put_folder, scratch_folder
from SVLDRLCore.training.train import train

MARKER = "demo.json"
"""Lists what a demo wrote, so that the next one knows what it may replace."""


@dataclass(frozen=True)
class _Scale:
    """How much of everything; the steps are the preset's but for `overrides`."""

    training: int
    held_out: int
    size_dhw: tuple[int, int, int]
    overrides: dict[str, Any] = field(default_factory=dict)


_FULL = _Scale(training=20, held_out=6, size_dhw=(24, 48, 48))
_QUICK = _Scale(
    training=6,
    held_out=2,
    size_dhw=(16, 32, 32),
    overrides={
        "data": {"patch_size": [16, 16, 16]},
        "train": {"steps": 20, "steps_per_epoch": 2, "validate_every": 10},
        "mask_agents": {"transition_steps": 8, "full_rl_steps": 4},
    },
)


def demo(
    output: str | Path = "demo",
    seed: int = 0,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
    quick: bool = False,
) -> str:
    """Train on noisy phantoms, refine rough masks of other phantoms, and report before against after.

    Args:
        output: a new folder, an empty one, or an earlier demo's, which is replaced once this one is complete:
            `report.html`, `summary.json`, `data` (the training set), `model`, and `images`, `rough`, `refined`
            and `true` with the held-out cases, for Slicer.
        seed: of phantoms, label noise, training and rough masks.
        listeners: called with each event.
        control: to pause or cancel from another thread.
        quick: tiny phantoms and tens of steps, to see that everything runs; the masks get no better.

    Returns:
        The table of Dice and HD95 (mm) before and after, for each case and on average.

    Raises:
        InputError: the folder holds files that no demo wrote (nothing is touched), or the report cannot be drawn.
        Cancelled: stopped; the folder is as it was.
    """
    output, control = Path(output).resolve(), control or JobControl()
    seen: list[dict[str, Any]] = []
    with EventLog(None, [seen.append, *listeners]) as events:
        events.emit("started", job="demo", output=str(output), seed=seed)
        with failures_told(events):
            require_number("seed", seed, 0, LARGEST_SEED, whole=True)
            _require_report_extra()
            _refuse_foreign_files(output)
            with scratch_folder(output.parent) as scratch:
                table = _build(scratch, _QUICK if quick else _FULL, seed, events, seen, control)
                put_folder(scratch / "demo", output)
        events.emit("finished", output=str(output), report=str(output / "report.html"))
    return table


def _build(
    scratch: Path, scale: _Scale, seed: int, events: EventLog, seen: list[dict[str, Any]], control: JobControl
) -> str:
    """The whole demo in `scratch`/demo; returns the table."""
    build, times = scratch / "demo", [time.monotonic()]
    events.progress(0, scale.held_out, "making phantoms")
    datalist = write_training_data(build / "data", scale.training, scale.size_dhw, seed)
    cases = write_held_out_cases(
        build, scale.held_out, scale.size_dhw, seed, _progress("making phantoms", events, control)
    )
    times.append(time.monotonic())
    run = scratch / "training"
    overrides = {**scale.overrides, "train": {**scale.overrides.get("train", {}), "seed": seed}}
    model = train(
        datalist, run, preset="demo", overrides=overrides,
        listeners=[passing_on(events)], control=control,
    )  # fmt: skip
    os.replace(model, build / "model")
    times.append(time.monotonic())
    refined = _refine(build, cases, events, control)
    times.append(time.monotonic())
    package = load_package(build / "model")
    stages = json.loads(package.read_extra("stage_seconds.json"))
    made, trained, refinement = np.diff(times).tolist()
    seconds = {
        "data": made,
        "reading and predicting": trained - sum(stages.values()),
        **stages,
        "refinement": refinement,
    }
    rows = [_row(case, mask) for case, mask in zip(cases, refined)]
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key.endswith(("before", "after"))}
    summary = {**means, "n": len(rows), "seconds": seconds, "seed": seed}
    write_json_atomically(build / "summary.json", summary)
    known, review = label_dice(datalist), json.loads((run / "reliability.json").read_text("utf-8"))
    reliability = [{**row, "label_dice": known[row["case"]]} for row in review["cases"]]
    _write_report(build, package, scale, cases, refined, rows, summary, reliability, seen, events, control)
    files = sorted(path.relative_to(build).as_posix() for path in build.rglob("*") if path.is_file())
    write_json_atomically(build / MARKER, {"made_by": "svldrl demo", "seed": seed, "files": files})
    return _table(rows, means)


def _refine(build: Path, cases: Sequence[HeldOutCase], events: EventLog, control: JobControl) -> list[np.ndarray]:
    """Refined masks (D, H, W), written as `refined`/NAME.seg.nrrd."""
    (build / "refined").mkdir()
    progress, masks = _progress("refining", events, control), []
    progress(0, len(cases))
    for case in cases:
        file = f"{case.name}.seg.nrrd"
        made = refine(
            build / "images" / f"{case.name}.nrrd", build / "rough" / file, model=build / "model",
            output=build / "refined" / file, control=control,
        )  # fmt: skip
        masks.append(read_label(made.output).array > 0)
        for warning in made.warnings:
            events.emit("warning", text=f"{case.name}: {warning}")
        progress(len(masks), len(cases))
    return masks


def _write_report(
    build: Path,
    package: ModelPackage,
    scale: _Scale,
    cases: Sequence[HeldOutCase],
    refined: Sequence[np.ndarray],
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    reliability: Sequence[Mapping[str, Any]],
    seen: Iterable[Mapping[str, Any]],
    events: EventLog,
    control: JobControl,
) -> None:
    progress = _progress("writing the report", events, control)
    progress(0, 1)
    write_report(
        build / "report.html",
        title="SVL-DRL demo: rough masks refined by a model that learned from noisy labels",
        lead=f"The model learned from {scale.training} phantoms, half of whose labels are eroded or dilated by 3 to "
        f"8 mm; nobody told it which. It then refined rough masks of {scale.held_out} other phantoms: the mean Dice "
        f"went from {summary['dice_before']:.3f} to {summary['dice_after']:.3f}.",
        summary=summary,
        cases=[
            CasePicture(case.name, case.image, SPACING_DHW, case.rough, mask, case.true)
            for case, mask in zip(cases, refined)
        ],
        rows=rows,
        events=[record for record in seen if record["event"] in ("stage", "metrics")],
        reliability=reliability,
        notes=_notes(package.config, scale, summary["seed"]),
    )
    progress(1, 1)


def _notes(config: Mapping[str, Any], scale: _Scale, seed: int) -> list[str]:
    size, patch = (" x ".join(map(str, s[::-1])) for s in (scale.size_dhw, config["data"]["patch_size"]))
    training, agents = config["train"], config["mask_agents"]
    return [
        f"Command: svldrl demo --seed {seed}",
        f"Data: phantoms of {size} voxels of 2 mm, all from the seed; no patient's images.",
        f"Settings: preset {config['preset']}, variant {config['variant']}; {training['steps']} steps of warm-up, "
        f"{agents['transition_steps']} of transition, {agents['full_rl_steps']} of full RL; {training['batch_size']} "
        f"patches of {patch} voxels a step. All settings: model/config.json.",
        definition_text(),
    ]


def _row(case: HeldOutCase, refined: np.ndarray) -> dict[str, Any]:
    before, after = (mask_metrics(mask, case.true, SPACING_DHW) for mask in (case.rough, refined))
    return {
        "case": case.name, "rough mask": case.made_by, "dice_before": before.dice, "dice_after": after.dice,
        "hd95_before": before.hd95_mm, "hd95_after": after.hd95_mm,
    }  # fmt: skip


def _table(rows: Sequence[Mapping[str, Any]], means: Mapping[str, float]) -> str:
    """Dice and HD95 before and after, for a terminal."""
    decimals = {"dice_before": 3, "dice_after": 3, "hd95_before": 2, "hd95_after": 2}
    cells = [
        [f"{line['case']:<12}{line['rough mask']}", *(f"{line[key]:.{n}f}" for key, n in decimals.items())]
        for line in [*rows, {"case": "mean", "rough mask": "", **means}]
    ]
    return text_table(["case        rough mask", "Dice before", "after", "HD95 mm before", "after"], cells)


def _progress(stage: str, events: EventLog, control: JobControl) -> Callable[[int, int], None]:
    left = TimeLeft()

    def tell(done: int, total: int) -> None:
        control.check()
        events.progress(done, total, stage, left(done, total, stage))

    return tell


def _require_report_extra() -> None:
    """InputError now rather than after minutes of training."""
    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        raise InputError("report", f"{missing[0]} is not installed", "Install it with: pip install 'svldrl[report]'")


def _refuse_foreign_files(output: Path) -> None:
    """InputError unless the folder is free or holds only what an earlier demo wrote."""
    require_output_folder(output)
    if not output.exists():
        return
    try:
        ours = {MARKER, *json.loads((output / MARKER).read_text("utf-8"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    found = {path.relative_to(output).as_posix() for path in output.rglob("*") if not path.is_dir()}
    foreign = sorted(found - ours)
    if foreign:
        why = f"it holds files that no demo wrote ({', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''})"
        raise InputError(str(output), why, "Choose a new or empty folder")
