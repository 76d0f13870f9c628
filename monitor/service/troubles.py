"""Partitions that cannot be read on as they are: too many refused records, unreadable bytes, gaps; and those left out.

Shell: what is told of them goes to the session, the log and the readiness. The source is somebody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog

from monitor.errors import OffsetGone, PartitionFault
from monitor.pipeline.effects import DeadLetter
from monitor.service.readiness import Readiness
from monitor.service.session import Session
from monitor.service.snapshot import Counters
from monitor.stream.types import Blocked, Partition

log = structlog.get_logger(__name__)

_MINUTE_S: Final = 60.0
_NEVER: Final = float("-inf")


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
        self.was_parked, self.parked = self.parked, set()
        return self.was_parked

    def count(self, letter: DeadLetter) -> int | None:
        """Count a refused record. Returns how many there were where this one has its partition parked, else None."""
        count = self._refused[letter.partition] = self._refused.get(letter.partition, 0) + 1
        if count <= self._per_minute or letter.partition in self.parked:
            return None
        self.parked.add(letter.partition)
        return count


class Troubles:
    """Keeps the partitions that are not read on, and tells of them.

    Attributes:
        faulty: Their bytes cannot be read.
        gaps: Records behind those in hand are gone; to be skipped once these are processed.
        left_out: The others go on without them.
    """

    def __init__(
        self, session: Session, readiness: Readiness, counters: Counters, *, per_minute: int, hold_s: float
    ) -> None:
        """Begin without any.

        Args:
            session: What is told goes there.
            readiness: A partition that is parked is a reason not to be ready.
            counters: Counts of the process.
            per_minute: Refused records of a partition in a minute beyond which it is parked.
            hold_s: How long the others wait for a partition that cannot deliver.
        """
        self._session, self._readiness, self._counters, self._hold_s = session, readiness, counters, hold_s
        self._limit = RefusalLimit(per_minute)
        self.faulty: set[Partition] = set()
        self.gaps: dict[Partition, OffsetGone] = {}
        self.left_out: set[Partition] = set()

    @property
    def parked(self) -> set[Partition]:
        """Partitions of which too many records were refused in this minute."""
        return self._limit.parked

    @property
    def was_parked(self) -> set[Partition]:
        """Partitions that were parked in the minute before."""
        return self._limit.was_parked

    @property
    def waiting(self) -> set[Partition]:
        """Partitions that are not read now."""
        return self.parked | self.faulty | self.gaps.keys()

    def forget_found(self) -> None:
        """Forget gaps and faults: reading begins anew where processing stands, and finds them again."""
        self.gaps.clear()
        self.faulty.clear()
        self._readiness.clear("fault")

    # -- refused records ---------------------------------------------------------------------------------

    def limit_refusals(self, dead_letters: Sequence[DeadLetter], now: float) -> None:
        """Park a partition full of refused records until the next minute, rather than fill the dead-letter topic."""
        freed = self._limit.begin_minute(now)
        if freed:
            self._unpark(freed)
        for letter in dead_letters:
            refused = self._limit.count(letter)
            if refused is not None:
                self._park(letter, refused)

    def _park(self, letter: DeadLetter, refused: int) -> None:
        name, reason = str(letter.partition), letter.reason.value
        log.error("worker.partition_parked", partition=name, refused=refused, last_reason=reason)
        summary = f"{name} waits: {refused} records refused in a minute, the last one {reason}"
        self._session.fire(f"refused {name}", summary)
        self._readiness.set_unready("refused", summary)

    def _unpark(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            name = str(partition)
            self._session.resolve(f"refused {name}", f"{name} is read again")
        self._readiness.clear("refused")

    # -- gaps and faults ---------------------------------------------------------------------------------

    def note_gap(self, error: OffsetGone) -> None:
        """Note that records are gone before they were read."""
        self.gaps[Partition(error.topic, error.partition)] = error

    def skip_gap(self, error: OffsetGone) -> int:
        """Go on behind records that are gone, and tell of it. Returns the offset at which reading goes on."""
        partition = Partition(error.topic, error.partition)
        start, target = error.position, error.earliest if error.position < error.earliest else error.latest
        log.error("worker.gap", topic=error.topic, partition=error.partition, position=start, resumed_at=target)
        self._counters.gap_records += max(target - start, 0)
        self._session.skip(partition, start, target)
        name = str(partition)
        lost = f"offsets {start} to {target} were lost"
        if target <= start:
            lost = f"offset {start} is not there any more, reading goes on at {target}"
        self._session.fire(f"gap {name}", f"{name}: {lost}")
        self._session.resolve(f"gap {name}", f"{name} is read from offset {target} on")
        return target

    def stop_faulty(self, error: PartitionFault) -> None:
        """Read a partition no further whose bytes cannot be read; the others go on."""
        partition = Partition(error.topic, error.partition)
        self.faulty.add(partition)
        log.error(
            "worker.partition_fault",
            topic=error.topic,
            partition=error.partition,
            offset=error.offset,
            why=error.detail,
            behind=error.behind,
        )
        place = f"{error.topic}:{error.partition}:{'OFFSET' if error.behind is None else error.behind}"
        summary = f"{error}: the partition waits, `driftd topics --skip {place}` goes past it"
        self._session.fire(f"fault {partition}", summary)
        self._readiness.set_unready("fault", summary)

    # -- left out ----------------------------------------------------------------------------------------

    def leave_out(self, left_out: Collection[Partition], blocked: Mapping[Partition, Blocked]) -> None:
        """Tell of partitions that the others go on without from now on, and of those that deliver again.

        Args:
            left_out: All of them.
            blocked: Partitions that the source says cannot deliver, and why.
        """
        for partition in sorted(set(left_out) - self.left_out):
            name, why = str(partition), self._why_stuck(partition, blocked)
            log.warning("worker.partition_left_out", partition=name, why=why)
            summary = f"{name} has delivered nothing for {self._hold_s:.0f} s, {why}: the others go on without it"
            self._session.fire(f"left out {name}", summary)
        for partition in sorted(self.left_out - set(left_out)):
            name = str(partition)
            log.info("worker.partition_is_back", partition=name)
            self._session.resolve(f"left out {name}", f"{name} delivers again, or holds no more")
        self.left_out = set(left_out)

    def _why_stuck(self, partition: Partition, blocked: Mapping[Partition, Blocked]) -> str:
        if partition in self.parked or partition in self.was_parked:
            return "too many of its records are refused"
        if partition in self.faulty:
            return "its bytes cannot be read"
        return blocked[partition].value if partition in blocked else "although it holds more"
