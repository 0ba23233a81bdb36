"""The network of a model as ONNX: windows (B, M, D, H, W) in [0, 1] to probabilities (B, C, D, H, W), any B.

Needs the packages onnx and onnxruntime, which nothing else here does (`pip install svldrl[onnx]`).
"""

from __future__ import annotations

import importlib
import io
import warnings
from typing import Any

import torch

from SVLDRLCore.errors import InputError
from SVLDRLCore.models.bundle import exportable, require_equal
from SVLDRLCore.models.trained_model import TrainedModel

OPSET = 17
INPUT, OUTPUT = "image", "probabilities"


def write_onnx(model: TrainedModel) -> bytes:
    """The file's content, once onnxruntime has been seen to predict the same to `bundle.LARGEST_DIFFERENCE`.

    Raises:
        InputError: see `bundle.exportable`; a package is missing; or what it predicts is not the same.
    """
    _package("onnx")
    runtime = _package("onnxruntime")
    network, windows = exportable(model)
    file = io.BytesIO()
    any_number = {INPUT: {0: "windows"}, OUTPUT: {0: "windows"}}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch prefers its newer exporter, which needs minutes for Swin UNETR
        torch.onnx.export(
            network, (windows,), file, dynamo=False, opset_version=OPSET,  # type: ignore[arg-type]
            input_names=[INPUT], output_names=[OUTPUT], dynamic_axes=any_number,
        )  # fmt: skip
        session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        for some in (windows.flip(0), windows[:1]):
            found = session.run(None, {INPUT: some.numpy()})[0]
            require_equal(model, network(some), torch.from_numpy(found), "ONNX")
    return file.getvalue()


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError("--onnx", f"the package {name} is not installed", "pip install svldrl[onnx]") from error
