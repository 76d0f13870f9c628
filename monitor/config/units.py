"""Values with units as people write them: 15m, 5%, 1 per 30d, 105% of baseline, 3 checks.

Pure. Each function raises ValueError with what would do; `schema` adds where it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from monitor.spec import BudgetSpec, Reference

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)", re.ASCII)
_PERCENT: Final = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*%", re.ASCII)
_BUDGET: Final = re.compile(r"(\d+(?:\.\d+)?)\s+per\s+(.+)", re.ASCII)
_BASELINE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%\s+of\s+baseline", re.ASCII)
_POINTS: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|points?)", re.ASCII)


def duration_ms(value: object) -> int:
    """15m → 900 000."""
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("a duration has a number and a unit: 500ms, 10s, 15m, 6h, 7d")
    result = round(float(found[1]) * _UNITS[found[2]])
    if result < 1:
        raise ValueError("a duration is at least a millisecond")
    return result


def share(value: object) -> float:
    """5% → 0.05; a bare number is a share already."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        result = float(value)
    else:
        found = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None:
            raise ValueError("a share is written like 5% or 0.05")
        result = float(found[1]) / 100
    if not 0 <= result <= 1:
        raise ValueError("a share lies between 0% and 100%")
    return result


def budget(value: object) -> BudgetSpec:
    """1 per 30d, or 1 per 100000 events."""
    found = _BUDGET.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or float(found[1]) <= 0:
        raise ValueError("a false-alarm budget is written like `1 per 30d` or `1 per 100000 events`")
    alarms, rest = float(found[1]), found[2].strip()
    events = re.fullmatch(r"([\d_]+)\s+events?", rest)
    if events is not None:
        count = int(events[1].replace("_", ""))
        if count < 1:
            raise ValueError("the budget needs at least one event")
        return BudgetSpec(alarms, events=count)
    return BudgetSpec(alarms, period=duration_ms(rest))


@dataclass(frozen=True, slots=True)
class Limit:
    """What a metric is held to."""

    value: float
    reference: Reference


def limit(value: object) -> Limit:
    """750, 1%, or 105% of baseline."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Limit(float(value), Reference.NOTHING)
    if isinstance(value, str):
        text = value.strip()
        if (found := _BASELINE.fullmatch(text)) is not None:
            return Limit(float(found[1]) / 100, Reference.SHARE)
        if (found := _PERCENT.fullmatch(text)) is not None:
            return Limit(float(found[1]) / 100, Reference.NOTHING)
    raise ValueError("a limit is a number, a share like 1%, or `105% of baseline`")


def points(value: object) -> float:
    """3 points or 3% → 0.03; a bare number is in the metric's own unit."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    found = _POINTS.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("a drop or rise is written like `3 points`, 3% or a number in the metric's own unit")
    return float(found[1]) / 100


def dwell(value: object) -> tuple[int, int]:
    """(checks, ms): 3 checks → (3, 0); 30m → (1, 1 800 000)."""
    found = re.fullmatch(r"(\d+)\s+checks?", value.strip()) if isinstance(value, str) else None
    if found is not None:
        if int(found[1]) < 1:
            raise ValueError("a rule needs at least one check")
        return int(found[1]), 0
    try:
        return 1, duration_ms(value)
    except ValueError:
        raise ValueError("how long is written like `3 checks` or 30m") from None
