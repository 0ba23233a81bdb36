"""Training checkpoints: plain tensors and types, written atomically, loaded without running anyone's code."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import numpy as np
import torch

from SVLDRLCore.atomic_files import (
    free_space,
    remove_leftovers,
    sync_folder,
    write_atomically,
    write_json_atomically,
)
from SVLDRLCore.config.versions import FORMATS, NewerFormatError, migrate
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.run_folder import previous_generation

FORMAT = "svldrl-checkpoint"


class OtherVersionError(InputError):
    """A checkpoint of another format version, as sound as it may be."""


Generators = Mapping[str, np.random.Generator | torch.Generator]


def save_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Replace `path` by `state`; a kill or a full disk at any moment leaves the old checkpoint.

    The one before is kept beside it (`previous_generation`), should the disk damage the new one later.

    Args:
        path: the checkpoint, in an existing folder.
        state: nested dicts, lists and tuples of tensors, numbers, strings, booleans and None.

    Raises:
        TypeError: something else is inside, named by its key path: the safe loading would refuse it later.
        InputError: the file cannot be written whole (disk full, no permission).
    """
    content = {"format": FORMAT, "version": FORMATS["checkpoint"], "state": _checked(state, "state")}
    try:
        with _kept_as_previous(Path(path)):
            write_atomically(path, lambda file: torch.save(content, file), _damage)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        raise InputError(
            str(path),
            f"the checkpoint could not be written ({_first_cause(error)}); {free_space(path)}",
            "Free some space or choose another folder; an earlier checkpoint there is as it was",
        ) from error


def has_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint, or the one before it."""
    return path.is_file() or previous_generation(path).is_file()


def load_newest_checkpoint(path: Path, tell: Callable[[str], object]) -> dict[str, Any]:
    """The state in `path`, or in the generation before it where that cannot be read; `tell` is called then.

    Raises:
        InputError: neither can be read.
    """
    try:
        return load_checkpoint(path)
    except OtherVersionError:  # it is sound: nothing to fall back from
        raise
    except InputError as newest:
        before = previous_generation(path)
        if not before.is_file():
            raise
        try:
            state = load_checkpoint(before)
        except InputError as older:
            why = f"{newest.why}; nor can {before.name}, the one before it ({older.why})"
            raise InputError(str(path), why, newest.do) from older
        with contextlib.suppress(OSError):  # the damaged one must not become the generation before the next
            os.replace(before, path)
        tell(f"{path.name}: {newest.why}. The training goes on from the one before it")
        return state


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state given to `save_checkpoint`, its tensors on the CPU. Never runs code from the file.

    Raises:
        InputError: the file is missing, torn, damaged, or no checkpoint of this program.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), "there is no such checkpoint", "Start a new training or choose another")
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for what it refuses
        raise _not_ours(path, "it holds something other than plain tensors and values") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _not_ours(path, "it was written by another program")
    try:
        return migrate("checkpoint", content["state"], content.get("version"))
    except NewerFormatError as error:
        do = "Resume with the version of the program that wrote it"
        raise OtherVersionError(str(path), str(error), do) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _not_ours(path, "it is not as a training leaves it") from error


def random_states(generators: Generators | None = None) -> dict[str, Any]:
    """Where the random numbers of Python, NumPy, torch and the named generators stand, as plain types."""
    version, words, gauss_next = random.getstate()
    states: dict[str, Any] = {
        "python": {"version": version, "words": list(words), "gauss_next": gauss_next},
        "numpy": _plain_numpy(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
        "generators": {name: _generator_state(item) for name, item in (generators or {}).items()},
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random_states(states: Mapping[str, Any], generators: Generators | None = None) -> None:
    """Continue where `random_states` was called. Devices that are not here any more are passed over.

    Raises:
        KeyError: a generator has no saved state.
    """
    python = states["python"]
    random.setstate((python["version"], tuple(python["words"]), python["gauss_next"]))
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    for name, generator in (generators or {}).items():
        saved = states["generators"][name]
        if isinstance(generator, torch.Generator):
            generator.set_state(saved)
        else:
            generator.bit_generator.state = saved
    if "cuda" in states and torch.cuda.is_available():
        for device, saved in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(saved, device)
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])


class FolderLock:
    """One training at a time in a folder; free again when its holder ends, even by `kill -9`.

    Raises:
        InputError: another process holds the folder; the message names its host and process.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, FolderLock(folder):
        ...     pass  # train
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        # The holder is told in a second file: trying the lock empties it, and Windows hides it from others.
        self._holder = self._folder / ".training.holder.json"
        self._lock = filelock.FileLock(self._folder / ".training.lock", timeout=0)

    def __enter__(self) -> FolderLock:
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise InputError(
                str(self._folder),
                f"{self._told_holder()} is training in this folder",
                "Wait for it, stop it, or choose another folder",
            ) from error
        try:
            remove_leftovers(self._folder)
            write_json_atomically(self._holder, {"host": socket.gethostname(), "pid": os.getpid()})
        except BaseException:
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._holder.unlink(missing_ok=True)
        self._lock.release()

    def _told_holder(self) -> str:
        try:
            holder = json.loads(self._holder.read_text(encoding="utf-8"))
            return f"process {holder['pid']} on {holder['host']}"
        except (OSError, ValueError, KeyError, TypeError):  # it has just taken the lock
            return "another process"


