"""Queries of the history: what was measured in the windows of a model, and what their checks came to.

Shell, read only; works with or without a running daemon. Every function raises StoreError when the database fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, Row

from detectors.findings import Value
from detectors.significance import KolmogorovLaw
from monitor.saved import damage_in
from monitor.store import reader
from monitor.store import tables as t
from monitor.store.engine import snapshot, translated
from monitor.store.history_rows import Names, StoredValue, StoredWindow, decoded, layout_names
from monitor.store.rows import read_rows, row_of
from monitor.stream.types import Partition
from monitor.times import format_time

UNKNOWN: Final = "unknown"  # the verdict on a feature that an earlier release did not store
_PREDICTIONS: Final = ("", "predictions")
_MOST_EXTENTS: Final = 100  # rows with one end, of windows of several extents
_Windows = Iterable[tuple[Row[Any], StoredWindow]]


@dataclass(frozen=True, slots=True)
class HistoryValue:
    """A metric's value in one window. The order of the fields is fixed: scripts read it.

    Attributes:
        start: Start of the window, ms since the epoch; `end` likewise.
        n: Events behind the value.
        value: The value; None where the verdict says why there is none.
        statistic: Name of the statistic of a feature; None for a metric of the version. So are the next four then.
        effect: Effect size; None where nothing was tested.
        threshold: The p-value at which the test alarms; None where there was no check.
        p_value: The p-value; None where the effect is below the minimum, for then it decides nothing.
        verdict: A `Verdict`, or `UNKNOWN`.
        window: What the window is called; None where an earlier release wrote it.
        answers: `label` or `probability`: how predictions of exactly 0 and 1 were read in the window; None where no
            prediction was a number of a binary task.
    """

    model: str
    version: str
    segment: str
    feature: str
    metric: str
    start: int
    end: int
    n: int
    value: float | None
    coverage: float | None
    estimated: bool
    statistic: str | None
    effect: float | None
    threshold: float | None
    p_value: float | None
    verdict: str | None
    window: str | None
    answers: str | None


def history(
    engine: Engine,
    model: str,
    *,
    metric: str | None = None,
    version: str | None = None,
    feature: str | None = None,
    since: int | None = None,
    last: int | None = None,
    window: str | None = None,
    left_out: set[str] | None = None,
) -> Iterator[HistoryValue]:
    """Yield stored values of a model's windows, in order of the end of the window.

    Args:
        engine: The store.
        model: Name of the model.
        metric: Only this metric.
        version: Only this version.
        feature: Only this feature.
        since: Only windows that end after this time, in ms since the epoch.
        last: Only windows with so many of the latest ends.
        window: Only windows that are called this, or that an earlier release wrote without saying.
        left_out: Gets what the windows are called that were left out for that.
    """
    h = t.history
    order = (h.c.end_ms, h.c.version, h.c.outcomes, h.c.start_ms)
    wanted = sa.select(h).where(h.c.model == model)
    wanted = wanted.order_by(*order) if last is None else wanted.order_by(h.c.end_ms.desc())
    if version is not None:
        wanted = wanted.where(h.c.version == version)
    if since is not None:
        wanted = wanted.where(h.c.end_ms > since)
    others = set() if left_out is None else left_out
    with translated(), engine.connect().execution_options(stream_results=True) as c:
        windows = _called(_windows(c, wanted), window, others)
        for row, its in windows if last is None else _latest(windows, last):
            with damage_in(_row(row)):
                told = [
                    _history_value(model, row, its, value)
                    for value in its.values
                    if metric in (None, value.name) and feature in (None, value.feature)
                ]
            yield from told


def extent(engine: Engine, model: str) -> tuple[int, int] | None:
    """Return the earliest and the latest end of a model's stored windows, ms; None where there are none."""
    h = t.history
    wanted = sa.select(sa.func.min(h.c.end_ms), sa.func.max(h.c.end_ms)).where(h.c.model == model)
    with snapshot(engine) as c:
        first, last = c.execute(wanted).one()
    if first is None:
        return None
    with damage_in(row_of(t.history, model)):
        for time in (first, last):
            format_time(time)
    return first, last


