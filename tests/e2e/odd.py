"""Odd values for fuzzing: numbers, texts and bytes that somebody once sent, and what a fault is."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

NUMBERS: Final = (
    0, -0.0, 1, -1, 0.5, 5e-324, 1.7976931348623157e308, -1e200, 2**31, 2**53, -(2**53), 2**53 + 1, 2**63, 2**64,
    10**300, 1e-9, 1.0000001, 1_700_000_000, 1_700_000_000_000,
)  # fmt: skip
TEXTS: Final = (
    "", " ", "a", "0", "1.0", "true", "NaN", "nan", "null", "None", "yes", "v1", "__proto__", "score", "prediction",
    "rules", "previous", "\0", "\x1b[2J\x1b]0;x\x07", "\x7f", "\n", '"', "\\", "<script>alert(1)</script>", "'; --",
    "=1+1", "{}", "[x]", "%s%n", "${HOME}", "../..", "\u2028", "\ufeff", "\u202e", "é" * 300, "😀" * 257, "x" * 9_000,
    "\ud800",
)  # fmt: skip
# Written as they are: no JSON library would write them.
VERBATIM: Final = (
    "1e999", "-1e999", "NaN", "-Infinity", "1" * 5_000, "0." + "1" * 4_000, "1e-999", "01", "+1", ".5", "1.", "0x10",
    "-", "1e", "[" * 99 + "]" * 99, "[" * 5_000, "{" * 3, '"\\ud800"', '"\\x"', "'a'", "tru", ",",
)  # fmt: skip


class Verbatim(str):
    """A part of a document that is written as it is."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that may not be, and the input that did it."""

    what: str
    input: bytes
    seed: int = 0

    def of_seed(self, seed: int) -> Fault:
        """The same, with the seed of its round."""
        return replace(self, seed=seed)


def value(chance: random.Random, depth: int = 0) -> Any:
    """An odd value of any type."""
    match chance.randrange(8):
        case 0 | 1:
            return chance.choice(NUMBERS)
        case 2 | 3:
            return chance.choice(TEXTS)
        case 4:
            return Verbatim(chance.choice(VERBATIM))
        case 5:
            return chance.choice([True, False, None])
        case 6:
            return [value(chance, depth + 1) for _ in range(chance.randrange(4))] if depth < 4 else []
        case _:
            return {chance.choice(TEXTS): value(chance, depth + 1) for _ in range(chance.randrange(3))}


def written(document: Any) -> str:
    """A document as JSON, with the parts that are verbatim as they are."""
    if isinstance(document, Verbatim):
        return str(document)
    if isinstance(document, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{written(item)}" for key, item in document.items()) + "}"
    if isinstance(document, list):
        return "[" + ",".join(map(written, document)) + "]"
    return json.dumps(document)


def damaged(chance: random.Random, text: bytes) -> bytes:
    """Bytes with one change somewhere."""
    if not text:
        return text
    changed = bytearray(text)
    at = chance.randrange(len(changed))
    match chance.randrange(6):
        case 0:
            changed[at] = chance.randrange(256)
        case 1:
            del changed[at:]
        case 2:
            changed[at:at] = chance.randbytes(chance.randrange(1, 5))
        case 3:
            changed[:0] = b"\xef\xbb\xbf"
        case 4:
            other = chance.randrange(at, len(changed))
            changed[other:other] = changed[at:other]
        case _:
            return text.decode(errors="replace").encode("utf-16")
    return bytes(changed)


@contextmanager
def caught(faults: list[Fault], source: bytes) -> Iterator[None]:
    """Take an exception, or a warning about numbers, for a fault of an input."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            yield
    except Exception as error:  # noqa: BLE001 - whatever it is, it may not be
        faults.append(Fault(f"{type(error).__name__}: {error}", source))
