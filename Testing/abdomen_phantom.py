"""An abdomen drawn by formulas, for the picture of the README: it looks like contrast-enhanced CT and is nobody's.

Everything is in mm from the middle of the body: x to the patient's left, y to the back, z to the head. Organs are
signed distances, roughly, negative inside. A smooth random field bends the whole, so that no ellipse stays one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import smooth_field

SIZE_DHW = (22, 172, 232)
SPACING_DHW = (3.0, 1.5, 1.5)
LABELS = {1: "liver", 2: "kidneys", 3: "spleen"}

FAT, MUSCLE, AIR = -95.0, 52.0, -1000.0


@dataclass(frozen=True)
class Place:
    """Coordinates in mm, each (D, H, W), as this patient bends them."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray


def make_abdomen(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A volume in HU, int16 (D, H, W), and its true label map, uint8: 1 liver, 2 kidneys, 3 spleen.

    The same seed makes the same patient.
    """
    rng = np.random.default_rng([seed, 7])
    at = _place(rng)
    body = _superellipse(at, (0, 0), (160, 117), 2.4)
    fat_mm = rng.uniform(11, 19) * (1 + 0.25 * np.cos(np.arctan2(at.y, at.x) * 2))
    wall = body + fat_mm  # the outside of the abdominal wall
    inside = wall + 13  # the peritoneum
    organs = _organs(at, inside, rng)

    hu = np.full(SIZE_DHW, AIR, np.float32)
    texture = smooth_field(SIZE_DHW, SPACING_DHW, 2.5, rng)
    _paint(hu, body, 30)
    _paint(hu, body + 2, FAT + 7 * texture)
    _paint(hu, wall, MUSCLE + 8 * texture)
    _paint(hu, inside + 1.5 + 1.5 * texture, FAT + 12 * texture)
    _back(hu, at, wall, texture)
    _bowel(hu, at, organs, inside, rng)
    _stomach(hu, at, organs["stomach"], rng)
    _liver(hu, at, organs["liver"], texture, rng)
    _paint(hu, organs["gallbladder"], 12)
    _paint(hu, organs["spleen"], 122 + 5 * texture)
    _kidneys(hu, at, organs["kidneys"], organs["sinus"])
    _vessels(hu, at, organs)
    _ribs(hu, at, wall)
    _spine(hu, at, texture)
    return _scanned(hu, rng), _label(organs)


def _place(rng: np.random.Generator) -> Place:
    z, y, x = (
        ((np.arange(n) - (n - 1) / 2) * step).reshape([-1 if axis == i else 1 for i in range(3)])
        for axis, (n, step) in enumerate(zip(SIZE_DHW, SPACING_DHW))
    )
    bend = [smooth_field(SIZE_DHW, SPACING_DHW, 32, rng) for _ in range(2)]
    scale = rng.uniform(0.95, 1.05, 2)
    return Place(
        np.broadcast_to(x, SIZE_DHW) * scale[0] + 3.0 * bend[0] + rng.uniform(-4, 4),
        np.broadcast_to(y, SIZE_DHW) * scale[1] + 3.0 * bend[1] + rng.uniform(-4, 4),
        np.broadcast_to(z, SIZE_DHW) + rng.uniform(-12, 12),
    )


def _organs(at: Place, inside: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Signed distances of what has a border of its own; each keeps clear of what was drawn before it."""
    a = {"aorta": _tube(at, (7, 33), 10.5), "cava": _superellipse(at, (-20, 29), (12.5, 9.5), 2)}
    kidneys, sinus, hila = [], [], []
    for side in (-1, 1):
        x, y, z = side * rng.uniform(56, 62), rng.uniform(45, 51), -14 + 14 * side
        bean = _ellipsoid(at, (x, y, z), (27, 31, 58), 28 * side)
        hilum = _ellipsoid(at, (x - side * 19, y - 13, z), (15, 9, 26), 35 * side)
        kidneys.append(np.maximum(bean, 1.5 - hilum))
        hila.append(hilum)
        sinus.append(_ellipsoid(at, (x - side * 8, y - 5, z), (11, 10, 34), 35 * side))
    a["kidneys"], a["sinus"] = np.minimum(*kidneys), np.minimum(*sinus)
    a["gallbladder"] = _ellipsoid(at, (-46, -48, -18), (13, 19, 32), 25)
    right = _ellipsoid(at, (-78, -8, 22), (74, 82, 95), 12)
    left = _ellipsoid(at, (-12, -58, 36), (62, 29, 52), -8)
    liver = _join(right, left, 18)
    clear = np.minimum(a["kidneys"], a["gallbladder"] + 1)
    clear = np.minimum(np.minimum(clear, a["cava"]), np.minimum(a["aorta"] - 10, hila[0] - 14))
    fissure = _capsule(at, (-24, -98, 30), (-36, -52, 30), 2.4, flat=True)
    liver = np.maximum(liver, 3.0 - clear)
    a["liver"] = np.maximum(np.maximum(liver, inside + 3), 1.0 - fissure)
    a["stomach"] = np.maximum(np.maximum(_ellipsoid(at, (52, -34, 26), (50, 39, 70), -24), inside + 5), 3 - a["liver"])
    crescent = np.maximum(
        _ellipsoid(at, (102, 24, 34), (42, 64, 66), 18), 4 - _ellipsoid(at, (40, -6, 34), (44, 60, 90), 18)
    )
    a["spleen"] = np.maximum(np.maximum(crescent, inside + 3), 3.0 - np.minimum(a["kidneys"], a["stomach"]))
    return a


def _label(organs: dict[str, np.ndarray]) -> np.ndarray:
    label = np.zeros(SIZE_DHW, np.uint8)
    label[organs["liver"] < 0] = 1
    label[(organs["kidneys"] < 0) & (organs["sinus"] > 0)] = 2
    label[organs["spleen"] < 0] = 3
    return label


def _back(hu: np.ndarray, at: Place, wall: np.ndarray, texture: np.ndarray) -> None:
    for side in (-1, 1):
        erector = _ellipsoid(at, (side * 33, 83, 0), (30, 18, 400), -14 * side)
        _paint(hu, np.maximum(erector, wall + 1), MUSCLE + 3 - 22 * np.maximum(texture - 0.9, 0))
        _paint(hu, _ellipsoid(at, (side * 28, 55, 0), (12, 17, 400), 20 * side), MUSCLE + 8)
        _paint(hu, _capsule(at, (side * 9, 22, 0), (side * 19, 44, 0), 5, flat=True), MUSCLE + 6)  # crura


def _bowel(
    hu: np.ndarray, at: Place, organs: dict[str, np.ndarray], inside: np.ndarray, rng: np.random.Generator
) -> None:
    """Loops of bowel in the fat, with a wall, content and here and there air on top."""
    centres = [(20, -66), (-8, -20), (22, -2), (60, 18), (92, -52), (-18, 2), (44, -72), (88, 58), (38, 24)]
    for x, y in centres:
        x, y, radius = x + rng.uniform(-6, 6), y + rng.uniform(-5, 5), rng.uniform(10, 15)
        loop = _ellipsoid(
            at, (x, y, rng.uniform(-25, 5)), (radius, radius * rng.uniform(0.7, 0.95), 30), rng.uniform(-40, 40)
        )
        loop = np.maximum(loop, inside + 5)
        loop = np.maximum(loop, 3 - np.minimum(organs["aorta"], organs["cava"]))
        _paint(hu, loop, 62)
        _paint(hu, loop + 2.6, rng.uniform(8, 34))
        if rng.random() < 0.45:
            _paint(hu, np.maximum(loop + 2.6, at.y - (y - 0.15 * radius)), AIR + 80)
    pancreas = _capsule(at, (-14, 4, 4), (38, -4, 14), 9)
    _paint(hu, np.maximum(pancreas, 3 - organs["aorta"]), 92)


def _stomach(hu: np.ndarray, at: Place, stomach: np.ndarray, rng: np.random.Generator) -> None:
    _paint(hu, stomach, 70)
    content = stomach + 4
    food = smooth_field(SIZE_DHW, SPACING_DHW, 5, rng)
    _paint(hu, content, 22 + 9 * food)
    _paint(hu, np.maximum(content, at.y + 46 + rng.uniform(-4, 6)), AIR + 20)


def _liver(hu: np.ndarray, at: Place, liver: np.ndarray, texture: np.ndarray, rng: np.random.Generator) -> None:
    _paint(hu, liver, 104 + 5 * texture)
    veins = [
        ((-26, 22, 40), (-70, 8, 34), 4.6), ((-70, 8, 34), (-112, -8, 24), 3.4), ((-70, 8, 34), (-98, 38, 20), 3.0),
        ((-26, 20, 42), (-58, -36, 40), 4.2), ((-58, -36, 40), (-96, -50, 30), 3.0),
        ((-30, -6, 6), (-62, -14, 4), 5.2), ((-62, -14, 4), (-102, 4, -4), 3.8), ((-62, -14, 4), (-92, -44, 0), 3.4),
        ((-24, -18, 20), (-8, -58, 30), 3.2), ((-8, -58, 30), (22, -66, 34), 2.4),
        ((-102, 4, -4), (-124, 26, -12), 2.6), ((-92, -44, 0), (-118, -34, -14), 2.4),
    ]  # fmt: skip
    for start, end, radius in veins:
        move = np.array([rng.uniform(-5, 5), rng.uniform(-5, 5), 0.0])
        _paint(hu, np.maximum(_capsule(at, start + move, end + move, radius), liver + 3), 158)


def _kidneys(hu: np.ndarray, at: Place, kidneys: np.ndarray, sinus: np.ndarray) -> None:
    _paint(hu, kidneys, 178)
    around = np.arctan2(at.y - 48, np.abs(at.x) - 58)
    pyramids = np.maximum(kidneys + 6.5 + 2.6 * np.cos(9 * around + 0.12 * at.z), 0)
    _paint(hu, np.where(pyramids > 0, 1.0, -1.0), 128)
    _paint(hu, sinus, -60)
    _paint(hu, sinus + 7, 30)


def _vessels(hu: np.ndarray, at: Place, organs: dict[str, np.ndarray]) -> None:
    for side in (-1, 1):
        _paint(hu, _capsule(at, (side * 8, 30, -8), (side * 44, 40, -12), 3.6), 150)
    _paint(hu, _tube(at, (0, 12), 5.0), 160)  # superior mesenteric vein
    _paint(hu, _tube(at, (15, 14), 3.6), 178)  # and artery
    _paint(hu, _capsule(at, (-4, 8, 10), (78, 16, 30), 3.4), 158)  # splenic vein
    _paint(hu, organs["cava"], 142)
    _paint(hu, organs["aorta"], 186)


def _ribs(hu: np.ndarray, at: Place, wall: np.ndarray) -> None:
    """Ribs run down towards the front: a slice cuts each once, and the next ones further along."""
    along = np.arctan2(at.y * 1.35, np.abs(at.x)) * 120  # mm along the wall
    depth = wall + 6.5
    for k in range(-3, 5):
        centre = 34 * k - 4 + 3 * (k % 3) + 0.6 * at.z
        cut = np.hypot((along - centre) / 2.3, depth * 1.05) - 4.4
        chest = (along < 128) & (along > -92)
        _paint(hu, np.where(chest, cut, 9), 410)
        _paint(hu, np.where(chest, cut + 1.9, 9), 190)


def _spine(hu: np.ndarray, at: Place, texture: np.ndarray) -> None:
    body = np.maximum(_superellipse(at, (0, 56), (24, 18), 2.3), -(_tube(at, (0, 79), 10)))
    arch = _capsule(at, (-13, 74, 0), (-18, 84, 0), 5, flat=True)
    for start, end, radius in (
        ((13, 74), (18, 84), 5), ((-16, 84), (0, 94), 4.5), ((16, 84), (0, 94), 4.5), ((0, 94), (0, 107), 4),
        ((16, 78), (42, 76), 4), ((-16, 78), (-42, 76), 4),
    ):  # fmt: skip
        arch = np.minimum(arch, _capsule(at, (*start, 0), (*end, 0), radius, flat=True))
    bone = _join(body, arch, 3)
    _paint(hu, bone, 520)
    _paint(hu, bone + 2.2, 215 + 45 * texture)
    _paint(hu, _tube(at, (0, 78), 9), 18)
    _paint(hu, _tube(at, (0, 79), 5), 42)


def _scanned(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As a scanner gives it: blurred, shaded a little, with noise of the grain of a soft kernel."""
    sigma = [0.4 * SPACING_DHW[0] / s for s in SPACING_DHW]
    image = ndimage.gaussian_filter(hu, (0.35, max(sigma[1], 0.75), max(sigma[2], 0.75)), mode="nearest")
    image = image + 5 * smooth_field(SIZE_DHW, SPACING_DHW, 60, rng)
    grain = ndimage.gaussian_filter(rng.standard_normal(SIZE_DHW), (0, 0.8, 0.8))
    image = image + 13 * grain / grain.std()
    return np.clip(np.rint(image), -1024, 1500).astype(np.int16)


def _paint(hu: np.ndarray, distance: np.ndarray, value: float | np.ndarray) -> None:
    hu[...] = np.where(distance < 0, value, hu)


def _superellipse(at: Place, centre: Sequence[float], radii: Sequence[float], power: float) -> np.ndarray:
    x, y = np.abs(at.x - centre[0]) / radii[0], np.abs(at.y - centre[1]) / radii[1]
    return ((x**power + y**power) ** (1 / power) - 1) * min(radii)


def _ellipsoid(at: Place, centre: Sequence[float], radii: Sequence[float], degrees: float = 0.0) -> np.ndarray:
    """Turned about the body's axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    x, y, z = at.x - centre[0], at.y - centre[1], at.z - centre[2]
    scaled = np.sqrt(((c * x + s * y) / radii[0]) ** 2 + ((c * y - s * x) / radii[1]) ** 2 + (z / radii[2]) ** 2)
    return (scaled - 1) * min(radii)


def _tube(at: Place, centre: Sequence[float], radius: float) -> np.ndarray:
    return np.hypot(at.x - centre[0], at.y - centre[1]) - radius


def _capsule(at: Place, start: Sequence[float], end: Sequence[float], radius: float, flat: bool = False) -> np.ndarray:
    """A round rod; flat: the same in every slice."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    steps, points = end - start, [at.x - start[0], at.y - start[1], at.z - start[2]]
    if flat:
        steps, points = steps[:2], points[:2]
    along = np.clip(sum(s * p for s, p in zip(steps, points)) / np.sum(steps**2), 0, 1)
    return np.sqrt(sum((p - along * s) ** 2 for s, p in zip(steps, points))) - radius


def _join(a: np.ndarray, b: np.ndarray, smoothness: float) -> np.ndarray:
    """The union, its notch filled."""
    h = np.clip(0.5 + 0.5 * (b - a) / smoothness, 0, 1)
    return b * (1 - h) + a * h - smoothness * h * (1 - h)
