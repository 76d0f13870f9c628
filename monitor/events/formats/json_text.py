"""Parse JSON that may break the rules, and say which value of which field breaks one.

Numbers and text that no event may have are kept until it is known in which field they are. Slow: for records that
the fast decoder does not take only. Pure. Called by `formats.examiner`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from monitor.events.refusals import Refusal
from monitor.events.schema import GREATEST_ID, LARGEST_INTEGER, LEAST_ID

_SHOWN: Final = 60  # characters of a value in a detail
_DEEPEST: Final = 100
_TOKENS: Final = (b"NaN", b"Infinity")


class BrokenRule(Exception):
    """Raised at the first broken rule; `finding` is the reason and the detail."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        self.finding = (reason, detail)
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class _Unfit:
    """A number that no event may have, kept until it is known in which field it is.

    Attributes:
        json: Whether JSON allows it; NaN and Infinity are not JSON.
    """

    reason: Refusal
    text: str
    why: str
    json: bool = True

    def __repr__(self) -> str:
        return self.text


def load(raw: bytes) -> Any:
    """Parse JSON, tolerating what `check_values` and `check_is_json` report later.

    Raises:
        BrokenRule: it is not JSON, or nested too deeply.
    """
    try:
        # Bytes that are not UTF-8 become lone surrogates, so that it can be told in which field they are.
        return json.loads(
            raw.decode("utf-8", "surrogateescape"),
            parse_constant=_not_json,
            parse_int=_integer,
            parse_float=_number,
        )
    except RecursionError:
        raise BrokenRule(Refusal.TOO_DEEP, f"nested deeper than {_DEEPEST} levels") from None
    except (ValueError, MemoryError) as error:
        raise BrokenRule(Refusal.NOT_JSON, f"{show(raw.decode('utf-8', 'replace'))}: {error}") from None


def check_is_json(raw: bytes, value: object) -> None:
    """Check what `load` tolerates and JSON does not: bytes that are not UTF-8, and the tokens NaN and Infinity.

    Args:
        raw: The record.
        value: What `load` made of it.

    Raises:
        BrokenRule: there is one, in whatever field.
    """
    try:
        raw.decode()
    except UnicodeDecodeError:
        check_values(value, "", 0, numbers=False)
        raise BrokenRule(Refusal.BAD_TEXT, "the record has bytes that are not UTF-8") from None
    if not any(token in raw for token in _TOKENS):
        return
    try:
        json.loads(raw, parse_constant=_stop, parse_int=str)
    except BrokenRule:
        check_values(value, "", 0, numbers=False, texts=False)  # says in which field
        raise


def _not_json(token: str) -> _Unfit:
    return _Unfit(Refusal.NOT_FINITE, token, "is not a JSON number", json=False)


def _stop(token: str) -> None:
    raise BrokenRule(Refusal.NOT_FINITE, f"{token}: is not a JSON number")


def _integer(digits: str) -> int | _Unfit:
    if len(digits) > 17 or abs(int(digits)) > LARGEST_INTEGER:
        return _Unfit(Refusal.INTEGER_TOO_LARGE, cut(digits), "integers lie between -2^53 and 2^53")
    return int(digits)


def _number(digits: str) -> float | _Unfit:
    value = float(digits)
    if not math.isfinite(value):
        return _Unfit(Refusal.NOT_FINITE, cut(digits), "is beyond the largest float")
    return value


def check_values(value: object, path: str, depth: int, *, numbers: bool = True, texts: bool = True) -> None:
    """Check names and values at any depth for unusable text and numbers.

    Args:
        value: A value made by `load`.
        path: Name of the field, for the detail; "" for the whole record.
        depth: How deeply the value is nested in the record.
        numbers: Also refuse numbers that are JSON but beyond 2^53 or the largest float.
        texts: Also refuse texts with a NUL or a lone surrogate.

    Raises:
        BrokenRule: a lone surrogate, a NUL, a number out of range, or too many levels.
    """
    if depth > _DEEPEST:
        raise BrokenRule(Refusal.TOO_DEEP, f"{path}: nested deeper than {_DEEPEST} levels")
    if isinstance(value, _Unfit) and (numbers or not value.json):
        raise BrokenRule(value.reason, f"{path}: {value.text}: {value.why}")
    if isinstance(value, str) and texts:
        check_text(value, path)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if texts:
                check_text(name, f"a name in {path or 'the record'}")
            where = within(path, name) if depth < 2 else path
            check_values(inner, where, depth + 1, numbers=numbers, texts=texts)
    elif isinstance(value, list):
        for inner in value:
            check_values(inner, path, depth + 1, numbers=numbers, texts=texts)


def check_text(text: str, path: str) -> None:
    """Raise BrokenRule where a text has a NUL or a lone surrogate."""
    if "\0" in text:
        raise BrokenRule(Refusal.BAD_TEXT, f"{path}: {show(text)}: has a NUL character")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise BrokenRule(
            Refusal.BAD_TEXT, f"{path}: {show(text)}: has half a surrogate pair, or bytes that are not UTF-8"
        )


def integer_id(value: object) -> object:
    """Return an integer of up to 64 bits that `load` kept as unfit, for a field in which it is an id.

    Raises:
        BrokenRule: the integer is larger.
    """
    if not isinstance(value, _Unfit) or value.reason is not Refusal.INTEGER_TOO_LARGE:
        return value
    if len(value.text) <= len(str(LEAST_ID)) and LEAST_ID <= int(value.text) <= GREATEST_ID:
        return int(value.text)
    raise BrokenRule(value.reason, f"request_id: {value.text}: integer ids lie between -2^63 and 2^64 - 1")


def is_number(value: object) -> bool:
    """Return whether a JSON value is a number; a boolean is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: object) -> str:
    """Name the JSON type of a value, for a detail."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "text"
        case dict():
            return "an object"
        case list():
            return "a list"
        case _:
            return "a number"


def within(path: str, name: str) -> str:
    """Return the path of a field, with a long name shortened."""
    return f"{path}.{cut(name)}" if path else cut(name)


def cut(text: str) -> str:
    """Shorten a text for a detail."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def show(value: object) -> str:
    """Return a value as a detail shows it."""
    return cut(repr(value))
