"""The one order in which several growing files of timed lines are read.

Shell, as far as it makes readers read; the order itself is pure. Called by `files` alone.

The rule: of the heads of all files deliver the one with the smallest (time, file), again and again. Once a head
was delivered, a line behind it that is not later goes next, for all other heads are later. So the rule sorts by the
*running maximum* of the times of each file, and numpy can merge whole blocks: up to the smallest of the last
maxima of those files that may go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.errors import StreamError
from monitor.stream.lines import LineReader
from monitor.stream.types import Batch, Partition
from monitor.times import UNREADABLE, parse_times


class _Timed(msgspec.Struct):
    time: str | int | float | None = None


_decode = msgspec.json.Decoder(_Timed).decode


class Cursor:
    """A reader with the lines that it has read and nobody has got yet."""

    def __init__(self, reader: LineReader, position: int) -> None:
        self.reader = reader
        self.seek(position)

    @property
    def partition(self) -> Partition:
        return self.reader.partition

    @property
    def left(self) -> int:
        """How many lines are in hand."""
        return len(self._lines) - self._taken

    @property
    def position(self) -> int:
        return self.reader.position - self.left

    def seek(self, position: int) -> None:
        self.reader.seek(position)
        self._lines: list[bytes] = []
        self._taken = 0
        self._times: NDArray[np.int64] | None = None  # of `_lines`; nobody asks while only one file is read
        self._time_before: int | None = None if position else UNREADABLE  # of the line before them; None: unknown

    def fill(self) -> bool:
        """Read on when nothing is in hand. Whether something is now."""
        if not self.left and (lines := self.reader.read()):
            self._time_before = self._last_time()
            self._lines, self._taken, self._times = lines, 0, None
        return self.left > 0

    def take(self, count: int) -> list[bytes]:
        self._taken += count
        return self._lines[self._taken - count : self._taken]

    def running_maximum(self) -> NDArray[np.int64]:
        """What the lines in hand are sorted by."""
        if self._times is None:
            self._times = self._timed()
        return np.maximum.accumulate(self._times[self._taken :])

    def _timed(self) -> NDArray[np.int64]:
        """Times of the lines; one that has none takes that of the line before."""
        times = parse_times([_time_field(line) for line in self._lines])
        readable = np.maximum.accumulate(np.where(times == UNREADABLE, -1, np.arange(len(times))))
        times = times[readable]
        if readable[0] < 0:
            if self._time_before is None:
                found = _first_time(self.reader.backwards())
                self._time_before = UNREADABLE if found is None else found
            times[readable < 0] = self._time_before
        return times

    def _last_time(self) -> int | None:
        """The time of the last line in hand, when it is known without reading."""
        found = _first_time(reversed(self._lines))
        return self._time_before if found is None else found


def take(cursors: Sequence[Cursor], max_records: int) -> Batch:
    """The next lines in the order of the rule. `cursors` are sorted by (topic, partition)."""
    which: list[NDArray[np.int32]] = []
    offsets: list[NDArray[np.int64]] = []
    values: list[bytes | None] = []
    while len(values) < max_records:
        try:
            ready = np.flatnonzero([cursor.fill() for cursor in cursors]).astype(np.int32)
        except StreamError:
            if values:
                break  # these first: the error is still there at the next call
            raise
        if not len(ready):
            break
        heads = [cursors[i] for i in ready.tolist()]
        order = _merge(heads, max_records - len(values))
        which.append(ready[order])
        offsets.append(_deliver(heads, order, values))
    if not values:
        return Batch.empty()
    offset = np.concatenate(offsets)
    timestamps = np.full(len(offset), -1, np.int64)
    return Batch(tuple(c.partition for c in cursors), np.concatenate(which), offset, timestamps, values)


def _merge(heads: Sequence[Cursor], room: int) -> NDArray[np.intp]:
    """Which head comes next, again and again, as far as what is in hand tells."""
    if len(heads) == 1:
        return np.zeros(min(room, heads[0].left), np.intp)
    keys = [head.running_maximum() for head in heads]
    # What a file will go on with is at least its last maximum: nothing beyond the smallest of these is certain.
    open_ended = [(int(key[-1]), i) for i, key in enumerate(keys) if not heads[i].reader.at_end]
    if open_ended:
        last, holder = min(open_ended)
        keys = [key[: np.searchsorted(key, last, "right" if i <= holder else "left")] for i, key in enumerate(keys)]
    owner = np.repeat(np.arange(len(keys)), [len(key) for key in keys])
    return owner[np.argsort(np.concatenate(keys), kind="stable")[:room]]


def _deliver(heads: Sequence[Cursor], order: NDArray[np.intp], values: list[bytes | None]) -> NDArray[np.int64]:
    """Take the lines in this order; returns their offsets."""
    offsets = np.empty(len(order), np.int64)
    lines = []
    for i, (head, count) in enumerate(zip(heads, np.bincount(order, minlength=len(heads)).tolist(), strict=True)):
        offsets[order == i] = np.arange(head.position, head.position + count)
        lines.append(iter(head.take(count)))
    values += map(next, map(lines.__getitem__, order.tolist()))
    return offsets


def _first_time(lines: Iterable[bytes]) -> int | None:
    """The time of the first line that has a readable one."""
    times = (int(parse_times([_time_field(line)])[0]) for line in lines)
    return next((time for time in times if time != UNREADABLE), None)


def _time_field(line: bytes) -> str | int | float | None:
    try:
        return _decode(line).time
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
