"""What a stream is to driftd: batches of records in, messages out.

Pure definitions. `files`, `kafka` and `memory` keep these protocols, and `tests/contracts` holds all
three to them; the daemon knows nothing else of any of them.
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
    """One ordered log: the unit of offsets."""

    topic: str
    number: int


class Start(StrEnum):
    """Where reading begins for a partition that was never read."""

    EARLIEST = "earliest"
    LATEST = "latest"


class Envelope(NamedTuple):
    """What a record carries beside its value.

    Attributes:
        key: None for a record without one.
        headers: Of two headers with one name the last one counts; headers without a value are left out.
    """

    key: bytes | None = None
    headers: Mapping[str, bytes] = {}


NO_ENVELOPE: Final = Envelope()


class Run(NamedTuple):
    """Successive records of one partition, as columns: what a `Batch` is put together from."""

    partition: Partition
    offset: NDArray[np.int64]
    timestamp: NDArray[np.int64]
    values: list[bytes | None]
    envelopes: list[Envelope] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in the order in which they are to be processed, as columns.

    Attributes:
        partitions: Where the records come from.
        source: For each record an index into `partitions`. Within one partition offsets grow.
        offset: Of the record in its partition.
        timestamp: The record's own, in milliseconds since the epoch; -1 where the stream keeps none.
        values: Bytes of the record; None is a tombstone.
        envelopes: Key and headers of each record; None unless the source was asked for those of a topic.
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
        """No records."""
        none = np.zeros(0, np.int64)
        return Batch((), np.zeros(0, np.int32), none, none, [])

    @staticmethod
    def of(runs: Sequence[Run]) -> Batch:
        """One run after the other; at most one of each partition."""
        if not runs:
            return Batch.empty()
        if len(runs) == 1:
            (run,) = runs
            source = np.zeros(len(run.values), np.int32)
            return Batch((run.partition,), source, run.offset, run.timestamp, run.values, run.envelopes)
        lengths = [len(run.values) for run in runs]
        return Batch(
            tuple(run.partition for run in runs),
            np.repeat(np.arange(len(runs), dtype=np.int32), lengths),
            np.concatenate([run.offset for run in runs]),
            np.concatenate([run.timestamp for run in runs]),
            list(chain.from_iterable(run.values for run in runs)),
            _envelopes_of(runs),
        )

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """Select records by position; `partitions` stays whole."""
        at = rows.tolist()
        envelopes = None if self.envelopes is None else [self.envelopes[i] for i in at]
        values = [self.values[i] for i in at]
        return Batch(self.partitions, self.source[rows], self.offset[rows], self.timestamp[rows], values, envelopes)

    def next_positions(self) -> dict[Partition, int]:
        """For each partition in the batch the offset after its last record."""
        ends: dict[Partition, int] = {}
        for i, partition in enumerate(self.partitions):
            mine = np.flatnonzero(self.source == i)
            if len(mine):
                ends[partition] = int(self.offset[mine[-1]]) + 1
        return ends


def _envelopes_of(runs: Sequence[Run]) -> list[Envelope] | None:
    """Return the envelopes of successive runs, empty ones for runs without; None if no run has any."""
    if all(run.envelopes is None for run in runs):
        return None
    return [e for run in runs for e in (run.envelopes or repeat(NO_ENVELOPE, len(run.values)))]


@dataclass(frozen=True, slots=True)
class Message:
    """One record to publish. `headers` are ignored by streams that have none (files)."""

    topic: str
    key: bytes
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


class Source(Protocol):
    """Records of the configured topics. Used by one thread.

    For topics that a source is made with as `enveloped`, batches carry keys and headers too. Files have none.
    """

    def partitions(self) -> frozenset[Partition]:
        """All partitions that exist now; new ones appear as topics grow.

        May block for some seconds. Raises `TopicsMissing`, or `StreamError` when the stream is away.
        """
        ...

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these partitions from these offsets on. Replaces an earlier assignment; nothing is paused."""
        ...

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        """(first offset held, offset of the next record to be written). Asks the stream, so may block.

        Raises `StreamError`.
        """
        ...

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """The next records, at most `max_records`; empty after `timeout_s` without any.

        Raises `OffsetGone` and `PartitionFault`: after either, the other partitions can still be read
        once the named one was given a new position with `seek` or taken out with `pause`. Any other
        `StreamError` has lost nothing: poll again, if it is retryable.
        """
        ...

    def seek(self, partition: Partition, offset: int) -> None:
        """The next record of `partition` is the one at `offset`. ValueError if it is not assigned."""
        ...

    def pause(self, partitions: Collection[Partition]) -> None:
        """Deliver nothing of these until `resume`; no record is lost by it. ValueError if one is not assigned."""
        ...

    def resume(self, partitions: Collection[Partition]) -> None:
        """Deliver again. Resuming what is not paused does nothing."""
        ...

    def positions(self) -> dict[Partition, int]:
        """For each assigned partition the offset from which reading goes on. Never blocks.

        It may be further than the last delivered record: offsets without a record (transaction markers,
        compaction) are skipped. Compare this, not `Batch.next_positions`, with `ends`.
        """
        ...

    def ends(self) -> dict[Partition, int]:
        """End offsets of the assigned partitions, those that are known without asking. Never blocks.

        For lag and idleness. A partition is left out until something was heard of it.
        """
        ...

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Tell the stream how far we are, for its dashboards. Advisory: the database is the truth.

        Does not wait for an answer; a failure is not raised.
        """
        ...

    def identities(self) -> dict[str, str]:
        """Topic → an id that changes when the topic is deleted and made anew; "" where there is none.

        Asks the stream, so may block. Raises `StreamError`. A topic that does not exist is left out.
        """
        ...

    def close(self) -> None:
        """Idempotent. Returns within five seconds also when the stream is away."""
        ...


class Sink(Protocol):
    """Where messages go. Used by one thread."""

    def send(self, messages: Sequence[Message]) -> None:
        """Publish in order; returns when all are acknowledged.

        Raises `StreamError`; then any of them may or may not have been published, and sending all of
        them again is right: readers know repeats by their ids.
        """
        ...

    def close(self) -> None:
        """Idempotent. Returns within five seconds also when the stream is away."""
        ...


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be."""

    name: str
    partitions: int = 1
    replicas: int = -1  # as the broker does by default
    compacted: bool = False


class TopicState(StrEnum):
    """What `TopicAdmin.check` found."""

    PRESENT = "present"
    MISSING = "missing"
    NOT_COMPACTED = "not_compacted"


class TopicAdmin(Protocol):
    """Looks at topics and makes them."""

    def check(self, topics: Sequence[TopicSpec]) -> dict[str, TopicState]:
        """Topic name → what is there. Raises `StreamError` when the stream is away."""
        ...

    def create(self, topics: Sequence[TopicSpec]) -> None:
        """Make those that are missing; leaves the others alone. Raises `StreamError`."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...
