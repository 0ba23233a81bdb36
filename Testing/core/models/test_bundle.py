"""A MONAI Bundle is run by MONAI alone, and draws what the program draws."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_models import TWO, made_model
from monai.bundle import ConfigParser

from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.errors import InputError
from SVLDRLCore.jobs.export import export
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.models.bundle import exportable, require_equal, torchscript
from SVLDRLCore.models.package import load_package
from SVLDRLCore.models.trained_model import load_model

NESTED = structures_of({1: "rim", 2: "core"}, {"whole": (1, 2), "core": (2,)})
OBLIQUE = (0.96, 0.0, 0.28, 0.0, -1.0, 0.0, 0.28, 0.0, -0.96)
KINDS: dict[str, tuple[Structures, dict[str, Any]]] = {
    "as_trained": (TWO, {"data": {"spacing_mm": (3.0, 2.0, 4.0)}}),
    "coarser": (TWO, {"data": {"spacing_mm": (5.0, 4.0, 4.5), "patch_size": (8, 8, 8)}}),
    "nested_window": (NESTED, {"data": {"intensity": "window", "intensity_low": -100.0, "intensity_high": 500.0}}),
    "slices": (
        TWO,
        {
            "data": {"patch_size": (1, 16, 16), "spacing_mm": (2.0, 2.0, 0.0)},
            "network": {"backbone": "unet_2d"},
        },
    ),
    "segresnet": (TWO, {"network": {"backbone": "segresnet"}}),
}


def image_of(path: Path) -> Path:
    """An oblique volume with padding of -2000, of 12 x 22 x 25 voxels of 4 x 2 x 3 mm."""
    array = make_phantom(3, (12, 22, 25), (4.0, 2.0, 3.0))[0][0] * 900 - 200
    array[:, :3] = -2000.0
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing((3.0, 2.0, 4.0))
    image.SetOrigin((-31.0, 12.0, 40.0))
    image.SetDirection(OBLIQUE)
    sitk.WriteImage(image, str(path))
    return path


def by_monai(bundle: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, dict[str, Any]]:
    """The label map (D, H, W) that the bundle writes for a file, and what its pipeline held."""
    monkeypatch.syspath_prepend(str(bundle))
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    parser["bundle_root"], parser["dataset_dir"] = str(bundle), str(image.parent)
    parser["output_dir"] = str(bundle.parent / "eval")
    item = parser.get_parsed_content("dataset")[0]
    (written,) = (bundle.parent / "eval").iterdir()
    label, asked = sitk.ReadImage(str(written)), sitk.ReadImage(str(image))
    assert np.allclose(label.GetOrigin(), asked.GetOrigin(), atol=1e-3)
    assert np.allclose(label.GetDirection(), asked.GetDirection(), atol=1e-4)
    return sitk.GetArrayFromImage(label), item


@pytest.mark.parametrize("kind", KINDS)
def test_bundle_draws_what_the_program_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    structures, overrides = KINDS[kind]
    model = made_model(tmp_path / "model", structures, **overrides)
    (tmp_path / "images").mkdir()
    image = image_of(tmp_path / "images" / "case.nii.gz")
    export(model, bundle=tmp_path / "bundle")
    found = refine(str(image), None, model=model, output=tmp_path / "ours.nii.gz", device="cpu")
    drawn, item = by_monai(tmp_path / "bundle", image, monkeypatch)
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(found.output)))
    assert len(np.unique(ours)) > 1
    apart = ours != drawn  # drawn weights are nearly undecided everywhere, where the last bit can decide
    assert apart.mean() < 1e-3, apart.sum()
    assert sorted(item) == ["image", "label", "native", "pred"]


def test_bundle_needs_nothing_of_the_program(tmp_path: Path) -> None:
    export(made_model(tmp_path / "model"), bundle=tmp_path / "bundle")
    text = "".join(p.read_text("utf-8") for p in (tmp_path / "bundle").rglob("*") if p.suffix in (".json", ".py"))
    assert "SVLDRLCore" not in text
    files = {p.relative_to(tmp_path / "bundle").as_posix() for p in (tmp_path / "bundle").rglob("*") if p.is_file()}
    assert {"configs/inference.json", "configs/metadata.json", "models/model.ts", "LICENSE", "docs/README.md"} < files
    about = json.loads((tmp_path / "bundle/configs/metadata.json").read_text("utf-8"))
    assert about["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "ball", "1": "tube"}
    assert "A made model" in (tmp_path / "bundle/docs/README.md").read_text("utf-8")


def test_zip_is_the_same_model(tmp_path: Path) -> None:
    model = made_model(tmp_path / "model")
    export(model, zip=tmp_path / "model.zip")
    export(tmp_path / "model.zip", zip=tmp_path / "again.zip")
    assert load_package(tmp_path / "again.zip").config == load_package(model).config


def test_export_refuses_places_that_are_taken(tmp_path: Path) -> None:
    model = made_model(tmp_path / "model")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "model.zip").write_bytes(b"mine")
    for place in ({"bundle": tmp_path / "bundle"}, {"zip": tmp_path / "model.zip"}, {"bundle": model / "inside"}, {}):
        with pytest.raises(InputError):
            export(model, **place, overwrite=False)
    assert (tmp_path / "model.zip").read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "model", "model.zip"]


def test_swin_unetr_and_any_number_of_windows(tmp_path: Path) -> None:
    small = {"backbone": "swin_unetr", "feature_size": 12, "depths": (1, 1, 1, 1)}
    model = load_model(made_model(tmp_path / "model", data={"patch_size": (32, 32, 64)}, network=small))
    network, windows = exportable(model)
    traced = torch.jit.load(io.BytesIO(torchscript(model)))  # it compares two windows, and one
    with torch.no_grad():
        assert torch.allclose(traced(windows[:1]), network(windows[:1]), atol=1e-5)


def test_other_predictions_are_refused(tmp_path: Path) -> None:
    model = load_model(made_model(tmp_path / "model"))
    with pytest.raises(InputError, match="differ by"):
        require_equal(model, torch.zeros(2), torch.full((2,), 2e-4), "ONNX")
    with pytest.raises(InputError, match="differ by"):
        require_equal(model, torch.zeros(2), torch.full((2,), torch.nan), "ONNX")


def test_onnx_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="not installed"):
        export(made_model(tmp_path / "model"), onnx=tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
