"""One case of an audit: predicted, its label compared, another one proposed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from SVLDRLCore.data.cases import intensity_of
from SVLDRLCore.data.resampling import (
    prepare_image,
    prepare_label,
)
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import (
    EventLog,
)
from SVLDRLCore.files.case_checks import read_rated_case
from SVLDRLCore.files.content_digest import content_digest
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.label_tables import IGNORE
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
)
from SVLDRLCore.inference.sliding_window_places import window_count
from SVLDRLCore.jobs.audit_evidence import (
    CaseEvidence,
    evidence_of,
)
from SVLDRLCore.jobs.audit_proposal import propose
from SVLDRLCore.label_quality.audit_rows import (
    Look,
)
from SVLDRLCore.label_quality.comparison import NOT_KNOWN, compare_label
from SVLDRLCore.label_quality.raters import farthest, looks_of_case, words_of
from SVLDRLCore.mask_refinement.editing import BATCH, predict
from SVLDRLCore.mask_refinement.segments import (
    Values,
    color_of,
    members_of,
    structure_masks,
)
from SVLDRLCore.masks.borders import FAR_APART_MM
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.memory import require_memory
from SVLDRLCore.models.memory_needs import prediction_bytes
from SVLDRLCore.models.trained_model import TrainedModel


@dataclass(frozen=True)
class AuditedCase:
    """One case: what was found, and the proposal with its grid and segments."""

    look: Look
    evidence: CaseEvidence
    proposal: np.ndarray
    native: Geometry
    segments: list[Segment]


def look_at_case(
    trained: TrainedModel,
    case: Case,
    labels: dict[int, str],
    matched: Values,
    overlap: float,
    device: torch.device,
    progress: Callable[[float], None],
    events: EventLog,
    warn: Callable[[str], None],
    is_first: bool,
    labels_in_all: int,
    pictures: bool,
) -> AuditedCase:
    """Predict one case, compare its label, and propose another; the first one's need of memory is told.

    `warn` is told what a user should look at.
    """
    needs = require_memory(f"case {case.name}", prediction_bytes(trained, case.images[0], BATCH, device))
    if is_first:
        events.emit("message", text=needs)
    images, rated = read_rated_case(case, labels)
    if rated is None:
        raise InputError(f"case {case.name}", "it has no label", "Give a label, or remove the case")
    label = rated.label
    for text in (text for volume in (*images, label) for text in volume.warnings):
        warn(text)
    if len(images) != trained.channels:
        why = f"it has {len(images)} image channels, the model needs {trained.channels}"
        raise InputError(f"case {case.name}", why, "Give the channels of the training, in their order")
    config, structures = trained.config.data, trained.structures
    prepared = prepare_image(images, config.spacing_mm, intensity_of(config))
    windows = window_count(prepared.array.shape[1:], config.patch_size, overlap)
    probabilities = predict(
        trained, prepared.array, overlap=overlap, batch_size=BATCH, device=device, tell=events.warn,
        progress=lambda done, _: progress(0.6 * min(1.0, done / windows)),
    )  # fmt: skip
    members = members_of(structures, matched)
    drawn = prepare_label(label, prepared, case.ignore)
    masks = structure_masks(drawn, members, len(structures.names))
    spacing = prepared.geometry.spacing_dhw
    ignored = None if case.ignore is None else drawn == case.ignore
    if ignored is not None and ignored.all():
        raise InputError(label.name, "all of it is to be ignored", "Label a part of it, or remove the case")
    known = {i: values for i, values in matched.items() if structures.names[i] not in case.missing}
    if not known:
        raise InputError(f"case {case.name}", "all of its structures are missing", "Leave it out of the audit")
    apart = (FAR_APART_MM, *spacing[1:]) if config.slices_apart else spacing
    number = zlib.crc32(case.name.encode("utf-8", "surrogateescape"))
    findings = {
        i: compare_label(
            masks[i] > 0,
            probabilities[i],
            apart,
            ignored,
            prepared.array,
            (number, i),
            labels_in_all,
            {} if structures.nested else {j: probabilities[j] for j in known if j != i},
        )
        if i in known
        else NOT_KNOWN
        for i in sorted(matched)
    }
    progress(0.7)
    proposal = propose(
        trained, prepared, label, masks, probabilities, known, members, ignored, overlap, device, progress, events
    )
    named = {segment.value for segment in label.segments}
    told = labels if case.ignore is None else labels | {case.ignore: IGNORE}
    segments = [*label.segments, *(Segment(v, name, color_of(v)) for v, name in told.items() if v not in named)]
    dice = {i: dice_of(np.isin(label.array, members[i]), np.isin(proposal, members[i])) for i in matched}
    digest = content_digest([label], np.uint16)
    evidence = evidence_of(digest, masks, probabilities, findings, prepared, ignored, pictures)
    values = {structures.names[i]: members[i] for i in known}
    raters = {look.structure: words_of(look) for look in farthest(looks_of_case(case, label, rated.raters, values))}
    look = Look(case, findings, dice, prepared.geometry, raters)
    return AuditedCase(look, evidence, proposal, images[0].geometry, segments)
