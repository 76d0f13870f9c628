"""Stage one: columns of accepted answers become panes.

A pane is closed when no more of it can come: a time pane when stream time passes its end, a counted one when
it is full. Until then it is dense and gathers; closed, it is as small as it can be and belongs to the
window. What a pane gained since the last commit is its fragment. Pure: nothing here needs the daemon, its
database or the order of partitions, and fragments of any origin add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.pane import Counts, merge, pack_counts, unpack_counts
from detectors.types import FloatArray, IntArray
from detectors.window import Slice
from monitor.aggregation.metrics import (
    LATENCY_CELLS,
    PROBABILITIES,
    SUM_AT,
    SUMS,
    SUMS_SIZE,
    TALLY,
    TALLY_AT,
    TALLY_SIZE,
    VALUES,
    PaneCounter,
    Sum,
    add_centered,
    add_in_order,
    joined_sums,
    latency_cells,
    widened,
    widened_tally,
)
from monitor.aggregation.predictions import Predictions, groups_of
from monitor.events.columns import EventKind
from monitor.events.readings import DOUBTFUL
from monitor.events.schema import SERVED_BY

_RESOURCES = (
    (PaneCounter.MEMORY, Sum.MEMORY, Sum.MEMORY_SQUARED),
    (PaneCounter.CPU, Sum.CPU, Sum.CPU_SQUARED),
    (PaneCounter.GPU, Sum.GPU, Sum.GPU_SQUARED),
)


@dataclass(slots=True)
class OpenPane:
    """A pane that may still gain events. `fresh` is what it gained since the last commit."""

    first_time: int
    last_time: int
    events: int = 0
    sums: FloatArray = field(default_factory=lambda: np.zeros(SUMS_SIZE))
    fresh: dict[str, Counts] = field(default_factory=dict)
    committed: dict[str, Counts] = field(default_factory=dict)
    changed: bool = True

    def add(self, name: str, counts: Counts) -> None:
        """Count more under a name. The pane owns `counts` from then on."""
        held = self.fresh.get(name)
        if held is None:
            self.fresh[name] = counts
        else:
            if held.index is not None:
                held = self.fresh[name] = Counts(held.size, None, held.dense())
            counts.add_to(held.value)
        self.changed = True

    def absorb(self, other: OpenPane) -> None:
        """Take in all that another open pane of the same time holds, as something new."""
        self.first_time, self.last_time = min(self.first_time, other.first_time), max(self.last_time, other.last_time)
        self.events += other.events
        self.sums = joined_sums([self.sums, other.sums])
        for name, counts in other.counts().items():
            self.add(name, Counts(counts.size, None, counts.dense().copy()))

    def counts(self) -> dict[str, Counts]:
        """All counts of the pane."""
        return merge([self.committed, self.fragment()])

    def fragment(self) -> dict[str, Counts]:
        """What it gained since the last commit, as small as it can be."""
        return {name: Counts.of(c.value) if c.index is None else c for name, c in self.fresh.items()}

    def settle(self) -> None:
        """The fragment is committed."""
        self.committed, self.fresh, self.changed = self.counts(), {}, False


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a pane of a variant gained since the last commit: a row of the database.

    Counts add up; sums, times and the number of events are the pane's own so far, and the latest stand.
    """

    variant: int
    pane: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ClosedPane:
    """A pane of a version that nothing more can come into: what windows and comparisons of versions are made of."""

    variant: int
    content: Slice


