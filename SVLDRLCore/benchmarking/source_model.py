"""Labels made by a network that was trained on few cases (SFDA noise, SVL-DRL section 4.3)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch

from SVLDRLCore.baselines.supervised import Supervised
from SVLDRLCore.config.settings import Config, StageConfig, with_values
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import PatchSampler
from SVLDRLCore.events import EventLog
from SVLDRLCore.inference.case_predictions import predict_cases
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.method import MethodInput
from SVLDRLCore.learning.stages import plan_stages
from SVLDRLCore.learning.trainer import Trainer
from SVLDRLCore.learning.trainer_parts import Hooks
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.known_voxels import where_known
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.models.trained_model import build_networks

CHECKED_CASES = 8


def source_model_labels(
    source: Sequence[TrainingCase],
    target: Sequence[TrainingCase],
    config: Config,
    structures: Structures,
    *,
    lowest_dice: float,
    highest_dice: float,
    largest_steps: int,
    device: torch.device,
    events: EventLog,
    control: JobControl,
) -> tuple[list[np.ndarray], int]:
    """Probabilities (C, D, H, W) for each target case by a model of `source`, and the step it stopped at.

    Training stops as soon as the labels of up to eight target cases reach a mean Dice of `lowest_dice` against
    their own labels, which are used for that alone; of the models seen, the one nearest to the middle of the
    range is taken (also where `largest_steps` were not enough).
    """
    config = with_values(
        config,
        train={"steps": largest_steps, "validate_every": 10, "steps_per_epoch": 10},
        optimiser={"poly_power": 0.0, "ema_decay": 0.9},
        reliability={"enabled": False},
    )
    torch.manual_seed(config.train.seed)
    network = build_networks(config, source[0].image.shape[0], structures)
    checked = list(target[:CHECKED_CASES])
    wanted = 0.5 * (lowest_dice + highest_dice)
    best: dict[str, float] = {"distance": np.inf, "step": 0}
    kept: dict[str, torch.Tensor] = {}

    class EnoughError(Exception):
        pass

    def validate(net: torch.nn.Module) -> dict[str, float]:
        predicted = predict_cases(net, checked, config, structures.nested, device, control.check, events.warn)
        dice = mean_dice([maps > 0.5 for _, maps in predicted], checked)
        if abs(dice - wanted) < best["distance"]:
            best.update(distance=abs(dice - wanted), step=trainer.step)
            kept.update({k: v.detach().clone() for k, v in net.state_dict().items()})
        if dice >= lowest_dice:
            raise EnoughError
        return {"label_dice": dice}

    trainer = Trainer(
        Supervised(MethodInput(network, config, structures.nested)),
        PatchSampler(source, config.data, config.train.batch_size, config.train.seed),
        plan_stages(largest_steps, StageConfig(warm_up=1.0, transition=0.0, full_rl=0.0)),
        config.optimiser,
        config.train,
        device=device,
        events=events,
        control=control,
        hooks=Hooks(validate=validate),
    )
    with contextlib.suppress(EnoughError):
        trainer.run()
    trainer.predictor.load_state_dict(kept)
    made = []
    predicted = predict_cases(
        trainer.predictor, target, config, structures.nested, device, control.check, events.warn, overlap=0.5
    )
    for done, (_, maps) in enumerate(predicted, start=1):
        made.append(maps)
        events.progress(done, len(target), "labelling")
    return made, int(best["step"])


def mean_dice(masks: Sequence[np.ndarray], cases: Sequence[TrainingCase]) -> float:
    """Mean Dice of boolean masks (C, D, H, W) against the cases' labels, structures and cases alike."""
    pairs = [(where_known(m, c.ignored), where_known(c.masks.numpy() > 0, c.ignored)) for m, c in zip(masks, cases)]
    scores = [dice_of(m, t) for mask, truth in pairs for m, t in zip(mask, truth)]
    return float(np.mean(scores))
