"""Cases that were read, checked and prepared once, kept in a folder of the user's choice: off unless it is named.

They are copies of patients' images, so nobody gets them unasked. An entry is found by what its files hold, by their
places, and by all that preparing depends on; one whose case had errors is never kept. Images are mapped from the disk:
a data set larger than the memory can be trained on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import scipy
import SimpleITK as sitk
import torch
from safetensors import SafetensorError, safe_open

from SVLDRLCore import __version__
from SVLDRLCore.atomic_files import new_file, remove_abandoned
from SVLDRLCore.config.settings import DataConfig
from SVLDRLCore.data.cases import TrainingCase, prepare_case
from SVLDRLCore.errors import InputError, NotWritten, reason_of
from SVLDRLCore.files.case_checks import read_and_check
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.dataset_checks import CaseFacts, Problem
from SVLDRLCore.files.volume_headers import read_header
from SVLDRLCore.files.volumes import Geometry
from SVLDRLCore.masks.structures import Structures

FOLDER_VARIABLE, LIMIT_VARIABLE = "SVLDRL_CACHE", "SVLDRL_CACHE_GB"
USUAL_LIMIT_GB = 50.0
FORMAT = 1
"""Counts up whenever the same files and settings would be prepared otherwise."""
SUFFIX = ".prepared.safetensors"


@dataclass(frozen=True)
class PreparedCase:
    """What a training takes from a case's files.

    Attributes:
        facts: None where no image could be read.
        case: None where it has errors.
    """

    facts: CaseFacts | None
    problems: tuple[Problem, ...]
    case: TrainingCase | None

    @property
    def failed(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)


def read_prepared(
    case: Case, labels: Mapping[int, str], part: str, config: DataConfig, structures: Structures
) -> PreparedCase:
    """Read and check a case; prepare it unless it has errors.

    Args:
        labels: the label table; part: the list that it is for, "training" or "validation".
    """
    read = read_and_check(case, labels, part)
    problems, made = list(read.problems), None
    if read.usable and read.label is not None:
        try:
            made = prepare_case(case, read.images, read.label, config, structures)
        except InputError as error:
            problems.append(Problem(case.name, "error", error.what, error.why, error.do))
    return PreparedCase(read.facts, tuple(problems), made)


class CaseCache:
    """A folder of prepared cases, with a limit; the ones that were used the longest time ago go first.

    Args:
        folder: made where needed, for its owner's eyes alone.
        limit: bytes.

    Attributes:
        trouble: why nothing more is kept; None while all is well.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self.trouble: str | None = None
        self._used: set[Path] = set()

    def read(
        self, case: Case, labels: Mapping[int, str], part: str, config: DataConfig, structures: Structures
    ) -> PreparedCase:
        """As `read_prepared`, from the folder where it is there, and kept there where it is not."""
        place = self._place(case, labels, config, structures)
        kept = None if place is None else _load(place, case, part)
        if place is not None and kept is not None:
            self._used.add(place)
            return kept
        made = read_prepared(case, labels, part, config, structures)
        if place is None or made.case is None or made.failed or self.trouble is not None:
            return made
        if self._place(case, labels, config, structures) != place:  # a file was changed while it was read
            return made
        if not self._kept(place, made):
            return made
        return _load(place, case, part) or made  # mapped: what was read leaves the memory

    def _place(self, case: Case, labels: Mapping[int, str], config: DataConfig, structures: Structures) -> Path | None:
        """Where a case would be kept; None where its files cannot be read: who reads them tells."""
        parts = {
            "format": FORMAT,
            "programs": [__version__, np.__version__, scipy.__version__, sitk.Version.VersionString()],
            "case": repr(replace(case, trusted=False)),
            "labels": sorted(labels.items()),
            "grid": [config.spacing_mm, config.patch_size],
            "intensity": [config.intensity, config.intensity_low, config.intensity_high],
            "structures": repr(structures),
        }
        digest = hashlib.sha256(json.dumps(parts).encode())
        try:
            for file in case.files:
                for place in dict.fromkeys((file, read_header(file).path)):  # voxels may lie beside their header
                    digest.update(_digest_of_file(place))
        except (InputError, ValueError, KeyError, struct.error, OSError, EOFError, zlib.error):
            return None
        return self.folder / f"{digest.hexdigest()}{SUFFIX}"

    def _kept(self, place: Path, made: PreparedCase) -> bool:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            remove_abandoned(self.folder)
            with new_file(place, private=True) as temporary:
                _save(temporary, made, place.name)
            self._used.add(place)
            if self._room_made():
                return True
            place.unlink(missing_ok=True)
            self.trouble = f"{self.folder} holds {self.limit / 1e9:g} GB, as many as {LIMIT_VARIABLE} allows"
        except NotWritten as error:
            self.trouble = f"{error}"
        except OSError as error:
            self.trouble = f"{self.folder}: {reason_of(error)}"
        return False

    def _room_made(self) -> bool:
        """Remove what was used the longest time ago, until the limit is kept; what this training maps stays.

        Where that alone is more than the limit nothing is removed: it would be in vain.
        """
        found = []
        for place in self.folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):  # another process sweeps, too
                state = place.stat()
                found.append((state.st_mtime, state.st_size, place))
        if sum(size for _, size, place in found if place in self._used) > self.limit:
            return False
        total = sum(size for _, size, _ in found)
        for _, size, place in sorted(found):
            if total <= self.limit:
                break
            if place not in self._used:
                with contextlib.suppress(OSError):  # Windows keeps what somebody has open
                    place.unlink()
                    total -= size
        return total <= self.limit


