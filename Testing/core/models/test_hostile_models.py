"""Models of others, with right hashes and wrong contents: refused by name before much memory or time is spent."""

from __future__ import annotations

import hashlib
import json
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rough_masks_to_refine import GRIDS, NESTED, block, files, model_that
from safetensors.torch import load_file, save_file

from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case, DataList, save_datalist
from SVLDRLCore.inference.case_predictions import predict_cases
from SVLDRLCore.jobs import refine_by_model as refine_module
from SVLDRLCore.jobs.audit import audit
from SVLDRLCore.jobs.info import info
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.mask_refinement.editing import predict
from SVLDRLCore.masks.alignment import Calibration
from SVLDRLCore.models import package_files
from SVLDRLCore.models.package import load_package, save_package
from SVLDRLCore.models.trained_model import load_model
from SVLDRLCore.svl_drl.actions import ENHANCE, KEEP

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_that(tmp_path, KEEP)


def seal(folder: Path) -> None:
    """Make the hashes right again: an attacker can do that, too."""
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(lines))


def with_json(model: Path, name: str, change: Change) -> Path:
    content = json.loads((model / name).read_text())
    change(content)
    (model / name).write_text(json.dumps(content))
    seal(model)
    return model


def with_weights(model: Path, change: Change) -> Path:
    weights = load_file(model / "model.safetensors")
    change(weights)
    save_file(weights, model / "model.safetensors")
    seal(model)
    return model


def refuse(model: Path, why: str) -> InputError:
    """Loading must fail, naming the model, with at most 200 MB and 20 seconds."""
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(InputError, match=why) as refused:
        load_model(model)
    assert str(model) in str(refused.value)
    assert refused.value.do
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # KB
    assert time.monotonic() - began < 20
    return refused.value


def set_at(*keys: str, value: Any) -> Change:
    def change(tree: dict[str, Any]) -> None:
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value

    return change


# Outputs that are not finite.


def inputs(folder: Path) -> tuple[Path, Path]:
    return files(folder, GRIDS["as_trained"], block(GRIDS["as_trained"]))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e30, -3e38])
@pytest.mark.parametrize("name", ["network.segmentation_decoder.head.weight", "mask_agents.policy_head.bias"])
def test_weights_that_are_no_use_are_refused_by_the_tensors_name(model: Path, name: str, number: float) -> None:
    with_weights(model, lambda weights: weights[name].view(-1)[-1:].fill_(number))
    assert name in refuse(model, "not finite numbers|would overflow").why


def test_a_double_that_no_float_holds_is_refused(model: Path) -> None:
    name = "network.segmentation_decoder.head.bias"
    with_weights(model, lambda weights: weights.update({name: weights[name].double() + 1e300}))
    assert name in refuse(model, "would overflow").why


def test_refine_and_audit_write_nothing_with_such_a_model(model: Path, tmp_path: Path) -> None:
    image, rough = inputs(tmp_path)
    with_weights(model, lambda weights: weights["network.segmentation_decoder.head.weight"].fill_(1e37))
    case = Case("a", (image,), rough)
    datalist = save_datalist(DataList("d", {1: "organ"}, (case,), ()), tmp_path / "d.json")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"head\.weight"):
        refine(image, rough, model=model, output=tmp_path / "o.seg.nrrd", confidence=tmp_path / "c.nrrd")
    with pytest.raises(InputError, match=r"head\.weight"):
        audit(datalist, model=model, output=tmp_path / "audit")
    assert sorted(tmp_path.rglob("*")) == before


def breaking(part: torch.nn.Module, number: float, at_window: int = 0) -> None:
    """From one window on this part of a network gives a number that is none."""
    seen = []

    def hook(module: torch.nn.Module, given: Any, output: torch.Tensor) -> None:
        seen.append(1)
        if len(seen) > at_window:
            output.view(-1)[7] = number

    part.register_forward_hook(hook)


@pytest.mark.parametrize("with_rough", [True, False])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("structures", ["exclusive", "nested"])
def test_one_voxel_of_one_window_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: float, with_rough: bool, structures: str
) -> None:
    """Infinity is the worse: a sigmoid makes certainty of it."""
    path = model_that(tmp_path, KEEP, NESTED) if structures == "nested" else model_that(tmp_path, KEEP)
    image, rough = inputs(tmp_path)
    trained = load_model(path)
    breaking(trained.network.segmentation_decoder.head, number, at_window=1)
    monkeypatch.setattr(refine_module, "model_loaded", lambda *_: trained)
    output = tmp_path / "o.seg.nrrd"
    with pytest.raises(InputError, match="not a finite number") as refused:
        refine(image, rough if with_rough else None, model=path, output=output, confidence=tmp_path / "c.nrrd")
    assert refused.value.what == f"model {path}"
    assert "another model" in refused.value.do
    assert not output.exists()
    assert not (tmp_path / "c.nrrd").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["opinion_head", "policy_head"])
