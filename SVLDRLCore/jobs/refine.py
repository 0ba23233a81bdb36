"""`svldrl refine`: a corrected segmentation of one image, from a rough one or from scratch.

Torch is loaded where a model is used, and only there: it takes longer than most refinements without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from SVLDRLCore.atomic_files import files_together
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_files
from SVLDRLCore.files.volumes import files_of, require_writable_format
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.refine_any_structure import refine_any_structure
from SVLDRLCore.jobs.refinement import Refinement
from SVLDRLCore.jobs.refinement_checks import (
    refuse_learning_from_this_case,
    require_refining_numbers,
    require_source,
    require_steps_of_agents,
    without_effect,
)
from SVLDRLCore.learning.run_folder import resolve_model
from SVLDRLCore.mask_refinement.limits import DEFAULT_TRUST
from SVLDRLCore.mask_refinement.locks import LockFiles


def refine(
    image: str | Path | Sequence[str | Path],
    rough: str | Path | None = None,
    *,
    model: str | Path | None = None,
    output: str | Path,
    trust: float = DEFAULT_TRUST,
    structures: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    margin_mm: float = 20.0,
    overlap: float = 0.5,
    device: str = "auto",
    policy_steps: int = 0,
    smallest_fragment_ml: float = 0.0,
    keep_largest: bool = False,
    mode: str = "even_out",
    confidence: str | Path | None = None,
    steps: str | Path | None = None,
    keep: str | Path | None = None,
    never: str | Path | None = None,
    only: str | Path | None = None,
    right_slices: Sequence[str] = (),
    guard: bool = True,
    learn_from_this_case: bool = False,
    keep_model: str | Path | None = None,
    overwrite: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Refinement:
    """Refine `rough`, or segment from scratch where it is None; writes a label map on the image's own grid.

    Args:
        image: one file, or one a channel.
        model: model folder, zip, or a finished training's folder.
        output: .seg.nrrd keeps names and colours; .nii.gz, .nrrd and .mha are label maps.
        trust: 1 leaves the rough mask as it is, 0 believes the model wherever it leans to another answer.
        structures: names to refine; all that both model and rough mask know when empty.
        mapping: segment name (or label value) of the rough mask -> structure of the model, or "" to leave the segment
            alone. Without it names decide, and values only where the rough mask has no names, with a warning.
        margin_mm: the model looks at the rough mask's box and this much around it.
        policy_steps: edits that each voxel may make; 0: as many as in the training.
        smallest_fragment_ml: pieces of the refined structures below this volume are removed.
        keep_largest: of each refined structure only the largest piece is kept.
        mode: without model, the universal refiner's: "even_out" or "snap" (`universal_refiner.refining`).
        confidence: where to write the voxel-wise confidence as an image (None: only in the result).
        steps: a new folder for each step of agents that draw the mask step by step (`jobs.refinement_steps`).
        keep, never, only: masks on the image's grid of voxels that belong to the structure, that do not, and of where
            something may change; right_slices: such as "k:3-5", where the rough mask is right. They steer the rest,
            and are never changed (`mask_refinement.locks`).
        guard: leave a mask as drawn where the model cannot tell that it helps (`mask_refinement.guarding`).
        learn_from_this_case, keep_model: were of 0.1, and are refused with what to do instead.

    Segments that the model does not know, or that are not asked for, come out untouched. Several segments of one name
    are refined as one structure and share the result: see `draw_structures`.

    Raises:
        InputError: unusable files, a rough mask on another grid or without a structure the model knows.
    """
    control, output = control or JobControl(), Path(output)
    images = [image] if isinstance(image, (str, Path)) else list(image)
    with EventLog(None, listeners) as events:
        events.emit("started", job="refine", output=str(output))
        with failures_told(events):
            require_refining_numbers(trust, margin_mm, overlap, policy_steps, smallest_fragment_ml)
            refuse_learning_from_this_case(learn_from_this_case, keep_model)
            require_source(model, rough, mapping)
            require_steps_of_agents(steps, model)
            asked = {
                "model": model, "trust": trust, "margin_mm": margin_mm, "overlap": overlap,
                "policy_steps": policy_steps, "guard": guard, "mode": mode,
            }  # fmt: skip
            idle = without_effect(asked, refine)[1]
            locks = LockFiles(keep, never, only, tuple(right_slices))
            locks.require_rough(rough)
            _check_places([*images, *locks.paths()], rough, model, output, confidence, overwrite)
            if steps is not None:
                from SVLDRLCore.jobs.refinement_steps import require_steps_folder

                require_steps_folder(steps, [*images, *locks.paths(), *([rough] if rough else [])])
            if model is None and rough is not None:
                with files_together():
                    drawn = refine_any_structure(
                        images, rough, output, confidence, structures, mode, smallest_fragment_ml, keep_largest,
                        locks, overwrite, events, control,
                    )  # fmt: skip
                return _told(drawn, idle, events)
            from SVLDRLCore.jobs.refine_by_model import ModelOptions, refine_by_model
            from SVLDRLCore.learning.device import choose_device

            options = ModelOptions(
                trust, tuple(structures), dict(mapping or {}), margin_mm, overlap, choose_device(device),
                policy_steps, smallest_fragment_ml, keep_largest, guard, locks,
            )  # fmt: skip
            assert model is not None  # `require_source` has looked
            with files_together():
                done = refine_by_model(
                    images, rough, model, output, confidence, steps, options, overwrite, events, control
                )
            return _told(done, idle, events)


def _told(done: Refinement, idle: str, events: EventLog) -> Refinement:
    """The refinement with a warning of options without effect, all its warnings told."""
    done = replace(done, warnings=[*done.warnings, idle]) if idle else done
    for warning in done.warnings:
        events.emit("warning", text=warning)
    events.emit("finished", output=str(done.output), changes=done.changes)
    return done


def _check_places(
    images: Sequence[str | Path],
    rough: str | Path | None,
    model: str | Path | None,
    output: Path,
    confidence: str | Path | None,
    overwrite: bool,
) -> None:
    """InputError where a result would take the place of an input or of another result, or cannot be written."""
    files = [output, *([Path(confidence)] if confidence is not None else [])]
    for file in files:
        require_writable_format(file)
    package = [] if model is None else [resolve_model(model)]
    inputs = [file for given in (*images, *([rough] if rough else [])) for file in files_of(given)]
    require_output_files(files, inputs, closed=package, overwrite=overwrite)
