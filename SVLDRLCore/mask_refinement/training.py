"""Transition and Full RL: the mask's agents are trained behind a trained network, on its predictions of the cases whose
labels have a high weight.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from SVLDRLCore.config.settings import Config, OptimiserConfig
from SVLDRLCore.config.stage_steps import mask_stage_steps
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.events import EventLog
from SVLDRLCore.inference.case_predictions import predict_cases
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.label_quality.review import MOST_MASK_CASES, LabelReview
from SVLDRLCore.learning import distributed
from SVLDRLCore.learning.checkpoints import has_checkpoint
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.learning.stages import Stage, stages_of
from SVLDRLCore.learning.trainer import Trainer
from SVLDRLCore.learning.trainer_parts import Hooks, PartOfJob
from SVLDRLCore.mask_refinement.generalisation import generalisation_factors
from SVLDRLCore.mask_refinement.method import MaskAgents
from SVLDRLCore.mask_refinement.patches import MaskPatchSampler
from SVLDRLCore.masks.dice import dice_of_structures
from SVLDRLCore.models.trained_model import build_mask_network
from SVLDRLCore.networks.mask_agent_network import MaskAgentNetwork


def train_mask_agents(
    given: RunInput,
    predictor: nn.Module,
    review: LabelReview,
    folder: RunFolder | None,
    events: EventLog,
    control: JobControl,
    resume: bool,
    part: PartOfJob,
) -> Trainer:
    """Transition and Full RL behind `predictor`; the agents' weights are the trainer's.

    Raises:
        Cancelled: the user stopped it; a checkpoint is written.
    """
    config, agents = given.config, given.config.mask_agents
    weights = review.weights
    chosen = [i for i in np.argsort([-w for w in weights], kind="stable").tolist() if weights[i] >= 0.1]
    chosen = sorted(chosen[:MOST_MASK_CASES]) or list(range(min(len(weights), MOST_MASK_CASES)))
    cases = [given.training[i] for i in chosen]
    made = distributed.from_first(
        lambda: _as_tensors(_snapshots_predictions(given, predictor, review, chosen, events, control))
    )
    predictions = [[maps.numpy() for maps in row] for row in made]
    torch.manual_seed(config.train.seed + 2)
    network = build_mask_network(config, cases[0].image.shape[0], given.structures)
    generator = torch.Generator().manual_seed(config.train.seed + 3)
    method = MaskAgents(network, agents, generator)
    trust = [weights[i] for i in chosen]
    sampler = MaskPatchSampler(
        cases, predictions, config.data, agents, config.train.batch_size, config.train.seed, trust
    )
    sampler.order.weigh(trust, config.reliability.floor)
    factors = distributed.from_first(
        lambda: _generalisation_factors(given, predictor, cases, predictions, trust, events, control)
    )
    network.calibrate(
        [replace(usual, generalisation_factor=each) for usual, each in zip(sampler.calibrations, factors)]
    )
    trainer = Trainer(
        method, sampler, mask_stages(network, config), mask_optimiser(config), config.train,
        device=given.device, events=events, control=control,
        checkpoint=None if folder is None else folder.mask_checkpoint, hooks=Hooks(generators={"agents": generator}),
        bound=given.bound, part=part,
    )  # fmt: skip
    if distributed.from_first(lambda: resume and folder is not None and has_checkpoint(folder.mask_checkpoint)):
        trainer.resume()
    trainer.run()
    return trainer


def _as_tensors(predictions: list[list[np.ndarray]]) -> list[list[torch.Tensor]]:
    """The same memory, in a form that can be sent."""
    return [[torch.from_numpy(maps) for maps in row] for row in predictions]


def _generalisation_factors(
    given: RunInput,
    predictor: nn.Module,
    cases: list[TrainingCase],
    predictions: list[list[np.ndarray]],
    weights: list[float],
    events: EventLog,
    control: JobControl,
) -> list[float]:
    """How careful the agents must be on new cases, a structure at a time, from the final predictions."""
    learned = [
        dice_of_structures(case.masks.numpy(), shown[-1], case.ignored)
        for case, shown, weight in zip(cases, predictions, weights)
        if weight >= 0.5
    ]
    nested = given.structures.nested
    new = predict_cases(predictor, given.held_out, given.config, nested, given.device, control.check, events.warn)
    unseen = [dice_of_structures(case.masks.numpy(), maps, case.ignored) for case, maps in new]
    count = len(given.structures.names)
    return generalisation_factors(*(np.reshape(dice, (-1, count)) for dice in (learned, unseen)))


def factors_of(network: nn.Module) -> list[float]:
    """How careful the agents of a network are on new cases, one number a structure."""
    assert isinstance(network, MaskAgentNetwork)
    return network.generalisation_factors


def mask_optimiser(config: Config) -> OptimiserConfig:
    """The run's optimiser settings, whatever the variant: AdamW with clipping and averaging."""
    return replace(config.optimiser, name="adamw")


def mask_stages(network: nn.Module, config: Config) -> tuple[Stage, ...]:
    """Transition, then Full RL; all parts of the agents' network learn in both."""
    steps, parts = mask_stage_steps(config), tuple(name for name, _ in network.named_children())
    return stages_of(steps, dict.fromkeys(steps, parts))


def _snapshots_predictions(
    given: RunInput,
    predictor: nn.Module,
    review: LabelReview,
    chosen: list[int],
    events: EventLog,
    control: JobControl,
) -> list[list[np.ndarray]]:
    """For each chosen case the predictions of the models at the reviews and of the final one (last).

    What a review has predicted in this process is taken as it is. The final one predicts whole cases, as at
    refinement: agents that learned from single windows moved borders less (1 mm too wide: Dice 87.6 instead of 89.4).
    """
    final = {k: v.detach().clone() for k, v in predictor.state_dict().items()}
    networks = [*review.snapshots, final]
    cases = [given.training[i] for i in chosen]
    made: list[list[np.ndarray]] = [[] for _ in cases]
    try:
        for index, weights in enumerate(networks):
            known = review.predictions[index] if index < len(review.predictions) else []
            if known:
                for n, i in enumerate(chosen):
                    made[n].append(known[i])
                continue
            predictor.load_state_dict(weights)
            nested, device = given.structures.nested, given.device
            predicted = predict_cases(
                predictor, cases, given.config, nested, device, control.check, events.warn,
                near_labels=review.near_labels and index < len(review.snapshots),
            )  # fmt: skip
            for n, (_, maps) in enumerate(predicted):
                made[n].append(maps.astype(np.float16))
                events.progress(index * len(cases) + n + 1, len(networks) * len(cases), "preparing mask agents")
    finally:
        predictor.load_state_dict(final)
    return made
