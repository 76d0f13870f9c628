"""The watermark, or stream time: effective time that no event to come is below.

The watermark is the minimum over partitions of partition time less the allowed lateness. Of a partition whose next
record is in hand or waited for, the place of that record counts instead (`pipeline.merge`). It never decreases, and
live it is never later than the wall clock. A partition that is idle, or left out because it cannot deliver, holds
nothing back, and neither does one of a replay that was read to its end. Pure: the caller says which ones these are.

For watermarks see Akidau et al. (2015), "The Dataflow Model", PVLDB 8(12); bounded out-of-orderness and idle sources
are Apache Flink's terms.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from detectors.types import IntArray
from monitor.stream.partition_time import RECENT, UNKNOWN, PartitionTime
from monitor.stream.types import Batch, Partition

__all__ = ["UNKNOWN", "Watermark", "WatermarkState"]

_FAR: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class WatermarkState:
    """What is stored of a watermark.

    Attributes:
        now: The watermark, ms.
        latest: (topic, partition, partition time in ms).
        recent: (topic, partition, times of its last accepted events); 0.1.0 did not store any.
    """

    now: int
    latest: list[tuple[str, int, int]]
    recent: list[tuple[str, int, list[int]]] = field(default_factory=list)


class Watermark:
    """The watermark of the assigned partitions; `now` is its value in ms since the epoch, or `UNKNOWN`."""

    def __init__(self, allowed_lateness: int, *, live: bool = True) -> None:
        """Start before the first event.

        Args:
            allowed_lateness: How far an event may lag behind partition time, in ms.
            live: Whether idle partitions and the wall clock count; False for a replay.
        """
        self._allowed_lateness, self._live = allowed_lateness, live
        self.now = UNKNOWN
        self._clocks: dict[Partition, PartitionTime] = {}
        self._assigned: set[Partition] = set()

    def assign(self, partitions: Collection[Partition]) -> dict[Partition, PartitionTime]:
        """Set the partitions that are read. Returns the partition time of each."""
        self._assigned = set(partitions)
        return {partition: self._clock(partition) for partition in partitions}

    def _clock(self, partition: Partition) -> PartitionTime:
        return self._clocks.setdefault(partition, PartitionTime(self._allowed_lateness))

    def advance(
        self,
        batch: Batch,
        place: IntArray,
        partition_time: IntArray,
        times: IntArray,
        to_come: Mapping[Partition, int],
        idle: Collection[Partition],
        wall: int,
    ) -> IntArray:
        """Advance over records in the order of processing.

        Args:
            batch: The records.
            place: Place of each in that order, ms.
            partition_time: Partition time after each, ms.
            times: Event time of each in ms; negative for refused records.
            to_come: Lower bound of the place of the next record, of each partition that has more in hand or is
                waited for.
            idle: Partitions that hold nothing back, unless they have records here. Where all are, the watermark
                follows `wall`.
            wall: Wall-clock time in ms.

        Returns:
            The watermark at each record, its own event included: int64 of the batch's length, `UNKNOWN` where unknown.
        """
        here = self._settle(batch, partition_time, times, idle)
        least = np.where(place == UNKNOWN, -_FAR, place)
        bounds = list(to_come.values())
        if self._live:
            quiet = self._assigned - to_come.keys() - here.keys() - set(idle)
            elsewhere = min(map(self._reached, quiet), default=_FAR)
            least = np.minimum(least, elsewhere)
            bounds.append(elsewhere)
            for partition, last in here.items():
                if partition not in to_come:
                    least[last:] = np.minimum(least[last:], self._reached(partition))
                    bounds.append(self._reached(partition))
        known = least > -_FAR
        watermarks = np.where(known, least - self._allowed_lateness, UNKNOWN)
        if self._live:
            watermarks = np.minimum(watermarks, wall)
        watermarks = np.maximum.accumulate(np.maximum(watermarks, self.now))
        self._move(int(watermarks[-1]) if len(watermarks) else UNKNOWN)
        self._move_to(min(bounds, default=_FAR), wall)
        if self._live and self._assigned and self._assigned <= set(idle) - here.keys():
            self._move(wall - self._allowed_lateness)
        return watermarks

    def _move_to(self, bound: int, wall: int) -> None:
        if -_FAR < bound < _FAR:
            reached = bound - self._allowed_lateness
            self._move(min(reached, wall) if self._live else reached)

    def _move(self, reached: int) -> None:
        self.now = max(self.now, reached)

    def _reached(self, partition: Partition) -> int:
        clock = self._clock(partition)
        # Of fewer events the smallest time is known once nine were seen, or the partition is idle.
        return clock.time if len(clock.recent) == RECENT else -_FAR

    def _settle(
        self, batch: Batch, partition_time: IntArray, times: IntArray, idle: Collection[Partition]
    ) -> dict[Partition, int]:
        """Take over the partition times after these records.

        Returns:
            The last row of each partition; without those of idle ones that brought nothing but refused records.
        """
        last: dict[Partition, int] = {}
        for i, partition in enumerate(batch.partitions):
            rows = np.flatnonzero(batch.source == i)
            if len(rows):
                its = times[rows]
                self._clock(partition).settle(int(partition_time[rows[-1]]), its[its >= 0])
                if partition not in idle or (its >= 0).any():
                    last[partition] = int(rows[-1])
        return last

    def end(self) -> int:
        """Move past the allowed lateness of the latest of the last events: a replay is over.

        Returns:
            The final watermark in ms.
        """
        latest = max((max(clock.recent) for clock in self._clocks.values() if clock.recent), default=UNKNOWN)
        if latest != UNKNOWN:
            self._move(latest + self._allowed_lateness)
        return self.now

    def state(self) -> WatermarkState:
        """Return the state to store."""
        known = sorted((p, clock) for p, clock in self._clocks.items() if clock.time != UNKNOWN)
        return WatermarkState(
            self.now,
            [(p.topic, p.number, clock.time) for p, clock in known],
            [(p.topic, p.number, list(clock.recent)) for p, clock in known],
        )

    def restore(self, state: WatermarkState) -> None:
        """Go on with a stored state. Where no recent events are stored, they were all at partition time."""
        self.now = state.now
        recent = {Partition(topic, number): times for topic, number, times in state.recent}
        for topic, number, time in state.latest:
            partition = Partition(topic, number)
            its = recent.get(partition, [time] * RECENT)
            self._clocks[partition] = PartitionTime(self._allowed_lateness, time, its)
