"""Inputs are never written over, and a place where nothing can be written is told before anything is computed."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from limited_child import Ended, everything, svldrl

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.files.datalist import Case, DataList, save_datalist
from SVLDRLCore.files.volumes import Geometry, write_image, write_label
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.package import save_package
from SVLDRLCore.models.trained_model import build_networks, package_config, package_tensors

GRID = Geometry((8, 16, 16), (4.0, 4.0, 4.0))
TINY: dict[str, Any] = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"feature_size": 8, "levels": 3},
    "mask_agents": {"enabled": False},
    "train": {"device": "cpu"},
}
NOTHING_DONE = ("predicting", "auditing", "corrupting", "making", "reading cases", "evaluate 1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an image, a rough mask, a data list of both, and a model."""
    folder = tmp_path_factory.mktemp("whole")
    mask = np.zeros(GRID.size_dhw, np.uint8)
    mask[2:6, 4:12, 4:12] = 1
    image = write_image(folder / "image.nrrd", (100 * mask).astype(np.float32), GRID)
    label = write_label(folder / "rough.seg.nrrd", mask, GRID)
    save_datalist(DataList("d", {1: "organ"}, (Case("a", (image,), label),), ()), folder / "datalist.json")
    config, parts = load_config("general", "extended", TINY), structures_of({1: "organ"})
    torch.manual_seed(0)
    save_package(
        folder / "model",
        tensors=package_tensors(build_networks(config, 1, parts).state_dict(), None),
        config=package_config(config, "svl_drl", 1, parts),
        labels={1: {"name": "organ"}},
        training_rows=[],
        card="A model for tests.",
    )
    return folder


