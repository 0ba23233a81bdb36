"""The speed table: `python Testing/bench/run.py [--only NAME...] [--output bench.json] [--markdown table.md]`.

Everything is a ratio of CPU seconds (or memory) measured side by side in this run, on data that is made here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from table import GROUPS, Row, as_markdown, shown

GROUP_FILES = (
    "refine_rows", "start_rows", "metric_rows", "prediction_rows", "sampler_rows", "mask_agent_rows", "step_rows",
    "reading_rows", "training_rows", "review_rows",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write it; the exit status is 1 where a group failed."""
    for name in GROUP_FILES:
        importlib.import_module(name)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted(GROUPS), default=list(GROUPS), metavar="NAME")
    parser.add_argument("--output", type=Path, default=None, help="JSON file for the table")
    parser.add_argument("--markdown", type=Path, default=None, help="file for the table as a page has it")
    options = parser.parse_args(arguments)
    rows, failed = measured(options.only)
    print(shown(rows))
    for name, why in failed.items():
        print(f"{name} failed: {why}")
    if options.output is not None:
        options.output.write_text(json.dumps(report(rows, failed), indent=2) + "\n", "utf-8")
    if options.markdown is not None:
        options.markdown.write_text(as_markdown(rows), "utf-8")
    return 1 if failed else 0


def measured(names: list[str]) -> tuple[list[Row], dict[str, str]]:
    """The rows of some groups, and why those that failed did."""
    rows: list[Row] = []
    failed: dict[str, str] = {}
    for name in names:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            try:
                for row in GROUPS[name](Path(folder)):
                    rows.append(row)
                    print(f"{name}: {row.what}: {row.ratio:.3g} (target {row.target:g})", flush=True)
            except Exception as error:  # the other groups can still be measured
                traceback.print_exc()
                failed[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return rows, failed


def report(rows: list[Row], failed: dict[str, str]) -> dict[str, object]:
    """What the JSON file holds."""
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    return {"machine": machine, "rows": [row.as_dict() for row in rows], "failed": failed}


if __name__ == "__main__":
    sys.exit(main())
