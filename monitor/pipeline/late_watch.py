"""Alert when most predictions of a partition come too late: a producer's clock or buffer is wrong.

Pure. What is told depends on the partition's log alone: minutes are those of partition time, and the alert belongs to
the event that made late predictions the majority.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np

from detectors.types import BoolArray, IntArray
from monitor.alerting.daemon import DaemonAlerts
from monitor.alerting.records import AlertRecord
from monitor.stream.types import Partition

MINUTE: Final = 60_000
LEAST: Final = 20  # predictions in a minute from which on the majority says something
_NAMED: Final = 5  # versions that the alert names


@dataclass(frozen=True, slots=True)
class PartitionPredictions:
    """Predictions of one partition in the order of its log, as columns of equal length.

    Attributes:
        partition: Where they lie.
        partition_time: Partition time after each, ms.
        time: Event time of each, ms.
        variant: Code of the version that answered.
        late: Whether each came too late by partition time.
    """

    partition: Partition
    partition_time: IntArray
    time: IntArray
    variant: IntArray
    late: BoolArray

    def between(self, start: int, stop: int) -> PartitionPredictions:
        """Return the rows from `start` to before `stop`."""
        at = slice(start, stop)
        return PartitionPredictions(
            self.partition, self.partition_time[at], self.time[at], self.variant[at], self.late[at]
        )


class LateMinute(msgspec.Struct):
    """Predictions of one partition in one minute of partition time.

    Attributes:
        minute: Its number since the epoch.
        predictions: All that came in it.
        late: Those that came too late for their pane.
        by_version: Late ones by "model version".
        behind: The farthest that one was behind partition time, ms.
    """

    minute: int
    predictions: int = 0
    late: int = 0
    by_version: dict[str, int] = {}
    behind: int = 0

    @property
    def is_mostly_late(self) -> bool:
        """Whether so many are late that it is told."""
        return self.predictions >= LEAST and 2 * self.late > self.predictions


class LateWatch:
    """Watches the predictions of all partitions."""

    def __init__(self, daemon: DaemonAlerts, name_of: Callable[[int], str]) -> None:
        """Tell of them in alerts of the daemon; `name_of` returns "model version" of a variant code."""
        self._daemon, self._name_of = daemon, name_of
        self._minutes: dict[Partition, LateMinute] = {}

    def add(self, predictions: PartitionPredictions) -> list[AlertRecord]:
        """Take in predictions, and return what is to be told of them."""
        minute = predictions.partition_time // MINUTE
        cuts = [0, *(np.flatnonzero(np.diff(minute)) + 1).tolist(), len(minute)]
        records: list[AlertRecord | None] = []
        for start, stop in pairwise(cuts):
            if stop > start:
                records += self._add_of_minute(int(minute[start]), predictions.between(start, stop))
        return [record for record in records if record is not None]

    def _add_of_minute(self, minute: int, its: PartitionPredictions) -> list[AlertRecord | None]:
        records: list[AlertRecord | None] = []
        held = self._minutes.get(its.partition)
        if held is None or held.minute < minute:
            if held is not None and not held.is_mostly_late:
                summary = f"predictions of {_shown(its.partition)} come in time again"
                records.append(self._daemon.resolve(_alert(its.partition), summary, minute * MINUTE))
            held = self._minutes[its.partition] = LateMinute(minute)
        if not its.late.any():
            held.predictions += len(its.late)
            return records
        total = held.predictions + 1 + np.arange(len(its.late))
        mostly = np.flatnonzero((2 * (held.late + np.cumsum(its.late)) > total) & (total >= LEAST))
        if not len(mostly):
            self._count(held, its)
            return records
        decided = int(mostly[0]) + 1
        self._count(held, its.between(0, decided))
        now = int(its.partition_time[decided - 1])
        records.append(self._daemon.fire(_alert(its.partition), _summary(its.partition, held), now))
        self._count(held, its.between(decided, len(its.late)))
        return records

    def _count(self, held: LateMinute, its: PartitionPredictions) -> None:
        late = np.flatnonzero(its.late)
        held.predictions += len(its.late)
        held.late += len(late)
        if len(late):
            held.behind = max(held.behind, int((its.partition_time[late] - its.time[late]).max()))
            versions = Counter(map(self._name_of, its.variant[late].tolist()))
            held.by_version = dict(Counter(held.by_version) + versions)

    def state(self) -> list[tuple[str, int, LateMinute]]:
        """Return what is stored: (topic, partition, its minute)."""
        return [(p.topic, p.number, held) for p, held in sorted(self._minutes.items(), key=lambda item: item[0])]

    def restore(self, state: list[tuple[str, int, LateMinute]]) -> None:
        """Go on with a stored state."""
        self._minutes = {Partition(topic, number): held for topic, number, held in state}


def _shown(partition: Partition) -> str:
    return f"{partition.topic}[{partition.number}]"


def _alert(partition: Partition) -> str:
    return f"late {_shown(partition)}"


def _summary(partition: Partition, held: LateMinute) -> str:
    versions = sorted(held.by_version.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name} ({count})" for name, count in versions[:_NAMED])
    return (
        f"{held.late} of {held.predictions} predictions of {_shown(partition)} within a minute came too late for their "
        f"window, up to {held.behind / 1000:.0f} s behind the others: {named}"
    )
