"""`svldrl phantom`: noisy training data and a case to try refinement on, complete or not there at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.volumes import read_image, read_label, require_same_geometry
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.check import check
from SVLDRLCore.jobs.phantom import PhantomData, phantom

CASES = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> PhantomData:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    folder.mkdir()  # an empty one is no obstacle
    return phantom(folder, CASES, seed=3)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_half_of_the_training_labels_are_wrong(made: PhantomData) -> None:
    noisy, clean = load_datalist(made.datalist), load_datalist(made.datalist.with_name("datalist_clean.json"))
    assert [c.name for c in noisy.training] == [c.name for c in clean.training]
    assert len(noisy.training) == CASES
    scores = [
        dice(read_label(a.label).array > 0, read_label(b.label).array > 0)
        for a, b in zip(noisy.training, clean.training)
    ]
    assert sorted(score < 1 for score in scores) == [False] * 2 + [True] * 2
    assert check(made.datalist) == []
    for case in noisy.cases:
        assert case.label.name.endswith(".seg.nrrd")
        (segment,) = read_label(case.label).segments
        assert segment.name == noisy.labels[segment.value]
        assert segment.color != (0.5, 0.5, 0.5)


def test_there_is_a_case_to_refine_that_no_training_sees(made: PhantomData) -> None:
    (held_out,) = load_datalist(made.datalist).validation
    assert (held_out.images, held_out.label) == ((made.image,), made.rough)
    image, rough, true = read_image(made.image), read_label(made.rough), read_label(made.reference)
    require_same_geometry(image, rough)
    require_same_geometry(image, true)
    assert rough.segments == true.segments
    assert 0.3 < dice(rough.array > 0, true.array > 0) < 0.9


def test_the_seed_decides(tmp_path: Path) -> None:
    images = [read_image(phantom(tmp_path / str(i), 2, seed).image).array for i, seed in enumerate((1, 1, 2))]
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()


def test_events_and_what_is_refused(tmp_path: Path) -> None:
    seen = []
    made = phantom(tmp_path / "a", 2, listeners=[seen.append])
    assert [seen[0]["event"], seen[-1]["event"]] == ["started", "finished"]
    assert seen[-1]["datalist"] == str(made.datalist)
    assert (seen[-1]["rough"], seen[-1]["reference"]) == (str(made.rough), str(made.reference))
    assert seen[-2]["done"] == seen[-2]["total"]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="in use"):
        phantom(tmp_path / "a", 2)
    with pytest.raises(InputError, match="too few"):
        phantom(tmp_path / "b", 1)
    control = JobControl()
    stop = [lambda event: control.cancel("enough") if event["event"] == "progress" else None]
    with pytest.raises(Cancelled, match="enough"):
        phantom(tmp_path / "c", 2, listeners=stop, control=control)
    assert sorted(tmp_path.rglob("*")) == before
