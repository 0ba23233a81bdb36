"""Files that nobody meant, read for some counted minutes: anything but a value or our own error is a find.

    python Testing/studies/fuzz_inputs.py --minutes 10 --seed 1 [--only nrrd package] [--keep finds]

Sound files are mutated (bytes, numbers in text, values in JSON; the hashes of packages are made right again) and read
as the commands read them, in child processes with an address space of 2 GB more than they start with and 20 seconds an
input. A child that dies or hangs is a find, and so is an input that makes one slow or large. Every input follows from
the seed, the kind and its number: `--only KIND --first NUMBER --count 1` reads one again, `--keep` writes it down.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import itertools
import json
import os
import queue
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

MORE_MEMORY = 2 << 30
SECONDS = 20.0
BATCH = 200
"""Inputs of a kind before the next one's turn."""

NUMBERS = (
    b"0", b"-1", b"1", b"2", b"255", b"256", b"65536", b"-2147483649", b"4294967296", b"9223372036854775808", b"nan",
    b"inf", b"-inf", b"1e308", b"1e999", b"1e-320", b"0.5", b"9" * 400, b"9" * 5000, b"0x10", b"",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 255, 256, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 2**31, 2**63, 10**400,
    "", "0", "1", "nan", "\ud800", "\0", "\x1b[2J", "a" * 300, "../x", "/dev/zero", ".", [], {}, [[]], [1], {"1": 1},
    [None], [0, 0, 0], [1e9, 1e9, 1e9], [10**6] * 4, ["a"] * 300,
)  # fmt: skip


# Mutations: each a function of bytes or of a JSON tree, and of a generator.


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four changes of bytes, or of numbers where they stand in text."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice((_flip, _cut, _insert, _repeat, _number, _number, _line, _early))(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data)) if data else 0
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _early(data: bytes, rng: random.Random) -> bytes:
    """As `_flip`, in the first 400 bytes: headers lie there."""
    return _flip(data[:400], rng) + data[400:]


def _cut(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 8, 100, len(data))) :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((b"\0", b"\n", b"\r\n", b"[" * 2000, b"\xff\xfe", b'"', rng.randbytes(8))) + data[at:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 10, 100))
    return data[:at] + data[at : at + size] * rng.choice((2, 50)) + data[at:]


def _number(data: bytes, rng: random.Random) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data[:4000]))
    if not found:
        return _flip(data, rng)
    spot = rng.choice(found)
    return data[: spot.start()] + rng.choice(NUMBERS) + data[spot.end() :]


def _line(data: bytes, rng: random.Random) -> bytes:
    """A line of the header is left out, doubled or moved."""
    lines = data[:4000].split(b"\n")
    taken = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.randrange(3)):
        lines.insert(rng.randrange(len(lines) + 1), taken)
    return b"\n".join(lines) + data[4000:]


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """A value replaced, renamed, left out or deeply nested; now and then bytes."""
    if rng.random() < 0.2:
        return mutate(data, rng)
    tree = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            break
        holder, key = rng.choice(places)
        match rng.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(("", "\ud800", "name", "0", "a" * 200, f"{key} "))] = holder.pop(key)
            case 2:
                holder[key] = [copy.deepcopy(holder[key]) for _ in range(rng.choice((1, 2, 1000)))]
            case _:
                holder[key] = copy.deepcopy(rng.choice(VALUES))  # the next change may be inside it
    text = json.dumps(tree)
    if rng.random() < 0.05:
        text = text.replace(":", ":" + "[" * rng.choice((50, 5000, 100_000)), 1)
    return text.encode("utf-8")


def _places(tree: Any) -> Any:
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


# Kinds: sound files, and how they are read. Everything heavy is imported in the children.


