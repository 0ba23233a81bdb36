"""Tables of results, made from the tables that the studies wrote: the newest numbers, and no others.

```{study} left_atrium
:rows: supervised, SVL-DRL, clean labels
```
shows Dice in points (ASD in mm), a column for each noise and share of wrong labels. `{refinement}` shows Dice before
and after for each kind of error, a column for each data set.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from docutils.parsers.rst import directives
from from_the_program import Generated, table
from sphinx.application import Sphinx

RESULTS = Path(__file__).resolve().parents[2] / "Testing" / "studies" / "results"
NOISES = {
    "mt strong": "eroded or dilated by 3 to 8 mm",
    "mt mild": "eroded or dilated by 0.6 to 4.4 mm",
    "sfda": "drawn by a weak network",
    "sloppy": "rough borders, slices left out",
    "rough borders": "rough borders",
}

ROWS = {
    "supervised": "plain training",
    "supervised in one run": "plain training in one run",
    "w/o WS (warm-up)": "without Warm-up",
    "w/o TS (transition)": "without Transition",
    "w/o WAT (warm-up, transition)": "without Warm-up and Transition",
    "w/o FRL (full RL)": "without Full RL",
    "as printed": "`as_printed`",
    "SVL-DRL corrected": "`corrected`",
    "random policy": "`corrected`, random policy",
    "closed form instead of policy": "`corrected`, closed form instead of the policy",
    "reliability without agents": "label weights without agents",
    "the same from the shared warm-up": "label weights without agents, from the shared warm-up",
    "agents without reliability": "agents without label weights",
    "x^K learned from, too": "the agents' last state learned from, too",
    "without them, as many looks": "without them, as many reviews",
    "without them and the early look": "without them and the early review",
}
"""Rows of the studies in the words of these pages."""
DATA = {"pancreas_ct": "pancreas CT", "abdomen_ct": "abdomen CT"}
TOO_THIN, BELOW_A_VOXEL = 5.0, 99.9
"""Dice below and above which making a mask wrong has left nothing, or has done nothing."""


def rows_of(study: str) -> list[dict[str, str]]:
    """All rows of a study's results.csv."""
    with (RESULTS / study / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def means(study: str, budget: str = "steps") -> dict[tuple[str, str, float], tuple[float, float]]:
    """(row, noise, ratio) -> mean Dice in points and mean ASD in mm over seeds, cases and structures."""
    dice, asd = defaultdict(list), defaultdict(list)
    for row in rows_of(study):
        key = row["row"], row["noise"], float(row["ratio"])
        if row["budget"] == budget and row["dice"]:
            dice[key].append(100 * float(row["dice"]))
            asd[key].append(float(row["asd_mm"]))
    return {key: (fmean(values), fmean(asd[key])) for key, values in dice.items()}


class Study(Generated):
    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"rows": directives.unchanged, "budget": directives.unchanged, "dice": directives.flag}  # noqa: RUF012

    def markdown(self) -> str:
        found = means(self.arguments[0], self.options.get("budget", "steps"))
        self.env.note_dependency(str(RESULTS / self.arguments[0] / "results.csv"))
        wanted = [name.strip() for name in self.options.get("rows", "").split(",") if name.strip()]
        names = wanted or list(dict.fromkeys(row for row, _, _ in found))
        noises = list(dict.fromkeys(noise for _, noise, _ in found))
        columns = sorted({(noise, ratio) for _, noise, ratio in found}, key=lambda c: (noises.index(c[0]), c[1]))
        ratios = {ratio for _, ratio in columns}
        head = [
            NOISES.get(noise, noise) + (f", {100 * ratio:g} %" if len(ratios) > 1 else "") for noise, ratio in columns
        ]
        lines = []
        for name in names:
            cells = [found.get((name, *column)) for column in columns]
            told = [self._cell(cell) for cell in cells]
            shown = ROWS.get(name, name).replace("verified", "trusted")
            lines.append([f"**{text}**" if name == "SVL-DRL" and text else text for text in (shown, *told)])
        return table(("", *head), lines)

    def _cell(self, cell: tuple[float, float] | None) -> str:
        if cell is None:
            return ""
        return f"{cell[0]:.1f}" if "dice" in self.options else f"{cell[0]:.1f} ({cell[1]:.2f})"


class Refinement(Generated):
    """Dice before -> after at the default trust, with the models of MT and of SFDA labels."""

    def markdown(self) -> str:
        with (RESULTS / "refinement" / "results.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found = defaultdict(list)
        for row in rows:
            found[row["kind"], row["data"], row["noise"]].append((float(row["before"]), float(row["after 0.5"])))
        kinds = list(dict.fromkeys(kind for kind, _, _ in found))
        data = list(dict.fromkeys(name for _, name, _ in found))
        noises = list(dict.fromkeys(noise for _, _, noise in found))
        lines = []
        for kind in kinds:
            cells = []
            for name in data:
                pairs = [found.get((kind, name, noise), []) for noise in noises]
                if not all(pairs):
                    cells.append("")
                    continue
                before = 100 * fmean(b for b, _ in pairs[0])
                after = " / ".join(f"{100 * fmean(a for _, a in pair):.1f}" for pair in pairs)
                nothing = "too thin" if before < TOO_THIN else "below a voxel" if before > BELOW_A_VOXEL else ""
                cells.append(nothing if nothing and kind != "clean" else f"{before:.1f}: {after}")
            lines.append((kind, *cells))
        return table(("error", *(DATA.get(name, name.replace("_", " ")) for name in data)), lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("study", Study)
    app.add_directive("refinement", Refinement)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
