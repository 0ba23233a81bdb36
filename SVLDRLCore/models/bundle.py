"""A model as a MONAI Bundle: it runs in MONAI alone, and draws what `svldrl refine IMAGE --model MODEL` draws.

configs/inference.json   the whole way from image files to label maps
configs/metadata.json    versions, inputs and outputs, as MONAI's schema wants them
models/model.ts          the network as TorchScript: (B, M, D, H, W) in [0, 1] -> probabilities (B, C, D, H, W)
scripts/grid.py          from the image to what the network sees, and back (`bundle_grid`)
docs/README.md, LICENSE  how to run it, the model's card, and under what terms
"""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from torch import Tensor, nn

from SVLDRLCore import __version__
from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.segmentation_loss import probabilities_of
from SVLDRLCore.models.bundle_grid import script
from SVLDRLCore.models.trained_model import TrainedModel

INFERENCE = Path(__file__).with_name("bundle_inference.json")
OVERLAP, WINDOWS = 0.5, 2
"""Of the sliding windows, as a refinement has them."""
LARGEST_DIFFERENCE = 1e-4
"""Between the probabilities of a network and of what was made of it; larger ones are refused."""
LICENSE = """\
The configuration in this bundle was written by svldrl and is licensed under the Apache License, Version 2.0:
https://www.apache.org/licenses/LICENSE-2.0

The weights were learned from data of whoever trained the model. Their terms are for that person to say, here.
"""


class Probabilities(nn.Module):
    """A network with its last function: probabilities (B, C, D, H, W) of images (B, M, D, H, W)."""

    def __init__(self, network: nn.Module, nested: bool) -> None:
        super().__init__()
        self.network, self.nested = network, nested

    def forward(self, image: Tensor) -> Tensor:
        return probabilities_of(self.network(image), self.nested)


def bundle_files(model: TrainedModel, name: str, card: str) -> dict[str, bytes]:
    """The files of a bundle by their paths in it, with forward slashes.

    Args:
        name: what to call it.
        card: the model's card, markdown.

    Raises:
        InputError: the network draws in steps, or its TorchScript does not predict the same.
    """
    return {
        "configs/inference.json": _json(inference_config(model)),
        "configs/metadata.json": _json(metadata(model, name)),
        "models/model.ts": torchscript(model),
        "scripts/__init__.py": b"",
        "scripts/grid.py": script().encode("utf-8"),
        "docs/README.md": _readme(model, name, card).encode("utf-8"),
        "LICENSE": LICENSE.encode("utf-8"),
    }


def exportable(model: TrainedModel) -> tuple[Probabilities, Tensor]:
    """The network as one function, and two windows of noise to follow it with.

    Raises:
        InputError: agents draw its masks in steps.
    """
    if backbone_of(model.config.network).in_steps:
        why = "agents draw its masks step by step, which is no single network"
        raise InputError(model.name, why, "Export a model of another method")
    size = (WINDOWS, model.channels, *model.config.data.patch_size)
    windows = torch.rand(size, generator=torch.Generator().manual_seed(0))
    return Probabilities(model.network, model.structures.nested).eval(), windows


def torchscript(model: TrainedModel) -> bytes:
    """The network as TorchScript, for one or several windows of the training's size.

    Raises:
        InputError: see `exportable`, or it does not predict the same.
    """
    network, windows = exportable(model)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become constants: windows have one size
        traced = torch.jit.trace(network, windows, check_trace=False)
        file = io.BytesIO()
        torch.jit.save(traced, file)
        for some in (windows.flip(0), windows[:1]):
            require_equal(model, network(some), traced(some), "TorchScript")
    return file.getvalue()