def test_mask_agents_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, number: float
) -> None:
    path = model_that(tmp_path, ENHANCE)
    image, rough = inputs(tmp_path)
    trained = load_model(path)
    breaking(getattr(trained.mask_network, part), number)
    monkeypatch.setattr(refine_module, "model_loaded", lambda *_: trained)
    with pytest.raises(InputError, match="not a finite number"):
        refine(image, rough, model=path, output=tmp_path / "o.seg.nrrd", trust=0.2)
    assert not (tmp_path / "o.seg.nrrd").exists()


def test_a_network_in_training_is_named_with_the_case(model: Path) -> None:
    trained = load_model(model)
    breaking(trained.network, float("nan"))
    case = in_memory("case_7", np.zeros((1, 8, 16, 16), np.float32), np.zeros((1, 8, 16, 16)), (4.0,) * 3, (8, 16, 16))
    predicted = predict_cases(trained.network, [case], trained.config, False, torch.device("cpu"), lambda: None)
    with pytest.raises(InputError, match=r"case_7: its output is not a finite number.*learning rate"):
        next(predicted)


CALIBRATION = [field.name for field in fields(Calibration)]


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("generalisation_factor", 160.0), ("generalisation_factor", 0.5), ("generalisation_factor", -3.0),
        ("channel", 1.0), ("channel", 0.5), ("channel", -1.0), ("edge_sd_mm", 0.0), ("model_sd_mm", -1.0),
        ("edge_mm", 1e4), ("model_mm", -1e4), ("unevenness", 0.0), ("missing_mm", -1.0), ("leak_mm", 1e4),
    ],
)  # fmt: skip
def test_numbers_that_no_calibration_gives_are_refused(model: Path, field: str, number: float) -> None:
    file = model / "calibration.json"
    table = json.loads(file.read_text("utf-8"))
    table["structures"]["organ"][field] = number
    file.write_text(json.dumps(table), "utf-8")
    seal(model)
    assert "'organ'" in refuse(model, "mask agents know").why


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": 2, "structures": {}}', '{"format": 1}', '{"format": 1, "structures": {"organ": 3}}',
     '{"format": 1, "structures": {"organ": {"channel": 0}}}', '{"format": 1, "structures": {"organ": NaN}}'],
)  # fmt: skip
def test_a_calibration_that_is_none_is_refused(model: Path, content: str) -> None:
    (model / "calibration.json").write_text(content, "utf-8")
    seal(model)
    refuse(model, "calibration.json|JSON|Expecting value")


def test_numbers_among_the_weights_are_checked_as_well(model: Path) -> None:
    """Version 0.1 kept them there."""

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["mask_agents.calibrations"] = torch.zeros(1, len(CALIBRATION))

    assert "'organ'" in refuse(with_weights(model, change), "mask agents know").why


# Sizes.


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("network", "feature_size"), 512), (("network", "feature_size"), 16), (("network", "levels"), 2),
        (("network", "backbone"), "segresnet"), (("mask_agents", "feature_size"), 512), (("channels",), 2),
        (("channels",), 256),
    ],
)  # fmt: skip
def test_a_network_that_the_weights_are_not_of_is_never_built(model: Path, keys: tuple, value: Any) -> None:
    """512 features on 4 levels would take 10 GB."""
    refuse(with_json(model, "config.json", set_at(*keys, value=value)), "weights do not fit its config.json")


@pytest.mark.parametrize(
    ("keys", "value", "why"),
    [
        (("network", "depths"), [10**6] * 4, "depths"),
        (("network", "depths"), [0, 2, 2, 2], "depths"),
        (("network", "num_heads"), [-3, 6, 12, 24], "num_heads"),
        (("network", "feature_size"), 1 << 20, "feature_size"),
        (("network", "feature_size"), -8, "feature_size"),
        (("network", "levels"), 64, "levels"),
        (("mask_agents", "feature_size"), 8 << 20, "feature_size"),
        (("mask_agents", "feature_size"), 0, "feature_size"),
        (("mask_agents", "rollout_steps"), 10**9, "rollout_steps"),
        (("data", "patch_size"), [1 << 20, 16, 16], "patch_size"),
        (("data", "patch_size"), [1024, 1024, 1024], "patch_size"),
        (("data", "patch_size"), [8, 16], "patch_size"),
        (("data", "spacing_mm"), [1e9, 1e9, 1e9], "spacing_mm"),
        (("data", "spacing_mm"), [1e-9, 1.0, 1.0], "spacing_mm"),
        (("data", "spacing_mm"), [-1.0, 1.0, 1.0], "spacing_mm"),
        (("data", "spacing_mm"), "4", "spacing_mm"),
    ],
)
def test_sizes_that_no_network_or_image_has_are_refused(model: Path, keys: tuple, value: Any, why: str) -> None:
    refuse(with_json(model, "config.json", set_at(*keys, value=value)), why)


