"""The protocols of a stream: batches of records in, messages out.

Pure definitions. `files`, `kafka` and `memory` implement the protocols, and `tests/contracts` runs the same contract
tests on all three; the daemon depends on nothing else of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, repeat
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Partition(NamedTuple):
    """A partition of a topic: one ordered log with its own offsets."""

    topic: str
    number: int

    def __str__(self) -> str:
        """Return it as logs and alerts show it."""
        return f"{self.topic}[{self.number}]"


class Blocked(StrEnum):
    """Why a partition cannot deliver what it holds."""

    LEADERLESS = "it has no leader"
    OPEN_TRANSACTION = "a transaction is open"  # it was read up to the first record of that


class Start(StrEnum):
    """Where reading begins in a partition without a stored position."""

    EARLIEST = "earliest"
    LATEST = "latest"


class Envelope(NamedTuple):
    """Key and headers of a record.

    Attributes:
        key: None for a record without one.
        headers: Of duplicate names the last one counts; headers without a value are left out.
    """

    key: bytes | None = None
    headers: Mapping[str, bytes] = {}


NO_ENVELOPE: Final = Envelope()


class Run(NamedTuple):
    """Consecutive records of one partition, as columns of equal length; see `Batch`."""

    partition: Partition
    offset: NDArray[np.int64]
    timestamp: NDArray[np.int64]
    values: list[bytes | None]
    envelopes: list[Envelope] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in processing order, as columns of equal length.

    Attributes:
        partitions: The partitions that `source` refers to.
        source: Index into `partitions` of each record.
        offset: Offset of each record; strictly increasing within a partition.
        timestamp: Timestamp of each record in ms since the epoch; -1 where the stream keeps none.
        values: Payload of each record; None is a tombstone.
        envelopes: Key and headers of each record; None unless the source was opened with `enveloped` topics.
    """

    partitions: tuple[Partition, ...]
    source: NDArray[np.int32]
    offset: NDArray[np.int64]
    timestamp: NDArray[np.int64]
    values: list[bytes | None]
    envelopes: list[Envelope] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @staticmethod
    def empty() -> Batch:
        """Return a batch without records."""
        none = np.zeros(0, np.int64)
        return Batch((), np.zeros(0, np.int32), none, none, [])

    @staticmethod
    def of(runs: Sequence[Run]) -> Batch:
        """Concatenate runs, of which at most one is of each partition."""
        if not runs:
            return Batch.empty()
        if len(runs) == 1:
            (run,) = runs
            source = np.zeros(len(run.values), np.int32)
            return Batch((run.partition,), source, run.offset, run.timestamp, run.values, run.envelopes)
        return Batch.of_partitions(tuple(run.partition for run in runs), runs)

    @staticmethod
    def of_partitions(partitions: tuple[Partition, ...], runs: Sequence[Run]) -> Batch:
        """Concatenate runs of some of these partitions; there may be several runs of each."""
        number = {partition: i for i, partition in enumerate(partitions)}
        lengths = [len(run.values) for run in runs]
        return Batch(
            partitions,
            np.repeat(np.array([number[run.partition] for run in runs], np.int32), lengths),
            np.concatenate([run.offset for run in runs]),
            np.concatenate([run.timestamp for run in runs]),
            list(chain.from_iterable(run.values for run in runs)),
            _envelopes_of(runs),
        )

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch:
        """Concatenate batches of the same partitions, all with envelopes or all without."""
        envelopes = [batch.envelopes for batch in batches if batch.envelopes is not None]
        return Batch(
            batches[0].partitions,
            np.concatenate([batch.source for batch in batches]),
            np.concatenate([batch.offset for batch in batches]),
            np.concatenate([batch.timestamp for batch in batches]),
            list(chain.from_iterable(batch.values for batch in batches)),
            list(chain.from_iterable(envelopes)) if envelopes else None,
        )

    def runs(self) -> list[Run]:
        """Return the records of each partition, in their order."""
        found = []
        for i, partition in enumerate(self.partitions):
            rows = np.flatnonzero(self.source == i)
            if not len(rows):
                continue
            its = self if len(rows) == len(self) else self.take(rows)
            found.append(Run(partition, its.offset, its.timestamp, its.values, its.envelopes))
        return found

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """Select records by position; `partitions` stays whole."""
        at = rows.tolist()
        envelopes = None if self.envelopes is None else [self.envelopes[i] for i in at]
        values = [self.values[i] for i in at]
        return Batch(self.partitions, self.source[rows], self.offset[rows], self.timestamp[rows], values, envelopes)

    def next_positions(self) -> dict[Partition, int]:
        """Return the offset after the last record of each partition in the batch."""
        ends: dict[Partition, int] = {}
        for i, partition in enumerate(self.partitions):
            mine = np.flatnonzero(self.source == i)
            if len(mine):
                ends[partition] = int(self.offset[mine[-1]]) + 1
        return ends


