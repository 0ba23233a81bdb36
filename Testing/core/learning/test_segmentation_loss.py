"""The loss with voxels that count more or less often, by hand and against voxels that are repeated."""

from __future__ import annotations

import pytest
import torch

from SVLDRLCore.learning.segmentation_loss import segmentation_loss, soft_dice


def row(*values: float) -> torch.Tensor:
    """One sample of one structure, (1, 1, 1, 1, W)."""
    return torch.tensor(values).view(1, 1, 1, 1, -1)


def test_a_weighed_dice_by_hand() -> None:
    # overlap 1 x 0.5 + 0.25 x 1, sizes 1 x 0.5 + 0.25 x 1 + 0.5 x 1 and 1 x 1 + 0.25 x 1
    found = soft_dice(row(0.5, 1, 1), row(1, 1, 0), weight=row(1, 0.25, 0.5))
    assert float(found) == pytest.approx(2 * 0.75 / (1.25 + 1.25), abs=1e-5)


def test_a_weight_of_two_is_the_voxel_twice_and_of_0_its_absence() -> None:
    p, t = row(0.3, 0.9, 0.6), row(0, 1, 1)
    torch.testing.assert_close(soft_dice(p, t, weight=row(1, 2, 0)), soft_dice(row(0.3, 0.9, 0.9), row(0, 1, 1)))


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
def test_one_strength_everywhere_changes_nothing(strength: float) -> None:
    p, t = torch.rand(2, 2, 3, 4, 5), (torch.rand(2, 2, 3, 4, 5) > 0.5).float()
    weight = torch.full((2, 1, 3, 4, 5), strength)
    torch.testing.assert_close(soft_dice(p, t, weight=weight), soft_dice(p, t), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strength", [0.05, 0.25, 0.5])
def test_a_voxel_that_counts_little_is_still_learned_as_what_it_is(strength: float) -> None:
    """A structure of which the rest is known well: the weak voxel's logit must rise, not fall."""
    logits = torch.zeros(1, 1, 1, 1, 8)
    logits[..., :7] = 8.0
    logits.requires_grad_()
    weight = row(*[1.0] * 7, strength)
    segmentation_loss(logits, torch.ones(1, 1, 1, 1, 8), 0.0, True, weight).sum().backward()
    assert float(logits.grad[..., 7]) < 0
