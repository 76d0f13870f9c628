"""What a detector looks at: the sum of the latest panes of one variant.

A window reaches back over at least a span of time and at least a number of events, whichever is more, but
never further than a bound; or it is a fixed number of counted panes. Its total is kept as panes come and go,
so its cost does not depend on what it holds. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from detectors.pane import CountsByName
from detectors.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class WindowRule:
    """How far a window reaches back from its latest pane.

    By time: pane ids are multiples of the pane's width; `span` and `longest` are counted in panes.
    Counted: every pane holds the same number of events, `span` of them make a window, `min_events` is what
    they hold, and `longest` equals `span`.
    """

    span: int
    longest: int
    min_events: int

    def first(self, held: list[tuple[int, int]]) -> int:
        """How many of the (pane id, events) from the left have left the window that ends with the last."""
        last = held[-1][0]
        drop, events = 0, sum(n for _, n in held)
        for pane, n in held[:-1]:
            too_old = pane <= last - self.longest
            spare = pane <= last - self.span and events - n >= self.min_events
            if not (too_old or spare):
                break
            drop, events = drop + 1, events - n
        return drop


@dataclass(frozen=True, slots=True)
class Slice:
    """A closed pane of one variant: `start` and `end` in milliseconds, `events` accepted predictions.

    `sums` are floating-point sums that add up like the counts, though not exactly.
    """

    pane: int
    start: int
    end: int
    events: int
    counts: CountsByName
    sums: FloatArray


class Window:
    """The panes of one variant, the latest last, and the total of each vector."""

    def __init__(self, rule: WindowRule) -> None:
        self.rule = rule
        self._slices: deque[Slice] = deque()
        self._totals: dict[str, IntArray] = {}
        self._holders: dict[str, int] = {}  # panes that have a vector

    def push(self, newest: Slice) -> None:
        """Take a closed pane in and let those go that the rule no longer reaches.

        Panes come in order of their ids; a later one with the id of the last is not expected.
        """
        self._slices.append(newest)
        self._add(newest, 1)
        for _ in range(self.rule.first([(s.pane, s.events) for s in self._slices])):
            self._add(self._slices.popleft(), -1)

    def with_partial(self, last: Slice) -> Window:
        """The window that would end with a pane that is not complete; this one stays as it is."""
        window = Window(self.rule)
        for piece in self._slices:
            window.push(piece)
        window.push(last)
        return window

    def forget(self, name: str) -> None:
        """Drop a vector from all panes: what it was counted against is no longer the reference."""
        self._totals.pop(name, None)
        self._holders.pop(name, None)
        kept = [replace(s, counts={k: v for k, v in s.counts.items() if k != name}) for s in self._slices]
        self._slices = deque(kept)

    def _add(self, piece: Slice, sign: int) -> None:
        for name, counts in piece.counts.items():
            if name not in self._totals:
                self._totals[name] = np.zeros(counts.size, np.int64)
            counts.add_to(self._totals[name], sign)
            self._holders[name] = self._holders.get(name, 0) + sign
            if not self._holders[name]:
                del self._totals[name], self._holders[name]

    def total(self, name: str) -> IntArray | None:
        """Sum of a vector over the window, None if no pane has it. The caller may not write to it."""
        return self._totals.get(name)

    @property
    def events(self) -> int:
        """Accepted predictions in the window."""
        return sum(s.events for s in self._slices)

    @property
    def start(self) -> int:
        """Begin of the earliest pane, in milliseconds."""
        return self._slices[0].start

    @property
    def end(self) -> int:
        """End of the latest pane, in milliseconds."""
        return self._slices[-1].end

    @property
    def first_pane(self) -> int:
        """Id of the earliest pane."""
        return self._slices[0].pane

    def __len__(self) -> int:
        return len(self._slices)

    def __iter__(self) -> Iterator[Slice]:
        return iter(self._slices)
