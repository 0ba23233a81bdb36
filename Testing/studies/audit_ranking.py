"""How well the audit puts wrong labels first, where it is known which ones are wrong (`svldrl corrupt`).

    python Testing/studies/audit_ranking.py runs/noisy/datalist.json runs/noisy/corruption.json runs/model auc.json

The audit sees the noisy list and the model alone; corruption.json is read afterwards.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from SVLDRLCore.jobs.audit import audit


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("corruption", type=Path, help="corruption.json of the same list")
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = audit(options.datalist, model=options.model, output=Path(folder) / "audit", overlap=0.25)
    score: dict[str, float] = {}
    for row in done.rows:
        if row.score is not None:
            score[row.case] = max(row.score, score.get(row.case, 0.0))
    told = json.loads(options.corruption.read_text("utf-8"))["cases"]
    wrong = [score[case["case"]] for case in told if case["corrupted"]]
    right = [score[case["case"]] for case in told if not case["corrupted"]]
    wins = sum((w > r) + 0.5 * (w == r) for w in wrong for r in right)
    worst = sorted(score, key=lambda name: -score[name])
    corrupted = {case["case"] for case in told if case["corrupted"]}
    result = {
        "auc": wins / (len(wrong) * len(right)),
        "wrong": len(wrong),
        "right": len(right),
        "wrong_among_the_first": {n: len(corrupted & set(worst[:n])) for n in (10, 20, 40)},
        "score_above_half": {"wrong": sum(s > 0.5 for s in wrong), "right": sum(s > 0.5 for s in right)},
        "warnings": done.warnings,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
