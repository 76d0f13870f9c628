"""Workarounds for bugs of kafka-python 3.0.12 that affect driftd.

Shell. Called by `kafka_client` only. Each workaround has a test in `tests/monitor/stream/test_kafka_repairs.py` that
shows the bug in the original client and its absence here; when the first half of such a test fails, the bug is fixed
upstream and the workaround can be removed.

1. After bytes that cannot be decoded `poll` loops for ever: an exhausted generator stays in the queue.
2. A partition that is paused and resumed while another is read may never deliver again.
3. A constructor that finds no broker leaks its thread and its sockets, at every attempt.
4. `allow_auto_create_topics=False` has no effect: a query for a topic creates it.
5. Reading waits for the coordinator of the group, even when partitions are assigned manually.
6. A producer whose batch expires on the way to a hanging broker never sends to that partition again, and its `close`
   raises and leaks its thread.
7. A connection that fails leaves its socket to the garbage collector, at every attempt.
8. A refused password is retried until the timeout, and reported as a timeout, as is every other reason.
9. A TLS handshake has no time limit: with a hanging broker a constructor never returns.
10. The last data of a broker before it closes the connection are discarded, such as the reason of a refusal.
11. A batch is decompressed whatever comes of it, and a poll is limited in records only (`kafka_batches`).
12. A client that is closed with a request half sent leaves the socket to the garbage collector.
"""

# mypy: disable-error-code="misc, has-type, no-untyped-call"
# kafka-python has no types: its classes are Any, and the classes below are subclasses of Any.

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
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

from monitor.stream.kafka_batches import BoundedPartitionRecords
from monitor.stream.kafka_spec import BATCH_BYTES, POLL_BYTES

Client = TypeVar("Client")

DIRECT: Final = "direct://"
NO_LEADER: Final = -1
FRESH_MS: Final = 1_000  # while a topic is missing the client asks for it ten times a second

# At DEBUG it logs whole frames, with payloads and SASL credentials: never, whatever the application's level.
logging.getLogger("kafka.protocol.parser").setLevel(logging.INFO)


class DataFault(Exception):
    """The bytes at an offset of a partition cannot be decoded; the cause says why.

    Attributes:
        behind: Offset of the first record behind them, where that is known.
    """

    def __init__(self, partition: TopicPartition, offset: int, behind: int | None = None) -> None:
        self.partition, self.offset, self.behind = partition, offset, behind
        super().__init__(f"{partition.topic}[{partition.partition}] at {offset}")


def construct(factory: Callable[..., Client], **config: object) -> Client:
    """Return `factory(**config)`, and release all of its resources if it raises (3)."""
    managers: list[RepairedManager] = []
    with ExitStack() as undo:

        def net_client(**net_config: object) -> Any:
            net = NetworkSelector(**net_config)
            managers.append(RepairedManager(net, **net_config))
            made = RepairedNetClient(net, managers[-1], **net_config)
            undo.callback(made.close)
            return made

        try:
            client = factory(kafka_client=net_client, **config)
        except KafkaTimeoutError as error:
            reasons = [str(manager.failure) for manager in managers if manager.failure is not None]
            raise KafkaTimeoutError("; ".join([*map(str, error.args), *reasons])) from error
        undo.pop_all()
        return client


class RepairedNetClient(KafkaNetClient):
    """Closes what is left open when nobody sends any more (12)."""

    def close(self, node_id: Any = None) -> None:
        super().close(node_id)
        if node_id is None:
            self._manager.release()


