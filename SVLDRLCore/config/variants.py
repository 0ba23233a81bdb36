"""The variants of SVL-DRL as tables of settings, so that each difference between the paper and ours has a name."""

from __future__ import annotations

from typing import Any

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "as_printed": {
        "data": {"flip_axes": [], "intensity_jitter": 0.0},
        "network": {"light_heads": False, "detach_agents": False},
        "agents": {
            "rollout_steps": 5,
            "epsilon": "voxel",
            "bound_to_image": False,
            "temperature_transition": 1.0,
            "temperature_start": 0.0,
            "temperature_end": 0.0,
            "entropy_bonus": 0.0,
            "reward": "scalar",
            "reward_scale": 1.0,
            "plausibility_sign": 1,
            "plausibility": "level",
            "component_weight": 1.0,
            "gradient_weight": 1.0,
            "gradient": "slices",
            "connectivity": 6,
            "smallest_component": 1,
            "standardise_advantages": False,
            "smooth_returns": False,
            "segmentation_state": "last",
        },
        "optimiser": {
            "name": "sgd",
            "learning_rate": 1e-4,
            "weight_decay": 0.0,
            "poly_power": 0.0,
            "gradient_clip": 0.0,
            "ema_decay": 0.0,
            "cross_entropy_weight": 0.0,
        },
        "train": {"batch_size": 1, "precision": "float32"},
        "reliability": {"enabled": False},
        "mask_agents": {"enabled": False},
    },
    "corrected": {"reliability": {"enabled": False}, "mask_agents": {"enabled": False}},
    "extended": {
        "reliability": {"enabled": True},
        "mask_agents": {"enabled": True},
    },
}
"""A variant is a table of values laid over a preset (see docs/paper_questions.md for each row's reason)."""
