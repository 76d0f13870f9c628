"""Which partitions of a source are paused.

Shell. The source is told what changes only: a pause costs it what it has fetched ahead.
"""

from __future__ import annotations

from collections.abc import Collection

from monitor.stream.types import Partition, Source


class PausedPartitions:
    """Pauses and resumes partitions of one source; nobody else may."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._paused: set[Partition] = set()

    def set(self, wanted: Collection[Partition]) -> None:
        """Pause these partitions, as far as they are read, and resume all others."""
        read = self._source.positions().keys()
        wanted = set(wanted) & read
        if wanted - self._paused:
            self._source.pause(wanted - self._paused)
        if self._paused - wanted:
            self._source.resume((self._paused - wanted) & read)
        self._paused = wanted

    def reset(self) -> None:
        """Take note that the source was assigned anew: nothing is paused."""
        self._paused = set()
