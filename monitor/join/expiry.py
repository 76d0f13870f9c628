"""End entries that waited longer than their TTL.

A prediction waits for its outcome for `prediction_ttl`, an outcome for its prediction for `outcome_ttl`. Rows
judge the TTL of what they find by their own watermark (`end_expired`), so when memory is swept (`sweep`)
changes no verdict. Pure.
"""

from __future__ import annotations

import numpy as np

from monitor.join.arrays import CellIndices, Milliseconds, RowIndices, SlotIndices
from monitor.join.closed import tag_of
from monitor.join.entries import Entries
from monitor.join.results import JoinCounts
from monitor.join.rows import JoinRows
from monitor.join.slots import ANSWER, FREE, MATCHED, OUTCOME

_SWEEPS = 16  # calls of `sweep` that look at all slots once
_SWEEP_AT_LEAST = 1 << 16


class Expiry:
    """End what expired, and count it."""

    def __init__(self, entries: Entries, counts: JoinCounts) -> None:
        self._entries = entries
        self._counts = counts
        self._swept_to = 0

    def end_expired(self, rows: JoinRows, row: RowIndices, cell: CellIndices) -> None:
        """End the requests' own entries that expired before these rows came, whether or not they were swept.

        Args:
            rows: The batch.
            row: Rows of distinct requests.
            cell: Cell of each one's request.
        """
        value = self._entries.index.value[cell]
        held = np.flatnonzero(value >= 0)
        if not len(held):
            return
        column = self._entries.slots.column
        slot, at = value[held].astype(np.int64), row[held]
        age = rows.watermark[at] - column["time"][slot]
        state = column["state"][slot]
        answer = (state & ANSWER != 0) & (age >= rows.prediction_ttl[at])
        self.end_answers(slot[answer], cell[held[answer]])
        outcome = (state & OUTCOME != 0) & (age >= rows.outcome_ttl[at])
        self._end_outcomes(slot[outcome], cell[held[outcome]])
        mark = (state & (ANSWER | OUTCOME) == 0) & (age >= rows.prediction_ttl[at])
        self._end_marks(slot[mark], cell[held[mark]])

    def end_answers(self, slot: SlotIndices, cell: CellIndices) -> None:
        """End answers as expired."""
        if len(slot):
            self._counts.expired += len(slot)
            keys = self._entries.slots.column["lo"][slot]
            self._entries.close_answers_without_outcome(slot, cell, keys)

    def _end_outcomes(self, slot: SlotIndices, cell: CellIndices) -> None:
        """End outcomes that no served answer came for: orphans, unless they were paired with shadow answers."""
        if not len(slot):
            return
        entries, column = self._entries, self._entries.slots.column
        keys, matched = column["lo"][slot], column["state"][slot] & MATCHED != 0
        marked = ~matched & (column["shadow_mask"][slot] != 0)
        entries.closed.close(cell[matched], keys[matched], tag_of(column["value"][slot[matched]]))
        entries.closed.close_without_outcome(cell[marked], keys[marked])
        unknown = ~matched & ~marked
        entries.closed.empty(cell[unknown], keys[unknown])
        self._counts.orphans += int(np.count_nonzero(~matched))
        entries.slots.retire(slot)

    def _end_marks(self, slot: SlotIndices, cell: CellIndices) -> None:
        """End requests of which only shadow answers were seen, all of them too long ago."""
        self._entries.closed.close_without_outcome(cell, self._entries.slots.column["lo"][slot])
        self._entries.slots.retire(slot)

    def sweep(
        self, watermark: int, prediction_ttl: Milliseconds, outcome_ttl: Milliseconds, *, everything: bool
    ) -> None:
        """End what expired in the next sixteenth of memory; see `JoinTable.expire`."""
        column = self._entries.slots.column
        size = len(column["state"])
        start, length = (0, size) if everything else (self._swept_to, max(size // _SWEEPS, _SWEEP_AT_LEAST))
        self._swept_to = start + length if start + length < size else 0
        held = start + np.flatnonzero(column["state"][start : start + length] != FREE)
        state, variant = column["state"][held], column["variant"][held]
        age = watermark - column["time"][held]
        is_outcome = state & OUTCOME != 0
        over = np.flatnonzero(age >= np.where(is_outcome, outcome_ttl[variant], prediction_ttl[variant]))
        if not len(over):
            return
        slot, state = held[over], state[over]
        cell = self._entries.index.find(column["lo"][slot])
        answer, outcome = state & ANSWER != 0, state & OUTCOME != 0
        self.end_answers(slot[answer], cell[answer])
        self._end_outcomes(slot[outcome], cell[outcome])
        mark = ~answer & ~outcome
        self._end_marks(slot[mark], cell[mark])

    def end_waiting_outcomes(self) -> None:
        """End all outcomes that wait."""
        slot = self._entries.held(OUTCOME)
        self._end_outcomes(slot, self._entries.index.find(self._entries.slots.column["lo"][slot]))
