"""All training methods by the names that `svldrl train --method` takes."""

from __future__ import annotations

from typing import Any

from SVLDRLCore.baselines.adele import ADELE
from SVLDRLCore.baselines.clcs import CLCS
from SVLDRLCore.baselines.co_teaching import CoTeaching
from SVLDRLCore.baselines.jcas import JCAS
from SVLDRLCore.baselines.loss_correction import LossCorrection
from SVLDRLCore.baselines.mtcl import MTCL
from SVLDRLCore.baselines.rsf_assisted import RSFAssisted
from SVLDRLCore.baselines.supervised import Supervised
from SVLDRLCore.config.building import build
from SVLDRLCore.config.settings import Config, load_config
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.method import Method, MethodInput
from SVLDRLCore.svl_drl.method import SVLDRL

METHODS: dict[str, type[Method]] = {
    "svl_drl": SVLDRL,
    "supervised": Supervised,
    "loss_correction": LossCorrection,
    "co_teaching": CoTeaching,
    "mtcl": MTCL,
    "adele": ADELE,
    "jcas": JCAS,
    "rsf_assisted": RSFAssisted,
    "clcs": CLCS,
}


def load_method_config(
    method: str = "svl_drl",
    preset: str = "general",
    variant: str = "extended",
    overrides: dict[str, Any] | None = None,
) -> Config:
    """The settings of a method's training: the preset, the variant, what the method lays over it, then `overrides`.

    The one place where they are put together, for `svldrl train` as for the rows of a benchmark: nothing of SVL-DRL
    acts in another method unless `overrides` turn it on by name.

    Raises:
        InputError: an unknown method, preset, variant or setting, or a value that cannot be used, by name.
    """
    config = load_config(preset, variant, overrides, method_named(method).over_the_variant)
    require_own_settings(method, config)
    return config


def method_named(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        InputError: there is none.
    """
    if name not in METHODS:
        raise InputError(f"method {name!r}", "there is none of that name", f"Use one of {', '.join(METHODS)}")
    return METHODS[name]


def require_own_settings(name: str, config: Config) -> None:
    """InputError for `method_settings` that the method does not have, or whose values cannot be used."""
    kind = method_named(name).own_settings
    if kind is not None:
        build(kind, dict(config.method_settings), "method_settings.")
    elif config.method_settings:
        unknown = next(iter(config.method_settings))
        raise InputError(
            f"setting method_settings.{unknown}", f"{name} takes its settings elsewhere", "Remove it, or see agents"
        )


def make_method(name: str, given: MethodInput) -> Method:
    """The method of that name.

    Raises:
        InputError: an unknown name, or settings that the method does not have.
    """
    require_own_settings(name, given.config)
    return METHODS[name](given)
