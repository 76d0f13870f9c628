"""Parsing and formatting of event times, in milliseconds since the epoch.

Pure. Called by `events` for every event, and wherever a time is printed.

Accepted are RFC 3339 (`2026-11-21T09:30:00.123Z`: up to 9 fraction digits, any offset, but an offset is required) and
milliseconds since the epoch, both from 1970 to 9999. Fractions of a millisecond are truncated, so that a time never
moves into the next pane. Leap seconds (`:60`) are refused: no common clock shows them. An event must moreover be of
1970-03-01 or later (`EARLIEST_EVENT`): a number below is no producer's time, but most likely in seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

UNREADABLE: Final = -1
"""What `parse_times` returns for a value that `parse_time` refuses; no time is negative."""

EARLIEST_EVENT: Final = 59 * 86_400_000
"""1970-03-01T00:00:00Z, the earliest time of an event. Epoch seconds up to the year 2131, read as ms, lie before it."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END_MS: Final = (date.max.toordinal() + 1 - _EPOCH.toordinal()) * 86_400_000
_FINER_UNITS: Final = (("microseconds", 1000), ("nanoseconds", 1_000_000))

# Stricter than datetime.fromisoformat, which also takes week dates, commas and times without a zone.
_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)


def parse_time(value: str | int | float) -> int:
    """Parse a time.

    Args:
        value: RFC 3339 text, or milliseconds since the epoch.

    Returns:
        Milliseconds since the epoch.

    Raises:
        ValueError: `value` is not a time; the message says why.
    """
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.60} is neither text nor a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return _bounded(math.floor(value), value)


def parse_event_time(value: str | int | float) -> int:
    """Parse the time of an event, which must not lie before `EARLIEST_EVENT`.

    Args:
        value: As for `parse_time`.

    Returns:
        Milliseconds since the epoch.

    Raises:
        ValueError: `value` is not the time of an event; the message says why, and which unit it may be in.
    """
    try:
        time = parse_time(value)
    except ValueError as error:
        raise ValueError(f"{error}{unit_hint(value)}") from None
    if time < EARLIEST_EVENT:
        raise ValueError(f"{value!r:.60} is before 1970-03-01T00:00:00Z{unit_hint(value)}")
    return time


def unit_hint(value: object) -> str:
    """Return ": seconds?" or what else a value that is no time was most likely meant to be, "" where nothing is."""
    if isinstance(value, str) and value.isdigit():
        return ": milliseconds are a number without quotes"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if value < _END_MS:
        return ": seconds?" if EARLIEST_EVENT <= value * 1000 < EARLIEST_EVENT * 1000 else ""
    return next((f": {unit}?" for unit, per_ms in _FINER_UNITS if value < _END_MS * per_ms), "")


def parse_times(values: Sequence[str | int | float | None]) -> NDArray[np.int64]:
    """Parse many times at once.

    Most producers write exactly three fraction digits and a `Z`: numpy parses a batch of this form at about 50 ns a
    value. A value of another form costs about 800 ns.

    Args:
        values: As for `parse_time`; None is a missing time.

    Returns:
        Milliseconds since the epoch, int64; `UNREADABLE` where a value is missing or refused.
    """
    times = _parse_fixed(values)
    if times is None:
        return np.fromiter(map(_parse_or_unreadable, values), np.int64, len(values))
    for i in np.flatnonzero(times == UNREADABLE).tolist():
        times[i] = _parse_or_unreadable(values[i])
    return times


def format_time(ms: int) -> str:
    """Format milliseconds since the epoch as RFC 3339 text, such as `2026-11-21T09:30:00.123Z`.

    `parse_time` reverses it exactly.

    Raises:
        ValueError: `ms` is not between the years 1970 and 9999.
    """
    when = _EPOCH + timedelta(milliseconds=_bounded(ms, ms))
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration_words(ms: int) -> str:
    """Format a duration as it is configured, such as `90m` or `21d`: rounded up, to a fiftieth at most."""
    for unit, its in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if (ms % its == 0 and ms) or ms >= 48 * its:
            return f"{-(-ms // its)}{unit}"
    return f"{ms}ms"


def duration_text(ms: int) -> str:
    """Format a duration exactly, in the largest unit that does: 900 000 is `15m`."""
    units = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
    unit = next(unit for unit, its in units.items() if ms % its == 0)
    return f"{ms // units[unit]}{unit}"