def test_a_swin_transformers_heads_must_divide_its_features(model: Path) -> None:
    swin = {"backbone": "swin_unetr", "feature_size": 24, "num_heads": [5, 6, 12, 24]}

    def change(config: dict[str, Any]) -> None:
        config["network"] |= swin
        config["data"]["patch_size"] = [64, 64, 64]

    refuse(with_json(model, "config.json", change), "num_heads")


@pytest.mark.parametrize("text", ["1e999", "-1e999", "NaN", "1" * 30, "1" * 5000])
def test_numbers_that_json_should_not_hold(model: Path, text: str) -> None:
    config = (model / "config.json").read_text().replace('"channels": 1', f'"channels": {text}')
    assert text in config
    (model / "config.json").write_text(config)
    seal(model)
    refuse(model, "not as it should be")


@pytest.mark.parametrize("damage", ["longer", "shorter", "huge", "shape", "dtype", "list", "deep", "cut"])
def test_a_header_that_lies_is_refused(model: Path, damage: str) -> None:
    data = (model / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, weights = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = next(name for name in header if name != "__metadata__")
    text = None
    match damage:
        case "longer":
            weights += bytes(4)
        case "shorter":
            weights = weights[:-4]
        case "shape":
            header[name]["shape"] = [1 << 39, 1 << 39]
        case "dtype":
            header[name]["dtype"] = "C64"
        case "list":
            header = []
        case "deep":
            text = b"[" * 100_000
        case "cut":
            weights = b""
    text = text or json.dumps(header).encode()
    size = 1 << 60 if damage == "huge" else len(text)
    (model / "model.safetensors").write_bytes(struct.pack("<Q", size) + text + weights)
    seal(model)
    refuse(model, "safetensors is damaged")


# Tables.


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("output_values", [0]), ("output_values", ["1"]), ("output_values", [2]), ("output_values", [True]),
        ("output_values", [257]), ("output_values", [-1]), ("output_values", []), ("output_values", [1, 1]),
        ("output_values", 1), ("output_values", [1.0]),
        ("values", [[]]), ("values", [[0]]), ("values", [[2]]), ("values", [["1"]]), ("values", [1]),
        ("values", [[1, 1]]), ("values", [[1]] * 300),
        ("names", [""]), ("names", ["a\x1b[2J"]), ("names", ["a\nb"]), ("names", [1]), ("names", ["a" * 1000]),
        ("names", ["a", "b"]), ("names", "organ"), ("names", ["\u2028"]),
        ("nested", 1), ("nested", None), ("nested", "no"),
    ],
)  # fmt: skip
def test_structures_that_do_not_fit_are_refused(model: Path, key: str, value: Any) -> None:
    """The value 0 would label all of a volume, "1" would empty it."""
    refuse(with_json(model, "config.json", set_at("structures", key, value=value)), "config.json cannot be used")


@pytest.mark.parametrize("outputs", [[2, 2], [2, 1], [1, 1]])
def test_a_region_is_drawn_with_a_value_of_its_own(tmp_path: Path, outputs: list[int]) -> None:
    model = model_that(tmp_path, KEEP, NESTED)
    assert load_model(model).structures.output_values == (1, 2)
    refuse(with_json(model, "config.json", set_at("structures", "output_values", value=outputs)), "not its own")


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"2": {"name": "organ"}}, "labels.json lacks"),
        ({"1": {"name": "a\x1b]0;b\x07"}}, "no name"),
        ({"1": {"name": ""}}, "no name"),
        ({"1": {"name": "\ud800"}}, "not as it should be"),
    ],
)
def test_label_tables_that_do_not_fit_are_refused(model: Path, labels: dict, why: str) -> None:
    (model / "labels.json").write_text(json.dumps(labels))
    seal(model)
    refuse(model, why)


