"""The default: SVL-DRL's three stages, with agents where they act, on the mask.

Warm-up learns to segment, with label reviews. Behind it the mask's agents are trained (`mask_refinement.training`):
Transition learns their critic and opinion, Full RL their policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from SVLDRLCore.config.settings import Config, StageConfig
from SVLDRLCore.learning.method_words import MethodWords
from SVLDRLCore.learning.segmentation_method import SegmentationMethod
from SVLDRLCore.learning.stages import Plan, plan_stages

HANDLING = (
    "A warm-up on the given labels; then a transition in which agents, one in every voxel of a mask, learn to judge "
    "it; then full reinforcement learning, in which they are rewarded for agreement with the labels and for plausible "
    "masks."
)
ALONE = "A warm-up on the given labels alone: no agents were trained."


class Extended(SegmentationMethod):
    """The segmentation network of the default. Its Warm-up has all of `train.steps`."""

    over_the_variant: ClassVar[Mapping[str, Any]] = {}  # the variant is its own
    learns_partly: ClassVar[bool] = True

    def plan(self) -> Plan:
        """The Warm-up; labels are first judged by the network after `reliability.first_review` of it."""
        steps = self.config.train.steps
        only = StageConfig(warm_up=1.0, transition=0.0, full_rl=0.0)
        return Plan(plan_stages(steps, only), round(self.config.reliability.first_review * steps))

    @classmethod
    def card_words(cls, words: MethodWords, config: Config) -> MethodWords:
        """With the stages that these settings have."""
        return MethodWords(f"{words.title}, with agents on the mask", HANDLING if config.mask_agents.enabled else ALONE)
