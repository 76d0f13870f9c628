"""Code in the documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level."""
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def blocks(text: str, language: str | None = None) -> list[Block]:
    """The blocks of a text, in order."""
    found = [Block(m[1], m[2]) for m in _BLOCK.finditer(text)]
    return [b for b in found if language in (None, b.language)]


def read(name: str) -> str:
    """A document."""
    return (ROOT / name).read_text(encoding="utf-8")
