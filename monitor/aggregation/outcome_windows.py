"""Windows whose outcomes may still come.

A check of answers leaves a window behind whose quality becomes known later. It is eligible to be judged when
enough of its outcomes are there or none can come any more, and its row of the history is written again as
they land. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.types import BoolArray, IntArray
from detectors.window import Window
from monitor.spec import OutcomesSpec, WindowSpec

MOST = 10_000  # windows of a version that wait; beyond, the oldest are final before their time


@dataclass(slots=True)
class OutcomeWindow:
    """Outcome panes from `first` to `last`; times in ms.

    `closed_at` is when no answer can be added any more, `final_at` when no outcome can. `dirty` and `blank` are
    about its row of the history: that is out of date, and there is none yet.
    """

    first: int
    last: int
    start: int
    end: int
    closed_at: int
    final_at: int
    dirty: bool = True
    blank: bool = True


def window_of_check(spec: WindowSpec, outcomes: OutcomesSpec, window: Window) -> OutcomeWindow:
    """The window of a check in outcome panes: its quality will become known later."""
    if spec.counted:
        last = window.first_pane + len(window) - 1
        return OutcomeWindow(
            window.first_pane, last, window.start, window.end, -1, window.end + outcomes.prediction_ttl
        )
    first, last = window.start // outcomes.pane, (window.end - 1) // outcomes.pane
    end = (last + 1) * outcomes.pane
    return OutcomeWindow(first, last, first * outcomes.pane, end, end, end + outcomes.prediction_ttl)


class OutcomeWindows:
    """The windows of one version, the earliest first."""

    def __init__(self) -> None:
        self._windows: list[OutcomeWindow] = []
        self._judged = -1  # last pane of the newest window that was judged
        self.dropped = 0
        self._fresh = 0  # windows at the end that are not in the database

    def __len__(self) -> int:
        return len(self._windows)

    def note(self, window: OutcomeWindow) -> None:
        """A check looked at this window. One with the same last pane replaces the one before."""
        if self._windows and self._windows[-1].last == window.last:
            self._windows[-1] = window
            self._fresh = max(self._fresh, 1)
        else:
            self._windows.append(window)
            self._fresh += 1
        if len(self._windows) > MOST:
            del self._windows[0]
            self._fresh = min(self._fresh, len(self._windows))
            self.dropped += 1

    def touch(self, panes: Iterable[int]) -> None:
        """Outcomes landed in these panes."""
        touched = np.array(sorted(panes), np.int64)
        if not len(touched) or not self._windows:
            return
        first, last = self._ends()
        for i in np.flatnonzero(
            np.searchsorted(touched, first) < np.searchsorted(touched, last, side="right")
        ).tolist():
            self._windows[i].dirty = True

    def _ends(self) -> tuple[IntArray, IntArray]:
        return (
            np.array([w.first for w in self._windows], np.int64),
            np.array([w.last for w in self._windows], np.int64),
        )

    def eligible(
        self, coverage: tuple[IntArray, IntArray, IntArray], min_coverage: float, clock: int
    ) -> list[OutcomeWindow]:
        """Windows to judge now, in order: covered or final, closed, and newer than all that were judged.

        `coverage` is (panes ascending, answers that an outcome can score, joined).
        """
        start = len(self._windows)
        while start and self._windows[start - 1].last > self._judged:
            start -= 1
        waiting = self._windows[start:]
        if not waiting:
            return []
        covered = _covered(waiting, coverage, min_coverage)
        ready = [
            w
            for w, c in zip(waiting, covered.tolist(), strict=True)
            if w.closed_at <= clock and (c or w.final_at <= clock)
        ]
        if ready:
            self._judged = ready[-1].last
        return ready

    def dirty(self, clock: int, most: int | None = None) -> list[OutcomeWindow]:
        """Windows whose row of the history is out of date, the latest first; they count as written from now on.

        One that may still be replaced has no row yet.
        """
        stale = [w for w in reversed(self._windows) if w.dirty and w.closed_at <= clock][:most]
        for window in stale:
            window.dirty = False
        return stale

    def finished(self, clock: int) -> list[OutcomeWindow]:
        """Take out the windows for which nothing can come any more. Those dirty or blank must be written.

        Only windows that were judged, or that are older than one that was: when they are judged is a matter of
        the stream, and not of when somebody asks here.
        """
        count = 0
        while (
            count < len(self._windows)
            and self._windows[count].final_at <= clock
            and self._windows[count].last <= self._judged
        ):
            count += 1
        gone, self._windows = self._windows[:count], self._windows[count:]
        self._fresh = min(self._fresh, len(self._windows))
        return gone

    @property
    def first_pane(self) -> int | None:
        """The earliest pane that a window still needs."""
        return min((w.first for w in self._windows), default=None)

    @property
    def newest(self) -> OutcomeWindow | None:
        """The latest window."""
        return self._windows[-1] if self._windows else None

    @property
    def first_final_at(self) -> int | None:
        """When the next window that was not judged becomes final."""
        return next((w.final_at for w in self._windows if w.last > self._judged), None)

    def drain_fresh(self, *, everything: bool = False) -> IntArray:
        """Windows noted since this was last called, or all, as rows of six numbers for the database."""
        chosen = self._windows if everything else self._windows[len(self._windows) - self._fresh :]
        self._fresh = 0
        rows = [(w.first, w.last, w.start, w.end, w.closed_at, w.final_at) for w in chosen]
        return np.array(rows, np.int64).reshape(-1, 6)

    @property
    def judged(self) -> int:
        """Last pane of the newest window that was judged, -1 before the first."""
        return self._judged

    def restore(self, rows: Iterable[IntArray], judged: int, clock: int) -> None:
        """Take back what `drain_fresh` gave, in order, without what was finished by `clock`."""
        self._judged = judged
        windows: dict[int, OutcomeWindow] = {}
        for part in rows:
            for row in part.tolist():
                windows[row[1]] = OutcomeWindow(*row)
        self._windows = list(windows.values())
        self.finished(clock)
        self._fresh = 0


def _covered(
    windows: Sequence[OutcomeWindow], coverage: tuple[IntArray, IntArray, IntArray], min_coverage: float
) -> BoolArray:
    panes, expected, joined = coverage
    ends = [np.concatenate([[0], np.cumsum(column)]) for column in (expected, joined)]
    first = np.searchsorted(panes, [w.first for w in windows])
    last = np.searchsorted(panes, [w.last for w in windows], side="right")
    wanted, met = (e[last] - e[first] for e in ends)
    result: BoolArray = (wanted > 0) & (met >= min_coverage * wanted)
    return result
