"""How other scores rank labels, on the very predictions that an audit compared them with.

    python Testing/studies/audit_ranking.py noisy/datalist.json auc.json --corruption noisy/corruption.json --keep kept
    python Testing/studies/other_label_scores.py kept scores.json
    python Testing/studies/audit_ranking.py noisy/datalist.json more.json --corruption ... --scores scores.json

The scores are 1 - Dice and 1 - soft Dice with the prediction, and the two of cleanlab (`pip install cleanlab` in an
environment of its own; this file imports nothing of the project). cleanlab knows images, and a case is one for it:

- `softmin`: 1 minus its label quality score over all voxels, and `softmin near` over the box of label and prediction.
- `issues`: share of the voxels that confident learning over all cases takes for wrong, and `issues by volume` per voxel
  of the label.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from cleanlab.segmentation.filter import find_label_issues
from cleanlab.segmentation.rank import get_label_quality_scores

MARGIN = 4
"""Voxels around label and prediction."""
LEAST = 1e-6


def near(label: np.ndarray, probability: np.ndarray) -> tuple[slice, ...]:
    """The box of label and prediction (D, H, W) with a margin; all of it where both are empty."""
    places = np.argwhere(label | (probability > 0.5))
    if not len(places):
        return (slice(None),) * label.ndim
    return tuple(slice(max(0, a - MARGIN), b + MARGIN + 1) for a, b in zip(places.min(0), places.max(0)))


def as_images(label: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One image (1, H, W) of all voxels, and its class probabilities (1, 2, H, W)."""
    p = np.clip(probability.reshape(1, -1, 1), LEAST, 1 - LEAST).astype(np.float32)
    return label.reshape(1, -1, 1).astype(int), np.stack([1 - p, p], 1)


def overlaps(label: np.ndarray, probability: np.ndarray) -> tuple[float, float]:
    """1 - Dice and 1 - soft Dice."""
    found, volume = probability > 0.5, float(label.sum())
    hard = 2 * float((label & found).sum()) / max(1.0, volume + float(found.sum()))
    soft = 2 * float(probability[label].sum()) / max(LEAST, volume + float(probability.sum()))
    return 1 - hard, 1 - soft


def softmin(label: np.ndarray, probability: np.ndarray) -> float:
    """1 minus cleanlab's label quality."""
    scores, _ = get_label_quality_scores(*as_images(label, probability), method="softmin", verbose=False)
    return float(1 - scores[0])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kept", type=Path, help="folder of `audit_ranking.py --keep`")
    parser.add_argument(
        "output", type=Path, help="JSON file: score -> case -> value; of several structures the largest"
    )
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    labels: list[tuple[str, np.ndarray, np.ndarray]] = []
    for file in sorted(options.kept.glob("*.npz")):
        with np.load(file) as arrays:
            for name in (n for n in arrays.files if n.startswith("label_")):
                p = arrays[name.replace("label", "probability")].astype(np.float32)
                labels.append((file.stem, arrays[name].astype(bool), p))

    def told(score: str, case: str, value: float) -> None:
        of_score = found.setdefault(score, {})
        of_score[case] = max(value, of_score.get(case, -np.inf))

    for case, label, p in labels:
        hard, soft = overlaps(label, p)
        box = near(label, p)
        told("1 - Dice", case, hard)
        told("1 - soft Dice", case, soft)
        told("softmin", case, softmin(label, p))
        told("softmin near", case, softmin(label[box], p[box]))
    whole = [np.concatenate([a.ravel() for a in arrays]) for arrays in zip(*((label, p) for _, label, p in labels))]
    wrong = find_label_issues(*as_images(*whole), downsample=1, n_jobs=1, verbose=False).ravel()
    ends = np.cumsum([label.size for _, label, _ in labels])
    for (case, label, _), end in zip(labels, ends):
        count = float(wrong[end - label.size : end].sum())
        told("issues", case, count / label.size)
        told("issues by volume", case, count / max(1, int(label.sum())))
    options.output.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
