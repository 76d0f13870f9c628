"""A stream in memory: topics and partitions that live as long as the process.

For tests of the daemon, which fill it, read it, truncate it and make it unavailable. It passes the same contract tests
as Kafka (`tests/contracts`). Thread-safe: one thread may append while another polls.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from monitor.clock import Clock
from monitor.errors import OffsetGone, PartitionFault, StreamError, TopicsMissing
from monitor.stream.types import Batch, Blocked, Envelope, Message, Partition, Run, TopicSpec, TopicState

_Found = TypeVar("_Found", bool, list[Run])


class Record(NamedTuple):
    """The record at one offset."""

    value: bytes | None
    timestamp: int = -1
    key: bytes | None = None
    headers: Mapping[str, bytes] = {}


@dataclass(slots=True)
class _Log:
    """The log of one partition; `records[0]` has the offset `first`."""

    first: int = 0
    records: list[Record] = field(default_factory=list)
    damaged: set[int] = field(default_factory=set)

    @property
    def end(self) -> int:
        return self.first + len(self.records)


@dataclass(slots=True)
class _Topic:
    identity: str
    compacted: bool
    logs: list[_Log]


class MemoryStream:
    """The topics. With `away = True` sources, sinks and admins raise `StreamError`, as in an outage.

    Partitions in `blocked` deliver nothing.
    """

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        self.away = False
        self.blocked: dict[Partition, Blocked] = {}
        self.committed: dict[Partition, int] = {}
        self._topics: dict[str, _Topic] = {}
        self._identities = itertools.count(1)
        self.changed = threading.Condition()
        for name, partitions in (topics or {}).items():
            self.create(name, partitions)

    def create(self, topic: str, partitions: int = 1, *, compacted: bool = False) -> None:
        """Create a topic, or add partitions to an existing one."""
        with self.changed:
            made = self._topics.setdefault(topic, _Topic(str(next(self._identities)), compacted, []))
            made.logs += [_Log() for _ in range(partitions - len(made.logs))]

    def delete(self, topic: str) -> None:
        """Delete a topic with its records."""
        with self.changed:
            del self._topics[topic]

    def append(self, topic: str, value: bytes | None, partition: int = 0, timestamp: int = -1) -> int:
        """Append a record and return its offset."""
        return self.write(Partition(topic, partition), Record(value, timestamp))

    def write(self, partition: Partition, record: Record) -> int:
        """Append a record with its key and headers, and return its offset."""
        with self.changed:
            log = self.log(partition)
            log.records.append(record)
            self.changed.notify_all()
            return log.end - 1

    def cut(self, topic: str, first: int, partition: int = 0) -> None:
        """Remove the records before the offset `first`, as retention does."""
        with self.changed:
            log = self.log(Partition(topic, partition))
            del log.records[: first - log.first]
            log.first = first

    def damage(self, topic: str, offset: int, partition: int = 0) -> None:
        """Make the record at `offset` unreadable, as a bad checksum does."""
        with self.changed:
            self.log(Partition(topic, partition)).damaged.add(offset)

    def records(self, topic: str, partition: int = 0) -> list[Record]:
        """Return the records of a partition, the oldest first."""
        with self.changed:
            return list(self.log(Partition(topic, partition)).records)

    def source(self, *topics: str, enveloped: Collection[str] = (), clock: Clock | None = None) -> MemorySource:
        """Open a source of these topics. With a `clock` its polls wait by it; without one, for the next record."""
        return MemorySource(self, topics, enveloped, clock)

    def sink(self) -> MemorySink:
        """Open a sink."""
        return MemorySink(self)

    def admin(self) -> MemoryAdmin:
        """Open an admin."""
        return MemoryAdmin(self)

    # The following methods are for the three classes below.

    def check(self) -> None:
        """Raise StreamError while `away`."""
        if self.away:
            raise StreamError("the stream is away", retryable=True)

    def topic(self, name: str) -> _Topic | None:
        """Return a topic, None if it does not exist."""
        return self._topics.get(name)

    def log(self, partition: Partition) -> _Log:
        """Return the log of a partition.

        Raises:
            TopicsMissing: It does not exist.
        """
        found = self._topics.get(partition.topic)
        if found is None or partition.number >= len(found.logs):
            raise TopicsMissing((partition.topic,))
        return found.logs[partition.number]


class MemorySource:
    """A `Source` of a stream in memory."""

    def __init__(
        self,
        stream: MemoryStream,
        topics: Sequence[str],
        enveloped: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock
        self._stream, self._topics, self._enveloped = stream, topics, frozenset(enveloped)
        self._positions: dict[Partition, int] = {}  # in the order in which they are served next
        self._paused: set[Partition] = set()

    def partitions(self) -> frozenset[Partition]:
        self._stream.check()
        found = {name: self._stream.topic(name) for name in self._topics}
        missing = tuple(name for name, topic in found.items() if topic is None)
        if missing:
            raise TopicsMissing(missing)
        return frozenset(Partition(name, i) for name, topic in found.items() if topic for i in range(len(topic.logs)))

    def assign(self, positions: Mapping[Partition, int]) -> None:
        self._positions = dict(positions)
        self._paused.clear()

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        self._stream.check()
        logs = {partition: self._stream.log(partition) for partition in partitions}
        return {partition: (log.first, log.end) for partition, log in logs.items()}

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        return Batch.of(self._until_any(lambda: self._take(max_records), timeout_s))

    def wait(self, timeout_s: float) -> bool:
        return self._until_any(self._has_more, timeout_s)

    def _until_any(self, look: Callable[[], _Found], timeout_s: float) -> _Found:
        """Return what `look` finds, once it is anything, or when the time is over."""
        changed = self._stream.changed
        with changed:
            found = changed.wait_for(look, timeout_s if self._clock is None else 0.0)
        if not found and self._clock is not None:
            self._clock.sleep(timeout_s)
            with changed:
                found = look()
        return found

    def seek(self, partition: Partition, offset: int) -> None:
        self._check_assigned([partition])
        self._positions[partition] = offset

    def pause(self, partitions: Collection[Partition]) -> None:
        self._check_assigned(partitions)
        self._paused |= set(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        self._check_assigned(partitions)
        self._paused -= set(partitions)

    def positions(self) -> dict[Partition, int]:
        return dict(self._positions)

    def ends(self) -> dict[Partition, int]:
        return {partition: self._stream.log(partition).end for partition in self._positions}

    def blocked(self) -> Mapping[Partition, Blocked]:
        return {p: why for p, why in self._stream.blocked.items() if p in self._positions}

    def commit(self, positions: Mapping[Partition, int]) -> None:
        self._stream.committed.update(positions)

    def identities(self) -> dict[str, str]:
        found = {name: self._stream.topic(name) for name in self._topics}
        return {name: topic.identity for name, topic in found.items() if topic}

    def close(self) -> None:
        pass

    def _check_assigned(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            if partition not in self._positions:
                raise ValueError(f"{partition} is not assigned")

    def _readable(self) -> list[Partition]:
        return [p for p in self._positions if p not in self._paused and p not in self._stream.blocked]

    def _has_more(self) -> bool:
        self._stream.check()
        return any(self._stream.log(p).end != self._positions[p] for p in self._readable())

    def _take(self, max_records: int) -> list[Run]:
        self._stream.check()
        runs: list[Run] = []
        for partition in self._readable():
            try:
                run = self._run(partition, max_records - sum(len(run.values) for run in runs))
            except StreamError:
                if not runs:
                    raise
                break  # deliver these first: the error recurs at the next poll
            if run.values:
                runs.append(run)
                # Moved to the end of the queue, so that no partition starves when `max_records` is small.
                self._positions[partition] = self._positions.pop(partition) + len(run.values)
        return runs

    def _run(self, partition: Partition, max_records: int) -> Run:
        log, position = self._stream.log(partition), self._positions[partition]
        if not log.first <= position <= log.end:
            raise OffsetGone(*partition, position, log.first, log.end)
        if position in log.damaged:
            raise PartitionFault(*partition, position, "it is damaged")
        start = position - log.first
        stop = min([position + max_records, *(offset for offset in log.damaged if offset > position)]) - log.first
        records = log.records[start:stop]
        return Run(
            partition,
            np.arange(position, position + len(records)),
            np.array([record.timestamp for record in records], np.int64),
            [record.value for record in records],
            [Envelope(r.key, r.headers) for r in records] if partition.topic in self._enveloped else None,
        )


class MemorySink:
    """A `Sink` of a stream in memory. The partition follows from the key."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._stream.check()
            topic = self._stream.topic(message.topic)
            if topic is None:
                raise TopicsMissing((message.topic,))
            number = zlib.crc32(message.key) % len(topic.logs)
            record = Record(message.value, key=message.key, headers=message.headers)
            self._stream.write(Partition(message.topic, number), record)

    def close(self) -> None:
        pass


class MemoryAdmin:
    """A `TopicAdmin` of a stream in memory."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    def check(self, topics: Sequence[TopicSpec]) -> dict[str, TopicState]:
        self._stream.check()
        return {spec.name: self._state(spec) for spec in topics}

    def create(self, topics: Sequence[TopicSpec]) -> None:
        self._stream.check()
        for spec in topics:
            if self._stream.topic(spec.name) is None:
                self._stream.create(spec.name, spec.partitions, compacted=spec.compacted)

    def close(self) -> None:
        pass

    def _state(self, spec: TopicSpec) -> TopicState:
        topic = self._stream.topic(spec.name)
        if topic is None:
            return TopicState.MISSING
        return TopicState.NOT_COMPACTED if spec.compacted and not topic.compacted else TopicState.PRESENT
