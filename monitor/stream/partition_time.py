"""Partition time: how far the event times of one partition have come, as a function of its log alone.

An accepted event at most the allowed lateness ahead moves partition time at once. One further ahead moves it only
together with others: when most of the last nine accepted events are that far ahead as well, and then to the median of
the nine, and on to those that follow it in steps of at most the lateness. So a few events with a wrong clock make
nothing late, and a gap in the data is followed after five events.
Before nine events were seen, partition time is the smallest of their times. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from detectors.types import IntArray

UNKNOWN: Final = -1  # before the first accepted event
RECENT: Final = 9  # accepted events that decide whether one far ahead is believed
_PIECE: Final = 2_048  # events that are looked at together while none is far ahead
_SINGLY: Final = 16  # events that are looked at one by one after one was far ahead; more while that goes on


class PartitionTime:
    """Partition time of one partition.

    Attributes:
        time: In ms since the epoch; `UNKNOWN` before the first event.
        recent: Times of the last accepted events in the order of the log, at most `RECENT`.
    """

    def __init__(self, allowed_lateness: int, time: int = UNKNOWN, recent: Sequence[int] = ()) -> None:
        self._allowed_lateness = allowed_lateness
        self.time = time
        self.recent = list(recent)

    def copy(self) -> PartitionTime:
        """Return an independent copy."""
        return PartitionTime(self._allowed_lateness, self.time, self.recent)

    def advance(self, times: IntArray) -> IntArray:
        """Take in accepted events.

        Args:
            times: Event times in ms, in the order of the log; int64 of shape (n,).

        Returns:
            Partition time after each event, int64 of shape (n,).
        """
        after = np.empty(len(times), np.int64)
        start, singly = 0, _SINGLY
        while start < len(times):
            if len(self.recent) == RECENT:
                start += self._advance_together(times[start : start + _PIECE], after[start:])
                singly = 2 * singly if singly else _SINGLY
            piece = times[start : start + singly]
            if len(piece) and (len(self.recent) < RECENT or piece[0] > self.time + self._allowed_lateness):
                for i, time in enumerate(piece.tolist(), start):
                    after[i] = self._advance_singly(time)
                start += len(piece)
            else:
                singly = 0
        return after

    def settle(self, time: int, times: IntArray) -> None:
        """Follow another one over events that it has taken in: partition time is `time` after events at `times`."""
        self.time = time
        self.recent = [*self.recent, *times[-RECENT:].tolist()][-RECENT:]

    def places(self, times: IntArray) -> tuple[IntArray, IntArray]:
        """Take in accepted events, and find their places in the order in which partitions are merged.

        A place is a lower bound of the event times that may still count at their full age. It is partition time after
        the event, but for the first events of a partition, of which none is late: these are ordered by the smallest
        event time among them that is still to come.

        Args:
            times: As for `advance`.

        Returns:
            Partition time after each event, and its place: never decreasing.
        """
        first = min(max(RECENT - 1 - len(self.recent), 0), len(times))
        after = self.advance(times)
        places = after.copy()
        if first:
            ahead = np.append(times[:first], after[first : first + 1])
            places[:first] = np.minimum.accumulate(ahead[::-1])[::-1][:first]
        return after, places

    def _advance_together(self, times: IntArray, after: IntArray) -> int:
        """Advance up to the first event that is far ahead. Returns how many events that are."""
        highest = np.maximum.accumulate(np.maximum(times, self.time))
        before = np.concatenate([[self.time], highest[:-1]])
        ahead = times > before + self._allowed_lateness
        stop = int(ahead.argmax()) if ahead.any() else len(times)
        after[:stop] = highest[:stop]
        if stop:
            self.settle(int(highest[stop - 1]), times[:stop])
        return stop

    def _advance_singly(self, time: int) -> int:
        self.recent = [*self.recent[-RECENT + 1 :], time]
        if len(self.recent) < RECENT:
            self.time = min(self.recent)
        elif time <= self.time + self._allowed_lateness:
            self.time = max(self.time, time)
        else:
            self._follow(sorted(self.recent))
        return self.time

    def _follow(self, recent: Sequence[int]) -> None:
        """Move to the median of sorted recent times if it is far ahead, since then most are, and on in small steps."""
        middle = RECENT // 2
        if recent[middle] > self.time + self._allowed_lateness:
            self.time = recent[middle]
            for time in recent[middle + 1 :]:
                self.time = time if time <= self.time + self._allowed_lateness else self.time
