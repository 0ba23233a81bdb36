"""Where the package SVLDRLCore is: installed beside the module, or at the root of a source tree."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from slicer.i18n import tr as _

from .JobError import JobError


def coreFolder() -> Path:
    """The folder that holds the package SVLDRLCore; from then on it is importable here, too.

    It lies beside the installed module, or at the root of its source tree, to which Slicer adds nothing in developer
    mode. Only elsewhere is it looked for: the current folder may hold anything of that name.

    Raises:
        JobError: the package is nowhere.
    """
    here = Path(__file__).resolve()
    for folder in here.parents[2:4]:
        if (folder / "SVLDRLCore" / "__init__.py").is_file():
            _makeImportable(folder)
            return folder
    spec = importlib.util.find_spec("SVLDRLCore")
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve().parent
    raise JobError(
        _("SVLDRLCore"),
        _("this part of the extension is missing"),
        _("Reinstall the extension, or add the module from a complete source tree"),
    )


def _makeImportable(folder: Path) -> None:
    """Last on the path, or first where something else of that name would be taken."""
    spec = importlib.util.find_spec("SVLDRLCore")
    if spec is None:
        sys.path.append(str(folder))
    elif folder / "SVLDRLCore" not in [Path(place).resolve() for place in spec.submodule_search_locations or ()]:
        sys.path.insert(0, str(folder))
