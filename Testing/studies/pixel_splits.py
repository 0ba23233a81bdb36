"""Other splits of a data set of slices, each as a benchmark of its own: five folds of patients, and slices split.

    python Testing/studies/pixel_splits.py Testing/studies/benchmark_pixel_splits.json lgg2d/datalist.json runs/splits

writes `runs/splits/fold_0` to `fold_4` and `runs/splits/slices`, each with a config.json, and prints the commands.
Folds share one seed of training. The slices' split has three.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from SVLDRLCore.benchmarking.benchmark_settings import datalist_path, read_settings
from SVLDRLCore.benchmarking.slice_lists import patients_fold, save_beside, split_by_slice
from SVLDRLCore.files.datalist import load_datalist

FOLDS = 5
SEED = 0
HELD_OUT = 0.125
"""As many slices as there are patients among those held out in the list: 11 of 88."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("datalist", help="relative to SVLDRL_DATA, or to the config's folder")
    parser.add_argument("output", type=Path, help="folder for the lists and their benchmarks")
    options = parser.parse_args()
    settings = replace(read_settings(options.config), datalist=options.datalist)
    listed = load_datalist(datalist_path(settings, options.config.resolve().parent))
    tree = json.loads(options.config.read_text("utf-8"))
    made = {f"fold_{fold}": patients_fold(listed, FOLDS, fold, SEED) for fold in range(FOLDS)}
    made["slices"] = split_by_slice(listed, HELD_OUT, SEED, options.output / "slices" / "data")
    for name, each in made.items():
        folder = options.output / name
        path = save_beside(each, folder / "data")
        seeds = [SEED] if name.startswith("fold") else tree["seeds"]
        content = {**tree, "datalist": str(path.resolve()), "seeds": seeds}
        config = folder / "config.json"
        config.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        print(f"svldrl benchmark {config} --output {folder / 'run'}")


if __name__ == "__main__":
    main()
