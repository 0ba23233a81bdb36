"""The universal refiner's files: weights, settings, card and check sums. Nothing in them is executed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from SVLDRLCore.atomic_files import write_bytes_atomically, write_json_atomically, write_text_atomically
from SVLDRLCore.config.building import require_number
from SVLDRLCore.errors import InputError
from SVLDRLCore.models.package_files import PackageFiles, open_files
from SVLDRLCore.strict_json import read_json_object
from SVLDRLCore.universal_refiner.change_signs import CHANGE_DIRECTIONS
from SVLDRLCore.universal_refiner.classifier import VoxelClassifier
from SVLDRLCore.universal_refiner.gate import Gate
from SVLDRLCore.universal_refiner.modes import NOTHING, Rule
from SVLDRLCore.universal_refiner.monotone_gain import QUANTILES, MonotoneGain, count_of_terms
from SVLDRLCore.universal_refiner.shown_borders import SIGNS
from SVLDRLCore.universal_refiner.ways import WAYS

SHIPPED = Path(__file__).parent / "package"
"""The one that comes with the program."""
WEIGHTS, SETTINGS, CARD, SUMS = "model.safetensors", "settings.json", "MODEL_CARD.md", "SHA256SUMS"
VERSION = 4
LIMITS = {"sure": (0.5, 1.0), "spread": (0.0, 10.0)}
"""Of a rule's numbers."""


@dataclass(frozen=True)
class SnapDecision:
    """When to snap: by the bold rule where the gate opens, else by the careful one; without a gate it is open."""

    bold: Rule
    careful: Rule = NOTHING
    gate: Gate | None = None


@dataclass(frozen=True)
class Decision:
    """Of each mode; set on synthetic masks alone.

    Attributes:
        even_out: what each of `WAYS` is expected to win, in their order; without any, nothing is evened out.
    """

    even_out: tuple[MonotoneGain, ...]
    snap: SnapDecision


UNDECIDED = Decision((), SnapDecision(Rule(0.5)))


@dataclass(frozen=True)
class UniversalRefiner:
    """Stages in their order, and when to act on what they believe."""

    stages: tuple[VoxelClassifier, ...]
    decision: Decision = UNDECIDED


@cache
def shipped_refiner() -> UniversalRefiner:
    """The refiner that comes with the program, read once."""
    return load_refiner(SHIPPED)


def save_refiner(folder: Path, refiner: UniversalRefiner, made: Mapping[str, Any], card: str) -> None:
    """Write a package into an existing folder. `made`: settings of its learning, kept beside the decision."""
    tensors = {
        f"stage_{index}.{name}": np.ascontiguousarray(value)
        for index, stage in enumerate(refiner.stages)
        for name, value in stage.weights.items()
    }
    write_bytes_atomically(folder / WEIGHTS, save(tensors))
    gains = dict(zip(WAYS, (asdict(gain) for gain in refiner.decision.even_out)))
    decision = {"even_out": gains, "snap": asdict(refiner.decision.snap)}
    content = {"version": VERSION, "decision": decision, "learning": dict(made)}
    write_json_atomically(folder / SETTINGS, content)
    write_text_atomically(folder / CARD, card)
    sums = (f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in (WEIGHTS, SETTINGS, CARD))
    write_text_atomically(folder / SUMS, "".join(sums))


def load_refiner(folder: Path) -> UniversalRefiner:
    """A refiner from its package's folder.

    Raises:
        InputError: a file is missing, differs from its check sum, or is not what a refiner needs.
    """
    with open_files(folder) as files:
        missing = [name for name in (WEIGHTS, SETTINGS, CARD, SUMS) if name not in files.names]
        if missing:
            raise _unusable(folder, f"{missing[0]} is missing")
        _check_sums(folder, files)
        data = files.read(WEIGHTS)
    settings = read_json_object(folder / SETTINGS, "Get the refiner again from where it came from")
    if settings.get("version") != VERSION:
        raise _unusable(folder, f"its version is {settings.get('version')!r}, {VERSION} is read here")
    try:
        stages = _stages(load(data))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise _unusable(folder, f"its weights do not fit ({error})") from error
    return UniversalRefiner(stages, _decision(settings.get("decision"), folder))


