"""Learning the guard at a training's end: the finished model refines crops of its own cases, as is and made poorer.

Labels stay right when images are made poorer, so that each refinement's gain is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from SVLDRLCore.config.settings import DataConfig
from SVLDRLCore.config.stage_steps import mask_stage_steps
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.random_degradation import KINDS, degraded_at_random
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.mask_refinement.editing import box_near, predict, refined_belief
from SVLDRLCore.mask_refinement.guard import Guard, Sample, fit_guard, usual_images
from SVLDRLCore.mask_refinement.guard_signs import MARGIN_MM, doubt_of, likeness_of, signs_of
from SVLDRLCore.mask_refinement.limits import DEFAULT_TRUST
from SVLDRLCore.masks.borders import FAR_APART_MM, signed_distance
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.corruption import Corruption, border_places, draw_ball, draw_smooth_field
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.models.trained_model import TrainedModel
from SVLDRLCore.networks.mask_agent_network import MaskAgentNetwork
from SVLDRLCore.networks.segmentation_network import SegmentationNetwork

MOST_CASES, FEWEST_CASES = 12, 4
STEPS_SHARE = 4.0
"""Cases: the root of the training's steps, divided by this, so that learning the guard takes a tenth of it or less."""
MOST_IMAGES = 40
"""On which it is looked at what is usual: without a prediction, an image takes some 20 ms."""
TRUSTED = 0.5
"""Weight of a label that is taken for right."""
POORER = 2
"""Of each case, images made poorer ..."""
SPOILED = 2
"""... and of each image, wrong masks to refine, beside the right one."""
OVERLAP = 0.25


def cases_for(steps: int) -> int:
    """How many cases to learn from after a training of so many steps; 0 for one too short to learn from.

    Example:
        >>> [cases_for(steps) for steps in (100, 440, 1300, 5000)]
        [0, 5, 9, 12]
    """
    count = int(math.sqrt(steps) / STEPS_SHARE)
    return 0 if count < FEWEST_CASES else min(count, MOST_CASES)


def guard_after_training(
    given: RunInput,
    predictor: nn.Module,
    agents: nn.Module,
    weights: Sequence[float],
    events: EventLog,
    control: JobControl,
) -> Guard | None:
    """The guard of a run's last networks, of which none is changed; `learn_guard`.

    Args:
        weights: how far the label of each training case is trusted.
    """
    config, channels = given.config, given.training[0].image.shape[0]
    steps = config.train.steps + sum(mask_stage_steps(config).values())
    if not cases_for(steps):
        return None
    assert isinstance(predictor, SegmentationNetwork)
    assert isinstance(agents, MaskAgentNetwork)
    was_training = predictor.training, agents.training
    model = TrainedModel(predictor.eval(), agents.eval(), config, given.structures, channels, {}, given.method)

    def progress(done: int, total: int) -> None:
        control.check()
        events.progress(done, total, "learning when the model helps")

    try:
        return learn_guard(
            model, given.training, weights, steps, config.train.seed, device=given.device, progress=progress
        )
    finally:
        predictor.train(was_training[0])
        agents.train(was_training[1])


