"""The input side of the poll loop: what is read, what is skipped, what waits, and which partitions are idle.

Shell. Faults of one partition stop that partition, not the others: a gap is skipped and told, unreadable bytes and
too many refused records make the partition wait. An outage of the stream is a state, not an error: polling goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from monitor.clock import Clock
from monitor.errors import OffsetGone, PartitionFault, StoreError, StreamError
from monitor.pipeline.effects import Effects
from monitor.pipeline.merge import Holding
from monitor.service.careful import CarefulReading
from monitor.service.holding import Backpressure, Holds
from monitor.service.paused import PausedPartitions
from monitor.service.readiness import Readiness, why
from monitor.service.session import Session
from monitor.service.snapshot import Counters
from monitor.service.troubles import Troubles
from monitor.store.attempts import AttemptLog
from monitor.stream.types import Batch, Blocked, Partition, Source, Start
from monitor.web.metrics import PartitionLag

log = structlog.get_logger(__name__)

POLL_S: Final = 0.1  # how long a poll waits for records
_REFRESH_S: Final = 3.0  # less than a usual lateness: new partitions, recreated topics
_STALLED_S: Final = 2.0  # a loop that stood still for so long knows nothing of the ends of partitions
_ASK_S: Final = 2.0  # how often ends of partitions are asked for where records do not tell them
_NEVER: Final = float("-inf")

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How the stream is read.

    Attributes:
        start: Where a partition begins that no commit knows.
        idle_after_s: Idle timeout: a partition without new records for this long no longer holds back stream time.
        hold_s: How long the others wait for a partition that cannot deliver.
        buffer_bytes: Records in hand while partitions are merged.
        dead_letters_per_minute: Refused records of a partition in a minute beyond which it waits.
    """

    start: Start
    idle_after_s: float
    hold_s: float
    buffer_bytes: int
    dead_letters_per_minute: int


