"""What the module says about itself."""

from __future__ import annotations

from slicer.i18n import tr as _

HOMEPAGE = "https://github.com/SVLDRL/SlicerSVLDRLSegmentation"


def helpText() -> str:
    """What it does, where to start, and that data stays here."""
    return _(
        "Corrects rough segmentations, trains 3D segmentation networks on imperfect annotations, and finds "
        "annotations that are probably wrong, by staged voxel-level deep reinforcement learning. "
        'See the <a href="{url}#tutorial">tutorial</a>; Sample Data has a phantom to try everything with.'
        "<p>No data leaves your computer. For research: this is not a medical device.</p>"
    ).format(url=HOMEPAGE)


def acknowledgementText() -> str:
    """Whose method it is and how to cite it."""
    return _(
        "Please cite: Y. Fu, X. Guo, J. Shi: Staged Voxel-Level Deep Reinforcement Learning for 3D Medical Image "
        'Segmentation with Noisy Annotations. <a href="https://arxiv.org/abs/2601.03875">arXiv:2601.03875</a>, '
        "2026, whose method this is; and 3D Slicer. Built on PyTorch and MONAI. Licence: Apache-2.0."
    )
