"""Rows of the latest stretch of stream time, from which a rolling reference is made; of too many, a sample.

The sample is of whole stretches of time, never of single rows: rows that are neighbours in the sample are neighbours in
the stream, so what the reference learns of their dependence is true. Which stretches are taken follows from their time
and a level alone, and levels from the rows of panes that have ended: all is a function of the rows, whatever their
order was. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.types import BoolArray, IntArray
from monitor.reference.pane_rows import (
    KEPT,
    TIME,
    Rows,
    joined_rows,
    mixed,
    packed_rows,
    sorted_rows,
    taken_rows,
    unpacked_rows,
)
from monitor.spec import ModelSpec

STEPS: Final = 30  # in the length of a rolling reference: it is renewed at their ends
_STRETCHES: Final = 64  # of a sample at least; with a season twice its cells
_FEW: Final = 4  # a sample with so many times fewer rows than are allowed becomes denser
_BITS: Final = np.uint64(64)

Span = tuple[int, int]  # start and end, ms


@dataclass(frozen=True, slots=True)
class Stretches:
    """Which stretches of time belong to a sample.

    Attributes:
        width: Of a stretch, ms.
        drops: Levels at which half of the stretches are dropped; at further ones each stretch loses its half.
    """

    width: int
    drops: int

    @staticmethod
    def of(spec: ModelSpec) -> Stretches:
        """Choose stretches as long as a window; as many as a season needs."""
        season = spec.reference.season
        least = _STRETCHES if season is None else max(_STRETCHES, 2 * season.cells)
        whole = (spec.reference.rolling or 0) // spec.window.span
        return Stretches(spec.window.span, max(int(np.log2(max(whole / least, 1))), 0))

    @staticmethod
    def level_of(rows: float, most: int) -> int:
        """Return the level of a sample of at most `most` of so many rows."""
        return max(math.ceil(math.log2(rows / most)), 0) if rows > most else 0

    def length(self, level: int) -> int:
        """Return how long a stretch of a sample of a level is, ms: shorter than a window where too much comes."""
        return max(self.width >> max(level - self.drops, 0), 1)

    def has(self, time: IntArray, level: int) -> BoolArray:
        """Tell which times belong to the sample of a level, which has about 2 to the power of -level of all.

        The sample of a level is part of that of every lower one.
        """
        if not level:
            return np.ones(len(time), np.bool_)
        stretch, offset = np.divmod(time, self.width)
        hashes = mixed(stretch.astype(np.uint64))
        drops, cuts = min(level, self.drops), max(level - self.drops, 0)
        found: BoolArray = np.ones(len(time), np.bool_)
        if drops:
            found &= hashes >> (_BITS - np.uint64(drops)) == 0
        if cuts:
            part = (offset * (1 << cuts) // self.width).astype(np.uint64)
            found &= part == mixed(hashes) >> (_BITS - np.uint64(cuts))
        return found


@dataclass(frozen=True, slots=True)
class _Whole:
    """The rows of a step that is over: their times, and all of them as they are stored."""

    times: IntArray
    body: bytes

    @staticmethod
    def of(rows: Rows) -> _Whole:
        return _Whole(rows[TIME], packed_rows(rows))


class RollingRows:
    """The rows of one subject.

    Args:
        stretches: What samples are of.
        step: Length of a step, ms: rows are stored, and dropped, by step.
        most: Rows to keep at most.

    Attributes:
        kept_from: Rows of this time (ms) and later ones are all kept: they may have to be counted.
    """

    def __init__(self, stretches: Stretches, step: int, most: int) -> None:
        self._stretches, self._step, self._most = stretches, step, most
        self.levels: dict[int, int] = {}  # by step of which a pane has ended
        self.sealed = 0  # end of the last pane that has ended, ms
        self.kept_from = 0
        self._whole: dict[int, _Whole] = {}
        self._settled: list[Rows] = []  # of the current step, in panes that have ended
        self._open: list[Rows] = []  # of panes that have not
        self._fresh: list[Rows] = []  # not stored yet
        self._stored: set[int] = set()  # steps of which something is
        self._rewritten: set[int] = set()
        self._forgotten: set[int] = set()

    @property
    def _current(self) -> int:
        return max(self.levels, default=-1)

    @property
    def stretch(self) -> int:
        """Length of the stretches that are kept, ms."""
        return self._stretches.length(max(self.levels.values(), default=0))

    @property
    def is_full(self) -> bool:
        """Whether so many rows of later panes are kept that it would take a while to count them."""
        return sum(int(np.count_nonzero(rows[TIME] >= self.sealed)) for rows in self._open) > KEPT

    @property
    def held(self) -> int:
        """Rows of panes that have ended."""
        return sum(map(len, self._times()))

    def useful(self, time: IntArray) -> BoolArray:
        """Tell which rows may be needed; the others need not be added."""
        # The level of a step is known once a pane of it has ended: until then all of its rows are kept.
        free = min(self.kept_from, (self._current + 1) * self._step)
        found: BoolArray = (time >= free) | self._stretches.has(time, self.levels.get(self._current, 0))
        return found

    def add(self, rows: Rows) -> None:
        """Take rows in."""
        if len(rows[TIME]):
            self._open.append(rows)
            self._fresh.append(rows)

    # -- panes -------------------------------------------------------------------------------------------

    def seal(self, end: int, pane: int) -> None:
        """Take note that a pane of width `pane` has ended at `end`, ms; it makes no difference how often."""
        if end <= self.sealed:
            return
        self._enter((end - pane) // self._step)
        self.sealed = end
        if self._open:
            rows = joined_rows(self._open)
            early = rows[TIME] < end
            self._open = [taken_rows(rows, np.flatnonzero(~early))] if not early.all() else []
            self._settle(taken_rows(rows, np.flatnonzero(early)))
        while self.held > self._most:
            self._thin()

    def _settle(self, rows: Rows) -> None:
        rows = taken_rows(rows, np.flatnonzero(self._stretches.has(rows[TIME], self.levels[self._current])))
        if len(rows[TIME]):
            self._settled.append(rows)

    def _enter(self, step: int) -> None:
        """Begin a step: the one before is over, and its rows are put together."""
        current = self._current
        if step <= current:
            return
        if self._settled:
            self._whole[current] = _Whole.of(sorted_rows(self._settled))
            self._settled = []
        if current in self._whole or current in self._stored:
            self._rewritten.add(current)
        level = max(self.levels.values(), default=0)
        if level and self._count(level) * _FEW < self._most:
            level -= 1
        self.levels[step] = level

    def _thin(self) -> None:
        """Halve the steps whose sample is the densest."""
        level = min(self.levels.values())
        for step, its in self.levels.items():
            if its > level:
                continue
            self.levels[step] = level + 1
            if (whole := self._whole.get(step)) is not None:
                at = np.flatnonzero(self._stretches.has(whole.times, level + 1))
                self._whole[step] = _Whole.of(taken_rows(unpacked_rows(whole.body), at))
                self._rewritten.add(step)
        if self._settled and self.levels[self._current] == level + 1:
            settled, self._settled = joined_rows(self._settled), []
            self._settle(settled)

    def _times(self) -> Iterator[IntArray]:
        yield from (whole.times for whole in self._whole.values())
        yield from (rows[TIME] for rows in self._settled)

    def _count(self, level: int) -> int:
        return sum(int(np.count_nonzero(self._stretches.has(times, level))) for times in self._times())

    def drop_before(self, time: int) -> None:
        """Drop the steps that end at or before a time, ms."""
        for step in [step for step in self.levels if (step + 1) * self._step <= time and step < self._current]:
            del self.levels[step]
            self._whole.pop(step, None)
            self._forget(step)

    @property
    def stored_steps(self) -> list[int]:
        """Steps of which the database may have rows."""
        return sorted(self._stored | self._forgotten)

    def clear(self) -> None:
        """Drop everything that came so far."""
        for step in self._stored.copy():
            self._forget(step)
        self.levels, self._whole = {}, {}
        self._settled, self._open, self._fresh = [], [], []
        self._rewritten = set()
        self.kept_from = 0

    def _forget(self, step: int) -> None:
        self._rewritten.discard(step)
        if step in self._stored:
            self._stored.discard(step)
            self._forgotten.add(step)

    # -- what is read ------------------------------------------------------------------------------------

    def count(self, start: int, end: int, without: Collection[Span]) -> int:
        """Return how many rows `between` has."""
        choose = self._choice(start, end, without)
        return sum(int(np.count_nonzero(choose(times))) for times in self._times())

    def between(self, start: int, end: int, without: Collection[Span]) -> Callable[[], Rows]:
        """Return what gives the rows from `start` to before `end`, ms, all of one sample, in the order of time.

        It may be called in another thread, and gives the same whatever happens meanwhile.

        Args:
            start: Of the earliest rows, ms.
            end: Of panes that have ended, ms.
            without: Spans of time to leave out.
        """
        bodies, settled = [whole.body for whole in self._whole.values()], list(self._settled)
        choose = self._choice(start, end, without)

        def rows() -> Rows:
            chunks = [*map(unpacked_rows, bodies), *settled]
            return sorted_rows([taken_rows(chunk, np.flatnonzero(choose(chunk[TIME]))) for chunk in chunks])

        return rows

    def _choice(self, start: int, end: int, without: Collection[Span]) -> Callable[[IntArray], BoolArray]:
        level = max((its for step, its in self.levels.items() if (step + 1) * self._step > start), default=0)
        stretches, spans = self._stretches, tuple(without)

        def choose(times: IntArray) -> BoolArray:
            chosen: BoolArray = (times >= start) & (times < end) & stretches.has(times, level)
            for first, last in spans:
                chosen &= (times < first) | (times >= last)
            return chosen

        return choose

    def later(self) -> Rows | None:
        """Return all rows of panes that have not ended, in the order of time; None without any."""
        return sorted_rows(self._open) if self._open else None

    def distinct(self, name: str) -> set[int]:
        """Return the distinct whole numbers of a column."""
        chunks = [*(unpacked_rows(whole.body) for whole in self._whole.values()), *self._settled]
        return {int(value) for chunk in chunks for value in np.unique(chunk[name]).tolist()}

    # -- storing -----------------------------------------------------------------------------------------

    def drain_changes(self) -> tuple[dict[int, bytes], set[int]]:
        """Return (rows to store, by step; steps whose stored rows are void) since this was last called.

        What is void is dropped before anything is stored.
        """
        found = {step: self._whole[step].body for step in self._rewritten if step in self._whole}
        void = self._forgotten | (self._rewritten & self._stored)
        self._stored -= self._rewritten
        if self._fresh:
            fresh, self._fresh = joined_rows(self._fresh), []
            steps = fresh[TIME] // self._step
            of_now = self.useful(fresh[TIME]) & (steps >= self._current)
            for step in np.unique(steps[of_now]).tolist():
                found[step] = packed_rows(taken_rows(fresh, np.flatnonzero(of_now & (steps == step))))
        self._stored |= found.keys()
        self._rewritten, self._forgotten = set(), set()
        return found, void

    def restore(self, stored: Mapping[int, Sequence[bytes]]) -> None:
        """Take back what `drain_changes` returned; levels, `sealed` and `kept_from` are there already."""
        self._stored = set(stored)
        for step, bodies in sorted(stored.items()):
            rows = joined_rows([unpacked_rows(body) for body in bodies])
            if step < self._current:
                if step in self.levels:
                    self._whole[step] = _Whole(rows[TIME], bodies[0]) if len(bodies) == 1 else _Whole.of(rows)
                continue
            early = rows[TIME] < self.sealed
            self._open.append(taken_rows(rows, np.flatnonzero(~early)))
            if early.any():
                self._settle(taken_rows(rows, np.flatnonzero(early)))
        self._open = [rows for rows in self._open if len(rows[TIME])]
