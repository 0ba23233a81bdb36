"""Loss correction: anchors and T by hand, the corrected loss, and what it does against class-conditional noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flipped_voxels import batch_of, config_of, in_a_row, lost, plain_and
from torch import Tensor, nn

from SVLDRLCore.baselines.loss_correction import LossCorrection, labelled_as, transition_matrix
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.learning.method import MethodInput


def case_of(masks: Tensor, trusted: bool = False) -> TrainingCase:
    shape = tuple(masks.shape[1:])
    return in_memory("case", np.zeros((1, *shape), np.float32), masks.numpy(), (1.0, 1.0, 1.0), shape, trusted)


def made(nested: bool = False, trusted: tuple[bool, ...] = (False, False)) -> LossCorrection:
    return LossCorrection(MethodInput(nn.Identity(), config_of(), nested, trusted=trusted))


def test_rows_are_normalised_and_diagonals_lifted() -> None:
    sums = torch.tensor([[[30.0, 10.0, 0.0], [2.0, 1.0, 7.0], [0.0, 0.0, 0.0]]])
    wanted = torch.tensor([[[0.75, 0.25, 0.0], [2 / 9 / 2, 0.5, 7 / 9 / 2], [0.0, 0.0, 1.0]]])
    assert torch.allclose(transition_matrix(sums, 0.5), wanted)


def test_anchors_are_the_surest_voxels_of_each_class() -> None:
    p = in_a_row(0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)[0]
    for nested in (False, True):
        method = made(nested)
        method.review([(case_of(torch.zeros(1, 1, 1, 8)), p.numpy())])
        # 97 % of four voxels: the two surest of each class, p = 0.8 and 0.9
        assert torch.allclose(method.transition, torch.tensor([[[0.85, 0.15], [0.15, 0.85]]]))


def test_padding_gives_no_anchors() -> None:
    case = case_of(torch.zeros(1, 1, 1, 8))
    case.valid[..., 4:] = 0
    method = made()
    method.review([(case, in_a_row(0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)[0].numpy())])
    assert torch.allclose(method.transition, torch.tensor([[[0.85, 0.15], [0.0, 1.0]]]))


def test_trusted_cases_give_the_rows_of_the_classes_that_they_show() -> None:
    method = made()
    p = in_a_row(0.1, 0.2, 0.6, 0.8)[0]
    trusted = case_of(in_a_row(0.0, 1.0, 1.0, 1.0)[0], trusted=True)
    method.review([(trusted, p.numpy()), (case_of(torch.zeros(1, 1, 1, 4)), p.numpy())])
    foreground = (0.2 + 0.6 + 0.8) / 3
    wanted = torch.tensor([[[0.9, 0.1], [1 - foreground, foreground]]])
    assert torch.allclose(method.transition, wanted)


def test_the_corrected_probabilities_are_t_transposed_p() -> None:
    torch.manual_seed(0)
    p = torch.rand(2, 3, 4, 2, 2, 2).softmax(2)
    t = torch.rand(2, 3, 4, 4).softmax(-1)
    wanted = torch.einsum("brij,bridhw->brjdhw", t, p)
    assert torch.allclose(labelled_as(p.log(), t).exp(), wanted, atol=1e-6)


def test_the_loss_by_hand_and_trusted_labels_as_they_are() -> None:
    method = made(trusted=(False, True))
    method.transition = torch.tensor([[[1.0, 0.0], [0.4, 0.6]]])
    logits = torch.cat([torch.zeros(2, 1, 1, 1, 1), torch.full((2, 1, 1, 1, 1), float(np.log(4)))], dim=1)
    label = torch.zeros(2, 1, 1, 1, 1)
    # p = (0.2, 0.8), labelled background: 0.2 + 0.4 * 0.8 = 0.52 if that may be noise, 0.2 if not
    noisy, clean = (method.training_step(batch_of(label[:1], logits[:1], (i,)), "robust", 0.0) for i in (0, 1))
    assert float(noisy.loss) == pytest.approx(-np.log(0.52), abs=1e-5)
    assert float(clean.loss) == pytest.approx(-np.log(0.2), abs=1e-5)
    both = method.training_step(batch_of(label, logits, (0, 1)), "robust", 0.0)
    assert float(both.loss) == pytest.approx((float(noisy.loss) + float(clean.loss)) / 2, abs=1e-5)


def test_the_matrix_is_kept_in_the_state() -> None:
    method, other = made(), made()
    method.transition = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
    other.restore(method.state())
    assert torch.equal(other.transition, method.transition)


@pytest.mark.parametrize("seed", [0, 1])
def test_class_conditional_noise_is_undone(seed: int) -> None:
    plain, robust = plain_and(LossCorrection, {}, lost, seed)
    assert robust > plain + 0.1, (plain, robust)