def require_equal(model: TrainedModel, ours: Tensor, theirs: Tensor, form: str) -> None:
    """InputError where an exported network's probabilities are not the network's own."""
    difference = float((ours - theirs).abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        why = f"as {form} its probabilities differ by {difference:.2g}"
        raise InputError(model.name, why, "Use it with svldrl, and report this with the model's card")


def inference_config(model: TrainedModel) -> dict[str, Any]:
    """configs/inference.json: `python -m monai.bundle run --config_file configs/inference.json` segments a folder.

    `bundle_inference.json` beside this file names the classes that MONAI builds; what the model decides is filled in.
    """
    data, structures = model.config.data, model.structures
    config: dict[str, Any] = json.loads(INFERENCE.read_text(encoding="utf-8"))
    config["inferer"] |= {"roi_size": list(data.patch_size), "sw_batch_size": WINDOWS, "overlap": OVERLAP}
    config["prepared"] |= {
        "spacing_xyz": None if data.spacing_mm is None else list(data.spacing_mm),
        "mode": data.intensity,
        "low": data.intensity_low,
        "high": data.intensity_high,
    }
    to_label_map = config["postprocessing"]["transforms"][0]
    to_label_map["structures"] = {
        "names": list(structures.names),
        "values": [list(values) for values in structures.values],
        "nested": structures.nested,
        "output_values": list(structures.output_values),
    }
    return config


def metadata(model: TrainedModel, name: str) -> dict[str, Any]:
    """configs/metadata.json after MONAI's schema."""
    structures, patch = model.structures, list(model.config.data.patch_size)
    names = ", ".join(structures.names)
    window = {"type": "image", "spatial_shape": patch, "dtype": "float32", "value_range": [0, 1]}
    image = {
        **window,
        "format": "magnitude",
        "modality": "any",
        "num_channels": model.channels,
        "is_patch_data": True,
        "channel_def": {str(i): f"image {i + 1}" for i in range(model.channels)},
    }
    probabilities = {
        **window,
        "format": "probabilities",
        "num_channels": len(structures.names),
        "is_patch_data": True,
        "channel_def": {str(i): structure for i, structure in enumerate(structures.names)},
    }
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by svldrl {__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"scipy": "1.13", "nibabel": "5.0"},
        "name": name,
        "task": f"segmentation of {names}",
        "description": f"Segments {names}. Trained with SVL-DRL ({model.method}).",
        "authors": "whoever trained the model",
        "copyright": "see LICENSE",
        "intended_use": "Research. Not a medical device.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": probabilities}},
    }


_README = """\
# {name} as a MONAI Bundle

It segments: {structures}. It needs MONAI 1.6 or newer, and nothing of svldrl:
`pip install "monai[fire,nibabel]" scipy`.

Run it in this folder. Images lie in `images` as `.nii.gz`; label maps are written to `eval`.

```
python -m monai.bundle run --config_file configs/inference.json
```

Other folders: add `--dataset_dir FOLDER --output_dir FOLDER`. {channels}

What is done to an image, in this order, by `scripts/grid.py`:

1. The axes are turned so that they run to the patient's superior, posterior and left.
2. Grey values are mapped to 0 to 1: {grey}.
3. The image is resampled to {spacing} (x, y, z), about its centre. It is smoothed before where it becomes coarser.
4. The network sees windows of {patch} voxels, half overlapping. It gives probabilities of each structure.
5. These are interpolated back to the image's own grid. There they become labels.

A program that calls `models/model.ts` by itself must do the same.

The bundle segments from scratch. Refining a rough mask needs svldrl: the agents that do it are not in here.

---

{card}
"""


def _readme(model: TrainedModel, name: str, card: str) -> str:
    data, count = model.config.data, model.channels
    between = f"{data.intensity_low:g} and {data.intensity_high:g}"
    grey = {
        "percentile": f"the percentiles {between} become 0 and 1",
        "window": f"the values {between} become 0 and 1",
        "unit": "values in 0 to 255 are divided by 255",
    }[data.intensity]
    spacing = " x ".join(f"{part:g} mm" if part else "its own" for part in data.spacing_mm or (0, 0, 0))
    several = f"An image has {count} files: override `data` by a list of `{{'image': [file, file]}}`."
    return _README.format(
        name=name,
        structures=", ".join(model.structures.names),
        channels=several if count > 1 else "",
        grey=grey,
        spacing=spacing,
        patch=" x ".join(map(str, data.patch_size)),
        card=card,
    )


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
