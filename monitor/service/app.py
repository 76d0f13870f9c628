"""The daemon, assembled from its configuration.

Shell. The worker has the main thread; HTTP and each destination have one each. SIGTERM and SIGINT finish the batch in
hand, commit it and publish what waits; a second one ends the process at once, which is safe too: what was committed is
kept, the rest is read again.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final

import structlog
from sqlalchemy.engine import Engine

from monitor.config import build
from monitor.config.schema import Configuration
from monitor.errors import ConfigError, StoreError
from monitor.publishing.destinations.base import Destination
from monitor.publishing.destinations.stream import StreamDestination
from monitor.publishing.destinations.webhook import Webhook, WebhookSpec
from monitor.publishing.relay import Relay
from monitor.reference.file import ReferenceFile, reference_files
from monitor.service.input import InputSpec
from monitor.service.memory import memory_bound, tell_memory
from monitor.service.systemd import Systemd
from monitor.service.worker import Worker, WorkerSpec
from monitor.spec import CoreSpec
from monitor.store import reader
from monitor.store.engine import LEASE_S, is_in_memory
from monitor.store.engine import connect as connect_store
from monitor.store.owner import is_neighbour, owner_name
from monitor.store.subscriptions import MessageKind, Subscription
from monitor.store.writer import StoreWriter
from monitor.stream.connect import Stream
from monitor.stream.connect import connect as connect_stream
from monitor.stream.types import Sink, Start
from monitor.web.metrics import Telemetry
from monitor.web.server import HttpServer, application, names_of

log = structlog.get_logger(__name__)

_DRAIN_S: Final = 5.0
DONE, STAYED_AWAY = 0, 75


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a configuration that commands need. Nothing is connected yet."""

    config: Configuration
    core: CoreSpec
    stream: Stream
    engine: Engine
    references: dict[str, ReferenceFile]

    @property
    def webhooks(self) -> tuple[WebhookSpec, ...]:
        """The webhooks. Their secrets are read with this: who only asks questions need not be able to."""
        return build.webhooks(self.config)


def parts(config: Configuration, *, store_url: str | None = None, read_only: bool = False) -> Components:
    """Build the parts of a configuration.

    Args:
        config: The configuration.
        store_url: Another store than the configured one.
        read_only: The store is looked at while another process may own it.

    Raises:
        ConfigError: Parts of the configuration do not fit together.
    """
    return Components(
        config=config,
        core=build.core(config),
        stream=open_stream(config, config.stream.events),
        engine=connect_store(
            store_url or build.store_url(config),
            read_only=read_only,
            lease_s=LEASE_S if read_only else config.store.lease / 1000,
        ),
        references=reference_files(build.core(config)),
    )


def open_stream(config: Configuration, topics: Collection[str]) -> Stream:
    """Return how to open the stream; its sources read `topics`."""
    return connect_stream(
        config.stream.url,
        topics,
        group=config.stream.group,
        silence_ms=config.stream.session_timeout,
        security=build.security(config),
        batch_bytes=_batch_bytes(config),
    )


def _batch_bytes(config: Configuration) -> int:
    return max(config.stream.batch_bytes, 2 * config.limits.event_bytes)  # an event that is allowed can be read


def stream_destination(config: Configuration, open_sink: Callable[[], Sink]) -> StreamDestination:
    """Return the destination that publishes to the configured topics."""
    stream = config.stream
    topics = {
        MessageKind.ALERT: stream.alerts,
        MessageKind.DECISION: stream.decisions,
        MessageKind.DEAD_LETTER: stream.dead_letters,
    }
    return StreamDestination(open_sink, topics)


def destinations(p: Components) -> list[Destination]:
    """Return every destination that is configured: the stream, and webhooks."""
    return [stream_destination(p.config, p.stream.sink), *map(Webhook, p.webhooks)]


def subscriptions(destinations: Iterable[Destination]) -> tuple[Subscription, ...]:
    """Return which messages each destination wants."""
    return tuple(Subscription(d.name, d.kinds) for d in destinations)


def worker_spec(p: Components) -> WorkerSpec:
    """Return the settings of the poll loop."""
    config = p.config
    return WorkerSpec(
        core=p.core,
        input=InputSpec(
            start=Start(config.stream.start),
            idle_after_s=config.stream.idle_after / 1000,
            hold_s=config.stream.hold / 1000,
            buffer_bytes=config.stream.buffer_bytes,
            dead_letters_per_minute=config.stream.dead_letters_per_minute,
        ),
        commit_every_s=config.store.commit_every / 1000,
        lease_s=config.store.lease / 1000,
        outbox_limit=config.limits.outbox,
        references=p.references,
    )


def run(config: Configuration, *, startup_timeout_s: float | None = None) -> int:
    """Run the daemon until a signal stops it.

    Args:
        config: The configuration.
        startup_timeout_s: How long the stream and the store may stay away at the start; None: for ever.

    Returns:
        The exit code.

    Raises:
        AddressTaken: Another process has the port, and is not the owner of the store.
        ConfigError: Something that is configured cannot be.
        InputFileError: A reference cannot be read.
        StoreError: The store is damaged, or of a newer release.
    """
    p = parts(config)
    if is_in_memory(p.engine.url):
        hint = "a database in memory ends with the process: state, history and alerts would be lost; name a file"
        raise ConfigError("store.url", None, hint)
    tell_memory(config.stream.buffer_bytes, _batch_bytes(config), memory_bound())
    telemetry, watchdog = Telemetry(), Systemd()
    ends = destinations(p)
    relay = Relay(p.engine, ends, config.stream.heartbeat / 1000)
    writer = StoreWriter(
        p.engine, owner_name(), config.store.retention, subscriptions=subscriptions(ends), ended=p.core.limits.ended
    )
    worker = Worker(worker_spec(p), p.engine, writer, p.stream.source, relay, telemetry, watchdog)
    names = names_of(config.http.host, config.http.hosts)
    http = HttpServer(application(telemetry, lambda: telemetry.status, names), config.http.host, config.http.port)
    _listen_to_signals(worker.stop, watchdog.stopping)
    http.start(lambda: _is_standby(p.engine))
    relay.start()
    drain_s = 0.0  # where the last commit failed, the outbox cannot be read either
    try:
        ended_well = worker.run(startup_timeout_s=startup_timeout_s)
        drain_s = _DRAIN_S
    finally:
        watchdog.stopping()
        relay.stop(drain_s)
        http.stop()
        p.engine.dispose()
    log.info("app.ended", waiting=relay.depth)
    return DONE if ended_well else STAYED_AWAY


def _is_standby(engine: Engine) -> bool:
    """Return whether another daemon of this host owns the store, which then has the port as well."""
    with suppress(StoreError):
        owner = reader.owner(engine)
        return owner is not None and is_neighbour(owner)
    return False


def _listen_to_signals(stop: Callable[[], None], announce: Callable[[], None]) -> None:
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        stop()
        announce()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handle)
    with suppress(RuntimeError, ValueError, OSError):  # standard error may be no file
        faulthandler.register(signal.SIGUSR1, all_threads=True)
