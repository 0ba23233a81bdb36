"""The model card: what a model is for, how it was made, how good it is, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from SVLDRLCore.learning.method_words import MethodWords

ADDED = {"reliability": "label reliability", "mask_agents": "mask agents"}
"""What settings add to a method, whichever it is -> how the card calls it."""

EACH_OWN = "that of each image"
"""Instead of a spacing, or of a slice distance that is kept (0)."""

INTENDED_USE = """\
Research: segmentation of the structures below in images like the training images, and refinement of rough
masks of them. Each result is to be looked at by somebody who knows the anatomy."""

LIMITS = """\
For research use; not a medical device, and not cleared for diagnosis or treatment. Images from other
scanners, protocols, resolutions or patients than those trained on can give wrong results that look right.
Where the labels share one systematic error, the model can have learned it."""

CITATIONS = """\
- YuYang Fu, XiuZhen Guo, Ji Shi: *Staged Voxel-Level Deep Reinforcement Learning for 3D Medical Image
  Segmentation with Noisy Annotations*. arXiv:2601.03875, 2026.
- Yunxin Liu, Di Yuan, Zhenghua Xu, Yuefu Zhan, Hongwei Zhang, Jun Lu, Thomas Lukasiewicz: *Pixel level deep
  reinforcement learning for accurate and robust medical image segmentation*. Scientific Reports,
  2025, doi:10.1038/s41598-025-92117-2."""


def write_model_card(
    config: Mapping[str, Any],
    labels: Mapping[int, Mapping[str, Any]],
    words: MethodWords,
    training: Mapping[str, Any],
    numbers: Mapping[str, Any],
    warnings: Sequence[str] = (),
) -> str:
    """A model card in markdown.

    Args:
        config: the package's `config.json`; `preset`, `data` and what was added are read if there.
        labels: the package's labels.
        words: those of the method that made it.
        training: what it was trained on and how long, e.g. {"cases": 80, "steps": 600, "minutes": 12.5}.
        numbers: results, e.g. {"Dice on 10 held-out cases": 0.91}; they are printed as they are.
        warnings: what a user should know before trusting the model.
    """
    names = ", ".join(str(label.get("name", value)) for value, label in labels.items())
    made_by = words.named
    added = [name for section, name in ADDED.items() if _section(config, section).get("enabled")]
    if added:
        made_by += f", with {' and '.join(added)} added"
    noise = words.handling
    if _section(config, "reliability").get("enabled"):
        noise += " Cases whose labels look unreliable weigh less."
    sections = {
        "Intended use": INTENDED_USE,
        "Structures": _table(
            ("value", "name", "colour (RGB, 0 to 1)"),
            [(value, label.get("name", ""), _color(label.get("color"))) for value, label in labels.items()],
        ),
        "Data": _list(
            {
                **{str(key): item for key, item in training.items()},
                "voxel spacing x, y, z (mm)": _spacing(_section(config, "data").get("spacing_mm")),
                "preset": config.get("preset", "not stated"),
            }
        ),
        "Method": _sentence(made_by),
        "Noisy labels": noise,
        "Numbers": _list(numbers) if numbers else "None were measured: treat the model as untested.",
        "Warnings": "\n".join(f"- {_one_line(text)}" for text in warnings) or "None.",
        "Limits": LIMITS,
        "Citation": CITATIONS,
    }
    parts = [f"# Segmentation of {_one_line(names)}"]
    parts += [f"## {name}\n\n{text}" for name, text in sections.items()]
    return "\n\n".join(parts) + "\n"


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _list(items: Mapping[str, Any]) -> str:
    return "\n".join(f"- {_one_line(key)}: {_one_line(_number(item))}" for key, item in items.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(item) for item in line) + " |" for line in lines)


def _cell(item: Any) -> str:
    return _one_line(item).replace("|", "\\|")


def _one_line(item: Any) -> str:
    """Names come from files of others: no line of theirs becomes a heading, and no tag reaches a viewer."""
    return " ".join(str(item).split()).replace("<", "&lt;").replace(">", "&gt;")


def _number(item: Any) -> str:
    return f"{item:.4g}" if isinstance(item, float) else str(item)


def _color(color: Any) -> str:
    return " ".join(f"{part:.2f}" for part in color) if color else ""


def _spacing(spacing: Any) -> str:
    return " ".join(f"{part:g}" if part else EACH_OWN for part in spacing) if spacing else EACH_OWN


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
