"""What a benchmark measures of a trained run: clean labels are read here alone, after the training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.stats import mannwhitneyu

from SVLDRLCore.benchmarking.folder import BenchmarkFolder
from SVLDRLCore.benchmarking.plan import Job
from SVLDRLCore.benchmarking.results import pack_masks, reference_arrays, write_arrays
from SVLDRLCore.data.cases import TrainingCase, load_training_case
from SVLDRLCore.evaluation.metrics import METRIC_NAMES, SHARE_NAMES, mask_metrics
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.inference.sliding_window import predict_probabilities
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.device import choose_device
from SVLDRLCore.masks.pieces import without_fragments
from SVLDRLCore.models.trained_model import TrainedModel, load_model


def evaluate_job(
    folder: BenchmarkFolder, job: Job, run: Path, datalist: Path, keep_largest: bool, control: JobControl
) -> list[dict[str, Any]]:
    """Metrics of a run's last model on the clean validation cases; its masks and, once, the references are saved."""
    model = load_model(run)
    device = choose_device(model.config.train.device)
    model.network.to(device)
    rows: list[dict[str, Any]] = []
    saved: dict[str, np.ndarray] = {}
    references: dict[str, np.ndarray] = {}
    clock = process_clock(device.type == "cpu")
    for listed in load_datalist(datalist).validation:
        control.check()
        case = load_training_case(listed, model.config.data, model.structures)
        began = clock()
        predicted = predict_masks(model, case, device, keep_largest)
        seconds = clock() - began
        padded = case.valid[0].numpy() == 0 if case.ignored is None else (case.valid[0].numpy() == 0) & ~case.ignored
        inside = ndimage.find_objects((~padded).astype(np.uint8))[0]  # without what was padded to the patch size
        ignored = None if case.ignored is None else case.ignored[inside]
        image, truth = case.image.numpy()[:, *inside], case.masks.numpy()[:, *inside] > 0
        predicted = predicted[:, *inside]
        saved[case.name] = pack_masks(predicted)
        references |= reference_arrays(case.name, image, truth, case.spacing_dhw)
        rows += [
            {"case": case.name, "structure": name, **_numbers(ours, theirs, case, ignored), "predict_seconds": seconds}
            for name, ours, theirs in zip(model.structures.names, predicted, truth)
        ]
    folder.masks.mkdir(exist_ok=True)
    write_arrays(folder.masks / f"{job.name}.npz", saved)
    if not folder.reference_masks.is_file():
        write_arrays(folder.reference_masks, references)
    return rows


def predict_masks(model: TrainedModel, case: TrainingCase, device: torch.device, keep_largest: bool) -> np.ndarray:
    """Boolean masks (C, D, H, W) of a case on its training grid; the sliding window is the training patch."""
    structures, patch = model.structures, model.config.data.patch_size
    maps = predict_probabilities(
        model.network, case.image, patch, structures.nested, batch_size=8, device=device, name=model.name
    )
    masks = structures.masks(structures.label_map(maps))
    return largest_components(masks) if keep_largest else masks


def _numbers(
    predicted: np.ndarray, truth: np.ndarray, case: TrainingCase, ignored: np.ndarray | None
) -> dict[str, float | None]:
    """The metrics of a structure; none where neither mask has it, as it has no part in means."""
    metrics = mask_metrics(predicted, truth, case.spacing_dhw, ignored=ignored)
    names = (*METRIC_NAMES, *SHARE_NAMES)
    return {name: None if metrics.status == "absent" else getattr(metrics, name) for name in names}


def weight_auc(reliability: Path, corruption: Path) -> float | None:
    """Chance that a clean case weighs more than a corrupted one; None without weights or without one of the two.

    The Mann-Whitney statistic over the product of the numbers of cases. Which cases are corrupted is read here
    only, after the training.
    """
    if not reliability.is_file() or not corruption.is_file():
        return None
    weights = {row["case"]: row["weight"] for row in json.loads(reliability.read_text("utf-8"))["cases"]}
    corrupted = {row["case"]: row["corrupted"] for row in json.loads(corruption.read_text("utf-8"))["cases"]}
    good, bad = ([w for name, w in weights.items() if corrupted[name] == wanted] for wanted in (False, True))
    if not good or not bad:
        return None
    return float(mannwhitneyu(good, bad, method="asymptotic").statistic / (len(good) * len(bad)))


def largest_components(masks: np.ndarray) -> np.ndarray:
    """Of each of the masks (C, D, H, W) the largest component alone, by the rule of `refine --keep-largest`."""
    one = {0: (1,)}  # each mask is a label map of its own: nothing lies around or inside it
    return np.stack([without_fragments(mask.astype(np.uint8), one, [0], 0, keep_largest=True) > 0 for mask in masks])


def process_clock(on_cpu: bool) -> Callable[[], float]:
    """Seconds of the CPU there, else as they pass: a GPU's work is not this process's."""
    return time.process_time if on_cpu else time.perf_counter
