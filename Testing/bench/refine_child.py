"""One refinement in a process of its own: imports first, then the work. Prints what the work took, as JSON.

`refine_child.py IMAGE OUTPUT [--rough ROUGH] [--model MODEL]`
"""

from __future__ import annotations

import argparse
import json
import resource
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

imported = time.process_time()
peak_of_imports = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
if not given.only_import:
    refine(given.image, given.rough, model=given.model, output=given.output, device="cpu")
work = time.process_time() - imported
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"work": work, "peak_of_imports": peak_of_imports, "peak": peak}))
