"""The pages of the documentation, and what stands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}|:{3,})\s*(?P<language>[^\n]*)\n(?P<text>.*?)^ *(?P=fence) *$", re.M | re.S
)


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its language, its text, and the line that it starts in."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """README, the pages at the root that the site shows, and all pages of the site."""
    site = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *site]


def snippets(page: Path) -> list[Snippet]:
    """All fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Snippet(found["language"].strip(), found["text"], text.count("\n", 0, found.start()) + 1)
        for found in FENCE.finditer(text)
    ]


def prose(page: Path) -> list[str]:
    """The sentences of a page: without code, tables, headings, pictures, addresses and marks."""
    text = FENCE.sub("\n\n", page.read_text("utf-8"))
    text = re.sub(r"^(\|.*|#.*|<.*>|---|\([\w-]+\)=)$", "", text, flags=re.M)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\{\w+\}(?=`)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"<[^>\n]+>", "", text)
    text = re.sub(r"^ *([-*]|\d+\.|:) +", "\n\n", text, flags=re.M)
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        words = " ".join(paragraph.replace("**", "").replace("*", "").split())
        found += [each for each in re.split(r"(?<=[.!?])[\"')]*\s+", words) if each]
    return found
