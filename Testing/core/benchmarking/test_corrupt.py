"""Label noise on purpose: how wrong the labels are is told and true, and the originals stay as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from SVLDRLCore.benchmarking.corrupt import corrupt
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.files.datalist import DataList, load_datalist
from SVLDRLCore.files.volumes import (
    Geometry,
    read_label,
    same_geometry,
    write_image,
    write_label,
)
from SVLDRLCore.job_control import JobControl


@pytest.fixture(scope="module")
def datalist(tmp_path_factory) -> Path:
    """Six training and two validation cases of two structures."""
    folder = tmp_path_factory.mktemp("data")
    return write_phantom_dataset(folder, 6, 2, structures=2, size_dhw=(20, 32, 32), spacing_dhw=(3.0, 3.0, 3.0))


def told(output: Path) -> dict[str, Any]:
    return json.loads((output / "corruption.json").read_text())


def labels_of(listed: DataList) -> dict[str, np.ndarray]:
    return {case.name: read_label(case.label).array for case in listed.training}


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the structures 1 and 2."""
    return float(np.mean([2 * ((a == v) & (b == v)).sum() / ((a == v).sum() + (b == v).sum()) for v in (1, 2)]))


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("strength", ["mild", "strong"])
def test_morphological_noise_is_as_bad_as_it_says(datalist: Path, tmp_path: Path, strength: str) -> None:
    before = everything(datalist.parent)
    made = corrupt(datalist, tmp_path / "noisy", noise="mt", strength=strength, seed=1)
    assert everything(datalist.parent) == before
    original, noisy = load_datalist(datalist), load_datalist(made)
    assert noisy.validation == ()
    assert noisy.labels == original.labels
    assert [c.name for c in noisy.training] == [c.name for c in original.training]
    assert [[p.resolve() for p in c.images] for c in noisy.training] == [list(c.images) for c in original.training]
    clean, wrong, report = labels_of(original), labels_of(noisy), told(tmp_path / "noisy")
    rows = {row["case"]: row for row in report["cases"]}
    assert sum(row["corrupted"] for row in rows.values()) == 3
    for case in noisy.training:
        row = rows[case.name]
        assert row["label_dice"] == pytest.approx(dice(wrong[case.name], clean[case.name]))
        assert (row["label_dice"] < 1) == row["corrupted"]
        assert (tmp_path in case.label.resolve().parents) == row["corrupted"]
        assert not (case.trusted and row["corrupted"])
        first = read_label(case.images[0]).geometry if not row["corrupted"] else read_label(case.label).geometry
        assert same_geometry(first, read_label(original.training[0].label).geometry)
    corrupted = [row["label_dice"] for row in rows.values() if row["corrupted"]]
    assert report["mean_label_dice"] == pytest.approx(np.mean(corrupted))
    assert (report["noise"], report["strength"], report["ratio"], report["seed"]) == ("mt", strength, 0.5, 1)


def test_strong_noise_is_stronger(datalist: Path, tmp_path: Path) -> None:
    for strength in ("mild", "strong"):
        corrupt(datalist, tmp_path / strength, noise="mt", strength=strength, ratio=1.0)
    assert told(tmp_path / "strong")["mean_label_dice"] < told(tmp_path / "mild")["mean_label_dice"] - 0.1


def test_sloppy_readers_leave_slices_out_and_wander_about_the_border(datalist: Path, tmp_path: Path) -> None:
    made = corrupt(datalist, tmp_path / "noisy", noise="sloppy", ratio=1.0, seed=2)
    clean, wrong, report = labels_of(load_datalist(datalist)), labels_of(load_datalist(made)), told(tmp_path / "noisy")
    assert (report["noise"], report["strength"]) == ("sloppy", None)
    for row in report["cases"]:
        assert row["label_dice"] == pytest.approx(dice(wrong[row["case"]], clean[row["case"]]))
        assert row["label_dice"] < 0.95


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 0), (0.34, 2), (1.0, 6)])
def test_the_ratio_is_that_of_the_cases(datalist: Path, tmp_path: Path, ratio: float, count: int) -> None:
    corrupt(datalist, tmp_path / "noisy", noise="mt", ratio=ratio)
    report = told(tmp_path / "noisy")
    assert sum(row["corrupted"] for row in report["cases"]) == count
    assert (report["mean_label_dice"] == 1.0) == (count == 0)
    assert len(list((tmp_path / "noisy" / "labels").iterdir())) == count


def test_seeds_repeat(datalist: Path, tmp_path: Path) -> None:
    lists = [load_datalist(corrupt(datalist, tmp_path / str(i), noise="mt", seed=s)) for i, s in enumerate((5, 5, 6))]
    first, again, other = (labels_of(listed) for listed in lists)
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)
    assert told(tmp_path / "0") == told(tmp_path / "1") != told(tmp_path / "2")


