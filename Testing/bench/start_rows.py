"""What a process takes before it begins, and a small case as a user of Slicer waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from made_data import small_model
from measuring import child, compared
from table import Row, group

from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.files.volumes import Geometry, Segment, write_image, write_label

TORCH = ["-c", "import torch"]
MOST_SECONDS = 1.5


@group("start")
def start_rows(folder: Path) -> Iterator[Row]:
    """Imports, the command's help, and a refinement from process start to written file."""
    started = {
        "import SVLDRLCore": (["-c", "import SVLDRLCore"], 0.02),
        "svldrl --help": (["-m", "SVLDRLCore", "--help"], 0.1),
    }
    for name, (command, target) in started.items():
        child(command)
        nothing = child(["-c", "pass"]).cpu_seconds
        pairs = [(child(command).cpu_seconds - nothing, child(TORCH).cpu_seconds - nothing) for _ in range(3)]
        yield Row(name, target=target, against="import torch", **compared(pairs).sides())
    model = small_model(folder, steps=8)
    geometry = Geometry((40, 64, 64), (2.0, 2.0, 2.0))
    image, label = make_phantom(0, geometry.size_dhw, geometry.spacing_dhw)
    files = [
        str(write_image(folder / "i.nrrd", image[0], geometry)),
        str(write_label(folder / "r.seg.nrrd", label, geometry, [Segment(1, "part 1")])),
    ]
    command = ["-m", "SVLDRLCore", "refine", *files, "--overwrite", "--output", str(folder / "o.seg.nrrd")]
    for name, more in {"by a model": ["--model", str(model)], "without a model": []}.items():
        used = [child([*command, *more]).cpu_seconds for _ in range(3)]
        yield Row(
            f"a small case {name}, process start to written file", target=1.0, against=f"a limit of {MOST_SECONDS} s",
            **compared([(seconds, MOST_SECONDS) for seconds in used]).sides(),
        )  # fmt: skip
