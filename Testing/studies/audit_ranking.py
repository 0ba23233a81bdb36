"""How well the audit puts wrong labels first, where it is known which ones are wrong.

    python Testing/studies/audit_ranking.py runs/noisy/datalist.json auc.json --corruption runs/noisy/corruption.json
    python Testing/studies/audit_ranking.py datalist_worst_rater.json auc.json --truth datalist_consensus.json

The audit sees the noisy list alone, and a model if one is named; else it cross-checks the data set against itself. What
is true is read afterwards: `corruption.json` of `svldrl corrupt`, or another list with the right labels of the cases.

With right labels, those with Dice of 0.85 or more are right, and below 0.75 wrong. Small structures are drawn less
alike, so the AUC is told within thirds of volume, too: the worst third against the best third of each.

With `--keep`, what each label was compared with is kept in files, so that other scores can be tried on the very same
predictions (`other_label_scores.py`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.volumes import read_label
from SVLDRLCore.jobs import audit as audit_job
from SVLDRLCore.jobs.audit import audit
from SVLDRLCore.masks.dice import dice_of

RIGHT, WRONG = 0.85, 0.75


def auc(score: np.ndarray, wrong: np.ndarray) -> float:
    """How surely a wrong label scores above a right one."""
    ranks, count = rankdata(score), int(wrong.sum())
    return float((ranks[wrong].sum() - count * (count + 1) / 2) / (count * (len(wrong) - count)))


def against_corruption(score: Mapping[str, float], told: list[dict[str, Any]]) -> dict[str, Any]:
    """AUC over all cases and of each kind of error; how many of the first rows are wrong."""
    names = [case["case"] for case in told]
    wrong = np.array([bool(case["corrupted"]) for case in told])
    each = np.array([score[name] for name in names])
    kinds = np.array([case.get("kind") or "" for case in told])
    first = np.argsort(-each)
    found: dict[str, Any] = {"cases": len(names), "wrong": int(wrong.sum())}
    if wrong.any():
        found["auc"] = round(auc(each, wrong), 3)
        found["wrong_among_the_first"] = {n: int(wrong[first[:n]].sum()) for n in (10, 20, 40)}
        of_kind = {}
        for kind in sorted(set(kinds[wrong])):
            chosen = ~wrong | (kinds == kind)
            of_kind[str(kind)] = [int((kinds == kind).sum()), round(auc(each[chosen], wrong[chosen]), 3)]
        found["auc_of_kind"] = of_kind
    found["mean_score"] = {"wrong": round(float(each[wrong].mean()), 3) if wrong.any() else None}
    found["mean_score"]["right"] = round(float(each[~wrong].mean()), 3)
    degraded = np.array([case.get("degraded") or "" for case in told])
    for kind in sorted(set(degraded) - {""}):
        found["mean_score"][f"right, {kind}"] = round(float(each[~wrong & (degraded == kind)].mean()), 3)
    return found


def against_truth(score: Mapping[str, float], datalist: Path, truth: Path) -> dict[str, Any]:
    """AUC over all cases and within thirds of volume, and the rank correlation with the labels' Dice."""
    right = {Path(case.images[0]).name: case for case in load_datalist(truth).training}
    names, dice, volume = [], [], []
    for case in load_datalist(datalist).training:
        given, true = (read_label(c.label).array > 0 for c in (case, right[Path(case.images[0]).name]))
        names.append(case.name)
        dice.append(dice_of(given, true))
        volume.append(int(true.sum()))
    each, quality = np.array([score[name] for name in names]), np.array(dice)
    clear = (quality >= RIGHT) | (quality < WRONG)
    within = []
    for third in np.array_split(np.argsort(volume), 3):
        ordered, size = third[np.argsort(quality[third])], len(third) // 3
        chosen = np.r_[ordered[:size], ordered[-size:]]
        within.append(auc(each[chosen], np.arange(2 * size) < size))
    return {
        "cases": len(names), "auc": round(auc(each[clear], quality[clear] < WRONG), 3),
        "auc_within_thirds": round(float(np.mean(within)), 3),
        "rank_correlation": round(float(spearmanr(each, quality)[0]), 3),
    }  # fmt: skip


