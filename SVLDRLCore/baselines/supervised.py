"""Plain training on the labels as they are: the baseline; with label weights on, the control without agents."""

from __future__ import annotations

from typing import ClassVar

from SVLDRLCore.config.settings import StageConfig
from SVLDRLCore.learning.segmentation_method import SegmentationMethod
from SVLDRLCore.learning.stages import Plan, plan_stages


class Supervised(SegmentationMethod):
    """Dice and cross entropy against the given label, from the first step to the last."""

    learns_partly: ClassVar[bool] = True

    def plan(self) -> Plan:
        """One stage; labels are judged (if at all) when the default judges them."""
        steps = self.config.train.steps
        only = StageConfig(warm_up=1.0, transition=0.0, full_rl=0.0)
        return Plan(plan_stages(steps, only), round(self.config.reliability.first_review * steps))
