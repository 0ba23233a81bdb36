"""The demo: leaves what it promises, replaces only its own work, and nothing at all when it fails."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import SVLDRLCore.jobs.demo as demo_command
from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.evaluation.metrics import mask_metrics
from SVLDRLCore.files.volumes import read_image, read_label, require_same_geometry
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.demo import MARKER, demo
from SVLDRLCore.jobs.demo_cases import SPACING_DHW, rough_mask
from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.models.trained_model import load_model

HELD_OUT = ("held_out_1", "held_out_2")
MODEL = ("MODEL_CARD.md", "SHA256SUMS", "calibration.json", "config.json", "labels.json", "model.safetensors",
         "reliability.csv", "reliability.svg", "stage_seconds.json", "training.csv")  # fmt: skip


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One quick demo, where a demo of another day stood."""
    folder = tmp_path_factory.mktemp("place") / "demo"
    (folder / "refined").mkdir(parents=True)
    (folder / "refined" / "earlier.seg.nrrd").write_text("an earlier result")
    (folder / MARKER).write_text(json.dumps({"files": ["refined/earlier.seg.nrrd"]}))
    events: list[dict] = []
    table = demo(folder, seed=3, listeners=[events.append], quick=True)
    return SimpleNamespace(folder=folder, table=table, events=events)


def test_leaves_exactly_what_it_promises(made):
    cases = {f"case_{n:03d}" for n in range(1, 7)}
    expected = {MARKER, "report.html", "summary.json", "data/datalist.json", "data/datalist_clean.json"}
    expected |= {f"model/{name}" for name in MODEL}
    expected |= {f"data/images/{case}_0000.nrrd" for case in cases}
    expected |= {f"data/{kind}/{case}.seg.nrrd" for kind in ("labels", "clean") for case in cases}
    expected |= {f"images/{case}.nrrd" for case in HELD_OUT}
    expected |= {f"{kind}/{case}.seg.nrrd" for kind in ("rough", "refined", "true") for case in HELD_OUT}
    assert files_in(made.folder) == expected  # the earlier result has gone
    assert [path.name for path in made.folder.parent.iterdir()] == ["demo"]
    assert set(json.loads((made.folder / MARKER).read_text())["files"]) == expected - {MARKER}


def test_the_summary_is_what_the_files_say(made):
    summary = json.loads((made.folder / "summary.json").read_text())
    assert summary["seed"] == 3
    stages = {"warm_up", "transition", "full_rl"}
    assert set(summary["seconds"]) == {"data", "reading and predicting", *stages, "refinement"}
    assert all(seconds > 0 for seconds in summary["seconds"].values())
    for when, kind in (("before", "rough"), ("after", "refined")):
        measured = []
        for case in HELD_OUT:
            image = read_image(made.folder / "images" / f"{case}.nrrd")
            mask, true = (read_label(made.folder / k / f"{case}.seg.nrrd") for k in (kind, "true"))
            require_same_geometry(image, mask)
            assert [segment.name for segment in mask.segments] == [segment.name for segment in true.segments]
            measured.append(mask_metrics(mask.array, true.array, SPACING_DHW))
        assert summary[f"dice_{when}"] == pytest.approx(np.mean([m.dice for m in measured]))
        assert summary[f"hd95_{when}"] == pytest.approx(np.mean([m.hd95_mm for m in measured]))
    last = made.table.splitlines()[-1].split()
    assert last == ["mean", *(f"{summary[f'dice_{w}']:.3f}" for w in ("before", "after")),
                    *(f"{summary[f'hd95_{w}']:.2f}" for w in ("before", "after"))]  # fmt: skip


def test_the_model_can_be_used_and_comes_from_the_demo_preset(made):
    model = load_model(made.folder / "model")
    assert (model.config.preset, model.config.variant, model.config.train.seed) == ("demo", "extended", 3)
    assert model.mask_network is not None


class Page(HTMLParser):
    """What a page would load, and its words."""

    def __init__(self):
        super().__init__()
        self.sources, self.words = [], ""

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "iframe", "object", "embed")
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        self.words += data


