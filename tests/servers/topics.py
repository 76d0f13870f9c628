"""Topics of the test cluster as tests need them, made, filled and read past the code under test."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import NodeNotReadyError

from monitor.stream.kafka_repairs import construct

WAIT_S = 20.0
ATTEMPTS = 10

_numbers = itertools.count(1)


class Topics:
    """Makes topics with names that nobody else has."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.admin: Any = construct(KafkaAdminClient, bootstrap_servers=bootstrap, reconnect_backoff_max_ms=500)
        self._producers: dict[str | None, Any] = {}

    def name(self, prefix: str = "topic") -> str:
        return f"{prefix}.{os.getpid()}.{next(_numbers)}"

    def make(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        """A new topic, ready for use."""
        topic = self.name()
        wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(configs or {})}
        for attempt in range(ATTEMPTS):
            try:
                self.admin.create_topics({topic: wanted}, wait_for_metadata=True)
                break
            except NodeNotReadyError:  # a broker that is just coming back
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.2)
        return topic

    def write(
        self, topic: str, values: Sequence[bytes | None], partition: int = 0, *, compression: str | None = None
    ) -> None:
        """Returns when all are in the log."""
        producer = self._producer(compression)
        for attempt in range(ATTEMPTS):
            results = [producer.send(topic, value, b"key", partition=partition) for value in values]
            producer.flush(WAIT_S)
            # The producer gives up on a broker that is just coming back; then nothing was sent.
            if attempt == ATTEMPTS - 1 or not all(isinstance(r.exception, NodeNotReadyError) for r in results):
                break
            time.sleep(0.2)
        for result in results:
            result.get(0)

    def write_all(self, records: Iterable[tuple[str, int, bytes, int]]) -> None:
        """Write (topic, partition, value, timestamp in ms) of many partitions. Returns when all are in the log."""
        producer = self._producer(None)
        results = [
            producer.send(topic, value, b"key", partition=partition, timestamp_ms=timestamp)
            for topic, partition, value, timestamp in records
        ]
        producer.flush(WAIT_S)
        for result in results:
            result.get(0)

    def read(self, topic: str, partition: int = 0) -> list[Any]:
        """All records that are in the log now."""
        asked = TopicPartition(topic, partition)
        made = construct(KafkaConsumer, bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        with closing(made) as consumer:
            consumer.assign([asked])
            end = consumer.end_offsets([asked])[asked]
            found: list[Any] = []
            while consumer.position(asked) < end:
                found += itertools.chain(*consumer.poll(1_000).values())
            return found

    def cut(self, topic: str, first: int, partition: int = 0) -> None:
        """Delete the records before the offset `first`."""
        self.admin.delete_records({TopicPartition(topic, partition): first})

    def close(self) -> None:
        for producer in self._producers.values():
            producer.close(timeout=5)
        self.admin.close()

    def _producer(self, compression: str | None) -> Any:
        if compression not in self._producers:
            self._producers[compression] = construct(
                KafkaProducer,
                bootstrap_servers=self.bootstrap,
                compression_type=compression,
                linger_ms=5,
                max_request_size=20 << 20,  # as much as the brokers of the tests take
                reconnect_backoff_max_ms=500,
            )
        return self._producers[compression]
