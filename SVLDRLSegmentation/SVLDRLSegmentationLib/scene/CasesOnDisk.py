"""Names of the cases of a data set, fast enough for a panel."""

from __future__ import annotations

from pathlib import Path

from ..jobs.CoreLocation import coreFolder


def casesOnDisk(path: str) -> tuple[list[str], list[str]]:
    """Names of the training cases of a folder or data list, and of those that it marks as verified.

    Nothing but names is read: a folder's labels would have to be opened to know its structures.

    Raises:
        InputError: it is no data list and no folder of cases.
    """
    coreFolder()
    from SVLDRLCore.data.datalist import load_datalist
    from SVLDRLCore.data.volume_headers import SUFFIXES

    folder = Path(path) / "labelsTr"
    if folder.is_dir() and not (Path(path) / "dataset.json").is_file():
        names = (file.name for file in sorted(folder.iterdir()) if not file.name.startswith("."))
        stems = [next((name[: -len(s)] for s in SUFFIXES if name.lower().endswith(s)), "") for name in names]
        return [stem for stem in stems if stem], []
    cases = load_datalist(path).training
    return [case.name for case in cases], [case.name for case in cases if case.verified]
