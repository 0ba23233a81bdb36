"""One run of the three stages: a method's network with label reviews, then the mask's agents behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from SVLDRLCore.config.settings import with_values
from SVLDRLCore.config.stage_steps import mask_stage_steps
from SVLDRLCore.data.cases import as_reviewed
from SVLDRLCore.data.sampler import PairedSampler, PatchSampler
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.inference.case_predictions import predict_cases
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.label_quality.label_agents import enough_trusted
from SVLDRLCore.label_quality.missing_structures import told_of_missing
from SVLDRLCore.label_quality.review import LabelReview
from SVLDRLCore.learning import distributed
from SVLDRLCore.learning.checkpoints import has_checkpoint
from SVLDRLCore.learning.method import Method, MethodInput, RunInput
from SVLDRLCore.learning.run_binding import without_mask_agents
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.learning.segmentation_loss import soft_dice
from SVLDRLCore.learning.stages import TRAINED_PARTS
from SVLDRLCore.learning.trainer import Trainer
from SVLDRLCore.learning.trainer_parts import Hooks, PartOfJob
from SVLDRLCore.mask_refinement.generalisation import what_to_tell
from SVLDRLCore.mask_refinement.guard import Guard
from SVLDRLCore.mask_refinement.guard_learning import guard_after_training
from SVLDRLCore.mask_refinement.training import factors_of, train_mask_agents
from SVLDRLCore.masks.known_voxels import where_known
from SVLDRLCore.models.trained_model import build_networks
from SVLDRLCore.training.registry import make_method, method_named, require_drawn

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class RunResult:
    """What a run made: weights on the CPU, logged rows, reviews and what the user must be told.

    `findings`: what the method's own reviews found; `guard`: when the mask agents are not to be followed;
    `best_guard`: the same with the best network, whose doubt and errors are others.
    """

    network: dict[str, torch.Tensor]
    best_network: dict[str, torch.Tensor]
    mask_network: dict[str, torch.Tensor] | None
    rows: list[dict[str, Any]]
    reliability: list[dict[str, Any]]
    stage_seconds: dict[str, float]
    warnings: list[str]
    best_score: float
    findings: dict[str, Any] = field(default_factory=dict)
    guard: Guard | None = None
    best_guard: Guard | None = None


def run_training(
    given: RunInput, folder: RunFolder | None, events: EventLog, control: JobControl, resume: bool = False
) -> RunResult:
    """Train to the end, or from the checkpoints in `folder` when `resume` is set.

    Raises:
        Cancelled: the user stopped it; checkpoints are written.
        InputError: the training cannot go on, with the reason.
    """
    trainer, review, method = _train_network(given, folder, events, control, resume)
    last = trainer.predicting_weights()
    rows, seconds = list(trainer.rows), dict(trainer.stage_seconds)
    of_method = method.warnings(rows)
    missing = told_of_missing(review.rows)
    warnings = [*review.warnings, *missing, *of_method]
    mask_network, guard, best_guard = None, None, None
    if mask_stage_steps(given.config):
        done = PartOfJob(steps_before=trainer.steps, epochs_before=len(trainer.rows))
        agents = train_mask_agents(given, trainer.predictor, review, folder, events, control, resume, done)
        mask_network = agents.predicting_weights()
        rows += agents.rows
        seconds |= agents.stage_seconds
        careful = what_to_tell(
            given.structures.names,
            factors_of(agents.predictor),
            [where_known(case.masks.numpy() > 0, case.ignored) for case in given.held_out],
        )
        for text in careful:
            events.emit("message", text=text)
        warnings += careful
        if distributed.is_first():
            learn = partial(
                guard_after_training, given, trainer.predictor, agents.predictor, review.weights, events, control
            )
            with distributed.failing_together():
                guard = best_guard = learn()
                if guard is not None and trainer.best_weights and not _same(trainer.best_weights, last):
                    with _holding(trainer.predictor, trainer.best_weights, last):
                        best_guard = learn()
        distributed.from_first(lambda: None)  # nobody goes on before it has looked
    # Told at the end: a run that is stopped in its mask agents and resumed tells it once.
    for warning in [*missing, *of_method]:
        events.emit("warning", text=warning)
    if trainer.skipped:
        warnings.append(f"Non-finite losses were skipped (case: times): {trainer.skipped}")
    return RunResult(
        last,
        trainer.best_weights or last,
        mask_network,
        rows,
        review.rows,
        seconds,
        warnings,
        trainer.best_score,
        method.findings(),
        guard,
        best_guard,
    )


@contextmanager
def _holding(
    network: nn.Module, weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> Iterator[None]:
    """The network has other weights during the block."""
    network.load_state_dict(weights)
    try:
        yield
    finally:
        network.load_state_dict(own)


def _same(first: Weights, second: Weights) -> bool:
    return all(torch.equal(first[name], second[name]) for name in second)


def _train_network(
    given: RunInput, folder: RunFolder | None, events: EventLog, control: JobControl, resume: bool
) -> tuple[Trainer, LabelReview, Method]:
    config, device = given.config, given.device
    partly = [case.name for case in given.training if case.missing]
    require_drawn(given.method, config.variant, partly)
    torch.manual_seed(config.train.seed)
    kind = method_named(given.method, config.variant)
    network = build_networks(config, given.training[0].image.shape[0], given.structures, kind.acts_on_image)
    if given.initial_weights is not None:
        start_from(network, given.initial_weights)
    generator = torch.Generator().manual_seed(config.train.seed + 1)
    nested = given.structures.nested
    trusted = [case.trusted for case in given.training]

    def report(done: int, total: int, what: str) -> None:
        control.check()
        events.progress(done, total, what)

    handed = MethodInput(network, config, nested, generator, trusted, given.training, report)
    method = make_method(given.method, handed)
    plan = method.plan()
    border = plan.first_review
    second = round(config.reliability.second_review * config.train.steps)
    # At step 0 there is something to judge with only where the network comes from another run.
    judges = bool(given.initial_weights) and given.initial_knows_all
    reviewed = {border, second} - (set() if judges else {0})
    unlabelled = [case for case in given.training if case.unlabelled]
    drawn_by = PairedSampler if unlabelled else PatchSampler
    sampler = drawn_by(given.training, config.data, config.train.batch_size, config.train.seed)
    place = None if folder is None else folder.path
    judging = config
    if partly and config.reliability.enabled and config.reliability.label_agents != "none":
        judging = with_values(config, reliability={"label_agents": "none"})
        if enough_trusted(trusted):
            text = "Label agents have no say: structures are missing in some cases, and they compare whole labels"
            events.emit("message", text=text)
    review = LabelReview(
        [as_reviewed(case) for case in given.training], sampler.order, judging, nested, device, events, place,
        control.check, sampler.relabel, given.structures.names,
    )  # fmt: skip

    def both_reviews(predictor: nn.Module) -> None:
        method.review(predict_cases(predictor, given.training, config, nested, device, control.check, events.warn))
        review(predictor)

    def take_up_taught() -> None:
        for index, taught in method.taught.items():
            sampler.teach(index, taught.masks, taught.strength)

    def review_unlabelled(predictor: nn.Module) -> None:
        method.review(predict_cases(predictor, unlabelled, config, nested, device, control.check, events.warn))
        take_up_taught()

    def restore(state: dict[str, Any]) -> None:
        review.restore(state["labels"])
        method.restore(state["method"])
        take_up_taught()

    unseen = {} if judges else {0: lambda predictor: review.before_training()}
    early = round(config.reliability.early_review * config.train.steps)
    if config.reliability.enabled and enough_trusted(trusted) and 0 < early < border:
        unseen[early] = review.review_early
    hooks = Hooks(
        reviews=unseen
        | dict.fromkeys(sorted(reviewed), review)
        | ({border: both_reviews} if method.reviews_cases else {})
        | dict.fromkeys(plan.rounds, review_unlabelled),
        review_state=lambda: {"labels": review.state(), "method": method.state()},
        restore_review=restore,
        validate=_validation(given, events, control),
        generators={"agents": generator},
        finished=lambda: method.finished,
    )
    trainer = Trainer(
        method, sampler, plan.stages, config.optimiser, config.train,
        device=device, events=events, control=control, hooks=hooks,
        checkpoint=None if folder is None else folder.checkpoint,
        bound=given.bound and without_mask_agents(given.bound),
        part=PartOfJob(steps_after=sum(mask_stage_steps(config).values())),
    )  # fmt: skip
    if distributed.from_first(lambda: resume and folder is not None and has_checkpoint(folder.checkpoint)):
        trainer.resume()
    trainer.run()
    return trainer, review, method


def start_from(network: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Take encoder and segmentation decoder from another run (a shared warm-up); the heads start afresh.

    A network without these parts takes all.

    Raises:
        InputError: they belong to another network.
    """
    parts = TRAINED_PARTS["warm_up"]
    has_parts = parts[0] in dict(network.named_children())
    wanted = {k: v for k, v in weights.items() if k.split(".")[0] in parts} if has_parts else weights
    try:
        _, unexpected = network.load_state_dict(wanted, strict=not has_parts)
    except RuntimeError as error:
        raise InputError("initial weights", "they belong to another network", "Use the same settings") from error
    if unexpected or not wanted:
        raise InputError("initial weights", "they belong to another network", "Use the same settings")


def _validation(
    given: RunInput, events: EventLog, control: JobControl
) -> Callable[[nn.Module], dict[str, float]] | None:
    if not given.held_out:
        return None

    def validate(network: nn.Module) -> dict[str, float]:
        scores = []
        nested = given.structures.nested
        predicted = predict_cases(
            network, given.held_out, given.config, nested, given.device, control.check, events.warn
        )
        for case, maps in predicted:
            hard = torch.from_numpy(maps > 0.5).float()[None]
            missing = torch.tensor([[c in case.missing for c in range(len(case.masks))]]) if case.missing else None
            drawn = (case.masks * case.valid).float()[None]
            scores.append(float(soft_dice(hard * case.valid, drawn, missing)))
        return {"validation_dice": float(np.mean(scores))}

    return validate
