"""Parsing of configuration values with units: 15m, 5%, 1 per 30d, 105% of baseline, 3 checks.

Pure. Every function raises ValueError with the accepted form; `load` adds the key.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from monitor.spec import BudgetSpec, LimitBasis

Scalar = bool | int | float | str | None

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_LARGEST: Final = 1_000_000_000_000  # more than anything that is counted
_LONGEST_MS: Final = 36_500 * _UNITS["d"]
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)", re.ASCII)
_PERCENT: Final = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*%", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_BUDGET: Final = re.compile(r"(\d+(?:\.\d+)?)\s+per\s+(.+)", re.ASCII)
_EVENTS: Final = re.compile(r"([\d_]{1,18})\s+events?", re.ASCII)
_BASELINE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%\s+of\s+baseline", re.ASCII)
_POINTS: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|points?)", re.ASCII)
_CHECKS: Final = re.compile(r"(\d{1,9})\s+checks?", re.ASCII)


def duration_ms(value: object) -> int:
    """Parse a duration to milliseconds: 15m is 900 000."""
    found = _match(_DURATION, value)
    if found is None:
        raise ValueError("a duration has a number and a unit: 500ms, 10s, 15m, 6h, 7d")
    result = float(found[1]) * _UNITS[found[2]]
    if result > _LONGEST_MS:
        raise ValueError("a duration is at most 36500d")
    if round(result) < 1:
        raise ValueError("a duration is at least a millisecond")
    return round(result)


def share(value: object) -> float:
    """Parse a share: 5% is 0.05; a number is taken as it is."""
    result = _number(value)
    if result is None:
        found = _match(_PERCENT, value)
        if found is None:
            raise ValueError("a share is written like 5% or 0.05")
        result = float(found[1]) / 100
    if not 0 <= result <= 1:
        raise ValueError("a share lies between 0% and 100%, and is written like 5% or 0.05")
    return result


def budget(value: object) -> BudgetSpec:
    """Parse a false-alarm budget: 1 per 30d, or 1 per 100000 events."""
    wanted = "a false-alarm budget is written like `1 per 30d` or `1 per 100000 events`"
    found = _match(_BUDGET, value)
    if found is None or not 0 < float(found[1]) < math.inf:
        raise ValueError(wanted)
    alarms, rest = float(found[1]), found[2].strip()
    events = _EVENTS.fullmatch(rest)
    if events is not None and events[1].strip("_"):
        count = int(events[1].replace("_", ""))
        if count < 1:
            raise ValueError("the budget needs at least one event")
        return BudgetSpec(alarms, events=count)
    try:
        return BudgetSpec(alarms, period=duration_ms(rest))
    except ValueError:
        raise ValueError(wanted) from None


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit of a rule. `percent`: it was written as a share, which not every metric is."""

    value: float
    reference: LimitBasis
    percent: bool = False


def limit(value: object) -> Limit:
    """Parse a limit: 750, 1%, or 105% of baseline."""
    bare = _number(value)
    if bare is not None:
        return Limit(bare, LimitBasis.NOTHING)
    if (found := _match(_BASELINE, value)) is not None and math.isfinite(float(found[1])):
        return Limit(float(found[1]) / 100, LimitBasis.SHARE)
    if (found := _match(_PERCENT, value)) is not None:
        if not -100 <= float(found[1]) <= 100:
            raise ValueError("no share is above 100%; relative to the baseline it is `105% of baseline`")
        return Limit(float(found[1]) / 100, LimitBasis.NOTHING, percent=True)
    raise ValueError("a limit is a number, a share like 1%, or `105% of baseline`")


def points(value: object) -> Limit:
    """Parse a distance from the baseline: 3 points or 3% is 0.03; a number is in the metric's own unit."""
    wanted = "a drop or rise is written like `3 points`, 3% or a number in the metric's own unit"
    bare = _number(value)
    if bare is not None:
        if bare < 0:
            raise ValueError(f"{wanted}, not below zero")
        return Limit(bare, LimitBasis.POINTS)
    found = _match(_POINTS, value)
    if found is None or not math.isfinite(float(found[1])):
        raise ValueError(wanted)
    return Limit(float(found[1]) / 100, LimitBasis.POINTS, percent=True)


def dwell(value: object) -> tuple[int, int]:
    """Parse a dwell time to (checks, ms): 3 checks is (3, 0), 30m is (1, 1 800 000)."""
    found = _match(_CHECKS, value)
    if found is not None:
        if int(found[1]) < 1:
            raise ValueError("a rule needs at least one check")
        return int(found[1]), 0
    try:
        return 1, duration_ms(value)
    except ValueError:
        raise ValueError("how long is written like `3 checks` or 30m") from None


def whole(value: object) -> object:
    """Parse a whole number, also from a text of the environment; a boolean is refused."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a whole number is needed")
    try:
        found = int(value)
    except ValueError:
        raise ValueError("a whole number is needed") from None
    if abs(found) > _LARGEST:
        raise ValueError(f"at most {_LARGEST}")
    return found


def number(value: object) -> float:
    """Parse a finite number."""
    found = _number(value)
    if found is None:
        raise ValueError("a finite number is needed")
    return found


def text(value: object) -> object:
    """Check a text. A number is refused, because YAML has lost its spelling: 1.10 is 1.1."""
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, dict | list):
        raise ValueError("a text is needed")
    raise ValueError(f"YAML reads this as {_kind(value)}: put it in quotes")


def label(value: object) -> Scalar:
    """Check a JSON scalar: a label or an answer."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number is needed")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict | list):
        raise ValueError("a number, a text, true, false or null is needed")
    raise ValueError(f"YAML reads this as {_kind(value)}: put it in quotes")


def _match(pattern: re.Pattern[str], value: object) -> re.Match[str] | None:
    return pattern.fullmatch(value.strip()) if isinstance(value, str) else None


def _number(value: object) -> float | None:
    """Parse a finite number, also from a text of the environment; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and _match(_NUMBER, value) is None:
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case _:
            return "a date"
