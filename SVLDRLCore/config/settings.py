"""Every setting of a run, with its unit, range and source. One frozen tree; unknown keys are refused.

A run is `load_config(preset, variant)`; a variant (`as_printed`, `corrected`, `extended`) is a table of field
values (`VARIANTS`), so that each difference between the paper and what we run has a name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from SVLDRLCore.config.backbone_facts import fitting_backbone
from SVLDRLCore.config.building import (
    LARGEST_SEED,
    build,
    check_fields,
    choice,
    merge,
    number,
)
from SVLDRLCore.config.rules import require_fitting_together
from SVLDRLCore.config.variants import VARIANTS
from SVLDRLCore.config.versions import migrated_settings, renamed_settings
from SVLDRLCore.errors import InputError
from SVLDRLCore.strict_json import read_json_object


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """From files to patches."""

    spacing_mm: tuple[float, float, float] | None = number(None, 0, 100, "mm", public=True)
    """Grid (x, y, z) that images are resampled to; null keeps the median spacing's grid of each image. z may be 0 where
    slices are segmented one by one: each image keeps its own slice distance."""
    patch_size: tuple[int, int, int] = number((24, 40, 48), 1, 2048, "voxels", public=True)
    """Training patch and sliding window (d, h, w) in voxels; a multiple of the backbone's stride."""
    slices_apart: bool = choice(False, public=True)
    """Slices of a file are images of their own (not neighbours in the patient): each label is reviewed slice by slice.
    For backbones that segment slice by slice."""
    intensity: Literal["percentile", "window", "unit"] = choice("percentile", public=True)
    """How intensities reach [0, 1], where eq. 10 clips: percentiles of the volume, or a fixed window."""
    intensity_low: float = number(1.0, -1e9, 1e9, "percent, or HU", public=True)
    """Lower percentile, or lower end of the window (HU)."""
    intensity_high: float = number(99.5, -1e9, 1e9, "percent, or HU", public=True)
    """Upper percentile, or upper end of the window (HU)."""
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict, metadata={"range": (0, 255), "public": True})
    """Nested regions as unions of label values, e.g. {"whole tumour": [1, 2, 3, 4]}; predicted by sigmoids."""
    foreground_fraction: float = number(0.67, 0, 1, "share of the patches")
    """Share of patches around a voxel of a structure; each structure as often, however small."""
    flip_axes: tuple[int, ...] = number((1, 2), 0, 2, public=True)
    """Axes (0 = d, 1 = h, 2 = w) mirrored at random in training."""
    intensity_jitter: float = number(0.1, 0, 1, "share")
    """Random gain and offset of the training intensities, +- this share."""
    held_out_fraction: float = number(0.1, 0, 0.9, "share of the cases", public=True)
    """Share of the (noisy) training cases kept for validation when no clean list is named."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """One encoder, three decoders (SVL-DRL section 3.2), or a network that segments slice by slice."""

    backbone: Literal[
        "swin_unetr", "segresnet", "unet", "unet_2d", "attention_unet_2d", "unet_plus_plus_2d", "segresnet_2d",
        "swin_unetr_2d", "pixel_actor_critic", "pixel_q_unet",
    ] = choice("unet", public=True)  # fmt: skip
    """The paper uses Swin UNETR; a small convolutional network is the sane choice without a GPU. Names with `_2d`
    segment each slice by itself; `pixel_` ones come with the methods whose agents they are."""
    feature_size: int = number(8, 1, 512, "channels", public=True)
    """Channels at full resolution (paper: not stated; Swin UNETR's own default is 24, its paper's 48)."""
    levels: int = number(4, 2, 6, public=True)
    """Resolutions of the convolutional backbones."""
    depths: tuple[int, int, int, int] = number((2, 2, 2, 2), 1, 64)
    """Swin blocks a stage."""
    num_heads: tuple[int, int, int, int] = number((3, 6, 12, 24), 1, 256)
    """Attention heads a stage."""
    light_heads: bool = True
    """Value and policy decoders stop at half resolution (printed: full decoders)."""
    detach_agents: bool = True
    """No gradient from the agents into the encoder (printed: all of it)."""
    gradient_checkpointing: bool = choice(False, public=True)
    """Trade time for memory in Swin UNETR."""


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Voxel agents on image intensities (SVL-DRL section 3.3): the paper's vA3C, run synchronously, which is A2C.

    They act in `as_printed` and `corrected`; in `extended` agents act on the mask (`mask_agents`).
    """

    rollout_steps: int = number(2, 1, 50, "steps")
    """K (not stated in the paper; PixelRL uses 5)."""
    gamma: float = number(0.95, 0, 1)
    """Discount of eq. 2."""
    action_strength: float = number(0.3, 0, 1, "share of the intensity")
    """Largest relative change of an intensity, eq. 10."""
    epsilon: Literal["voxel", "volume"] = "volume"
    """epsilon ~ U(0, 1) drawn for each voxel (printed) or for each volume and step."""
    bound_to_image: bool = True
    """Keep the state within +- action_strength of the image that the episode started from."""
    temperature_transition: float = number(1.0, 0, 100)
    """Policy temperature tau in the Transition (Algorithm 1, line 9; its value is not printed)."""
    temperature_start: float = number(1.0, 0, 100)
    """tau when the RL stage begins."""
    temperature_end: float = number(0.3, 0, 100)
    """tau when it ends; 0 means argmax (Algorithm 1, line 19), and log pi at 1 (see `svl_drl.actions.log_policy`)."""
    entropy_bonus: float = number(0.01, 0, 10)
    """Weight of the policy's entropy in its loss."""
    reward: Literal["scalar", "voxel"] = "voxel"
    """One reward for the volume (eq. 11) or one a voxel (eq. 9) plus the volume's."""
    reward_scale: float = number(10.0, 0, 1e6)
    """Factor on the whole reward."""
    plausibility_sign: Literal[-1, 1] = -1
    """+1 pays for implausible masks, as eq. 11 prints; -1 charges for them."""
    plausibility: Literal["level", "difference"] = "difference"
    """C(f_t) (eq. 11) or C(f_t) - C(f_{t-1})."""
    component_weight: float = number(0.02, 0, 1e6)
    """Weight of max(N_cc - 1, 0) in eq. 13 (printed: 1)."""
    gradient_weight: float = number(0.05, 0, 1e6)
    """Weight of the total gradient in eq. 13 (printed: 1)."""
    gradient: Literal["slices", "volume"] = "volume"
    """Eq. 14 as printed, summed over slices, or isotropic in 3D relative to a ball's surface."""
    connectivity: Literal[6, 26] = 26
    """Neighbourhood of connected components."""
    smallest_component: int = number(10, 0, 10**6, "voxels")
    """Components below this many voxels do not count."""
    standardise_advantages: bool = True
    """Mean 0 and SD 1 a step, so that the reward's scale does not set the step size."""
    smooth_returns: bool = True
    """3x3x3 binomial smoothing of returns between steps: neighbours share credit (PixelRL)."""
    random_policy: bool = choice(False, control=True)
    """Control: the same rollouts with uniform actions and no agent losses."""
    closed_form: bool = choice(False, control=True)
    """Control: no policy; every voxel takes the action that lowers the label's Dice loss to first order."""
    value_weight: float = number(0.2, 0, 1)
    """alpha of eq. 7."""
    policy_weight: float = number(0.2, 0, 1)
    """beta of eq. 7."""
    transition_value_weight: float = number(0.3, 0, 1)
    """lambda of eq. 4."""
    segmentation_state: Literal["last", "both", "first"] = "both"
    """State of the segmentation loss: x^K (printed), half x^0 (what inference sees) and half x^K, or x^0 alone."""

    @property
    def learns_policy(self) -> bool:
        """False for the controls, whose actions no policy chooses."""
        return not (self.random_policy or self.closed_form)


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How weights move."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = number(2e-3, 1e-9, 10, public=True)
    """Of the first step; it falls from there, see `poly_power`."""
    weight_decay: float = number(1e-5, 0, 10)
    momentum: float = number(0.0, 0, 0.99999)
    """SGD only (not stated in the paper)."""
    poly_power: float = number(0.9, 0, 100)
    """Learning rate falls as (1 - step / steps)^power; 0 keeps it constant."""
    decay_factor: float = number(1.0, 1e-3, 1)
    """Factor on the learning rate after each eighth of the steps (PixelDRL-MG: 0.9 every 25 of 200 epochs); 1: none."""
    gradient_clip: float = number(1.0, 0, 1e9, "norm")
    """Largest gradient norm; 0 turns clipping off."""
    ema_decay: float = number(0.99, 0, 0.99999)
    """Exponential moving average of the weights, used for prediction; 0 turns it off."""
    cross_entropy_weight: float = number(0.5, 0, 1)
    """Share of cross entropy in the segmentation loss (printed, eq. 1: 0, Dice alone)."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Stages as shares of `train.steps`; 0 leaves a stage out (ablations WS, TS, WAT, FRL).

    Of `as_printed` and `corrected`, whose agents act on the image; of a compared method `warm_up` alone counts.
    `extended` has its own lengths: `train.steps`, `mask_agents.transition_steps`, `mask_agents.full_rl_steps`.
    """

    warm_up: float = number(0.35, 0, 1, "share of the steps")
    transition: float = number(0.1, 0, 1, "share of the steps")
    full_rl: float = number(0.55, 0, 1, "share of the steps")
    overlap: bool = False
    """Algorithm 1 line by line: its second `if` has the Full RL as `else`, so that this runs in the warm-up, too, and
    alone at t = t_warm. Section 3.1 says the opposite (in the warm-up the segmentation alone), which is the default."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityConfig:
    """Which labels to believe (`extended`)."""

    enabled: bool = choice(False, public=True)
    """Review the labels, and learn less from those that are probably wrong."""
    floor_mm: float = number(0.8, 0, 100, "mm")
    """Border biases closer than this cannot be told apart; scaled by spacing / 2 mm below 2 mm."""
    floor: float = number(0.02, 0, 1, "share of its turns")
    """Smallest share of its turns that a case keeps: none is dropped."""
    first_review: float = number(0.35, 0, 1, "share of the steps")
    """Share of `train.steps` after which the network first judges the labels."""
    second_review: float = number(0.6, 0, 1, "share of the steps")
    """Share of `train.steps` after which they are judged again."""
    label_agents: Literal["reinforced", "closed_form", "none"] = choice("reinforced", control=True)
    """What four or more trusted cases pay: agents whom every label must convince, too, at every review. The other two
    are controls. They read the features of an encoder, so a backbone that segments slice by slice goes without."""
    early_review: float = number(0.1, 0, 1, "share of the steps")
    """Share of all steps after which there is one review more where that many are trusted; 0: none."""
    move_borders: bool = choice(True, control=True)
    """Whether labels off the edge are learned from with their border moved back onto it: where few labels are believed,
    and as long as labels that were moved so are better than what the network draws itself."""
    edge: bool = choice(True, control=True)
    """Whether labels off the edge that the others follow in the image are suspects, from the first step on."""
    sharpness: bool = choice(True, control=True)
    """Whether labels along whose border the image's edge is blurred (rough ones, a weak network's) are suspects, from
    the first step on: where there are twenty labels or more."""
    signs: bool = choice(True, control=True)
    """Whether of ten labels or more the signs decide against which the audit judges, too: only what is more probably
    wrong than right is learned less. Fewer labels, and trusted ones, are judged by deviations."""


@dataclass(frozen=True, kw_only=True)
class MaskAgentConfig:
    """Agents that edit a mask (`extended`): refinement of rough masks and correction of labels."""

    enabled: bool = choice(False, public=True)
    """Train them, in the stages Transition and Full RL."""
    transition_steps: int = number(450, 0, 10**7, "steps", public=True)
    """Length of Transition: updates of the agents' critic and opinion (what the mask should be)."""
    full_rl_steps: int = number(100, 0, 10**7, "steps", public=True)
    """Length of Full RL: updates of their policy by A2C (policy gradient with a critic, synchronous)."""
    rollout_steps: int = number(3, 1, 20, "steps")
    """Edits a voxel may make."""
    step_size: float = number(1 / 3, 0.01, 1)
    """Change of the mask's probability by one enhance or weaken. Three steps cross from 0 to 1 and the last one to
    change the mask is taken at even odds; 0.4 would stop short (0 -> 0.4 -> keep) up to odds of 6 to 4."""
    gamma: float = number(0.95, 0, 1)
    entropy_bonus: float = number(0.02, 0, 10)
    component_weight: float = number(0.02, 0, 1e6)
    """Charge for one more fragment of the mask, in the reward (SVL-DRL eq. 13)."""
    gradient_weight: float = number(0.05, 0, 1e6)
    """Charge for a rougher mask: total gradient relative to a ball's surface (SVL-DRL eq. 14)."""
    largest_shift_mm: float = number(6.0, 0, 100, "mm", public=True)
    """Border shift of the corrupted masks, U(-this, this)."""
    roughness_mm: float = number(4.0, 0, 100, "mm", public=True)
    """Largest SD of the irregular border."""
    clean_share: float = number(0.2, 0, 1, "share of the episodes")
    """Episodes that start from the label itself: leaving a good mask alone is learned, too."""
    shift_share: float = number(0.25, 0, 1, "share of the episodes")
    """Episodes that start from an evenly shifted border (a reader's habit); the rest get a roughened one, too."""
    local_share: float = number(0.15, 0, 1, "share of the episodes")
    """Episodes that start from a label of which a part is missing, that leaks, or that lacks slices."""
    largest_local_share: float = number(0.12, 0.02, 1, "share of the structure")
    """Share of the structure that a missing part takes at most."""
    prediction_share: float = number(0.1, 0, 1, "share of the episodes")
    """Episodes that start from a model's (earlier) prediction."""
    feature_size: int = number(8, 8, 512, "channels")
    trunk_resolution: Literal["half", "full"] = "half"
    """Where the trunk sees: at half resolution with one convolution at full (a third of the time), or at full (0.1)."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how many, where."""

    steps: int = number(600, 1, 10**8, "steps", public=True)
    """Optimiser steps of the segmentation network: `extended`'s Warm-up, else all stages together."""
    batch_size: int = number(2, 1, 1024, "patches", public=True)
    """Patches a step (paper: 1; on CPUs two small patches cost no more than one, see `cpu_convolutions`)."""
    steps_per_epoch: int = number(50, 1, 10**6, "steps")
    """Steps between two rows of metrics."""
    validate_every: int = number(100, 1, 10**8, "steps", public=True)
    """Steps between two validations on held-out cases."""
    seed: int = number(0, 0, LARGEST_SEED, public=True)
    """Of all random draws: the same seed on the same machine gives the same model."""
    device: str = choice("auto", public=True)
    """`auto` (CUDA, else MPS, else CPU), `cpu`, `cuda`, `cuda:1`, `mps`."""
    threads: int = number(0, 0, 1024, public=True)
    """CPU threads; 0 leaves it to torch."""
    precision: Literal["float32", "bfloat16"] = choice("float32", public=True)
    """Autocast of the forward passes; bfloat16 is for GPUs."""
    actor_learners: int = number(0, 0, 64, "processes")
    """Of the stages with agents: this many learn beside one another on shared weights, without waiting (vA3C; CPU and
    Linux only). 0: one process learns, in step (A2C)."""
    most_non_finite: int = number(5, 1, 10**6, "steps")
    """Training stops after this many non-finite losses in a row."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All of it."""

    preset: str = "general"
    about: str = ""
    """What the preset is for, in a sentence."""
    variant: Literal["as_printed", "corrected", "extended"] = "extended"
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    agents: AgentConfig = field(default_factory=AgentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    stages: StageConfig = field(default_factory=StageConfig)
    reliability: ReliabilityConfig = field(default_factory=ReliabilityConfig)
    mask_agents: MaskAgentConfig = field(default_factory=MaskAgentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    method_settings: dict[str, bool | int | float | str | None] = field(default_factory=dict)
    """Hyper-parameters of a compared method, e.g. {"forget_rate": 0.2}; see the method's file."""

    def __post_init__(self) -> None:
        check_fields(self)
        require_fitting_together(self)


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files(__package__) / "presets"
    return sorted(p.name.removesuffix(".json") for p in folder.iterdir() if p.name.endswith(".json"))


def is_preset_file(preset: str) -> bool:
    """Whether a preset is a file of the user's: `presets/` has names without an ending."""
    return preset.lower().endswith(".json")


def name_of_preset(preset: str) -> str:
    """What the config, and so the model card, calls it: a preset's own name, or the name of the user's file."""
    return Path(preset).name if is_preset_file(preset) else preset


def _preset_layer(preset: str, variant: str) -> dict[str, Any]:
    """The settings of a preset; those in a user's file have been looked at by themselves, so that errors name it."""
    if not is_preset_file(preset):
        if preset not in preset_names():
            do = f"Use one of {preset_names()}, or a JSON file of settings"
            raise InputError(f"preset {preset!r}", "there is none of that name", do)
        return json.loads((resources.files(__package__) / "presets" / f"{preset}.json").read_text("utf-8"))
    layer = read_overrides(preset)
    layer.pop("preset", None)
    meant = layer.pop("variant", variant)
    if meant != variant:
        why = f"it was made for the variant {meant!r}, and {variant!r} is asked for"
        raise InputError(f"preset {preset}", why, "Ask for its variant, or take the line out of the file")
    try:
        build(Config, renamed_settings(layer))
    except InputError as error:
        raise InputError(f"preset {preset}", f"{error.what}: {error.why}", error.do) from error
    return layer


def load_config(
    preset: str = "general",
    variant: str = "extended",
    overrides: dict[str, Any] | None = None,
    of_method: Mapping[str, Any] | None = None,
) -> Config:
    """A preset in a variant, with overrides such as {"train": {"steps": 100}} laid over both.

    `preset` is one of `preset_names()`, or a JSON file of settings (its name ends in .json).

    This is SVL-DRL's; for another method see `training.registry.load_method_config`, which tells what it lays over the
    variant (`of_method`).

    Raises:
        InputError: an unknown preset, variant or key, or a value out of range, by name.
    """
    if variant not in VARIANTS:
        raise InputError(f"variant {variant!r}", "there is none of that name", f"Use one of {list(VARIANTS)}")
    tree: dict[str, Any] = {"preset": name_of_preset(preset), "variant": variant}
    asked = renamed_settings(overrides or {})
    for layer in (_preset_layer(preset, variant), VARIANTS[variant], of_method or {}):
        tree = merge(tree, renamed_settings(layer))
    return build(Config, merge(fitting_backbone(tree, asked, of_method or {}), asked))


def config_from_dict(tree: dict[str, Any]) -> Config:
    """The config that a dictionary (a model package's config.json) describes; names of older versions are known."""
    return build(Config, migrated_settings(tree))


def config_to_dict(config: Config) -> dict[str, Any]:
    """Plain types only, ready for JSON."""
    return json.loads(json.dumps(asdict(config)))


def read_overrides(path: Path | str) -> dict[str, Any]:
    """A JSON file of overrides."""
    return read_json_object(Path(path), 'Write {"train": {"steps": 100}}')


def with_values(config: Config, **sections: dict[str, Any]) -> Config:
    """A copy with some fields changed: `with_values(config, train={"steps": 10})`."""
    changed = {name: replace(getattr(config, name), **values) for name, values in sections.items()}
    return replace(config, **changed)
