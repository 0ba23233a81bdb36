"""The report: one file that loads nothing, escapes everything, and copes with whatever part is missing."""

from __future__ import annotations

import base64
import builtins
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.figures import (
    outline_figure,
    policy_figure,
    reliability_figure,
    training_figure,
)
from SVLDRLCore.evaluation.plotting import (
    curve,
    new_figure,
    report_style,
    series,
    silent_stages,
    stage_starts,
    unbroken,
)
from SVLDRLCore.evaluation.report import CasePicture, write_report

matplotlib_image = pytest.importorskip("matplotlib.image")


def pixels(png):
    return matplotlib_image.imread(io.BytesIO(png))


def box(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*pair) for pair in ranges)] = True
    return mask


def training_events():
    events = []
    for number, stage in enumerate(("warm_up", "transition", "full_rl")):
        events.append({"event": "stage", "stage": stage, "step": 10 * number})
        for step in range(10 * number + 1, 10 * number + 11):
            event = {"event": "metrics", "stage": stage, "step": step, "segmentation_loss": 1 / (1 + step)}
            if number:
                event |= {"value_loss": 0.2, "policy_loss": math.nan, "reward_mean": 0.1, "reward_sd": 0.2}
                event |= {"entropy": 1.0, "actions": [0.5, 0.3, 0.2], "explained_variance": None}
            events.append(event)
    return [*events, {"event": "message", "text": "unrelated"}]


SHAPE, SPACING = (12, 30, 40), (3.0, 1.0, 1.0)
MASKS = {"rough": box(SHAPE, (3, 9), (8, 20), (8, 22)), "true": box(SHAPE, (3, 9), (10, 22), (10, 24))}


BARE = {"cases": [], "events": [], "reliability": None}  # without figures, which take time


def report(path, **changes):
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    content = {
        "title": "A title",
        "lead": "A lead.",
        "summary": {"dice_before": 0.7, "dice_after": 0.85, "hd95_before": 9.0, "hd95_after": 11.5, "n": 2,
                    "seconds": {"warm_up": 12.34, "full_rl": 3723}},
        "cases": [CasePicture("one", image, SPACING, refined=MASKS["true"], **MASKS)],
        "rows": [
            {"case": "one", "dice_before": 0.7, "dice_after": 0.85, "hd95_mm_before": 9, "hd95_mm_after": 11}
        ],
        "events": training_events(),
        "reliability": [
            {"case": "one", "weight": 0.4, "bias_mm": 1.0, "normalised_cross_entropy": 0.8, "fragments": 2,
             "trusted": True}
        ],
        "notes": ["seed 7"],
    }  # fmt: skip
    return write_report(path, **(content | changes)).read_text(encoding="utf-8")


class References(HTMLParser):
    """Collects what a page would load and the scripts in it."""

    def __init__(self):
        super().__init__()
        self.sources, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_everything_is_inside_the_file(tmp_path):
    html = report(tmp_path / "report.html")
    page = References()
    page.feed(html)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "url(" not in html
    for source in page.sources:
        file = base64.b64decode(source.split(",", 1)[1])
        assert file.startswith(b"\x89PNG") if "png" in source[:20] else b"<svg" in file[:2000]


def test_says_the_numbers(tmp_path):
    text = re.sub(r"<[^>]+>", " ", report(tmp_path / "report.html"))
    for expected in (
        "0.700",
        "0.850",
        "+0.150",
        "9.00",
        "11.50",
        "n = 2",
        "12 s",
        "1 h 02 min",
        "seed 7",
        "numpy",
    ):
        assert expected in text


def test_gains_and_losses_are_told_apart_by_direction(tmp_path):
    html = report(tmp_path / "report.html", **BARE)
    assert '<td class="better">+0.150</td>' in html
    assert '<td class="worse">+2.00</td>' in html  # a larger distance is worse
    assert '<div class="change worse">+2.50</div>' in html
    rows = [{"case": "x", "dice_before": 0.8, "dice_after": 0.8001}, {"case": "y", "dice_before": None}]
    assert '<td class="same">+0.000</td>' in report(tmp_path / "same.html", rows=rows, **BARE)


def test_names_cannot_become_markup(tmp_path):
    hostile = '<img src=x onerror="alert(1)">'
    image = np.zeros(SHAPE, np.float32)
    html = report(
        tmp_path / "report.html",
        title=hostile,
        lead=hostile,
        cases=[CasePicture(hostile, image, SPACING, **MASKS)],
        rows=[{"case": hostile, hostile: hostile}],
        reliability=[{"case": hostile, "weight": 1.0}],
        notes=[hostile],
    )
    page = References()
    page.feed(html)
    assert hostile not in html
    assert all(source.startswith("data:") for source in page.sources)


def test_missing_parts_leave_no_holes(tmp_path):
    html = report(tmp_path / "report.html", summary={}, rows=[], notes=[], **BARE)
    assert "<img" not in html
    assert "<table" not in html
    assert "Reproducibility" in html
    only_after = report(tmp_path / "after.html", summary={"dice_after": 0.8, "dice_before": None}, **BARE)
    assert "0.800" in only_after
    assert "→" not in only_after