def test_the_report_holds_all_it_shows(made):
    html = (made.folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    # two cases, training curves, policy, reliability
    assert len(page.sources) == 5
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "url(" not in html
    for words in (*HELD_OUT, "--seed 3", "eroded by", "dilated by", "preset demo, variant extended", "torch"):
        assert words in page.words


def test_one_stream_of_events_with_all_stages(made):
    kinds = [event["event"] for event in made.events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert kinds.count("started") == kinds.count("finished") == 1
    stages = [event["stage"] for event in made.events if event["event"] == "stage"]
    assert stages == ["warm_up", "transition", "full_rl"]
    told = {event["stage"] for event in made.events if event["event"] == "progress"}
    assert told >= {"making phantoms", "reading cases", "reviewing labels", *stages, "refining", "writing the report"}
    assert [event["time"] for event in made.events] == sorted(event["time"] for event in made.events)


def test_the_stages_count_their_steps_as_one_job(made):
    told = [event for event in made.events if event["event"] in ("stage", "metrics")]
    steps = [event["step"] for event in told]
    assert steps == sorted(steps)
    starts = {event["stage"]: (event["step"], event["last"]) for event in told if event["event"] == "stage"}
    assert starts == {"warm_up": (0, 20), "transition": (20, 28), "full_rl": (28, 32)}
    assert steps[-1] == 32


def never(*args, **values):
    raise AssertionError("it went on")


@pytest.mark.parametrize("place", ["notes.txt", "refined/mine.seg.nrrd"])
@pytest.mark.parametrize("with_marker", [False, True])
def test_foreign_files_are_refused_before_anything_starts(tmp_path, monkeypatch, place, with_marker):
    monkeypatch.setattr(demo_command, "write_training_data", never)
    file = tmp_path / "demo" / place
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    if with_marker:
        (tmp_path / "demo" / MARKER).write_text(json.dumps({"files": ["report.html"]}))
    before = files_in(tmp_path)
    with pytest.raises(InputError, match=Path(place).name):
        demo(tmp_path / "demo", quick=True)
    assert files_in(tmp_path) == before
    assert file.read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", '{"files": 1}', '{"seed": 0}'])
def test_a_damaged_marker_makes_nothing_ours(tmp_path, monkeypatch, text):
    monkeypatch.setattr(demo_command, "write_training_data", never)
    (tmp_path / "demo.json").write_text(text)
    with pytest.raises(InputError, match="no demo wrote"):
        demo(tmp_path, quick=True)


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(InputError, match="it is a file"):
        demo(tmp_path / "demo", quick=True)


def test_without_what_the_report_needs_it_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_command, "find_spec", lambda name: None if name == "jinja2" else object())
    with pytest.raises(InputError, match=r"pip install 'svldrl\[report\]'"):
        demo(tmp_path / "demo", quick=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError("broken"), Cancelled("cancelled by the user")])
def test_a_failed_run_leaves_what_was_there(tmp_path, monkeypatch, error):
    """It fails after phantoms were written; the earlier demo stays as it was."""

    def fail(*args, **values):
        raise error

    monkeypatch.setattr(demo_command, "train", fail)
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "report.html").write_text("earlier")
    (folder / MARKER).write_text(json.dumps({"files": ["report.html"]}))
    before = files_in(tmp_path)
    events: list[dict] = []
    with pytest.raises(type(error)):
        demo(folder, listeners=[events.append], quick=True)
    assert files_in(tmp_path) == before
    assert (folder / "report.html").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert events[-1]["event"] == ("cancelled" if isinstance(error, Cancelled) else "failed")


def test_a_cancelled_demo_stops_soon(tmp_path):
    control = JobControl()
    control.cancel()
    with pytest.raises(Cancelled):
        demo(tmp_path / "demo", control=control, quick=True)
    assert not list(tmp_path.iterdir())


def test_rough_masks_are_off_by_two_to_four_mm():
    _, label = make_phantom(0)
    true = label > 0
    distance = signed_distance(true, SPACING_DHW)
    for index in (0, 1, 3, 4):  # the others have irregular borders
        rough, story = rough_mask(true, index, np.random.default_rng(index))
        changed = np.abs(distance[rough != true])
        grown = index % 2 == 1
        assert story.startswith("dilated" if grown else "eroded")
        assert (rough & ~true).any() == grown
        assert (true & ~rough).any() != grown
        assert 1.0 < changed.max() <= 4.0
    irregular, story = rough_mask(true, 5, np.random.default_rng(5))
    assert "irregular" in story
    assert 0.5 < mask_metrics(irregular, true, SPACING_DHW).dice < 0.95
