"""Mistakes and faults while refining are told by name and leave the folder as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from rough_masks_to_refine import GRIDS, block, files, model_that

from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.files.volumes import Segment, read_label, write_label
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.svl_drl.actions import ENHANCE


def listing(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_an_existing_output_is_kept_unless_overwriting_is_asked(tmp_path: Path) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    model, output = model_that(tmp_path, ENHANCE), tmp_path / "mine.nrrd"
    output.write_text("precious")
    with pytest.raises(InputError, match=r"mine\.nrrd.*exists"):
        refine(image, rough, model=model, output=output, device="cpu")
    assert output.read_text() == "precious"
    refine(image, rough, model=model, output=output, device="cpu", overwrite=True)
    assert read_label(output).array.any()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"trust": 1.5}, "trust"),
        ({"policy_steps": -1}, "policy_steps"),
        ({"smallest_fragment_ml": -0.5}, "smallest_fragment_ml"),
        ({"model": None, "learn_from_this_case": True}, "it is gone.*without --model, any structure is refined"),
        ({"model": None, "rough": None}, "none was given, nor a rough mask"),
        ({"keep_model": "kept"}, "--keep-model.*it is gone"),
        ({"overlap": 1.0}, "overlap"),
        ({"structures": ["spleen"]}, "no segment fits"),
        ({"output": "out.txt"}, "out.txt"),
        ({"device": "toaster"}, "toaster"),
        ({"model": "nowhere"}, "nowhere"),
        ({"image": "nowhere.nrrd"}, "nowhere.nrrd"),
        ({"rough": "elsewhere.nrrd"}, "elsewhere.nrrd"),
        ({"rough": "void.seg.nrrd"}, "hold no voxel"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_mistakes_are_named_and_nothing_is_written(tmp_path: Path, change: dict[str, Any], names: str) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    moved = replace(geometry, origin_xyz=(90.0, 0.0, 0.0))
    write_label(tmp_path / "elsewhere.nrrd", block(geometry), moved)
    write_label(tmp_path / "void.seg.nrrd", block(geometry, 4), geometry, [Segment(1, "organ"), Segment(4, "other")])
    model = model_that(tmp_path, ENHANCE)
    given: dict[str, Any] = {"image": image, "rough": rough, "model": model, "output": "out.nrrd", "device": "cpu"}
    given |= change
    for key in ("image", "rough", "model", "output"):
        given[key] = given[key] and tmp_path / given[key]
    before, seen = listing(tmp_path), []
    with pytest.raises(InputError, match=names):
        refine(given.pop("image"), given.pop("rough"), **given, listeners=[seen.append])
    assert listing(tmp_path) == before
    assert seen[-1]["event"] == "failed"


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_half_written(tmp_path: Path, monkeypatch, overwrite: bool) -> None:
    geometry = GRIDS["as_trained"]
    image, rough = files(tmp_path, geometry, block(geometry))
    model, output = model_that(tmp_path, ENHANCE), tmp_path / "out.nrrd"
    if overwrite:
        output.write_text("the old one")
    before = listing(tmp_path)

    def torn(image: sitk.Image, path: str, **how: Any) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError("disk full")

    given = {"model": model, "output": output, "device": "cpu", "overwrite": overwrite}
    with monkeypatch.context() as patch:
        patch.setattr(sitk, "WriteImage", torn)
        with pytest.raises((RuntimeError, InputError), match="disk full"):
            refine(image, rough, **given)
    assert listing(tmp_path) == before
    control = JobControl()
    stop = [lambda event: control.cancel("enough") if event.get("stage") == "refining" else None]
    with pytest.raises(Cancelled, match="enough"):
        refine(image, rough, **given, listeners=stop, control=control)
    assert listing(tmp_path) == before
