"""Where the package SVLDRLCore is: installed beside the module, or at the root of a source tree."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from slicer.i18n import tr as _

from .JobError import JobError


def coreFolder() -> Path:
    """The folder that holds the package SVLDRLCore; from then on it is importable here, too.

    An installed extension has it on `sys.path`. In developer mode Slicer adds the module's own folder only, so
    the root of the source tree is added here.

    Raises:
        JobError: the package is nowhere.
    """
    spec = importlib.util.find_spec("SVLDRLCore")
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve().parent
    root = Path(__file__).resolve().parents[2]
    if not (root / "SVLDRLCore" / "__init__.py").is_file():
        raise JobError(
            _("SVLDRLCore"),
            _("this part of the extension is missing"),
            _("Reinstall the extension, or add the module from a complete source tree"),
        )
    sys.path.append(str(root))
    return root
