"""Whose turn it is: each case once an epoch, doubtful ones by their weight; and where patches are taken."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from SVLDRLCore.config.settings import DataConfig
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.data.sampler import CaseOrder, PatchSampler, draw_window, flip_at_random, jitter_intensity


def turns(order: CaseOrder, count: int) -> Counter[int]:
    return Counter(order.next() for _ in range(count))


def test_every_case_once_an_epoch() -> None:
    order = CaseOrder(7, np.random.default_rng(0))
    for _ in range(3):
        assert turns(order, 7) == Counter(range(7))


def test_turns_follow_the_weights() -> None:
    order = CaseOrder(4, np.random.default_rng(0))
    order.weigh([1.0, 0.5, 0.0, 2.0], floor=0.1)
    taken = turns(order, 26_000)
    assert taken[0] / taken[3] == pytest.approx(1.0, abs=0.03)
    assert taken[1] / taken[0] == pytest.approx(0.5, abs=0.03)
    assert taken[2] / taken[0] == pytest.approx(0.1, abs=0.02)  # the floor: no case is dropped


def test_it_goes_on_where_it_was() -> None:
    order = CaseOrder(5, np.random.default_rng(1))
    order.weigh([0.3, 1.0, 0.7, 0.2, 1.0], floor=0.02)
    turns(order, 8)
    saved = order.state()
    expected = [order.next() for _ in range(50)]
    again = CaseOrder(5, np.random.default_rng(99))
    again.restore(saved)
    assert [again.next() for _ in range(50)] == expected


def large_and_small(*, small: bool = True) -> PatchSampler:
    """Patches of a volume with a large structure at one end and perhaps a small one at the other."""
    masks = np.zeros((2, 8, 8, 64), np.uint8)
    masks[0, :, :, :24] = 1
    masks[1, 3:5, 3:5, 60:62] = small  # 8 voxels beside 1536
    case = in_memory("case", np.zeros((1, 8, 8, 64), np.float32), masks, (1.0, 1.0, 1.0), (8, 8, 8))
    return PatchSampler([case], DataConfig(patch_size=(8, 8, 8), foreground_fraction=1.0, flip_axes=()), 1, seed=0)


def test_a_small_structure_is_looked_at_as_often_as_a_large_one() -> None:
    sampler = large_and_small()
    shown = np.array([sampler.next().target.flatten(2).any(2).numpy()[0] for _ in range(400)])
    assert shown.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.08)


def test_a_structure_that_a_case_lacks_is_not_looked_for() -> None:
    sampler = large_and_small(small=False)
    assert all(bool(sampler.next().target[0, 0].any()) for _ in range(50))


@pytest.mark.parametrize("jitter", [0.0, 0.1])
def test_a_batch_is_cut_turned_and_changed_one_step_at_a_time(jitter: float) -> None:
    """Written at once, and to the bit what cutting, mirroring, changing and stacking give."""
    rng = np.random.default_rng(3)
    cases = [
        in_memory(f"case_{n}", rng.random((2, 9, 12, 14), np.float32), rng.integers(0, 2, (1, 9, 12, 14)),
                  (1.0, 1.0, 1.0), (10, 8, 8))
        for n in range(3)
    ]  # fmt: skip
    config = DataConfig(patch_size=(10, 8, 8), intensity_jitter=jitter)
    sampler = PatchSampler(cases, config, 2, seed=4)
    same = PatchSampler(cases, config, 2, seed=4)
    for _ in range(6):
        patches = []
        for _ in range(2):
            index = same.order.next()
            case, voxels = cases[index], same._foreground[index][0]
            window = draw_window(case.image.shape[1:], config, voxels, same.rng)
            tensors = [t[:, *window].float() for t in (case.image, case.masks, case.valid)]
            tensors = flip_at_random(tensors, config.flip_axes, same.rng)
            tensors[0] = jitter_intensity(tensors[0], jitter, same.rng)
            patches.append(tensors)
        batch = sampler.next()
        for made, *expected in zip((batch.image, batch.target, batch.valid), *patches):
            assert torch.equal(made, torch.stack(expected))
    assert not bool(batch.valid.all())
