"""The last window as the new reference: its predictions are read again from the stream.

Shell. The stored counts of a window are binned by the old reference, so a new one needs the records themselves.
They are read backwards from the position of the daemon until the window is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import structlog

from detectors.reference import Profile
from detectors.types import IntArray
from monitor.clock import wall_ms
from monitor.errors import ConfigError
from monitor.events.codes import Variants
from monitor.events.columns import EventKind, Events
from monitor.events.decoder import EventDecoder
from monitor.reference.learning import FeatureLearner
from monitor.service.app import Components
from monitor.service.session import BATCH
from monitor.store.history import LastWindow, last_window
from monitor.stream.types import Batch, Partition, Source

log = structlog.get_logger(__name__)

_FIRST_CHUNK: Final = 20_000  # records of a partition; doubled until the window is whole
_MOST_ROWS: Final = 1_000_000
_LEAST_SHARE: Final = 0.5  # of the window's predictions that the stream must still hold
_MOST_EMPTY_POLLS: Final = 50


@dataclass(slots=True)
class _Back:
    """How far back a partition was read: from the offset `start` on. `first` is the first offset that is held."""

    first: int
    start: int
    earliest: int | None = None  # event time


def profile_of_last_window(p: Components, name: str) -> tuple[Profile, LastWindow]:
    """Profile the features of the champion's last checked window.

    Args:
        p: The parts of the configuration.
        name: The model.

    Returns:
        The profile, and the window.

    Raises:
        ConfigError: There is no such window, or the stream no longer holds it.
        StreamError: The stream cannot be read.
    """
    window = last_window(p.engine, name)
    if window is None:
        raise ConfigError(f"models.{name}", None, "no window of its champion was checked yet")
    spec = next(m for m in p.core.models if m.name == name)
    index = p.core.models.index(spec)
    variants = Variants([m.name for m in p.core.models], {m.name: () for m in p.core.models}, p.core.limits.versions)
    variant = variants[name, window.version]
    decoder = EventDecoder(p.core, variants, seed=0)
    rows: dict[tuple[int, int], tuple[int, bytes]] = {}
    source = p.stream.source()
    try:
        for events in _backwards(source, decoder, index, window, p.core.allowed_lateness):
            inside = (events.time >= window.start) & (events.time < window.end + spec.window.counted)
            mine = (events.variant == variant) & (events.kind <= EventKind.UNSERVED) & inside
            _collect(events.take(np.flatnonzero(mine)), index, rows)
    finally:
        source.close()
    if len(rows) < _LEAST_SHARE * window.n:
        hint = f"the stream holds {len(rows)} of the window's {window.n} predictions; build one from a table"
        raise ConfigError(f"models.{name}", None, hint)
    kept = sorted(rows.values(), key=lambda row: row[0])[-_MOST_ROWS:]
    reference = spec.reference
    learner = FeatureLearner(len(kept), reference.points, spec.feature_kinds, season=reference.season)
    learner.add([raw for _, raw in kept], np.array([time for time, _ in kept], np.int64))
    return learner.profile(), window


def _collect(events: Events, index: int, rows: dict[tuple[int, int], tuple[int, bytes]]) -> None:
    """Add the features of requests to `rows`, by request; where one was read twice the first record counts."""
    features = events.features.get(index)
    if features is None:
        return
    for lo, hi, time, at in zip(
        events.lo.tolist(), events.hi.tolist(), events.time.tolist(), events.feature_row.tolist(), strict=True
    ):
        if at >= 0:
            rows.setdefault((lo, hi), (time, bytes(features.raw[at])))


def _backwards(
    source: Source, decoder: EventDecoder, model: int, window: LastWindow, lateness: int
) -> Iterator[Events]:
    """Yield chunks of every partition, back to before the window, with undecoded features of the model."""
    bounds = source.bounds(source.partitions())
    position = dict(window.positions)
    backs = {q: _Back(first, max(min(position.get(q, end), end), first)) for q, (first, end) in bounds.items()}
    chunk = _FIRST_CHUNK
    while True:
        behind = {
            q: b
            for q, b in backs.items()
            if b.start > b.first and (b.earliest is None or b.earliest >= window.start - lateness)
        }
        if not behind:
            return
        for q, back in behind.items():
            start, stop = max(back.first, back.start - chunk), back.start
            for batch in _between(source, q, start, stop):
                events = decoder.decode(batch, wall_ms(), keep_raw=[model]).events
                if len(events):
                    low = _low(events.time)
                    back.earliest = low if back.earliest is None else min(back.earliest, low)
                yield events
            back.start = start
        chunk *= 2


def _low(times: IntArray) -> int:
    """Return a low quantile of event times, not the minimum: one event out of order must not end the search."""
    return int(np.quantile(times, 0.05, method="lower"))


def _between(source: Source, partition: Partition, start: int, stop: int) -> Iterator[Batch]:
    source.assign({partition: start})
    quiet = 0
    while source.positions()[partition] < stop and quiet < _MOST_EMPTY_POLLS:
        batch = source.poll(BATCH, 0.2)
        quiet = 0 if len(batch) else quiet + 1
        inside = np.flatnonzero(batch.offset < stop)
        if len(inside) < len(batch):
            batch = batch.take(inside)
        if len(batch):
            yield batch
