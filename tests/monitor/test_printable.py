"""Texts from events are shown as they are, and do nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.printable import cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("load", "load"),
        ("größe 尺寸", "größe 尺寸"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202eabc", "\\u202eabc"),
        ("\ud800", "\\ud800"),
        ("\x9b2J", "\\x9b2J"),
    ],
)
def test_what_is_no_character_to_look_at_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_nothing_that_moves_the_cursor_is_left(text: str) -> None:
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in printable(text))
    printable(text).encode()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_cell_that_looks_like_a_formula_is_a_text(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert cell("v1.2") == "v1.2"
