"""Stream time: how far the stream has come, whatever the clock on the wall says.

It is the least, over partitions that are not idle, of the latest event time seen less the allowed lateness,
and it never goes back. A partition that lags holds it; one that is idle, or that a replay has read to its
end, does not. Pure: what is idle is told by the worker.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np

from detectors.types import IntArray
from monitor.stream.types import Batch, Partition

UNKNOWN: Final = -1  # until every active partition has shown an event
_FAR: Final = 1 << 62


class Watermark:
    """`ends` are the offsets at which partitions of a replay are finished; None for a live stream."""

    def __init__(self, lateness: int, ends: Mapping[Partition, int] | None = None) -> None:
        self._lateness = lateness
        self._ends = ends
        self.now = UNKNOWN
        self._latest: dict[Partition, int] = {}  # event times
        self._assigned: set[Partition] = set()
        self._finished: set[Partition] = set()

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """These partitions are read, from these offsets on."""
        self._assigned = set(positions)
        if self._ends is not None:
            self._finished = {p for p, at in positions.items() if at >= self._ends.get(p, 0)}

    def finish(self, partitions: Collection[Partition]) -> None:
        """These have been read to the end of a replay, though their last record was not delivered."""
        self._finished |= set(partitions)

    def advance(self, batch: Batch, times: IntArray, idle: Collection[Partition], wall: int) -> IntArray:
        """Stream time at each record of a batch, its own event included.

        `times` are event times, negative for records that were refused. `idle` are partitions at whose end
        nothing has come for a while; where all are, stream time follows the clock on the wall.
        """
        here = [p for i, p in enumerate(batch.partitions) if (batch.source == i).any()]
        elsewhere = self._assigned - set(here) - set(idle) - self._finished
        others = min((self._latest.get(p, -_FAR) for p in elsewhere), default=_FAR)
        least = np.full(len(batch), others, np.int64)
        for i, partition in enumerate(batch.partitions):
            mine = batch.source == i
            if mine.any():
                least = np.minimum(least, self._running(batch, partition, mine, times))
        known = (least > -_FAR) & (least < _FAR)
        clock = np.where(known, least - self._lateness, UNKNOWN)
        clock = np.maximum.accumulate(np.maximum(clock, self.now))
        if len(clock):
            self.now = int(clock[-1])
        elif others not in (_FAR, -_FAR):
            self.now = max(self.now, others - self._lateness)
        if self._ends is None and self._assigned and self._assigned <= set(idle) - set(here):
            self.now = max(self.now, wall - self._lateness)
        return clock

    def _running(self, batch: Batch, partition: Partition, mine: np.ndarray[Any, Any], times: IntArray) -> IntArray:
        """The latest event time of a partition after each record of the batch."""
        start = self._latest.get(partition, -_FAR)
        seen = np.where(mine & (times >= 0), times, -_FAR)
        latest = np.maximum.accumulate(np.maximum(seen, start))
        if latest[-1] > -_FAR:
            self._latest[partition] = int(latest[-1])
        if self._ends is not None:
            last = int(np.flatnonzero(mine)[-1])
            if batch.offset[last] + 1 >= self._ends.get(partition, _FAR):
                self._finished.add(partition)
                latest[last + 1 :] = _FAR  # its last event still counts when it is processed
        return latest

    def end(self) -> int:
        """A replay is over: stream time moves past the lateness of the last event."""
        if self._latest:
            self.now = max(self.now, max(self._latest.values()) + self._lateness)
        return self.now

    def state(self) -> dict[str, Any]:
        """To be stored."""
        return {"now": self.now, "latest": [[p.topic, p.number, at] for p, at in sorted(self._latest.items())]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.now = state["now"]
        self._latest = {Partition(topic, number): at for topic, number, at in state["latest"]}
