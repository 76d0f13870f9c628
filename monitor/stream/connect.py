"""Streams by their address.

    kafka://host1:9092,host2:9092      brokers
    file:./directory                   a directory of JSON-lines files

Pure: nothing is opened before one of the returned functions is called, which may then raise StreamError. Called by
`service.app`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from monitor.errors import ConfigError
from monitor.stream.files import FileAdmin, FileSink, FileSource
from monitor.stream.kafka import KafkaAdmin, KafkaSecurity, KafkaSink, KafkaSource, KafkaSpec
from monitor.stream.kafka_spec import BATCH_BYTES
from monitor.stream.types import Sink, Source, TopicAdmin

_BROKER: Final = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stream:
    """Functions that open a source, a sink and an admin of one stream. Each may raise StreamError."""

    source: Callable[[], Source]
    sink: Callable[[], Sink]
    admin: Callable[[], TopicAdmin]


def connect(
    url: str,
    topics: Collection[str],
    *,
    enveloped: Collection[str] = (),
    group: str = "driftd",
    client_id: str = "driftd",
    silence_ms: int = 10_000,
    security: KafkaSecurity | None = None,
    batch_bytes: int = BATCH_BYTES,
) -> Stream:
    """Return the stream at an address. All arguments after `topics` are for Kafka only.

    Args:
        url: `kafka://` with brokers, or `file:` with a directory.
        topics: The topics that its sources read.
        enveloped: Those of them whose records are wanted with key and headers.
        group: Consumer group of the advisory commits.
        client_id: Name by which brokers log the client.
        silence_ms: Time without an answer after which a request to a broker fails and is retried, in ms.
        security: TLS and SASL.
        batch_bytes: What a batch of records may decompress to.

    Raises:
        ConfigError: `url` is not such an address.
    """
    scheme, _, address = url.partition(":")
    if "@" in address and scheme != "file":  # not shown: the part before it may be a password
        raise ConfigError(
            "stream.url", None, "name brokers like kafka://host1:9092; who we are belongs under stream.security"
        )
    match scheme:
        case "kafka":
            bootstrap = _brokers(url, address)
            spec = KafkaSpec(
                bootstrap=bootstrap,
                group=group,
                client_id=client_id,
                request_timeout_ms=silence_ms,
                security=security or KafkaSecurity(),
                batch_bytes=batch_bytes,
            )
            return Stream(
                partial(KafkaSource, spec, topics, enveloped), partial(KafkaSink, spec), partial(KafkaAdmin, spec)
            )
        case "file":
            directory = _directory(url, address)
            return Stream(
                partial(FileSource, directory, topics), partial(FileSink, directory), partial(FileAdmin, directory)
            )
        case _:
            raise ConfigError("stream.url", url, "begin with kafka:// or file:")


def _brokers(url: str, address: str) -> tuple[str, ...]:
    brokers = address.removeprefix("//").removesuffix("/").split(",")
    for broker in brokers:
        found = _BROKER.fullmatch(broker)
        if not address.startswith("//") or found is None or not 0 < int(found[2] or 9092) < 65_536:
            raise ConfigError("stream.url", url, "name brokers like kafka://host1:9092,host2:9092")
    return tuple(brokers)


def _directory(url: str, address: str) -> Path:
    path = address.removeprefix("//") if address.startswith("///") else address
    if not path or path.startswith("//"):
        raise ConfigError("stream.url", url, "name a directory like file:./stream or file:/var/lib/stream")
    return Path(path)
