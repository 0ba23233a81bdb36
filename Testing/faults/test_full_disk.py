"""A full disk costs a clear error and nothing else: for every kind of file that is written.

A limit on the size of files (RLIMIT_FSIZE) stands for the full disk: it needs no rights, and cuts files the same way.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from limited_child import Ended, everything, svldrl

from SVLDRLCore.atomic_files import files_together, write_bytes_atomically, write_json_atomically
from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import Cancelled, NotWritten
from SVLDRLCore.evaluation.tables import write_text
from SVLDRLCore.files.datalist import Case, DataList, save_datalist
from SVLDRLCore.files.volumes import (
    Geometry,
    read_image,
    write_image,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.checkpoints import load_checkpoint
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.package import load_package, save_package, zip_package
from SVLDRLCore.models.trained_model import (
    build_mask_network,
    build_networks,
    package_calibration,
    package_config,
    package_tensors,
)
from SVLDRLCore.svl_drl.actions import KEEP
from SVLDRLCore.training.train import train

SUFFIXES = [".seg.nrrd", ".nrrd", ".nii", ".nii.gz", ".mha"]
GRID = Geometry((12, 20, 20), (4.0, 4.0, 4.0), (1.0, 2.0, 3.0))
TINY: dict[str, Any] = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"feature_size": 8, "levels": 3},
    "agents": {"rollout_steps": 1},
    "mask_agents": {"transition_steps": 2, "full_rl_steps": 2, "rollout_steps": 2},
    "train": {"steps": 6, "batch_size": 1, "device": "cpu"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose mask agents keep every mask as it is."""
    return small_model(tmp_path_factory.mktemp("model") / "model", with_agents=True)


@pytest.fixture(scope="module")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without mask agents: its confidence differs from voxel to voxel."""
    return small_model(tmp_path_factory.mktemp("unsure") / "model", with_agents=False)


def small_model(path: Path, with_agents: bool) -> Path:
    config, parts = load_config("general", "extended", TINY), structures_of({1: "organ"})
    torch.manual_seed(0)
    agents = build_mask_network(config, 1, parts)
    torch.nn.init.zeros_(agents.policy_head.weight)
    with torch.no_grad():
        agents.policy_head.bias.zero_()[KEEP] = 50.0
    network = build_networks(config, 1, parts).state_dict()
    save_package(
        path,
        tensors=package_tensors(network, agents.state_dict() if with_agents else None),
        config=package_config(config, "svl_drl", 1, parts),
        labels={1: {"name": "organ"}},
        training_rows=[],
        card="A model for tests.",
        extra=package_calibration(agents.state_dict() if with_agents else None, parts),
    )
    return path


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An image and a ragged rough mask, whose files hardly shrink."""
    folder, random = tmp_path_factory.mktemp("case"), np.random.default_rng(0)
    mask = (random.random(GRID.size_dhw) > 0.5).astype(np.uint8)
    image = write_image(folder / "image.nrrd", (100 * mask + random.random(GRID.size_dhw)).astype(np.float32), GRID)
    return image, write_label(folder / "rough.seg.nrrd", mask, GRID)


@pytest.fixture(scope="module")
def datalist(case: tuple[Path, Path]) -> Path:
    """The ragged case, after one whose mask is a plain box and needs less space."""
    folder, box = case[0].parent, np.zeros(GRID.size_dhw, np.uint8)
    box[4:8, 6:14, 6:14] = 1
    plain = Case(
        "plain",
        (write_image(folder / "plain.nrrd", 100 * box.astype(np.float32), GRID),),
        write_label(folder / "plain.seg.nrrd", box, GRID),
    )
    listed = DataList("d", {1: "organ"}, (plain, Case("a", (case[0],), case[1])), ())
    return save_datalist(listed, folder / "datalist.json")


