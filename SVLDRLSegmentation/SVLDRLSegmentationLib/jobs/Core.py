"""Where the worker comes from: the package SVLDRLCore, the Python that runs it, and the files beside it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any, TypeAlias

from slicer.i18n import tr as _

from .JobError import JobError

Json: TypeAlias = dict[str, Any]
"""A JSON object: what the core says, is asked, or has written down."""
RESOURCES = Path(__file__).resolve().parents[2] / "Resources"
"""Icons, panels and the list of packages, installed beside the library."""


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


def pythonExecutable() -> str:
    """Slicer's own Python; outside of Slicer the one that runs this. Never one that lies in the current folder."""
    folders = [folder for folder in os.get_exec_path() if os.path.isabs(folder)]
    found = (shutil.which(os.path.join(folder, "PythonSlicer")) for folder in folders)
    return next(filter(None, found), sys.executable)


def childEnvironment(*folders: Path) -> dict[str, str]:
    """The environment for a Python that imports nothing from the folder it runs in; to be started with `-P`.

    Args:
        folders: where it shall look for packages first.
    """
    # an empty place in the list stands for the current folder, a relative one is another in another folder
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(path)]
    paths = os.pathsep.join([*map(str, folders), *given])
    return dict(os.environ, PYTHONSAFEPATH="1", PYTHONPATH=paths)
