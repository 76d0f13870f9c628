"""Merging of several growing files of timed lines into one deterministic order.

Shell, as far as it makes readers read; the order itself is pure. Called by `files` only.

The rule: of the heads of all files deliver the one with the smallest (time, file), repeatedly. After a head was
delivered, a line behind it that is not later comes next, since all other heads are later. So the rule sorts by the
*running maximum* of the times of each file, and numpy can merge whole blocks: up to the smallest of the last
maxima of those files that may grow.
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
    """A reader and the lines that it has read but not delivered."""

    def __init__(self, reader: LineReader, position: int) -> None:
        self.reader = reader
        self.seek(position)

    @property
    def partition(self) -> Partition:
        return self.reader.partition

    @property
    def left(self) -> int:
        """Number of lines read but not delivered."""
        return len(self._lines) - self._taken

    @property
    def position(self) -> int:
        """Number of the next line to deliver."""
        return self.reader.position - self.left

    def seek(self, position: int) -> None:
        """Continue with the line of this number."""
        self.reader.seek(position)
        self._lines: list[bytes] = []
        self._taken = 0
        self._times: NDArray[np.int64] | None = None  # of `_lines`; not needed while only one file is read
        self._time_before: int | None = None if position else UNREADABLE  # of the line before them; None: unknown

    def fill(self) -> bool:
        """Read more lines if all were delivered; return whether there are any now."""
        if not self.left and (lines := self.reader.read()):
            self._time_before = self._last_time()
            self._lines, self._taken, self._times = lines, 0, None
        return self.left > 0

    def take(self, count: int) -> list[bytes]:
        """Deliver the next `count` lines, at most `left`."""
        self._taken += count
        return self._lines[self._taken - count : self._taken]

    def running_maximum(self) -> NDArray[np.int64]:
        """Return the sort key of each undelivered line: the maximum of the times up to it, in ms."""
        if self._times is None:
            self._times = self._timed()
        return np.maximum.accumulate(self._times[self._taken :])

    def _timed(self) -> NDArray[np.int64]:
        """Return the times of the lines; one without a time takes that of the line before."""
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
        """Return the time of the last line read, None where it takes another read to know it."""
        found = _first_time(reversed(self._lines))
        return self._time_before if found is None else found


def take(cursors: Sequence[Cursor], max_records: int) -> Batch:
    """Return the next lines of all files in merged order.

    Args:
        cursors: The files, sorted by (topic, partition).
        max_records: Maximum number of lines.

    Raises:
        StreamError: A file cannot be read, and no line could be delivered before that.
    """
    which: list[NDArray[np.int32]] = []
    offsets: list[NDArray[np.int64]] = []
    values: list[bytes | None] = []
    while len(values) < max_records:
        try:
            ready = np.flatnonzero([cursor.fill() for cursor in cursors]).astype(np.int32)
        except StreamError:
            if values:
                break  # deliver these first: the error recurs at the next call
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
    """Return the file of each next line, at most `room`, as far as the lines read so far determine it."""
    if len(heads) == 1:
        return np.zeros(min(room, heads[0].left), np.intp)
    keys = [head.running_maximum() for head in heads]
    # Further lines of a file have at least its last maximum: the order beyond the smallest of these is not known yet.
    open_ended = [(int(key[-1]), i) for i, key in enumerate(keys) if not heads[i].reader.at_end]
    if open_ended:
        last, holder = min(open_ended)
        keys = [key[: np.searchsorted(key, last, "right" if i <= holder else "left")] for i, key in enumerate(keys)]
    owner = np.repeat(np.arange(len(keys)), [len(key) for key in keys])
    return owner[np.argsort(np.concatenate(keys), kind="stable")[:room]]


def _deliver(heads: Sequence[Cursor], order: NDArray[np.intp], values: list[bytes | None]) -> NDArray[np.int64]:
    """Take the lines in this order and return their offsets."""
    offsets = np.empty(len(order), np.int64)
    lines = []
    for i, (head, count) in enumerate(zip(heads, np.bincount(order, minlength=len(heads)).tolist(), strict=True)):
        offsets[order == i] = np.arange(head.position, head.position + count)
        lines.append(iter(head.take(count)))
    values += map(next, map(lines.__getitem__, order.tolist()))
    return offsets


def _first_time(lines: Iterable[bytes]) -> int | None:
    """Return the time of the first line that has a readable one."""
    times = (int(parse_times([_time_field(line)])[0]) for line in lines)
    return next((time for time in times if time != UNREADABLE), None)


def _time_field(line: bytes) -> str | int | float | None:
    try:
        return _decode(line).time
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
