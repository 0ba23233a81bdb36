"""What a benchmark compares: frozen settings read from its CONFIG.json, every mistake told by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from SVLDRLCore.config.building import (
    LARGEST_SEED,
    build,
    merge,
    number,
    require_text,
)
from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.strict_json import read_json_object
from SVLDRLCore.training.registry import METHODS, load_method_config

DATA_VARIABLE = "SVLDRL_DATA"
CLEAN = "clean"
"""Stands for a noise where the labels are the original ones."""
_NOT_A_ROWS: dict[str, tuple[str, ...] | None] = {"data": None, "train": ("steps", "seed")}
"""Overrides that would leave a row with other volumes or another budget than all the rest."""
_NOT_BEHIND_A_SHARED_WARM_UP: dict[str, tuple[str, ...] | None] = {"network": None}
"""Overrides whose network is none that the shared warm-up has trained."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the tables: a method and what it is given."""

    method: str = "svl_drl"
    """As `svldrl train --method`."""
    variant: str = "corrected"
    """As `svldrl train --variant`."""
    group: str = "compared"
    """Rows of a group share a table."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Settings laid over those of all runs; not `data`, and `network` only where the row has its own warm-up."""
    trusted: int = number(0, 0, 10**6)
    """So many truly clean training cases are marked as trusted."""
    labels: Literal["given", "clean", "only_clean"] = "given"
    """The corrupted labels, the labels before corruption, or (the oracle) the truly clean cases alone."""
    warm_up: Literal["shared", "own", "none"] = "shared"
    """Start from the shared warm-up; else untrained, with that many steps more: with a warm-up of its own that is as
    long, or without one (the ablation)."""
    slices: int = number(0, 0, 10**6)
    """Learn from so many slices alone, drawn by the seed among those that show a structure; 0: from all."""
    keep_largest: bool = False
    """Keep the largest component of each structure when evaluated."""
    ratios: tuple[float, ...] | None = number(None, 0, 1)
    """Run at these ratios only."""
    noises: tuple[str, ...] | None = None
    """Run at these noises only."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """A noise: its `kind` (one of `corrupt.NOISES`) and any further option of `svldrl corrupt`."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """A whole CONFIG.json."""

    about: str = ""
    """A sentence for the report."""
    datalist: str = ""
    """Relative to CONFIG.json, or to the folder that the environment variable SVLDRL_DATA names."""
    preset: str = "general"
    overrides: dict[str, Any] = field(default_factory=dict)
    """Settings of every run, warm-ups included."""
    noises: dict[str, Noise] = field(default_factory=dict)
    ratios: tuple[float, ...] = number((0.5,), 0, 1)
    """Shares of the training cases whose labels are corrupted; 0: the clean labels."""
    seeds: tuple[int, ...] = number((0, 1, 2), 0, LARGEST_SEED)
    warm_up_steps: int = number(250, 1, 10**8)
    """Steps of the supervised warm-up that rows with the same labels share."""
    steps: int = number(500, 1, 10**8)
    """Steps after the warm-up."""
    reference: str = "svl_drl"
    """The row that the others are tested against."""
    baseline: str = "supervised"
    """The row that gains are measured from."""
    same_time: bool = False
    """Every row a second time, with as many steps as the reference row's training time allows."""
    rows: dict[str, Row] = field(default_factory=dict)


def read_settings(path: str | Path) -> BenchmarkSettings:
    """The settings in a CONFIG.json.

    Raises:
        InputError: it is no JSON object, or has an unknown key or a value that cannot be used, by name.
    """
    return settings_from_dict(read_json_object(Path(path), "See docs/benchmark.md for an example"))


def settings_from_dict(tree: Mapping[str, Any]) -> BenchmarkSettings:
    """The same from a dictionary."""
    flat = {key: value for key, value in tree.items() if key not in ("overrides", "noises", "rows")}
    settings = replace(
        build(BenchmarkSettings, flat),
        overrides=_group(tree.get("overrides", {}), "overrides"),
        noises={str(k): _noise(v, f"noises.{k}") for k, v in _group(tree.get("noises", {}), "noises").items()},
        rows={str(k): _row(v, f"rows.{k}") for k, v in _group(tree.get("rows", {}), "rows").items()},
    )
    _check(settings)
    return settings


def datalist_path(settings: BenchmarkSettings, folder: Path) -> Path:
    """The data list: relative to `folder` (that of CONFIG.json), else to SVLDRL_DATA.

    Raises:
        InputError: it is in neither.
    """
    places = [folder, *([Path(os.environ[DATA_VARIABLE])] if os.environ.get(DATA_VARIABLE) else [])]
    for place in places:
        if (place / settings.datalist).exists():
            return (place / settings.datalist).resolve()
    raise InputError(
        f"setting datalist {settings.datalist!r}",
        f"it is not in {' or '.join(str(place) for place in places)}",
        f"Correct the path, or set {DATA_VARIABLE} to the folder that it is relative to",
    )


def slug(text: str) -> str:
    """A name as part of a file name: "mt, strong" -> "mt-strong". Ratios keep their point."""
    return re.sub(r"[^a-z0-9.]+", "-", text.casefold()).strip("-.")


