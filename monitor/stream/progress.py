"""Which partitions stand still although there is more to read.

Pure. `kafka` asks once per poll and builds a new client when there are any: belt and braces for faults of the
client that nobody has met yet.
"""

from __future__ import annotations

from collections.abc import Mapping

from monitor.stream.types import Partition


class ProgressWatch:
    """Compares positions and ends every `interval_s`. Stuck is what lagged at the same position twice in a row."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._lagging: dict[Partition, int] = {}
        self._last_poll_s: float | None = None
        self._due_s = 0.0

    def is_due(self, now_s: float) -> bool:
        """To be called at every poll, and `stuck` when it says so."""
        # Nobody polled for a while (the database was away): standing still proves nothing.
        if self._last_poll_s is None or now_s - self._last_poll_s > self._interval_s / 2:
            self.forget(now_s)
        self._last_poll_s = now_s
        return now_s >= self._due_s

    def stuck(self, now_s: float, positions: Mapping[Partition, int], ends: Mapping[Partition, int]) -> set[Partition]:
        """`positions` are those of the partitions that should move."""
        lagging = {partition: at for partition, at in positions.items() if ends.get(partition, 0) > at}
        stuck = {partition for partition, at in lagging.items() if self._lagging.get(partition) == at}
        self._lagging, self._due_s = lagging, now_s + self._interval_s
        return stuck

    def forget(self, now_s: float) -> None:
        """Begin anew: nothing has been seen to lag."""
        self._lagging, self._due_s = {}, now_s + self._interval_s
