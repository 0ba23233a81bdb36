"""Model packages: a folder or a zip of plain data that anybody may hand to anybody.

    model.safetensors   weights; no code can hide in it
    config.json         what is needed to build the network and to prepare an image for it
    labels.json         {"1": {"name": "left atrium", "color": [r, g, b] in 0..1, "terminology": "..."}}
    training.csv        one row an epoch
    MODEL_CARD.md       what the model is for and how it was made
    SHA256SUMS          as `sha256sum -c` reads it
    calibration.json    what mask agents know of trusted labels, if there are any
    guard.json          when mask agents are not followed, where it was learned
    *.csv *.svg ...     reports, if any

A zip is read where it is and never unpacked, so none of its names can reach the disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from SVLDRLCore.atomic_files import (
    differs_from,
    made_folder,
    not_written,
    sync_folder,
    write_atomically,
)
from SVLDRLCore.config.versions import NewerFormatError, migrate
from SVLDRLCore.errors import InputError
from SVLDRLCore.memory import require_memory
from SVLDRLCore.models.package_contents import (
    Labels,
    TrainingRows,
    csv_bytes,
    json_bytes,
    labels_bytes,
    parse_config,
    parse_csv,
    parse_labels,
)
from SVLDRLCore.models.package_files import (
    LITTER,
    MAX_OTHER_BYTES,
    REQUIRED,
    SUMS,
    WEIGHTS,
    PackageFiles,
    is_allowed_name,
    open_files,
    unusable,
)
from SVLDRLCore.models.weight_header import Entry, header_length, parse_header
from SVLDRLCore.networks.finite_outputs import LARGEST_WEIGHT


@dataclass(frozen=True, kw_only=True)
class ModelPackage:
    """A package whose names, sizes and hashes have been checked; the weights are read when asked for.

    Args:
        folder: the folder or zip it was read from.
        config: what `config.json` holds, with today's names.
        labels: label value -> {"name": ..., "color": [r, g, b] or absent, ...}.
        training: the rows of `training.csv`, numbers as float, empty cells as None.
        card: the model card, markdown.
        extra: names of the further files.
    """

    folder: Path
    config: dict[str, Any]
    labels: Labels
    training: TrainingRows
    card: str
    extra: tuple[str, ...] = ()

    def tensors(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """The weights on the CPU whose names start with `prefix`, the prefix taken off.

        Raises:
            InputError: the file is damaged, larger than the memory, or a weight is NaN, infinite or as good as that.
        """
        with open_files(self.folder) as files:
            self._header(files)
            require_memory(str(self.folder), 2 * files.size(WEIGHTS))  # the file and what is made of it
            try:
                tensors = safetensors.torch.load(files.read(WEIGHTS))
            except (safetensors.SafetensorError, ValueError, KeyError) as error:
                raise unusable(self.folder, f"{WEIGHTS} is damaged ({error})") from error
        broken = _first_not_finite(tensors)
        if broken is not None:
            raise unusable(self.folder, f"the weights of {broken!r} are not finite numbers")
        large = next((name for name, item in tensors.items() if _is_too_large(item)), None)
        if large is not None:
            raise unusable(
                self.folder, f"the weights of {large!r} exceed {LARGEST_WEIGHT:g}: its output would overflow"
            )
        return {name.removeprefix(prefix): item for name, item in tensors.items() if name.startswith(prefix)}

    def header(self) -> dict[str, Entry]:
        """Type and shape of each weight, of which none is read.

        Raises:
            InputError: the file is damaged.
        """
        with open_files(self.folder) as files:
            return self._header(files)

    def _header(self, files: PackageFiles) -> dict[str, Entry]:
        size = files.size(WEIGHTS)
        try:
            length = header_length(files.read_first(WEIGHTS, 8), size)
            return parse_header(files.read_first(WEIGHTS, 8 + length)[8:], size - 8 - length)
        except ValueError as error:
            raise unusable(self.folder, f"{WEIGHTS} is damaged ({error})") from error

    def read_extra(self, name: str) -> bytes:
        """One of the files named in `extra`."""
        if name not in self.extra:
            raise KeyError(name)
        with open_files(self.folder) as files:
            return files.read(name)


def save_package(
    folder: str | os.PathLike[str],
    *,
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    labels: Mapping[int, Mapping[str, Any]],
    training_rows: Sequence[Mapping[str, Any]],
    card: str,
    extra: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> ModelPackage:
    """Write a package beside its final place, then rename it: never half a package under the final name.

    Replacing takes two renames; a kill between them leaves both packages whole in a hidden folder beside.

    Raises:
        InputError: the folder exists (and is not to be replaced, or is no package); a weight is not finite;
            the disk is full.
        ValueError: a name in `extra` or a label is not allowed, or `config` cannot be JSON.
    """
    final = Path(os.path.abspath(folder))
    _check_place(final, overwrite)
    broken = _first_not_finite(tensors)
    if broken is not None:
        why = f"the weights of {broken!r} are not finite numbers"
        do = "Go back to an earlier checkpoint, or train with a lower learning rate"
        raise InputError(str(final), why, do)
    contents = {
        "config.json": json_bytes(config),
        "labels.json": labels_bytes(labels),
        "training.csv": csv_bytes(training_rows),
        "MODEL_CARD.md": card.encode("utf-8"),
        **_checked_extra(extra or {}),
    }
    # clones: safetensors refuses tensors that share memory
    plain = {name: item.detach().cpu().contiguous().clone() for name, item in tensors.items()}
    contents[WEIGHTS] = safetensors.torch.save(plain)
    # of the bytes in memory: those of a file that was cut would fit the cut file
    sums = {name: hashlib.sha256(contents[name]).hexdigest() for name in sorted(contents)}
    contents[SUMS] = "".join(f"{sums[name]}  {name}\n" for name in sums).encode("ascii")
    with made_folder(final.parent):
        write_folder(final, contents)
    return load_package(final)


def load_package(path: str | os.PathLike[str]) -> ModelPackage:
    """Read a folder or zip and check its names, sizes and hashes.

    Raises:
        InputError: it is no package, incomplete, damaged, or holds something a package may not hold.
    """
    path = Path(path)
    with open_files(path) as files:
        missing = [name for name in REQUIRED if name not in files.names]
        if missing:
            raise unusable(path, f"it lacks {', '.join(missing)}")
        _check_sums(files)
        try:
            config = parse_config(files.read("config.json"))
            config = migrate("model", config, config.get("format", 1))
            labels = parse_labels(files.read("labels.json"))
            training = parse_csv(files.read("training.csv"))
            card = files.read("MODEL_CARD.md").decode("utf-8")
        except NewerFormatError as error:
            raise InputError(str(path), str(error), "Use the version of the program that made it") from error
        except ValueError as error:
            raise unusable(path, f"a file in it is not as it should be ({error})") from error
        extra = tuple(sorted(set(files.names) - set(REQUIRED)))
    return ModelPackage(folder=path, config=config, labels=labels, training=training, card=card, extra=extra)


def zip_package(folder: str | os.PathLike[str], zip_path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Pack a checked package into one file.

    Raises:
        InputError: the folder is no sound package, or the zip exists and is not to be replaced.
    """
    package = load_package(folder)
    if not overwrite and os.path.lexists(zip_path):
        raise InputError(str(zip_path), "the file exists", "Choose another name, or remove it first")

    def write(file: Any) -> None:
        with zipfile.ZipFile(file, "w", strict_timestamps=False) as archive:
            for name in (*REQUIRED, *package.extra):
                # weights hardly shrink
                kind = zipfile.ZIP_STORED if name == WEIGHTS else zipfile.ZIP_DEFLATED
                archive.write(Path(folder) / name, name, compress_type=kind)

    with made_folder(Path(zip_path).parent):
        write_atomically(zip_path, write, _damage)