def learn_guard(
    model: TrainedModel,
    cases: Sequence[TrainingCase],
    weights: Sequence[float],
    steps: int,
    seed: int,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Guard | None:
    """When a finished model's mask agents help; None where there are too few cases, or no mask agents.

    Args:
        cases: of the training; weights: how far the label of each is trusted.
        steps: of the training, see `cases_for`.
        progress: told cases done and all; what it raises (a cancel) ends the learning.
    """
    rng = np.random.default_rng([seed, 5])
    usable = [_without_padding(case) for case, weight in zip(cases, weights) if weight >= TRUSTED and _is_whole(case)]
    usable = [usable[i] for i in rng.permutation(len(usable))[:MOST_IMAGES]]
    chosen = usable[: cases_for(steps)]
    if model.mask_network is None or len(chosen) < FEWEST_CASES:
        return None
    samples: list[Sample] = []
    likeness: dict[int, list[np.ndarray]] = {}
    doubts: dict[int, list[float]] = {}
    for case in usable:
        for structure, found in _likeness(model, case).items():
            likeness.setdefault(structure, []).append(found)
    for number, case in enumerate(chosen):
        if progress is not None:
            progress(number, len(chosen))
        present = [index for index, mask in enumerate(case.masks) if bool(mask.any())]
        structure = present[number % len(present)]
        made, doubt = _samples(model, case, number, structure, rng, device)
        samples += made
        doubts.setdefault(structure, []).append(doubt)
    return fit_guard(samples, usual_images(likeness, doubts))


def _without_padding(case: TrainingCase) -> TrainingCase:
    """The case as it is refined: what was added to reach the patch's size is no image."""
    if (padding := case.padding) is None:
        return case
    box = bounding_box(~padding, (0, 0, 0))
    kept = (slice(None), *box)
    return replace(case, image=case.image[kept], masks=case.masks[kept], valid=case.valid[kept])


def _is_whole(case: TrainingCase) -> bool:
    """Whether everything is labelled, and something shown."""
    return case.ignored is None and not case.missing and bool(case.masks.any())


def _likeness(model: TrainedModel, case: TrainingCase) -> Mapping[int, np.ndarray]:
    found = {}
    for structure, mask in enumerate(case.masks.numpy() > 0):
        if not mask.any():
            continue
        box = bounding_box(mask, [MARGIN_MM / s for s in case.spacing_dhw])
        channel = case.image[model.agents.calibration_of(structure).channel].numpy()[box]
        found[structure] = likeness_of(mask[box], mask[box], channel, case.spacing_dhw)
    return found


def _samples(
    model: TrainedModel,
    case: TrainingCase,
    number: int,
    structure: int,
    rng: np.random.Generator,
    device: torch.device | str,
) -> tuple[list[Sample], float]:
    """Refinements of one structure, and the model's doubt on the image as it is."""
    whole, spacing, data = case.masks[structure].numpy() > 0, case.spacing_dhw, model.config.data
    box = box_near(whole[None], whole.shape, spacing, MARGIN_MM, data.patch_size)
    label, samples, doubt = whole[box], [], 0.0
    for kind in _kinds(number):
        image = degraded_at_random(case.image.numpy(), spacing, kind, rng)
        image = image if kind == KINDS[0] else in_range_of(image, data)
        image = np.ascontiguousarray(image[(slice(None), *box)])
        found = predict(model, image, overlap=OVERLAP, device=device)
        if kind == KINDS[0]:
            doubt = doubt_of(found[structure])
        for turn, mask in enumerate(_masks(label, spacing, rng)):
            rough = np.zeros((len(found), *mask.shape), np.float32)
            rough[structure] = mask
            belief = refined_belief(
                model, image, rough, found, spacing, [structure], trust=DEFAULT_TRUST, overlap=OVERLAP, device=device
            )
            changed = belief[structure] > 0.5
            if not mask.any() or not changed.any() or np.array_equal(mask, changed):
                continue
            usual = model.agents.calibration_of(structure)
            seen = signs_of(mask, changed, found[structure], image, spacing, usual)
            gain = 100.0 * (dice_of(changed, label) - dice_of(mask, label))
            samples.append(Sample(number, structure, seen, gain, kind == KINDS[0], turn == 0))
    return samples, doubt


def _kinds(number: int) -> list[str]:
    """The image as it is, then kinds of poorer ones in turn: after four cases each was there."""
    return [KINDS[0], *(KINDS[1 + (POORER * number + n) % (len(KINDS) - 1)] for n in range(POORER))]


def in_range_of(image: np.ndarray, data: DataConfig) -> np.ndarray:
    """Grey values in [0, 1] again, as the image would be read; windows of absolute values stay."""
    if data.intensity != "percentile":
        return image
    made = []
    for channel in image:
        low, high = np.percentile(channel, [data.intensity_low, data.intensity_high])
        made.append(np.clip((channel - low) / max(high - low, 1e-6), 0.0, 1.0))
    return np.stack(made).astype(np.float32)


def _masks(label: np.ndarray, spacing: Sequence[float], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The label, then wrong masks: border moved and roughened, a missing part or a leak, empty slices."""
    yield label
    voxel = float(np.exp(np.mean(np.log([s for s in spacing if s < FAR_APART_MM]))))
    distance = np.clip(signed_distance(label, tuple(spacing)), -1e3, 1e3).astype(np.float32)
    inside, border = border_places(distance, spacing)
    for _ in range(SPOILED):
        kind = int(rng.integers(4))
        if kind <= 1 or not len(border):
            field = draw_smooth_field(spacing, rng.uniform(2.0, 6.0) * voxel, rng)
            wrong = Corruption(rng.uniform(-2.0, 2.0) * voxel, rng.uniform(0.0, 1.5) * voxel, field)
        elif kind == 2:
            wrong = Corruption(ball=draw_ball(inside, border, spacing, (0.03, 0.3), rng))
        else:
            every = int(rng.integers(2, 6))
            wrong = Corruption(gaps=(every, int(rng.integers(every))))
        yield wrong.of(distance, tuple(slice(0, n) for n in label.shape))
