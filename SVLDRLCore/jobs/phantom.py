"""`svldrl phantom`: a small data set with noisy labels to try everything on, generated, nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from SVLDRLCore.config.building import LARGEST_SEED, require_number
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_folder
from SVLDRLCore.files.datalist import Case, load_datalist, save_datalist
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.demo_cases import write_held_out_cases, write_training_data
from SVLDRLCore.scratch_folders import put_folder, scratch_folder

SIZE_DHW = (24, 48, 48)
CLEAN_LIST = "datalist_clean.json"


@dataclass(frozen=True)
class PhantomData:
    """Where things are: the training data, and a case that no training sees, with a rough mask and the truth."""

    datalist: Path
    image: Path
    rough: Path
    reference: Path


def phantom(
    output: str | Path,
    cases: int = 20,
    seed: int = 0,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> PhantomData:
    """Write `cases` phantoms, half of their labels eroded or dilated by 3 to 8 mm, and one more to try refinement on.

    `output`/datalist.json lists them (the held-out case, with its rough mask, as validation), datalist_clean.json the
    same images with the true labels. Labels are .seg.nrrd with names and colours. Everything follows from the seed.

    Raises:
        InputError: fewer than 2 cases, or an output folder in use.
        Cancelled: stopped; nothing was written.
    """
    control, output = control or JobControl(), Path(output).resolve()
    with EventLog(None, listeners) as events:
        events.emit("started", job="phantom", output=str(output), seed=seed)
        with failures_told(events):
            require_number("cases", cases, 0, 10**5, whole=True)
            if cases < 2:
                raise InputError("cases", f"{cases} are too few to learn from", "Give 2 or more, e.g. 20")
            require_number("seed", seed, 0, LARGEST_SEED, whole=True)
            require_output_folder(output)
            if output.exists() and any(output.iterdir()):
                raise InputError(str(output), "it is in use", "Choose a new or empty folder")
            with scratch_folder(output.parent) as scratch:
                made = scratch / "phantom"
                _write(made, cases, seed, events, control)
                put_folder(made, output)
        held_out = load_datalist(output / "datalist.json").validation[0]
        truth = load_datalist(output / CLEAN_LIST).validation[0]
        assert held_out.label is not None  # it was written
        assert truth.label is not None
        data = PhantomData(output / "datalist.json", held_out.images[0], held_out.label, truth.label)
        events.emit(
            "finished", output=str(output), datalist=data.datalist, image=data.image, rough=data.rough,
            reference=data.reference,
        )  # fmt: skip
    return data


def _write(folder: Path, cases: int, seed: int, events: EventLog, control: JobControl) -> None:
    def progress(done: int) -> None:
        control.check()
        events.progress(done, cases + 1, "making phantoms")

    progress(0)
    datalist = write_training_data(folder, cases, SIZE_DHW, seed)
    progress(cases)
    (held_out,) = write_held_out_cases(folder, 1, SIZE_DHW, seed, lambda *_: progress(cases + 1))
    image, name = folder / "images" / f"{held_out.name}.nrrd", held_out.name
    for path, kind in ((datalist, "rough"), (datalist.with_name(CLEAN_LIST), "true")):
        case = Case(name, (image,), folder / kind / f"{name}.seg.nrrd")
        save_datalist(replace(load_datalist(path), validation=(case,)), path, overwrite=True)