def make_sound_files(folder: Path) -> None:
    """The files that inputs are made from: one folder a kind."""
    import numpy as np
    import torch

    from SVLDRLCore.config.settings import config_to_dict, load_config
    from SVLDRLCore.files.volumes import (
        Geometry,
        Segment,
        write_image,
        write_label,
    )
    from SVLDRLCore.learning.checkpoints import save_checkpoint
    from SVLDRLCore.masks.alignment import Calibration
    from SVLDRLCore.masks.structures import structures_of
    from SVLDRLCore.models.package import save_package
    from SVLDRLCore.models.trained_model import (
        build_mask_network,
        build_networks,
        package_calibration,
        package_config,
        package_tensors,
    )

    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
    grid, rng = Geometry((6, 7, 8), (3.0, 1.0, 1.0), (5.0, -7.0, 11.0)), np.random.default_rng(0)
    image, label = rng.normal(100, 40, grid.size_dhw).astype(np.float32), rng.integers(0, 3, grid.size_dhw, np.uint8)
    parts = [Segment(1, "liver", (0.5, 0.2, 0.1)), Segment(2, "spleen")]
    for kind, suffix in (("nrrd", ".nrrd"), ("nifti", ".nii"), ("nifti", ".nii.gz"), ("metaimage", ".mha")):
        write_image(folder / kind / f"image{suffix}", image, grid)
        write_label(folder / kind / f"label{suffix}", label, grid)
    write_label(folder / "segments" / "label.seg.nrrd", label, grid, parts)
    cases = [{"image": f"../nrrd/{n}.nrrd", "label": "../nrrd/label.nrrd", "name": n} for n in ("image", "label")]
    datalist = {"name": "d", "labels": {"0": "b", "1": "liver"}, "training": cases[:1], "validation": cases[1:]}
    (folder / "datalist" / "list.json").write_text(json.dumps(datalist))
    tiny = {"data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]}, "network": {"levels": 3}}
    config = load_config("demo", overrides=tiny)
    (folder / "settings" / "settings.json").write_text(json.dumps(config_to_dict(config)))
    events = ({"event": "progress", "time": 1.5, "done": n, "total": 9, "stage": "x"} for n in range(9))
    (folder / "events" / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    (folder / "commands" / "stdin").write_text('{"command": "pause"}\n{"command": "resume"}\n')
    rows = {"svl_drl": {"method": "svl_drl"}, "supervised": {"method": "supervised"}}
    benchmark = {"datalist": "list.json", "rows": rows, "noises": {"mt": {"kind": "mt"}}, "ratios": [0.5], "seeds": [0]}
    (folder / "benchmark" / "settings.json").write_text(json.dumps(benchmark | {"warm_up_steps": 4, "steps": 6}))
    torch.manual_seed(0)
    structures = structures_of({1: "liver", 2: "spleen"})
    network, agents = build_networks(config, 1, structures), build_mask_network(config, 1, structures)
    agents.calibrate([Calibration()] * 2)
    save_package(
        folder / "package" / "model",
        tensors=package_tensors(network.state_dict(), agents.state_dict()),
        config=package_config(config, "svl_drl", 1, structures),
        labels={1: {"name": "liver", "color": [1, 0, 0]}, 2: {"name": "spleen"}},
        training_rows=[{"epoch": n, "loss": 0.5} for n in range(5)],
        card="# Card\n",
        extra={"reliability.csv": b"case,weight\na,0.5\n", **package_calibration(agents.state_dict(), structures)},
    )
    save_checkpoint(folder / "checkpoint" / "checkpoint.pt", {"step": 3, "rows": [], "network": {"w": torch.ones(9)}})


def plain_input(change: Callable[[bytes, random.Random], bytes]) -> Callable[[Path, Path, random.Random], Path]:
    """Inputs that are one file: a sound one, changed, under its own name."""

    def make(sound: Path, place: Path, rng: random.Random) -> Path:
        source = rng.choice(sorted(sound.iterdir()))
        (place / source.name).write_bytes(change(source.read_bytes(), rng))
        return place / source.name

    return make


def package_input(sound: Path, place: Path, rng: random.Random) -> Path:
    """A package as a folder or zip with changed files and right hashes; sometimes the zip itself is changed."""
    folder = Path(shutil.copytree(sound / "model", place / "model"))
    (folder / "SHA256SUMS").unlink()
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        path = rng.choice(sorted(folder.iterdir()))
        change = mutate_json if path.suffix == ".json" and _is_json(path) else mutate
        path.write_bytes(change(path.read_bytes(), rng))
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums))
    if rng.random() < 0.5:
        return folder
    path = place / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    if rng.random() < 0.3:
        path.write_bytes(mutate(path.read_bytes(), rng))
    return path


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


