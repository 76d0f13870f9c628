"""Alert when most predictions of a partition come too late: a producer's clock or buffer is wrong.

Pure. What is told depends on the partition's log alone: minutes are those of partition time, and the alert belongs to
the event that made late predictions the majority. It ends with a minute in which they are not, or with silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.types import BoolArray, IntArray
from monitor.alerting.daemon import DaemonAlerts
from monitor.alerting.records import AlertRecord
from monitor.stream.types import Partition

MINUTE: Final = 60_000
QUIET: Final = 10 * MINUTE  # after its last minute with predictions the alert about a partition ends
LEAST: Final = 20  # predictions in a minute from which on the majority says something
_NAMED: Final = 5  # versions that the alert names


@dataclass(frozen=True, slots=True)
class PlacedPredictions:
    """Predictions of several partitions, those of each in the order of its log, as columns of equal length.

    Attributes:
        partition: Number of the partition of each.
        partition_time: Partition time after each, ms.
        time: Event time of each, ms.
        variant: Code of the version that answered.
        late: Whether each came too late by partition time.
    """

    partition: NDArray[np.integer[Any]]
    partition_time: IntArray
    time: IntArray
    variant: NDArray[np.integer[Any]]
    late: BoolArray

    def take(self, rows: IntArray) -> PlacedPredictions:
        """Return these rows."""
        return PlacedPredictions(
            self.partition[rows], self.partition_time[rows], self.time[rows], self.variant[rows], self.late[rows]
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
    def over_at(self) -> int:
        """When nothing more is expected of the partition, ms of partition time."""
        return (self.minute + 1) * MINUTE + QUIET

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

    def add(self, partitions: Sequence[Partition], predictions: PlacedPredictions) -> list[AlertRecord]:
        """Take in predictions of these partitions, and return what is to be told of them."""
        records: list[AlertRecord | None] = []
        for rows in _by_minute(predictions):
            partition = partitions[int(predictions.partition[rows[0]])]
            records.append(self._begin(partition, int(predictions.partition_time[rows[0]]) // MINUTE))
            if predictions.late[rows].any():
                records.append(self._add_late(partition, predictions.take(rows)))
            else:
                self._minutes[partition].predictions += len(rows)
        return [record for record in records if record is not None]

    def _begin(self, partition: Partition, minute: int) -> AlertRecord | None:
        """Begin a minute of partition time; the alert ends where the one before it was not mostly late."""
        held = self._minutes.get(partition)
        if held is not None and held.minute == minute:
            return None
        self._minutes[partition] = LateMinute(minute)
        if held is not None and held.over_at <= minute * MINUTE:
            return self._end_quiet(partition, held)
        if held is None or held.is_mostly_late:
            return None
        summary = f"predictions of {partition} come in time again"
        return self._daemon.resolve(_alert(partition), summary, minute * MINUTE)

    def settle(self, now: int) -> list[AlertRecord]:
        """End the alerts about partitions that bring no predictions any more; `now` is stream time, ms."""
        if not self._daemon.state.firing:
            return []
        over = sorted(partition for partition, held in self._minutes.items() if held.over_at <= now)
        records = [self._end_quiet(partition, self._minutes[partition]) for partition in over]
        return [record for record in records if record is not None]

    def _end_quiet(self, partition: Partition, held: LateMinute) -> AlertRecord | None:
        summary = f"{partition} brings no predictions any more"
        return self._daemon.resolve(_alert(partition), summary, held.over_at)

    def _add_late(self, partition: Partition, its: PlacedPredictions) -> AlertRecord | None:
        """Count predictions of the minute that has begun, some of them late; fire where they become the majority."""
        held = self._minutes[partition]
        total = held.predictions + 1 + np.arange(len(its.late))
        mostly = np.flatnonzero((2 * (held.late + np.cumsum(its.late)) > total) & (total >= LEAST))
        if not len(mostly):
            self._count(held, its)
            return None
        first, rest = np.split(np.arange(len(its.late)), [int(mostly[0]) + 1])
        self._count(held, its.take(first))
        record = self._daemon.fire(_alert(partition), _summary(partition, held), int(its.partition_time[first[-1]]))
        self._count(held, its.take(rest))
        return record

    def _count(self, held: LateMinute, its: PlacedPredictions) -> None:
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


def _by_minute(predictions: PlacedPredictions) -> Sequence[IntArray]:
    """Return the rows of each partition's minutes, in the order of its log.

    Partition time goes back before nine events were seen, so a minute may come twice.
    """
    rows = np.argsort(predictions.partition, kind="stable")
    of_rows = predictions.partition[rows], predictions.partition_time[rows] // MINUTE
    changes = (np.flatnonzero(np.diff(column)) for column in of_rows)
    return np.split(rows, np.union1d(*changes) + 1) if len(rows) else []


def _alert(partition: Partition) -> str:
    return f"late {partition}"


def _summary(partition: Partition, held: LateMinute) -> str:
    versions = sorted(held.by_version.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name} ({count})" for name, count in versions[:_NAMED])
    return (
        f"{held.late} of {held.predictions} predictions of {partition} within a minute came too late for their "
        f"window, up to {held.behind / 1000:.0f} s behind the others: {named}"
    )