def case_cache() -> CaseCache | None:
    """The cache that the environment asks for; None where it asks for none.

    Raises:
        InputError: a folder that is not named from the root on, or a limit that is no number above 0.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return None
    try:
        place = Path(folder).expanduser()
    except RuntimeError:  # ~somebody who is unknown
        place = Path(folder)
    if not place.is_absolute():  # jobs of Slicer run in folders of their own
        do = "Give the whole path: copies of patients' images are to lie where you expect them"
        raise InputError(FOLDER_VARIABLE, f"it is {folder!r:.200}, which is no whole path", do)
    given = os.environ.get(LIMIT_VARIABLE) or str(USUAL_LIMIT_GB)
    try:
        limit = float(given)
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise InputError(LIMIT_VARIABLE, f"it is {given!r:.80}", "Give the gigabytes that may be kept, above 0")
    return CaseCache(place, limit * 1e9)


def _digest_of_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _save(path: Path, made: PreparedCase, name: str) -> None:
    """Write it; `name`, of the entry, is in it, so that one that was renamed is no other case's.

    Raises:
        OSError: it cannot be written.
    """
    case, facts = made.case, made.facts
    assert case is not None
    assert facts is not None
    tensors = {"image": case.image, "masks": case.masks, "valid": case.valid}
    if case.ignored is not None:
        tensors["ignored"] = torch.from_numpy(case.ignored)
    geometry = {key: value for key, value in asdict(facts.geometry).items() if key != "nifti_forms"}
    told = {
        "name": name,
        "facts": {
            "geometry": geometry, "digest": facts.digest, "label_digest": facts.label_digest,
            "values": sorted(facts.values), "partly": facts.partly,
        },
        "problems": [asdict(problem) for problem in made.problems],
        "case": {
            "spacing_dhw": case.spacing_dhw, "missing": case.missing,
            "image_digest": case.image_digest, "label_digest": case.label_digest,
        },
    }  # fmt: skip
    try:
        safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, path, {"told": json.dumps(told)})
    except SafetensorError as error:  # a full disk, in its words
        raise OSError(str(error)) from error


def _geometry(kept: dict[str, list[Any]]) -> Geometry:
    return Geometry(
        tuple(kept["size_dhw"]), tuple(kept["spacing_dhw"]), tuple(kept["origin_xyz"]), tuple(kept["direction"])
    )


def _load(place: Path, case: Case, part: str) -> PreparedCase | None:
    """What is kept there, its images mapped from the disk; None where nothing whole is."""
    try:
        with safe_open(place, "pt") as file:
            told = json.loads((file.metadata() or {})["told"])
        if told["name"] != place.name:
            return None
        tensors = safetensors.torch.load_file(place)
        with contextlib.suppress(OSError):
            os.utime(place)
        facts, kept = told["facts"], told["case"]
        ignored = tensors.get("ignored")
        return PreparedCase(
            CaseFacts(
                case.name, part, _geometry(facts["geometry"]), facts["digest"],
                facts["label_digest"], frozenset(facts["values"]), facts["partly"], frozenset(case.missing),
                case.images, case.label,
            ),
            tuple(Problem(**problem) for problem in told["problems"]),
            TrainingCase(
                case.name, tensors["image"], tensors["masks"], tensors["valid"], tuple(kept["spacing_dhw"]),
                case.trusted, None if ignored is None else ignored.numpy(), tuple(kept["missing"]),
                kept["image_digest"], kept["label_digest"],
            ),
        )  # fmt: skip
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError, AttributeError):
        return None
