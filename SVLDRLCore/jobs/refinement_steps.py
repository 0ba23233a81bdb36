"""`svldrl refine --steps FOLDER`: the mask after each step of its agents, and what they did, as files to look at.

`step_00_mask.seg.nrrd` is what they begin with, `step_03_mask.seg.nrrd` what the third step left, and
`step_03_actions.seg.nrrd` shows which agents kept their pixel and which of them did otherwise than the step before.
All lie on the image's own grid.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from SVLDRLCore.errors import InputError
from SVLDRLCore.file_places import require_output_folder
from SVLDRLCore.files.segment_metadata import Segment
from SVLDRLCore.files.volumes import Geometry, write_label
from SVLDRLCore.pixel_drl.step_maps import ACTION_NAMES, StepMaps

COLOURS = {1: (0.1, 0.2, 0.5), 2: (0.9, 0.15, 0.1), 3: (1.0, 0.55, 0.1)}
"""Of an action map's segments: red and orange is what changed."""


def require_steps_folder(folder: str | Path, inputs: Sequence[str | Path]) -> None:
    """InputError unless it is a new folder that can be made."""
    require_output_folder(folder, inputs)
    if os.path.lexists(folder):
        raise InputError(str(folder), "it is there already", "Choose a new folder for the steps")


def write_steps(
    folder: str | Path, steps: StepMaps, geometry: Geometry, segments: Sequence[Segment] = ()
) -> list[Path]:
    """The files of an episode, in its order."""
    place, written = Path(folder), []
    told = [Segment(value, name, COLOURS[value]) for value, name in ACTION_NAMES.items()]
    for step, mask in enumerate(steps.masks):
        written.append(write_label(place / f"step_{step:02d}_mask.seg.nrrd", mask, geometry, segments))
        if step:
            file = place / f"step_{step:02d}_actions.seg.nrrd"
            written.append(write_label(file, steps.actions[step - 1], geometry, told))
    return written
