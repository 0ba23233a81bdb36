"""`svldrl corrupt`: each kind of noise, and poorer images, on files; the log tells the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from SVLDRLCore.benchmarking.benchmark import check_noises
from SVLDRLCore.benchmarking.benchmark_settings import settings_from_dict
from SVLDRLCore.benchmarking.corrupt import NOISES, corrupt
from SVLDRLCore.data.noise_kinds import KINDS
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.volumes import read_image, read_label, same_geometry, write_label


@pytest.fixture(scope="module")
def datalist(tmp_path_factory) -> Path:
    """Six cases of two structures."""
    folder = tmp_path_factory.mktemp("data")
    return write_phantom_dataset(folder, 6, 1, structures=2, size_dhw=(20, 32, 32), spacing_dhw=(3.0, 3.0, 3.0))


def told(made: Path) -> dict[str, Any]:
    return json.loads(made.with_name("corruption.json").read_text())


def dice(a: np.ndarray, b: np.ndarray) -> float:
    both = [((a == v).sum() + (b == v).sum(), ((a == v) & (b == v)).sum()) for v in (1, 2)]
    return float(np.mean([2 * common / total if total else 1.0 for total, common in both]))


@pytest.mark.parametrize("noise", sorted(set(NOISES) - {"sfda", "none", "mt", "sloppy"}))
def test_each_kind_is_told_as_it_was_done(datalist: Path, tmp_path: Path, noise: str) -> None:
    made = corrupt(datalist, tmp_path / "noisy", noise=noise, seed=1)
    original = {case.name: case for case in load_datalist(datalist).training}
    rows = {row["case"]: row for row in told(made)["cases"]}
    assert sum(row["corrupted"] for row in rows.values()) == 3
    for case in load_datalist(made).training:
        row, clean = rows[case.name], read_label(original[case.name].label).array
        assert row["label_dice"] == pytest.approx(dice(read_label(case.label).array, clean))
        assert ("kind" in row) == row["corrupted"]
        if row["corrupted"]:
            assert row["kind"] == noise or (noise == "realistic" and row["kind"] in KINDS)
            assert row["label_dice"] < 1
        assert [p.resolve() for p in case.images] == [p.resolve() for p in original[case.name].images]


def test_realistic_noise_is_a_mixture_that_repeats(datalist: Path, tmp_path: Path) -> None:
    lists = [corrupt(datalist, tmp_path / n, noise="realistic", ratio=1.0, seed=4) for n in "ab"]
    assert told(lists[0]) == told(lists[1])
    assert len({row["kind"] for row in told(lists[0])["cases"]}) > 2


def test_another_case_is_taken_where_a_kind_is_not_possible(tmp_path: Path) -> None:
    made = write_phantom_dataset(tmp_path / "data", 4, 0, structures=2, size_dhw=(16, 24, 24), spacing_dhw=(3, 3, 3))
    cases = load_datalist(made).training
    for case in cases[:2]:  # one structure alone
        label = read_label(case.label)
        write_label(case.label, np.where(label.array == 2, 0, label.array), label.geometry, overwrite=True)
    seen: list[dict[str, Any]] = []
    noisy = corrupt(made, tmp_path / "noisy", noise="wrong_structure", listeners=[seen.append])
    corrupted = {row["case"] for row in told(noisy)["cases"] if row["corrupted"]}
    assert corrupted == {case.name for case in cases[2:]}
    passed = [event["text"] for event in seen if event["event"] == "warning"]
    assert all("two structures" in text for text in passed)
    with pytest.raises(InputError, match=r"possible for 2 of 4 cases, 3 are asked for"):
        corrupt(made, tmp_path / "more", noise="wrong_structure", ratio=0.75)
    assert not (tmp_path / "more").exists()


def test_poorer_images_keep_their_labels(datalist: Path, tmp_path: Path) -> None:
    made = corrupt(datalist, tmp_path / "poorer", degrade="mixture", degrade_ratio=0.5, seed=2)
    original = {case.name: case for case in load_datalist(datalist).training}
    rows = {row["case"]: row for row in told(made)["cases"]}
    assert sum("degraded" in row for row in rows.values()) == 3
    for case in load_datalist(made).training:
        given, row = original[case.name], rows[case.name]
        assert case.label.resolve() == given.label.resolve()
        assert not row["corrupted"]
        if "degraded" in row:
            before, after = read_image(given.images[0]), read_image(case.images[0])
            assert same_geometry(before.geometry, after.geometry)
            assert (before.array != after.array).any()
            assert (after.array == np.rint(after.array)).all()  # as the file was
            assert row["degradation"]
        else:
            assert case.images[0].resolve() == given.images[0].resolve()


def test_wrong_labels_are_the_same_with_and_without_poorer_images(datalist: Path, tmp_path: Path) -> None:
    alone = corrupt(datalist, tmp_path / "a", noise="warp")
    both = corrupt(datalist, tmp_path / "b", noise="warp", degrade="blur_3mm", degrade_ratio=1.0)
    assert told(alone)["mean_label_dice"] == told(both)["mean_label_dice"]
    assert all(row["degraded"] == "blur_3mm" for row in told(both)["cases"])


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, "neither labels nor images"),
        ({"degrade": "rain"}, "rain"),
        ({"degrade": "noise", "degrade_ratio": 2.0}, "degrade_ratio"),
    ],
)
def test_mistakes_are_named(datalist: Path, tmp_path: Path, arguments: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names):
        corrupt(datalist, tmp_path / "noisy", **arguments)
    assert not (tmp_path / "noisy").exists()


def test_thick_slices_are_made_no_thinner(tmp_path: Path) -> None:
    made = write_phantom_dataset(tmp_path / "data", 2, 0, size_dhw=(10, 24, 24), spacing_dhw=(6.0, 3.0, 3.0))
    with pytest.raises(InputError, match="as thick already"):
        corrupt(made, tmp_path / "poorer", degrade="slices_5mm")


def test_a_benchmark_takes_all_kinds() -> None:
    noises = {kind: {"kind": kind} for kind in NOISES if kind != "none"}
    noises["poorer"] = {"kind": "none", "degrade": "slices_8mm", "degrade_ratio": 0.4}
    rows = {"plain": {"method": "supervised"}}
    settings = settings_from_dict(
        {"datalist": "x", "noises": noises, "rows": rows, "reference": "plain", "baseline": "plain"}
    )
    check_noises(settings)
    wrong = settings_from_dict(
        {
            "datalist": "x",
            "noises": {"a": {"kind": "mt", "degrade": "rain"}},
            "rows": rows,
            "reference": "plain",
            "baseline": "plain",
        }
    )
    with pytest.raises(InputError, match="rain"):
        check_noises(wrong)