@contextlib.contextmanager
def _kept_as_previous(path: Path) -> Iterator[None]:
    """What stands at `path` before the block is its previous generation once the block has replaced it.

    By a second link to the file: at any moment at least one whole generation has its own name.
    """
    if not path.is_file():
        yield
        return
    kept = path.with_name(f".writing-{path.name}.tmp")  # as `remove_leftovers` knows them, should a kill leave it
    kept.unlink(missing_ok=True)
    try:
        try:
            os.link(path, kept)
        except OSError:  # the file system has no links
            shutil.copyfile(path, kept)
        yield
        os.replace(kept, previous_generation(path))
    finally:
        kept.unlink(missing_ok=True)
    sync_folder(path.parent)


def _checked(value: Any, where: str) -> Any:
    """The same value in plain containers and detached tensors; refuses subclasses such as np.float64."""
    if type(value) in (type(None), bool, int, float, str):
        return value
    if type(value) in (dict, OrderedDict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"{where} has a key of type {type(key).__name__}: {key!r}")
        return {key: _checked(item, f"{where}[{key!r}]") for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_checked(item, f"{where}[{index}]") for index, item in enumerate(value))
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        tensor = value.detach()
        # torch.save writes the whole storage of a view
        return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
    raise TypeError(f"{where} is a {type(value).__module__}.{type(value).__name__}, not a tensor or a plain type")


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint that was just written; the checksums of its parts are verified."""
    try:
        _check_archive(path)
    except InputError as error:
        return error.why
    return None


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            foreign = any(_is_foreign(entry) for entry in archive.infolist())
            damaged = None if foreign else archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError) as error:
        raise _not_ours(path, "it is torn, damaged or of another kind") from error
    if foreign:
        raise _not_ours(path, "it was written by another program")
    if damaged is not None:
        raise _not_ours(path, f"its part {damaged!r} is damaged")


def _is_foreign(entry: zipfile.ZipInfo) -> bool:
    """Compressed, which torch never does and could unpack to any size; or marked as a folder by a flipped bit,
    for which torch hands out whatever the memory holds."""
    return entry.compress_type != zipfile.ZIP_STORED or bool(entry.external_attr & 0x10)


def _not_ours(path: Path, why: str) -> InputError:
    return InputError(str(path), f"cannot be read as a checkpoint: {why}", "Start a new training in another folder")


def _first_cause(error: BaseException) -> BaseException:
    """What the disk said; torch covers it with complaints about its own archive."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return cause or error


def _generator_state(generator: np.random.Generator | torch.Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    return _plain_numpy(generator.bit_generator.state)


def _plain_numpy(state: Any) -> Any:
    """A bit generator's state with lists for arrays and Python's numbers; NumPy takes it back as it is."""
    match state:
        case dict():
            return {key: _plain_numpy(item) for key, item in state.items()}
        case np.ndarray():
            return state.tolist()
        case np.generic():
            return state.item()
        case _:
            return state
