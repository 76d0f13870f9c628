"""The user's own metrics that came with an outcome before its prediction.

The join keeps what outcome and prediction have in common; what users add to an outcome waits here, as far as a window
has a place for it. What is new is stored with the commit, as rows that are dropped as a whole once nothing of them
waits any more. Where less than half of a row waits, that half is written into the next row. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.saved import pack, unpack
from detectors.types import IntArray
from monitor.aggregation.pairs import UserMetrics
from monitor.events.columns import Events
from monitor.join.arrays import Keys
from monitor.join.results import Joined, JoinVerdict
from monitor.pipeline.numbered_rows import NumberedRows

SUBJECT: Final = "early:"
MOST: Final = 10_000  # outcomes with metrics that wait for their prediction
_MAGIC: Final = b"DRIFTEAR"
StillWaits = Callable[[Keys], NDArray[np.bool_]]
HasPlace = Callable[[int, str], bool]


@dataclass(slots=True)
class _Stored:
    """A stored row: its model and subject, the requests in it, and those of them that still wait."""

    model: int
    subject: str
    requests: Sequence[int]
    waiting: set[int]


class EarlyMetrics:
    """Metrics by the low half of the request's hash, the earliest first.

    Attributes:
        dropped: Outcomes whose metrics were dropped before their prediction came, since there were too many.
    """

    def __init__(self, still_waits: StillWaits, has_met: StillWaits, has_place: HasPlace, models: int) -> None:
        """Make an empty one.

        Args:
            still_waits: Tells which outcomes wait for an answer.
            has_met: Tells which of them have met the served answer, and wait for others only.
            has_place: Tells whether a metric of a model, by its index, is kept in windows.
            models: Number of models.
        """
        self._still_waits, self._has_met, self._has_place = still_waits, has_met, has_place
        self.by_request: dict[int, UserMetrics] = {}
        self.dropped = 0
        self._rows = [NumberedRows(SUBJECT) for _ in range(models)]
        self._fresh: list[dict[int, None]] = [{} for _ in range(models)]  # requests to be stored, in order
        self._stored: dict[int, _Stored] = {}  # by request
        self._sparse: list[dict[str, _Stored]] = [{} for _ in range(models)]  # rows of which less than half waits
        self._unnumbered: set[int] = set()  # stored by an earlier release, with what models share

    def add(self, events: Events, joined: Joined) -> None:
        """Keep the metrics of outcomes that wait, also where another answer was there already."""
        early = (joined.verdict == JoinVerdict.WAITING) | (joined.verdict == JoinVerdict.JOINED)
        given = events.metrics.astype(np.bool_)
        rows = np.flatnonzero(early & given)
        voiding = self._held_among(events.lo, np.flatnonzero(early & ~given), rows)
        for i in np.union1d(rows, voiding).tolist():
            request, model = int(events.lo[i]), int(events.model[i])
            metrics = events.metrics[i] or {}
            kept = {n: value for n, value in metrics.items() if value is not None and self._has_place(model, n)}
            # What was there of an earlier outcome of this request is void.
            if kept or request in self.by_request or request in self._stored:
                self.by_request[request] = kept
                self._fresh[model][request] = None
                self._unnumbered.discard(request)

    def _held_among(self, requests: Keys, rows: IntArray, fresh: IntArray) -> IntArray:
        """Return those `rows` of a batch of whose request something is kept or stored, or will be with `fresh` rows."""
        if not len(rows) or not (self.by_request or self._stored or len(fresh)):
            return rows[:0]
        kept, stored, new = self.by_request, self._stored, set(requests[fresh].tolist())
        held = [request in kept or request in stored or request in new for request in requests[rows].tolist()]
        found: IntArray = rows[np.array(held)]
        return found

    def forget(self, requests: Keys) -> None:
        """Drop those of these requests that do not wait any more, and those beyond the bound.

        First those that have met the served answer, then the earliest.
        """
        if not self.by_request:
            return
        for request in requests[~self._still_waits(requests)].tolist():
            self._remove(request)
        excess = len(self.by_request) - MOST
        if excess > 0:
            held = np.array(list(self.by_request), np.uint64)
            met = self._has_met(held)
            self.dropped += max(excess - int(np.count_nonzero(met)), 0)
            for request in np.concatenate([held[met], held[~met]])[:excess].tolist():
                self._remove(request)

    def forget_expired(self) -> None:
        """Drop all that do not wait any more."""
        self.forget(np.array(list(self.by_request), np.uint64))

    def _remove(self, request: int) -> None:
        if self.by_request.pop(request, None) is not None:
            self._leave_row(request)

    def _leave_row(self, request: int) -> None:
        """Drop the row that a request is stored in, if nothing else of it waits."""
        row = self._stored.get(request)
        if row is None:
            return
        row.waiting.discard(request)
        if 2 * len(row.waiting) < len(row.requests):
            self._sparse[row.model][row.subject] = row
        if not row.waiting:
            self._rows[row.model].forget(row.subject)
            self._sparse[row.model].pop(row.subject, None)
            for its in row.requests:
                if self._stored.get(its) is row:
                    del self._stored[its]

    # -- storing -----------------------------------------------------------------------------------------

    def drain_changes(self, model: int) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Return (rows to store, subjects of rows to drop) of a model since this was last called."""
        fresh, self._fresh[model] = self._fresh[model], {}
        older = (r for row in self._sparse[model].values() for r in row.requests if r in row.waiting)
        fresh = dict.fromkeys(older) | fresh
        requests = [request for request in fresh if request in self.by_request]
        stored = []
        if requests:
            subject = self._rows[model].begin()
            stored.append((subject, _encoded({request: self.by_request[request] for request in requests})))
            self._enter_row(_Stored(model, subject, requests, set(requests)))
        return stored, self._rows[model].drain_forgotten()

    def _enter_row(self, row: _Stored) -> None:
        for request in row.requests:
            self._leave_row(request)  # of an earlier outcome
            self._stored[request] = row

    def unnumbered(self) -> dict[str, dict[str, float | None]]:
        """Return those that an earlier release stored with what models share, where they stay."""
        self._unnumbered &= self.by_request.keys()
        return {str(request): dict(self.by_request[request]) for request in sorted(self._unnumbered)}

    def restore(
        self, unnumbered: Mapping[str, UserMetrics], stored: Mapping[int, Mapping[str, Sequence[bytes]]]
    ) -> None:
        """Take back what was stored, and drop what does not wait any more; the join is restored before.

        Args:
            unnumbered: What `unnumbered` returned.
            stored: Bodies by subject, by model index; subjects of others are passed over.
        """
        self.by_request = {int(request): metrics for request, metrics in unnumbered.items()}
        self._unnumbered = set(self.by_request)
        for model, its in stored.items():
            for subject, bodies in self._rows[model].restore(its):
                found = {request: metrics for body in bodies for request, metrics in _decoded(body).items()}
                self.by_request |= found
                self._unnumbered -= found.keys()
                self._enter_row(_Stored(model, subject, list(found), set(found)))
        self.forget_expired()


def _encoded(metrics: Mapping[int, UserMetrics]) -> bytes:
    names = sorted({name for its in metrics.values() for name in its})
    values = np.array([[its.get(name, np.nan) for name in names] for its in metrics.values()], np.float64)
    return pack(_MAGIC, {"names": names}, {"request": np.array(list(metrics), np.uint64), "values": values.ravel()})


def _decoded(body: bytes) -> dict[int, dict[str, float | None]]:
    header, arrays = unpack(_MAGIC, body)
    requests, names = arrays["request"].tolist(), header["names"]
    values = arrays["values"].reshape(len(requests), len(names))
    return {
        request: {name: value for name, value in zip(names, row, strict=True) if value == value}
        for request, row in zip(requests, values.tolist(), strict=True)
    }
