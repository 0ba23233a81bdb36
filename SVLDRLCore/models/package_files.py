"""The files of a model package, in a folder or a zip, behind one guarded door: known names, bounded sizes."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from SVLDRLCore.errors import InputError

WEIGHTS, SUMS = "model.safetensors", "SHA256SUMS"
REQUIRED = (WEIGHTS, "config.json", "labels.json", "training.csv", "MODEL_CARD.md", SUMS)

# What file managers leave in folders and zips; passed over and never read.
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")

MAX_FILES = 64
MAX_WEIGHT_BYTES = 4 << 30
MAX_OTHER_BYTES = 16 << 20
MAX_ALL_OTHER_BYTES = 64 << 20
MAX_TEXT_BYTES = {"config.json": 1 << 20, "labels.json": 1 << 20, "MODEL_CARD.md": 1 << 20, SUMS: 1 << 16}
"""What is parsed or shown as a whole takes many times its size; ours have some 10,000 bytes."""
MAX_RATIO = 200  # unpacked to packed; tables reach 20, a bomb 1000
MAX_WEIGHT_RATIO = 10  # weights hardly shrink; stored half precision by 2 or 3, a head of zeros by more
MAX_DIRECTORY_BYTES = 1 << 20
"""Of a zip's list of contents, which is read as a whole: more than enough for `MAX_FILES`."""

_FURTHER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(csv|json|md|png|svg|txt)")


@dataclass(frozen=True)
class PackageFiles:
    """Checked names with their opener; each file is a flat name, whatever folder or zip it lies in."""

    path: Path
    sizes: Mapping[str, int]
    open: Callable[[str], IO[bytes]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.sizes)

    def read(self, name: str) -> bytes:
        """The whole file; its size was checked when the package was opened, and is again while reading."""
        limit = min(_limit(name), self.sizes[name])  # a buffer of as many bytes is made
        with _guarded(self.path), self.open(name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise unusable(self.path, f"{name} is larger than {limit:,} bytes")
        return data

    def read_first(self, name: str, most: int) -> bytes:
        """At most so many bytes from the file's beginning."""
        with _guarded(self.path), self.open(name) as file:
            return file.read(most)

    def size(self, name: str) -> int:
        """Bytes of a file, unpacked."""
        return self.sizes[name]

    def sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        with _guarded(self.path), self.open(name) as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()


def is_allowed_name(name: str) -> bool:
    """Whether a package may hold a file of this name."""
    return name in REQUIRED or _FURTHER_NAME.fullmatch(name) is not None


def unusable(path: Path, why: str) -> InputError:
    """The error for a package that is not to be used."""
    do = "Get the model again from where it came from"
    return InputError(str(path), f"cannot be used as a model: {why}", do)


@contextlib.contextmanager
def open_files(path: str | Path) -> Iterator[PackageFiles]:
    """Open a package's folder or zip.

    Raises:
        InputError: it is missing, neither folder nor zip, or holds a link, a folder, a name or a size that a
            package may not hold.
    """
    path = Path(path)
    if path.is_dir():
        yield _folder_files(path)
    elif path.is_file():
        try:
            _check_directory(path)
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise unusable(path, "it is no sound zip file") from error
        with archive:
            yield _zip_files(path, archive)
    else:
        raise InputError(str(path), "there is no such model", "Check the path, or choose another model")


def _folder_files(folder: Path) -> PackageFiles:
    sizes: list[tuple[str, int]] = []
    entries = (path for path in folder.iterdir() if path.name not in LITTER)
    for entry in itertools.islice(entries, MAX_FILES + 1):
        status = entry.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise unusable(folder, f"{entry.name!r} is a link or a folder")
        sizes.append((entry.name, status.st_size))
    _check(folder, sizes)
    return PackageFiles(folder, dict(sizes), lambda name: (folder / name).open("rb"))


def _zip_files(path: Path, archive: zipfile.ZipFile) -> PackageFiles:
    entries = [entry for entry in archive.infolist() if not _is_top_folder(entry) and not _is_litter(entry)]
    top = _common_folder([entry.filename for entry in entries])
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.is_dir() or kind not in (0, stat.S_IFREG):
            raise unusable(path, f"{entry.filename!r} is a link or a folder")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise unusable(path, f"{entry.filename!r} is packed in a way that is not read here")
        ratio = MAX_WEIGHT_RATIO if entry.filename.endswith(WEIGHTS) else MAX_RATIO
        if entry.file_size > 1 << 20 and entry.file_size > ratio * entry.compress_size:
            raise unusable(path, f"{entry.filename!r} unpacks to over {ratio} times its size")
    # orig_filename: zipfile itself cuts names at a zero byte
    sizes = [(entry.orig_filename.removeprefix(top), entry.file_size) for entry in entries]
    _check(path, sizes)
    by_name = {name: entry for (name, _), entry in zip(sizes, entries)}
    return PackageFiles(path, dict(sizes), lambda name: archive.open(by_name[name]))


def _check(path: Path, sizes: list[tuple[str, int]]) -> None:
    if len(sizes) > MAX_FILES:
        raise unusable(path, f"it holds more than {MAX_FILES} files")
    seen: set[str] = set()
    for name, size in sizes:
        if not is_allowed_name(name):
            raise unusable(path, f"{name!r} is no file of a model package")
        if name.casefold() in seen:
            raise unusable(path, f"{name!r} is there twice (upper and lower case count as one)")
        seen.add(name.casefold())
        if size > _limit(name):
            raise unusable(path, f"{name!r} has {size:,} bytes, more than {_limit(name):,}")
    total = sum(size for name, size in sizes if name != WEIGHTS)
    if total > MAX_ALL_OTHER_BYTES:
        raise unusable(path, f"its files beside the weights have {total:,} bytes, more than {MAX_ALL_OTHER_BYTES:,}")


def _limit(name: str) -> int:
    return MAX_WEIGHT_BYTES if name == WEIGHTS else MAX_TEXT_BYTES.get(name, MAX_OTHER_BYTES)


def _check_directory(path: Path) -> None:
    """Refuse a zip whose list of contents is too large, before `zipfile` reads all of it."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - (1 << 16) - 22))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    large = int.from_bytes(tail[at + 12 : at + 16], "little") > MAX_DIRECTORY_BYTES
    if at >= 0 and (large or tail[max(0, at - 20) : at].startswith(b"PK\6\7")):  # the sign of a zip over 4 GiB
        raise unusable(path, "its list of contents is too long for a model package")


def _is_top_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.is_dir() and entry.filename.count("/") == 1 and entry.file_size == 0


def _is_litter(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.startswith("__MACOSX/") or entry.filename.rpartition("/")[2] in LITTER


def _common_folder(names: list[str]) -> str:
    """The folder that a file manager puts around the files it packs, or nothing."""
    top = names[0].partition("/")[0] + "/" if names else ""
    plain = re.fullmatch(r"[^/\\:\0]+/", top) and top not in ("./", "../")
    return top if plain and all(name.startswith(top) for name in names) else ""


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise unusable(path, f"it cannot be read ({error})") from error
