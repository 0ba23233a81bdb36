"""Prepared cases kept in a folder that the user names: the same to the bit, found again, renewed, swept."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_trainings import TINY

from SVLDRLCore.config.settings import Config, load_config, with_values
from SVLDRLCore.data import prepared_cases
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.data.prepared_cases import (
    FOLDER_VARIABLE,
    LIMIT_VARIABLE,
    SUFFIX,
    case_cache,
)
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.case_checks import CaseRead
from SVLDRLCore.files.datalist import Case, load_datalist
from SVLDRLCore.files.volumes import read_image, read_label, write_image, write_label
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.models import memory_needs
from SVLDRLCore.training.train import train
from SVLDRLCore.training.training_data import TrainingData, read_training_data

SETTINGS = {"data": {"spacing_mm": [3.0, 3.0, 4.0], "patch_size": [16, 16, 16], "held_out_fraction": 0.0}}


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    return write_phantom_dataset(tmp_path / "data", 4, 1, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cases that are read from their own files."""
    seen: list[str] = []
    real = prepared_cases.read_and_check
    monkeypatch.setattr(
        prepared_cases, "read_and_check", lambda case, *more: seen.append(case.name) or real(case, *more)
    )
    return seen


def read(datalist: Path, config: Config | None = None, told: list[str] | None = None, **more: Any) -> TrainingData:
    config = config or load_config("general", "extended", SETTINGS)
    heard: list[str] = [] if told is None else told
    events = EventLog(None, [lambda event: heard.append(str(event.get("text")))])
    return read_training_data(
        load_datalist(datalist), None, config, (), torch.device("cpu"), events, JobControl(), **more
    )


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob(f"*{SUFFIX}"))


def assert_same(first: TrainingData, second: TrainingData) -> None:
    assert [case.name for case in first.training] == [case.name for case in second.training]
    for a, b in zip(first.training, second.training, strict=True):
        for name in ("image", "masks", "valid"):
            one, other = getattr(a, name), getattr(b, name)
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
        assert (a.ignored is None) == (b.ignored is None)
        assert a.ignored is None or ((a.ignored == b.ignored).all() and a.ignored.dtype == b.ignored.dtype)
        for name in ("spacing_dhw", "trusted", "missing", "image_digest", "label_digest"):
            assert getattr(a, name) == getattr(b, name)