class Panes:
    """Open panes of one model, by variant and pane."""

    def __init__(self, user_metric: Callable[[str], int | None]) -> None:
        self._open: dict[tuple[int, int], OpenPane] = {}
        self._user_metric = user_metric

    # -- adding ------------------------------------------------------------------------------------------

    def add(
        self, predictions: Predictions, panes: IntArray, compared: Callable[[int, IntArray], Mapping[str, Counts]]
    ) -> None:
        """Count predictions into their panes.

        Args:
            predictions: In the order of the stream.
            panes: The pane of each.
            compared: Gives the counts of what is compared with a reference, for a version and rows of `predictions`.
        """
        for variant, pane, rows in groups_of(predictions.variant, panes):
            held = self._pane(variant, pane, predictions.time[rows])
            self._count(held, predictions, rows)
            for name, counts in compared(variant, rows).items():
                held.add(name, counts)

    def _pane(self, variant: int, pane: int, times: IntArray) -> OpenPane:
        first, last = int(times.min()), int(times.max())
        held = self._open.get((variant, pane))
        if held is None:
            held = self._open[variant, pane] = OpenPane(first, last)
        held.first_time, held.last_time = min(held.first_time, first), max(held.last_time, last)
        return held

    def _count(self, pane: OpenPane, predictions: Predictions, rows: IntArray) -> None:
        events = predictions.events
        tally = np.zeros(TALLY_SIZE, np.int64)
        tally[TALLY_AT[PaneCounter.PREDICTIONS]] = len(rows)
        pane.events += len(rows)
        for name, column in (
            (PaneCounter.FAILED, events.failed),
            (PaneCounter.SCORABLE, predictions.scorable),
            (PaneCounter.SERVED, events.kind == EventKind.SERVED),
            (PaneCounter.CONTAMINATED, events.contaminated),
        ):
            tally[TALLY_AT[name]] = np.count_nonzero(column[rows])
        tally[-len(SERVED_BY) :] = np.bincount(events.served_by[rows], minlength=len(SERVED_BY))
        tally[TALLY_AT[PaneCounter.VALUES]] += add_centered(pane.sums, VALUES, predictions.measured[rows])
        add_centered(pane.sums, PROBABILITIES, events.probability[rows])
        score = events.score[rows]
        for end, number in ((Sum.ZEROS, 0.0), (Sum.ONES, 1.0)):
            pane.sums[SUM_AT[end]] += np.count_nonzero(score == DOUBTFUL + number)
        batch_ms = events.batch_ms[rows]
        batch_ms = batch_ms[~np.isnan(batch_ms)]
        if len(batch_ms):
            self._sum(pane, tally, PaneCounter.BATCHES, Sum.BATCH_MS, Sum.BATCH_MS_SQUARED, batch_ms)
        self._user_sums(pane, tally, [events.metrics[i] for i in rows.tolist()])
        latency = events.latency[rows]
        if not np.isnan(latency).all():
            pane.add("latency", Counts(LATENCY_CELLS, None, latency_cells(latency)))
        pane.add("tally", Counts(TALLY_SIZE, None, tally))

    def _sum(
        self, pane: OpenPane, tally: IntArray, count: PaneCounter, total: Sum, squares: Sum, values: FloatArray
    ) -> None:
        tally[TALLY_AT[count]] += len(values)
        sums = pane.sums
        with np.errstate(over="ignore"):
            sums[SUM_AT[total]] = add_in_order(sums[SUM_AT[total]], values)
            sums[SUM_AT[squares]] = add_in_order(sums[SUM_AT[squares]], values**2)

    def _user_sums(self, pane: OpenPane, tally: IntArray, metrics: Sequence[Mapping[str, float | None] | None]) -> None:
        if not any(metrics):
            return
        values: dict[str, list[float]] = {}
        for given in metrics:
            for name, value in (given or {}).items():
                if value is not None:
                    values.setdefault(name, []).append(value)
        for name, column in values.items():
            place = self._user_metric(name)
            if place is None:
                continue
            tally[len(TALLY) + place] += len(column)
            at = len(SUMS) + 2 * place
            array = np.array(column, np.float64)
            with np.errstate(over="ignore"):
                pane.sums[at] = add_in_order(pane.sums[at], array)
                pane.sums[at + 1] = add_in_order(pane.sums[at + 1], array**2)

    def add_resources(self, variant: IntArray, pane: IntArray, time: IntArray, amounts: FloatArray) -> None:
        """Reports of memory, CPU and GPU; NaN is what a report left out."""
        for v, p, rows in groups_of(variant, pane):
            held = self._pane(v, p, time[rows])
            tally = np.zeros(TALLY_SIZE, np.int64)
            for column, (count, total, squares) in enumerate(_RESOURCES):
                values = amounts[rows, column]
                values = values[~np.isnan(values)]
                if len(values):
                    self._sum(held, tally, count, total, squares, values)
            held.add("tally", Counts(TALLY_SIZE, None, tally))

    def add_counts(self, variant: int, pane: int, counts: Mapping[str, Counts]) -> None:
        """Count more of what an open pane holds already; nothing where it is not open any more."""
        held = self._open.get((variant, pane))
        if held is not None:
            for name, its in counts.items():
                held.add(name, its)

    def merge(self, variant: int, into: int, void: Sequence[str] = ()) -> None:
        """Add all open panes of a variant to those of another one, and forget them.

        Args:
            variant: The one that is no more.
            into: The other one.
            void: Names of vectors that are dropped.
        """
        for pane, _ in [key for key in self.open() if key[1] == variant]:
            held = self._open.pop((variant, pane))
            for name in void:
                held.fresh.pop(name, None)
                held.committed.pop(name, None)
            mine = self._open.get((into, pane))
            if mine is None:
                mine = self._open[into, pane] = OpenPane(held.first_time, held.last_time)
            mine.absorb(held)

    # -- closing -----------------------------------------------------------------------------------------

    def __contains__(self, key: tuple[int, int]) -> bool:
        return key in self._open

    def open(self) -> list[tuple[int, int]]:
        """(pane, variant) of all open panes, in order."""
        return sorted((pane, variant) for variant, pane in self._open)

    def peek(self, variant: int, pane: int) -> OpenPane:
        """A pane that stays open."""
        return self._open[variant, pane]

    def close(self, variant: int, pane: int, width: int) -> tuple[Slice, Fragment]:
        """Take a pane out: (its slice, what of it is not in the database yet). `width` is 0 for counted panes."""
        held = self._open.pop((variant, pane))
        return slice_of(pane, held, width), fragment_of(variant, pane, held)

    def forget(self, names: Sequence[str]) -> None:
        """Drop vectors from all open panes: what they were counted against is no longer the reference."""
        for held in self._open.values():
            for name in names:
                held.fresh.pop(name, None)
                held.committed.pop(name, None)

    def drain_fragments(self) -> list[Fragment]:
        """What open panes gained since this was last called."""
        fragments = []
        for (variant, pane), held in self._open.items():
            if held.changed:
                fragments.append(fragment_of(variant, pane, held))
                held.settle()
        return fragments

    def restore(self, variant: int, pane: int, held: OpenPane) -> None:
        """Go on with a pane that was open when it was stored."""
        self._open[variant, pane] = held


