"""What the worker needs beside Slicer: what is missing, how large it is, and its installation on a click.

Nothing here imports torch into the application, where that has been seen to crash: versions come from the
packages' metadata, and whether they work is tried in a worker process.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from .Core import RESOURCES, Json, childEnvironment, pythonExecutable
from .JobError import JobError
from .WarmWorker import endWarmWorker

if TYPE_CHECKING:
    from packaging.requirements import Requirement

TORCH_VERSION = ">=2.10"
TORCH_SIZE_MB = {"darwin": 100}
"""Download of PyTorch; elsewhere the build for an NVIDIA card is this large:"""
TORCH_CUDA_SIZE_MB = 2500
OTHERS_SIZE_MB = 15
SKIPPED = ("torch", "torchvision", "numpy")
"""Never installed or changed by pip here: the PyTorch extension chooses torch, numpy is Slicer's own."""
CHECK_SECONDS = 180.0

_TRY_IMPORTS = """
import importlib, json
told = {}
for name in ("torch", "monai", "einops", "safetensors", "jsonargparse", "filelock"):
    try:
        module = importlib.import_module(name)
        told[name] = str(getattr(module, "__version__", ""))
    except BaseException as error:
        told["broken"], told["why"] = name, f"{type(error).__name__}: {error}"
        break
else:
    import torch
    told["device"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu").add(1).sum().item()
        torch.from_numpy(__import__("numpy").zeros(1))
    except Exception as error:
        told["broken"], told["why"] = "torch", f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(told))
"""


