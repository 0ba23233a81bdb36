"""JCAS: matrices, affinities and corrected losses by hand, and flips that it undoes."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from ball_labels import batch_of, bright_ball, check_several_structures, dice, fit, method, stacked, untrained
from torch import Tensor

from SVLDRLCore.baselines.jcas import (
    JCAS,
    TransitionMatrix,
    corrected_affinity_loss,
    corrected_cross_entropy,
    implied_affinity_matrix,
    label_affinity,
    refinement,
    token_affinity,
    token_grid,
)
from SVLDRLCore.baselines.supervised import Supervised
from SVLDRLCore.errors import InputError

of_kind = partial(method, cross_entropy_weight=1.0)


@pytest.mark.parametrize("stage", ["warm_up", "robust"])
@pytest.mark.parametrize("kind", ["exclusive", "nested"])
def test_several_structures_give_finite_losses_and_gradients(kind: str, stage: str) -> None:
    check_several_structures(JCAS, kind, stage, cross_entropy_weight=1.0)


def test_settings_are_its_own() -> None:
    with pytest.raises(InputError, match=r"method_settings\.nothing"):
        of_kind(JCAS, untrained(), settings={"nothing": 1.0})


def bright_balls(count: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    images, truths = zip(*(bright_ball(rng) for _ in range(count)))
    return stacked(images), stacked(truths)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_learned_matrix_undoes_class_conditional_flips(seed: int) -> None:
    """Cross entropy alone on both sides, so that nothing but the correction differs."""
    image, truth = bright_balls(4, seed)
    labels = truth * (torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed)) > 0.55)
    network = untrained(seed=seed)
    fit(of_kind(Supervised, network), image, labels, 40, "warm_up")
    plain, robust = (of_kind(kind, copy.deepcopy(network)) for kind in (Supervised, JCAS))
    fit(plain, image, labels, 60, "robust")
    logged = fit(robust, image, labels, 60, "robust")
    assert dice(robust, image, truth) > dice(plain, image, truth) + 0.1
    _, background_to_ball, ball_to_background, _ = logged["class_transition"]
    assert background_to_ball < 0.07
    assert ball_to_background > 0.14  # both started at 0.11


def test_matrices_start_near_the_identity_at_any_speed() -> None:
    for speed in (1.0, 10.0):
        found = TransitionMatrix(2, 2, speed)().detach()
        wanted = torch.tensor([[1.0, 0.1192], [0.1192, 1.0]]) / 1.1192
        torch.testing.assert_close(found, wanted.expand(2, 2, 2), atol=1e-4, rtol=0)
    assert TransitionMatrix(1, 4)().sum(2).flatten().tolist() == pytest.approx([1.0] * 4)


def test_cross_entropy_through_the_matrix() -> None:
    p = torch.tensor([0.75, 0.25]).view(1, 2, 1, 1, 1)
    labels = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1, 1)
    matrix = torch.tensor([[[0.9, 0.1], [0.4, 0.6]]])
    for trusted, wanted in ((False, 0.75 * 0.1 + 0.25 * 0.6), (True, 0.25)):
        found = corrected_cross_entropy(p.log(), labels, matrix, torch.tensor([trusted]), False)
        assert float(found) == pytest.approx(-np.log(wanted))
    z = torch.tensor(np.log(0.25 / 0.75)).float().view(1, 1, 1, 1, 1)  # the same as a nested region
    found = corrected_cross_entropy(z, labels, matrix, torch.tensor([False]), True)
    assert float(found) == pytest.approx(-np.log(0.75 * 0.1 + 0.25 * 0.6))


def test_affinity_loss_through_the_matrix() -> None:
    affinity = torch.tensor([[[0.8]]])
    matrix = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
    noisy = 0.2 * 0.1 + 0.8 * 0.7
    for same, trusted, wanted in ((1.0, False, noisy), (0.0, False, 1 - noisy), (1.0, True, 0.8)):
        found = corrected_affinity_loss(affinity, torch.tensor([[[[same]]]]), matrix, torch.tensor([trusted]))
        assert float(found) == pytest.approx(-np.log(wanted))


def test_the_implied_affinity_matrix_is_what_pairs_of_labels_show() -> None:
    matrix, shares = (
        torch.tensor([[[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.0, 0.3, 0.7]]]),
        torch.tensor([[0.6, 0.3, 0.1]]),
    )
    counts = np.zeros((2, 2))
    for i, m in np.ndindex(3, 3):
        for j, n in np.ndindex(3, 3):
            weight = float(shares[0, i] * matrix[0, i, j] * shares[0, m] * matrix[0, m, n])
            counts[int(i == m), int(j == n)] += weight
    wanted = counts / counts.sum(1, keepdims=True)
    np.testing.assert_allclose(implied_affinity_matrix(matrix, shares)[0], wanted, rtol=1e-5)


def test_tokens_are_few_and_alike_where_their_features_are() -> None:
    assert token_grid((24, 40, 48)) == (6, 10, 12)
    assert token_grid((96, 96, 96)) == (12, 12, 12)
    features = torch.zeros(1, 2, 8, 4, 4)
    features[:, 0, :4], features[:, 1, 4:] = 3.0, 0.5
    found = token_affinity([torch.zeros(1, 1, 16, 8, 8), features, torch.zeros(1, 2, 1, 1, 1)], (2, 1, 1))
    torch.testing.assert_close(found, torch.eye(2)[None])


def test_logits_are_drawn_to_similar_tokens_and_away_from_others() -> None:
    logits = torch.tensor([2.0, 4.0, -6.0]).view(1, 1, 3, 1, 1)
    affinity = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    found = refinement(logits, affinity, (3, 1, 1)).flatten()
    torch.testing.assert_close(found, 0.5 * torch.tensor([3.0 + 6.0, 3.0 + 6.0, -6.0 - 3.0]))


def test_label_affinity_leaves_padding_out() -> None:
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]).view(1, 1, 2, 3, 1, 1)
    valid = torch.tensor([1.0, 1.0, 0.0]).view(1, 1, 3, 1, 1)
    same, known = label_affinity(labels, valid, (3, 1, 1))
    assert same[0, 0].tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]
    assert known[0, 0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_trusted_labels_leave_the_matrices_alone() -> None:
    image, truth = bright_balls(2, 0)
    trained = of_kind(JCAS, untrained(), trusted=(True, True), settings={"volume_weight": 0.0, "agreement_weight": 0.0})
    before = trained.network.class_transition().detach()
    trained.training_step(batch_of(image, truth), "robust", 0.0).loss.backward()
    for matrix in (trained.network.class_transition, trained.network.affinity_transition):
        assert matrix.weight.grad is None or not matrix.weight.grad.any()
    torch.testing.assert_close(trained.network.class_transition().detach(), before)