def read_volume(path: Path) -> None:
    from SVLDRLCore.files.volumes import read_image, read_label

    (read_label if path.name.startswith("label") else read_image)(path)


def read_datalist(path: Path) -> None:
    from SVLDRLCore.files.datalist import load_datalist

    load_datalist(path)


def read_config(path: Path) -> None:
    from SVLDRLCore.config.settings import load_config, read_overrides

    load_config(overrides=read_overrides(path))


def read_event_lines(path: Path) -> None:
    from SVLDRLCore.events import read_events

    read_events(path)


def read_commands(path: Path) -> None:
    """Whatever is said on standard input, its end must be noticed: the parent has died."""
    from SVLDRLCore.job_control import JobControl, listen_to_stdin

    control = JobControl()
    with path.open("rb") as stream:
        listen_to_stdin(control, stream).join()
    assert control.cancelled, "nobody noticed the end of standard input"


def read_benchmark(path: Path) -> None:
    from SVLDRLCore.benchmarking.benchmark_settings import read_settings
    from SVLDRLCore.benchmarking.plan import plan_jobs

    plan_jobs(read_settings(path))


def read_package(path: Path) -> None:
    import numpy as np

    from SVLDRLCore.jobs.info import format_info, info
    from SVLDRLCore.mask_refinement.editing import predict
    from SVLDRLCore.models.trained_model import load_model

    format_info(info(path)).encode("utf-8")
    model = load_model(path)
    maps = predict(model, np.full((model.channels, 8, 16, 16), 0.5, np.float32))
    assert np.isfinite(maps).all(), "not finite"


def read_checkpoint(path: Path) -> None:
    from SVLDRLCore.learning.checkpoints import load_checkpoint

    load_checkpoint(path)


KINDS: dict[str, tuple[Callable[[Path, Path, random.Random], Path], Callable[[Path], None]]] = {
    "nrrd": (plain_input(mutate), read_volume),
    "nifti": (plain_input(mutate), read_volume),
    "metaimage": (plain_input(mutate), read_volume),
    "segments": (plain_input(mutate), read_volume),
    "datalist": (plain_input(mutate_json), read_datalist),
    "settings": (plain_input(mutate_json), read_config),
    "events": (plain_input(mutate), read_event_lines),
    "commands": (plain_input(mutate), read_commands),
    "benchmark": (plain_input(mutate_json), read_benchmark),
    "package": (package_input, read_package),
    "checkpoint": (plain_input(mutate), read_checkpoint),
}


# The child: reads inputs one after the other and tells of each on standard output.


def read_inputs(kind: str, first: int, count: int, seed: int, sound: Path) -> None:
    """Tell `start N`, then `end N OUTCOME`: "value", "refused", or what went wrong."""
    from SVLDRLCore.errors import InputError

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MORE_MEMORY,) * 2)
    threading.excepthook = lambda given: print(f"thread {given.exc_type.__name__}: {given.exc_value}", file=sys.stderr)
    make, read = KINDS[kind]
    for number in range(first, first + count):
        print("start", number, flush=True)
        with tempfile.TemporaryDirectory(dir=sound / kind / "..") as place:
            path = make(sound / kind, Path(place), random.Random(f"{seed} {kind} {number}"))
            try:
                read(path)
                outcome = "value"
            except InputError as error:
                told = str(error).encode("utf-8", errors="replace").decode("utf-8") == str(error)
                outcome = (
                    "refused" if told and error.why and error.do else f"an error that cannot be told {error!a:.99}"
                )
            except BaseException as error:
                outcome = f"{type(error).__name__}: {str(error)[:200]!a} {_origin(error)}"
        print("end", number, outcome, flush=True)


