"""Every `bash` and `python` block of the pages runs, in the order of its page, on a phantom and with a tiny training.

A page finds in its folder what a reader has: `datalist.json` with `images` and `labels`, `image.nrrd` with
`rough.seg.nrrd`, `other_names.seg.nrrd` and `truth.seg.nrrd`, and a model, `runs/atrium`. Blocks that cannot run are
marked `text` or `console`; those marked `python slicer` run in Testing/slicer.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, Snippet, pages, snippets

import SVLDRLCore
from SVLDRLCore.cli import main
from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.config.building import merge
from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.files.datalist import load_datalist, save_datalist
from SVLDRLCore.files.volumes import Segment, read_label, write_label

TINY: dict[str, Any] = {
    "data": {"spacing_mm": [6.0, 6.0, 6.0], "patch_size": [8, 16, 16]},
    "network": {"feature_size": 8, "levels": 2},
    "mask_agents": {"transition_steps": 2, "full_rl_steps": 2},
    "train": {"steps": 6, "steps_per_epoch": 3, "validate_every": 6, "batch_size": 1, "device": "cpu"},
}
RUN, SHOWN = ("bash", "python"), ("text", "console", "json", "python slicer")
OF_THE_SITE = "{"
"""Blocks that the site itself fills begin with it."""


def with_snippets() -> list[Path]:
    return [page for page in pages() if any(snippet.language in RUN for snippet in snippets(page))]


@pytest.fixture(scope="module", autouse=True)
def tiny_trainings() -> Any:
    """Whoever trains, trains for a few steps on a coarse grid, whatever else is asked for."""
    with pytest.MonkeyPatch.context() as patch:
        for command in ("train", "adapt"):
            real = getattr(SVLDRLCore, command)
            for module in [each for name, each in sys.modules.items() if name.startswith("SVLDRLCore.")]:
                if vars(module).get(command) is real:
                    patch.setattr(module, command, tiny(real))
        yield


def tiny(real: Callable[..., Path]) -> Callable[..., Path]:
    """The same training, of a few steps."""

    def train(*arguments: Any, overrides: dict[str, Any] | None = None, **options: Any) -> Path:
        tiny = TINY
        if backbone_of(load_config(options.get("preset") or "general", overrides=overrides).network).on_slices:
            tiny = merge(TINY, {"data": {"patch_size": [1, 16, 16]}, "mask_agents": {"enabled": False}})
        return real(*arguments, overrides=merge(overrides or {}, tiny), **options)

    return train


@pytest.fixture(scope="module")
def readers_folder(tmp_path_factory: pytest.TempPathFactory, tiny_trainings: None) -> Path:
    """What a reader has who has trained a model of the left atrium."""
    folder = tmp_path_factory.mktemp("reader")
    made = write_phantom_dataset(
        folder / "made", 6, 1, noise="mt", ratio=0.5, size_dhw=(12, 24, 24), spacing_dhw=(4.0, 4.0, 4.0)
    )
    listed = load_datalist(made)
    atrium, other = Segment(1, "left atrium", (0.8, 0.4, 0.3)), Segment(1, "LA", (0.8, 0.4, 0.3))
    for case in (*listed.training, *listed.validation):
        volume = read_label(case.label)
        (folder / "images").mkdir(exist_ok=True)
        shutil.copy(case.images[0], folder / "images" / f"{case.name}.nrrd")
        write_label(folder / "labels" / f"{case.name}.seg.nrrd", volume.array, volume.geometry, [atrium])
    held_out = listed.validation[0]
    rough, true = read_label(held_out.label), read_label(held_out.label.parents[1] / "clean" / held_out.label.name)
    shutil.copy(held_out.images[0], folder / "image.nrrd")
    write_label(folder / "rough.seg.nrrd", rough.array, rough.geometry, [atrium])
    write_label(folder / "other_names.seg.nrrd", rough.array, rough.geometry, [other])
    write_label(folder / "truth.seg.nrrd", true.array, true.geometry, [atrium])
    content = {
        "labels": {"1": "left atrium"},
        "training": [
            {"name": case.name, "image": f"images/{case.name}.nrrd", "label": f"labels/{case.name}.seg.nrrd"}
            for case in listed.training
        ],
    }
    (folder / "datalist.json").write_text(json.dumps(content), "utf-8")
    save_datalist(load_datalist(folder / "datalist.json"), folder / "datalist.json", overwrite=True)
    shutil.rmtree(folder / "made")
    SVLDRLCore.train(folder / "datalist.json", folder / "runs" / "atrium", overrides=TINY)
    return folder


@pytest.mark.parametrize("page", with_snippets(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_snippets_of_a_page_run(
    page: Path, readers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(readers_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    told: dict[str, Any] = {}
    for snippet in snippets(page):
        if snippet.language in RUN:
            where = f"{page.relative_to(ROOT)}, line {snippet.line}"
            {"bash": run_commands, "python": run_python}[snippet.language](snippet, where, told)


def run_commands(snippet: Snippet, where: str, told: dict[str, Any]) -> None:
    for line in snippet.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "svldrl", f"{where}: only svldrl is run, mark others as console: {line}"
            assert exit_status(lambda words=words: main(words[1:])) == 0, f"{where}: {line}"


def exit_status(do: Callable[[], int]) -> int:
    try:
        return do()
    except SystemExit as end:  # of --help
        return int(end.code or 0)


def run_python(snippet: Snippet, where: str, told: dict[str, Any]) -> None:
    exec(compile("\n" * snippet.line + snippet.text, where, "exec"), told)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_run_or_marked(page: Path) -> None:
    languages = {snippet.language for snippet in snippets(page) if not snippet.language.startswith(OF_THE_SITE)}
    assert languages <= {*RUN, *SHOWN}
    for snippet in snippets(page):
        if snippet.language == "json":
            json.loads(snippet.text)
