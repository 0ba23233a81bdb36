"""One refinement in a process of its own: imports first, then the work. Prints what the work took, as JSON.

`refine_child.py IMAGE OUTPUT [--rough ROUGH] [--model MODEL]`
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("image", type=Path)
parser.add_argument("output", type=Path)
parser.add_argument("--rough", type=Path, default=None)
parser.add_argument("--model", type=Path, default=None)
parser.add_argument("--only-import", action="store_true")
given = parser.parse_args()

from SVLDRLCore.jobs.refine import refine  # noqa: E402

if given.model is not None:
    import SVLDRLCore.jobs.refine_by_model  # noqa: F401


def peak_bytes() -> int:
    """Of this program alone: what `getrusage` tells on Linux begins with the peak of who started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


imported = time.process_time()
peak_of_imports = peak_bytes()
if not given.only_import:
    refine(given.image, given.rough, model=given.model, output=given.output, device="cpu")
work = time.process_time() - imported
peak = peak_bytes()
print(json.dumps({"work": work, "peak_of_imports": peak_of_imports, "peak": peak}))
