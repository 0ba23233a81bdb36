"""What the trainer asks of a method, and what it gives back. Methods know nothing of files or devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from SVLDRLCore.config.building import build
from SVLDRLCore.config.settings import Config
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.method_words import MethodWords
from SVLDRLCore.learning.stages import Plan
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.networks.segmentation_network import SegmentationNetwork

STUDENT = "student"
T = TypeVar("T")


@dataclass(frozen=True)
class MethodInput:
    """What a run gives its method.

    Attributes:
        network: of one of the method's `backbones`, perhaps warmed up elsewhere.
        nested: structures are nested regions (sigmoids), else exclusive classes (softmax).
        generator: source of all random draws of the method, kept in checkpoints.
        trusted: whether the user trusts the label, for each case that `Batch.cases` may name.
        cases: these cases; the method changes none.
        report: told (done, total, what is done) in reviews that take a while; what it raises (a cancel) ends them.
    """

    network: SegmentationNetwork
    config: Config
    nested: bool
    generator: torch.Generator = field(default_factory=torch.Generator)
    trusted: Sequence[bool] = ()
    cases: Sequence[TrainingCase] = ()
    report: Callable[[int, int, str], None] = lambda done, total, what: None

    def settings(self, kind: type[T]) -> T:
        """The method's own settings.

        Raises:
            InputError: one that the method does not have.
        """
        return build(kind, dict(self.config.method_settings), "method_settings.")


@dataclass(frozen=True)
class RunInput:
    """What a run works on.

    Attributes:
        training: cases that are learned from.
        held_out: cases that choose the best model; noisy like the rest, or the clean list the user named.
        bound: what the state of the run depends on (`run_binding.bound_run`); checkpoints are bound to it.
        initial_knows_all: whether the initial weights draw every structure, and so can judge labels from the start.
        begun_with: what the card says of the initial weights.
    """

    config: Config
    method: str
    structures: Structures
    training: list[TrainingCase]
    held_out: list[TrainingCase]
    device: torch.device
    initial_weights: dict[str, torch.Tensor] | None = None
    bound: dict[str, Any] | None = None
    initial_knows_all: bool = True
    begun_with: str = ""


@dataclass(frozen=True)
class StepResult:
    """The loss to descend (a scalar) and numbers worth a curve.

    A scalar tensor is a number, too: it is read once the weights have moved, so that no step waits for it on a GPU.

    `apart`: children of the network whose gradients are clipped apart from the others'.
    """

    loss: Tensor
    logged: Mapping[str, float | list[float] | Tensor] = field(default_factory=dict)
    apart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taught:
    """What an unlabelled case is learned from: masks uint8 (C, D, H, W), strength (1, D, H, W) in [0, 1].

    A voxel of strength 0 gives no gradient.
    """

    masks: Tensor
    strength: Tensor


class Method(Protocol):
    """A way to learn from noisy labels. `segmentation_method.SegmentationMethod` is a start for a new one.

    Attributes:
        over_the_variant: settings that the method alone means, laid over those of the variant: a variant is one of
            SVL-DRL, and what it adds there (labels weighed by reliability, mask agents) is no part of other methods.
        own_settings: the dataclass of `method_settings`; None: it has none.
        acts_on_image: whether the network that it is given has decoders for value and policy of agents on the image.
        backbones: names of the networks that it can train.
        learns_partly: whether it can learn from cases of which some structures are not drawn (`Batch.missing`).
        network: all that is trained; stages name its parts. Where more than the network that predicts is trained,
            it is `Companions`.
        predictor: the moving average of `network` (itself where there is none), set by the trainer before the first
            step: the network that is validated and kept, and the teacher of methods that want one.
        reviews_cases: whether `review` is to be called before the first step after the warm-up.
        taught: pseudo-labels of unlabelled cases by their index; taken up after each round of its plan.
        finished: whether it has learned what it can; read after each round.
    """

    over_the_variant: ClassVar[Mapping[str, Any]]
    own_settings: ClassVar[type | None]
    acts_on_image: ClassVar[bool]
    backbones: ClassVar[tuple[str, ...]]
    learns_partly: ClassVar[bool]
    network: nn.Module
    predictor: nn.Module
    reviews_cases: bool
    taught: Mapping[int, Taught]
    finished: bool

    def __init__(self, given: MethodInput) -> None: ...

    def plan(self) -> Plan:
        """Its stages over `train.steps`."""
        ...

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """The loss of one batch; `progress` in [0, 1) is the share of the stage that lies behind."""
        ...

    def review(self, predicted: Iterable[tuple[TrainingCase, np.ndarray]]) -> None:
        """See training cases with the probabilities (C, D, H, W) that `predictor` gives them.

        All of them after the warm-up, in a round of the plan the unlabelled ones. A review that is cancelled is done
        anew on resuming: it draws from no generator that outlives it, and changes the method when it is complete.
        """
        ...

    def state(self) -> dict[str, Any]:
        """What checkpoints must hold beside weights and random generators: plain types and tensors."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state()` was taken."""
        ...

    def findings(self) -> dict[str, Any]:
        """What its reviews found and a report shows; empty where there is none."""
        ...

    def warnings(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """What a user must be told once it is trained; `rows` are the logged ones."""
        ...

    @classmethod
    def card_words(cls, words: MethodWords, config: Config) -> MethodWords:
        """What the model card says of it with these settings; `words` are those of the registry."""
        ...


class Companions(nn.Module):
    """The network that predicts (`student`), and what a method trains beside it; `forward` is the former's."""

    def __init__(self, student: SegmentationNetwork, **beside: nn.Module) -> None:
        super().__init__()
        self.student = student
        for name, module in beside.items():
            self.add_module(name, module)

    def forward(self, image: Tensor) -> Tensor:
        return self.student(image)


def weights_that_predict(network: nn.Module) -> Mapping[str, Tensor]:
    """The state of the network that predicts, without its companions."""
    return (getattr(network, STUDENT) if isinstance(network, Companions) else network).state_dict()


def trained_parts(network: nn.Module, of_student: tuple[str, ...]) -> tuple[str, ...]:
    """Names for `open_parts`: the parts of the network that predicts, or with companions the whole of each."""
    if isinstance(network, Companions):
        return tuple(name for name, _ in network.named_children())
    return of_student