def _windows(c: Connection, wanted: sa.Select[Any]) -> _Windows:
    layouts = _layouts(c, sa.select(t.history_layout))
    return read_rows(c, wanted, t.history, lambda row: (_checked(row), decoded(row, layouts[row.layout])))


def _row(row: Row[Any]) -> str:
    return row_of(t.history, *(getattr(row, column.name) for column in t.history.primary_key))


def _checked(row: Row[Any]) -> Row[Any]:
    """Return a row whose times are times: SQLite stores whatever it is given."""
    for time in (row.start_ms, row.end_ms):
        format_time(time)
    if not isinstance(row.coverage, float | None):
        raise ValueError(f"coverage is not a number: {row.coverage!r:.20}")
    return row


def _layouts(c: Connection, wanted: sa.Select[Any]) -> dict[int, Names]:
    return dict(read_rows(c, wanted, t.history_layout, lambda row: (row.id, layout_names(row.names))))


def _called(windows: _Windows, name: str | None, others: set[str]) -> _Windows:
    for row, its in windows:
        if name is None or its.window in (None, name):
            yield row, its
        elif its.window is not None:
            others.add(its.window)


def _latest(windows: _Windows, most: int) -> _Windows:
    """Return the windows with the first `most` ends of those that come, the earliest end first."""
    ends: set[int] = set()
    found = []
    for row, its in windows:
        if row.end_ms not in ends and len(ends) == most:
            break
        ends.add(row.end_ms)
        found.append((row, its))
    return sorted(found, key=lambda w: (w[0].end_ms, w[0].version, w[0].outcomes, w[0].start_ms))


def _history_value(model: str, row: Row[Any], its: StoredWindow, value: StoredValue) -> HistoryValue:
    test = value.test
    is_feature = test is not None or bool(value.feature)  # a feature may have an empty name
    untested = test is not None and math.isnan(test.value)
    p_value = None if test is None else test.p_value
    if isinstance(p_value, KolmogorovLaw):
        p_value = p_value.p_value(value.value)
    return HistoryValue(
        model, row.version, "", value.feature, value.name, row.start_ms, row.end_ms, value.events,
        None if untested else value.value, row.coverage, False,
        statistic=value.name if is_feature else None,
        effect=None if test is None or math.isnan(test.effect) else test.effect,
        threshold=_threshold(its, test),
        p_value=p_value,
        verdict=test.verdict.value if test is not None else UNKNOWN if is_feature else None,
        window=its.window,
        answers=its.answers,
    )  # fmt: skip


def _threshold(its: StoredWindow, test: Value | None) -> float | None:
    if test is None:
        return None
    found = its.threshold if test.alpha is None else test.alpha
    return None if math.isnan(found) else found


@dataclass(frozen=True, slots=True)
class LastWindow:
    """The window of the champion that was checked last; `positions` are those of that check or a little later."""

    version: str
    start: int
    end: int
    n: int
    positions: Mapping[Partition, int]


def last_window(engine: Engine, model: str) -> LastWindow | None:
    """Return the last checked window of the model's champion; None if there is none."""
    found = reader.status(engine)
    if found is None or model not in found["models"]:
        return None
    version = found["models"][model]["champion"]
    h = t.history
    mine = (h.c.model == model, h.c.version == version, ~h.c.outcomes)
    wanted = sa.select(h).where(*mine).order_by(h.c.end_ms.desc(), h.c.start_ms).limit(_MOST_EXTENTS)
    last: tuple[Row[Any], int | None] | None = None
    with snapshot(engine) as c:
        for row, its in _windows(c, wanted):
            # Windows of other extents than the configured one have rows of features only.
            n = next((v.events for v in its.values if (v.feature, v.name) == _PREDICTIONS), None)
            last = row, n
            if n is not None:
                break
    if last is None:
        return None
    row, n = last
    with damage_in(_row(row)):
        if n is None:
            raise KeyError(_PREDICTIONS)
    positions = {Partition(topic, number): at for topic, number, at in found["positions"]}
    return LastWindow(version, row.start_ms, row.end_ms, n, positions)
