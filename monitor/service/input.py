"""The input side of the poll loop: what is read, what is skipped, what waits, and which partitions are idle.

Shell. Faults of one partition stop that partition, not the others: a gap is skipped and told, unreadable bytes and
too many refused records make the partition wait. An outage of the stream is a state, not an error: polling goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from monitor.clock import Clock
from monitor.errors import OffsetGone, PartitionFault, StreamError
from monitor.pipeline.effects import DeadLetter, Effects
from monitor.service.holding import Backpressure, Holding, Holds
from monitor.service.readiness import Readiness
from monitor.service.session import Session
from monitor.service.snapshot import Counters
from monitor.stream.types import Batch, Blocked, Partition, Source, Start
from monitor.web.metrics import PartitionLag

log = structlog.get_logger(__name__)

POLL_S: Final = 0.1  # how long a poll waits for records
_REFRESH_S: Final = 3.0  # less than a usual lateness: new partitions, recreated topics
_STALLED_S: Final = 2.0  # a loop that stood still for so long knows nothing of the ends of partitions
_ASK_S: Final = 2.0  # how often ends of partitions are asked for where records do not tell them
_MINUTE_S: Final = 60.0
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


class RefusalLimit:
    """Partitions with more refused records in a minute than the dead-letter topic should get."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._began = _NEVER
        self._refused: dict[Partition, int] = {}
        self.parked: set[Partition] = set()
        self.was_parked: set[Partition] = set()  # in the minute before

    def begin_minute(self, now: float) -> set[Partition]:
        """Begin to count anew where a minute is over. Returns the partitions that are parked no longer."""
        if now - self._began < _MINUTE_S:
            return set()
        self._began = now
        self._refused.clear()
        freed, self.parked = self.parked, set()
        self.was_parked = freed
        return freed

    def count(self, letter: DeadLetter) -> int | None:
        """Count a refused record. Returns how many there were where this one has its partition parked, else None."""
        count = self._refused[letter.partition] = self._refused.get(letter.partition, 0) + 1
        if count <= self._per_minute or letter.partition in self.parked:
            return None
        self.parked.add(letter.partition)
        return count


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
    ) -> None:
        self._source, self._session, self._spec = source, session, spec
        self._readiness, self._counters, self._clock = readiness, counters, clock
        self._limit = RefusalLimit(spec.dead_letters_per_minute)
        self._holds = Holds(spec.idle_after_s, spec.hold_s)
        self._backpressure = Backpressure(spec.buffer_bytes)
        self._ends: dict[Partition, int] = {}
        self._faulty: set[Partition] = set()
        self._gaps: dict[Partition, OffsetGone] = {}  # found behind records that are not processed yet
        self._paused: set[Partition] = set()
        self._left_out: set[Partition] = set()
        self._heard: set[Partition] = set()  # partitions of which accepted events were processed since the last look
        self._refreshed_at = self._heard_at = self._polled_at = clock.monotonic()
        self._polled_wall_s = clock.wall_ms() / 1000
        self._asked_at = _NEVER
        self.is_reachable = True

    def begin(self, partitions: frozenset[Partition]) -> None:
        """Read these partitions, each from where the last commit was. Raises `StreamError`."""
        self._assign(partitions, self._spec.start)
        self._ask_ends()

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
            parked = p in self._limit.parked or p in self._faulty
            lags[p.topic, p.number] = PartitionLag(lag, parked, p in self._left_out)
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
            batch = self._source.poll(self._backpressure.most_records(len(self._source.positions())), POLL_S)
        except OffsetGone as error:
            self._gaps[Partition(error.topic, error.partition)] = error
            return None
        except PartitionFault as error:
            self._stop_faulty(error)
            return None
        except StreamError as error:
            if not error.retryable:
                raise
            self._set_unreachable(error)
            return None
        if len(batch):
            self._heard_at = now
            self._set_reachable()
            self._backpressure.note(batch)
        return batch

    @property
    def held(self) -> Collection[Partition]:
        """Partitions of which nothing is to be processed now."""
        return self._limit.parked

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
        cannot = self._faulty | self._limit.parked
        more = {
            p: p in cannot or (p not in transactions and p not in self._gaps and not self._is_at_end(p, at))
            for p, at in self._source.positions().items()
        }
        moving = (here - self._limit.was_parked) | (self._backpressure.full - cannot)
        # Of what was refused nothing tells the time: a partition that brings nothing else is idle.
        heard, self._heard = self._heard | self._session.in_hand().keys(), set()
        holding = self._holds.judge(more, blocked.keys() & more.keys(), moving, heard, now)
        if not self.is_reachable:  # nobody is idle or left out while the stream is away
            self._holds.reset()
            return Holding(waiting=holding.waiting)
        self._tell_left_out(holding.left_out, blocked)
        return holding

    def note_processed(self, effects: Effects) -> None:
        """Take note of what followed from records: of which partitions there were events, and what was refused."""
        self._heard |= effects.heard
        self.limit_refusals(effects.dead_letters)

    def _is_at_end(self, partition: Partition, position: int) -> bool:
        end = self._ends.get(partition)
        return end is not None and position >= end

    def _tell_left_out(self, left_out: Collection[Partition], blocked: Mapping[Partition, Blocked]) -> None:
        for partition in sorted(set(left_out) - self._left_out):
            name, why = partition_name(partition), self._why_stuck(partition, blocked)
            log.warning("worker.partition_left_out", partition=name, why=why)
            summary = f"{name} has delivered nothing for {self._spec.hold_s:.0f} s, {why}: the others go on without it"
            self._session.fire(f"left out {name}", summary)
        for partition in sorted(self._left_out - set(left_out)):
            name = partition_name(partition)
            log.info("worker.partition_is_back", partition=name)
            self._session.resolve(f"left out {name}", f"{name} delivers again, or holds no more")
        self._left_out = set(left_out)

    def _why_stuck(self, partition: Partition, blocked: Mapping[Partition, Blocked]) -> str:
        if partition in self._limit.parked:
            return "too many of its records are refused"
        if partition in self._faulty:
            return "its bytes cannot be read"
        return blocked[partition].value if partition in blocked else "although it holds more"

    def _pause_or_resume(self) -> None:
        """Pause what waits or has enough in hand, and resume what need not wait any more."""
        read = self._source.positions()
        full = self._backpressure.update(self._session.in_hand(), len(read))
        wanted = (full | self._limit.parked | self._faulty | self._gaps.keys()) & read.keys()
        if wanted - self._paused:
            self._source.pause(wanted - self._paused)
        if self._paused - wanted:
            self._source.resume((self._paused - wanted) & read.keys())
        self._paused = wanted

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
            log.info("worker.new_partitions", partitions=[partition_name(p) for p in sorted(new)])
            self._ask(lambda: self._assign(partitions, Start.EARLIEST))

    def _assign(self, partitions: frozenset[Partition], start: Start) -> None:
        starts = {p: self._session.positions.get(p, 0) for p in partitions}
        new = [p for p in partitions if p not in self._session.positions]
        if new:
            for partition, (first, end) in self._source.bounds(new).items():
                starts[partition] = first if start is Start.EARLIEST else end
        self._source.assign(self._session.assign(starts))
        self._gaps.clear()  # found again, as the faults are: reading begins anew where processing stands
        self._faulty.clear()
        self._paused = set()
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
        self._readiness.set_unready("stream", str(error))

    # -- faults of one partition -------------------------------------------------------------------------

    def limit_refusals(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Park a partition full of refused records until the next minute, rather than fill the dead-letter topic."""
        freed = self._limit.begin_minute(self._clock.monotonic())
        if freed:
            self._unpark(freed)
        for letter in dead_letters:
            refused = self._limit.count(letter)
            if refused is not None:
                self._park(letter, refused)

    def _park(self, letter: DeadLetter, refused: int) -> None:
        name, reason = partition_name(letter.partition), letter.reason.value
        log.error("worker.partition_parked", partition=name, refused=refused, last_reason=reason)
        summary = f"{name} waits: {refused} records refused in a minute, the last one {reason}"
        self._session.fire(f"refused {name}", summary)
        self._readiness.set_unready("refused", summary)

    def _unpark(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            name = partition_name(partition)
            self._session.resolve(f"refused {name}", f"{name} is read again")
        self._readiness.clear("refused")

    def _skip_gaps(self) -> None:
        """Skip the gaps before which everything is processed: positions must not pass records in hand."""
        in_hand = self._session.in_hand() if self._gaps else {}
        for partition in [p for p in self._gaps if p not in in_hand]:
            error = self._gaps.pop(
                partition, None
            )  # new partitions that were found at an earlier one have cleared them
            if error is not None:
                self._skip_gap(error)

    def _skip_gap(self, error: OffsetGone) -> None:
        """Go on behind records that are gone before they were read; an alert and the store tell of it."""
        self._refresh()  # of a topic that was made anew nothing was read at all
        partition = Partition(error.topic, error.partition)
        start, target = error.position, error.earliest if error.position < error.earliest else error.latest
        log.error("worker.gap", topic=error.topic, partition=error.partition, position=start, resumed_at=target)
        self._counters.gap_records += max(target - start, 0)
        self._session.skip(partition, start, target)
        self._ends.pop(partition, None)
        self._source.seek(partition, target)
        name = partition_name(partition)
        lost = f"offsets {start} to {target} were lost"
        if target <= start:
            lost = f"offset {start} is not there any more, reading goes on at {target}"
        self._session.fire(f"gap {name}", f"{name}: {lost}")
        self._session.resolve(f"gap {name}", f"{name} is read from offset {target} on")

    def _stop_faulty(self, error: PartitionFault) -> None:
        """Stop reading a partition whose bytes cannot be read; the others go on."""
        partition = Partition(error.topic, error.partition)
        self._faulty.add(partition)
        log.error("worker.partition_fault", topic=error.topic, partition=error.partition, offset=error.offset)
        summary = f"{error}: the partition waits, `driftd topics --skip` goes past it"
        self._session.fire(f"fault {partition_name(partition)}", summary)


def partition_name(partition: Partition) -> str:
    """Return a partition as logs and alerts show it."""
    return f"{partition.topic}[{partition.number}]"
