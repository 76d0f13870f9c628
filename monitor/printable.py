"""Texts from events as people may see them: nothing in them moves the cursor, hides, or becomes a formula.

Pure. Names come from whoever writes to the topics: they may hold terminal escapes or right-to-left marks.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_HIDDEN: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))  # controls, formats, surrogates, separators of lines
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """Return a text with characters that are not shown as themselves written as their escapes.

    A line feed becomes ``\\n``, the escape character ``\\x1b``.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _HIDDEN else c for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def cell(text: str) -> str:
    """Return a printable text that a spreadsheet takes for a text: what looks like a formula gets an apostrophe."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