def warm_up_overrides(settings: BenchmarkSettings, seed: int) -> dict[str, Any]:
    """Settings of a shared warm-up: supervised, at a constant learning rate because the rows go on from there."""
    own = {"train": {"steps": settings.warm_up_steps, "seed": seed}, "optimiser": {"poly_power": 0.0}}
    return merge(settings.overrides, own)


def row_overrides(settings: BenchmarkSettings, row: Row, seed: int, steps: int) -> dict[str, Any]:
    """Settings of a run; where a shared warm-up lies behind it, its share goes to the stages that follow.

    The network first judges the labels where the shared warm-up ends, or would end.

    Raises:
        InputError: settings that `load_config` refuses.
    """
    tree = merge(merge(settings.overrides, row.overrides), {"train": {"steps": steps, "seed": seed}})
    shares = load_method_config(row.method, settings.preset, row.variant, tree).stages
    rest = shares.transition + shares.full_rl
    if not rest:  # the ablation that never leaves the warm-up
        return tree
    first = settings.warm_up_steps / (settings.warm_up_steps + settings.steps) if row.warm_up == "own" else 0.0
    later = (1.0 - first) / rest
    stages = {"warm_up": first, "transition": later * shares.transition, "full_rl": later * shares.full_rl}
    return merge(merge({"reliability": {"first_review": first}}, tree), {"stages": stages})


def _group(tree: Any, where: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise InputError(f"setting {where}", f"{shown(tree)} is no group of settings", "Write an object of settings")
    return tree


def _noise(tree: Any, where: str) -> Noise:
    options = dict(_group(tree, where))
    kind = options.pop("kind", None)
    if not isinstance(kind, str):
        raise InputError(f"setting {where}.kind", f"it is {shown(kind)}", 'Name the noise, e.g. "kind": "mt"')
    return Noise(kind=kind, options=options)


def _row(tree: Any, where: str) -> Row:
    rest = dict(_group(tree, where))
    overrides = _group(rest.pop("overrides", {}), f"{where}.overrides")
    return replace(build(Row, rest, f"{where}."), overrides=overrides)


def _check(settings: BenchmarkSettings) -> None:
    for name in ("datalist", "noises", "ratios", "seeds", "rows"):
        if not getattr(settings, name):
            raise InputError(f"setting {name}", "it is empty", "See docs/benchmark.md for an example")
    for name, values in (("ratios", settings.ratios), ("seeds", settings.seeds)):
        if len(set(values)) < len(values):
            raise InputError(f"setting {name}", f"{list(values)} names one of them twice", "Remove it")
    _check_names([*settings.noises, CLEAN], "noises")
    _check_names(settings.rows, "rows")
    for name in ("reference", "baseline"):
        _known(getattr(settings, name), settings.rows, name)
    _refuse("overrides", settings.overrides, {"train": ("steps", "seed")})
    of_warm_up = warm_up_overrides(settings, settings.seeds[0])
    warm = load_method_config("supervised", settings.preset, "corrected", of_warm_up)
    for name, row in settings.rows.items():
        where = f"rows.{name}"
        _known(row.method, METHODS, f"{where}.method")
        for noise in row.noises or ():
            _known(noise, settings.noises, f"{where}.noises")
        for ratio in row.ratios or ():
            _known(ratio, settings.ratios, f"{where}.ratios")
        shared = row.warm_up == "shared"
        _refuse(f"{where}.overrides", row.overrides, _NOT_A_ROWS | (_NOT_BEHIND_A_SHARED_WARM_UP if shared else {}))
        if shared and row.slices:
            raise InputError(f"setting {where}.slices", "the shared warm-up learns from all", "Set warm_up to own")
        try:
            tree = row_overrides(settings, row, settings.seeds[0], settings.steps)
            network = load_method_config(row.method, settings.preset, row.variant, tree).network
        except InputError as error:
            raise InputError(f"{where}: {error.what}", error.why, error.do) from error
        if shared and network.backbone != warm.network.backbone:
            why = f"{row.method} trains {network.backbone}, and the shared warm-up {warm.network.backbone}"
            raise InputError(f"setting {where}.warm_up", why, "Set it to own or none")


def _check_names(names: Iterable[str], where: str) -> None:
    """File names are made of them: they must differ in letters and digits."""
    seen: dict[str, str] = {}
    for name in names:
        require_text(name, where)
        short = slug(name)
        if not short or len(short) > 60:
            raise InputError(f"setting {where}.{name}", "it is no name of 1 to 60 letters and digits", "Change it")
        if short in seen:
            why = f"it is too like {seen[short]!r}: files are named {short!r} for both"
            raise InputError(f"setting {where}.{name}", why, "Change one of the two")
        seen[short] = name


def _known(name: Any, among: Iterable[Any], where: str) -> None:
    if name not in among:
        known = ", ".join(str(other) for other in among)
        raise InputError(f"setting {where}", f"there is no {name!r}", f"Known here: {known}")


def _refuse(where: str, tree: Mapping[str, Any], refused: Mapping[str, tuple[str, ...] | None]) -> None:
    for section, keys in refused.items():
        given = tree.get(section)
        if given is None or (keys is not None and not isinstance(given, dict)):
            continue
        for key in given if keys is None else [key for key in keys if key in given]:
            raise InputError(
                f"setting {where}.{section}.{key}",
                "it must be the same for all runs of a benchmark, or is set by it",
                "Use overrides for every run, or steps, warm_up_steps and seeds",
            )
