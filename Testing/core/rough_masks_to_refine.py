"""Images, rough masks and models whose mask agents want one action, for the tests of refinement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    Volume,
    read_label,
    write_image,
    write_label,
)
from SVLDRLCore.jobs.refine import Refinement, refine
from SVLDRLCore.masks.alignment import Calibration
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.models.package import save_package
from SVLDRLCore.models.trained_model import (
    build_mask_network,
    build_networks,
    package_calibration,
    package_config,
    package_tensors,
)

PATCH = [8, 16, 16]
TINY: dict[str, Any] = {
    "data": {"patch_size": PATCH, "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"feature_size": 8, "levels": 3},
    "agents": {"rollout_steps": 1},
    "mask_agents": {"transition_steps": 6, "full_rl_steps": 2, "rollout_steps": 2, "step_size": 0.4},
    "train": {"steps": 12, "batch_size": 1, "device": "cpu"},
}
ONE = structures_of({1: "organ"})
NESTED = structures_of({1: "rim", 2: "core"}, {"whole": (1, 2), "core": (2,)})

ROTATED = tuple(np.linalg.qr(np.array([[0.9, 0.3, 0.1], [-0.3, 0.9, 0.2], [0.1, -0.2, 0.95]]))[0].ravel().tolist())
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
GRIDS = {
    "as_trained": Geometry((12, 20, 20), (4.0, 4.0, 4.0), (1.0, 2.0, 3.0)),
    "oblique": Geometry((12, 22, 20), (4.0, 3.5, 3.5), (10.0, -20.0, 30.0), ROTATED),
    "flipped": Geometry((12, 20, 22), (4.0, 4.0, 4.0), (-5.0, 5.0, 0.0), FLIPPED),
    "sagittal": Geometry((20, 12, 24), (4.0, 4.0, 3.0), (0.0, 0.0, 0.0), SAGITTAL),
    "anisotropic": Geometry((9, 40, 44), (7.0, 1.9, 1.9)),
    "single_slice": Geometry((1, 36, 40), (5.0, 2.0, 2.0)),
    "smaller_than_the_patch": Geometry((5, 9, 10), (4.0, 4.0, 4.0)),
}


def model_that(
    folder: Path,
    action: int | None,
    structures: Structures = ONE,
    channels: int = 1,
    spacing: list | None = None,
    generalisation_factor: float = 1.0,
) -> Path:
    """A model package whose mask agents always want one action; None: a model without mask agents."""
    overrides = TINY | {"data": TINY["data"] | {"spacing_mm": spacing or [4.0, 4.0, 4.0]}}
    config = load_config("general", "extended", overrides)
    torch.manual_seed(0)
    network, agents = build_networks(config, channels, structures), None
    if action is not None:
        mask_network = build_mask_network(config, channels, structures)
        torch.nn.init.zeros_(mask_network.policy_head.weight)
        torch.nn.init.zeros_(mask_network.policy_head.bias)
        with torch.no_grad():
            mask_network.policy_head.bias[action] = 50.0
        mask_network.calibrate([Calibration(generalisation_factor=generalisation_factor)] * len(structures.names))
        agents = mask_network.state_dict()
    path = folder / f"model_{action}_{channels}_{generalisation_factor}"
    save_package(
        path,
        tensors=package_tensors(network.state_dict(), agents),
        config=package_config(config, "svl_drl", channels, structures),
        labels={value: {"name": name} for value, name in structures.labels.items()},
        training_rows=[],
        card="A model for tests.",
        extra=package_calibration(agents, structures),
    )
    return path


def block(geometry: Geometry, value: int = 1, shrink: float = 0.3) -> np.ndarray:
    """A box in the middle of the volume."""
    label = np.zeros(geometry.size_dhw, np.uint8)
    low = [int(n * shrink) for n in label.shape]
    label[tuple(slice(a, max(a + 1, n - a)) for a, n in zip(low, label.shape))] = value
    return label


def files(
    folder: Path, geometry: Geometry, label: np.ndarray, segments: tuple[Segment, ...] = (), suffix: str = ".seg.nrrd"
) -> tuple[Path, Path]:
    """An image and a rough mask."""
    image = 100 * np.random.default_rng(0).random(geometry.size_dhw).astype(np.float32) + 300.0 * (label > 0)
    return (
        write_image(folder / "image.nrrd", image, geometry),
        write_label(folder / f"rough{suffix}", label, geometry, segments),
    )


def refined(
    folder: Path, model: Path | None, image: Path, rough: Path | None, **more: Any
) -> tuple[Refinement, Volume]:
    output = more.pop("output", folder / "refined.seg.nrrd")
    done = refine(image, rough, model=model, output=output, device="cpu", **more)
    assert done.output == output
    return done, read_label(output)


def with_islands(geometry: Geometry) -> np.ndarray:
    """A block of 7 with an island of 4 voxels, and one of 3 with an island of its own."""
    label = block(geometry, 7)
    label[0, 0, :4] = 7
    label[-1, -3:, -2:] = 3
    label[-1, 0, 0] = 3
    return label
