"""The house as one picture, drawn from the imports as they are, anew at each build.

A box is a room (a folder of SVLDRLCore, the modules beside them as one). A room imports only from rooms below it. An
arc leads from a room to one that it needs; what follows from other arcs is left out.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Set
from dataclasses import dataclass
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

CORE = Path(__file__).resolve().parents[2] / "SVLDRLCore"
GROUND = "the ground"
"""Modules beside the rooms: errors, events, files written safely."""
ROOF = ("cli", "__main__", "__init__", "warm_worker")
"""They collect what the rooms offer, and are no room."""

WIDTH, BOX_LEFT, BOX_HEIGHT, GAP, TOP = 800, 170, 40, 12, 96
COLOURS = {"box": "#eef4f6", "line": "#2b7a86", "arc": "#8fb8bf", "text": "#1d2b2f", "pale": "#5c7278"}


@dataclass(frozen=True)
class Room:
    """A folder of the core: what it says of itself, its size, and which rooms it imports."""

    name: str
    about: str
    files: int
    lines: int
    needs: frozenset[str]


def rooms() -> list[Room]:
    """All rooms from the ground up, each above those that it imports."""
    found: dict[str, list[Path]] = {}
    for path in sorted(CORE.rglob("*.py")):
        if "__pycache__" not in path.parts and room_of(path.relative_to(CORE)) not in ROOF:
            found.setdefault(room_of(path.relative_to(CORE)), []).append(path)
    made = [_room(name, paths, set(found)) for name, paths in found.items()]
    return _from_the_ground_up({room.name: room for room in made})


def room_of(relative: Path) -> str:
    """The room of a file, or of a module's path below the core."""
    first = relative.parts[0]
    if (CORE / first).is_dir():
        return first
    name = first.removesuffix(".py")
    return name if name in ROOF else GROUND


def _room(name: str, paths: list[Path], known: Set[str]) -> Room:
    texts = [path.read_text("utf-8") for path in paths]
    start = CORE / name / "__init__.py"
    about = ast.get_docstring(ast.parse(start.read_text("utf-8"))) if start.is_file() else None
    about = (about or "Errors, events, jobs, and files that are written whole or not at all.").split("\n")[0]
    needs = {room for path, text in zip(paths, texts) for room in _imported(path, text)} - {name}
    return Room(name, about, len(paths), sum(text.count("\n") for text in texts), frozenset(needs & set(known)))


def _imported(path: Path, text: str) -> set[str]:
    package = path.relative_to(CORE.parent).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            targets = [(*module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [tuple(alias.name.split(".")) for alias in node.names]
        else:
            continue
        found |= {room_of(Path(*parts[1:])) for parts in targets if parts[0] == CORE.name and len(parts) > 1}
    return found


def _from_the_ground_up(of: Mapping[str, Room]) -> list[Room]:
    done: list[Room] = []
    left = dict(of)
    while left:
        ready = [room for room in left.values() if not room.needs & left.keys()]
        if not ready:
            raise ValueError(f"rooms import each other in a circle: {sorted(left)}")
        done += sorted(ready, key=lambda room: (len(room.needs), room.name))
        left = {name: room for name, room in left.items() if room not in ready}
    return done


def direct_needs(all_rooms: list[Room]) -> dict[str, set[str]]:
    """Of each room the imports that do not follow from its other imports."""
    beneath: dict[str, set[str]] = {}
    for room in all_rooms:
        beneath[room.name] = set(room.needs).union(*(beneath[name] for name in room.needs))
    return {room.name: {n for n in room.needs if not any(n in beneath[m] for m in room.needs)} for room in all_rooms}


def drawn(all_rooms: list[Room]) -> str:
    """The picture as SVG, the ground at the bottom."""
    step = BOX_HEIGHT + GAP
    height = TOP + len(all_rooms) * step + 16
    middle = {room.name: height - 16 - BOX_HEIGHT / 2 - i * step for i, room in enumerate(all_rooms)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif"><title>The rooms of SVLDRLCore</title>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for name, needed in direct_needs(all_rooms).items():
        for other in sorted(needed):
            start, end = middle[name], middle[other]
            far = BOX_LEFT - 24 - 26 * ((end - start) / step) ** 0.8
            parts.append(
                f'<path d="M{BOX_LEFT} {start:.0f} C{far:.0f} {start + 4:.0f} {far:.0f} {end - 4:.0f} '
                f'{BOX_LEFT - 5} {end:.0f}" fill="none" stroke="{COLOURS["arc"]}" stroke-width="1.6"/>'
                f'<path d="M{BOX_LEFT} {end:.0f} l-9 -4 v8 z" fill="{COLOURS["line"]}"/>'
            )
    parts += _box(8, 10, WIDTH - 16, 62, "SVLDRLSegmentation: the module of 3D Slicer", "", dashed=True)
    parts.append(
        _text(24, 58, "No torch. It starts each command as a process of its own and reads its events, a line each.", 13)
    )
    for room in all_rooms:
        size = f"{room.files} files, {room.lines:,} lines"
        y = middle[room.name] - BOX_HEIGHT / 2
        parts += _box(BOX_LEFT, y, WIDTH - BOX_LEFT - 8, BOX_HEIGHT, room.name, size)
        parts.append(_text(BOX_LEFT + 14, y + 32, _short(room.about), 11.5, COLOURS["pale"]))
    return "\n".join([*parts, "</svg>", ""])


def _short(text: str, most: int = 96) -> str:
    return text if len(text) <= most else text[: most - 3].rsplit(" ", 1)[0] + " ..."


def _box(x: float, y: float, width: float, height: float, name: str, size: str, dashed: bool = False) -> list[str]:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return [
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6" fill="{COLOURS["box"]}" '
        f'stroke="{COLOURS["line"]}"{dash}/>',
        _text(x + 14, y + (24 if dashed else 16), name, 14, weight="600"),
        _text(x + width - 14, y + 16, size, 11, COLOURS["pale"], anchor="end"),
    ]


def _text(
    x: float,
    y: float,
    text: str,
    size: float,
    colour: str = COLOURS["text"],
    weight: str = "400",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


class House(SphinxDirective):
    """The picture itself, inside the page."""

    def run(self) -> list[nodes.Node]:
        picture = nodes.raw("", drawn(rooms()), format="html")
        return [picture]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("house", House)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
