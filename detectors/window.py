"""Sliding windows: the sum of the latest panes of one variant.

A window covers at least a span of time and at least a number of events, but never reaches back further than a limit; or
it covers a fixed number of panes of equally many events. Totals are updated as panes come and go, so the cost of a
check does not depend on the number of events. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from detectors.pane import CountsByName
from detectors.types import FloatArray, IntArray

_ENOUGH: Final = 0.9  # share of its span from which a window spans it


@dataclass(frozen=True, slots=True)
class WindowRule:
    """Say how far a window reaches back from its latest pane.

    In a counted window every pane holds the same number of events; then `longest` equals `span`, and `min_events` is
    the number of events of a full window.

    Attributes:
        span: Smallest length of a window, in panes.
        longest: Largest length of a window, in panes.
        min_events: Smallest number of events; with fewer, a window is longer than `span`, but at most `longest`.
    """

    span: int
    longest: int
    min_events: int

    def leaves(self, first: Slice, last: int, events: int) -> bool:
        """Tell whether the earliest pane is no longer in the window.

        Args:
            first: The earliest pane.
            last: Number of the latest pane.
            events: Events of all panes, the earliest included.
        """
        too_old = first.pane <= last - self.longest
        return too_old or (first.pane <= last - self.span and events - first.events >= self.min_events)


@dataclass(frozen=True, slots=True)
class Slice:
    """Hold a closed pane of one variant.

    Attributes:
        pane: Number of the pane; for a pane of time, its start divided by its width.
        start: Start in milliseconds since the epoch.
        end: End in milliseconds since the epoch.
        events: Number of accepted predictions.
        counts: Count vectors by name.
        sums: Floating-point sums; unlike the counts they add up only approximately.
    """

    pane: int
    start: int
    end: int
    events: int
    counts: CountsByName
    sums: FloatArray

    def narrowed(self) -> Slice:
        """Return the pane in as few bytes as hold its counts."""
        return replace(self, counts={name: counts.narrowed() for name, counts in self.counts.items()})


class Window:
    """Keep the latest panes of one variant and the totals of their count vectors.

    Iterating gives the panes, the latest last.
    """

    def __init__(self, rule: WindowRule) -> None:
        """Start without panes."""
        self.rule = rule
        self._slices: deque[Slice] = deque()
        self._totals: dict[str, IntArray] = {}
        self._holders: dict[str, int] = {}  # number of panes that have a vector
        self._events = 0

    def push(self, newest: Slice) -> None:
        """Add a closed pane and drop those that are no longer in the window.

        Panes must come in ascending order of their numbers, each number once.
        """
        self._slices.append(newest)
        self._add(newest, 1)
        while len(self._slices) > 1 and self.rule.leaves(self._slices[0], newest.pane, self.events):
            self._add(self._slices.popleft(), -1)

    def with_partial(self, last: Slice) -> Window:
        """Return the window that would end with an incomplete pane, leaving this one unchanged."""
        window = Window(self.rule)
        for piece in self._slices:
            window.push(piece)
        window.push(last)
        return window

    def forget(self, name: str) -> None:
        """Drop a count vector from all panes, because its reference is no longer in force."""
        self._totals.pop(name, None)
        self._holders.pop(name, None)
        kept = [replace(s, counts={k: v for k, v in s.counts.items() if k != name}) for s in self._slices]
        self._slices = deque(kept)

    def _add(self, piece: Slice, sign: int) -> None:
        self._events += sign * piece.events
        for name, counts in piece.counts.items():
            if name not in self._totals:
                self._totals[name] = np.zeros(counts.size, np.int64)
            counts.add_to(self._totals[name], sign)
            self._holders[name] = self._holders.get(name, 0) + sign
            if not self._holders[name]:
                del self._totals[name], self._holders[name]

    def total(self, name: str) -> IntArray | None:
        """Return the sum of a count vector over the window, or None if no pane has it.

        The caller must not write to it.
        """
        return self._totals.get(name)

    def begins_run(self, length: int) -> bool:
        """Tell whether the latest pane is the first of a run of `length` panes, by their numbers."""
        if len(self._slices) < 2:
            return True
        return self._slices[-1].pane // length > self._slices[-2].pane // length

    def spans(self, name: str) -> bool:
        """Tell whether the window holds what its rule asks for, and every pane of it a count vector.

        A window that has just begun, or whose earlier panes were counted against another reference, does not. As panes
        without events are no panes, a tenth of the span may lack at the beginning.
        """
        if not self._slices or self._events < self.rule.min_events or self._holders.get(name) != len(self._slices):
            return False
        return self._slices[-1].pane - self._slices[0].pane + 1 >= _ENOUGH * self.rule.span

    @property
    def events(self) -> int:
        """Return the number of accepted predictions in the window."""
        return self._events

    @property
    def start(self) -> int:
        """Return the start of the earliest pane, in milliseconds since the epoch."""
        return self._slices[0].start

    @property
    def end(self) -> int:
        """Return the end of the latest pane, in milliseconds since the epoch."""
        return self._slices[-1].end

    @property
    def first_pane(self) -> int:
        """Return the number of the earliest pane."""
        return self._slices[0].pane

    @property
    def last_pane(self) -> int:
        """Return the number of the latest pane."""
        return self._slices[-1].pane

    def __len__(self) -> int:
        return len(self._slices)

    def __iter__(self) -> Iterator[Slice]:
        return iter(self._slices)
