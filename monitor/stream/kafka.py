"""Apache Kafka as a stream.

Shell. `connect` creates these for `kafka:` addresses. One process reads all partitions. They are assigned manually,
because the database holds the owner and the positions; the consumer group only receives advisory commits.
`kafka_client` wraps the library; this module decides what to do when it fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import structlog
from structlog.typing import FilteringBoundLogger

from monitor.errors import OffsetGone, PartitionFault, StreamError, TopicsMissing
from monitor.stream.kafka_client import AdminClient, ConsumerClient, ProducerClient, Topic
from monitor.stream.kafka_spec import KafkaSecurity, KafkaSpec
from monitor.stream.progress import ProgressWatch
from monitor.stream.types import Batch, Blocked, Message, Partition, TopicSpec, TopicState

__all__ = ["KafkaAdmin", "KafkaSecurity", "KafkaSink", "KafkaSource", "KafkaSpec"]

WATCH_TIMEOUT_MS: Final = 1_000

_Answer = TypeVar("_Answer")

log: FilteringBoundLogger = structlog.get_logger(__name__)


class KafkaSource:
    """A `Source` of Kafka topics.

    The constructor, and every method that queries the brokers, raises StreamError when none answers: try again. `poll`
    does not raise during an outage; it returns an empty batch.
    """

    def __init__(self, spec: KafkaSpec, topics: Collection[str], enveloped: Collection[str] = ()) -> None:
        self._spec, self._topics, self._enveloped = spec, tuple(topics), frozenset(enveloped)
        self._positions: dict[Partition, int] = {}  # of the assigned partitions, as of the last change by driftd
        self._paused: set[Partition] = set()
        self._watch = ProgressWatch(spec.stall_s)
        self._commit_failing = False
        self._client: ConsumerClient | None = ConsumerClient(spec, self._enveloped)

    def partitions(self) -> frozenset[Partition]:
        found = self._describe()
        missing = tuple(topic for topic in self._topics if topic not in found)
        if missing:
            raise TopicsMissing(missing)
        return frozenset(Partition(name, i) for name, topic in found.items() for i in range(topic.partitions))

    def assign(self, positions: Mapping[Partition, int]) -> None:
        self._positions = dict(positions)
        self._paused.clear()
        self._watch.forget(time.monotonic())
        if self._client is not None:
            self._client.assign(positions)

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        return self._connected().bounds(partitions) if partitions else {}

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        return Batch.of(self._read(lambda client: client.poll(max_records, int(timeout_s * 1000))))

    def wait(self, timeout_s: float) -> bool:
        return self._read(lambda client: client.wait(int(timeout_s * 1000)))

    def _read(self, read: Callable[[ConsumerClient], _Answer]) -> _Answer:
        """Read with a client that works: with another one where this one stands still."""
        client = self._connected()
        now_s = time.monotonic()
        if self._watch.is_due(now_s) and (stuck := self._stuck(client, now_s)):
            log.warning("stream.stuck", partitions=[str(p) for p in sorted(stuck)])
            self._disconnect()
            client = self._connected()
        before = client.positions()
        try:
            return read(client)
        except (OffsetGone, PartitionFault):
            raise
        except StreamError:
            # The client handles temporary errors by itself: after any other it may never work again. Its positions
            # may have moved past records that it did not deliver.
            self._disconnect()
            self._positions = before
            raise

    def seek(self, partition: Partition, offset: int) -> None:
        self._check_assigned([partition])
        self._positions[partition] = offset
        if self._client is not None:
            self._client.seek(partition, offset)

    def pause(self, partitions: Collection[Partition]) -> None:
        self._check_assigned(partitions)
        self._paused |= set(partitions)
        if self._client is not None:
            self._client.pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        self._check_assigned(partitions)
        self._paused -= set(partitions)
        if self._client is not None:
            self._client.resume(partitions)

    def positions(self) -> dict[Partition, int]:
        return dict(self._positions) if self._client is None else self._client.positions()

    def ends(self) -> dict[Partition, int]:
        return {} if self._client is None else self._client.ends()

    def blocked(self) -> Mapping[Partition, Blocked]:
        return {} if self._client is None else self._client.blocked()

    def commit(self, positions: Mapping[Partition, int]) -> None:
        if self._client is None:
            return
        try:
            self._client.commit(positions, self._committed)
        except StreamError as error:
            self._committed(error)

    def identities(self) -> dict[str, str]:
        return {name: topic.identity for name, topic in self._describe().items()}

    def close(self) -> None:
        self._disconnect()

    def _describe(self) -> dict[str, Topic]:
        return self._connected().describe(self._topics)

    def _connected(self) -> ConsumerClient:
        if self._client is None:
            client = ConsumerClient(self._spec, self._enveloped)
            client.assign(self._positions, self._paused)
            self._client = client
        return self._client

    def _disconnect(self) -> None:
        """Close the client; the next use creates another one, which continues at its positions."""
        client, self._client = self._client, None
        if client is not None:
            self._positions = client.positions()
            with suppress(StreamError):
                client.close()

    def _stuck(self, client: ConsumerClient, now_s: float) -> set[Partition]:
        moving = {partition: at for partition, at in client.positions().items() if partition not in self._paused}
        try:
            ends = client.ask_ends(moving, WATCH_TIMEOUT_MS)
        except StreamError:
            self._watch.forget(now_s)  # an outage: no partition progresses
            return set()
        return self._watch.stuck(now_s, moving, ends)

    def _committed(self, error: Exception | None) -> None:
        """Log once when commits begin to fail, and once when they succeed again."""
        if error is not None and not self._commit_failing:
            log.warning("stream.commit_failed", error=str(error))
        elif error is None and self._commit_failing:
            log.info("stream.commit_recovered")
        self._commit_failing = error is not None

    def _check_assigned(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            if partition not in self._positions:
                raise ValueError(f"{partition} is not assigned")


class KafkaSink:
    """A `Sink` of Kafka topics. The partition follows from the key, by the default hash of the Java client.

    A producer is discarded after an error. Messages that it had in flight to a hanging broker may still arrive, so a
    consumer can see them once more *after* the retry: it recognises them by their ids and sequence numbers.
    """

    def __init__(self, spec: KafkaSpec) -> None:
        self._spec = spec
        self._client: ProducerClient | None = None

    def send(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        if self._client is None:
            self._client = ProducerClient(self._spec)
        try:
            self._client.send(messages)
        except StreamError:
            self.close()
            raise

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


class KafkaAdmin:
    """A `TopicAdmin` of Kafka topics. The constructor raises StreamError when no broker answers."""

    def __init__(self, spec: KafkaSpec) -> None:
        self._client = AdminClient(spec)

    def check(self, topics: Sequence[TopicSpec]) -> dict[str, TopicState]:
        found = self._client.describe([spec.name for spec in topics])
        compacted = self._client.compacted([spec.name for spec in topics if spec.compacted and spec.name in found])

        def state(spec: TopicSpec) -> TopicState:
            if spec.name not in found:
                return TopicState.MISSING
            return TopicState.NOT_COMPACTED if spec.compacted and spec.name not in compacted else TopicState.PRESENT

        return {spec.name: state(spec) for spec in topics}

    def create(self, topics: Sequence[TopicSpec]) -> None:
        found = self._client.describe([spec.name for spec in topics])
        self._client.create([spec for spec in topics if spec.name not in found])

    def close(self) -> None:
        with suppress(StreamError):
            self._client.close()
