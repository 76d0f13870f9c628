"""The watermark: event time up to which the stream is considered complete.

The watermark is the minimum, over active partitions, of the latest event time seen, less the allowed lateness. It
never decreases. A partition is active unless it is idle (see idle timeout) or, in a replay, read to its end: a lagging
partition holds the watermark back, an idle one does not. Pure: the caller says which partitions are idle.

For watermarks see Akidau et al. (2015), "The Dataflow Model", PVLDB 8(12); bounded out-of-orderness and idle sources
are Apache Flink's terms.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.types import IntArray
from monitor.stream.types import Batch, Partition

UNKNOWN: Final = -1  # until every active partition has shown an event
_FAR: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class WatermarkState:
    """What is stored of a watermark.

    Attributes:
        now: The watermark, ms.
        latest: (topic, partition, latest event time in ms).
    """

    now: int
    latest: list[tuple[str, int, int]]


class Watermark:
    """The watermark of the assigned partitions; `now` is its value in ms since the epoch, or `UNKNOWN`."""

    def __init__(self, allowed_lateness: int, ends: Mapping[Partition, int] | None = None) -> None:
        """Start before the first event.

        Args:
            allowed_lateness: How far an event may lag behind the latest one of its partition, in ms.
            ends: Offset at which each partition of a replay is finished; None for a live stream.
        """
        self._allowed_lateness = allowed_lateness
        self._ends = ends
        self.now = UNKNOWN
        self._latest: dict[Partition, int] = {}  # event times
        self._assigned: set[Partition] = set()
        self._finished: set[Partition] = set()

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Set the partitions that are read, with the offset of the next record of each."""
        self._assigned = set(positions)
        if self._ends is not None:
            self._finished = {p for p, at in positions.items() if at >= self._ends.get(p, 0)}

    def finish(self, partitions: Collection[Partition]) -> None:
        """Mark partitions of a replay as finished whose last offset holds no record that could be delivered."""
        self._finished |= set(partitions)

    def advance(self, batch: Batch, times: IntArray, idle: Collection[Partition], wall: int) -> IntArray:
        """Advance over a batch.

        Args:
            batch: Records in processing order.
            times: Event time of each record in ms, int64 of the batch's length; negative for refused records.
            idle: Partitions beyond the idle timeout. Where all partitions are idle, the watermark follows `wall`.
            wall: Wall-clock time in ms.

        Returns:
            The watermark at each record, its own event included: int64 of the batch's length, `UNKNOWN` where unknown.
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
        watermarks = np.where(known, least - self._allowed_lateness, UNKNOWN)
        watermarks = np.maximum.accumulate(np.maximum(watermarks, self.now))
        if len(watermarks):
            self.now = int(watermarks[-1])
        elif others not in (_FAR, -_FAR):
            self.now = max(self.now, others - self._allowed_lateness)
        if self._ends is None and self._assigned and self._assigned <= set(idle) - set(here):
            self.now = max(self.now, wall - self._allowed_lateness)
        return watermarks

    def _running(self, batch: Batch, partition: Partition, mine: np.ndarray[Any, Any], times: IntArray) -> IntArray:
        """Return the latest event time of a partition after each record of the batch."""
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
        """Move past the allowed lateness of the last event: a replay is over.

        Returns:
            The final watermark in ms.
        """
        if self._latest:
            self.now = max(self.now, max(self._latest.values()) + self._allowed_lateness)
        return self.now

    def state(self) -> WatermarkState:
        """Return the state to store."""
        return WatermarkState(self.now, [(p.topic, p.number, at) for p, at in sorted(self._latest.items())])

    def restore(self, state: WatermarkState) -> None:
        """Go on with a stored state."""
        self.now = state.now
        self._latest = {Partition(topic, number): at for topic, number, at in state.latest}