def told_in_full(ended: Ended, name: str | Path) -> None:
    assert ended.status == 2, ended.text
    assert "Traceback" not in ended.text
    assert "Error:" not in ended.text
    assert str(name) in ended.text
    assert "could not be written whole" in ended.text
    assert "MB are free there" in ended.text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_refine_leaves_the_old_result(model: Path, case: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    command = ("refine", *case, "--model", model, "--output", output, "--device", "cpu")
    good = svldrl(*command)
    assert good.status == 0, good.text
    before = everything(tmp_path)
    told_in_full(svldrl(*command, "--overwrite", most_bytes=output.stat().st_size // 2), output)
    assert everything(tmp_path) == before
    output.unlink()
    told_in_full(svldrl(*command, most_bytes=len(before[output.name]) // 2), output)
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_mask_and_confidence_are_replaced_together_or_not_at_all(
    unsure: Path, case: tuple[Path, Path], tmp_path: Path, suffix: str
) -> None:
    output, sure = tmp_path / "out.seg.nrrd", tmp_path / f"new folder/sure{suffix}"
    command = ("refine", *case, "--model", unsure, "--device", "cpu", "--output", output, "--confidence", sure)
    assert svldrl(*command).status == 0
    sizes = output.stat().st_size, sure.stat().st_size
    assert sizes[0] + 500 < sizes[1]
    output.write_bytes(b"an older result")
    before = everything(tmp_path)
    told_in_full(svldrl(*command, "--overwrite", most_bytes=sizes[0] + 500), sure)
    assert everything(tmp_path) == before
    for old in (output, sure):
        old.unlink()
    sure.parent.rmdir()
    told_in_full(svldrl(*command, most_bytes=sizes[0] + 500), sure)
    assert everything(tmp_path) == {}


def test_evaluate_leaves_the_old_tables(case: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "tables"
    command = ("evaluate", case[1], case[1], "--output", out)
    told_in_full(svldrl(*command, most_bytes=100), out)
    assert everything(tmp_path) == {}
    assert svldrl(*command).status == 0
    size = (out / "evaluation.csv").stat().st_size
    assert size < (out / "evaluation.json").stat().st_size
    (out / "evaluation.csv").write_text("older")
    before = everything(tmp_path)
    told_in_full(svldrl(*command, "--overwrite", most_bytes=size), out / "evaluation.json")
    assert everything(tmp_path) == before


def test_audit_leaves_the_old_audit_and_blames_no_case(model: Path, datalist: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    command = ("audit", datalist, "--model", model, "--output", out, "--device", "cpu")
    told_in_full(svldrl(*command, most_bytes=400), "plain.seg.nrrd")
    assert everything(tmp_path) == {}
    assert svldrl(*command).status == 0
    before = everything(tmp_path)
    proposal = len(before["audit/corrected/a.seg.nrrd"])
    assert len(before["audit/corrected/plain.seg.nrrd"]) < proposal - 100
    told_in_full(svldrl(*command, "--overwrite", most_bytes=proposal - 1), "/a.seg.nrrd")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("most_bytes", [10, 400, 1000])
def test_corrupt_writes_all_or_nothing(datalist: Path, tmp_path: Path, most_bytes: int) -> None:
    command = ("corrupt", datalist, "--noise", "sloppy", "--ratio", 1, "--output")
    assert svldrl(*command, tmp_path / "whole").status == 0
    sizes = {name: len(data) for name, data in everything(tmp_path / "whole").items() if data is not None}
    assert max(sizes.values()) > 400
    before = everything(tmp_path)
    told_in_full(svldrl(*command, tmp_path / "cut", most_bytes=min(most_bytes, max(sizes.values()) - 1)), "cut")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("most_bytes", [400, 5000])
def test_phantoms_are_whole_or_not_there(tmp_path: Path, most_bytes: int) -> None:
    ended = svldrl("phantom", "--cases", 2, "--output", tmp_path / "new" / "p", most_bytes=most_bytes)
    told_in_full(ended, tmp_path / "new")
    assert everything(tmp_path) == {}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    return write_phantom_dataset(folder, 3, 0, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))


def settings_of(overrides: dict[str, Any], folder: Path) -> Path:
    write_json_atomically(folder / "settings.json", overrides)
    return folder / "settings.json"


@pytest.mark.parametrize(("most_bytes", "file"), [(500, "run.json"), (10, "holder.json")])
def test_a_training_that_cannot_even_begin_leaves_nothing(
    phantoms: Path, tmp_path: Path, most_bytes: int, file: str
) -> None:
    settings, run = settings_of(TINY, tmp_path), tmp_path / "new" / "run"
    command = ("train", phantoms, "--output", run, "--settings", settings)
    told_in_full(svldrl(*command, most_bytes=most_bytes), file)
    assert not run.parent.exists()


def test_a_training_without_room_for_its_checkpoint_says_so(phantoms: Path, tmp_path: Path) -> None:
    command = ("train", phantoms, "--output", tmp_path / "run", "--settings", settings_of(TINY, tmp_path))
    ended = svldrl(*command, most_bytes=20_000)
    assert ended.status == 2, ended.text
    assert "Traceback" not in ended.text
    assert "checkpoint.pt" in ended.text
    assert "MB are free there" in ended.text
    assert [path.name for path in (tmp_path / "run").glob("*.pt")] == []
    assert [path.name for path in (tmp_path / "run").glob(".writing-*")] == []


def test_a_full_disk_under_the_events_stops_a_training_in_good_order(phantoms: Path, tmp_path: Path) -> None:
    control, run = JobControl(), tmp_path / "run"

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["stage"] == "full_rl":
            control.cancel()

    with pytest.raises(Cancelled):
        train(phantoms, run, overrides=TINY, listeners=[stop], control=control)
    saved = load_checkpoint(run / "checkpoint.pt")
    (run / "events.jsonl").unlink()
    (run / "events.jsonl").symlink_to("/dev/full")
    ended = svldrl("train", phantoms, "--output", run, "--resume")
    told_in_full(ended, run / "events.jsonl")
    assert "No space left on device" in ended.text
    assert load_checkpoint(run / "checkpoint.pt").keys() == saved.keys()
    (run / "events.jsonl").unlink()
    assert svldrl("train", phantoms, "--output", run, "--resume").status == 0
    load_package(run / "model")


# What the commands are made of: files of one kind, old ones beside.


def package(folder: Path, card: str = "card") -> None:
    save_package(
        folder, tensors={"w": torch.arange(500.0)}, config={}, labels={1: {"name": "organ"}}, training_rows=[],
        card=card, overwrite=True,
    )  # fmt: skip


def zipped(path: Path) -> None:
    zip_package(path.with_name("package"), path, overwrite=True)


WRITERS: dict[str, Callable[[Path], None]] = {
    "package": lambda path: package(path, "new"),
    "package.zip": zipped,
    "values.json": lambda path: write_json_atomically(path, list(range(500))),
    "table.csv": lambda path: write_text(path, "a,b\n" * 300, overwrite=True),
    "report.html": lambda path: write_text(path, "<p>" * 300, overwrite=True),
    "masks.npz": lambda path: write_bytes_atomically(path, os.urandom(1000)),
}


@pytest.mark.parametrize("name", list(WRITERS))
def test_every_writer_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    package(tmp_path / "package")
    path = tmp_path / name
    if path.suffix:
        path.write_bytes(b"old")
    before = everything(tmp_path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        try:
            WRITERS[name](path)
        except NotWritten as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert str(path) in told
    assert "could not be written whole (File too large)" in told
    assert "MB are free there" in told
    assert everything(tmp_path) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_what_is_whole_is_never_refused(tmp_path: Path, suffix: str, kind: str) -> None:
    """The comparison after writing knows every voxel type, oblique grids, and single slices."""
    direction = tuple(np.linalg.qr(np.array([[-0.9, 0.3, 0.1], [0.3, 0.9, 0.2], [0.1, -0.2, 0.95]]))[0].ravel())
    for size in ((5, 6, 7), (1, 6, 7), (1, 1, 1)):
        grid = Geometry(size, (2.5, 0.7, 0.7), (1234.567, -987.65, 333.25), direction)
        values = (np.arange(np.prod(size)).reshape(size) % 100).astype(kind)
        path = write_image(tmp_path / f"a{suffix}", values, grid, overwrite=True)
        np.testing.assert_array_equal(read_image(path).array, values)


def test_voxels_that_come_back_others_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk or a share that loses or swaps blocks and says nothing."""
    import SimpleITK as sitk

    write, path = sitk.WriteImage, tmp_path / "a.nrrd"

    def swapped(image: Any, name: str, **options: Any) -> None:
        write(image + 1, name, **options)

    monkeypatch.setattr(sitk, "WriteImage", swapped)
    with pytest.raises(NotWritten, match="other voxels came back from the disk"):
        write_image(path, np.zeros((2, 3, 4), np.uint8), Geometry((2, 3, 4)))
    assert everything(tmp_path) == {}


def test_a_place_that_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    """NIfTI keeps the origin in single precision: 1.25 km away a voxel of 1 um would lie somewhere else."""
    grid = Geometry((2, 3, 4), (0.001, 0.001, 0.001), (1234567.891, 0.0, 0.0))
    with pytest.raises(NotWritten, match="cannot hold its place"):
        write_image(tmp_path / "a.nii.gz", np.zeros((2, 3, 4), np.uint8), grid)
    write_image(tmp_path / "a.nrrd", np.zeros((2, 3, 4), np.uint8), grid)
    assert list(everything(tmp_path)) == ["a.nrrd"]


def test_together_means_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def both(end: Callable[[], None]) -> None:
        with files_together():
            write_bytes_atomically(tmp_path / "a", b"new")
            write_bytes_atomically(tmp_path / "b", b"new")
            assert (tmp_path / "a").read_bytes() == b"old"
            end()

    with pytest.raises(ZeroDivisionError):
        both(lambda: 1 // 0)
    assert everything(tmp_path) == {"a": b"old"}
    both(lambda: None)
    assert everything(tmp_path) == {"a": b"new", "b": b"new"}
