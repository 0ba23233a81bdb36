"""Masks for `refiner_agents.py`: synthetic and real ones, kept with what the shipped refiner sees of them.

    python Testing/studies/refiner_scenes.py CACHE --stage 1001 --scenes 60
    python Testing/studies/refiner_scenes.py CACHE --data DATA

One file a mask: in CACHE/STAGE as SCENE_NUMBER, in CACHE/real as SET_KIND. DATA is the folder of packs that the tests
name by SVLDRL_DATA.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from perfect_masks import SETS as PERFECT_SETS
from perfect_masks import perfect_masks
from universal_refiner import SETS, cases_of, wrong_masks

from SVLDRLCore.universal_refiner.change_signs import BorderSeen
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, SNAP, beliefs_of
from SVLDRLCore.universal_refiner.deciding import NOT_SHOWN, SHOWN, WRONG
from SVLDRLCore.universal_refiner.learning_to_refine import draw_examples
from SVLDRLCore.universal_refiner.perception import perceive
from SVLDRLCore.universal_refiner.refiner_package import shipped_refiner
from SVLDRLCore.universal_refiner.refining import FEWEST_VOXELS, looked_at, one_channel
from SVLDRLCore.universal_refiner.shown_borders import border_evidence
from SVLDRLCore.universal_refiner.skipped_slices import filling_of
from SVLDRLCore.universal_refiner.ways import evened
from SVLDRLCore.universal_refiner.working_grid import working_grid

SEED = 1
NOT_ASKED = -2
"""Group of a mask that has no right answer in a mode: it is drawn by another habit."""
PERFECT_SHARE = 0.1
"""Of the cases of `perfect_masks.py`."""


@dataclass(frozen=True)
class Seen:
    """A mask on its grid (D, H, W), and what the refiner knows before it decides.

    Attributes:
        look: the image as the refiner standardises it; beliefs: (2, D, H, W), of `SNAP` and `EVEN_OUT`.
        roots: (2,), by how much what is expected (signed root of the gain) passes what the shipped refiner asks for, of
            the best way to even out; minus infinity where nothing is seen.
    """

    look: np.ndarray
    mask: np.ndarray
    beliefs: np.ndarray
    spacing: tuple[float, ...]
    roots: np.ndarray


@dataclass(frozen=True)
class Asked:
    """A mask with its right answers (2, D, H, W) by mode, and its group by mode (2,)."""

    seen: Seen
    goals: np.ndarray
    groups: np.ndarray


def seen_of(image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> Seen:
    """What the shipped refiner sees of a mask, neither empty nor full, on its working grid."""
    refiner = shipped_refiner()
    beliefs = beliefs_of(refiner.stages, image, mask, spacing)[-1]
    signs, gate = border_evidence(image, mask, beliefs, spacing), refiner.decision.snap.gate
    to_snap = -np.inf if signs is None or gate is None else gate.root(signs) - gate.margin
    roots = {SNAP: to_snap, EVEN_OUT: best_way(image, mask, beliefs, spacing)[0]}
    look = perceive(image, mask, spacing)[0][0]
    return Seen(look, mask, beliefs, tuple(spacing), np.array([roots[mode] for mode in sorted(roots)]))


def best_way(
    image: np.ndarray, mask: np.ndarray, beliefs: np.ndarray, spacing: Sequence[float]
) -> tuple[float, np.ndarray]:
    """The way to even out of which most is expected beyond what is asked for: by how much, and its mask."""
    ways, gains = evened(mask, beliefs, spacing), shipped_refiner().decision.even_out
    signs = BorderSeen.of(image, mask, beliefs, spacing).signs(ways)
    beyond = [float(gain.roots(each[None])[0]) - gain.margin for gain, each in zip(gains, signs)]
    best = int(np.argmax(beyond))
    return beyond[best], ways[best]


def asked_in_scene(stage: int, number: int) -> Iterator[Asked]:
    """The masks of a synthetic scene as `deciding.tried_in_scene` has them: as drawn, as meant, as the structure is."""
    for image, drawn, spacing in draw_examples(SEED, stage, number):
        masks = {np.packbits(mask).tobytes(): mask for mask in (drawn.truth, drawn.meant, drawn.rough)}
        for mask in masks.values():
            if not mask.any() or mask.all():
                continue
            goals, perfect = np.stack([drawn.truth, drawn.meant]), SHOWN if drawn.shown else NOT_SHOWN
            groups = np.array([perfect if np.array_equal(mask, goal) else WRONG for goal in goals])
            if mask is drawn.truth and groups[EVEN_OUT] == WRONG:
                groups[EVEN_OUT] = NOT_ASKED
            yield Asked(seen_of(image, mask, spacing), goals, groups)


def save_asked(file: Path, asked: Asked) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    seen = asked.seen
    np.savez_compressed(
        file, look=seen.look.astype(np.float16), mask=seen.mask, beliefs=seen.beliefs.astype(np.float16),
        spacing=seen.spacing, roots=seen.roots, goals=asked.goals, groups=asked.groups,
    )  # fmt: skip


def load_asked(file: Path) -> Asked:
    with np.load(file) as kept:
        look, beliefs = kept["look"].astype(np.float32), kept["beliefs"].astype(np.float32)
        seen = Seen(look, kept["mask"], beliefs, tuple(kept["spacing"].tolist()), kept["roots"])
        return Asked(seen, kept["goals"], kept["groups"])


def on_grid(
    image: np.ndarray, mask: np.ndarray, truth: np.ndarray, spacing: Sequence[float], group: int
) -> Asked | None:
    """A real mask as `refine_mask` looks at it; None where that leaves it as drawn. Both modes have one answer."""
    box = looked_at(mask, spacing)
    near = one_channel((image if image.ndim == 4 else image[None])[:, *box], mask[box])
    filled = filling_of(mask[box], near).mask
    grid = working_grid(filled, spacing)
    order = np.argsort([-s for s in grid.spacing], kind="stable")
    rough, goal = ((grid.shrunk(each) > 0.5).transpose(order) for each in (filled, truth[box]))
    if rough.sum() < FEWEST_VOXELS or rough.all():
        return None
    seen = seen_of(grid.shrunk(near).transpose(order), np.ascontiguousarray(rough), [grid.spacing[a] for a in order])
    return Asked(seen, np.stack([goal, goal]), np.array([group, group]))


def real_masks(data: Path) -> Iterator[tuple[str, Asked | None]]:
    """Named "set_kind": one case a set with every kind of mistake, and perfect masks of more cases."""
    for name in SETS:
        for image, truth, spacing in cases_of(data, name, 1):
            rng = np.random.default_rng([0, 0, zlib.crc32(name.encode())])
            for kind, rough in wrong_masks(truth, spacing, rng).items():
                yield f"{name}_{kind}", on_grid(image, rough, truth, spacing, SHOWN if kind == "clean" else WRONG)
    for name in PERFECT_SETS:
        for index, (image, mask, spacing) in enumerate(perfect_masks(data, name, PERFECT_SHARE)):
            yield f"{name}_perfect {index}", on_grid(image, mask, mask, spacing, SHOWN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--stage", type=int, help="number of a stage that nothing has learned from")
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--data", type=Path, help="real masks instead")
    options = parser.parse_args()
    if options.data:
        for name, found in real_masks(options.data):
            if found is not None:
                save_asked(options.cache / "real" / f"{name}.npz", found)
        return
    for number in range(options.scenes):
        for index, found in enumerate(asked_in_scene(options.stage, number)):
            save_asked(options.cache / str(options.stage) / f"{number:03d}_{index:02d}.npz", found)


if __name__ == "__main__":
    main()
