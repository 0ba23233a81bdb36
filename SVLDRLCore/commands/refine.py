"""Refine a rough mask, or a list of them, or segment from scratch."""

from __future__ import annotations

import os
from argparse import SUPPRESS
from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, listeners_of, tell
from SVLDRLCore.commands.refine_listed import define_list, run_list
from SVLDRLCore.errors import InputError
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.refinement_checks import refuse_learning_from_this_case


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    # a default, even None, would take the place of what --config gives
    sub.add_argument("image", type=str, nargs="?", default=SUPPRESS, help="image file; several channels by commas")
    sub.add_argument("rough", type=str, nargs="?", default=SUPPRESS, help="rough segmentation on the image's grid")
    sub.add_argument(
        "--model",
        type=str,
        default=None,
        help="model folder or zip, or a finished training's folder; without one: any structure, by its rough mask",
    )
    sub.add_argument(
        "--mode", type=str, choices=["even_out", "snap"], default="even_out",
        help="without model: repair what deviates from the mask's own habit, or move its border onto the visible edge",
    )  # fmt: skip
    sub.add_argument("--output", type=str, required=True, help=".seg.nrrd, .nii.gz, .nrrd or .mha; or a folder")
    sub.add_argument("--trust", type=float, default=0.5, help="with a model: 1 keeps the mask, 0 believes it")
    sub.add_argument(
        "--structures", type=str, nargs="+", action="extend", default=[], help="names to refine; all if not given"
    )
    sub.add_argument(
        "--map", type=str, nargs="+", action="extend", default=[], metavar="SEGMENT=STRUCTURE",
        help="what the model calls a segment of the rough mask (name or label value); SEGMENT= leaves it alone",
    )  # fmt: skip
    sub.add_argument("--margin-mm", type=float, default=20.0, help="how far around the rough mask to look")
    sub.add_argument("--overlap", type=float, default=0.5, help="of the sliding windows")
    sub.add_argument("--policy-steps", type=int, default=0, help="edits a voxel may make; 0: as in the training")
    sub.add_argument(
        "--smallest-fragment-ml", type=float, default=0.0, help="remove smaller pieces of what was refined"
    )
    sub.add_argument("--keep-largest", action="store_true", help="keep only the largest piece of each structure")
    sub.add_argument("--device", type=str, default="auto")
    sub.add_argument("--confidence", type=str, default=None, help="image file for the voxel-wise confidence")
    sub.add_argument(
        "--steps", type=str, default=None, help="new folder for each step's mask and actions (models of pixel_drl)"
    )
    sub.add_argument("--keep", type=str, default=None, help="mask file: these voxels belong to the structure")
    sub.add_argument("--never", type=str, default=None, help="mask file: these voxels do not")
    sub.add_argument("--only", type=str, default=None, help="mask file: nothing changes outside of it")
    sub.add_argument(
        "--right-slices", type=str, nargs="+", action="extend", default=[], metavar="AXIS:FIRST-LAST",
        help="slices in which the rough mask is right, as k:3-5; axis i, j or k of the file, counted from 0",
    )  # fmt: skip
    define_list(sub)
    sub.add_argument("--no-guard", action="store_true", help="follow the model where it cannot tell that it helps, too")
    sub.add_argument("--overwrite", action="store_true")
    # of 0.1: known only to say what took their place
    sub.add_argument("--learn-from-this-case", action="store_true", help=SUPPRESS)
    sub.add_argument("--keep-model", type=str, default=None, help=SUPPRESS)
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.evaluation.tables import text_table
    from SVLDRLCore.jobs.refine import refine
    from SVLDRLCore.mask_refinement.segments import read_mapping

    listeners = listeners_of(values, control)
    values = {"image": None, "rough": None, **values}
    refuse_learning_from_this_case(values.pop("learn_from_this_case"), values.pop("keep_model"))
    values["mapping"] = read_mapping(values.pop("map"))
    values["guard"] = not values.pop("no_guard")
    if values["list"] is not None:
        return run_list(values, listeners, control)
    del values["list"], values["workers"], values["shard"]
    if values["image"] is None:
        raise InputError("The image", "none was given", "Give an image with its rough mask, or a --list of them")
    values["image"] = values["image"] if os.path.exists(values["image"]) else values["image"].split(",")
    done = refine(**values, listeners=listeners, control=control)
    head = ["structure", "before mL", "after mL", "added mL", "removed mL", "Dice before/after"]
    keys = ("before_ml", "after_ml", "added_ml", "removed_ml")
    cells = [[r["structure"], *(f"{r[k]:.2f}" for k in keys), f"{r['dice']:.3f}"] for r in done.changes]
    reasons = [f"{r['structure']}: {r['reason']}" for r in done.changes if r["reason"]]
    tell("\n".join([text_table(head, cells), *reasons, f"Written: {done.output}"]), listeners)
    return 0
