"""JCAS: the noise of single labels and that of pairs of labels are learned together, and correct the losses.

Source: X. Guo, Y. Yuan, "Joint Class-Affinity Loss Correction for Robust Medical Image Segmentation with Noisy Labels",
MICCAI 2022 (code: CityU-AIM-Group/JCAS, read for the details).

As published: beside the network two transition matrices are learned, T_c between classes and T_a (2 x 2) between
"same class" and "another class". Affinity is the cosine of rectified features; T_a's row mix of it is compared with
the labels' affinity. The affinity also refines the logits, z' = z + (A z - A^- z) / 2, with the row-normalised
affinity and its complement; z and z' are each compared with the label through T_c. The matrices' volume is kept
small (they are not identifiable without), and T_a near what T_c implies. It starts after a warm-up.

Adapted: the features are the encoder's, pooled to at most 12 x 12 x 12 tokens a patch; the refinement is interpolated
back to voxels and added to the full-resolution logits. One depth of features serves, not two. The class
distribution, a file in the code, is what the network predicts for the batch. The code reads the 2 x 2 matrix implied
by T_c with "same" first, T_a with "same" last; here both have it last. Nested regions have matrices of their own,
2 x 2 each. The network that predicts is not refined at inference. Through the matrices the losses of trusted labels
do not pass: nothing is wrong with them. As published the class loss is cross entropy alone (no Dice).

The published weight of the volume, 0.5, outweighs the cross entropy of T_c's rows where a structure is a few percent of
the voxels: on clean phantoms it learns a flip rate of 0.41 in 60 steps; ours, 0.001, learns 0.02.

One optimiser serves all; the matrices are parametrised so that AdamW moves them ten times as fast as the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SVLDRLCore.config.backbone_facts import IN_PARTS
from SVLDRLCore.config.building import number
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.class_probabilities import (
    class_log_probabilities,
    class_maps,
    mean_where,
    problems_and_classes,
)
from SVLDRLCore.learning.method import Companions, MethodInput, StepResult
from SVLDRLCore.learning.segmentation_loss import probabilities_of
from SVLDRLCore.learning.segmentation_method import SegmentationMethod
from SVLDRLCore.networks.actor_critic_unetr import in_parts

MOST_TOKENS = 12
"""Tokens along an axis at most; there is one for every four voxels."""
_TINY = 1e-6
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class JCASSettings:
    """Hyper-parameters of JCAS."""

    affinity_weight: float = number(1.0, 0, 1e6)
    """Weight of the affinity loss."""
    volume_weight: float = number(1e-3, 0, 1e6)
    """Weight of log |det T_c| + log |det T_a| (published: 0.5, see above)."""
    agreement_weight: float = number(0.01, 0, 1e6)
    """Weight of the squared difference between T_a and what T_c implies."""
    matrix_speed: float = number(10.0, 1e-6, 1e6)
    """Rate of the matrices relative to the network's."""


class TransitionMatrix(nn.Module):
    """R matrices T (R, K, K), T[i, j] = P(label j | truth i): rows of (I + sigmoid off the diagonal), scaled to 1.

    The diagonal is the largest entry of its row for good; it starts at 0.89 (K = 2).
    """

    def __init__(self, problems: int, classes: int, speed: float = 1.0, start: float = -2.0) -> None:
        super().__init__()
        self.speed = speed
        self.weight = nn.Parameter(torch.full((problems, classes, classes), start / speed))

    def forward(self) -> Tensor:
        identity = torch.eye(self.weight.shape[-1], device=self.weight.device)
        return F.normalize(identity + (1 - identity) * torch.sigmoid(self.speed * self.weight.float()), p=1, dim=-1)


class JCAS(SegmentationMethod):
    """Joint class-affinity loss correction."""

    own_settings = JCASSettings
    backbones = IN_PARTS

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.settings = given.settings(JCASSettings)
        self.student = in_parts(given.network)
        problems, classes = problems_and_classes(self.student.segmentation_decoder.head.out_channels, given.nested)
        speed = self.settings.matrix_speed
        self.network = self.trained = Companions(
            given.network,
            class_transition=TransitionMatrix(problems, classes, speed),
            affinity_transition=TransitionMatrix(problems, 2, speed),
        )

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """Plain training in the warm-up, then both corrected losses."""
        if stage == "warm_up":
            return super().training_step(batch, stage, progress)
        student = self.student
        features = student.encode(batch.image)
        logits = student.segment(features, batch.image)
        with torch.autocast(batch.image.device.type, enabled=False):  # logarithms of small numbers and determinants
            return self.corrected_losses([f.float() for f in features], logits.float(), batch)

    def corrected_losses(self, features: list[Tensor], logits: Tensor, batch: Batch) -> StepResult:
        """Class and affinity loss through the matrices, and what keeps those in bounds."""
        labels = class_maps(batch.target, self.nested)
        class_matrix, affinity_matrix = (
            self.trained.get_submodule(name)() for name in ("class_transition", "affinity_transition")
        )
        trusted = self.trusted_cases(batch)
        grid = token_grid(logits.shape[2:])
        affinity = token_affinity(features, grid)

        refined = logits + upsample(refinement(logits, affinity, grid), logits.shape[2:])
        class_loss = torch.stack(
            [
                mean_where(corrected_cross_entropy(each, labels, class_matrix, trusted, self.nested), batch.valid)
                for each in (logits, refined)
            ]
        ).sum()

        same, known = label_affinity(labels, batch.valid, grid)
        affinity_loss = mean_where(corrected_affinity_loss(affinity, same, affinity_matrix, trusted), known)

        volume = sum(torch.linalg.slogdet(t).logabsdet.sum() for t in (class_matrix, affinity_matrix))
        with torch.no_grad():
            predicted = class_maps(probabilities_of(logits, self.nested), self.nested) * batch.valid.unsqueeze(1)
            shares = predicted.sum((0, 3, 4, 5)) / batch.valid.sum().clamp_min(1.0)
        agreement = F.mse_loss(implied_affinity_matrix(class_matrix, shares), affinity_matrix)
        s = self.settings
        loss = class_loss + s.affinity_weight * affinity_loss + s.volume_weight * volume
        return StepResult(
            loss + s.agreement_weight * agreement,
            {
                "class_loss": float(class_loss.detach()),
                "affinity_loss": float(affinity_loss.detach()),
                "class_transition": class_matrix.detach().flatten().tolist(),
                "affinity_transition": affinity_matrix.detach().flatten().tolist(),
            },
        )

    def trusted_cases(self, batch: Batch) -> Tensor:
        """Whether the user vouches for each sample's label, (B,)."""
        known = [bool(self.trusted[i]) if self.trusted else False for i in batch.cases]
        return torch.tensor(known, device=batch.image.device)


