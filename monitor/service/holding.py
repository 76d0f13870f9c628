"""Which partitions are waited for, which are idle, and which are left out since they deliver nothing.

Pure: monotonic times come in, in seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from monitor.pipeline.merge import ENOUGH_BYTES, MOST
from monitor.stream.types import Batch, Partition

_SAMPLE: Final = 64  # records whose size tells that of the next ones; as many are asked for at least


class QuietTimer:
    """Tells for how long something has been so of partitions."""

    def __init__(self, limit_s: float) -> None:
        """Make one that calls after `limit_s` seconds."""
        self._limit_s = limit_s
        self._since: dict[Partition, float] = {}

    def over(self, quiet: Collection[Partition], now: float) -> set[Partition]:
        """Return the partitions that have been quiet for the limit.

        Args:
            quiet: Those that are quiet now; all others begin anew.
            now: Monotonic time in seconds.
        """
        self._since = {p: self._since.get(p, now) for p in quiet}
        return {p for p, since in self._since.items() if now - since >= self._limit_s}

    def reset(self) -> None:
        """Forget everything: nothing is known of the time that has passed."""
        self._since.clear()


@dataclass(frozen=True, slots=True)
class HoldState:
    """What is known of how partitions hold each other back.

    Attributes:
        idle: They hold nothing back: nothing new for the idle timeout, or left out.
        waiting: They are waited for: they have more to bring.
        left_out: They have more to bring, and did not deliver it for the time that others wait.
    """

    idle: set[Partition]
    waiting: set[Partition]
    left_out: set[Partition]


class Holds:
    """Decides how long partitions hold others back."""

    def __init__(self, idle_after_s: float, hold_s: float) -> None:
        """Take the idle timeout, and the time after which a partition that cannot deliver is left out."""
        self._idle, self._stuck = QuietTimer(idle_after_s), QuietTimer(hold_s)

    def judge(
        self,
        more: Mapping[Partition, bool],
        stuck: Collection[Partition],
        moving: Collection[Partition],
        heard: Collection[Partition],
        now: float,
    ) -> HoldState:
        """Judge all partitions.

        Args:
            more: Of each partition that is read whether it has more to bring, as far as is known.
            stuck: Those that hold more but cannot deliver it, such as behind an open transaction: they are not read,
                but stream time is not to pass them either.
            moving: Those that brought records just now, or are not asked to.
            heard: Those of which accepted events were processed just now, or records are in hand.
            now: Monotonic time in seconds.
        """
        pending = {p for p, has_more in more.items() if has_more} | set(stuck)
        left_out = self._stuck.over(pending - set(moving), now)
        quiet = more.keys() - pending - set(heard)
        return HoldState(
            self._idle.over(quiet, now) | left_out,
            {p for p, has_more in more.items() if has_more} - left_out,
            left_out,
        )

    def reset(self) -> None:
        """Forget everything: nothing is known of the time that has passed."""
        self._idle.reset()
        self._stuck.reset()


class Backpressure:
    """Decides of which partitions no more is read, since enough of them is in hand."""

    def __init__(self, most_bytes: int) -> None:
        """Keep what is in hand of all partitions below about `most_bytes`."""
        self._most_bytes = most_bytes
        self._record_bytes = 1.0  # of a record, lately
        self.full: set[Partition] = set()

    def note(self, batch: Batch) -> None:
        """Take note of the size of records that came; there are some."""
        some = batch.values[:_SAMPLE]
        self._record_bytes = max(sum(map(len, filter(None, some))) / len(some), 1.0)

    def most_records(self, partitions: int) -> int:
        """Return how many records to ask for: they may all be of one partition, which has an equal share."""
        share = self._most_bytes / max(partitions, 1)
        return int(min(max(share / self._record_bytes, _SAMPLE), MOST))

    def update(
        self, in_hand: Mapping[Partition, int], partitions: int, behind: Collection[Partition] = ()
    ) -> set[Partition]:
        """Return the partitions that are to wait.

        Args:
            in_hand: Bytes in hand by partition.
            partitions: How many partitions are read: each has an equal share, at least `ENOUGH_BYTES`.
            behind: Partitions that wait because of what is to be made up of what they brought.
        """
        # Less than the merge waits for at the beginning of a partition would stop both.
        share = max(self._most_bytes / max(partitions, 1), ENOUGH_BYTES)
        # Half of the share must be gone before more is read: a pause costs the source what it has fetched ahead.
        resumed_below = max(share / 2, ENOUGH_BYTES)
        self.full = {p for p, size in in_hand.items() if size >= (resumed_below if p in self.full else share)}
        self.full |= set(behind)
        return self.full
