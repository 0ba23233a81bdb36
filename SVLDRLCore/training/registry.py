"""All training methods by the names that `svldrl train --method` takes. A new method is one file and one line here.

What tells of them (help, docs, the Train panel's list) reads this table, without torch: a method's own file is
imported when it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from SVLDRLCore.config.building import build
from SVLDRLCore.config.settings import Config, load_config
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.method_words import MethodWords

if TYPE_CHECKING:
    from SVLDRLCore.learning.method import Method, MethodInput


@dataclass(frozen=True)
class Listed:
    """A method in the table.

    Attributes:
        place: its class, as "module:class".
        variants: that of a variant, where `--variant` chooses between forms of the method and it has its own.
        on_slices: its networks segment slices one by one; a preset for slices suits it best.
    """

    words: MethodWords
    place: str
    variants: Mapping[str, str] = field(default_factory=dict)
    on_slices: bool = False

    @property
    def has_variants(self) -> bool:
        """Whether `--variant` chooses between forms of it."""
        return bool(self.variants)

    def load(self, variant: str = "extended") -> type[Method]:
        """Its class."""
        module, _, name = self.variants.get(variant, self.place).partition(":")
        return cast("type[Method]", getattr(import_module(module), name))


def _compared(title: str, reference: str, handling: str, place: str) -> Listed:
    return Listed(MethodWords(title, handling, reference), f"SVLDRLCore.baselines.{place}")


def _on_pixels(title: str, reference: str, handling: str, place: str) -> Listed:
    return Listed(MethodWords(title, handling, reference), f"SVLDRLCore.pixel_drl.{place}", on_slices=True)


DEFAULT = "svl_drl"
METHODS: dict[str, Listed] = {
    "svl_drl": Listed(
        MethodWords(
            "staged voxel-level deep reinforcement learning (SVL-DRL)",
            "Agents in every voxel are rewarded for agreement with the labels and for plausible masks.",
            "Fu 2026",
        ),
        "SVLDRLCore.svl_drl.method:SVLDRL",
        {"extended": "SVLDRLCore.training.extended:Extended"},
    ),
    "pixel_drl": Listed(
        MethodWords(
            "pixel-level deep reinforcement learning (PixelDRL-MG)",
            "An agent in each pixel of a slice keeps it or sets it to background, step by step, and is paid for coming "
            "nearer to the label.",
            "Liu 2025",
        ),
        "SVLDRLCore.pixel_drl.method:PixelDRL",
        {
            "extended": "SVLDRLCore.pixel_drl.method:PixelDRL",
            "corrected": "SVLDRLCore.pixel_drl.method:PixelDRLCorrected",
            "as_printed": "SVLDRLCore.pixel_drl.method:PixelDRLAsPrinted",
        },
        on_slices=True,
    ),
    "pixel_rl": _on_pixels(
        "agents that adjust a coarse map (PixelRL)",
        "Furuta 2019",
        "Agents in the pixels add to and take from the probabilities of a U-Net.",
        "pixel_rl:PixelRL",
    ),
    "actor_critic": _on_pixels(
        "actor-critic in each pixel",
        "Konda 2000",
        "Policy and value are decoders of a U-Net, and learn from one step at a time.",
        "unet_actor_critic:UNetActorCritic",
    ),
    "dqn": _on_pixels(
        "deep Q-learning in each pixel",
        "Mnih 2015",
        "A U-Net predicts what setting and keeping a pixel will earn.",
        "deep_q:DQN",
    ),
    "double_dqn": _on_pixels(
        "double deep Q-learning in each pixel",
        "van Hasselt 2016",
        "As deep Q-learning; the network chooses the next action, its moving average tells what that is worth.",
        "deep_q:DoubleDQN",
    ),
    "dueling_dqn": _on_pixels(
        "dueling deep Q-learning in each pixel",
        "Wang 2016",
        "As deep Q-learning; the value of a state and the advantages of its actions are predicted apart.",
        "deep_q:DuelingDQN",
    ),
    "supervised": _compared(
        "plain supervised training", "", "Every label is learned from as it is.", "supervised:Supervised"
    ),
    "loss_correction": _compared(
        "forward loss correction",
        "Patrini 2017",
        "The loss is corrected by an estimated matrix of how classes are mislabelled.",
        "loss_correction:LossCorrection",
    ),
    "co_teaching": _compared(
        "Co-Teaching",
        "Han 2018",
        "Two networks; each leaves out the voxels that the other finds hardest to fit.",
        "co_teaching:CoTeaching",
    ),
    "mtcl": _compared(
        "mean-teacher-assisted confident learning",
        "MTCL, Xu 2022",
        "Labels that contradict a confident teacher are softened.",
        "mtcl:MTCL",
    ),
    "adele": _compared(
        "adaptive early-learning correction",
        "ADELE, Liu 2022",
        "Once a class is being memorised, its labels are replaced by the teacher where that is confident.",
        "adele:ADELE",
    ),
    "jcas": _compared(
        "joint class-affinity segmentation",
        "JCAS, Guo & Yuan 2022",
        "Learned matrices of how classes, and pairs of places, are mislabelled correct the loss.",
        "jcas:JCAS",
    ),
    "rsf_assisted": _compared(
        "label correction assisted by region-scalable fitting",
        "RSF, Liu 2024",
        "Labels that contradict a confident teacher are corrected where the intensities agree.",
        "rsf_assisted:RSFAssisted",
    ),
    "clcs": _compared(
        "collaborative learning with curriculum selection",
        "CLCS, Guo 2025",
        "Voxels whose label two decoders outvote are learned from with a noise-balanced loss.",
        "clcs:CLCS",
    ),
}


def _adapting(title: str, reference: str, handling: str, place: str) -> Listed:
    return Listed(MethodWords(title, handling, reference), f"SVLDRLCore.adaptation.{place}")


ADAPTING = "matched_self_training"
"""What `svldrl adapt` takes if no method is asked for: the one that did best for its time."""
ADAPTATIONS: dict[str, Listed] = {
    ADAPTING: _adapting(
        "self-training in matched grey values",
        "",
        "Half of the labelled images get the grey values of the others; all that the teacher predicts is learned from.",
        "compared:MatchedSelfTraining",
    ),
    "pseudo_label_purification": _adapting(
        "reinforcement-guided pseudo-label purification",
        "after an abstract, 2025",
        "As the first; an agent sets for each region how strongly it is learned from. Not shown to be better.",
        "method:PseudoLabelPurification",
    ),
    "source_only": _adapting(
        "training on the labelled images alone",
        "",
        "Images without labels are not looked at: the floor.",
        "compared:SourceOnly",
    ),
    "self_training": _adapting(
        "plain self-training",
        "Lee 2013",
        "All that the teacher predicts in images without labels is learned from.",
        "compared:SelfTraining",
    ),
    "fixed_thresholds": _adapting(
        "self-training above a fixed threshold",
        "after FPL+, Wu 2024",
        "Voxels of which the teacher is sure are learned from.",
        "compared:FixedThresholds",
    ),
    "entropy_minimisation": _adapting(
        "entropy minimisation",
        "Vu 2019",
        "Undecided predictions in images without labels cost.",
        "compared:EntropyMinimisation",
    ),
    "mean_teacher": _adapting(
        "mean teacher",
        "Perone 2019",
        "In images without labels the network agrees with its moving average.",
        "compared:AdaptingMeanTeacher",
    ),
    "fourier_appearance": _adapting(
        "Fourier appearance transfer",
        "FDA, Yang 2020",
        "Labelled images are learned from with the low frequencies of images without labels.",
        "compared:FourierAppearance",
    ),
    "histogram_matching": _adapting(
        "histogram matching",
        "",
        "Labelled images are learned from with the grey values of images without labels.",
        "compared:HistogramMatching",
    ),
}
"""What `svldrl adapt --method` takes: methods that need images without labels."""


def listed_method(name: str) -> Listed:
    """The line of that name, in either table.

    Raises:
        InputError: there is none.
    """
    found = METHODS.get(name) or ADAPTATIONS.get(name)
    if found is None:
        raise InputError(f"method {name!r}", "there is none of that name", f"Use one of {', '.join(METHODS)}")
    return found


def require_trainable(name: str) -> None:
    """InputError for a method that needs images without labels."""
    if name in ADAPTATIONS:
        raise InputError(f"method {name!r}", "it learns from images without labels, too", "Use `svldrl adapt`")


def require_adapting(name: str) -> None:
    """InputError for a method that does not adapt to images without labels."""
    if name not in ADAPTATIONS:
        raise InputError(f"method {name!r}", "no adapting method has that name", f"Use one of {', '.join(ADAPTATIONS)}")


def method_named(name: str, variant: str = "extended") -> type[Method]:
    """The method of that name, in a variant if it has any.

    Raises:
        InputError: there is none.
    """
    return listed_method(name).load(variant)


def methods_as_text(table: Mapping[str, Listed] = METHODS) -> str:
    """Names and titles of all methods, for help texts."""
    return "; ".join(f"{name}: {listed.words.named}" for name, listed in table.items())


def load_method_config(
    method: str = DEFAULT,
    preset: str = "general",
    variant: str = "extended",
    overrides: dict[str, Any] | None = None,
) -> Config:
    """The settings of a method's training: the preset, the variant, what the method lays over it, then `overrides`.

    The one place where they are put together, for `svldrl train` as for the rows of a benchmark: nothing of SVL-DRL
    acts in another method unless `overrides` turn it on by name.

    Raises:
        InputError: an unknown method, preset, variant or setting, or a value that cannot be used, by name.
    """
    kind = method_named(method, variant)
    config = load_config(preset, variant, overrides, kind.over_the_variant)
    require_own_settings(method, config)
    require_backbone(method, config)
    if kind.acts_on_image and config.mask_agents.enabled:
        why = f"the agents of {variant} act on the image, and the stages can train only the ones or the others"
        raise InputError("setting mask_agents.enabled", why, "Leave it out, or use the variant extended")
    return config


def require_own_settings(name: str, config: Config) -> None:
    """InputError for `method_settings` that the method does not have, or whose values cannot be used."""
    kind = method_named(name, config.variant).own_settings
    if kind is not None:
        build(kind, dict(config.method_settings), "method_settings.")
    elif config.method_settings:
        unknown = next(iter(config.method_settings))
        raise InputError(
            f"setting method_settings.{unknown}", f"{name} takes its settings elsewhere", "Remove it, or see agents"
        )


def require_backbone(name: str, config: Config) -> None:
    """InputError where the method cannot train the backbone that the settings name."""
    known, asked = method_named(name, config.variant).backbones, config.network.backbone
    if asked not in known:
        why = f"{asked} is no network that {name} ({config.variant}) can train"
        raise InputError("setting network.backbone", why, f"Use one of {', '.join(known)}")


def require_drawn(name: str, variant: str, partly: Sequence[str]) -> None:
    """InputError where structures are missing in cases (`partly`, by name) and the method cannot learn from those."""
    if partly and not method_named(name, variant).learns_partly:
        able = [f"{n} ({v})" for n, line in METHODS.items() for v in ("extended",) if line.load(v).learns_partly]
        why = f"{name} ({variant}) cannot learn from cases of which structures are missing: {', '.join(partly[:6])}"
        raise InputError(f"method {name!r}", why, f"Use {' or '.join(able)}, complete the labels, or remove the cases")


def make_method(name: str, given: MethodInput) -> Method:
    """The method of that name.

    Raises:
        InputError: an unknown name, or settings that the method does not have.
    """
    require_own_settings(name, given.config)
    require_backbone(name, given.config)
    return method_named(name, given.config.variant)(given)


def card_words(name: str, config: Config) -> MethodWords:
    """What a model card says of a method with these settings."""
    return method_named(name, config.variant).card_words(listed_method(name).words, config)
