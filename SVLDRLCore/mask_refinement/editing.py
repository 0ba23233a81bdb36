"""A rough mask made better: the mask agents edit it on the model's grid, the edits are carried to the image's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from SVLDRLCore.data.resampling import PreparedImage, to_native
from SVLDRLCore.files.volumes import Volume
from SVLDRLCore.inference.sliding_window import Tell, predict_maps, predict_probabilities
from SVLDRLCore.mask_refinement.episode import edit_mask
from SVLDRLCore.mask_refinement.guarding import Guarding
from SVLDRLCore.mask_refinement.limits import DEFAULT_TRUST
from SVLDRLCore.mask_refinement.local_faults import without_local_faults
from SVLDRLCore.mask_refinement.segments import structure_masks
from SVLDRLCore.masks.alignment import alignment_maps, measure_border
from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.masks.boxes import Box, extent_of, whole_box
from SVLDRLCore.masks.pieces import without_far_pieces
from SVLDRLCore.models.trained_model import TrainedModel
from SVLDRLCore.networks.pixel_episodes import EpisodeNetwork, FromRoughMask

BATCH = 4
"""Windows at a time, as long as the memory holds them."""
LARGEST_FACTOR_OF_AGENTS = 4.0
"""The generalisation factor beyond this does not raise the odds that an action needs: no policy is ever that sure."""


def threshold_of(trust: float, generalisation_factor: float = 1.0) -> float:
    """Probability that an action needs: 0.5 at trust 0 (follow the policy), 0.81 at 0.5, 0.98 at 0.9, none at 1.

    Args:
        generalisation_factor: factor on the log odds, see `Calibration`; 2 makes of trust 0.5 what 0.83 is without it.
    """
    factor = min(generalisation_factor, LARGEST_FACTOR_OF_AGENTS)
    return 2.0 if trust >= 1 else 1.0 / (1.0 + math.exp(-factor * (2.9 * trust + 3.0 * trust**8)))


def predict(
    model: TrainedModel,
    image: np.ndarray,
    *,
    rough: np.ndarray | None = None,
    overlap: float = 0.5,
    batch_size: int = BATCH,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    tell: Tell | None = None,
) -> np.ndarray:
    """Probabilities of the structures (C, D, H, W) without any mask; the segmentation branch alone.

    `rough`: masks (C, D, H, W), from which agents begin that draw the mask step by step; others do not look at it.
    """
    network: nn.Module = model.network
    if rough is not None and isinstance(model.network, EpisodeNetwork):
        network = FromRoughMask(model.network, model.channels)
        image = np.concatenate([image, rough.astype(image.dtype)])
    return predict_probabilities(
        network,
        image,
        model.config.data.patch_size,
        model.structures.nested,
        overlap,
        batch_size,
        device,
        progress,
        name=model.name,
        tell=tell,
    )


def refined_belief(
    model: TrainedModel,
    image: np.ndarray,
    rough: np.ndarray,
    prediction: np.ndarray,
    spacing_dhw: Sequence[float],
    wanted: Sequence[int],
    *,
    trust: float = DEFAULT_TRUST,
    overlap: float = 0.5,
    batch_size: int = BATCH,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    tell: Tell | None = None,
) -> np.ndarray:
    """Belief maps (C, D, H, W) in [0, 1] after the mask agents have edited a rough mask.

    Args:
        image: (M, D, H, W) in [0, 1]; rough: (C, D, H, W) in [0, 1]; prediction: (C, D, H, W) from `predict`.
        spacing_dhw: mm.
        wanted: indices of the structures to refine; the others keep their rough mask.
        trust: 0 to 1, see DEFAULT_TRUST. Above 0, no piece appears that lies far from all of the rough mask.
        tell: told what is done where memory runs out.

    With a model that has no mask agents, mask and prediction are blended by `trust`.
    """
    refined = rough.astype(np.float32).copy()
    if trust >= 1:
        return refined
    for index in wanted:
        if model.mask_network is None:
            belief = trust * rough[index] + (1 - trust) * prediction[index]
        else:
            inputs = agent_inputs(model, index, image, rough[index], prediction[index], spacing_dhw, trust)
            belief = edited(
                model, index, inputs, [trust],
                overlap=overlap, batch_size=batch_size, device=device, progress=progress, tell=tell,
            )[0]  # fmt: skip
        refined[index] = without_far_pieces(belief, rough[index], spacing_dhw) if trust > 0 else belief
    return refined


def agent_inputs(
    model: TrainedModel,
    structure: int,
    image: np.ndarray,
    rough: np.ndarray,
    prediction: np.ndarray,
    spacing_dhw: Sequence[float],
    trust: float = DEFAULT_TRUST,
) -> np.ndarray:
    """What the mask agents see of one structure (M + 6, D, H, W): image, rough mask, prediction, alignment.

    They start from the rough mask without its missing parts and leaks, if it has any that are beyond doubt; the higher
    `trust` above one half, the thicker these must be. Below one half the model's generalisation factor
    fades: who trusts no mask believes the model.
    """
    mask, found = rough > 0.5, prediction > 0.5
    usual = model.agents.calibration_of(structure).for_new_cases(share=min(1.0, 2.0 * trust))
    measure = measure_border(mask, found, image, spacing_dhw)
    whole = without_local_faults(mask, found, measure, usual, spacing_dhw, generalisation_factor=max(1.0, 2.0 * trust))
    start = np.where(whole == mask, rough, whole)
    if not np.array_equal(whole, mask):
        measure = measure_border(whole, found, image, spacing_dhw)
    to_mask, to_model = (signed_distance(each, tuple(spacing_dhw)) for each in (whole, found))
    alignment = alignment_maps(to_mask, to_model, measure, usual, spacing_dhw)
    return np.concatenate([image, start[None], prediction[None], alignment]).astype(np.float32)


def edited(
    model: TrainedModel,
    structure: int,
    inputs: np.ndarray,
    trusts: Sequence[float],
    *,
    overlap: float = 0.5,
    batch_size: int = BATCH,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    tell: Tell | None = None,
) -> np.ndarray:
    """Beliefs (T, D, H, W) of the mask agents, one map a trust, from `agent_inputs`."""
    agent_network = model.agents
    m, factor = model.channels, agent_network.calibration_of(structure).generalisation_factor
    thresholds = [threshold_of(trust, factor) for trust in trusts]

    def agents(x: Tensor) -> Tensor:
        maps = (x[:, :m], x[:, m : m + 1], x[:, m + 1 : m + 2], x[:, m + 2 :])
        return edit_mask(agent_network, *maps, model.config.mask_agents, thresholds)

    size = model.config.data.patch_size
    return predict_maps(
        agents, torch.from_numpy(inputs), size, overlap, batch_size, device, progress,
        name=model.name, tell=tell, modules=[agent_network],
    ).numpy()  # fmt: skip


def edit_label(
    trained: TrainedModel,
    prepared: PreparedImage,
    label: Volume,
    rough_maps: np.ndarray,
    found: np.ndarray,
    box: Box,
    members: dict[int, list[int]],
    wanted: Sequence[int],
    *,
    trust: float,
    overlap: float,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    tell: Tell | None = None,
    guarding: Guarding | None = None,
) -> np.ndarray:
    """Belief maps (C, D, H, W) on the image's grid after the mask agents have edited a label map in a box.

    Args:
        label: on the image's grid; rough_maps: its structures on the prepared grid (C, D, H, W).
        found: the prediction in the box; box: on the prepared grid.
        members: structure -> its values in the label map; wanted: the structures to edit.
        guarding: judges each edit; what it refuses keeps its rough mask as belief.

    A model without mask agents has only its prediction, which is blended with the mask: with half of the trust,
    because a blend of more than half of the mask is the mask.

    Edits, not masks, come back from the model's grid: what was kept is kept to the bit.
    """
    region = (slice(None), *box)
    edits = np.zeros((len(found), *prepared.array.shape[1:]), np.float32)
    image = np.ascontiguousarray(prepared.array[region])
    edits[region] = edits_of(
        trained, image, rough_maps[region], found, prepared.geometry.spacing_dhw, wanted,
        trust=trust, overlap=overlap, device=device, progress=progress, tell=tell, guarding=guarding,
    )  # fmt: skip
    return (to_native(edits, prepared) + structure_masks(label.array, members, len(edits))).clip(0.0, 1.0)


def edits_of(
    trained: TrainedModel,
    image: np.ndarray,
    rough: np.ndarray,
    found: np.ndarray,
    spacing_dhw: Sequence[float],
    wanted: Sequence[int],
    *,
    trust: float,
    overlap: float,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    tell: Tell | None = None,
    guarding: Guarding | None = None,
) -> np.ndarray:
    """What `edit_label` adds to the rough masks, in the box (C, d, h, w).

    Args:
        image: (M, d, h, w) in the box; rough, found: masks and prediction there (C, d, h, w).
    """
    if trained.mask_network is None and trust < 1:
        trust = trust / 2
    refined = refined_belief(
        trained, image, rough, found, spacing_dhw, wanted,
        trust=trust, overlap=overlap, device=device, progress=progress, tell=tell,
    )  # fmt: skip
    if guarding is not None:
        guarding.look_at(trained, image, rough, refined, found, spacing_dhw, wanted)
        refined[guarding.refused] = rough[guarding.refused]
    return refined - rough


def box_around(drawn: np.ndarray | None, prepared: PreparedImage, margin_mm: float, patch_size: Sequence[int]) -> Box:
    """Where masks (C, D, H, W) lie on the prepared grid, with a margin and at least a patch; None: everywhere."""
    return box_near(drawn, prepared.array.shape[1:], prepared.geometry.spacing_dhw, margin_mm, patch_size)


def box_near(
    drawn: np.ndarray | None,
    size: Sequence[int],
    spacing_dhw: Sequence[float],
    margin_mm: float,
    patch_size: Sequence[int],
) -> Box:
    """The same on any grid of a size and spacing (d, h, w)."""
    extent = None if drawn is None else extent_of(np.asarray(drawn.any(0)))
    return box_of_extent(extent, size, spacing_dhw, margin_mm, patch_size)


def box_of_extent(
    extent: Box | None,
    size: Sequence[int],
    spacing_dhw: Sequence[float],
    margin_mm: float,
    patch_size: Sequence[int],
) -> Box:
    """The same where the masks' own box is known."""
    if extent is None:
        return whole_box(size)
    box = []
    for axis, (n, spacing, patch) in enumerate(zip(size, spacing_dhw, patch_size)):
        pad = int(np.ceil(margin_mm / spacing))
        low, high = extent[axis].start - pad, extent[axis].stop + pad
        more = max(0, patch - (high - low))
        low, high = low - more // 2, high + more - more // 2
        box.append(slice(max(0, low), min(n, high)))
    return tuple(box)
