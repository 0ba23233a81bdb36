"""`svldrl adapt` from files to a model package; labels of the target are never opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from SVLDRLCore.cli import main
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.volumes import Geometry, write_image
from SVLDRLCore.jobs.audit import audit
from SVLDRLCore.jobs.evaluate import evaluate
from SVLDRLCore.models.package import load_package
from SVLDRLCore.models.trained_model import load_model
from SVLDRLCore.training.adapt import adapt
from SVLDRLCore.training.registry import ADAPTATIONS, ADAPTING
from SVLDRLCore.training.target_images import target_cases

TINY: dict[str, Any] = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"levels": 3},
    "train": {
        "steps": 6, "batch_size": 1, "steps_per_epoch": 2, "validate_every": 6, "device": "cpu", "threads": 1,
    },
    "method_settings": {"rounds": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets of phantoms, `source` and `target`."""
    folder = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("source", "target")):
        write_phantom_dataset(folder / name, 3, 1, seed, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    return folder


@pytest.fixture(scope="module")
def adapted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adaptation from the command line."""
    run, settings = tmp_path_factory.mktemp("run") / "run", data / "settings.json"
    settings.write_text(json.dumps(TINY))
    command = ["adapt", str(data / "source" / "datalist.json"), str(data / "target" / "datalist.json")]
    command += ["--output", str(run), "--settings", str(settings), "--method", "pseudo_label_purification"]
    assert main([*command, "--set", "method_settings.updates=5", "method_settings.simulated=1"]) == 0
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_package(run / "model").tensors()


def test_it_makes_a_package_and_a_report(adapted: Path, data: Path, tmp_path: Path) -> None:
    package = load_package(adapted / "model")
    assert package.config["method"] == "pseudo_label_purification"
    assert "labelled cases: 3" in package.card
    assert "images without labels: 3" in package.card
    rounds = package.read_extra("adaptation.csv").decode()
    assert rounds.startswith("round,reward,consistency,truth_in_simulation,plausibility")
    html = (adapted / "adaptation.html").read_text("utf-8")
    assert "data:image/png" in html
    assert "http" not in html.split("<body>")[1]
    assert load_model(adapted).method == "pseudo_label_purification"
    case = load_datalist(data / "target" / "datalist.json").validation[0]
    assert main(["refine", str(case.images[0]), "--model", str(adapted), "--output", str(tmp_path / "r.seg.nrrd")]) == 0
    evaluate(tmp_path / "r.seg.nrrd", case.label)


def test_without_a_method_the_usual_one_is_taken(data: Path, tmp_path: Path) -> None:
    source, target = data / "source" / "datalist.json", data / "target" / "datalist.json"
    package = load_package(adapt(source, target, tmp_path / "run", overrides=TINY))
    assert package.config["method"] == ADAPTING == next(iter(ADAPTATIONS))


def test_an_audit_takes_the_model(adapted: Path, data: Path, tmp_path: Path) -> None:
    audit(data / "source" / "datalist.json", model=adapted, output=tmp_path / "audit")
    assert any((tmp_path / "audit").iterdir())


def test_it_resumes_by_what_it_was_started_with(adapted: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(adapted, run)
    before = weights(run)
    source, target = data / "source" / "datalist.json", data / "target" / "datalist.json"
    adapt(source, target, run, resume=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(run).items())
    with pytest.raises(InputError, match="method"):
        adapt(source, target, run, method="self_training", resume=True)
    with pytest.raises(InputError, match="case"):
        adapt(source, data / "target" / "images" / "case_001_0000.nrrd", run, resume=True)


@pytest.mark.parametrize("labels", ["missing", "garbage"])
def test_labels_of_the_target_are_never_opened(labels: str, data: Path, tmp_path: Path) -> None:
    """Files that are not there, or no volumes, make no difference."""
    target = tmp_path / "target"
    shutil.copytree(data / "target", target)
    for file in (target / "labels").iterdir():
        file.unlink()
        if labels == "garbage":
            file.write_bytes(b"\x00garbage")
    source, options = data / "source" / "datalist.json", {"method": "self_training", "overrides": TINY}
    with_labels = adapt(source, data / "target" / "datalist.json", tmp_path / "with", **options)
    without = adapt(source, target / "datalist.json", tmp_path / "without", **options)
    one, other = weights(with_labels.parent), weights(without.parent)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_folders_and_files_of_images(data: Path, tmp_path: Path) -> None:
    images = data / "target" / "images"
    from_folder = target_cases([images])
    assert [case.name for case in from_folder] == ["case_001", "case_002", "case_003", "case_004"]
    assert all(case.label is None for case in from_folder)
    assert target_cases(sorted(images.iterdir())) == from_folder
    beside = tmp_path / "beside"
    shutil.copytree(images, beside)
    (beside / "case_001_label.nrrd").write_bytes(b"")
    (beside / "case_001.seg.nrrd").write_bytes(b"")
    assert len(target_cases([beside])) == 4
    (beside / "case_001_0001.nrrd").write_bytes(b"")
    assert [len(case.images) for case in target_cases([beside])] == [2, 1, 1, 1]
    assert target_cases([images], taken=["case_001"])[0].name == "case_001 of the target"


def test_the_target_s_validation_is_not_adapted_to(data: Path) -> None:
    assert len(target_cases([data / "target" / "datalist.json"])) == 3


@pytest.mark.parametrize(
    ("size", "spacing", "channels", "why"),
    [((10, 20, 20), (4.0, 4.0, 4.0), 2, "2 channels"), ((4, 20, 20), (20.0, 4.0, 4.0), 1, "20 mm along z")],
    ids=["channels", "spacing"],
)
def test_images_that_do_not_fit_are_told(
    size: tuple[int, ...], spacing: tuple[float, ...], channels: int, why: str, data: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "odd" / f"case_{m:04d}.nrrd" for m in range(channels)]
    for file in files:
        write_image(file, np.zeros(size, np.uint8), Geometry(size, spacing))
    entry = {"image": [file.name for file in files] if channels > 1 else files[0].name}
    (tmp_path / "odd" / "list.json").write_text(json.dumps({"training": [entry]}))
    with pytest.raises(InputError, match=why):
        adapt(data / "source" / "datalist.json", tmp_path / "odd" / "list.json", tmp_path / "run", overrides=TINY)
    assert not (tmp_path / "run").exists()


def test_a_bad_image_is_left_out_where_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "images"
    shutil.copytree(data / "target" / "images", target)
    next(target.glob("case_001*")).write_bytes(b"no volume")
    source, options = data / "source" / "datalist.json", {"method": "source_only", "overrides": TINY}
    plain = {**options, "overrides": {key: part for key, part in TINY.items() if key != "method_settings"}}
    with pytest.raises(InputError, match="case_001"):
        adapt(source, target, tmp_path / "run", **plain)
    model = adapt(source, target, tmp_path / "run", skip_bad_cases=True, **plain)
    assert "Left out, image case_001" in load_package(model).card


def test_what_cannot_be_asked_for(data: Path, tmp_path: Path) -> None:
    source, target, run = data / "source" / "datalist.json", data / "target" / "datalist.json", tmp_path / "run"
    for why, options in (
        ("no adapting method", {"method": "supervised"}),
        ("images without", {"overrides": {**TINY, "reliability": {"enabled": True}}}),
        ("method_settings.agent", {"overrides": {"method_settings": {"agent": "best"}}}),
    ):
        with pytest.raises(InputError, match=why):
            adapt(source, target, run, **options)
    with pytest.raises(InputError, match="there is no such image"):
        adapt(source, [tmp_path / "none.nrrd", tmp_path / "other.nrrd"], run)
    assert main(["train", str(source), "--output", str(run), "--method", "self_training"]) == 2
    assert not run.exists()


def test_the_help_tells_all_methods(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["adapt", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert [name for name in ADAPTATIONS if f"{name}:" not in told] == []
    assert "SOURCE_DATALIST" in told
