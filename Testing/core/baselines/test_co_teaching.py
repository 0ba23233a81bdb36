"""Co-Teaching: who keeps which voxels for whom, the forget rate, and what it does against random false voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flipped_voxels import CASES, balls, batch_of, config_of, gained, in_a_row, plain_and, small_network
from torch import Tensor, nn

from SVLDRLCore.baselines.co_teaching import UNKNOWN_RATE, CoTeaching, keep_small
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.learning.method import MethodInput


class FreeLogits(nn.Module):
    """A "network" whose logits (2 classes, one row of voxels) are its weights: p(structure) of each voxel."""

    def __init__(self, *p: float) -> None:
        super().__init__()
        p = torch.tensor(p)
        self.logits = nn.Parameter(torch.stack([1 - p, p]).log().view(1, 2, 1, 1, -1))

    def forward(self, image: Tensor) -> Tensor:
        return self.logits.expand(len(image), -1, -1, -1, -1)


def made(settings: dict[str, float], *p: float, trusted: tuple[bool, ...] = (False,)) -> CoTeaching:
    return CoTeaching(MethodInput(FreeLogits(*p), config_of(settings, flip_axes=[]), False, trusted=trusted))


def case_of(masks: Tensor, trusted: bool) -> TrainingCase:
    shape = tuple(masks.shape[1:])
    return in_memory("case", np.zeros((1, *shape), np.float32), masks.numpy(), (1.0, 1.0, 1.0), shape, trusted)


def test_the_largest_losses_are_left_out() -> None:
    losses, everywhere = in_a_row(3.0, 1.0, 4.0, 2.0), torch.ones(1, 1, 1, 1, 4)
    assert keep_small(losses, everywhere, 2).flatten().tolist() == [0, 1, 0, 1]
    assert keep_small(losses, everywhere, 0).flatten().tolist() == [1, 1, 1, 1]
    # what is padded or trusted is not ranked
    assert keep_small(losses, in_a_row(1.0, 1.0, 0.0, 1.0), 1).flatten().tolist() == [0, 1, 1, 1]
    assert keep_small(losses, in_a_row(0.0, 0.0, 1.0, 0.0), 3).flatten().tolist() == [1, 1, 0, 1]


def test_each_network_learns_from_what_the_other_finds_easy() -> None:
    method = made({"forget_rate": 0.25, "ramp_share": 0.0}, 0.1, 0.9, 0.8, 0.7)
    with torch.no_grad():
        method.network.peer.logits.copy_(FreeLogits(0.8, 0.1, 0.9, 0.7).logits)
    batch = batch_of(torch.ones(1, 1, 1, 1, 4))
    method.training_step(batch, "robust", 0.5).loss.backward()
    student, peer = (n.logits.grad[0, 1, 0, 0] != 0 for n in (method.network.student, method.network.peer))
    assert student.tolist() == [True, False, True, True]  # the peer is worst at voxel 1
    assert peer.tolist() == [False, True, True, True]  # the student at voxel 0


def test_the_rate_rises_to_the_forget_rate_and_trusted_voxels_stay() -> None:
    # 10 voxels are foreground by label or prediction: 4 of them are to go in the end
    p = [0.6] * 5 + [0.4] * 5 + [0.1] * 10
    target = in_a_row(*[0.0] * 5, *[1.0] * 5, *[0.0] * 10)
    method = made({"forget_rate": 0.4}, *p, trusted=(False, True))
    kept = [method.training_step(batch_of(target), "robust", at).logged["kept"] for at in (0.0, 0.1, 0.2, 0.9)]
    assert kept == pytest.approx([1.0, 0.9, 0.8, 0.8])
    assert method.training_step(batch_of(target, cases=(1,)), "robust", 0.9).logged["kept"] == 1.0


def test_the_forget_rate_is_estimated_from_trusted_cases() -> None:
    method = made({}, 0.5, 0.5, 0.5, 0.5, trusted=(False, True))
    assert method.reviews_cases
    assert method.forget_rate == UNKNOWN_RATE
    maps = in_a_row(0.9, 0.9, 0.9, 0.1)[0].numpy()
    method.review([
        (case_of(in_a_row(0.0, 0.0, 1.0, 1.0)[0], False), maps),  # 3 of 4 foreground voxels differ
        (case_of(in_a_row(1.0, 1.0, 1.0, 1.0)[0], True), maps),  # 1 of 4
    ])  # fmt: skip
    # 0.75 - 0.25
    assert method.forget_rate == pytest.approx(0.5)
    other = made({}, 0.5)
    other.restore(method.state())
    assert other.forget_rate == method.forget_rate


def test_a_given_rate_is_kept_and_nothing_is_guessed_without_trusted_cases() -> None:
    assert not made({"forget_rate": 0.3}, 0.5, trusted=(False, True)).reviews_cases
    assert not made({}, 0.5, trusted=(False, False)).reviews_cases


def test_the_peer_starts_as_a_copy_and_sees_another_view() -> None:
    config = config_of(flip_axes=[0, 1, 2])
    method = CoTeaching(MethodInput(small_network(0), config, False, torch.Generator().manual_seed(1), [False] * CASES))
    image, mask = balls(0)
    for own, other in zip(method.network.student.parameters(), method.network.peer.parameters()):
        assert own is not other
        assert torch.equal(own, other)
    method.training_step(batch_of(mask, image), "warm_up", 0.0).loss.backward()
    gradients = zip(method.network.student.parameters(), method.network.peer.parameters())
    assert not any(torch.equal(own.grad, other.grad) for own, other in gradients)


def test_the_view_is_mirrored_back() -> None:
    config = config_of({"view_jitter": 0.0}, flip_axes=[0, 1, 2])
    method = CoTeaching(MethodInput(nn.Identity(), config, False, torch.Generator().manual_seed(1), [False]))
    image = torch.rand(1, 2, 3, 4, 5)
    assert all(torch.equal(method._peer_on_its_view(image), image) for _ in range(8))


@pytest.mark.parametrize("seed", [0, 1])
def test_random_false_voxels_are_left_out(seed: int) -> None:
    plain, robust = plain_and(CoTeaching, {"forget_rate": 0.8}, gained, seed)
    assert robust > plain + 0.1, (plain, robust)