@pytest.fixture
def here(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that is the current folder."""
    shutil.copytree(whole, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def refine(*more: object, **limits: Any) -> Ended:
    return svldrl("refine", "image.nrrd", "rough.seg.nrrd", "--model", "model", "--device", "cpu", *more, **limits)


def refused(ended: Ended, *words: str) -> None:
    """In clear words, with its own exit status, and before any work."""
    assert ended.status == 2, ended.text
    assert "Traceback" not in ended.text
    assert "\n  why: " in ended.text
    assert "\n  do:  " in ended.text
    for word in words:
        assert word in ended.text
    for stage in NOTHING_DONE:
        assert stage not in ended.text


def another_name(kind: str, file: str) -> str:
    """A second name of a file in the current folder."""
    folder, suffix = Path.cwd(), "".join(Path(file).suffixes)
    match kind:
        case "the same":
            return file
        case "absolute":
            return str(folder / file)
        case "roundabout":
            return f"../{folder.name}/./model/../{file}"
        case "link":
            os.symlink(file, f"other{suffix}")
            return f"other{suffix}"
        case "link to a link":
            os.symlink(folder / file, f"first{suffix}")
            os.symlink(f"first{suffix}", f"other{suffix}")
            return f"other{suffix}"
        case "linked folder":
            os.symlink(folder, "again")
            return f"again/{file}"
        case "hard link":
            os.link(file, f"other{suffix}")
            return f"other{suffix}"
    raise ValueError(kind)


NAMES = ["the same", "absolute", "roundabout", "link", "link to a link", "linked folder", "hard link"]


@pytest.mark.parametrize("option", ["--output", "--confidence"])
@pytest.mark.parametrize("file", ["image.nrrd", "rough.seg.nrrd"])
@pytest.mark.parametrize("kind", NAMES)
def test_refine_never_writes_over_an_input(here: Path, option: str, file: str, kind: str) -> None:
    name = another_name(kind, file)
    before = everything(here)
    others = ["--output", "out.seg.nrrd"] if option == "--confidence" else []
    refused(refine(option, name, *others, "--overwrite"), Path(name).name, "it is read by this command")
    assert everything(here) == before


def test_the_voxels_of_a_detached_header_are_an_input_too(here: Path) -> None:
    header = "NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: 16 16 8\n"
    header += "space directions: (4,0,0) (0,4,0) (0,0,4)\nspace origin: (0,0,0)\nendian: little\nencoding: raw\n"
    (here / "image.nhdr").write_text(header + "data file: voxels.nrrd\n\n")
    (here / "voxels.nrrd").write_bytes(np.zeros(GRID.size_dhw, np.float32).tobytes())
    ended = svldrl("refine", "image.nhdr", "--model", "model", "--output", "voxels.nrrd", "--overwrite")
    refused(ended, "voxels.nrrd", "it is read by this command")


def test_nothing_is_added_to_a_model_and_two_results_have_two_names(here: Path) -> None:
    before = everything(here)
    for option in ("--output", "--confidence"):
        others = [] if option == "--output" else ["--output", "out.nii.gz"]
        refused(refine(option, "model/out.nrrd", *others), "must stay as it is")
    refused(refine("--output", "out.nrrd", "--confidence", "./out.nrrd"), "one name")
    refused(refine("--output", "new/out.nrrd", "--confidence", "new/OUT.NRRD"), "one name")
    assert everything(here) == before


def listed_as(here: Path, name: str) -> Path:
    """The data list under another name in a folder "out"."""
    content = json.loads((here / "datalist.json").read_text())
    for case in content["training"]:
        case |= {"image": str(here / "image.nrrd"), "label": str(here / "rough.seg.nrrd")}
    (here / "out").mkdir()
    (here / "out" / name).write_text(json.dumps(content))
    return here / "out" / name


@pytest.mark.parametrize("kind", ["the same", "link", "hard link"])
def test_no_data_list_is_written_over(here: Path, kind: str) -> None:
    for name, command in (
        ("audit.json", ("audit", "--model", "model", "--device", "cpu")),
        ("audit.csv", ("audit", "--model", "model", "--device", "cpu")),
        ("evaluation.json", ("evaluate", "rough.seg.nrrd")),
    ):
        given = listed_as(here, name)
        if kind != "the same":
            {"link": os.symlink, "hard link": os.link}[kind](given, here / "given.json")
            given = here / "given.json"
        before = everything(here)
        refused(svldrl(*command, given, "--output", "out", "--overwrite"), "it is read by this command")
        assert everything(here) == before
        shutil.rmtree(here / "out")
        (here / "given.json").unlink(missing_ok=True)


@pytest.mark.parametrize("command", ["train", "corrupt", "audit", "evaluate", "benchmark", "demo", "phantom"])
@pytest.mark.parametrize("output", ["datalist.json", ".", "model"])
def test_an_output_folder_is_no_input_and_no_file(here: Path, command: str, output: str) -> None:
    settings = {
        "about": "a", "preset": "general", "steps": 4, "seeds": [0], "ratios": [0.5], "datalist": "datalist.json",
        "noises": {"mt": {"kind": "mt"}}, "rows": {"plain": {"method": "supervised"}},
    }  # fmt: skip
    (here / "bench.json").write_text(json.dumps(settings))
    before = everything(here)
    arguments = {
        "train": ["train", "datalist.json"],
        "corrupt": ["corrupt", "datalist.json", "--noise", "mt"],
        "audit": ["audit", "datalist.json", "--model", "model", "--device", "cpu"],
        "evaluate": ["evaluate", "datalist.json" if output == "." else "rough.seg.nrrd", "datalist.json"],
        "benchmark": ["benchmark", "bench.json"],
        "demo": ["demo"],
        "phantom": ["phantom"],
    }[command]
    if command == "evaluate" and output != "datalist.json":
        return  # tables may lie beside other files
    refused(svldrl(*arguments, "--output", output))
    assert everything(here) == before


def test_a_benchmark_that_is_continued_by_its_own_settings_leaves_them(here: Path) -> None:
    """`benchmark OUT/config.json --output OUT` is allowed; data among what the jobs delete is not."""
    out = here / "out"
    out.mkdir()
    shutil.copytree(here / "model", out / "work")
    for file in ("image.nrrd", "rough.seg.nrrd", "datalist.json"):
        shutil.copy(here / file, out)
    (out / "config.json").write_text('{"about": "a", "datalist": "datalist.json"}')
    before = everything(here)
    refused(svldrl("benchmark", "out/config.json", "--output", "out"))
    assert everything(here) == before


# Where nothing can be written, or not under that name.


def deep(here: Path) -> str:
    return "/".join(["d" * 200] * 25) + "/out.nrrd"


def protected(here: Path) -> str:
    (here / "locked").mkdir()
    (here / "locked").chmod(0o555)
    return "locked/out.nrrd"


def below_protected(here: Path) -> str:
    return protected(here).replace("locked/", "locked/new/folder/")


def hidden(here: Path) -> str:
    (here / "locked").mkdir()
    (here / "locked").chmod(0o000)
    return "locked/out.nrrd"


def folder(here: Path) -> str:
    (here / "out.nrrd").mkdir()
    return "out.nrrd"


def pipe(here: Path) -> str:
    os.mkfifo(here / "out.nrrd")
    return "out.nrrd"


def device(here: Path) -> str:
    os.symlink("/dev/full", here / "out.nrrd")
    return "out.nrrd"


def circle(here: Path) -> str:
    os.symlink("b", here / "a")
    os.symlink("a", here / "b")
    return "a/out.nrrd"


def read_only(here: Path) -> str:
    (here / "out.nrrd").write_bytes(b"precious")
    (here / "out.nrrd").chmod(0o444)
    return "out.nrrd"


BAD_PLACES: dict[str, tuple[Callable[[Path], str], str]] = {
    "no suffix": (lambda here: "refined", "the name ends in ''"),
    "other suffix": (lambda here: "refined.png", "not in one of"),
    "two files": (lambda here: "refined.mhd", "two files"),
    "below a file": (lambda here: "image.nrrd/out.nrrd", "image.nrrd is a file, not a folder"),
    "long name": (lambda here: "n" * 251 + ".nrrd", "256 bytes"),
    "long folder": (lambda here: "n" * 256 + "/out.nrrd", "256 bytes"),
    "long in bytes": (lambda here: "体" * 85 + ".nrrd", "260 bytes"),
    "long path": (deep, "File name too long"),
    "protected folder": (protected, "Permission denied"),
    "below a protected folder": (below_protected, "Permission denied"),
    "hidden folder": (hidden, "Permission denied"),
    "folder": (folder, "it is a folder"),
    "pipe": (pipe, "a pipe or a device"),
    "device": (device, "a pipe or a device"),
    "device's folder": (lambda here: "/dev/null/out.nrrd", "is a file, not a folder"),
    "no file system for files": (lambda here: "/proc/out.nrrd", "nothing can be written"),
    "circle of links": (circle, "symbolic links"),
    "no text": (lambda here: os.fsdecode(b"\xff\xfe.nrrd"), "characters that are no text"),
    "protected file": (read_only, "protected against writing"),
}


@pytest.mark.parametrize(
    ("option", "place"),
    [("--output", place) for place in BAD_PLACES]
    + [("--confidence", place) for place in ("no suffix", "long name", "protected folder", "device")],
)
def test_a_bad_place_is_told_before_anything_is_computed(here: Path, option: str, place: str) -> None:
    make, words = BAD_PLACES[place]
    obedient = "ermission" in words or "protected" in words
    name = make(here)
    before = sorted(os.listdir(here))
    others = [] if option == "--output" else ["--output", "fine/out.seg.nrrd"]
    refused(refine(option, name, *others, "--overwrite", obedient=obedient), words)
    assert sorted(os.listdir(here)) == before
    if (here / "locked").exists():
        (here / "locked").chmod(0o755)


FOLDER_COMMANDS: dict[str, list[str]] = {
    "train": ["train", "datalist.json"],
    "corrupt": ["corrupt", "datalist.json", "--noise", "mt", "--ratio", "1"],
    "audit": ["audit", "datalist.json", "--model", "model", "--device", "cpu"],
    "evaluate": ["evaluate", "rough.seg.nrrd", "rough.seg.nrrd"],
    "demo": ["demo"],
    "phantom": ["phantom"],
}


@pytest.mark.parametrize("command", list(FOLDER_COMMANDS))
@pytest.mark.parametrize(
    "place", ["below a file", "long folder", "long path", "protected folder", "below a protected folder", "pipe"]
)
def test_a_bad_folder_is_told_before_anything_is_computed(here: Path, command: str, place: str) -> None:
    make, words = BAD_PLACES[place]
    obedient = "ermission" in words
    name = make(here)
    if place == "pipe":
        words = "it is a file, not a folder"
    if place == "long folder":
        name = name.split("/")[0]
    before = sorted(os.listdir(here))
    refused(svldrl(*FOLDER_COMMANDS[command], "--output", name, obedient=obedient), words)
    assert sorted(os.listdir(here)) == before
    if (here / "locked").exists():
        (here / "locked").chmod(0o755)


def test_a_name_of_255_bytes_is_fine_and_missing_folders_are_made(here: Path) -> None:
    for output in ("n" * 246 + ".seg.nrrd", "new/folders/out.seg.nrrd"):
        ended = refine("--output", output)
        assert ended.status == 0, ended.text
        assert (here / output).is_file()
    # where the work then fails, they go again
    (here / "image.nrrd").write_bytes(b"rubbish")
    before = everything(here)
    assert refine("--output", "other/folders/out.seg.nrrd").status == 2
    assert everything(here) == before


# Inputs that are no files, or not ours to read.


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "missing", "below a file", "long", "not ours"])
@pytest.mark.parametrize("file", ["image.nrrd", "rough.seg.nrrd"])
def test_an_input_that_cannot_be_read_is_told_as_what_it_is(here: Path, kind: str, file: str) -> None:
    given, words = {"image.nrrd": "image.nrrd", "rough.seg.nrrd": "rough.seg.nrrd"}, ""
    place, suffix = here / file, "".join(Path(file).suffixes)
    if kind != "not ours":
        place.unlink()
    match kind:
        case "folder":
            place.mkdir()
            words = "it is a folder"
        case "pipe":
            os.mkfifo(place)
            words = "a pipe or a device"
        case "device":
            os.symlink("/dev/zero", place)
            words = "a pipe or a device"
        case "missing":
            words = "there is no such file"
        case "below a file":
            given[file] = f"datalist.json/x{suffix}"
            words = "there is no such file"
        case "long":
            given[file] = "n" * 300 + suffix
            words = "more than 255"
        case "not ours":
            place.chmod(0o000)
            words = "Permission denied"
    ended = svldrl(
        "refine", *given.values(), "--model", "model", "--device", "cpu", "--output", "out.nrrd",
        obedient=kind == "not ours",
    )  # fmt: skip
    refused(ended, given[file], words)
    assert not (here / "out.nrrd").exists()


@pytest.mark.parametrize("place", ["pipe.json", ".", "/dev/zero"])
def test_settings_and_data_lists_are_files(here: Path, place: str) -> None:
    """A pipe that nobody writes to would be waited for for ever, a device read without end."""
    os.mkfifo(here / "pipe.json")
    words = "it is a folder" if place == "." else "a pipe or a device"
    refused(svldrl("train", "datalist.json", "--output", "run", "--settings", place), words)
    refused(svldrl("benchmark", place, "--output", "run"), words)
    if place != ".":
        refused(svldrl("check", place), words)
    assert not (here / "run").exists()


def test_many_channels_are_no_name_that_is_too_long(here: Path) -> None:
    names = ",".join(["a_channel_with_a_long_name.nrrd"] * 20)
    refused(svldrl("refine", names, "--model", "model", "--output", "out.nrrd"), "image channels")


def test_a_socket_is_no_place_either(here: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("out.nrrd")
        refused(refine("--output", "out.nrrd", "--overwrite"), "a pipe or a device")
