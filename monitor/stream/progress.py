"""Detection of partitions that make no progress although there is more to read.

Pure. `kafka` asks once per poll and creates a new client when there are any: a safeguard against unknown faults of the
client.
"""

from __future__ import annotations

from collections.abc import Mapping

from monitor.stream.types import Partition


class ProgressWatch:
    """Compares positions and ends every `interval_s`; a partition is stuck if it lags twice at the same position."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._lagging: dict[Partition, int] = {}
        self._last_poll_s: float | None = None
        self._due_s = 0.0

    def is_due(self, now_s: float) -> bool:
        """Return whether `stuck` is to be called now. Call this at every poll.

        Args:
            now_s: Monotonic time in seconds.
        """
        # No poll for a while (the database was unavailable): an unchanged position proves nothing.
        if self._last_poll_s is None or now_s - self._last_poll_s > self._interval_s / 2:
            self.forget(now_s)
        self._last_poll_s = now_s
        return now_s >= self._due_s

    def stuck(self, now_s: float, positions: Mapping[Partition, int], ends: Mapping[Partition, int]) -> set[Partition]:
        """Return the partitions that lag at the same position as at the last call.

        Args:
            now_s: Monotonic time in seconds.
            positions: Next offset of the partitions that should progress, without paused ones.
            ends: End offset of each partition.
        """
        lagging = {partition: at for partition, at in positions.items() if ends.get(partition, 0) > at}
        stuck = {partition for partition, at in lagging.items() if self._lagging.get(partition) == at}
        self._lagging, self._due_s = lagging, now_s + self._interval_s
        return stuck

    def forget(self, now_s: float) -> None:
        """Reset: no partition counts as lagging."""
        self._lagging, self._due_s = {}, now_s + self._interval_s
