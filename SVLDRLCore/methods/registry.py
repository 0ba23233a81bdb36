"""All training methods by the names that `svldrl train --method` takes."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InputError
from .adele import ADELE
from .clcs import CLCS
from .co_teaching import CoTeaching
from .jcas import JCAS
from .loss_correction import LossCorrection
from .method import Method, MethodInput
from .mtcl import MTCL
from .rsf_assisted import RSFAssisted
from .supervised import Supervised
from .svl_drl import SVLDRL

METHODS: dict[str, Callable[[MethodInput], Method]] = {
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
_WITHOUT_SETTINGS = ("svl_drl", "supervised")


def make_method(name: str, given: MethodInput) -> Method:
    """The method of that name.

    Raises:
        InputError: an unknown name, or settings that the method does not have.
    """
    if name not in METHODS:
        raise InputError(f"method {name!r}", "there is none of that name", f"Use one of {', '.join(METHODS)}")
    if given.config.method_settings and name in _WITHOUT_SETTINGS:
        unknown = next(iter(given.config.method_settings))
        raise InputError(
            f"setting method_settings.{unknown}", f"{name} takes its settings elsewhere", "Remove it, or see agents"
        )
    return METHODS[name](given)
