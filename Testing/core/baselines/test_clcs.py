"""CLCS: thresholds and losses by hand, and labels that the vote rejects."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ball_labels import batch_of, blocky_balls, check_harm, check_several_structures, fit, method, untrained, warmed_up
from torch import Tensor

from SVLDRLCore.baselines.clcs import (
    CLCS,
    class_thresholds,
    discrepancy,
    needed_vote,
    next_status,
    noise_balance_loss,
)
from SVLDRLCore.errors import InputError


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_that_plain_training_learns_by_heart_do_less_harm(seed: int) -> None:
    check_harm(CLCS, seed, 0.05)


@pytest.mark.parametrize("stage", ["warm_up", "robust"])
@pytest.mark.parametrize("kind", ["exclusive", "nested"])
def test_several_structures_give_finite_losses_and_gradients(kind: str, stage: str) -> None:
    check_several_structures(CLCS, kind, stage)


def test_settings_are_its_own() -> None:
    with pytest.raises(InputError, match=r"method_settings\.nothing"):
        method(CLCS, untrained(), settings={"nothing": 1.0})


def maps(*rows: list[float]) -> Tensor:
    """(1, 1, K, 1, 1, N) from K rows of N values."""
    return torch.tensor(rows)[None, None, :, None, None, :]


def test_thresholds_bend_with_the_learning_status() -> None:
    found = class_thresholds(torch.tensor([[1.0, 0.5, 0.0, torch.nan]]), 0.9)
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.9 * 0.5 / 1.5, 0.0, 0.0]]))
    needed = needed_vote(torch.tensor([[1.0, 0.5]]), maps([1.0, 0.0], [0.0, 1.0]), 0.9)
    torch.testing.assert_close(needed.flatten(), torch.tensor([0.9, 0.3]))


def test_the_status_is_the_running_share_of_sure_votes_for_the_label() -> None:
    labels = maps([1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 1.0])
    vote = maps([0.95, 0.5, 0.5, 0.05, 0.0], [0.05, 0.5, 0.5, 0.95, 1.0])
    valid = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 1, 5)  # the last voxel is padding
    first = next_status(torch.full((1, 2), torch.nan), vote, labels, valid, 0.9, 0.8)
    torch.testing.assert_close(first, torch.tensor([[0.5, 0.5]]))
    second = next_status(torch.tensor([[1.0, 0.0]]), vote, labels, valid, 0.9, 0.8)
    torch.testing.assert_close(second, torch.tensor([[0.9, 0.1]]))
    absent = next_status(torch.tensor([[1.0, 0.25]]), vote, labels, valid * labels[:, 0, :1], 0.9, 0.8)
    torch.testing.assert_close(absent, torch.tensor([[0.9, 0.25]]))


def test_the_noise_balance_loss_mixes_both_cross_entropies_by_confidence() -> None:
    p, labels = maps([0.8, 0.1], [0.2, 0.9]), maps([1.0, 1.0], [0.0, 0.0])
    found = noise_balance_loss(p.log(), labels, torch.tensor([0.75, 0.0]).view(1, 1, 1, 1, 2))
    wanted = torch.tensor([0.75 * -np.log(0.8) + 0.25 * 4 * 0.2, 4 * 0.9], dtype=torch.float32)
    torch.testing.assert_close(found.flatten(), wanted)


def test_the_discrepancy_is_least_for_opposite_features() -> None:
    a = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1)
    for b, wanted in ((a, 2.0), (-a, 0.0), (a.flip(1), 1.0)):
        assert float(discrepancy(a, b, (1, 1, 1))) == pytest.approx(wanted)


def test_no_voxel_of_a_trusted_label_is_rejected() -> None:
    image, _, labels = blocky_balls(2, 0)
    network = warmed_up(0)
    shares = []
    for trusted in ((False, False), (True, False), (True, True)):
        trained = method(CLCS, copy.deepcopy(network), trusted=trusted)
        shares.append(trained.training_step(batch_of(image, labels), "robust", 0.0).logged["rejected"])
    assert shares[0] > shares[1] > 0
    assert shares[2] == 0


def test_the_learning_status_is_kept() -> None:
    trained = method(CLCS, untrained())
    fit(trained, *blocky_balls(2, 0)[::2], 2, "robust")
    other = method(CLCS, untrained())
    assert bool(other.status.isnan().all())
    other.restore(trained.state())
    torch.testing.assert_close(other.status, trained.status)


def test_the_second_decoder_starts_near_the_students_and_learns_too() -> None:
    trained = method(CLCS, untrained())
    first, second = trained.network.student.segmentation_decoder, trained.network.second_decoder
    for a, b in zip(first.parameters(), second.parameters()):
        assert float((a - b).detach().std()) <= 0.2 * float(a.detach().std()) if a.ndim > 1 else torch.equal(a, b)
    assert not torch.equal(first.head.weight, second.head.weight)
    before = second.head.weight.detach().clone()
    fit(trained, *blocky_balls(2, 0)[::2], 1, "warm_up")
    assert not torch.equal(second.head.weight, before)
