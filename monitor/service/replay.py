"""A recording from its beginning to its end, through the pipeline that runs live.

Shell. The end is where the topics stand at the start, so a replay beside a live producer ends too. There is no
clock on the wall and no idle partition in it: the same recording gives the same results.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from monitor.clock import wall_ms
from monitor.errors import ConfigError, StreamError
from monitor.pipeline.effects import Effects
from monitor.pipeline.pipeline import Pipeline
from monitor.publishing.relay import Relay
from monitor.service.app import Components, open_stream, stream_destination
from monitor.service.session import activate
from monitor.service.worker import BATCH
from monitor.store import reader, schema
from monitor.store.owner import is_gone, owner_name
from monitor.store.subscriptions import STREAM_SUBSCRIPTION
from monitor.store.writer import Claim, StoreWriter
from monitor.stream.files import FileSink
from monitor.stream.types import Batch, Partition, Sink, Source

log = structlog.get_logger(__name__)

_RECORDS_PER_COMMIT: Final = 60_000
_POLL_S: Final = 0.2
_SILENCE_S: Final = 60.0  # a stream that gives nothing for so long, before its end, has stayed away


class StayedAway(StreamError):
    """The stream stopped answering before the end of the recording."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a replay has come."""

    records: int
    of: int
    stream_time: int


ReplayProgress = Callable[[Seen], None]


@contextmanager
def temporary_store() -> Iterator[str]:
    """The URL of a database that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="driftd-replay-") as folder:
        yield f"sqlite:///{folder}/replay.db"


def replay(p: Components, *, out: Path | None, publish: bool, progress: ReplayProgress) -> Mapping[str, Any]:
    """Run it. -> the summary, which is the status document.

    `out` is the directory for alerts, decisions and dead letters; without one they go to the stream itself,
    where it is one of files or `publish` says so.

    Raises:
        ConfigError: the store holds something already.
        StreamError: the stream cannot be read.
        InputFileError: a reference cannot be read.
    """
    started = time.monotonic()
    schema.upgrade(p.engine)
    if not reader.is_empty(p.engine):
        hint = "holds the results of an earlier run; name another one with --store URL, or use --fresh"
        raise ConfigError("store.url", None, hint)
    open_sink = _sink_of(p, out, publish=publish)
    # Webhooks get nothing from a replay: nobody is to be called out for what happened last month.
    subscriptions = () if open_sink is None else (STREAM_SUBSCRIPTION,)
    writer = StoreWriter(p.engine, owner_name(), p.config.store.retention, subscriptions=subscriptions)
    claim = writer.claim(p.config.store.lease / 1000, is_gone)
    if not isinstance(claim, Claim):
        raise ConfigError("store.url", None, "is in use by a running daemon; name another one with --store URL")
    relay = (
        None if open_sink is None else Relay(p.engine, [stream_destination(p.config, open_sink)], heartbeat_s=math.inf)
    )
    source = p.stream.source()
    try:
        identities = source.identities()
        bounds = source.bounds(source.partitions())
        ends = {partition: end for partition, (_, end) in bounds.items()}
        first = {partition: start for partition, (start, _) in bounds.items()}
        pipeline = Pipeline(p.core, claim.hash_seed, ends)
        activate(pipeline, p.references, 0)
        pipeline.positions.update(first)
        source.assign(first)
        pipeline.watermark.assign(first)

        effects = Effects()

        def write_commit(*, last: bool = False) -> None:
            pipeline.totals.seconds = time.monotonic() - started
            nonlocal effects
            gathered, effects = effects, Effects()
            commit = pipeline.prepare_commit(gathered, last=last)
            writer.commit(commit, identities=identities)
            pipeline.on_committed(commit)
            if relay is not None:
                relay.drain()

        for batch in _recorded(source, pipeline, ends, progress):
            effects.extend(pipeline.process(batch, wall_ms()))
            if effects.records >= _RECORDS_PER_COMMIT:
                write_commit()
        effects.extend(pipeline.finish(wall_ms()))
        write_commit(last=True)
        writer.release()
        return pipeline.status()
    finally:
        source.close()
        if relay is not None:
            relay.close()


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


def _recorded(
    source: Source, pipeline: Pipeline, ends: Mapping[Partition, int], progress: ReplayProgress
) -> Iterator[Batch]:
    """All records before the ends."""
    total = sum(end - pipeline.positions[p] for p, end in ends.items())
    done = 0
    heard_at = time.monotonic()
    while True:
        reached = source.positions()
        finished = {p for p, end in ends.items() if reached.get(p, end) >= end}
        pipeline.watermark.finish(finished)
        if len(finished) == len(ends):
            return
        batch = _before(source.poll(BATCH, _POLL_S), ends)
        if len(batch):
            heard_at = time.monotonic()
            done += len(batch)
            yield batch
            progress(Seen(done, total, pipeline.watermark.now))
        elif time.monotonic() - heard_at > _SILENCE_S:
            raise StayedAway(f"nothing came for {_SILENCE_S:.0f} s before the end of the recording", retryable=True)


def _before(batch: Batch, ends: Mapping[Partition, int]) -> Batch:
    """The batch without what was written after the replay had begun."""
    limit = np.array([ends[p] for p in batch.partitions], np.int64)
    inside = batch.offset < limit[batch.source] if len(batch) else np.ones(0, np.bool_)
    if inside.all():
        return batch
    return batch.take(np.flatnonzero(inside))
