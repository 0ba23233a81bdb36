"""Directives that ask the program itself, so that these tables are never stale.

`{commands}` all commands with their options; `{settings}` the settings with default, range and meaning; `{presets}`,
`{methods}`, `{adaptations}`, `{variants}` what they hold; `{functions}` the public Python functions and their results;
`{method-base}`, `{method-protocol}`, `{errors}` the code itself.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import SVLDRLCore
from SVLDRLCore.cli import build_parser
from SVLDRLCore.config.described import described
from SVLDRLCore.config.settings import VARIANTS, load_config, preset_names
from SVLDRLCore.training.registry import ADAPTATIONS, METHODS


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


class Generated(SphinxDirective):
    """Markdown that a method makes, parsed where the directive stands."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(self.markdown(), allow_section_headings=True)

    def markdown(self) -> str:
        raise NotImplementedError


class Commands(Generated):
    def markdown(self) -> str:
        parser = build_parser()
        return "\n".join(_command(name, sub) for name, sub in _subcommands(parser))


def _subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            choices = getattr(action, "_name_parser_map", action.choices)
            yield from choices.items()


def _command(name: str, sub: argparse.ArgumentParser) -> str:
    rows = []
    for action in sub._actions:
        if action.dest in ("help", "config", "print_config") or action.help == argparse.SUPPRESS:
            continue
        flag = ", ".join(f"`{text}`" for text in action.option_strings) or f"`{action.dest}`"
        default = action.default
        told = (
            "needed" if action.required else "" if default in (None, [], False, argparse.SUPPRESS) else f"`{default}`"
        )
        rows.append((flag, told, (action.help or "").replace("%(default)s", str(default))))
    usage = f"svldrl {name} " + " ".join(
        action.dest.upper() if action.required else f"[{action.dest.upper()}]"
        for action in sub._actions
        if not action.option_strings
    )
    return f"## {name}\n\n{sub.description or ''}\n\n```text\n{usage.strip()} [options]\n```\n\n" + table(
        ("argument", "default", "meaning"), rows
    )


class Settings(Generated):
    """`{settings} public` or `{settings} rest`, with the defaults of the variant `extended`."""

    required_arguments = 1

    def markdown(self) -> str:
        public = self.arguments[0] == "public"
        groups: dict[str, list[tuple[Any, ...]]] = {}
        for each in described(load_config()):
            section, dot, _ = each.name.partition(".")
            if dot and each.public == public:
                meaning = f"{each.meaning} For experiments only." if each.control else each.meaning
                row = (f"`{each.name}`", f"`{_shown(each.value)}`", f"{each.range} {each.unit}", meaning)
                groups.setdefault(section, []).append(row)
        head = ("setting", "default", "values", "meaning")
        return "\n".join(f"### {section}\n\n{table(head, rows)}" for section, rows in groups.items())


def _shown(value: Any) -> str:
    return json.dumps(round(value, 4) if isinstance(value, float) else value)


class Presets(Generated):
    def markdown(self) -> str:
        rows = []
        for name in preset_names():
            config = load_config(name)
            grid = config.data.spacing_mm
            rows.append(
                (
                    f"`{name}`",
                    config.about,
                    config.network.backbone,
                    "of the image" if grid is None else " x ".join(f"{mm:g}" for mm in grid),
                    " x ".join(str(n) for n in config.data.patch_size),
                    config.train.steps,
                )
            )
        return table(("preset", "for", "network", "grid in mm", "patch (d, h, w)", "steps"), rows)


class Methods(Generated):
    def markdown(self) -> str:
        rows = [(f"`{name}`", listed.words.named, listed.words.handling) for name, listed in METHODS.items()]
        return table(("`--method`", "method", "what it does about wrong labels"), rows)


class Adaptations(Generated):
    def markdown(self) -> str:
        rows = [(f"`{name}`", listed.words.named, listed.words.handling) for name, listed in ADAPTATIONS.items()]
        return table(("`--method`", "method", "what it does with images without labels"), rows)


class Variants(Generated):
    def markdown(self) -> str:
        names = list(VARIANTS)
        keys = sorted({(group, key) for tree in VARIANTS.values() for group in tree for key in tree[group]})
        configs = {name: load_config("general", name) for name in names}
        rows = [
            (
                f"`{group}.{key}`",
                *(f"`{json.dumps(getattr(getattr(configs[name], group), key))}`" for name in names),
            )
            for group, key in keys
        ]
        return table(("setting", *(f"`{name}`" for name in names)), rows)


class Functions(SphinxDirective):
    """autodoc of each public function, and of the class that it returns."""

    def run(self) -> list[nodes.Node]:
        names = [name for name in SVLDRLCore.__all__ if name.islower() and not name.startswith("_")]
        lines = []
        for name in names:
            function = getattr(SVLDRLCore, name)
            lines += [f"## {name}", "", "```{eval-rst}", f".. autofunction:: SVLDRLCore.{name}"]
            for kind in _returned(function):
                lines += ["", f".. autoclass:: {kind.__module__}.{kind.__qualname__}()", "   :members:"]
            lines += ["```", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class MethodBase(SphinxDirective):
    """The class where a new method begins."""

    def run(self) -> list[nodes.Node]:
        return [_code(inspect.getsource(METHODS["supervised"].load().__mro__[1]))]


class MethodProtocol(SphinxDirective):
    """What the trainer asks of a method."""

    def run(self) -> list[nodes.Node]:
        from SVLDRLCore.learning.method import Method  # imports torch

        return [_code(inspect.getsource(Method))]


class Errors(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        text = "```{eval-rst}\n.. autoexception:: SVLDRLCore.InputError\n```"
        return self.parse_text_to_nodes(text)


def _code(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="python")


def _returned(function: Any) -> list[type]:
    hint = get_type_hints(function).get("return")
    kinds = [hint, *getattr(hint, "__args__", ())]
    return [kind for kind in kinds if is_dataclass(kind)]


def setup(app: Sphinx) -> dict[str, bool]:
    for name, directive in (
        ("commands", Commands),
        ("settings", Settings),
        ("presets", Presets),
        ("methods", Methods),
        ("adaptations", Adaptations),
        ("variants", Variants),
        ("functions", Functions),
        ("method-base", MethodBase),
        ("method-protocol", MethodProtocol),
        ("errors", Errors),
    ):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