def format_stamp(ms: int) -> str | None:
    """Format the timestamp of a record as `format_time` does, None where it is no time: a producer may write any."""
    return format_time(ms) if 0 <= ms < _END_MS else None


def _parse_text(text: str) -> int:
    if _RFC3339.fullmatch(text) is None:
        raise ValueError(_what_is_wrong(text))
    try:
        since = datetime.fromisoformat(text.upper()) - _EPOCH
    except ValueError as error:  # the 30th of February
        raise ValueError(f"{text!r}: {error}") from None
    return _bounded(since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000, text)


def _what_is_wrong(text: str) -> str:
    shown = repr(text if len(text) <= 40 else text[:40] + "…")
    if _RFC3339.fullmatch(text + "Z"):
        return f"{shown} has no time zone: end it with Z or an offset like +01:00"
    return f"{shown} is not a time like 2026-11-21T09:30:00.123Z"


def _bounded(ms: int, value: object) -> int:
    if not 0 <= ms < _END_MS:
        raise ValueError(f"{value!r:.60} is not between the years 1970 and 9999")
    return ms


def _parse_or_unreadable(value: str | int | float | None) -> int:
    if value is None:
        return UNREADABLE
    try:
        return parse_time(value)
    except ValueError:
        return UNREADABLE


# The fixed form, with the greatest digit of each place. A bar joins the values of a batch. No value of this form
# contains one: if all rows of 25 characters have the form, every bar is a separator.
_FORM: Final = np.frombuffer(b"0000-00-00T00:00:00.000Z|", np.uint8)
_GREATEST: Final = np.array([9, 9, 9, 9, 0, 1, 9, 0, 3, 9, 0, 2, 9, 0, 5, 9, 0, 5, 9, 0, 9, 9, 9, 0, 0], np.uint8)
_WIDTH: Final = len(_FORM)

# digits @ _WEIGHTS = year * 20 + month, day of the month, milliseconds of the day. Doubles hold them exactly,
# and multiply faster than integers do.
_WEIGHTS: Final = np.zeros((_WIDTH, 3))
_WEIGHTS[[0, 1, 2, 3, 5, 6], 0] = [20_000, 2_000, 200, 20, 10, 1]
_WEIGHTS[[8, 9], 1] = [10, 1]
_WEIGHTS[[11, 12, 14, 15, 17, 18, 20, 21, 22], 2] = [36e6, 36e5, 6e5, 6e4, 1e4, 1e3, 100, 10, 1]


def _parse_fixed(values: Sequence[object]) -> NDArray[np.int64] | None:
    """Parse values in the fixed form, others as `UNREADABLE`; None unless all have the length of the form."""
    texts = cast("Sequence[str]", values)  # `join` raises for anything else
    try:
        text = np.frombuffer(f"{'|'.join(texts)}|".encode("ascii"), np.uint8)
    except (TypeError, UnicodeEncodeError):
        return None
    if len(text) != _WIDTH * len(texts) or not (text[_WIDTH - 1 :: _WIDTH] == _FORM[-1]).all():
        return None
    digits = text.reshape(-1, _WIDTH) - _FORM  # wraps around below zero, so that one comparison sees both ends
    formed = digits <= _GREATEST
    if not formed.all():
        if any(len(one) != _WIDTH - 1 for one in texts):  # a bar may be part of a value
            return None
        digits[~formed.all(axis=1)] = 0  # day 0, which exists in no month
    month, day, ms = (digits @ _WEIGHTS).astype(np.int64).T
    first_day, length = _months()
    good = (day >= 1) & (day <= length[month]) & (ms < 86_400_000)
    return np.where(good, (first_day[month] + (day - 1)) * 86_400_000 + ms, UNREADABLE)


@cache
def _months() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, indexed by year * 20 + month, the first day of each month (since the epoch) and its number of days.

    Invalid months (0, 13 to 19) and those before 1970 have no days.
    """
    starts = np.arange("1970-01", "10000-02", dtype="datetime64[M]").astype("datetime64[D]").astype(np.int64)
    years, months = np.divmod(np.arange(len(starts) - 1), 12)
    place = (1970 + years) * 20 + months + 1
    first_day, length = np.zeros(10_000 * 20, np.int64), np.zeros(10_000 * 20, np.int64)
    first_day[place], length[place] = starts[:-1], np.diff(starts)
    return first_day, length