def _origin(error: BaseException) -> str:
    """The last place of ours that an error went through."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if "SVLDRLCore" in file.parts:
            place = f"at {file.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


# The parent: children in turn, until the minutes are over.


def study(kind: str, first: int, count: int, seed: int, sound: Path) -> list[tuple[int, str]]:
    """Outcomes of some inputs; a child that dies or hangs is replaced behind the input that did it."""
    outcomes: list[tuple[int, str]] = []
    last = first + count
    while first < last:
        command = [
            sys.executable,
            "-P",
            __file__,
            "--child",
            kind,
            str(first),
            str(last - first),
            str(seed),
            str(sound),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pass_on, args=(child.stdout, lines), daemon=True).start()
        current, wait = None, 120.0  # the first line comes after the imports
        while True:
            try:
                line = lines.get(timeout=wait)
            except queue.Empty:
                child.kill()
                outcomes.append((first if current is None else current, f"it hangs for {wait:.0f} s"))
                break
            if line is None:
                if child.wait() and (current is not None or not outcomes):
                    outcomes.append(
                        (first if current is None else current, f"the process ended with {child.returncode}")
                    )
                break
            word, number, *rest = line.rstrip("\n").split(" ", 2)
            if word == "start":
                current, wait = int(number), SECONDS
            elif word == "end":
                outcomes.append((int(number), rest[0]))
                current = None
        child.wait()
        first = outcomes[-1][0] + 1
    return outcomes


def _pass_on(stream: Any, lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of variant, in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each kind")
    parser.add_argument("--count", type=int, default=0, help="inputs of each kind; 0: as many as the minutes allow")
    parser.add_argument("--keep", type=Path, default=None, help="folder for the inputs that were finds")
    given = parser.parse_args()
    seen: Counter[tuple[str, str]] = Counter()
    finds: dict[tuple[str, str], list[int]] = {}
    examples: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder)
        make_sound_files(sound)
        began = time.monotonic()
        for turn in itertools.count():
            for kind in given.only:
                if time.monotonic() - began > 60 * given.minutes:
                    break
                first = given.first + turn * BATCH
                for number, outcome in study(kind, first, given.count or BATCH, given.seed, sound):
                    short = outcome if outcome in ("value", "refused") else "find"
                    seen[kind, short] += 1
                    if short == "find":
                        sort = f"{outcome.partition(':')[0]} {outcome.rpartition(' at ')[2]}"  # whatever it quotes
                        finds.setdefault((kind, sort), []).append(number)
                        examples.setdefault((kind, sort), outcome)
                        if given.keep is not None:
                            place = given.keep / f"{kind}_{given.seed}_{number}"
                            shutil.rmtree(place, ignore_errors=True)
                            place.mkdir(parents=True)
                            KINDS[kind][0](sound / kind, place, random.Random(f"{given.seed} {kind} {number}"))
            if given.count or time.monotonic() - began > 60 * given.minutes:
                break
        minutes = (time.monotonic() - began) / 60
    total = sum(seen.values())
    print(f"{total:,} inputs in {minutes:.1f} minutes, seed {given.seed}, {sum(map(len, finds.values()))} finds")
    for kind in given.only:
        counts = [seen[kind, outcome] for outcome in ("value", "refused", "find")]
        print("  {:<11} {:>6} read {:>6} refused {:>4} finds".format(kind, *counts))
    for (kind, sort), numbers in finds.items():
        print(f"FIND {kind} ({len(numbers)}, first: {numbers[0]}): {examples[kind, sort]}")
    return 1 if finds else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        read_inputs(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), Path(sys.argv[6]))
        sys.exit()
    sys.exit(main())
