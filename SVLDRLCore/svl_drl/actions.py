"""What an agent can do (SVL-DRL eq. 10) and how it chooses. B batch, S maps acted on, A = 3 actions."""

from __future__ import annotations

import torch
from torch import Tensor

KEEP, ENHANCE, WEAKEN = 0, 1, 2


def act_on_image(
    image: Tensor, actions: Tensor, epsilon: Tensor, strength: float = 0.3, start: Tensor | None = None
) -> Tensor:
    """Keep, enhance or weaken each voxel's intensity (SVL-DRL eq. 10).

    Args:
        image: current intensities in [0, 1], (B, M, D, H, W); one action map serves all M channels.
        actions: (B, 1, D, H, W) of KEEP, ENHANCE, WEAKEN.
        epsilon: U(0, 1), broadcastable to the image: one draw a voxel, or one a volume.
        strength: 0.3 in the paper.
        start: the episode's first image; given, the result stays within +- strength of it.
    """
    sign = (actions == ENHANCE).to(image.dtype) - (actions == WEAKEN).to(image.dtype)
    changed = (image * (1.0 + sign * strength * epsilon)).clamp(0.0, 1.0)
    if start is None:
        return changed
    return torch.minimum(torch.maximum(changed, start * (1 - strength)), start * (1 + strength)).clamp(0.0, 1.0)


def act_on_mask(belief: Tensor, actions: Tensor, step_size: float) -> Tensor:
    """The same three actions on a mask's probability in [0, 1], (B, S, D, H, W): enhance adds, weaken takes."""
    sign = (actions == ENHANCE).to(belief.dtype) - (actions == WEAKEN).to(belief.dtype)
    return (belief + step_size * sign).clamp(0.0, 1.0)


def draw_epsilon(image: Tensor, per: str, generator: torch.Generator) -> Tensor:
    """epsilon ~ U(0, 1) of eq. 10: one a voxel (`per="voxel"`) or one a volume (`"volume"`)."""
    shape = (image.shape[0], 1, *image.shape[2:]) if per == "voxel" else (image.shape[0], 1, 1, 1, 1)
    return torch.rand(shape, generator=generator).to(image.device)


def log_policy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """log pi(a|s) at a temperature, (B, S, A, D, H, W).

    At temperature 0 (Algorithm 1, line 19) the policy is a point mass on the most probable action: its log is 0 there
    and minus infinity elsewhere, and its gradient is 0, so that eq. 6 would teach nothing. There the log is taken at
    temperature 1 in its place: d(log pi(a)) / d(logits) = onehot(a) - softmax(logits), with a the most probable action.
    """
    if temperature > 0 and temperature != 1.0:
        logits = logits / max(temperature, 1e-6)
    return torch.log_softmax(logits, dim=2)


def sample_actions(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Actions (B, S, D, H, W) from logits (B, S, A, D, H, W); temperature 0 takes the most probable one.

    The Gumbel trick: argmax(logits / tau + Gumbel noise) has the policy's distribution.
    """
    if temperature <= 0:
        return _best(logits)
    gumbel = torch.rand(logits.shape, generator=generator).clamp_(1e-9, 1 - 1e-7).to(logits.device)
    gumbel = gumbel.log_().neg_().log_()  # in place: three maps less to allocate
    scaled = logits.detach() if temperature == 1.0 else logits.detach() / temperature
    return _best(scaled - gumbel)


def _best(scores: Tensor) -> Tensor:
    """argmax over dim 2, the first of equals; torch's own is ten times slower there on a CPU."""
    best = scores[:, :, 0]
    chosen = torch.zeros_like(best, dtype=torch.int64)
    for action in range(1, scores.shape[2]):
        other = scores[:, :, action]
        chosen = torch.where(other > best, action, chosen)
        best = torch.maximum(other, best)
    return chosen


def steepest_actions(slope: Tensor) -> Tensor:
    """Actions (B, 1, D, H, W) that lower a loss of this slope (dL/dx x, summed over channels), the same shape.

    The third of the voxels that matter least keep their intensity.
    """
    least = slope.abs().flatten(1).quantile(1 / 3, dim=1).view(-1, 1, 1, 1, 1)
    downhill = torch.where(slope > 0, WEAKEN, ENHANCE)
    return torch.where(slope.abs() <= least, KEEP, downhill)


def log_prob_of(log_probs: Tensor, actions: Tensor) -> Tensor:
    """log pi of the actions taken, (B, S, D, H, W)."""
    return log_probs.gather(2, actions.unsqueeze(2)).squeeze(2)


def entropy_of(log_probs: Tensor) -> Tensor:
    """Entropy of each agent's policy in nats, (B, S, D, H, W); ln 3 = 1.0986 is uniform."""
    return -(log_probs.exp() * log_probs).sum(dim=2)
