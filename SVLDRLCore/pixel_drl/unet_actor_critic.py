"""Actor-critic in each pixel: policy and value are decoders of one U-Net, and learn by one-step differences.

Source: V. Konda, J. Tsitsiklis, "Actor-critic algorithms", NeurIPS 1998, as PixelDRL-MG's paper compares it.

As there: a U-Net, the same two actions. Adapted: the environment, the reward and the state are PixelDRL-MG's in its
corrected form, so that a comparison is one of learning alone. No attention, no dilation, no neighbourhood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from SVLDRLCore.learning.segmentation_method import SegmentationMethod
from SVLDRLCore.pixel_drl.method import PixelAgents
from SVLDRLCore.pixel_drl.settings import ActorCriticSettings


class UNetActorCritic(PixelAgents):
    """R = r + gamma V(s')."""

    over_the_variant: ClassVar[Mapping[str, Any]] = {
        **SegmentationMethod.over_the_variant,
        "network": {"backbone": "pixel_q_unet"},
        "method_settings": {"heads": "policy_and_value", "returns": "one_step", "gamma": 0.5},
    }
    own_settings: ClassVar[type | None] = ActorCriticSettings
    backbones: ClassVar[tuple[str, ...]] = ("pixel_q_unet",)
