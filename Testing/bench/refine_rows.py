"""Refining a small structure in a large volume: time beyond the imports and memory beyond the file's own arrays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from made_data import LARGE, large_case, small_model
from measuring import HERE, child, compared
from table import Row, group

from SVLDRLCore.files.volumes import read_label

MANY = 13
"""Structures of a model of the abdomen."""
MOST_SECONDS = 3.0
MOST_BYTES = 2**30
OWN_BYTES = 300 * 512 * 512 * (2 + 1)
"""Of the file's arrays: an image of two bytes a voxel and a mask of one."""


@group("refine")
def refine_rows(folder: Path) -> Iterator[Row]:
    """With and without a model, of one structure and of many."""
    model = small_model(folder)
    image, rough = large_case(folder)
    without = _refine(image, folder / "scratch.nii.gz", "--model", str(model))
    pairs = []
    for _ in range(3):
        with_mask = _refine(image, folder / "refined.seg.nrrd", "--model", str(model), "--rough", str(rough))
        pairs.append((with_mask["work"], without["work"]))
        (folder / "refined.seg.nrrd").unlink()
    one = compared(pairs)
    yield Row(
        "refine 3 cm in 512 x 512 x 300 by a model", target=0.1,
        against="the same volume without a rough mask", **one.sides(),
    )  # fmt: skip
    yield Row("the same, beyond the imports", one.ours, MOST_SECONDS, 1.0, against="a limit of 3 s")
    yield _memory("the same, memory beyond the file's arrays", with_mask)
    done = _refine(image, folder / "any.seg.nrrd", "--rough", str(rough))
    yield Row("refine it without a model", done["work"], MOST_SECONDS, 1.0, against="a limit of 3 s")
    yield _memory("the same, memory beyond the file's arrays", done)
    (folder / "any.seg.nrrd").unlink()
    image.unlink()
    many_model = small_model(folder, MANY)
    image, rough = large_case(folder, MANY)
    done = _refine(image, folder / "many.seg.nrrd", "--model", str(many_model), "--rough", str(rough))
    yield _memory(f"refine {MANY} structures by a model, memory beyond the file's arrays", done)
    done = _refine(image, folder / "many_any.seg.nrrd", "--rough", str(rough))
    yield _memory(f"refine {MANY} structures without a model, memory beyond the file's arrays", done)


def _refine(image: Path, output: Path, *more: str) -> dict[str, float]:
    told = child([str(HERE / "refine_child.py"), str(image), str(output), *more]).told
    read_label(output)
    return told


def _memory(what: str, told: dict[str, float]) -> Row:
    beyond = (told["peak"] - told["peak_of_imports"] - OWN_BYTES) / 2**30
    return Row(what, max(beyond, 0.0), MOST_BYTES / 2**30, 1.0, "a limit of 1 GiB", unit="GiB")


assert LARGE.size_dhw == (300, 512, 512)