def test_is_never_overwritten_silently(tmp_path):
    report(tmp_path / "report.html", **BARE)
    with pytest.raises(InputError, match=r"report\.html"):
        report(tmp_path / "report.html", **BARE)
    assert "Another" in report(tmp_path / "report.html", title="Another", overwrite=True, **BARE)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(InputError, match=r"pip install 'svldrl\[report\]'"):
        report(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_outlines_have_the_patients_proportions():
    """A box of 12 x 24 mm (W x H) on voxels of 1 x 3 mm is drawn twice as high as wide, where it belongs."""
    shape = (8, 20, 60)
    mask = box(shape, (2, 6), (4, 12), (10, 22))
    picture = pixels(outline_figure(np.zeros(shape), (3.0, 3.0, 1.0), [("true", mask, "#ff0000")], slices=1))
    red = (picture[..., 0] > 0.6) & (picture[..., 1] < 0.3)
    first_panel = red[:, : np.flatnonzero(red.any(0))[0] + picture.shape[0] // 2]
    rows, columns = np.flatnonzero(first_panel.any(1)), np.flatnonzero(first_panel.any(0))
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(2, rel=0.08)


def test_right_anterior_and_superior_are_left_and_on_top():
    shape = (60, 60, 60)
    corner = box(shape, (40, 56), (4, 20), (4, 20))  # superior, anterior, right
    picture = pixels(outline_figure(np.zeros(shape), (1, 1, 1), [("corner", corner, "#ff0000")], slices=1))
    red = (picture[..., 0] > 0.6) & (picture[..., 1] < 0.3)
    for panel in np.array_split(red, 2, axis=1):
        rows, columns = np.nonzero(panel)
        assert rows.mean() < 0.4 * panel.shape[0]
        assert columns.mean() < 0.4 * panel.shape[1]


def test_slices_are_those_with_the_differences(monkeypatch):
    import SVLDRLCore.evaluation.outlines as outlines

    shape = (30, 24, 24)
    a = box(shape, (2, 28), (6, 18), (6, 18))
    b = a.copy()
    b[8:10], b[20] = False, False  # 8 and 9 differ equally, but are neighbours: one of them is enough
    drawn = []
    draw = outlines._slice_panel

    def spy(panel, image, masks, spacing, axis, index, first, grey_range):
        drawn.append((axis, first + index))
        draw(panel, image, masks, spacing, axis, index, first, grey_range)

    monkeypatch.setattr(outlines, "_slice_panel", spy)
    outline_figure(np.zeros(shape), (1, 1, 1), [("a", a, "red"), ("b", b, "blue")], slices=2)
    assert drawn[:2] == [(0, 8), (0, 20)]
    assert [axis for axis, _ in drawn] in ([0, 0, 1], [0, 0, 2])


@pytest.mark.parametrize("shape", [(1, 20, 30), (5, 4, 3), (1, 1, 1)])
@pytest.mark.parametrize("masks", [[], [("empty", False, "red")], [("full", True, "red")]])
def test_odd_images_are_drawn(shape, masks):
    masks = [(name, np.full(shape, value), color) for name, value, color in masks]
    height, width = pixels(outline_figure(np.zeros(shape, np.int16), (5.0, 1.0, 1.0), masks)).shape[:2]
    assert width < 20 * height


@pytest.mark.parametrize("image_format", ["svg", "png"])
def test_curves(image_format):
    start = b"<?xml" if image_format == "svg" else b"\x89PNG"
    for figure in (training_figure, policy_figure):
        assert figure(training_events(), image_format).startswith(start)
        assert figure([], image_format) is None
        assert figure([{"event": "metrics", "step": 1, "segmentation_loss": math.nan}], image_format) is None
    if image_format == "svg":
        assert policy_figure(training_events()) == policy_figure(training_events())  # the same bytes
    one_step = [{"event": "metrics", "step": 3, "segmentation_loss": 1.0, "entropy": 1.0}]
    assert training_figure(one_step) is not None
    assert policy_figure(one_step) is not None


def test_curves_stop_where_a_stage_logs_nothing_and_are_named_once():
    starts = [("warm_up", 0.0), ("full_rl", 80.0), ("robust", 240.0), ("other", 390.0)]
    steps = np.array([90.0, 240.0, 400.0, 440.0])  # the row at a border tells of the stage before it
    breaks = silent_stages(steps, starts)
    assert breaks == [0.0, 240.0]
    assert [part.tolist() for part in unbroken(steps, breaks)] == [[0, 1], [2, 3]]
    assert silent_stages(np.array([80.0, 240.0, 300.0, 400.0]), starts) == []
    with report_style():
        axis = new_figure(2, 2).subplots()
        curve(axis, steps, steps, label="value", color="black", breaks=breaks)
        assert axis.get_legend_handles_labels()[1] == ["value"]
        assert [line.get_xdata().tolist() for line in axis.lines] == [[90, 240], [400, 440]]


def test_long_noisy_curves_and_many_labels():
    events = [
        {
            "event": "metrics",
            "stage": "warm_up",
            "step": step,
            "loss": float(np.sin(step)),
            "reward_mean": 0.1,
        }
        for step in range(2000)
    ]
    assert training_figure(events) is not None
    rows = [{"case": f"case {n}", "weight": n / 90, "label_dice": n / 90} for n in range(90)]
    assert reliability_figure(rows, "png") is not None
    assert reliability_figure([]) is None


def test_series_and_stages():
    events = training_events()
    steps, values = series(events, "segmentation_loss")
    assert steps.tolist() == list(range(1, 31))
    assert values[0] == 1 / 2
    assert series(events, "policy_loss")[0].size == series(events, "explained_variance")[0].size == 0
    expected = [("warm_up", 0), ("transition", 10), ("full_rl", 20)]
    assert stage_starts(events) == expected
    assert stage_starts([event for event in events if event["event"] != "stage"]) == expected
