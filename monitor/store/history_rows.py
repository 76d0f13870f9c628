"""Rows of the history as they are stored: one of each window, whose columns are named in a layout.

Shell. A body is the values as float64, the events as int64, and a tail. The tail of an early release is nothing, or one
byte: how answers were read. Since then it goes on with what the tests of features came to.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from detectors.findings import Value, Verdict
from detectors.significance import KolmogorovLaw
from monitor.evaluation.history import HistoryRow
from monitor.spec import AnswerReading
from monitor.store import tables as t
from monitor.store.engine import insert

Names = tuple[tuple[str, str], ...]

_NO_READING: Final = 2  # else whether numbers were read as probabilities
_READINGS: Final = (AnswerReading.LABEL.value, AnswerReading.PROBABILITY.value, None)
_HEAD: Final = struct.Struct("<BBdH")  # reading, length of the window's label, threshold, tests
# A byte a test: its verdict, and which numbers of it follow. An effect that is the value is not repeated.
_VERDICTS: Final = tuple(Verdict)  # by number: new ones are added at the end
_VERDICT, _ALPHA, _EFFECT, _P_VALUE, _LAW = 0x0F, 0x10, 0x20, 0x40, 0x80


class HistoryWriter:
    """Writes windows, and remembers the layouts that are stored."""

    def __init__(self) -> None:
        self._layouts: dict[Names, int] = {}

    def forget(self) -> None:
        """Look layouts up anew: the transaction that stored them may have failed."""
        self._layouts.clear()

    def write(self, c: Connection, model: str, rows: Sequence[HistoryRow]) -> None:
        """Write windows of a model; one that is there already is replaced."""
        if not rows:
            return
        latest = {
            (row.version, row.outcomes, row.end, row.start): {
                "model": model,
                "version": row.version,
                "outcomes": row.outcomes,
                "end_ms": row.end,
                "start_ms": row.start,
                "layout": self._layout(c, row.names),
                "coverage": row.coverage,
                "body": encoded(row),
            }
            for row in rows
        }
        upsert = insert(c, t.history)
        columns = {name: upsert.excluded[name] for name in ("layout", "coverage", "body")}
        c.execute(
            upsert.on_conflict_do_update(
                index_elements=["model", "version", "outcomes", "end_ms", "start_ms"], set_=columns
            ),
            list(latest.values()),
        )

    def _layout(self, c: Connection, names: Names) -> int:
        """Return the id under which this list of columns is stored; most windows share one."""
        known = self._layouts.get(names)
        if known is not None:
            return known
        text = json.dumps(names)
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        c.execute(insert(c, t.history_layout).values(hash=digest, names=text).on_conflict_do_nothing())
        layout: int = c.execute(sa.select(t.history_layout.c.id).where(t.history_layout.c.hash == digest)).scalar_one()
        self._layouts[names] = layout
        return layout


@dataclass(frozen=True, slots=True)
class StoredValue:
    """One value of a stored window; `test` is what its test came to, None where it is a metric or was not stored."""

    feature: str
    name: str
    value: float
    events: int
    test: Value | None


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """A stored window.

    Attributes:
        values: All of its values.
        answers: How numbers of a binary task were read; None where there were none.
        window: What the window is called; None where an earlier release wrote it.
        threshold: The p-value at which its tests alarm that have no level of their own; NaN where there was no check.
    """

    values: tuple[StoredValue, ...]
    answers: str | None
    window: str | None
    threshold: float


def encoded(row: HistoryRow) -> bytes:
    """Return the body of a window."""
    label = row.window.encode()
    reading = _NO_READING if row.probabilities is None else int(row.probabilities)
    flags, numbers = bytearray(), []
    for test in row.tests:
        flag = _VERDICTS.index(test.verdict)
        if test.effect != test.value and not math.isnan(test.effect):
            flag |= _EFFECT
            numbers.append(test.effect)
        if isinstance(test.p_value, KolmogorovLaw):
            flag |= _LAW
            numbers += [test.p_value.size, test.p_value.least]
        elif test.p_value is not None:
            flag |= _P_VALUE
            numbers.append(test.p_value)
        if test.alpha is not None:
            flag |= _ALPHA
            numbers.append(test.alpha)
        flags.append(flag)
    return b"".join(
        (
            np.array(row.values, "<f8").tobytes(),
            np.array(row.events, "<i8").tobytes(),
            _HEAD.pack(reading, len(label), row.threshold, len(row.tests)),
            label,
            flags,
            np.array(numbers, "<f8").tobytes(),
        )
    )


def layout_names(text: str) -> Names:
    """Return the columns of a layout, as (feature, metric); raises ValueError where they are something else."""
    names = tuple((feature, metric) for feature, metric in json.loads(text))
    if not names:
        raise ValueError("a window has values")
    if not all(isinstance(name, str) for pair in names for name in pair):
        raise ValueError("names are texts")
    return names


def decoded(row: Row[Any], names: Names) -> StoredWindow:
    """Return what a row of the table holds; raises ValueError, IndexError or struct.error where it is damaged."""
    body, count = bytes(row.body), len(names)
    values = np.frombuffer(body, "<f8", count).tolist()
    events = np.frombuffer(body, "<i8", count, 8 * count).tolist()
    tail = body[16 * count :]
    plain = [StoredValue(*name, value, n, None) for name, value, n in zip(names, values, events, strict=True)]
    if len(tail) < _HEAD.size:  # of an earlier release
        return StoredWindow(tuple(plain), _READINGS[tail[0]] if tail else None, None, math.nan)
    reading, length, threshold, tested = _HEAD.unpack_from(tail)
    flags_at = _HEAD.size + length
    flags = tail[flags_at : flags_at + tested]
    numbers = iter(np.frombuffer(tail, "<f8", offset=flags_at + tested).tolist())
    try:
        tests = [_test(stored, flag, numbers) for stored, flag in zip(plain[count - tested :], flags, strict=True)]
    except StopIteration:
        raise ValueError("numbers of tests are missing") from None
    label = tail[_HEAD.size : flags_at].decode()
    return StoredWindow((*plain[: count - tested], *tests), _READINGS[reading], label, threshold)


def _test(stored: StoredValue, flag: int, numbers: Iterator[float]) -> StoredValue:
    effect = next(numbers) if flag & _EFFECT else stored.value
    p_value: float | KolmogorovLaw | None = None
    if flag & _LAW:
        p_value = KolmogorovLaw(next(numbers), next(numbers))
    elif flag & _P_VALUE:
        p_value = next(numbers)
    alpha = next(numbers) if flag & _ALPHA else None
    verdict = _VERDICTS[flag & _VERDICT]
    test = Value(stored.feature, stored.name, stored.value, stored.events, effect, verdict, p_value, alpha)
    return StoredValue(stored.feature, stored.name, stored.value, stored.events, test)
