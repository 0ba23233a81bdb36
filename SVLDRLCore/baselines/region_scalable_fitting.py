"""Region-scalable fitting: does a voxel's intensity fit the inside or the outside of a mask, seen locally?

Source: C. Li, C. Kao, J. Gore, Z. Ding, "Minimization of Region-Scalable Fitting Energy for Image Segmentation",
IEEE Transactions on Image Processing 17(10), 2008, eq. 9 to 15, with lambda_1 = lambda_2 = 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers import GaussianFilter
from torch import Tensor

_FLOOR = 1e-4
"""Gaussian mass of a region below which its local mean gives way to its mean in the patch."""


def sigmas(scale: float, spacing_dhw: Sequence[float]) -> tuple[float, ...]:
    """SD of the kernel along each axis in voxels: `scale` along the finest one, the same in mm along the others."""
    return tuple(scale * min(spacing_dhw) / s for s in spacing_dhw)


def fits_inside(image: Tensor, masks: Tensor, valid: Tensor, sigma: Sequence[float]) -> Tensor:
    """Where e1 < e2: the image fits the inside of each mask better than its outside, boolean (B, C, D, H, W).

    e_i(x) = int K(y - x) (I(x) - f_i(y))^2 dy, with f_1 and f_2 the local means inside and outside, summed over the
    image's channels. Where a mask is empty, nothing fits its inside; where it is full, nothing its outside.

    Args:
        image: (B, M, D, H, W).
        masks: (B, C, D, H, W), 0 or 1.
        valid: (B, 1, D, H, W); padding neither counts in the means nor in the energies.
        sigma: SD of the Gaussian K along (D, H, W) in voxels.
    """
    blur = GaussianFilter(3, list(sigma), truncated=3.0).to(image.device)
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        image, masks, valid = image.float(), masks.float(), valid.float()
        inside, outside = (
            torch.stack([_energy(image, region.unsqueeze(1), valid, blur) for region in each.unbind(1)], dim=1)
            for each in (masks * valid, (1 - masks) * valid)
        )
        return inside < outside


def _energy(image: Tensor, region: Tensor, valid: Tensor, blur: GaussianFilter) -> Tensor:
    """e_i (B, D, H, W) of one region (B, 1, D, H, W); infinite where a sample has none of it."""
    dims = (2, 3, 4)
    count = region.sum(dims, keepdim=True)
    in_patch = (image * region).sum(dims, keepdim=True) / count.clamp_min(1.0)
    mass = blur(region)
    mean = (blur(image * region) + _FLOOR * in_patch) / (mass + _FLOOR)
    energy = image.square() * blur(valid) - 2 * image * blur(mean * valid) + blur(mean.square() * valid)
    return torch.where(count > 0, energy.sum(1, keepdim=True), torch.inf).squeeze(1)