@pytest.mark.parametrize("spacing", [[[4.0], 4.0, 4.0], ["4", 4.0, 4.0], "4", 4])
def test_info_refuses_settings_of_the_wrong_kind(model: Path, spacing: Any) -> None:
    with_json(model, "config.json", set_at("data", "spacing_mm", value=spacing))
    with pytest.raises(InputError, match="spacing_mm"):
        info(model)


def test_a_key_that_is_there_twice_is_refused(model: Path) -> None:
    (model / "labels.json").write_text('{"1": {"name": "liver"}, "1": {"name": "spleen"}}')
    seal(model)
    refuse(model, "a key is there twice")


def test_names_that_command_a_terminal_are_saved_as_plain_ones(tmp_path: Path) -> None:
    """A training on such labels must not end without a model."""
    package = save_package(
        tmp_path / "m", tensors={"w": torch.ones(1)}, config={}, labels={1: {"name": "a\x1b[2J\nb"}},
        training_rows=[], card="",
    )  # fmt: skip
    assert package.labels == {1: {"name": "a [2J b"}}


@pytest.mark.parametrize("weight", ["nan", "1e30", "-0.1", "much"])
def test_absurd_weights_of_a_trainings_own_table_are_refused(model: Path, tmp_path: Path, weight: str) -> None:
    image, rough = inputs(tmp_path)
    datalist = save_datalist(DataList("d", {1: "organ"}, (Case("a", (image,), rough),), ()), tmp_path / "d.json")
    (model / "reliability.csv").write_text(f"case,weight\na,{weight}\n")
    seal(model)
    with pytest.raises(InputError, match=r"reliability.csv is damaged"):
        audit(datalist, model=model, output=tmp_path / "audit")


# Files.


def test_eight_million_rows_are_refused_before_they_are_rows(model: Path) -> None:
    (model / "training.csv").write_bytes(b"a\n" + b"1\n" * 8_000_000)
    seal(model)
    refuse(model, "more than 1,000,000 cells")
    (model / "training.csv").write_bytes(b"," * 2000 + b"\n" + b"\n" * 2000)  # short rows are filled up
    seal(model)
    refuse(model, "more than 1,000,000 cells")


@pytest.mark.parametrize(
    ("name", "size"), [("config.json", 2 << 20), ("labels.json", 2 << 20), ("MODEL_CARD.md", 2 << 20)]
)
def test_texts_are_bounded(model: Path, name: str, size: int) -> None:
    (model / name).write_bytes((model / name).read_bytes() + b" " * size)
    seal(model)
    refuse(model, f"{name}.*bytes, more than")


def test_all_other_files_together_are_bounded(model: Path) -> None:
    for number in range(5):
        with (model / f"table_{number}.csv").open("wb") as file:
            file.truncate(15 << 20)
    seal(model)
    refuse(model, "beside the weights")


def test_weights_of_zeros_are_not_unpacked(model: Path, tmp_path: Path) -> None:
    """Half a gigabyte in half a megabyte; 3 GB in 29 MB is within the ratio for tables."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in model.iterdir():
            if file.name != "model.safetensors":
                archive.write(file, file.name)
        noise = np.random.default_rng(0).bytes(1 << 16)
        with archive.open("model.safetensors", "w") as target:
            for _ in range(32):
                target.write(noise + bytes((1 << 20) - len(noise)))
    refuse(path, "unpacks to over 10 times")


def test_a_zips_list_of_contents_is_bounded(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(package_files.MAX_DIRECTORY_BYTES // 60):
            archive.writestr(f"table_{number}.csv", b"")
    refuse(path, "list of contents is too long")


def test_weights_larger_than_the_memory_are_not_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("SVLDRLCore.memory._system_bytes", lambda: 1000)
    with pytest.raises(InputError, match=r"needs about .* MB of memory, 0 MB are free"):
        load_package(model).tensors()


def test_sound_models_are_still_read(model: Path, tmp_path: Path) -> None:
    trained = load_model(model)
    assert trained.name == f"model {model}"
    assert info(model)["hashes"] == "ok"
    image = np.zeros((1, 8, 16, 16), np.float32)
    assert np.isfinite(predict(trained, image)).all()
    with_weights(model, lambda weights: weights.update({n: w.half() for n, w in weights.items() if "network." in n}))
    assert load_model(model).network.segmentation_decoder.head.weight.dtype == torch.float32


def test_what_an_error_quotes_can_be_shown_anywhere() -> None:
    error = InputError("a\x1b[2J\ud800 ü　\n b", "\t", "\x07")
    assert (error.what, error.why, error.do) == ("a\\x1b[2J\\ud800 ü　\n b", "\\t", "\\x07")
    assert str(error).encode("utf-8")
