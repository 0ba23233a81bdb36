"""RSF-assisted correction: energies, thresholds and accepted corrections by hand, and labels that it mends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ball_labels import SIDE, batch_of, blocky_balls, check_harm, check_several_structures, config, method, untrained
from monai.networks.layers import GaussianFilter
from torch import Tensor

from SVLDRLCore.baselines.region_scalable_fitting import fits_inside, sigmas
from SVLDRLCore.baselines.rsf_assisted import RSFAssisted, confident_labels, confirmed
from SVLDRLCore.config.settings import with_values
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.method import MethodInput


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_that_plain_training_learns_by_heart_do_less_harm(seed: int) -> None:
    check_harm(RSFAssisted, seed, 0.01)


@pytest.mark.parametrize("stage", ["warm_up", "robust"])
@pytest.mark.parametrize("kind", ["exclusive", "nested"])
def test_several_structures_give_finite_losses_and_gradients(kind: str, stage: str) -> None:
    check_several_structures(RSFAssisted, kind, stage)


def test_settings_are_its_own() -> None:
    with pytest.raises(InputError, match=r"method_settings\.nothing"):
        method(RSFAssisted, untrained(), settings={"nothing": 1.0})


def test_the_energy_tells_inside_from_outside() -> None:
    truth = torch.zeros(1, 1, SIDE, SIDE, SIDE)
    truth[..., 3:9, 3:9, 3:9] = 1
    image = 0.3 + 0.4 * truth
    label = truth.roll(2, -1)  # a misplaced label, its middle still in place
    inside = fits_inside(image, label, torch.ones_like(label), (3.0, 3.0, 3.0))
    torch.testing.assert_close(inside.float(), truth)
    # dark structures as well, and padding has no say
    valid = torch.ones_like(label)
    valid[..., 10:] = 0
    image = torch.where(valid > 0, 1 - image, 0.0)
    inside = fits_inside(image, label, valid, (3.0, 3.0, 3.0))
    torch.testing.assert_close(inside.float() * valid, truth)


def test_the_energy_is_that_of_its_definition() -> None:
    """One line of voxels: the integral written out."""
    rng = np.random.default_rng(0)
    values, mask = rng.random(9), np.arange(9) < 4
    at = np.arange(9)
    kernel = GaussianFilter(3, [0.05, 0.05, 1.5], truncated=3.0)
    weights = kernel(torch.eye(9)[:, None, None, None, :]).squeeze().double().numpy()
    energies = []
    for region in (mask, ~mask):
        mean = (weights @ (values * region)) / (weights @ region + 1e-9)
        energies.append(np.array([(weights[x] * (values[x] - mean) ** 2).sum() for x in at]))
    image = torch.tensor(values, dtype=torch.float32).view(1, 1, 1, 1, 9)
    masks = torch.tensor(mask, dtype=torch.float32).view(1, 1, 1, 1, 9)
    found = fits_inside(image, masks, torch.ones_like(masks), (0.05, 0.05, 1.5))
    assert found.flatten().tolist() == (energies[0] < energies[1]).tolist()


def test_nothing_fits_the_inside_of_an_empty_mask() -> None:
    image = torch.rand(1, 2, 4, 4, 4)
    empty = torch.zeros(1, 1, 4, 4, 4)
    assert not fits_inside(image, empty, torch.ones_like(empty), (3.0, 3.0, 3.0)).any()
    assert fits_inside(image, 1 - empty, torch.ones_like(empty), (3.0, 3.0, 3.0)).all()


def test_the_kernel_is_round_in_millimetres() -> None:
    assert sigmas(3.0, (3.0, 1.0, 1.5)) == (1.0, 3.0, 2.0)


def voxels(*rows: list[float]) -> Tensor:
    """(1, C, 1, 1, N) from C rows of N values."""
    return torch.tensor(rows)[None, :, None, None, :]


def test_confident_labels_follow_the_thresholds() -> None:
    target = voxels([1.0, 1.0, 0.0, 0.0, 0.0])
    # thresholds: structure (0.9 + 0.1) / 2 = 0.5, background (0.9 + 0.6 + 0.3) / 3 = 0.6
    p = voxels([0.9, 0.1, 0.1, 0.4, 0.7])
    ones = torch.ones_like(target)
    assert confident_labels(p, target, ones, False).flatten().tolist() == [1, 0, 0, 0, 1]
    assert confident_labels(p, target, ones, True).flatten().tolist() == [1, 0, 0, 0, 1]
    unsure = voxels([0.9, 0.45, 0.1, 0.4, 0.55])  # thresholds 0.675 and 0.65
    assert confident_labels(unsure, target, ones, False).flatten().tolist() == target.flatten().tolist()
    padding = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0]).view(1, 1, 1, 1, 5)
    assert confident_labels(p, target, padding, False).flatten()[1] == 1
    # a class that is not there has no threshold
    assert not confident_labels(p, torch.zeros_like(target), ones, False).any()


def test_a_correction_needs_the_energy_of_every_structure_that_changes() -> None:
    target = voxels([1.0, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0])
    proposed = voxels([0.0, 0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0])
    inside = voxels([0.0, 1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]) > 0
    free, kept = (torch.tensor([t]).view(1, 1, 1, 1, 1) for t in (False, True))
    found = confirmed(proposed, target, inside, False, free)
    torch.testing.assert_close(found, voxels([0.0, 1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]))
    found = confirmed(proposed, target, inside, True, free)  # regions one by one: the last voxel leaves the first
    torch.testing.assert_close(found, voxels([0.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(confirmed(proposed, target, inside, False, kept), target)


def test_accepted_corrections_are_right_and_trusted_labels_stay() -> None:
    image, truth, labels = blocky_balls(2, 0)
    batch = batch_of(image, labels)
    trained = method(RSFAssisted, untrained(), trusted=(False, True))
    found = trained.accepted(truth, batch)
    assert float((found[0] != truth[0]).float().mean()) < 0.3 * float((labels[0] != truth[0]).float().mean())
    assert torch.equal(found[1], labels[1])
    # a teacher that is wrong everywhere gets next to nothing past the image
    spoiled = trained.accepted(1 - truth, batch_of(image, truth))
    assert float((spoiled[0] != truth[0]).float().mean()) < 0.01


def test_the_spacing_comes_from_the_settings_or_from_the_cases() -> None:
    trained = method(RSFAssisted, untrained())
    assert not trained.reviews_cases
    free = config()
    own = RSFAssisted(MethodInput(untrained(), with_values(free, data={"spacing_mm": None}), False))
    assert own.reviews_cases
    image = np.zeros((1, 4, 4, 4), np.float32)
    cases = [in_memory("case", image, image, (z, 1.0, 1.0), (4, 4, 4)) for z in (2.0, 3.0, 9.0)]
    own.review((case, image) for case in cases)
    assert own.spacing_dhw == (3.0, 1.0, 1.0)
    trained.restore(own.state())
    assert trained.spacing_dhw == own.spacing_dhw
    fixed = RSFAssisted(MethodInput(untrained(), with_values(free, data={"spacing_mm": (1.0, 2.0, 5.0)}), False))
    assert fixed.spacing_dhw == (5.0, 2.0, 1.0)  # (x, y, z) to (d, h, w)
