"""kafka-python 3.0.12 with its faults repaired, as far as driftd meets them.

Shell. Called by `kafka_client` alone. Each repair has a test in `tests/monitor/stream/test_kafka_repairs.py` that
shows the fault in the client as it comes and its absence here; when the first half of such a test fails, upstream has
repaired it and the repair can go.

1. After bytes that cannot be read `poll` spins for ever: a dead generator stays in line.
2. A partition that is paused and resumed while another is read may never deliver again.
3. A constructor that finds no broker leaves its thread and its sockets behind, at every try.
4. `allow_auto_create_topics=False` reaches nobody: asking for a topic makes it.
5. Reading waits for the coordinator of the group, also when partitions are assigned by hand.
6. A producer whose batch expires on the way to a hung broker never sends to that partition again, and its `close`
   raises and leaves its thread.
7. A connection that cannot be made leaves its socket to the garbage collector, at every try.
8. A password that is refused is tried until the time is over, and told as a timeout, as is every other reason.
9. A TLS handshake has no time limit: with a broker that hangs, a constructor never returns.
10. What a broker says last, before it hangs up, is not heard: why it refuses, for instance.
"""

# mypy: disable-error-code="misc, has-type, no-untyped-call"
# kafka-python has no types: its classes are Any, and a subclass of Any is what a repair is.

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, TypeVar

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import (
    CorruptRecordError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket, create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

Client = TypeVar("Client")

DIRECT: Final = "direct://"
FRESH_MS: Final = 1_000  # while a topic is missing the client asks for it ten times a second

# At DEBUG it prints whole frames: payloads, and what SASL sends. Whatever the application's level is, not this.
logging.getLogger("kafka.protocol.parser").setLevel(logging.INFO)


class DataFault(Exception):
    """The bytes at this offset of a partition cannot be read; the cause says why."""

    def __init__(self, partition: TopicPartition, offset: int) -> None:
        self.partition, self.offset = partition, offset
        super().__init__(f"{partition.topic}[{partition.partition}] at {offset}")


def construct(factory: Callable[..., Client], **config: object) -> Client:
    """`factory(**config)`, of which nothing stays behind when it raises (3)."""
    managers: list[RepairedManager] = []
    with ExitStack() as undo:

        def net_client(**net_config: object) -> Any:
            net = NetworkSelector(**net_config)
            managers.append(RepairedManager(net, **net_config))
            made = KafkaNetClient(net, managers[-1], **net_config)
            undo.callback(made.close)
            return made

        try:
            client = factory(kafka_client=net_client, **config)
        except KafkaTimeoutError as error:
            reasons = [str(manager.failure) for manager in managers if manager.failure is not None]
            raise KafkaTimeoutError("; ".join([*map(str, error.args), *reasons])) from error
        undo.pop_all()
        return client


class RepairedManager(KafkaConnectionManager):
    """Makes connections, keeps in mind why one failed (8), and makes no topics by asking for them (4)."""

    def __init__(self, net: Any, **config: object) -> None:
        super().__init__(net, **config)
        self.cluster.config["allow_auto_create_topics"] = False
        self.failure: Exception | None = None
        self._refusals: dict[Any, SaslAuthenticationFailedError] = {}

    def get_connection(self, node_id: Any, *arguments: Any, **options: Any) -> Any:
        if node_id in self._refusals:
            raise self._refusals.pop(node_id)
        is_new = node_id not in self._conns
        connection = super().get_connection(node_id, *arguments, **options)
        if is_new:
            connection.init_future.add_errback(self._failed, node_id)
        return connection

    def _failed(self, node_id: Any, error: Exception) -> None:
        self.failure = error
        if isinstance(error, SaslAuthenticationFailedError):
            self._refusals[node_id] = error

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        options = self.config["socket_options"]
        sock = await create_connection(self._net, node.host, node.port, options, DIRECT, timeout_at)
        try:
            if not self.ssl_enabled:
                return Transport(self._net, sock, host=node.host)
            transport = TlsTransport(self._net, sock, host=node.host, ssl_context=self.config["ssl_context"])
        except BaseException:
            sock.close()
            raise
        await transport.handshake_until(timeout_at)
        return transport


class ClosingSocket(KafkaNetSocket):
    """No proxy, but closed when it cannot connect (7). Chosen by the scheme, as a proxy would be."""

    SCHEMES = (DIRECT.removesuffix("://"),)

    async def sock_connect(self, net: Any, sock: socket.socket, address: Any, timeout_at: float | None = None) -> Any:
        try:
            return await super().sock_connect(net, sock, address, timeout_at)
        except BaseException:
            sock.close()
            raise


class Transport(KafkaTCPTransport):
    """Hands over what came before the end, and finds the end again at the next read (10)."""

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        data, error = super()._sock_recv()
        return data, None if data else error


class TlsTransport(KafkaSSLTransport):
    """The same with TLS, and a time limit for the handshake (9)."""

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        data, error = super()._sock_recv()
        return data, None if data else error

    async def handshake_until(self, timeout_at: float | None) -> None:
        try:
            await self._handshake_until(timeout_at)
        except BaseException as error:
            self.abort(error)
            if isinstance(error, OSError):
                raise KafkaConnectionError(f"TLS handshake failed: {error}") from error
            raise

    async def _handshake_until(self, timeout_at: float | None) -> None:
        while True:
            try:
                self._sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self._net.wait_read(self._sock, timeout_at)
            except ssl.SSLWantWriteError:
                await self._net.wait_write(self._sock, timeout_at)


class RepairedConsumer(KafkaConsumer):
    """For partitions that are assigned by hand, with a position for each."""

    def __init__(self, **config: object) -> None:
        super().__init__(**config)
        self._fetcher = RepairedFetcher(self._client, self._subscription, **self.config)
        # (5) Commits look the coordinator up when they need it; no position ever comes from there.
        self._coordinator.ensure_coordinator_ready = lambda timeout_ms=None: True

    def offsets(self) -> dict[TopicPartition, int]:
        """Positions of the assigned partitions, without the questions that `position()` asks the broker."""
        states = self._subscription.assignment.items()
        return {partition: state.position.offset for partition, state in states if state.position is not None}


class RepairedFetcher(Fetcher):
    """Says where a fault is, and keeps no dead objects."""

    def fetched_records(self, max_records: int | None = None, update_offsets: bool = True) -> Any:
        # (2) What was parked while paused is only taken up again when this is None, not when it is used up.
        if self._next_partition_records is not None and not self._next_partition_records:
            self._next_partition_records = None
        return super().fetched_records(max_records, update_offsets)

    def _append(self, drained: Any, part: Any, max_records: int, update_offsets: bool) -> Any:
        try:
            return super()._append(drained, part, max_records, update_offsets)
        except Exception as error:
            # (1) Its generator has ended with the error. Drained, it is fetched again: no loop, and no record lost.
            part.drain()
            raise DataFault(part.topic_partition, part.next_fetch_offset) from error

    def _parse_fetched_data(self, completed_fetch: Any) -> Any:
        try:
            return super()._parse_fetched_data(completed_fetch)
        except Exception as error:
            if isinstance(error, KafkaError) and not isinstance(error, CorruptRecordError):
                raise
            raise DataFault(completed_fetch.topic_partition, completed_fetch.fetched_offset) from error


class RepairedProducer(KafkaProducer):
    """One that is thrown away after a failure (6), because it may be of no use any more."""

    def abandon(self, timeout_s: float) -> None:
        """Stop at once. What was not sent fails; what is on its way may arrive."""
        self._unregister_cleanup()
        self._closed = True
        self._sender.force_close()
        self._sender.join(timeout_s)

    def misses(self, topic: str) -> bool:
        """Whether the brokers have just answered that there is no such topic."""
        age_ms = time.monotonic() * 1000 - self._metadata._last_successful_refresh_ms
        return self._metadata.partitions_for_topic(topic) is None and age_ms < FRESH_MS

    def __del__(self) -> None:
        """The inherited one would silence the logger of its module for all other producers."""