def matrices_of_samples(matrix: Tensor, trusted: Tensor) -> Tensor:
    """T of each sample (B, R, K, K): the identity where the label is trusted."""
    identity = torch.eye(matrix.shape[-1], device=matrix.device).expand_as(matrix)
    return torch.where(trusted.view(-1, 1, 1, 1), identity, matrix)


def corrected_cross_entropy(logits: Tensor, labels: Tensor, matrix: Tensor, trusted: Tensor, nested: bool) -> Tensor:
    """-log (p T)[label] at each voxel, (B, R, D, H, W)."""
    matrices = matrices_of_samples(matrix, trusted)
    p = class_log_probabilities(logits, nested).exp()
    to_label = torch.einsum("brij,brjdhw->bridhw", matrices, labels)  # P(label | truth i)
    return -(p * to_label).sum(2).clamp_min(_TINY).log()


def token_grid(size: Sequence[int]) -> Grid:
    """Tokens along (D, H, W)."""
    d, h, w = (min(MOST_TOKENS, -(-n // 4)) for n in size)
    return d, h, w


def token_affinity(features: list[Tensor], grid: Grid) -> Tensor:
    """Cosine of rectified features between all tokens, (B, N, N) in [0, 1].

    The features are the deepest that are no coarser than the grid.
    """
    fine = [f for f in features if all(n >= g for n, g in zip(f.shape[2:], grid))]
    tokens = F.adaptive_avg_pool3d(F.relu((fine or features[:1])[-1]), grid).flatten(2)
    tokens = F.normalize(tokens, dim=1, eps=_TINY)
    return (tokens.transpose(1, 2) @ tokens).clamp(0, 1)


def refinement(logits: Tensor, affinity: Tensor, grid: Grid) -> Tensor:
    """(A z - A^- z) / 2 on the token grid, (B, C, *grid): towards similar tokens, away from others."""
    z = F.adaptive_avg_pool3d(logits, grid).flatten(2).transpose(1, 2)
    near = F.normalize(affinity, p=1, dim=2)
    far = F.normalize(1 - affinity, p=1, dim=2)
    return (0.5 * ((near - far) @ z)).transpose(1, 2).unflatten(2, grid)


def upsample(tokens: Tensor, size: Sequence[int]) -> Tensor:
    """Trilinear interpolation of token maps to voxels."""
    return F.interpolate(tokens, size=tuple(size), mode="trilinear", align_corners=False)


def label_affinity(labels: Tensor, valid: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Whether two tokens have the same label (B, R, N, N), and whether neither lies in padding (B, 1, N, N)."""
    at_tokens = F.interpolate(labels.flatten(1, 2), size=grid, mode="nearest").unflatten(1, labels.shape[1:3])
    at_tokens = at_tokens.flatten(3)
    known = F.interpolate(valid, size=grid, mode="nearest").flatten(2)
    return at_tokens.transpose(2, 3) @ at_tokens, known.transpose(1, 2).unsqueeze(1) * known.unsqueeze(2)


def corrected_affinity_loss(affinity: Tensor, same: Tensor, matrix: Tensor, trusted: Tensor) -> Tensor:
    """Binary cross entropy of (1 - a, a) T_a against the labels' affinity, (B, R, N, N)."""
    matrices = matrices_of_samples(matrix, trusted)
    to_same = matrices[..., 1, None, None]  # (B, R, 2, 1, 1): P(labels same | truth another or the same class)
    a = affinity.unsqueeze(1)
    noisy = ((1 - a) * to_same[:, :, 0] + a * to_same[:, :, 1]).clamp(_TINY, 1 - _TINY)
    return -(same * noisy.log() + (1 - same) * (1 - noisy).log())


def implied_affinity_matrix(matrix: Tensor, shares: Tensor) -> Tensor:
    """T_a (R, 2, 2) that follows from T_c (R, K, K) and the classes' shares (R, K); "same class" comes last.

    For two independent voxels, with w[i, j] = share_i T[i, j]: P(truth same, label same) = sum of w^2.
    """
    w = shares.unsqueeze(2) * matrix
    both = w.square().sum((1, 2))
    truth_same = shares.square().sum(1)
    label_same = w.sum(1).square().sum(1)
    kept = both / truth_same.clamp_min(_TINY)
    made = (label_same - both) / (1 - truth_same).clamp_min(_TINY)
    return torch.stack([torch.stack([1 - made, made], 1), torch.stack([1 - kept, kept], 1)], 1)
