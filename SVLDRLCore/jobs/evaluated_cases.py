"""Which predictions `svldrl evaluate` compares with which references."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case, load_datalist
from SVLDRLCore.files.dataset_folders import ignored_value_beside
from SVLDRLCore.files.volume_headers import SUFFIXES, volume_suffix

_ROLE = re.compile(r"[_.\-](labels?|seg|segmentation|pred|prediction)$", re.IGNORECASE)


@dataclass(frozen=True)
class EvaluatedCase:
    """A reference, the names a datalist gives its label values (else none), its prediction, if any, the value of
    voxels that do not count, and structures that nobody has drawn in this case.
    """

    name: str
    reference: Path
    names: Mapping[int, str]
    prediction: Path | None = None
    ignore: int | None = None
    unknown: frozenset[str] = frozenset()
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """What is compared where a data list declares them: unions of its label values."""
    rated: Case | None = None
    """As it is listed, where several raters drew the reference: it is their consensus."""


def case_name(path: Path) -> str:
    """The case of a file: its name without volume suffix and without "_label", "_seg", "_pred" at the end."""
    name = path.name[: -len(volume_suffix(path))]
    while (shorter := _ROLE.sub("", name)) not in ("", name):
        name = shorter
    return name


def evaluated_cases(predictions: Path, references: Path) -> tuple[list[EvaluatedCase], list[str]]:
    """References with their predictions, and what there is to warn of."""
    for path in (predictions, references):
        if not path.exists():
            raise InputError(path, "there is no such file or folder", "Check the path")
    is_datalist = references.suffix.lower() == ".json" or (references / "labelsTr").is_dir()
    if references.is_file() and not is_datalist:
        if predictions.is_dir():
            raise InputError(predictions, "it is a folder, but the reference is one file", "Give two of a kind")
        ignore = ignored_value_beside(references.absolute().parent)
        return [EvaluatedCase(case_name(references), references, {}, predictions, ignore)], []
    if predictions.is_file():
        do = "Give a folder of predictions, or one label map as reference"
        raise InputError(predictions, "it is one file, but there are many references", do)

    found = _by_case(predictions)
    cases = _datalist_cases(references) if is_datalist else _folder_cases(references)
    cases = [replace(case, prediction=_prediction_for(case, found)) for case in cases]
    used = [case.prediction for case in cases if case.prediction is not None]
    if not used:
        why = f"no file is named as one of the references ({some(case.name for case in cases)})"
        raise InputError(predictions, why, "Give prediction and reference of a case the same name")
    if len(set(used)) < len(used):
        twice = max(used, key=used.count)
        raise InputError(twice, "several references would be compared with it", "Name predictions as the cases")
    unused = [path.name for path in found.values() if path not in used]
    warnings = [f"predictions without a reference are left out: {some(unused)}"] if unused else []
    return cases, warnings


def _by_case(folder: Path) -> dict[str, Path]:
    """The label maps of a folder by case name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(SUFFIXES):
            continue
        name = case_name(path)
        if name in found:
            why = f"{found[name].name} and {path.name} are both the case {name!r}"
            raise InputError(folder, why, "Keep one of them")
        found[name] = path
    if not found:
        raise InputError(folder, "it holds no label maps", f"Give a folder of {', '.join(SUFFIXES)} files")
    return found


def _folder_cases(folder: Path) -> list[EvaluatedCase]:
    ignore = ignored_value_beside(folder)
    return [EvaluatedCase(name, path, {}, ignore=ignore) for name, path in _by_case(folder).items()]


def _datalist_cases(path: Path) -> list[EvaluatedCase]:
    datalist = load_datalist(path)
    cases = [case for case in datalist.validation or datalist.training if case.label is not None]
    if not cases:
        raise InputError(path, "none of its cases has a label", "List the reference labels")
    return [
        EvaluatedCase(
            case.name, case.label, datalist.labels, ignore=case.ignore,
            unknown=frozenset(case.missing), regions=datalist.regions, rated=case if case.raters else None,
        )
        for case in cases
        if case.label
    ]  # fmt: skip


def _prediction_for(case: EvaluatedCase, found: Mapping[str, Path]) -> Path | None:
    return found.get(case.name) or found.get(case_name(case.reference))


def some(names: Iterable[str], count: int = 5) -> str:
    names = sorted(names)
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
