"""Typed wrappers of the three clients of kafka-python. All errors are raised as `StreamError`.

Shell. Called by `kafka` only.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.protocol.metadata import MetadataRequest
from kafka.structs import OffsetAndMetadata

from monitor.errors import DriftdError, MessageTooLarge, OffsetGone, PartitionFault, StreamError, TopicsMissing
from monitor.stream.kafka_repairs import DataFault, RepairedConsumer, RepairedProducer, construct
from monitor.stream.kafka_spec import KafkaSpec
from monitor.stream.types import Blocked, Envelope, Message, Partition, Run, TopicSpec

CLOSE_TIMEOUT_S: Final = 3.0
IN_FLIGHT: Final = 1_000  # messages: the producer's buffer is unbounded

_HOPELESS: Final = (
    kafka_errors.AuthorizationError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.InvalidConfigurationError,
    kafka_errors.InvalidPartitionsError,
    kafka_errors.InvalidReplicationFactorError,
    kafka_errors.InvalidTopicError,
    kafka_errors.KafkaConfigurationError,
    kafka_errors.PolicyViolationError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.SecurityDisabledError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.UnsupportedVersionError,
)

_offset, _timestamp, _value = attrgetter("offset"), attrgetter("timestamp"), attrgetter("value")


@contextmanager
def _ours(doing: str) -> Iterator[None]:
    """Translate errors of the client to StreamError; `doing` begins the message."""
    try:
        yield
    except DriftdError:
        raise
    except Exception as error:
        # Not only KafkaError: a bug in the client is treated as an outage, which a new client may end.
        raise StreamError(f"{doing}: {error}", retryable=not isinstance(error, _HOPELESS)) from error


_TOO_LARGE: Final = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


class Topic(NamedTuple):
    """A topic as the brokers describe it."""

    identity: str
    partitions: int


class ConsumerClient:
    """Reads manually assigned partitions. Used by one thread. Methods may raise StreamError."""

    def __init__(self, spec: KafkaSpec, enveloped: frozenset[str] = frozenset()) -> None:
        self._ask_timeout_ms = spec.ask_timeout_ms
        self._enveloped = enveloped
        self._truncated: dict[TopicPartition, OffsetAndMetadata | None] = {}
        with _ours(f"cannot connect to Kafka at {','.join(spec.bootstrap)}"):
            self._consumer = construct(
                RepairedConsumer,
                **_common(spec),
                request_timeout_ms=spec.request_timeout_ms,
                group_id=spec.group,
                enable_auto_commit=False,
                auto_offset_reset="none",  # else a position outside the log is silently replaced
                isolation_level="read_committed",
                check_crcs=True,
                fetch_max_wait_ms=spec.fetch_wait_ms,
                fetch_max_bytes=spec.fetch_bytes,
                max_partition_fetch_bytes=spec.fetch_partition_bytes,
                metrics_enabled=False,
                batch_bytes=spec.batch_bytes,
                poll_bytes=spec.poll_bytes,
                # No deserializers: one that raises would lose its whole batch.
            )

    def assign(self, positions: Mapping[Partition, int], paused: Collection[Partition] = ()) -> None:
        """Read exactly these partitions from these offsets, all but `paused`."""
        self._truncated.clear()
        with _ours("cannot assign partitions"):
            self._consumer.assign([TopicPartition(*partition) for partition in positions])
            for partition, offset in positions.items():
                self._consumer.seek(TopicPartition(*partition), offset)
            self._consumer.resume(*self._consumer.paused())
            self._consumer.pause(*(TopicPartition(*partition) for partition in paused))

    def poll(self, max_records: int, timeout_ms: int) -> list[Run]:
        """Return the next records, one run of each partition.

        Raises:
            OffsetGone: A position is not in the log.
            PartitionFault: Bytes of a partition cannot be decoded.
            StreamError: Any other error.
        """
        with self._reading():
            found = self._consumer.poll(timeout_ms, max_records)
            return [
                _run(Partition(*partition), records, enveloped=partition.topic in self._enveloped)
                for partition, records in found.items()
            ]

    def wait(self, timeout_ms: int) -> bool:
        """Wait until bytes are in hand that `poll` would decode; raises as it does."""
        with self._reading():
            return self._consumer.wait(timeout_ms)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Translate what goes wrong with a partition, and all other errors."""
        with _ours("cannot poll"):
            if self._truncated:
                raise self._next_truncated()
            try:
                yield
            except DataFault as fault:
                topic, number = fault.partition
                raise PartitionFault(topic, number, fault.offset, str(fault.__cause__), fault.behind) from fault
            except kafka_errors.OffsetOutOfRangeError as error:
                raise self._gone(next(iter(error.args[0]))) from error
            except kafka_errors.LogTruncationError as error:
                self._truncated = dict(error.divergent_offsets)
                raise self._next_truncated() from error

    def seek(self, partition: Partition, offset: int) -> None:
        """Continue reading `partition` at `offset`."""
        self._truncated.pop(TopicPartition(*partition), None)
        self._consumer.seek(TopicPartition(*partition), offset)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Stop delivering records of these partitions."""
        self._consumer.pause(*(TopicPartition(*partition) for partition in partitions))

    def resume(self, partitions: Collection[Partition]) -> None:
        """Deliver records of these partitions again."""
        self._consumer.resume(*(TopicPartition(*partition) for partition in partitions))

    def positions(self) -> dict[Partition, int]:
        """Return the next offset of each assigned partition, without asking the brokers."""
        return {Partition(*partition): int(offset) for partition, offset in self._consumer.offsets().items()}

    def ends(self) -> dict[Partition, int]:
        """Return the end offsets that were received with records."""
        ends = {partition: self._consumer.highwater(partition) for partition in self._consumer.assignment()}
        return {Partition(*partition): int(end) for partition, end in ends.items() if end is not None}

    def blocked(self) -> dict[Partition, Blocked]:
        """Return the partitions that cannot deliver, without asking the brokers."""
        found = {Partition(*p): Blocked.OPEN_TRANSACTION for p in self._consumer.in_open_transaction()}
        return found | {Partition(*p): Blocked.LEADERLESS for p in self._consumer.leaderless()}

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        """Ask for the first offset held and the end offset of each partition."""
        asked = [TopicPartition(*partition) for partition in partitions]
        with _ours("cannot ask for offsets"):
            first = self._consumer.beginning_offsets(asked, self._ask_timeout_ms)
        ends = self.ask_ends(partitions, self._ask_timeout_ms)
        return {partition: (int(first[TopicPartition(*partition)]), ends[partition]) for partition in partitions}

    def ask_ends(self, partitions: Collection[Partition], timeout_ms: int) -> dict[Partition, int]:
        """Ask for the end offset of each partition: that of the first open transaction, if there is one."""
        asked = [TopicPartition(*partition) for partition in partitions]
        with _ours("cannot ask for offsets"):
            ends = self._consumer.end_offsets(asked, timeout_ms)
        return {Partition(*partition): int(end) for partition, end in ends.items()}

    def commit(self, positions: Mapping[Partition, int], answer: Callable[[Exception | None], None]) -> None:
        """Commit offsets without waiting.

        Args:
            positions: Next offset of each partition.
            answer: Called in a later `poll`, with the error or None.
        """
        offsets = {TopicPartition(*p): OffsetAndMetadata(offset, "", -1) for p, offset in positions.items()}

        def answered(_: object, result: object) -> None:
            answer(result if isinstance(result, Exception) else None)

        with _ours("cannot commit"):
            self._consumer.commit_async(offsets, answered)

    def describe(self, topics: Collection[str]) -> dict[str, Topic]:
        """Ask for topics; those that do not exist are left out."""
        with _ours("cannot ask for topics"):
            return _describe(self._consumer, topics, self._ask_timeout_ms)

    def close(self) -> None:
        """Close the connections, within `CLOSE_TIMEOUT_S`."""
        with _ours("cannot close"):
            try:
                self._consumer.close(autocommit=False, timeout_ms=int(CLOSE_TIMEOUT_S * 1000))
            finally:
                self._consumer._client.close()  # if its thread is dead the rest of closing raises

    def _next_truncated(self) -> OffsetGone:
        """Return the error of one truncated partition; the library reports all of them at once, and only once."""
        partition, kept = self._truncated.popitem()
        return self._gone(partition, kept)

    def _gone(self, partition: TopicPartition, kept: OffsetAndMetadata | None = None) -> OffsetGone:
        position = self.positions()[Partition(*partition)]
        first, end = self.bounds([Partition(*partition)])[Partition(*partition)]
        return OffsetGone(
            partition.topic, partition.partition, position, first, end if kept is None else int(kept.offset)
        )


class ProducerClient:
    """Publishes messages. After the first error it must be closed and replaced."""

    def __init__(self, spec: KafkaSpec) -> None:
        self._patience_s = spec.delivery_timeout_ms / 1000 + 2
        with _ours(f"cannot connect to Kafka at {','.join(spec.bootstrap)}"):
            self._producer = construct(
                RepairedProducer,
                **_common(spec),
                request_timeout_ms=min(spec.request_timeout_ms, spec.delivery_timeout_ms // 2),
                delivery_timeout_ms=spec.delivery_timeout_ms,
                max_block_ms=spec.ask_timeout_ms,
                max_request_size=spec.message_bytes,
                acks="all",
                enable_idempotence=True,
                linger_ms=20,  # only fills batches: `flush` does not wait for it
                batch_size=1 << 17,
                metrics_enabled=False,
            )

    def send(self, messages: Sequence[Message]) -> None:
        """Publish messages in order and return when all are acknowledged.

        Raises:
            TopicsMissing: A topic does not exist.
            MessageTooLarge: A message exceeds the size limit of its topic.
            StreamError: Any other error.
        """
        with _ours("cannot publish"):
            for start in range(0, len(messages), IN_FLIGHT):
                self._send(messages[start : start + IN_FLIGHT])

    def close(self) -> None:
        """Stop at once; messages that were not sent are dropped."""
        self._producer.abandon(CLOSE_TIMEOUT_S)

    def _send(self, messages: Sequence[Message]) -> None:
        results = [self._enqueue(message) for message in messages]
        deadline = time.monotonic() + self._patience_s
        with suppress(kafka_errors.UnknownError):  # of a batch that was too large and was split; its parts are sent
            self._producer.flush(self._patience_s)
        for message, result in zip(messages, results, strict=True):
            try:
                result.get(max(deadline - time.monotonic(), 0))
            except Exception as error:
                raise self._failure(message, error) from error

    def _enqueue(self, message: Message) -> Any:
        try:
            return self._producer.send(message.topic, message.value, message.key, list(message.headers.items()))
        except kafka_errors.KafkaError as error:
            raise self._failure(message, error) from error

    def _failure(self, message: Message, error: Exception) -> StreamError:
        if self._producer.misses(message.topic):
            return TopicsMissing((message.topic,))
        if isinstance(error, _TOO_LARGE):
            return MessageTooLarge(message.topic, str(error))
        return StreamError(f"cannot publish to {message.topic}: {error}", retryable=not isinstance(error, _HOPELESS))


class AdminClient:
    """Checks and creates topics. Methods may raise StreamError."""

    def __init__(self, spec: KafkaSpec) -> None:
        self._ask_timeout_ms = spec.ask_timeout_ms
        with _ours(f"cannot connect to Kafka at {','.join(spec.bootstrap)}"):
            self._admin = construct(KafkaAdminClient, **_common(spec), request_timeout_ms=spec.ask_timeout_ms)

    def describe(self, topics: Collection[str]) -> dict[str, Topic]:
        """Ask for topics; those that do not exist are left out."""
        with _ours("cannot ask for topics"):
            return _describe(self._admin, topics, self._ask_timeout_ms)

    def compacted(self, topics: Collection[str]) -> frozenset[str]:
        """Return those of the topics that are compacted."""
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic, ["cleanup.policy"]) for topic in topics]
        if not asked:
            return frozenset()
        with _ours("cannot ask for the configuration of topics"):
            answer = self._admin.describe_configs(asked, config_filter="all")
            found: dict[str, Any] = answer["topic"]
            return frozenset(t for t in found if "compact" in found[t]["cleanup.policy"]["value"].split(","))

    def create(self, topics: Sequence[TopicSpec]) -> None:
        """Create topics, none of which exists."""
        if not topics:
            return
        wanted = {
            spec.name: {
                "num_partitions": spec.partitions,
                "replication_factor": spec.replicas,
                "configs": {"cleanup.policy": "compact"} if spec.compacted else {},
            }
            for spec in topics
        }
        with _ours("cannot make topics"):
            self._admin.create_topics(wanted, wait_for_metadata=True)

    def close(self) -> None:
        """Close the connections."""
        with _ours("cannot close"):
            self._admin.close()


def _common(spec: KafkaSpec) -> dict[str, object]:
    return {
        "bootstrap_servers": list(spec.bootstrap),
        "bootstrap_timeout_ms": spec.bootstrap_timeout_ms,
        "client_id": spec.client_id,
        "reconnect_backoff_max_ms": 1_000,  # the default of 30 s would prolong an outage by as much
        "security_protocol": spec.security.protocol,
        "ssl_context": spec.security.ssl_context(),
        "sasl_mechanism": spec.security.mechanism,
        "sasl_plain_username": spec.security.username,
        "sasl_plain_password": spec.security.password,
    }


def _run(partition: Partition, records: Sequence[Any], *, enveloped: bool) -> Run:
    """Convert records to columns. The hot path: about 60 ns a record, beside 7 µs in the library."""
    count, first, last = len(records), records[0].offset, records[-1].offset
    if last - first == count - 1:  # offsets are strictly increasing, so there are no gaps
        offsets = np.arange(first, last + 1)
    else:
        offsets = np.fromiter(map(_offset, records), np.int64, count)
    timestamps = np.fromiter(map(_timestamp, records), np.int64, count)
    envelopes = [_envelope(record) for record in records] if enveloped else None
    return Run(partition, offsets, timestamps, list(map(_value, records)), envelopes)


def _envelope(record: Any) -> Envelope:
    return Envelope(record.key, {name: value for name, value in record.headers if value is not None})


def _describe(client: Any, topics: Collection[str], timeout_ms: int) -> dict[str, Topic]:
    """Ask for topics without changing the metadata that the client keeps; missing topics are left out.

    The client would go on asking for a topic that does not exist, ten times a second and with an error in the log.
    """
    request = MetadataRequest(
        topics=[MetadataRequest.MetadataRequestTopic(name=topic) for topic in topics],
        allow_auto_topic_creation=False,
        include_cluster_authorized_operations=False,
        include_topic_authorized_operations=False,
    )

    async def ask() -> Any:
        return await client._manager.wait_for(client._manager.send(request), timeout_ms)

    found: dict[str, Topic] = {}
    for topic in client._net.run(ask).topics:
        error = kafka_errors.for_code(topic.error_code)
        if error is kafka_errors.NoError:
            found[topic.name] = Topic(str(topic.topic_id or ""), len(topic.partitions))
        elif error is not kafka_errors.UnknownTopicOrPartitionError:
            raise error(topic.name)
    return found
