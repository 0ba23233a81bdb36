"""What version 0.1 wrote is read as it was meant, and what comes from the future is refused by its number."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from SVLDRLCore.config.settings import config_from_dict
from SVLDRLCore.config.stage_steps import stage_steps
from SVLDRLCore.config.versions import FORMATS, NewerFormatError, migrate
from SVLDRLCore.errors import InputError
from SVLDRLCore.jobs.info import format_info, info
from SVLDRLCore.learning.run_folder import RunFolder, read_run
from SVLDRLCore.mask_refinement.editing import predict, refined_belief
from SVLDRLCore.masks.alignment import Calibration
from SVLDRLCore.models.calibration import calibration_bytes, parse_calibration
from SVLDRLCore.models.package import load_package, save_package
from SVLDRLCore.models.trained_model import load_model, package_calibration, package_config, package_tensors

OLD = Path(__file__).with_name("version_0_1")
"""Made by version 0.1: a model with mask agents, its run.json, and what it predicted for `ball_case`."""
EXPECTED = json.loads((OLD / "expected.json").read_text("utf-8"))


def ball_case() -> tuple[np.ndarray, np.ndarray]:
    """An image (1, 12, 20, 20) of a ball, and a mask of it that is too large."""
    grid = np.indices((12, 20, 20)).astype(float)
    distance = np.sqrt(sum((axis - centre) ** 2 for axis, centre in zip(grid, (5.5, 9.5, 10.5))))
    image = 0.3 + 0.4 / (1 + np.exp(2 * (distance - 4.0))) + 0.02 * np.sin(grid[2]) * np.cos(grid[1])
    return image[None].astype(np.float32), (distance < 5.2).astype(np.float32)[None]


def told_of(maps: np.ndarray) -> dict[str, Any]:
    return {"voxels": int((maps > 0.5).sum()), "mean": float(maps.mean()), "line": maps[0, 5, 9, ::2].tolist()}


def check_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["voxels"] == expected["voxels"]
    assert found["mean"] == pytest.approx(expected["mean"], abs=1e-5)
    assert found["line"] == pytest.approx(expected["line"], abs=1e-4)


def check_predicts_as_then(model: Path) -> None:
    trained, (image, rough) = load_model(model), ball_case()
    prediction = predict(trained, image)
    check_same(told_of(prediction), EXPECTED["prediction"])
    belief = refined_belief(trained, image, rough, prediction, (4.0, 4.0, 4.0), [0], trust=0.1)
    check_same(told_of(belief), EXPECTED["belief"])


def test_a_model_of_version_0_1_predicts_and_refines_as_it_did() -> None:
    check_predicts_as_then(OLD / "model.zip")
    assert stage_steps(load_model(OLD / "model.zip").config) == {"warm_up": 60, "transition": 40, "full_rl": 10}


def test_it_is_told_in_the_words_of_today() -> None:
    told = info(OLD / "model.zip")
    assert (told["method"], told["variant"], told["preset"]) == ("svl_drl", "extended", "demo")
    assert "svl_drl, extended" in format_info(told)


def test_its_calibration_has_names_once_it_is_saved_again(tmp_path: Path) -> None:
    old = load_model(OLD / "model.zip")
    assert old.mask_network is not None
    agents = old.mask_network.state_dict()
    package = save_package(
        tmp_path / "model",
        tensors=package_tensors(old.network.state_dict(), agents),
        config=package_config(old.config, old.method, old.channels, old.structures),
        labels=old.labels,
        training_rows=[],
        card="Saved again.",
        extra=package_calibration(agents, old.structures),
    )
    assert package.config["format"] == FORMATS["model"]
    assert "mask_agents.calibrations" not in package.header()
    told = json.loads(package.read_extra("calibration.json"))["structures"]["part 1"]
    assert told == pytest.approx(EXPECTED["calibration"], abs=1e-4)
    check_predicts_as_then(tmp_path / "model")
    again = load_model(tmp_path / "model").mask_network
    assert again is not None
    assert torch.equal(again.calibrations, old.mask_network.calibrations)


def test_calibrations_go_through_the_file_to_the_bit() -> None:
    table = torch.rand(2, len(Calibration.__dataclass_fields__), generator=torch.Generator().manual_seed(0))
    table[:, 0] = torch.tensor([0.0, 3.0])
    data = calibration_bytes(table, ("a", "b"))
    assert torch.equal(parse_calibration(data, ("a", "b")), table)
    assert torch.equal(parse_calibration(data, ("b", "a")), table.flip(0))  # names count, not places
    with pytest.raises(ValueError, match="each structure"):
        parse_calibration(data, ("a", "c"))


def test_a_run_of_version_0_1_has_todays_names(tmp_path: Path) -> None:
    shutil.copy(OLD / "run.json", tmp_path / "run.json")
    settings = read_run(RunFolder(tmp_path))
    config = config_from_dict(settings["config"])
    assert (config.variant, config.train.steps, config.reliability.second_review) == ("extended", 60, 0.6)
    assert settings["trusted"] == []
    assert not {"verified"} & set(settings)


def test_another_method_of_version_0_1_trained_no_mask_agents(tmp_path: Path) -> None:
    run = json.loads((OLD / "run.json").read_text("utf-8")) | {"method": "mtcl"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert not config_from_dict(read_run(RunFolder(tmp_path))["config"]).mask_agents.enabled


def test_a_checkpoint_of_version_0_1_has_todays_names() -> None:
    state = {
        "run": {
            "method": "svl_drl",
            "settings": {"reading": "extended", "reliability": {"second_look": 0.7}},
            "data": {"cases": [{"name": "a", "verified": True}]},
        },
        "review": {"labels": {"rows": [{"case": "a", "fit": 1.0, "islands": 0.1, "verified": True}]}, "method": {}},
    }
    found = migrate("checkpoint", state, 1)
    assert found["run"]["settings"] == {"variant": "extended", "reliability": {"second_review": 0.7}}
    assert found["run"]["data"]["cases"] == [{"name": "a", "trusted": True}]
    row = {"case": "a", "normalised_cross_entropy": 1.0, "fragments": 0.1, "trusted": True}
    assert found["review"] == {"labels": {"rows": [row]}, "method": {}}
    assert state["review"]["labels"]["rows"][0]["fit"] == 1.0  # what was read stays


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("version", [0, 99, "2", None, True])
def test_unknown_formats_are_refused(kind: Any, version: Any) -> None:
    with pytest.raises(NewerFormatError, match="format version"):
        migrate(kind, {}, version)


def test_a_model_of_the_future_is_refused_with_its_number(tmp_path: Path) -> None:
    package = load_package(OLD / "model.zip")
    with pytest.raises(InputError, match="format version 99, this program reads 1 to"):
        save_package(
            tmp_path / "model", tensors=package.tensors(), config={**package.config, "format": 99},
            labels=package.labels, training_rows=[], card="-",
        )  # fmt: skip