def against(score: Mapping[str, float], datalist: Path, corruption: Path | None, truth: Path | None) -> dict[str, Any]:
    """What is told of one score, by whatever is known to be true."""
    result: dict[str, Any] = {}
    if corruption is not None:
        result |= against_corruption(score, json.loads(corruption.read_text("utf-8"))["cases"])
    if truth is not None:
        result |= against_truth(score, datalist, truth)
    return result


class Watched:
    """The steps of an audit, watched: how long they take, and what each label was compared with.

    Args:
        keep: folder for CASE.npz with `image` (M, D, H, W), `spacing_dhw`, and `label_N`, `probability_N` of each
            structure (D, H, W); None: nothing is kept.
    """

    def __init__(self, keep: Path | None) -> None:
        self.seconds = {"predict": 0.0, "look": 0.0}
        self.looks = 0
        self._arrays: dict[str, np.ndarray] = {}
        self._timed("predict")
        look, compare = self._timed("_look"), audit_job.compare_label

        def kept_look(trained: Any, case: Any, *more: Any) -> Any:
            self._arrays, self.looks = {}, self.looks + 1
            seen = look(trained, case, *more)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                np.savez_compressed(keep / f"{case.name}.npz", **self._arrays)
            return seen

        def kept_compare(
            label: Any, probability: Any, spacing: Any, ignored: Any, image: Any, seed: Any, *more: Any
        ) -> Any:
            self._arrays |= {
                "image": image.astype(np.float16), "spacing_dhw": np.array(spacing),
                f"label_{seed[1]}": label, f"probability_{seed[1]}": probability.astype(np.float16),
            }  # fmt: skip
            return compare(label, probability, spacing, ignored, image, seed, *more)

        audit_job._look, audit_job.compare_label = kept_look, kept_compare  # type: ignore[assignment]

    def _timed(self, name: str) -> Callable[..., Any]:
        step = getattr(audit_job, name)

        def timed(*given: Any, **more: Any) -> Any:
            began = time.process_time()
            try:
                return step(*given, **more)
            finally:
                self.seconds[name.strip("_")] += time.process_time() - began

        setattr(audit_job, name, timed)
        return timed

    def told(self) -> dict[str, float]:
        """CPU seconds a case, of the prediction alone and of all that the audit does with it."""
        return {step: round(seconds / max(1, self.looks), 2) for step, seconds in self.seconds.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("output", type=Path, help="JSON file for the result")
    parser.add_argument("--corruption", type=Path, help="corruption.json of the same list")
    parser.add_argument("--truth", type=Path, help="data list of the same images with right labels")
    parser.add_argument("--model", type=Path, help="a model; without it the data set is cross-checked against itself")
    parser.add_argument("--preset", default=None)
    parser.add_argument("--set", nargs="+", default=[], help="settings of the cross-check")
    parser.add_argument("--keep", type=Path, help="folder for what each label was compared with")
    parser.add_argument(
        "--scores", type=Path, help="JSON of `other_label_scores.py`: they are judged, and no audit made"
    )
    options = parser.parse_args()
    if options.scores:
        others = json.loads(options.scores.read_text("utf-8"))
        found = {
            name: against(score, options.datalist, options.corruption, options.truth) for name, score in others.items()
        }
        options.output.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        print(json.dumps(found, indent=1))
        return
    watched = Watched(options.keep)
    overrides: dict[str, Any] = {}
    for text in options.set:
        key, value = text.split("=", 1)
        section, name = key.split(".")
        overrides.setdefault(section, {})[name] = json.loads(value)
    more = {"model": options.model} if options.model else {"preset": options.preset, "overrides": overrides}
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        done = audit(options.datalist, output=Path(folder) / "audit", overlap=0.25, **more)
    score: dict[str, float] = {}
    for row in done.rows:
        if row.score is not None:
            score[row.case] = max(row.score, score.get(row.case, 0.0))
    result: dict[str, Any] = {"cpu_seconds": round(time.process_time() - began), "cpu_seconds_a_case": watched.told()}
    result["kinds"] = {f"{row.case} {row.structure}": row.kind for row in done.rows}
    result |= against(score, options.datalist, options.corruption, options.truth)
    result["warnings"] = done.warnings
    options.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
