"""A trained model under guard: a good mask stays on an image unlike the training's, a rough one still gets better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rough_masks_to_refine import TINY, refined

from SVLDRLCore.data.phantoms import make_phantom, write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.volumes import Geometry, Segment, write_image, write_label
from SVLDRLCore.jobs.refine import Refinement
from SVLDRLCore.mask_refinement.guard import UNLIKE, Verdict
from SVLDRLCore.mask_refinement.guarding import Guarding
from SVLDRLCore.mask_refinement.segments import draw_structures
from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.models.package import load_package, save_package
from SVLDRLCore.training.train import train

SIZE, SPACING = (12, 24, 24), (4.0, 4.0, 4.0)
LEARNING: dict[str, Any] = TINY | {
    "mask_agents": TINY["mask_agents"] | {"transition_steps": 150, "full_rl_steps": 10, "feature_size": 8},
    "optimiser": {"ema_decay": 0.95},
    "reliability": {"enabled": False},
    "train": TINY["train"] | {"steps": 240, "batch_size": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained long enough to be of help: some ten seconds."""
    folder = tmp_path_factory.mktemp("guarded")
    datalist = write_phantom_dataset(folder / "data", 12, 0, size_dhw=SIZE, spacing_dhw=SPACING)
    train(datalist, folder / "run", overrides=LEARNING)
    return folder / "run" / "model"


def outcome(folder: Path, model: Path, inverted: bool, shift_mm: float, **more: Any) -> tuple[Refinement, float, float]:
    """The refinement of a phantom that the model has not seen; Dice before and after."""
    image, label = make_phantom(101, SIZE, SPACING)
    geometry, truth = Geometry(SIZE, SPACING), label > 0
    mask = shift_border(truth, SPACING, shift_mm) if shift_mm else truth
    grey = 1 - image[0] if inverted else image[0]
    file = write_image(folder / "image.nrrd", grey, geometry)
    rough = write_label(folder / "rough.seg.nrrd", mask.astype(np.uint8), geometry, (Segment(1, "part 1", (1, 0, 0)),))
    done, result = refined(folder, model, file, rough, **more)
    return done, dice_of(mask, truth), dice_of(result.array > 0, truth)


def changed(model: Path, folder: Path, guard: bytes | None) -> Path:
    """The same model with another guard.json, or without one."""
    package = load_package(model)
    extra = {name: package.read_extra(name) for name in package.extra if name != "guard.json"}
    save_package(
        folder / "changed",
        tensors=package.tensors(),
        config=package.config,
        labels=package.labels,
        training_rows=package.training,
        card=package.card,
        extra=extra | ({} if guard is None else {"guard.json": guard}),
    )
    return folder / "changed"


def test_a_right_mask_stays_where_the_contrast_is_inverted(model: Path, tmp_path: Path) -> None:
    done, _, after = outcome(tmp_path, model, inverted=True, shift_mm=0)
    assert after == 1.0
    row = done.changes[0]
    assert row["reason"] == UNLIKE
    assert row["expected_gain"] < 0
    assert row["added_ml"] == row["removed_ml"] == 0
    assert done.warnings == [f"part 1: {UNLIKE}."]
    assert done.confidence.min() == 1.0  # the belief is the mask


def test_a_rough_mask_on_a_like_image_still_gets_better(model: Path, tmp_path: Path) -> None:
    done, before, after = outcome(tmp_path, model, inverted=False, shift_mm=-4)
    assert after > before + 0.2
    assert done.changes[0]["reason"] == ""
    assert isinstance(done.changes[0]["expected_gain"], float)


@pytest.mark.parametrize("off", [{"guard": False}, {"trust": 0.0}])
def test_the_guard_can_be_turned_off(model: Path, tmp_path: Path, off: dict[str, Any]) -> None:
    done, _, after = outcome(tmp_path, model, inverted=True, shift_mm=0, **off)
    assert after < 0.5
    assert done.changes[0]["reason"] == ""
    assert done.changes[0]["expected_gain"] is None


def test_a_package_without_guard_refines_as_it_did(model: Path, tmp_path: Path) -> None:
    done, _, after = outcome(tmp_path, changed(model, tmp_path, None), inverted=True, shift_mm=0)
    assert after < 0.5
    assert done.changes[0]["expected_gain"] is None


def test_a_damaged_guard_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"guard\.json"):
        outcome(tmp_path, changed(model, tmp_path, b'{"format": 7}'), inverted=False, shift_mm=0)


def test_a_refused_region_stays_as_drawn_beside_accepted_ones() -> None:
    """The tumour (1 and 2) is refused; its core (2) would grow out of it, and so would a cyst (3) beside it into it."""
    structures = Structures(("tumour", "core", "cyst"), ((1, 2), (2,), (3,)), True, (1, 2, 3))
    drawn = np.array([0, 1, 1, 2, 2, 3, 0, 0]).reshape(1, 1, -1)
    beliefs = np.array([[0, 1, 1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 0]], np.float32)
    guarding, matched = Guarding(None), {0: (1,), 1: (2,), 2: (3,)}
    guarding.verdicts[0] = Verdict(-1.0, UNLIKE)
    maps = guarding.beside_refused(beliefs.reshape(3, 1, 1, -1), structures)
    result = draw_structures(structures, drawn, maps, guarding.drawn_anew(matched, True), (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(result.ravel(), [0, 1, 2, 2, 2, 3, 3, 0])
    np.testing.assert_array_equal(np.isin(result, (1, 2)), np.isin(drawn, (1, 2)))