def slice_of(pane: int, held: OpenPane, width: int) -> Slice:
    """A closed pane: a time pane spans its width, a counted one its events."""
    start, end = (pane * width, (pane + 1) * width) if width else (held.first_time, held.last_time)
    return Slice(pane, start, end, held.events, held.counts(), held.sums)


def fragment_of(variant: int, pane: int, held: OpenPane) -> Fragment:
    """The row to write for what a pane gained."""
    header = {
        "variant": variant,
        "pane": pane,
        "first_time": held.first_time,
        "last_time": held.last_time,
        "events": held.events,
    }
    return Fragment(variant, pane, pack_counts(header, held.fragment(), {"sums": held.sums}))


def whole(bodies: Sequence[bytes]) -> OpenPane:
    """The pane whose fragments these are, in order of commits."""
    header: dict[str, Any] = {}
    plain: dict[str, NDArray[Any]] = {}
    parts = []
    for body in bodies:
        header, counts, plain = unpack_counts(body)
        if "tally" in counts:
            counts["tally"] = widened_tally(counts["tally"])
        parts.append(counts)
    return OpenPane(
        first_time=header["first_time"],
        last_time=header["last_time"],
        events=header["events"],
        sums=widened(plain["sums"]),
        committed=merge(parts),
        changed=False,
    )
