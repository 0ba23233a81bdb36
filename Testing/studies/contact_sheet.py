"""A sheet of what the universal refiner learns from: scenes, the mask meant (green) and the mask drawn (red).

python Testing/studies/contact_sheet.py scenes.png [--scenes 12] [--seed 1]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from SVLDRLCore.universal_refiner.learning_to_refine import draw_examples

COLUMNS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    masks = [each for number in range(options.scenes) for each in draw_examples(options.seed, 0, number)]
    rows = -(-len(masks) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(1.5 * COLUMNS, 1.7 * rows), dpi=80)
    for axis in axes.ravel():
        axis.axis("off")
    for axis, (image, drawn, _) in zip(axes.ravel(), masks):
        middle = int(np.argmax((drawn.rough | drawn.meant).sum((1, 2))))
        axis.imshow(image[middle], cmap="gray")
        for mask, colour in ((drawn.meant, "lime"), (drawn.rough, "red")):
            if 0 < mask[middle].mean() < 1:
                axis.contour(mask[middle], [0.5], colors=colour, linewidths=0.8)
        axis.set_title(", ".join(drawn.kinds) or "clean", fontsize=5)
    figure.tight_layout(pad=0.3)
    figure.savefig(options.sheet)


if __name__ == "__main__":
    main()