class RepairedManager(KafkaConnectionManager):
    """Connects, remembers why a connection failed (8), and creates no topics by queries (4)."""

    def __init__(self, net: Any, **config: object) -> None:
        super().__init__(net, **config)
        self.cluster.config["allow_auto_create_topics"] = False
        self.failure: Exception | None = None
        self._transports: list[Any] = []
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
                return self._kept(Transport(self._net, sock, host=node.host))
            transport = TlsTransport(self._net, sock, host=node.host, ssl_context=self.config["ssl_context"])
        except BaseException:
            sock.close()
            raise
        await transport.handshake_until(timeout_at)
        return self._kept(transport)

    def _kept(self, transport: Any) -> Any:
        self._transports = [*(t for t in self._transports if t._sock is not None), transport]
        return transport

    def release(self) -> None:
        """Close the connections that wait for the rest of a request to be sent, once no thread sends it."""
        for transport in self._transports:
            sock, transport._sock = transport._sock, None
            if sock is not None:
                sock.close()


class ClosingSocket(KafkaNetSocket):
    """A direct connection that closes its socket when it fails (7). Chosen by its scheme, as proxies are."""

    SCHEMES = (DIRECT.removesuffix("://"),)

    async def sock_connect(self, net: Any, sock: socket.socket, address: Any, timeout_at: float | None = None) -> Any:
        try:
            return await super().sock_connect(net, sock, address, timeout_at)
        except BaseException:
            sock.close()
            raise


class Transport(KafkaTCPTransport):
    """Delivers data received before the end of the connection; the next read finds the end again (10)."""

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        data, error = super()._sock_recv()
        return data, None if data else error


class TlsTransport(KafkaSSLTransport):
    """The same with TLS, and a time limit for the handshake (9)."""

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        data, error = super()._sock_recv()
        return data, None if data else error

    async def handshake_until(self, timeout_at: float | None) -> None:
        """Do the TLS handshake before a time. Raises KafkaConnectionError."""
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
    """A consumer of manually assigned partitions that all have a position."""

    def __init__(self, batch_bytes: int = BATCH_BYTES, poll_bytes: int = POLL_BYTES, **config: object) -> None:
        super().__init__(**config)
        self._fetcher = RepairedFetcher(self._client, self._subscription, **self.config)
        self._fetcher.bound(batch_bytes, poll_bytes)
        # (5) Commits find the coordinator when they need it; positions never come from there.
        self._coordinator.ensure_coordinator_ready = lambda timeout_ms=None: True

    def wait(self, timeout_ms: int) -> bool:
        """Wait until the next `poll` has bytes to decode, and return whether it has. Raises as `poll`."""
        self._fetcher.only_looks = True
        try:
            return bool(self.poll(timeout_ms))
        finally:
            self._fetcher.only_looks = False

    def offsets(self) -> dict[TopicPartition, int]:
        """Return the positions of the assigned partitions, without the requests of `position()`."""
        states = self._subscription.assignment.items()
        return {partition: state.position.offset for partition, state in states if state.position is not None}

    def leaderless(self) -> set[TopicPartition]:
        """Return the assigned partitions that have no leader, as of the latest metadata."""
        cluster = self._client.cluster
        return {p for p in self._subscription.assignment if cluster.leader_for_partition(p) == NO_LEADER}

    def in_open_transaction(self) -> set[TopicPartition]:
        """Return the partitions read to their last stable offset that hold records beyond it."""
        found = set()
        for partition, state in self._subscription.assignment.items():
            stable = self._fetcher.stable.get(partition, -1)
            if state.position is not None and 0 <= stable <= state.position.offset < (state.highwater or 0):
                found.add(partition)
        return found


