"""The three streams behind one face, for the suites that hold them to the same contract."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from monitor.stream.files import FileAdmin, FileSink, FileSource
from monitor.stream.kafka import KafkaAdmin, KafkaSink, KafkaSource, KafkaSpec
from monitor.stream.memory import MemoryStream
from monitor.stream.types import Partition, Sink, Source, TopicAdmin, TopicSpec
from tests.servers.kafka import Cluster
from tests.servers.topics import Topics


class Backend(Protocol):
    """Makes topics and fills them without the sink under test."""

    keeps_envelopes: bool  # whether records have keys and headers
    quiet_s: float  # how long nothing must come before we say that nothing comes

    def topic(self, partitions: int = 1) -> str:
        """The name of a new topic."""
        ...

    def free_name(self) -> str:
        """A name that no topic has."""
        ...

    def grow(self, topic: str, partitions: int) -> None:
        """Give it more partitions."""
        ...

    def write(self, topic: str, values: Sequence[bytes], partition: int = 0) -> None: ...

    def read(self, topic: str, partition: int = 0) -> list[bytes | None]: ...

    def source(self, *topics: str, enveloped: Collection[str] = ()) -> Source:
        """A source; of the `enveloped` topics with keys and headers, where the stream has them."""
        ...

    def sink(self) -> Sink: ...

    def admin(self) -> TopicAdmin: ...

    def outage(self) -> AbstractContextManager[None]:
        """Within it nothing can be sent."""
        ...


class Memory:
    keeps_envelopes = True
    quiet_s = 0.05

    def __init__(self) -> None:
        self._stream = MemoryStream()
        self._count = 0

    def topic(self, partitions: int = 1) -> str:
        name = self.free_name()
        self._stream.create(name, partitions)
        return name

    def free_name(self) -> str:
        self._count += 1
        return f"topic{self._count}"

    def grow(self, topic: str, partitions: int) -> None:
        self._stream.create(topic, partitions)

    def write(self, topic: str, values: Sequence[bytes], partition: int = 0) -> None:
        for value in values:
            self._stream.append(topic, value, partition)

    def read(self, topic: str, partition: int = 0) -> list[bytes | None]:
        return [record.value for record in self._stream.records(topic, partition)]

    def source(self, *topics: str, enveloped: Collection[str] = ()) -> Source:
        return self._stream.source(*topics, enveloped=enveloped)

    def sink(self) -> Sink:
        return self._stream.sink()

    def admin(self) -> TopicAdmin:
        return self._stream.admin()

    @contextmanager
    def outage(self) -> Iterator[None]:
        self._stream.away = True
        yield
        self._stream.away = False


class Files:
    keeps_envelopes = False
    quiet_s = 0.1

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._directory.mkdir()
        self._count = 0

    def topic(self, partitions: int = 1) -> str:
        name = self.free_name()
        FileAdmin(self._directory).create([TopicSpec(name, partitions)])
        return name

    def free_name(self) -> str:
        self._count += 1
        return f"topic{self._count}"

    def grow(self, topic: str, partitions: int) -> None:
        for number in range(1, partitions):
            self._path(topic, number).touch()

    def write(self, topic: str, values: Sequence[bytes], partition: int = 0) -> None:
        with self._path(topic, partition).open("ab") as file:
            file.write(b"".join(value + b"\n" for value in values))

    def read(self, topic: str, partition: int = 0) -> list[bytes | None]:
        return [*self._path(topic, partition).read_bytes().split(b"\n")[:-1]]

    def source(self, *topics: str, enveloped: Collection[str] = ()) -> Source:
        return FileSource(self._directory, topics)

    def sink(self) -> Sink:
        return FileSink(self._directory)

    def admin(self) -> TopicAdmin:
        return FileAdmin(self._directory)

    @contextmanager
    def outage(self) -> Iterator[None]:
        hidden = self._directory.with_suffix(".away")
        self._directory.rename(hidden)
        self._directory.touch()  # a file where the directory should be
        yield
        self._directory.unlink()
        hidden.rename(self._directory)

    def _path(self, topic: str, partition: int) -> Path:
        return self._directory / (f"{topic}-{partition}.jsonl" if partition else f"{topic}.jsonl")


class Kafka:
    keeps_envelopes = True
    quiet_s = 0.4

    def __init__(self, cluster: Cluster, topics: Topics) -> None:
        self._cluster, self._topics = cluster, topics
        self._spec = KafkaSpec(
            bootstrap=(cluster.bootstrap,),
            group=topics.name("group"),
            bootstrap_timeout_ms=2_000,
            delivery_timeout_ms=1_500,
        )

    def topic(self, partitions: int = 1) -> str:
        return self._topics.make(partitions)

    def free_name(self) -> str:
        return self._topics.name("unmade")

    def grow(self, topic: str, partitions: int) -> None:
        self._topics.admin.create_partitions({topic: partitions})

    def write(self, topic: str, values: Sequence[bytes], partition: int = 0) -> None:
        self._topics.write(topic, values, partition)

    def read(self, topic: str, partition: int = 0) -> list[bytes | None]:
        return [record.value for record in self._topics.read(topic, partition)]

    def source(self, *topics: str, enveloped: Collection[str] = ()) -> Source:
        return KafkaSource(self._spec, topics, enveloped)

    def sink(self) -> Sink:
        return KafkaSink(self._spec)

    def admin(self) -> TopicAdmin:
        return KafkaAdmin(self._spec)

    @contextmanager
    def outage(self) -> Iterator[None]:
        self._cluster.nodes[0].freeze()
        try:
            yield
        finally:
            self._cluster.nodes[0].thaw()


BACKENDS: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {
    "memory": lambda request: Memory(),
    "files": lambda request: Files(request.getfixturevalue("tmp_path") / "stream"),
    "kafka": lambda request: Kafka(request.getfixturevalue("kafka"), request.getfixturevalue("topics")),
}


def everything(source: Source, topic: str) -> dict[Partition, int]:
    """Positions at the beginning of all partitions of a topic."""
    return {partition: 0 for partition in source.partitions() if partition.topic == topic}