def test_labels_of_a_source_model(tmp_path: Path) -> None:
    """SFDA noise: a model of two cases labels the others, neither well nor as badly as it could."""
    datalist = write_phantom_dataset(tmp_path / "data", 4, 1, size_dhw=(20, 32, 32), spacing_dhw=(3.0, 3.0, 3.0))
    before, seen = everything(tmp_path / "data"), []
    wanted = {"lowest_dice": 0.4, "highest_dice": 0.6}
    made = corrupt(datalist, tmp_path / "noisy", noise="sfda", listeners=[seen.append], **wanted)
    assert everything(tmp_path / "data") == before
    original, noisy, report = load_datalist(datalist), load_datalist(made), told(tmp_path / "noisy")
    assert noisy.validation == ()
    clean, wrong = labels_of(original), labels_of(noisy)
    corrupted = [row for row in report["cases"] if row["corrupted"]]
    assert len(corrupted) == 2
    assert set(report["source_cases"]) == {c.name for c in original.training} - {row["case"] for row in corrupted}
    for row in corrupted:
        a, b = wrong[row["case"]] == 1, clean[row["case"]] == 1
        assert row["label_dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert 0.3 < report["mean_label_dice"] < 0.85  # it looks every ten steps, so it may overshoot a little
    assert report["source_steps"] % 10 == 0
    assert report["source_steps"] > 0
    assert (seen[0]["event"], seen[-1]["event"]) == ("started", "finished")


def test_labels_that_slicer_cropped_are_corrupted_on_their_images_grid(tmp_path: Path) -> None:
    datalist = write_phantom_dataset(tmp_path / "data", 4, 0, size_dhw=(20, 32, 32), spacing_dhw=(3.0, 3.0, 3.0))
    for case in load_datalist(datalist).training:
        label = read_label(case.label)
        inside = [(int(i.min()), int(i.max()) + 1) for i in np.nonzero(label.array)]
        origin = tuple(label.geometry.world(np.array([low for low, _ in inside])).tolist())
        part = label.array[tuple(slice(*ends) for ends in inside)]
        write_label(case.label, part, Geometry(part.shape, (3.0, 3.0, 3.0), origin), label.segments, overwrite=True)
    wanted = {"lowest_dice": 0.3, "highest_dice": 0.5}
    made = corrupt(datalist, tmp_path / "noisy", noise="sfda", **wanted)
    for case, row in zip(load_datalist(made).training, told(tmp_path / "noisy")["cases"]):
        if row["corrupted"]:
            assert read_label(case.label).array.shape == (20, 32, 32)
            assert 0 < row["label_dice"] < 1


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"noise": "salt"}, "salt"),
        ({"noise": "mt", "strength": "brutal"}, "brutal"),
        ({"noise": "mt", "ratio": 1.5}, "ratio"),
        ({"noise": "sloppy", "left_out": 20}, "left_out"),
        ({"noise": "mt", "ratio": float("nan")}, "ratio"),
        ({"noise": "sfda", "ratio": 1.0}, "no case is left"),
    ],
)
def test_mistakes_are_named(datalist: Path, tmp_path: Path, arguments: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names):
        corrupt(datalist, tmp_path / "noisy", **arguments)
    assert not (tmp_path / "noisy").exists()


def test_a_folder_in_use_is_left_alone(datalist: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        corrupt(datalist, tmp_path, noise="mt")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_cancel_leaves_no_list_behind(datalist: Path, tmp_path: Path) -> None:
    control = JobControl()
    stop = [lambda event: control.cancel("enough") if event["event"] == "progress" else None]
    with pytest.raises(Cancelled):
        corrupt(datalist, tmp_path / "noisy", noise="mt", listeners=stop, control=control)
    assert not (tmp_path / "noisy" / "datalist.json").exists()


def test_the_regions_of_the_data_list_move_together(tmp_path: Path) -> None:
    """Two halves of a block, of which one is declared to lie in the whole: eroded, no gap opens between them."""
    geometry = Geometry((20, 32, 32), (3.0, 3.0, 3.0))
    label = np.zeros(geometry.size_dhw, np.uint8)
    label[4:16, 6:26, 4:16], label[4:16, 6:26, 16:28] = 1, 2
    entries = []
    for name in "abcd":
        write_image(tmp_path / f"{name}.nrrd", label.astype(np.float32), geometry)
        write_label(tmp_path / f"{name}_label.nrrd", label, geometry)
        entries.append({"image": f"{name}.nrrd", "label": f"{name}_label.nrrd"})
    content = {"labels": {"1": "oedema", "2": "core"}, "regions": {"whole": [1, 2], "core": [2]}, "training": entries}
    (tmp_path / "list.json").write_text(json.dumps(content))
    made = labels_of(load_datalist(corrupt(tmp_path / "list.json", tmp_path / "noisy", noise="mt", ratio=1.0)))
    assert any((noisy > 0).sum() < (label > 0).sum() for noisy in made.values())
    for name, noisy in made.items():
        assert ndimage.label(noisy > 0)[1] == 1, name
        assert {1, 2} <= set(np.unique(noisy)), name


def distance_in_slice(mask: np.ndarray, spacing_hw: tuple[float, ...]) -> np.ndarray:
    outside, inside = (ndimage.distance_transform_edt(each, spacing_hw) for each in (~mask, mask))
    return outside - inside


def test_by_slice_a_border_moves_within_its_slice_alone(tmp_path: Path) -> None:
    made = write_phantom_dataset(tmp_path / "data", 3, 1, size_dhw=(9, 40, 44), spacing_dhw=(1.0, 1.0, 1.5))
    clean = labels_of(load_datalist(made))
    noisy = labels_of(load_datalist(corrupt(made, tmp_path / "out", noise="mt", ratio=1.0, by_slice=True)))
    signs = set()
    for name, label in clean.items():
        moved = noisy[name] > 0
        shown = label.any((1, 2))
        assert not moved[~shown].any()
        distance = np.stack([distance_in_slice(label[n] > 0, (1.0, 1.5)) for n in np.flatnonzero(shown)])
        assert distance[moved[shown]].max() <= distance[~moved[shown]].min()  # one shift for all slices of a case
        signs.add(moved.sum() > label.sum())
    assert signs == {True, False}