def _damage(zip_path: Path) -> str | None:
    """What is wrong with a zip that was just written; its hashes are trusted."""
    try:
        load_package(zip_path)
    except InputError as error:
        return error.why
    return None


def write_folder(final: Path, contents: Mapping[str, bytes]) -> None:
    """Write files (paths with forward slashes) in a hidden folder beside, read them back, and put it at `final`.

    Raises:
        NotWritten: all of it is there, or nothing; what stood at `final` is replaced.
    """
    workplace = None
    try:
        workplace = Path(tempfile.mkdtemp(dir=final.parent, prefix=".package-"))
        building = workplace / "new"
        building.mkdir()
        for name, data in contents.items():
            (building / name).parent.mkdir(parents=True, exist_ok=True)
            with (building / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            wrong = differs_from(building / name, data)
            if wrong:
                raise not_written(final, f"{name}: {wrong}")
        for folder in {(building / name).parent for name in contents} | {building}:
            sync_folder(folder)
        _swap(building, final, workplace / "old")
    except OSError as error:
        raise not_written(final, error) from error
    finally:
        if workplace and (final.exists() or not (workplace / "old").exists()):  # else it is the old package's only copy
            shutil.rmtree(workplace, ignore_errors=True)


def _check_place(final: Path, overwrite: bool) -> None:
    if not os.path.lexists(final):
        return
    do = "Choose another folder, or remove it first"
    if not overwrite:
        raise InputError(str(final), "the folder exists", do)
    # a wrong path must never cost somebody a folder of other files
    if final.is_symlink() or not final.is_dir() or not _holds_a_package(final):
        raise InputError(str(final), "it is no model package, so it is not replaced", do)


def _holds_a_package(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} - set(LITTER)
    return not names or (SUMS in names and all(map(is_allowed_name, names)))


def _swap(new: Path, final: Path, old: Path) -> None:
    """Put `new` at `final`; what stood there goes to `old`, and back if the second rename fails."""
    replacing = final.exists()
    if replacing:
        os.rename(final, old)
    try:
        os.rename(new, final)
    except BaseException:
        if replacing:
            os.rename(old, final)
        raise
    sync_folder(final.parent)


def _check_sums(files: PackageFiles) -> None:
    expected: dict[str, str] = {}
    for line in files.read(SUMS).decode("utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if name in expected:
            raise unusable(files.path, f"{SUMS} names {name} twice")
        expected[name] = digest
    unlisted = sorted(set(files.names) - set(expected) - {SUMS})
    lost = sorted(set(expected) - set(files.names))
    if unlisted or lost:
        difference = f"not listed: {', '.join(unlisted) or 'none'}; lost: {', '.join(lost) or 'none'}"
        raise unusable(files.path, f"its files are not those of {SUMS} ({difference})")
    for name, digest in expected.items():
        if files.sha256(name) != digest:
            raise unusable(files.path, f"{name} was changed or damaged: its hash is not that of {SUMS}")


def _checked_extra(extra: Mapping[str, bytes]) -> dict[str, bytes]:
    taken = {name.casefold() for name in REQUIRED}
    for name, data in extra.items():
        if not is_allowed_name(name) or name.casefold() in taken or len(data) > MAX_OTHER_BYTES:
            raise ValueError(f"a model package cannot hold a further file {name!r} of {len(data):,} bytes")
        taken.add(name.casefold())
    return dict(extra)


def _first_not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    broken = (name for name, item in tensors.items() if not bool(torch.isfinite(item).all()))
    return next(broken, None)


def _is_too_large(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.numel() > 0 and float(tensor.abs().max()) > LARGEST_WEIGHT
