"""Images of synthetic scenes: intensities, texture, partial volume, blur, bias, noise and windows drawn at random.

The target differs from every other tissue by at least `LEAST_CONTRAST` before some neighbours are made like it, so
that most of its border can be seen and some of it cannot, as in patients. CT- and MR-like images both come out.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from SVLDRLCore.universal_refiner.scenes import FIRST, VALUES, Scene
from SVLDRLCore.universal_refiner.shapes import F32, random_field

LEAST_CONTRAST = 0.15


def render(scene: Scene, target: int, rng: np.random.Generator) -> np.ndarray:
    """An image (D, H, W), float32, about 0 to 1, in which `target` is what a mask is to be of."""
    means, faint = _tissue_means(target, rng)
    strength = rng.uniform(0.1, 1.0) * (0.5 if faint else 1.0)
    image = _texture(scene, means, strength, rng)
    image = _blurred(image, scene, rng)
    image *= np.exp(rng.uniform(0, 0.3) * random_field(image.shape, rng.uniform(20, 60), rng, scene.spacing))
    if rng.random() < 0.9:
        image = _noisy(image, scene.spacing, rng.uniform(0, 0.10) * strength, rng)
    return _displayed(image, rng)


def _tissue_means(target: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    means = rng.random(VALUES)
    others = np.arange(VALUES) != target
    close = others & (np.abs(means - means[target]) < LEAST_CONTRAST)
    means[close] = rng.random(close.sum())
    if rng.random() < 0.25:  # a quiet background
        means[:FIRST] = np.where(others[:FIRST], means[0] + 0.1 * rng.standard_normal(FIRST), means[:FIRST])
    alike = others & (rng.random(VALUES) < rng.choice([0.0, 0.0, 0.1, 0.25]))
    means[alike] = means[target] + 0.06 * rng.standard_normal(alike.sum())
    faint = bool(rng.random() < 0.15)
    if faint:
        means = means[target] + (means - means[target]) * rng.uniform(0.35, 0.7)
    return means, faint


def _texture(scene: Scene, means: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    labels, size = scene.fine, scene.fine.shape
    spacing = (scene.spacing[0] / scene.oversampling, *scene.spacing[1:])
    image = means[labels].astype(F32)
    if scene.inner.any():
        offsets = rng.uniform(-0.4, 0.4, (3, VALUES)) * (rng.random(VALUES) < 0.5)
        offsets[0] = 0
        image += offsets[scene.inner, labels].astype(F32)
    texture, grain = (strength * rng.uniform(0, most, VALUES) for most in (0.09, 0.08))
    image += texture[labels].astype(F32) * random_field(size, rng.uniform(1.5, 5), rng, spacing)
    if rng.random() < 0.3:
        image += texture[labels].astype(F32) * random_field(size, rng.uniform(6, 16), rng, spacing)
    return image + grain[labels].astype(F32) * rng.standard_normal(size, dtype=F32)


def _blurred(image: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    blur = rng.uniform(0.0, 1.1)
    across = blur * scene.oversampling / scene.spacing[0] + (rng.uniform(0, 1.5) if rng.random() < 0.4 else 0)
    image = ndimage.gaussian_filter(image, (across, blur, blur), truncate=2.5)
    return image if scene.oversampling == 1 else 0.5 * (image[::2] + image[1::2])


def _noisy(image: np.ndarray, spacing: tuple[float, ...], level: float, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(image.shape, dtype=F32)
    if rng.random() < 0.4:  # interpolated scans have noise that is smooth
        width = rng.uniform(0.4, 0.9)
        noise = ndimage.gaussian_filter(noise, [width / s for s in spacing], truncate=2.5)
        noise /= noise.std()
    if rng.random() < 0.2:  # magnitude images of MR: Rician
        real = np.maximum(image + level * noise, 0)
        return np.sqrt(real**2 + (level * rng.standard_normal(image.shape, dtype=F32)) ** 2)
    return image + F32(level) * noise


def _displayed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scaled, with a gamma, a window, few grey levels or the edge of the field of view."""
    low, high = np.percentile(image[::2, ::3, ::3], [0.5, 99.5])
    image = np.clip((image - low) / (high - low + 1e-6), 0, 1) ** np.exp(rng.uniform(-0.5, 0.5))
    if rng.random() < 0.25:
        window = np.sort(rng.uniform(-0.2, 1.2, 2))
        if window[1] - window[0] > 0.45:
            image = np.clip(image, *window)
    if rng.random() < 0.3:
        image = np.round(image * 64) / 64
    if rng.random() < 0.15:
        axis, width = rng.integers(3), int(rng.integers(2, 8))
        at = [slice(None)] * 3
        at[axis] = slice(0, width) if rng.random() < 0.5 else slice(-width, None)
        image[tuple(at)] = 0
    return image.astype(F32)
