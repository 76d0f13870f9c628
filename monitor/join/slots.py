"""Where waiting events lie: columns of slots with a free list.

Slots that are given up stay readable until `release`, which happens only after the commit that says so:
what is in memory may run ahead of the database, but may not overwrite what a commit still has to write.
Pure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.join.index import I64
from monitor.join.rows import PAYLOAD

# States, as bits. MET: an outcome that waits for the served answer and has met other answers already.
# BESIDE: an answer that was not served, under a key of its own.
ANSWER, OUTCOME, MATCHED, UNSERVED = 1, 2, 4, 8
FREE = 128

SAVED: dict[str, type[np.generic]] = {
    "lo": np.uint64,  # the key: of the request, or of an answer that was not served
    "hi": np.uint64,
    "state": np.uint8,
    "lanes": np.uint64,  # bit v % 64: variant v gave an answer that was not served
    "pane": np.uint32,  # the outcome pane of the answer
    **PAYLOAD,
}
_LOCAL: dict[str, type[np.generic]] = {"segment_id": np.int64, "row": np.int32}


class Slots:
    """`column[name][slot]`; new slots have state 0, no lanes and no segment."""

    def __init__(self, room: int = 1 << 10) -> None:
        self.column: dict[str, NDArray[Any]] = {n: np.zeros(room, t) for n, t in (SAVED | _LOCAL).items()}
        self.column["state"][:] = FREE
        self._free = np.arange(room - 1, -1, -1, dtype=np.int64)
        self._free_count = room
        self._retired: list[I64] = []

    @property
    def used(self) -> int:
        """Slots that hold something, those given up but not released included."""
        return len(self._free) - self._free_count

    @property
    def nbytes(self) -> int:
        """Memory of all columns."""
        return sum(c.nbytes for c in self.column.values()) + self._free.nbytes

    def take(self, count: int) -> I64:
        """Slots for `count` new entries."""
        while count > self._free_count:
            self._double()
        self._free_count -= count
        taken = self._free[self._free_count : self._free_count + count].copy()
        self.column["state"][taken] = 0
        self.column["lanes"][taken] = 0
        self.column["pane"][taken] = 0
        self.column["segment_id"][taken] = -1
        return taken

    def retire(self, slots: I64) -> None:
        """What lies there is over; the slots can be used again after `release`."""
        self.column["state"][slots] = FREE
        self._retired.append(slots)

    def retired(self) -> I64:
        """Slots that wait for `release`."""
        return np.concatenate(self._retired) if self._retired else np.zeros(0, np.int64)

    def release(self, slots: I64) -> None:
        """These may be used again. They must be what `retired` told."""
        self._free[self._free_count : self._free_count + len(slots)] = slots
        self._free_count += len(slots)
        left = self.retired()[len(slots) :]
        self._retired = [left] if len(left) else []

    def _double(self) -> None:
        room = len(self._free)
        for name, column in self.column.items():
            fresh = np.zeros(2 * room, column.dtype)
            fresh[:room] = column
            self.column[name] = fresh
        self.column["state"][room:] = FREE
        free = np.zeros(2 * room, np.int64)
        free[: self._free_count] = self._free[: self._free_count]
        free[self._free_count : self._free_count + room] = np.arange(2 * room - 1, room - 1, -1)
        self._free, self._free_count = free, self._free_count + room
