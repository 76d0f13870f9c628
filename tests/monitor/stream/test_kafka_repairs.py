"""The faults of kafka-python that driftd repairs: here in the client as it comes, and gone in ours.

When the first half of such a test fails, upstream has repaired the fault, and the repair can go.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import itertools
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import CorruptRecordError, KafkaTimeoutError, SaslAuthenticationFailedError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

from monitor.stream.kafka_repairs import (
    DIRECT,
    ClosingSocket,
    DataFault,
    RepairedConsumer,
    RepairedProducer,
    Transport,
    construct,
)
from monitor.stream.kafka_spec import KafkaSecurity, KafkaSpec
from tests.servers.kafka import Cluster
from tests.servers.topics import Topics

pytestmark = pytest.mark.kafka

PATIENCE_S = 20.0
NOBODY = "127.0.0.1:1"  # no broker listens there

AS_WE_USE_IT: dict[str, Any] = {
    "group_id": "driftd",
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "fetch_max_wait_ms": 100,
}


def consumers(bootstrap: str) -> Iterator[tuple[str, Any]]:
    """The one as it comes, and ours."""
    for name, factory in (("upstream", KafkaConsumer), ("ours", RepairedConsumer)):
        with closing(construct(factory, bootstrap_servers=bootstrap, **AS_WE_USE_IT)) as consumer:
            yield name, consumer


def begin(consumer: Any, *partitions: TopicPartition) -> None:
    consumer.assign(list(partitions))
    for partition in partitions:
        consumer.seek(partition, 0)


def poll(consumer: Any, timeout_ms: int, max_records: int = 1_000) -> list[tuple[TopicPartition, bytes]]:
    found = consumer.poll(timeout_ms, max_records)
    return [(partition, record.value) for partition, records in found.items() for record in records]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def upstream() -> Iterator[Callable[..., Any]]:
    """What to pass as `kafka_client` so that what a constructor leaves behind can be removed."""
    made: list[Any] = []

    def net_client(**config: Any) -> Any:
        made.append(KafkaNetClient(**{**config, "proxy_url": DIRECT}))
        return made[-1]

    yield net_client
    for client in made:
        client.close()


def test_a_batch_that_decompresses_to_much_more_than_it_is(kafka: Cluster, topics: Topics) -> None:
    """Upstream has all of it in memory, whatever it comes to. Ours stops at a limit, and says what is behind."""
    topic = topics.make()
    topics.write(topic, [b"0" * (8 << 20)], compression="zstd")
    bombed = TopicPartition(topic, 0)
    with closing(construct(KafkaConsumer, bootstrap_servers=kafka.bootstrap, **AS_WE_USE_IT)) as consumer:
        begin(consumer, bombed)
        assert poll(consumer, 5_000) == [(bombed, b"0" * (8 << 20))]

    limited: Any = construct(RepairedConsumer, batch_bytes=4 << 20, bootstrap_servers=kafka.bootstrap, **AS_WE_USE_IT)
    with closing(limited) as consumer:
        begin(consumer, bombed)
        with pytest.raises(DataFault) as raised:
            poll(consumer, 5_000)
        assert (raised.value.partition, raised.value.offset, raised.value.behind) == (bombed, 0, 1)


UNTIL_A_FAULT_AND_ON = """
import warnings; warnings.simplefilter("ignore")
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError
consumer = KafkaConsumer(bootstrap_servers={bootstrap!r}, auto_offset_reset="none", enable_auto_commit=False)
partition = TopicPartition({topic!r}, 0)
consumer.assign([partition])
consumer.seek(partition, 0)
try:
    while True:
        consumer.poll(100)
except CorruptRecordError:
    print("fault", flush=True)
