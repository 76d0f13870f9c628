"""Hold waiting events in columns of slots with a free list.

Slots that are retired stay readable until `release`, which happens only after the commit that records it:
memory may run ahead of the database, but may not overwrite what a commit still has to write. Pure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.join.arrays import SlotIndices
from monitor.join.rows import PAYLOAD

# States, as bits. MATCHED: an outcome that waits for the served answer and was paired with others already.
# UNSERVED: an answer that was not served, under a key of its own. RAN_OUT: an outcome that has been counted as late: it
# came too late for an answer, and in time for none. DONE: an outcome whose served answer has ended; it is kept for
# answers that were not served.
ANSWER, OUTCOME, MATCHED, UNSERVED, RAN_OUT, DONE = 1, 2, 4, 8, 16, 32
FREE = 128

# In the order of the columns of a stored segment, which have no names there.
SAVED: dict[str, type[np.generic]] = {
    "lo": np.uint64,  # the key: of the request, or of an answer that was not served
    "hi": np.uint64,
    "state": np.uint8,
    "shadow_mask": np.uint64,  # bit v % 64: variant v gave an answer that was not served
    "pane": np.uint32,  # the outcome pane of an answer; of an outcome its effective time less its event time, ms
    **PAYLOAD,
}
# The segment that has the entry's latest row, -1 for none yet, and the row in it.
_LOCAL: dict[str, type[np.generic]] = {"segment_id": np.int64, "row": np.int32}


class Slots:
    """Store entries as `column[name][slot]`; written by the modules of the join only."""

    def __init__(self, room: int = 1 << 10) -> None:
        self.column: dict[str, NDArray[Any]] = {n: np.zeros(room, t) for n, t in (SAVED | _LOCAL).items()}
        self.column["state"][:] = FREE
        self._free = np.arange(room - 1, -1, -1, dtype=np.int64)
        self._free_count = room
        self._retired: list[SlotIndices] = []

    @property
    def used(self) -> int:
        """Count the slots that hold something, those retired but not released included."""
        return len(self._free) - self._free_count

    @property
    def nbytes(self) -> int:
        """Tell the memory of all columns in bytes."""
        return sum(c.nbytes for c in self.column.values()) + self._free.nbytes

    def take(self, count: int) -> SlotIndices:
        """Take free slots; they have state 0, no shadows, pane 0 and no segment.

        Args:
            count: How many.

        Returns:
            The slots; other columns than those above are not cleared.
        """
        while count > self._free_count:
            self._double()
        self._free_count -= count
        taken = self._free[self._free_count : self._free_count + count].copy()
        self.column["state"][taken] = 0
        self.column["shadow_mask"][taken] = 0
        self.column["pane"][taken] = 0
        self.column["segment_id"][taken] = -1
        return taken

    def retire(self, slots: SlotIndices) -> None:
        """Mark entries as ended; their slots can be used again after `release`."""
        self.column["state"][slots] = FREE
        self._retired.append(slots)

    def retired(self) -> SlotIndices:
        """List the slots that wait for `release`, in the order in which they were retired."""
        return np.concatenate(self._retired) if self._retired else np.zeros(0, np.int64)

    def release(self, slots: SlotIndices) -> None:
        """Make retired slots free for new entries.

        Args:
            slots: The first of what `retired` lists, in its order.
        """
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