class Dependencies:
    """What the worker needs beside Slicer.

    Example:
        >>> dependencies = Dependencies()
        >>> if dependencies.missing():
        ...     if slicer.util.confirmOkCancelDisplay(dependencies.question()):  # with the size of the download
        ...         dependencies.install()
    """

    def __init__(self, requirements: Path | None = None) -> None:
        self.requirementsFile = requirements or RESOURCES / "requirements.txt"

    def missing(self) -> list[str]:
        """Names of packages that are not installed, too old or only half there; fast, nothing is imported."""
        from packaging.requirements import Requirement

        wanted = [Requirement(f"torch{TORCH_VERSION}"), *self._requirements()]
        return [item.name for item in wanted if not _isInstalled(item)]

    def broken(self) -> list[str]:
        """Those of the missing ones of which a folder without a version is left by an interrupted installation."""
        return [name for name in self.missing() if _version(name) is None and _folder(name) is not None]

    def summary(self) -> str:
        """One line on what is missing and how large the download is; empty when nothing is."""
        missing = self.missing()
        if not missing:
            return ""
        if self.broken():
            return _("{} was installed only in part. Installing again takes a download of {}.").format(
                ", ".join(self.broken()), _downloadSize(missing)
            )
        return _("Missing: {} (download: {}). Install asks before anything is downloaded.").format(
            _namesOf(missing), _downloadSize(missing)
        )

    def question(self) -> str:
        """What to ask before anything is downloaded: what, how large, and to where."""
        missing = self.missing()
        text = _(
            "{names} will be downloaded from the internet ({size}) and installed into Slicer's own Python. "
            "This takes some minutes. None of your data is sent.\n\nDownload and install now?"
        )
        return text.format(names=_namesOf(missing), size=_downloadSize(missing))

    def install(self) -> None:
        """Install what is missing, with Slicer's progress dialog. Main thread only; the caller has asked the user.

        Raises:
            JobError: it failed, with what to do about it.
        """
        endWarmWorker()  # Windows replaces no file that a process has loaded
        missing = self.missing()
        if "torch" in missing:
            self._installTorch()
        if set(missing) - {"torch"}:
            self._installOthers()
        importlib.invalidate_caches()
        left = self.missing()
        if left and not slicer.app.testingEnabled():
            raise JobError(
                ", ".join(left),
                _("it is still not there after the installation"),
                _("Restart Slicer and look again; if that does not help, look at the Python console"),
            )

    def verify(self) -> Json:
        """Import everything in a worker process; waits while the application stays alive.

        Returns:
            Versions by package, and `device`: the graphics card's name, or "cpu".

        Raises:
            JobError: something is installed but does not work, with the reason.
        """
        told, log = _tryImports()
        if "broken" not in told:
            return told
        name, why = told["broken"], told["why"]
        folder = _folder(name)
        if name == "torch" and ("CUDA" in why or "kernel image" in why):
            do = _("Choose the device Processor (CPU), or reinstall PyTorch with the module PyTorch Utils")
        elif folder is not None:
            do = _("Close Slicer, remove the folder {}, start Slicer and install again").format(folder)
        else:
            do = _("Install the missing packages with the button at the top of the module")
        raise JobError(_("Python package {}").format(name), why, do, log)

    def _requirements(self) -> list[Requirement]:
        """Slicer's own reader exists since 5.12; the file is plain enough to be read here."""
        from packaging.requirements import Requirement

        lines = (line.split("#")[0].strip() for line in self.requirementsFile.read_text("utf-8").splitlines())
        return [Requirement(line) for line in lines if line]

    def _installTorch(self) -> None:
        folder = _folder("torch")
        if _version("torch") is None and folder is not None:
            raise JobError(
                _("PyTorch"),
                _("an earlier installation was interrupted, a part of it lies in {}").format(folder),
                _("Close Slicer, remove that folder, start Slicer and install again"),
            )
        try:
            import PyTorchUtils
        except ImportError as error:
            raise JobError(
                _("PyTorch"),
                _("the extension PyTorch, which installs it, is not there"),
                _("Install the extension PyTorch in the Extensions Manager and restart Slicer"),
            ) from error
        logic = PyTorchUtils.PyTorchUtilsLogic()
        try:
            try:
                installed = logic.installTorch(askConfirmation=False, torchVersionRequirement=TORCH_VERSION)
            except TypeError:  # an older version of the extension
                installed = logic.installTorch(askConfirmation=False)
        except Exception as error:  # pip, the network, the disk: of any kind
            raise _failed(_("PyTorch"), error) from error
        if installed is None and _version("torch") is None:
            raise JobError(_("PyTorch"), _("it was not installed"), _("Look at the Python console, then try again"))

    def _installOthers(self) -> None:
        requirements = [str(item) for item in self._requirements()]
        try:
            packaging = getattr(slicer, "packaging", None) or importlib.import_module("slicer.packaging")
        except ImportError as error:
            raise JobError(
                _("Slicer {}").format(slicer.app.applicationVersion),
                _("it is too old to install Python packages safely"),
                _("Use Slicer 5.12 or newer"),
            ) from error
        try:
            packaging.pip_ensure(
                packaging.load_requirements(self.requirementsFile), skip_packages=list(SKIPPED),
                prompt_install=False, requester="SVLDRLSegmentation",
            )  # fmt: skip
        except Exception as error:  # pip, the network, the disk: of any kind
            raise _failed(", ".join(requirements), error) from error


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _folder(name: str) -> str | None:
    """Where a package's files are, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    return next(iter(spec.submodule_search_locations or ()), spec.origin)


def _isInstalled(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _namesOf(packages: list[str]) -> str:
    return ", ".join("PyTorch" if name == "torch" else name for name in packages)


def _downloadSize(packages: list[str]) -> str:
    torch = TORCH_SIZE_MB.get(sys.platform, TORCH_CUDA_SIZE_MB) if "torch" in packages else 0
    return _sizeText(torch + (OTHERS_SIZE_MB if set(packages) - {"torch"} else 0))


def _sizeText(megabytes: int) -> str:
    return _("about {:.1f} GB").format(megabytes / 1000) if megabytes >= 1000 else _("about {} MB").format(megabytes)


def _failed(what: str, error: Exception) -> JobError:
    return JobError(
        what,
        _("the installation failed ({})").format(str(error).strip() or type(error).__name__),
        _("Check the network connection and the free disk space; on Windows a short installation path helps"),
    )


def _tryImports() -> tuple[Json, str]:
    """What the worker's Python says of the packages, and its log."""
    process = subprocess.Popen(
        [pythonExecutable(), "-P", "-c", _TRY_IMPORTS], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=childEnvironment(), creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )  # fmt: skip
    latest = time.monotonic() + CHECK_SECONDS
    while process.poll() is None and time.monotonic() < latest:
        slicer.app.processEvents()
        time.sleep(0.02)
    if process.poll() is None:
        process.kill()
    log = process.communicate()[0].decode("utf-8", errors="replace")
    for line in reversed(log.splitlines()):
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict):
            return told, log
    return {"broken": "torch", "why": _("Python ended with code {} when it tried them").format(process.returncode)}, log