consumer.poll(100)
print("went on", flush=True)
"""


def test_a_poll_after_bytes_that_cannot_be_read(kafka: Cluster, topics: Topics) -> None:
    """Upstream spins for ever, at full load. Ours says where the fault is, again and again, and reads others."""
    topic, other = topics.make(), topics.make()
    for value in (b"good", b"damaged", b"behind"):
        topics.write(topic, [value])
    kafka.damage(topic, b"damaged")
    script = UNTIL_A_FAULT_AND_ON.format(bootstrap=kafka.bootstrap, topic=topic)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "fault\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.kill()

    with closing(construct(RepairedConsumer, bootstrap_servers=kafka.bootstrap, **AS_WE_USE_IT)) as consumer:
        damaged, fine = TopicPartition(topic, 0), TopicPartition(other, 0)
        begin(consumer, damaged)
        assert poll(consumer, 5_000) == [(damaged, b"good")]
        for _ in range(3):
            with pytest.raises(DataFault) as raised:
                poll(consumer, 5_000)
            assert (raised.value.partition, raised.value.offset) == (damaged, 1)
            assert isinstance(raised.value.__cause__, CorruptRecordError)

        begin(consumer, damaged, fine)
        consumer.seek(damaged, 1)
        consumer.pause(damaged)
        topics.write(other, [b"fine"])
        assert poll(consumer, 5_000) == [(fine, b"fine")]

        consumer.resume(damaged)
        consumer.seek(damaged, 2)
        assert poll(consumer, 5_000) == [(damaged, b"behind")]


def test_a_fault_that_is_parked_by_a_pause(kafka: Cluster, topics: Topics) -> None:
    """A fault is kept for the next poll when there are records to deliver first. A pause in between is harmless."""
    topic = topics.make()
    partition = TopicPartition(topic, 0)
    for value in (b"good", b"damaged"):
        topics.write(topic, [value])
    kafka.damage(topic, b"damaged")
    with closing(construct(RepairedConsumer, bootstrap_servers=kafka.bootstrap, **AS_WE_USE_IT)) as consumer:
        begin(consumer, partition)
        assert poll(consumer, 5_000) == [(partition, b"good")]
        for _ in range(3):
            consumer.pause(partition)
            assert poll(consumer, 100) == []
            consumer.resume(partition)
            with pytest.raises(DataFault):
                poll(consumer, 5_000)


def test_a_partition_that_is_resumed_while_another_was_read(kafka: Cluster, topics: Topics) -> None:
    """Upstream never delivers what it had fetched and parked. Ours does."""
    topic = topics.make(2)
    for number in range(2):
        topics.write(topic, [b"%d" % i for i in range(100)], number)
    for name, consumer in consumers(kafka.bootstrap):
        begin(consumer, TopicPartition(topic, 0), TopicPartition(topic, 1))
        first = poll(consumer, 5_000, 10)
        paused = first[0][0]
        consumer.pause(paused)
        seen = len(first)
        while seen < 110:
            seen += len(poll(consumer, 5_000, 10))

        consumer.resume(paused)
        rest = list(itertools.chain(*(poll(consumer, 100, 10) for _ in range(12))))

        assert len(rest) == {"upstream": 0, "ours": 90}[name], name


def test_a_constructor_that_finds_no_broker() -> None:
    """Upstream leaves a thread behind. Ours does not, so that a daemon may try again and again."""

    def threads() -> int:
        return sum(thread.name.startswith("kafka-io-") for thread in threading.enumerate())

    before = threads()
    with upstream() as net_client:
        with pytest.raises(KafkaTimeoutError):
            KafkaConsumer(bootstrap_servers=NOBODY, bootstrap_timeout_ms=100, kafka_client=net_client)
        assert threads() == before + 1
    assert threads() == before

    for factory in (RepairedConsumer, RepairedProducer):
        with pytest.raises(KafkaTimeoutError):
            construct(factory, bootstrap_servers=NOBODY, bootstrap_timeout_ms=100)
    assert threads() == before


def test_asking_for_a_topic_that_does_not_exist(kafka: Cluster, topics: Topics) -> None:
    """Upstream makes it, although it was told not to. Ours does not."""
    asked = {"upstream": topics.name("asked"), "ours": topics.name("asked")}
    told: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap, "allow_auto_create_topics": False}
    with closing(KafkaConsumer(**told)) as theirs, closing(construct(RepairedConsumer, **told)) as ours:
        theirs.assign([TopicPartition(asked["upstream"], 0)])
        wait_for(lambda: asked["upstream"] in topics.admin.list_topics())

        ours.assign([TopicPartition(asked["ours"], 0)])
        for _ in range(3):  # it asks again and again while there is no such topic
            last_ms = ours._cluster._last_successful_refresh_ms
            wait_for(lambda: ours._cluster._last_successful_refresh_ms > last_ms)  # noqa: B023 (runs at once)
    assert asked["ours"] not in topics.admin.list_topics()


def test_reading_while_the_group_has_no_coordinator(crippled: Cluster) -> None:
    """Upstream does not read either, although no group is needed. Ours does."""
    with closing(Topics(crippled.bootstrap)) as topics:
        topic = topics.make()
        topics.write(topic, [b"value"])
    for name, factory in (("upstream", KafkaConsumer), ("ours", RepairedConsumer)):
        made = construct(factory, bootstrap_servers=crippled.bootstrap, **AS_WE_USE_IT)
        with closing(made) as consumer:
            begin(consumer, TopicPartition(topic, 0))
            assert len(poll(consumer, {"upstream": 1_500, "ours": 5_000}[name])) == {"upstream": 0, "ours": 1}[name]


def test_a_producer_whose_batch_expired_on_the_way_to_a_hung_broker(kafka: Cluster, topics: Topics) -> None:
    """Upstream never sends to that partition again, and closing raises. Ours is thrown away, quickly."""
    topic = topics.make()
    for name, factory in (("upstream", KafkaProducer), ("ours", RepairedProducer)):
        producer: Any = construct(
            factory, bootstrap_servers=kafka.bootstrap, delivery_timeout_ms=600, request_timeout_ms=500
        )
        producer.send(topic, b"before").get(5)
        kafka.nodes[0].freeze()
        try:
            with pytest.raises(KafkaTimeoutError):
                producer.send(topic, b"on its way").get(5)
        finally:
            kafka.nodes[0].thaw()
        topics.write(topic, [b"the broker is back"])

        with pytest.raises(KafkaTimeoutError):
            producer.send(topic, b"after").get(2)
        if name == "upstream":
            with pytest.raises(KafkaTimeoutError):
                producer.close(timeout=0.1)
            assert producer._sender.is_alive()
            RepairedProducer.abandon(producer, 5)
        else:
            started = time.monotonic()
            producer.abandon(5)
            assert time.monotonic() - started < 2
        assert not producer._sender.is_alive()


def test_a_connection_that_cannot_be_made() -> None:
    """Upstream leaves its socket open, for the garbage collector. Ours closes it."""
    made: dict[str, list[socket.socket]] = {"upstream": [], "ours": []}

    def keeping(base: Any, name: str) -> str:
        def make(self: Any, *arguments: Any) -> socket.socket:
            made[name].append(base.socket(self, *arguments))
            return made[name][-1]

        type(name, (base,), {"SCHEMES": (name,), "socket": make})
        return f"{name}://"

    for base, name in ((KafkaNetSocket, "upstream"), (ClosingSocket, "ours")):
        client = KafkaNetClient(bootstrap_servers=NOBODY, proxy_url=keeping(base, name))
        with closing(client), pytest.raises(KafkaTimeoutError):
            client._manager.bootstrap(100)

    assert {name: {sock.fileno() == -1 for sock in socks} for name, socks in made.items()} == {
        "upstream": {False},
        "ours": {True},
    }
    for sock in made["upstream"]:
        sock.close()


def test_a_connection_that_is_closed_before_all_is_sent(kafka: Cluster) -> None:
    """Upstream leaves its socket open: nobody sends the rest any more. Ours closes it at the end."""
    ours, theirs = socket.socketpair()
    with closing(construct(RepairedConsumer, bootstrap_servers=kafka.bootstrap, **AS_WE_USE_IT)) as consumer, theirs:
        transport = consumer._client._manager._kept(Transport(consumer._client._net, ours, host="peer"))
        transport._write_buffer.append(b"the rest of a request")
        transport.close()
        assert ours.fileno() != -1
    assert ours.fileno() == -1


def test_a_password_that_is_refused(by_password: KafkaSpec) -> None:
    """Upstream keeps knocking and then tells of a timeout. Ours tells what the broker said, at once."""
    config: dict[str, Any] = {
        "bootstrap_servers": by_password.bootstrap[0],
        "bootstrap_timeout_ms": 1_000,
        "security_protocol": "SASL_SSL",
        "ssl_context": by_password.security.ssl_context(),
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "driftd",
        "sasl_plain_password": "guessed",
    }
    with upstream() as net_client, pytest.raises(KafkaTimeoutError) as timeout:
        KafkaConsumer(**config, kafka_client=net_client)
    assert "uthentication" not in str(timeout.value)

    started = time.monotonic()
    with pytest.raises(SaslAuthenticationFailedError):
        construct(RepairedConsumer, **config)
    assert time.monotonic() - started < 0.9


IN_A_HANDSHAKE = """
import warnings; warnings.simplefilter("ignore")
from kafka import KafkaConsumer
print("begins", flush=True)
KafkaConsumer(bootstrap_servers={bootstrap!r}, bootstrap_timeout_ms=100, security_protocol="SSL")
"""


def test_a_broker_that_hangs_in_the_handshake() -> None:
    """Upstream waits for ever, whatever its time. Ours does not."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, nobody answers
        bootstrap = f"127.0.0.1:{silent.getsockname()[1]}"
        script = IN_A_HANDSHAKE.format(bootstrap=bootstrap)
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.5)
            process.kill()

        started = time.monotonic()
        with pytest.raises(KafkaTimeoutError):
            construct(
                RepairedConsumer,
                bootstrap_servers=bootstrap,
                bootstrap_timeout_ms=100,
                security_protocol="SSL",
                ssl_context=KafkaSecurity(tls=True).ssl_context(),
            )
        assert time.monotonic() - started < 1.0


def test_frames_are_never_logged() -> None:
    """At DEBUG the parser would print payloads and passwords; an application's level must not reach it."""
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        assert not logging.getLogger("kafka.protocol.parser").isEnabledFor(logging.DEBUG)
    finally:
        logging.getLogger().setLevel(logging.WARNING)
