"""Segments of other names and several of one name, in the commands beside `refine`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rough_masks_to_refine import GRIDS, block, files, model_that

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import (
    Case,
    DataList,
    save_datalist,
)
from SVLDRLCore.files.volumes import (
    Segment,
    write_label,
)
from SVLDRLCore.jobs.audit import audit
from SVLDRLCore.jobs.evaluate import evaluate
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.svl_drl.actions import KEEP

GEOMETRY = GRIDS["as_trained"]
LABEL = block(GEOMETRY)
LABEL[:6] *= 2


def one_case(folder: Path, labels: dict[int, str]) -> Path:
    folder.mkdir()
    image, label = files(folder, GEOMETRY, LABEL, suffix=".nrrd")
    return save_datalist(DataList("one", labels, (Case("c", (image,), label),), ()), folder / "datalist.json")


def test_an_audit_takes_labels_by_their_names(tmp_path: Path) -> None:
    model = model_that(tmp_path, KEEP, structures_of({1: "liver", 2: "spleen"}))
    with pytest.raises(InputError, match="none of the model's structures"):
        audit(
            one_case(tmp_path / "a", {1: "kidney", 2: "stomach"}),
            model=model,
            output=tmp_path / "audit_a",
            device="cpu",
        )
    done = audit(
        one_case(tmp_path / "b", {1: "Spleen", 2: "stomach"}), model=model, output=tmp_path / "audit_b", device="cpu"
    )
    assert {row.structure for row in done.rows} == {"spleen"}
    assert any("stomach" in warning for warning in done.warnings)
    numbered = one_case(tmp_path / "c", {1: "structure 1", 2: "structure 2"})
    done = audit(numbered, model=model, output=tmp_path / "audit_c", device="cpu")
    assert {row.structure for row in done.rows} == {"liver", "spleen"}
    assert any("by value" in warning and "structure 2 is spleen" in warning for warning in done.warnings)


def test_an_evaluation_joins_segments_of_one_name(tmp_path: Path) -> None:
    for folder in ("predictions", "references"):
        (tmp_path / folder).mkdir()
    twice = (Segment(1, "Liver"), Segment(2, "liver "))
    for case, segments, reference in (("a", twice, "liver"), ("b", (Segment(1, "LIVER"),), "Liver")):
        label = LABEL if len(segments) == 2 else LABEL > 0
        write_label(tmp_path / "predictions" / f"{case}.seg.nrrd", label.astype(np.uint8), GEOMETRY, segments)
        whole = (LABEL > 0).astype(np.uint8)
        write_label(tmp_path / "references" / f"{case}.seg.nrrd", whole, GEOMETRY, (Segment(1, reference),))
    done = evaluate(tmp_path / "predictions", tmp_path / "references")
    assert [(row.case, row.structure, row.metrics.dice) for row in done.rows] == [
        ("a", "liver", 1.0), ("b", "liver", 1.0),
    ]  # fmt: skip
