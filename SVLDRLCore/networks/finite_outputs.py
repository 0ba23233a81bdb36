"""A network's numbers before anything is made of them.

A sigmoid turns infinity into certainty, a comparison turns NaN into no. Weights can be finite and yet overflow, so what
comes out is looked at, not only what went in.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_WEIGHT = 1e5
"""A weight beyond this has no use: with thousands of such, activations pass 1e19, whose square (in a normalisation's
variance) is infinite in float32 and makes the output constant. Weights of trained networks stay below 100."""


def finite(output: Tensor) -> Tensor:
    """The output itself.

    Raises:
        FloatingPointError: a number in it is NaN or infinite.
    """
    # a sum with NaN or infinity in it is neither finite; one pass over the memory in place of five
    if not bool(torch.isfinite(output.sum())) and not bool(torch.isfinite(output).all()):
        raise FloatingPointError("a network's output is not a finite number")
    return output