class RepairedFetcher(Fetcher):
    """Reports the offset of undecodable bytes (1), drops used-up records (2), and keeps last stable offsets.

    Attributes:
        stable: Last stable offset of each partition, as of its latest answer.
        only_looks: Whether `fetched_records` tells of which partitions there are bytes, instead of decoding them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stable: dict[TopicPartition, int] = {}
        self.only_looks = False
        self.bound(BATCH_BYTES, POLL_BYTES)

    def bound(self, batch_bytes: int, poll_bytes: int) -> None:
        """Limit what a batch may decompress to, and about how much is delivered at a time (11)."""
        self.PartitionRecords = partial(BoundedPartitionRecords, batch_bytes)
        self._poll_bytes = self._left_bytes = poll_bytes

    def fetched_records(self, max_records: int | None = None, update_offsets: bool = True) -> Any:
        self._left_bytes = self._poll_bytes
        self._set_aside()
        if self.only_looks:
            found = self._in_hand()
            return dict.fromkeys(found, ()), bool(found)
        return super().fetched_records(max_records, update_offsets)

    def _set_aside(self) -> None:
        """Make room for the next records where the current ones are used up or those of a paused partition."""
        part = self._next_partition_records
        if part and self._subscriptions.is_paused(part.topic_partition):
            if part.is_large or part.is_exhausted:
                part.drain()  # fetched again once it is resumed: every paused partition could keep one
            else:
                self._paused_partition_records[part.topic_partition] = part
                self._next_partition_records = None
        # (2) Records set aside while paused are only taken up again when this is None, not when it is used up.
        if not part:
            self._next_partition_records = None

    def _in_hand(self) -> list[TopicPartition]:
        """Return the partitions with something to decode. Takes answers that are empty, or errors, which it raises."""
        is_paused = self._subscriptions.is_paused
        for partition in [p for p in self._paused_completed_fetches if not is_paused(p)]:
            self._completed_fetches.append(self._paused_completed_fetches.pop(partition))
        found = [p for p in self._paused_partition_records if not is_paused(p)]
        part: Any = self._next_partition_records
        if part and part.is_exhausted:
            self._append(defaultdict(list), part, 1, update_offsets=True)
        error: Any = self._next_in_line_exception_metadata
        found += ([part.topic_partition] if part else []) + ([error.partition] if error else [])
        for _ in range(len(self._completed_fetches)):  # another thread adds to them
            answer = self._completed_fetches.popleft()
            if is_paused(answer.topic_partition):
                self._paused_completed_fetches[answer.topic_partition] = answer
            elif answer.partition_data.records:
                self._completed_fetches.append(answer)
                found.append(answer.topic_partition)
            else:
                self._parse_fetched_data(answer)
        return found

    def _append(self, drained: Any, part: Any, max_records: int, update_offsets: bool) -> Any:
        before = part.bytes_read if part else 0
        try:
            if part:
                part.most_bytes = self._left_bytes
            count = super()._append(drained, part, max_records, update_offsets)
        except Exception as error:
            # (1) Its generator ended with the error. Once drained it is fetched again: no loop, and no record is lost.
            part.drain()
            raise DataFault(part.topic_partition, part.next_fetch_offset, getattr(error, "behind", None)) from error
        self._left_bytes -= part.bytes_read - before if part is not None else 0
        return count if self._left_bytes > 0 else max_records  # (11) as if there were no room for more records

    def _parse_fetched_data(self, completed_fetch: Any) -> Any:
        self.stable[completed_fetch.topic_partition] = completed_fetch.partition_data.last_stable_offset
        try:
            return super()._parse_fetched_data(completed_fetch)
        except Exception as error:
            if isinstance(error, KafkaError) and not isinstance(error, CorruptRecordError):
                raise
            raise DataFault(completed_fetch.topic_partition, completed_fetch.fetched_offset) from error


class RepairedProducer(KafkaProducer):
    """A producer that can be discarded after a failure (6)."""

    def abandon(self, timeout_s: float) -> None:
        """Stop at once: unsent messages fail, messages in flight may arrive."""
        self._unregister_cleanup()
        self._closed = True
        self._sender.force_close()
        self._sender.join(timeout_s)

    def misses(self, topic: str) -> bool:
        """Return whether the brokers have just answered that there is no such topic."""
        age_ms = time.monotonic() * 1000 - self._metadata._last_successful_refresh_ms
        return self._metadata.partitions_for_topic(topic) is None and age_ms < FRESH_MS

    def __del__(self) -> None:
        """Do nothing: the inherited one would silence the logger of its module for all other producers."""