def _decision(given: Any, folder: Path) -> Decision:
    try:
        gains = given["even_out"]
        if gains and list(gains) != list(WAYS):
            raise ValueError("its ways to even out are not those of this program")
        return Decision(tuple(_gain(each) for each in gains.values()), _snap_decision(given["snap"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unusable(folder, "its settings lack the decision") from error


def _snap_decision(given: Mapping[str, Any]) -> SnapDecision:
    rules = {name: Rule(**given[name]) for name in ("bold", "careful")}
    for rule in rules.values():
        for name, (least, most) in LIMITS.items():
            require_number(name, getattr(rule, name), least, most)
    gate = None if given["gate"] is None else _gate(given["gate"])
    return SnapDecision(rules["bold"], rules["careful"], gate)


def _gain(given: Mapping[str, Any]) -> MonotoneGain:
    directions, knots, weights = np.array(given["directions"]), np.array(given["knots"]), np.array(given["weights"])
    offset, margin, signs = float(given["offset"]), float(given["margin"]), len(CHANGE_DIRECTIONS)
    if directions.tolist() != list(CHANGE_DIRECTIONS.values()):
        raise ValueError("its signs are not those of this program")
    if knots.shape != (len(QUANTILES), signs) or weights.shape != (count_of_terms(signs),):
        raise ValueError("the numbers of what is won do not fit")
    if not all(np.isfinite(each).all() for each in (knots, weights, offset, margin)):
        raise ValueError("a number is not finite")
    if weights.min() < 0 or np.diff(knots, axis=0).min() < 0:
        raise ValueError("a sign turns against its direction")
    knotted = tuple(map(tuple, knots.tolist()))
    return MonotoneGain(tuple(directions.tolist()), knotted, tuple(weights.tolist()), offset, margin)


def _gate(given: Mapping[str, Any]) -> Gate:
    numbers = {name: float(given[name]) for name in ("offset", "margin")}
    parts: dict[str, tuple[float, ...]] = {name: tuple(given[name]) for name in ("centre", "scale", "slope")}
    if [len(each) for each in parts.values()] != [len(SIGNS)] * 3:
        raise ValueError("the gate's numbers do not fit")
    if not np.isfinite([*numbers.values(), *(value for part in parts.values() for value in part)]).all():
        raise ValueError("a number is not finite")
    if not min(parts["scale"]) > 0:
        raise ValueError("a scale is not above 0")
    return Gate(parts["centre"], parts["scale"], parts["slope"], numbers["offset"], numbers["margin"])


def _stages(tensors: Mapping[str, Any]) -> tuple[VoxelClassifier, ...]:
    stages: list[VoxelClassifier] = []
    while f"stage_{len(stages)}.mean" in tensors:
        own = f"stage_{len(stages)}."
        weights = {name.removeprefix(own): value for name, value in tensors.items() if name.startswith(own)}
        if not all(value.dtype == np.float32 and np.isfinite(value).all() for value in weights.values()):
            raise ValueError("a number is not finite, or not of 32 bits")
        stages.append(VoxelClassifier(weights))
    if not stages:
        raise ValueError("there is no stage")
    return tuple(stages)


def _check_sums(folder: Path, files: PackageFiles) -> None:
    lines: Sequence[str] = files.read(SUMS).decode("utf-8", "replace").splitlines()
    told = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in (WEIGHTS, SETTINGS, CARD):
        if told.get(name) != files.sha256(name):
            raise _unusable(folder, f"{name} differs from its check sum")


def _unusable(folder: Path, why: str) -> InputError:
    return InputError(
        str(folder), f"cannot be used as a refiner: {why}", "Install the program again, or learn a new one"
    )