def test_nothing_is_kept_unless_a_folder_is_named(datalist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert case_cache() is None
    before = sorted(datalist.parent.parent.rglob("*"))
    read(datalist)
    assert sorted(datalist.parent.parent.rglob("*")) == before


def test_the_second_reading_is_the_first_one_to_the_bit(
    datalist: Path, cache: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(datalist.read_text())
    content["labels"]["255"] = "ignore"
    hidden = Path(datalist.parent, content["training"][1]["label"])
    partly = read_label(hidden)
    partly.array[:3] = 255  # counts nowhere
    write_label(hidden, partly.array, partly.geometry, overwrite=True)
    content["training"][2]["trusted"] = True
    label = Path(datalist.parent, content["training"][3]["label"])
    drawn = read_label(label)
    write_label(label, np.zeros_like(drawn.array), drawn.geometry, overwrite=True)  # a warning, which is told again
    datalist.write_text(json.dumps(content))
    monkeypatch.delenv(FOLDER_VARIABLE)
    plain = read(datalist)
    monkeypatch.setenv(FOLDER_VARIABLE, str(cache))
    told: list[list[str]] = [[], []]
    first = read(datalist, told=told[0])
    assert len(entries(cache)) == 4
    reads.clear()
    second = read(datalist, told=told[1])
    assert reads == []
    assert first.training[1].ignored is not None
    assert_same(plain, first)
    assert_same(first, second)
    assert first.warnings == second.warnings
    assert [text for text in told[0] if "empty" in text] == [text for text in told[1] if "empty" in text] != []


def test_what_a_file_holds_decides_not_when_it_was_written(datalist: Path, cache: Path, reads: list[str]) -> None:
    first = read(datalist)
    content = json.loads(datalist.read_text())
    place = Path(datalist.parent, content["training"][1]["image"])
    state, volume = place.stat(), read_image(place)
    changed = volume.array.copy()
    changed[5, 10, 10] += 1.0
    write_image(place, changed, volume.geometry, overwrite=True)
    os.utime(place, ns=(state.st_atime_ns, state.st_mtime_ns))
    reads.clear()
    second = read(datalist)
    assert len(reads) == 1
    assert second.training[1].image_digest != first.training[1].image_digest


@pytest.mark.parametrize(
    "change",
    [{"spacing_mm": [3.0, 3.0, 3.0]}, {"patch_size": [24, 16, 16]}, {"intensity_high": 90.0}],
)
def test_other_settings_are_other_cases(
    datalist: Path, cache: Path, reads: list[str], change: dict[str, object]
) -> None:
    config = load_config("general", "extended", SETTINGS)
    read(datalist, config)
    reads.clear()
    read(datalist, with_values(config, data=change))
    assert len(reads) == 4
    assert len(entries(cache)) == 8


def test_a_damaged_entry_is_made_anew(datalist: Path, cache: Path, reads: list[str]) -> None:
    first = read(datalist)
    for number, place in enumerate(entries(cache)):
        whole = place.read_bytes()
        place.unlink()  # `first` still maps the old one
        place.write_bytes((whole[: len(whole) // 2], b"", b"{}" * 40, whole[8:])[number])
    reads.clear()
    assert_same(first, read(datalist))
    assert len(reads) == 4
    reads.clear()
    read(datalist)
    assert reads == []


def test_a_case_with_an_error_is_never_kept(datalist: Path, cache: Path) -> None:
    content = json.loads(datalist.read_text())
    place = Path(datalist.parent, content["training"][0]["image"])
    place.write_bytes(place.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"case_|training"):
        read(datalist)
    assert len(entries(cache)) == 3


def test_the_limit_is_kept_and_what_was_used_last_stays(
    datalist: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("general", "extended", SETTINGS)
    structures = read(datalist, config).structures
    size = max(place.stat().st_size for place in entries(cache))
    (cache / "somebody else's.txt").write_text("stays")
    old = entries(cache)
    for age, place in enumerate(old):
        os.utime(place, (1000.0 + age, 1000.0 + age))
    monkeypatch.setenv(LIMIT_VARIABLE, str(4.5 * size / 1e9))
    listed, kept = load_datalist(datalist), case_cache()
    assert kept is not None
    other = with_values(config, data={"intensity_low": 2.0}).data
    for case in listed.training[:2]:
        kept.read(case, listed.labels, "training", other, structures)
    assert [place.exists() for place in old] == [False, False, True, True]
    assert kept.trouble is None
    assert len(entries(cache)) == 4
    assert (cache / "somebody else's.txt").exists()


def test_a_training_larger_than_the_limit_keeps_what_fits_and_says_so(
    datalist: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(datalist)
    size = max(place.stat().st_size for place in entries(cache))
    for place in entries(cache):
        place.unlink()
    monkeypatch.setenv(LIMIT_VARIABLE, str(2.5 * size / 1e9))
    told: list[str] = []
    assert_same(whole, read(datalist, told=told))
    assert len(entries(cache)) == 2
    assert sum(LIMIT_VARIABLE in text for text in told) == 1


def test_a_data_set_need_not_fit_into_the_memory(datalist: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_needs, "require_memory", lambda what, needed, do=None: f"{needed}")
    told: list[list[str]] = [[], []]
    read(datalist, told=told[0])
    monkeypatch.delenv(FOLDER_VARIABLE)
    read(datalist, told=told[1])
    mapped, held = (float(next(text for text in each if text.isdigit())) for each in told)
    assert mapped < held


@pytest.mark.parametrize("limit", ["much", "0", "-3", "nan"])
def test_a_limit_that_is_none_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, limit)
    with pytest.raises(InputError, match=LIMIT_VARIABLE):
        case_cache()


def test_a_folder_that_cannot_be_written_stops_nothing(
    datalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file" / "cache"))
    told: list[str] = []
    assert len(read(datalist, told=told).training) == 4
    assert sum("could be kept" in text for text in told) == 1


def test_only_its_owner_can_read_it(datalist: Path, cache: Path) -> None:
    read(datalist)
    assert cache.stat().st_mode & 0o077 == 0
    assert all(place.stat().st_mode & 0o077 == 0 for place in entries(cache))


def test_a_full_disk_costs_no_training(datalist: Path, cache: Path) -> None:
    told: list[str] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # stands for the full disk
    try:
        made = read(datalist, told=told)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(made.training) == 4
    assert sum("could be kept" in text for text in told) == 1
    assert list(cache.iterdir()) == []


def test_what_a_kill_left_goes_when_nobody_can_be_writing_it_any_more(datalist: Path, cache: Path) -> None:
    cache.mkdir()
    left, written = cache / ".writing-left.tmp", cache / ".writing-now.tmp"
    left.write_bytes(b"half a case")
    written.write_bytes(b"half a case of another training")
    os.utime(left, (1000.0, 1000.0))
    read(datalist)
    assert not left.exists()
    assert written.exists()


def test_an_entry_under_anothers_name_is_not_that_case(datalist: Path, cache: Path, reads: list[str]) -> None:
    first = read(datalist)
    one, other, *_ = entries(cache)
    aside = cache / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    reads.clear()
    assert_same(first, read(datalist))
    assert len(reads) == 2


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    datalist: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = read(datalist)
    for place in entries(cache):
        place.unlink()
    file = Path(datalist.parent, json.loads(datalist.read_text())["training"][1]["image"])
    whole, volume = file.read_bytes(), read_image(file)
    real = prepared_cases.read_and_check

    def after_a_change(case: Case, *more: Any) -> CaseRead:
        if file in case.images:  # between the look at what the file holds and the reading of it
            write_image(file, volume.array[:, ::-1], volume.geometry, overwrite=True)
        return real(case, *more)

    with monkeypatch.context() as changing:
        changing.setattr(prepared_cases, "read_and_check", after_a_change)
        assert read(datalist).training[1].image_digest != plain.training[1].image_digest
    assert len(entries(cache)) == 3
    file.write_bytes(whole)
    assert_same(plain, read(datalist))


def test_a_case_that_the_limit_never_allows_drives_no_other_out(
    datalist: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(datalist)
    before = entries(cache)
    monkeypatch.setenv(LIMIT_VARIABLE, str(0.5 * before[0].stat().st_size / 1e9))
    read(datalist, with_values(load_config("general", "extended", SETTINGS), data={"spacing_mm": [3.0, 3.0, 3.0]}))
    assert entries(cache) == before


@pytest.mark.parametrize("place", ["prepared", "./prepared", "~nobody-of-this-name/prepared"])
def test_a_folder_that_depends_on_where_one_stands_is_refused(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, place)
    with pytest.raises(InputError, match=FOLDER_VARIABLE):
        case_cache()


def test_at_no_moment_can_others_read_an_entry(datalist: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(mode=0o755)
    modes, real = [], os.replace

    def watched(source: Path, target: Path) -> None:
        modes.append(source.stat().st_mode & 0o777)
        real(source, target)

    monkeypatch.setattr(os, "replace", watched)
    read(datalist)
    assert modes == [0o600] * 4


def test_what_cannot_be_kept_is_told_once_and_has_to_fit_into_the_memory(
    datalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(memory_needs, "require_memory", lambda what, needed, do=None: asked.append(needed) or "")
    bad = Path(datalist.parent, json.loads(datalist.read_text())["training"][3]["image"])
    bad.write_bytes(bad.read_bytes()[:-60])  # left out, and all are read again
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    read(datalist, skip_bad_cases=True)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file" / "cache"))
    told: list[str] = []
    read(datalist, told=told, skip_bad_cases=True)
    assert sum("could be kept" in text for text in told) == 1
    mapped, again, rest = asked
    assert mapped == again < rest


def test_a_training_is_the_same_to_the_bit(datalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name, folder in (("plain", None), ("first", tmp_path / "cache"), ("second", tmp_path / "cache")):
        monkeypatch.setenv(FOLDER_VARIABLE, str(folder or ""))
        model = train(datalist, tmp_path / name, preset="general", overrides=TINY)
        made.append((model / "model.safetensors").read_bytes())
    assert made[0] == made[1] == made[2]
