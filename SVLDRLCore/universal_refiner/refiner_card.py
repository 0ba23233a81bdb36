"""What people should know of a universal refiner."""

from __future__ import annotations

from collections.abc import Mapping


def card_of(recipe: Mapping[str, int]) -> str:
    """The model card, from what made it."""
    command = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in recipe.items())
    return f"""# Any structure (no training)

Refines a rough mask of any structure, in any modality, by what the image shows at its border.

- Learned on synthetic scenes only: drawn shapes, textures and contrasts. No patient's image was used.
- A voxel classifier on hand-made features. A later stage sees the beliefs of the one before.
- Made by: `svldrl train-universal --output DIR {command}`
- Licence: as the program.

## What it is for
*Even out* keeps the offset at which a mask is drawn and repairs what deviates from it. *Snap* moves the border onto
the visible edge.

## What it cannot do
It knows no anatomy. Where the border does not show in the image, it cannot tell where the structure ends. Large
missing parts, and leaks into tissue of the same intensity, often stay. Look at every result.
"""
