"""Replay: a recording from its beginning to its end, through the pipeline that runs live.

Shell. The end is where the topics stand at the start, so a replay beside a live producer ends too. Neither the time
of day nor idle partitions advance stream time: the same recording gives the same results.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
from sqlalchemy.engine import Engine

from monitor.clock import SYSTEM_CLOCK, Clock
from monitor.errors import ConfigError, StreamError
from monitor.pipeline.shown import opened
from monitor.publishing.relay import Relay
from monitor.service.app import Components, open_stream, stream_destination
from monitor.service.holding import Backpressure
from monitor.service.paused import PausedPartitions
from monitor.service.session import Session
from monitor.store import reader, schema
from monitor.store.owner import owner_name
from monitor.store.subscriptions import STREAM_SUBSCRIPTION
from monitor.store.writer import StoreWriter
from monitor.stream.files import FileSink
from monitor.stream.types import Batch, Partition, Sink, Source
from monitor.times import format_time

log = structlog.get_logger(__name__)

_POLL_S: Final = 0.2
_SILENCE_S: Final = 60.0  # without records before the end: the stream is away


class StayedAway(StreamError):
    """The stream stopped answering before the end of the recording."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a replay has come: records processed, of how many, and stream time in ms (-1: unknown)."""

    records: int
    of: int
    stream_time: int


ReplayProgress = Callable[[Seen], None]


@contextmanager
def temporary_store() -> Iterator[str]:
    """Yield the URL of a database that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="driftd-replay-") as folder:
        yield f"sqlite:///{folder}/replay.db"


def replay(
    p: Components, *, out: Path | None, publish: bool, progress: ReplayProgress, clock: Clock = SYSTEM_CLOCK
) -> Mapping[str, Any]:
    """Run a recording from its beginning to its end.

    Args:
        p: The parts of the configuration; the store must be empty.
        out: Directory for alerts, decisions and dead letters. Without one they go to the stream itself, where that is
            one of files or `publish` is set.
        publish: Publish to Kafka.
        progress: Called after every batch.
        clock: Time.

    Returns:
        The status document at the end.

    Raises:
        ConfigError: The store holds something already.
        StreamError: The stream cannot be read.
        InputFileError: A reference cannot be read.
    """
    started = clock.monotonic()
    schema.upgrade(p.engine)
    if not reader.is_empty(p.engine):
        raise ConfigError("store.url", None, _held(p.engine))
    open_sink = _sink_of(p, out, publish=publish)
    # Webhooks get nothing from a replay: nobody is to be called out for what happened last month.
    subscriptions = () if open_sink is None else (STREAM_SUBSCRIPTION,)
    writer = StoreWriter(
        p.engine, owner_name(), p.config.store.retention, subscriptions=subscriptions, ended=p.core.limits.ended
    )
    with ExitStack() as stack:
        source = p.stream.source()
        stack.callback(source.close)
        recording = _Recording(source, clock, p.config.stream.buffer_bytes)
        session = Session.claim(p.core, p.engine, writer, p.config.store.lease / 1000, ends=recording.ends)
        if not isinstance(session, Session):
            raise ConfigError("store.url", None, "is in use by a running daemon; name another one with --store URL")
        stack.callback(session.abandon)
        ends = [] if open_sink is None else [stream_destination(p.config, open_sink)]
        relay = Relay(p.engine, ends, heartbeat_s=math.inf)
        stack.callback(relay.close)
        session.identify(source.identities())
        session.activate(p.references, 0)
        source.assign(session.assign(recording.starts))

        def commit(*, last: bool = False) -> None:
            session.pipeline.totals.seconds = clock.monotonic() - started
            session.commit(last=last)
            relay.drain()

        for batch in recording.batches(session):
            session.process(batch, clock.wall_ms())
            progress(Seen(recording.done, recording.total, session.pipeline.watermark.now))
            if session.is_full:
                commit()
        session.finish(clock.wall_ms())
        commit(last=True)
        session.release()
        return opened(session.pipeline.status())


def _held(engine: Engine) -> str:
    """Return what a store holds, and that a replay leaves it alone."""
    found = reader.status(engine) or {}
    models = ", ".join(sorted(found.get("models", {}))) or "no model"
    until = f" until {format_time(time)}" if (time := found.get("stream_time", -1)) >= 0 else ""
    return (
        f"holds the state, history and alerts of {models}{until}, which a replay neither continues nor overwrites; "
        "name another one with --store URL, or use --fresh"
    )


def _sink_of(p: Components, out: Path | None, *, publish: bool) -> Callable[[], Sink] | None:
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError("--out", str(out), f"cannot be a folder: {error.strerror}; name another") from error
        return lambda: FileSink(out)
    if publish or p.config.stream.url.startswith("file:"):
        return open_stream(p.config, ()).sink
    return None


class _Recording:
    """The records that a stream holds at the start of a replay."""

    def __init__(self, source: Source, clock: Clock, buffer_bytes: int) -> None:
        self._source, self._clock = source, clock
        bounds = source.bounds(source.partitions())
        self.starts = {partition: start for partition, (start, _) in bounds.items()}
        self.ends = {partition: end for partition, (_, end) in bounds.items()}
        self.total = sum(end - start for start, end in bounds.values())
        self.done = 0  # records handed on
        self._backpressure = Backpressure(buffer_bytes)
        self._paused = PausedPartitions(source)

    def batches(self, session: Session) -> Iterator[Batch]:
        """Yield all records before the ends. Raises `StayedAway` where they do not come."""
        heard_at = self._clock.monotonic()
        while True:
            reached = self._source.positions()
            finished = {p for p, end in self.ends.items() if reached.get(p, end) >= end}
            session.pipeline.merge.finish_reading(finished)
            if len(finished) == len(self.ends):
                yield Batch.empty()  # what is in hand waits for nobody any more
                return
            self._paused.set(self._backpressure.update(session.in_hand(), len(self.ends)))
            batch = _before(self._source.poll(self._backpressure.most_records(len(self.ends)), _POLL_S), self.ends)
            if len(batch):
                self._backpressure.note(batch)
            self.done += len(batch)
            yield batch  # an empty one lets what is in hand be processed
            if len(batch):
                heard_at = self._clock.monotonic()
            elif self._clock.monotonic() - heard_at > _SILENCE_S:
                raise StayedAway(f"nothing came for {_SILENCE_S:.0f} s before the end of the recording", retryable=True)


def _before(batch: Batch, ends: Mapping[Partition, int]) -> Batch:
    """Return a batch without the records that were written after the replay had begun."""
    limit = np.array([ends[p] for p in batch.partitions], np.int64)
    inside = batch.offset < limit[batch.source] if len(batch) else np.ones(0, np.bool_)
    if inside.all():
        return batch
    return batch.take(np.flatnonzero(inside))