class StreamInput:
    """A source that is read into a session. It lives as long as the session and closes the source.

    Attributes:
        is_reachable: Whether the stream answered when it was last asked.
    """

    def __init__(
        self,
        source: Source,
        session: Session,
        spec: InputSpec,
        readiness: Readiness,
        counters: Counters,
        clock: Clock,
        attempts: AttemptLog,
    ) -> None:
        self._source, self._session, self._spec = source, session, spec
        self._readiness, self._clock = readiness, clock
        self._troubles = Troubles(
            session, readiness, counters, per_minute=spec.dead_letters_per_minute, hold_s=spec.hold_s
        )
        self._holds = Holds(spec.idle_after_s, spec.hold_s)
        self._backpressure = Backpressure(spec.buffer_bytes)
        self._ends: dict[Partition, int] = {}
        self._paused = PausedPartitions(source)
        self._careful = CarefulReading(source, attempts)
        self._heard: set[Partition] = set()  # partitions of which accepted events were processed since the last look
        self._refreshed_at = self._heard_at = self._polled_at = clock.monotonic()
        self._polled_wall_s = clock.wall_ms() / 1000
        self._asked_at = _NEVER
        self.is_reachable = True

    def begin(self, partitions: frozenset[Partition]) -> None:
        """Read these partitions, each from where the last commit was. Raises `StreamError` or `StoreError`."""
        self._assign(partitions, self._spec.start)
        self._ask_ends()
        positions = {p: self._session.positions[p] for p in partitions}
        self._careful.begin(positions, was_killed=self._session.was_killed)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Tell the stream what is committed, for its dashboards."""
        self._source.commit(positions)

    def lags(self) -> dict[tuple[str, int], PartitionLag]:
        """Return how far reading is behind, by topic and partition number."""
        in_hand, processed = self._session.in_hand(), self._session.positions
        lags = {}
        for p, read_to in self._source.positions().items():
            # Of a partition of which nothing is in hand the source may be beyond offsets without a record.
            at = processed[p] if p in in_hand else read_to
            lag = float(max(self._ends[p] - at, 0)) if p in self._ends else None
            parked = p in self._troubles.parked or p in self._troubles.faulty
            lags[p.topic, p.number] = PartitionLag(lag, parked, p in self._troubles.left_out)
        return lags

    # -- reading -----------------------------------------------------------------------------------------

    def poll(self) -> Batch | None:
        """Return the next records, none after `POLL_S` without any, or None where nothing could be read now.

        Raises:
            StreamError: Waiting will not help.
            ConfigError: A topic was deleted and made anew.
        """
        now = self._clock.monotonic()
        self._skip_gaps()
        self._pause_or_resume()
        try:
            batch = self._read()
        except OffsetGone as error:
            self._troubles.note_gap(error)
            return None
        except PartitionFault as error:
            self._troubles.stop_faulty(error)
            return None
        except StreamError as error:
            if not error.retryable:
                raise
            self._set_unreachable(error)
            return None
        except StoreError as error:  # nothing was read; the commit waits for the database
            if not error.retryable:
                raise
            return None
        if len(batch):
            self._heard_at = now
            self._set_reachable()
            self._backpressure.note(batch)
        return batch

    def _read(self) -> Batch:
        """Poll all that need not wait, or one partition that is read alone."""
        most = self._backpressure.most_records(len(self._source.positions()))
        if not self._careful.suspects:
            return self._source.poll(most, POLL_S)
        stopped = self._backpressure.full | self._troubles.waiting
        partition = self._careful.next(self._source.positions().keys() - stopped)
        if partition is None:
            return self._source.poll(most, POLL_S)
        self._paused.set(self._source.positions().keys() - {partition})
        return self._careful.read(partition)

    def judge(self, batch: Batch) -> Holding:
        """Return which partitions are waited for and which are idle, as of a batch that was just read."""
        now = self._clock.monotonic()
        wall_s = self._clock.wall_ms() / 1000
        # Frozen, suspended or without a database: what came meanwhile was not seen. A suspended machine's monotonic
        # clock stands still.
        if max(now - self._polled_at, wall_s - self._polled_wall_s) > _STALLED_S:
            self._holds.reset()
            self._heard_at = self._asked_at = _NEVER  # asked for at once
        self._polled_at, self._polled_wall_s = now, wall_s
        self._hear_ends()
        here = {batch.partitions[i] for i in set(batch.source.tolist())}
        blocked = self._source.blocked()
        transactions = {p for p, why in blocked.items() if why is Blocked.OPEN_TRANSACTION}
        troubles = self._troubles
        cannot = troubles.faulty | troubles.parked
        more = {
            p: p in cannot or (p not in transactions and p not in troubles.gaps and not self._is_at_end(p, at))
            for p, at in self._source.positions().items()
        }
        moving = (here - troubles.was_parked) | (self._backpressure.full - cannot)
        # Of what was refused nothing tells the time: a partition that brings nothing else is idle.
        heard, self._heard = self._heard | self._session.in_hand().keys(), set()
        found = self._holds.judge(more, blocked.keys() & more.keys(), moving, heard, now)
        if not self.is_reachable:  # nobody is idle or left out while the stream is away
            self._holds.reset()
            return Holding(waiting=found.waiting, held=troubles.parked)
        troubles.leave_out(found.left_out, blocked)
        return Holding(found.idle, found.waiting, troubles.parked)

    def note_processed(self, effects: Effects) -> None:
        """Take note of what followed from records: of which partitions there were events, and what was refused."""
        self._heard |= effects.heard
        self._troubles.limit_refusals(effects.dead_letters, self._clock.monotonic())

    def _is_at_end(self, partition: Partition, position: int) -> bool:
        end = self._ends.get(partition)
        return end is not None and position >= end

    def _pause_or_resume(self) -> None:
        """Pause what waits or has enough in hand, and resume what need not wait any more."""
        positions = self._source.positions()
        behind = positions if self._session.pipeline.is_behind else ()
        full = self._backpressure.update(self._session.in_hand(), len(positions), behind)
        if self._careful.suspects:
            self._careful.acquit(self._session.positions, {p for p, at in positions.items() if self._is_at_end(p, at)})
        self._paused.set(full | self._troubles.waiting | self._careful.suspects.keys())

    def _hear_ends(self) -> None:
        # What came with records may be older than what was asked for: an end does not go back by it.
        for partition, end in self._source.ends().items():
            self._ends[partition] = max(end, self._ends.get(partition, 0))
        for partition, position in self._source.positions().items():
            if position > self._ends.get(partition, position):
                del self._ends[partition]  # it has grown since, and nobody knows by how much

    # -- asking ------------------------------------------------------------------------------------------

    def housekeeping(self) -> None:
        """Ask for what polling does not tell: ends of quiet partitions, new partitions, recreated topics.

        Raises:
            StreamError: Waiting will not help.
            ConfigError: A topic was deleted and made anew.
        """
        now = self._clock.monotonic()
        if now - self._heard_at > _ASK_S and now - self._asked_at > _ASK_S:
            self._asked_at = now
            self._ask_ends()
        if now - self._refreshed_at > _REFRESH_S and self.is_reachable:
            self._refreshed_at = now
            self._refresh()

    def _ask_ends(self) -> None:
        leaderless = {p for p, why in self._source.blocked().items() if why is Blocked.LEADERLESS}
        bounds = self._ask(lambda: self._source.bounds([p for p in self._source.positions() if p not in leaderless]))
        if bounds is not None:
            self._ends |= {partition: end for partition, (_, end) in bounds.items()}
            self._set_reachable()

    def _refresh(self) -> None:
        """Look for new partitions, which are read from their beginning, and for topics that were made anew."""
        found = self._ask(lambda: (self._source.partitions(), self._source.identities()))
        if found is None:
            return
        partitions, identities = found
        self._session.identify(identities)
        new = partitions - self._session.positions.keys()
        if new:
            log.info("worker.new_partitions", partitions=[str(p) for p in sorted(new)])
            self._ask(lambda: self._assign(partitions, Start.EARLIEST))

    def _assign(self, partitions: frozenset[Partition], start: Start) -> None:
        starts = {p: self._session.positions.get(p, 0) for p in partitions}
        new = [p for p in partitions if p not in self._session.positions]
        if new:
            for partition, (first, end) in self._source.bounds(new).items():
                starts[partition] = first if start is Start.EARLIEST else end
        self._source.assign(self._session.assign(starts))
        self._troubles.forget_found()
        self._paused.reset()
        self._pause_or_resume()

    def _ask(self, question: Callable[[], _Answer]) -> _Answer | None:
        """Return what the stream answers, or None where it is away."""
        try:
            return question()
        except StreamError as error:
            if not error.retryable:
                raise
            self._set_unreachable(error)
            return None

    def _set_reachable(self) -> None:
        if not self.is_reachable:
            log.info("worker.stream_is_back")
        self.is_reachable = True
        self._readiness.clear("stream")

    def _set_unreachable(self, error: StreamError) -> None:
        if self.is_reachable:
            log.warning("worker.stream_is_away", error=str(error))
        self.is_reachable = False
        self._readiness.set_unready("stream", why(error))

    # -- gaps --------------------------------------------------------------------------------------------

    def _skip_gaps(self) -> None:
        """Skip the gaps before which everything is processed: positions must not pass records in hand."""
        gaps = self._troubles.gaps
        in_hand = self._session.in_hand() if gaps else {}
        for partition in [p for p in gaps if p not in in_hand]:
            self._refresh()  # of a topic that was made anew nothing was read at all
            error = gaps.pop(partition, None)  # none where new partitions were found, and reading began anew
            if error is not None:
                self._ends.pop(partition, None)
                self._source.seek(partition, self._troubles.skip_gap(error))