def _envelopes_of(runs: Sequence[Run]) -> list[Envelope] | None:
    """Return the envelopes of consecutive runs, empty ones for runs without; None if no run has any."""
    if all(run.envelopes is None for run in runs):
        return None
    return [e for run in runs for e in (run.envelopes or repeat(NO_ENVELOPE, len(run.values)))]


@dataclass(frozen=True, slots=True)
class Message:
    """A record to publish. Streams without headers (files) ignore `headers`."""

    topic: str
    key: bytes
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


class Source(Protocol):
    """Reads records of the configured topics. Used by one thread.

    Batches of the topics that a source was opened with as `enveloped` include keys and headers. Files have none.
    """

    def partitions(self) -> frozenset[Partition]:
        """Return all partitions that exist now; the set grows as partitions are added. May block for some seconds.

        Raises:
            TopicsMissing: A configured topic does not exist.
            StreamError: The stream is unavailable.
        """
        ...

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these partitions from these offsets. Replaces an earlier assignment; nothing is paused."""
        ...

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset held and the end offset of each partition. Queries the stream, so may block.

        Raises:
            StreamError: The stream is unavailable.
        """
        ...

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """Return the next records, at most `max_records`; an empty batch after `timeout_s` without any.

        Raises:
            OffsetGone: A position is not in the log. The other partitions can be read once the named one was given
                a new position with `seek` or was paused.
            PartitionFault: Bytes of a partition cannot be decoded. Go on as after `OffsetGone`.
            StreamError: No record was lost: poll again if it is retryable.
        """
        ...

    def wait(self, timeout_s: float) -> bool:
        """Wait until bytes of a partition that is not paused are in hand, and decode none of them.

        Whoever takes note of what may kill the process while it is decoded does so between this and `poll`: nothing is
        known of a record while it is still waited for.

        Returns:
            Whether `poll` has something to decode, at once. Records need not come of it: it may be half a line, a
            transaction that was aborted, or an error.

        Raises:
            OffsetGone, PartitionFault, StreamError: As of `poll`.
        """
        ...

    def seek(self, partition: Partition, offset: int) -> None:
        """Continue reading `partition` at `offset`.

        Raises:
            ValueError: The partition is not assigned.
        """
        ...

    def pause(self, partitions: Collection[Partition]) -> None:
        """Stop delivering records of these partitions until `resume`; none is lost.

        Raises:
            ValueError: A partition is not assigned.
        """
        ...

    def resume(self, partitions: Collection[Partition]) -> None:
        """Deliver records of paused partitions again. No effect on partitions that are not paused.

        Raises:
            ValueError: A partition is not assigned.
        """
        ...

    def positions(self) -> dict[Partition, int]:
        """Return the next offset to read of each assigned partition. Never blocks.

        It may be beyond the last delivered record: offsets without a record (transaction markers,
        compaction) are skipped. Compare this, not `Batch.next_positions`, with `ends`.
        """
        ...

    def ends(self) -> dict[Partition, int]:
        """Return the known end offsets of assigned partitions, for lag and idleness. Never blocks.

        A partition is missing until its end offset has been received.
        """
        ...

    def blocked(self) -> Mapping[Partition, Blocked]:
        """Return the assigned partitions that cannot deliver now, as far as is known. Never blocks."""
        ...

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Commit offsets for dashboards of the stream only: the database holds the progress that counts.

        Does not wait for an answer and raises nothing on failure.
        """
        ...

    def identities(self) -> dict[str, str]:
        """Return an id of each topic that changes when the topic is deleted and created again.

        Queries the stream, so may block.

        Returns:
            Topic → id, "" where the stream has no ids. Topics that do not exist are left out.

        Raises:
            StreamError: The stream is unavailable.
        """
        ...

    def close(self) -> None:
        """Release all resources. Idempotent; returns within five seconds even when the stream is unavailable."""
        ...


class Sink(Protocol):
    """Publishes messages. Used by one thread."""

    def send(self, messages: Sequence[Message]) -> None:
        """Publish messages in order and return when all are acknowledged.

        Raises:
            StreamError: Any of the messages may or may not have been published. Send all of them again: consumers
                recognise duplicates by their ids.
        """
        ...

    def close(self) -> None:
        """Release all resources. Idempotent; returns within five seconds even when the stream is unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """The required properties of a topic."""

    name: str
    partitions: int = 1
    replicas: int = -1  # the broker's default
    compacted: bool = False


class TopicState(StrEnum):
    """The state of a topic, as found by `TopicAdmin.check`."""

    PRESENT = "present"
    MISSING = "missing"
    NOT_COMPACTED = "not_compacted"


class TopicAdmin(Protocol):
    """Checks and creates topics."""

    def check(self, topics: Sequence[TopicSpec]) -> dict[str, TopicState]:
        """Return the state of each topic, by name.

        Raises:
            StreamError: The stream is unavailable.
        """
        ...

    def create(self, topics: Sequence[TopicSpec]) -> None:
        """Create missing topics; existing ones are not changed.

        Raises:
            StreamError: The stream is unavailable, or refuses a topic.
        """
        ...

    def close(self) -> None:
        """Release all resources. Idempotent."""
        ...
