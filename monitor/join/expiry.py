"""End entries that nothing can come for any more.

An outcome still to come is no older than stream time, and a prediction by less than a pane: once stream time has
passed the TTL of an answer, or that of an outcome and a pane, whatever comes would be judged to have missed it by its
own time. So what is forgotten decides no pair. Rows end what they find by their own stream time (`end_expired`), so
when memory is swept (`sweep`) changes no verdict either. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.join.arrays import CellIndices, ClosedTags, Mask, Milliseconds, RowIndices, SlotIndices, Values
from monitor.join.closed import late_tag, tag_of
from monitor.join.ended import Ending
from monitor.join.entries import Entries
from monitor.join.results import JoinCounts, MetOutcomes
from monitor.join.rows import JoinRows
from monitor.join.slots import ANSWER, FREE, MATCHED, OUTCOME, RAN_OUT

_SWEEPS = 16  # calls of `sweep` that look at all slots once
_SWEEP_AT_LEAST = 1 << 16


class Expiry:
    """End what expired, and count it."""

    def __init__(self, entries: Entries, counts: JoinCounts) -> None:
        self._entries = entries
        self._counts = counts
        self._swept_to = 0

    def end_expired(self, rows: JoinRows, row: RowIndices, cell: CellIndices) -> None:
        """End the requests' own entries that were over before these rows came, whether or not they were swept.

        Args:
            rows: The batch.
            row: Rows of distinct requests.
            cell: Cell of each one's request.
        """
        value = self._entries.index.value[cell]
        held = np.flatnonzero(value >= 0)
        if not len(held):
            return
        slot, at = value[held].astype(np.int64), row[held]
        ttls = rows.prediction_ttl[at], rows.outcome_ttl[at], rows.pane_width[at]
        over = self._ends_at(slot, *ttls) <= rows.watermark[at]
        if over.any():
            self._end(slot[over], cell[held[over]], rows.watermark[at[over]], *(ttl[over] for ttl in ttls))

    def _ends_at(
        self, slot: SlotIndices, prediction_ttl: Milliseconds, outcome_ttl: Milliseconds, pane_width: Milliseconds
    ) -> Milliseconds:
        """Return the stream time that leaves entries behind, ms."""
        column = self._entries.slots.column
        state = column["state"][slot]
        is_outcome = state & OUTCOME != 0
        since = column["time"][slot] + np.where(is_outcome, column["pane"][slot], 0)
        limit = np.where(is_outcome, outcome_ttl, prediction_ttl) + np.where(state & ANSWER != 0, 0, pane_width)
        result: Milliseconds = since + limit
        return result

    def _end(self, slot: SlotIndices, cell: CellIndices, watermark: int | Milliseconds, *ttls: Milliseconds) -> None:
        """End entries of any kind that stream time has left behind, with the TTLs that `_ends_at` takes."""
        column = self._entries.slots.column
        state, ends_at = column["state"][slot], self._ends_at(slot, *ttls)
        answer, outcome = state & ANSWER != 0, state & OUTCOME != 0
        self.end_answers(slot[answer], cell[answer])
        mark = ~answer & ~outcome
        mark[outcome] = self._end_outcomes(slot[outcome], cell[outcome], ends_at[outcome])
        # Of an outcome a mark may be left, and stream time may have left that behind as well.
        mark &= self._ends_at(slot, *ttls) <= watermark
        self._end_marks(slot[mark], cell[mark])

    def end_answers(self, slot: SlotIndices, cell: CellIndices) -> None:
        """End answers as expired."""
        if len(slot):
            self._counts.expired += len(slot)
            column = self._entries.slots.column
            keys = column["lo"][slot]
            self._entries.ended.add_expired(slot, column["time"][slot])
            self._entries.close_answers_without_outcome(slot, cell, keys)

    def _end_outcomes(self, slot: SlotIndices, cell: CellIndices, ends_at: Milliseconds) -> Mask:
        """End outcomes for which no answer can come: orphans, unless they have met one.

        Where answers that were not served are known, the mark stays that there are: the one that is served may still
        come. When they were given is not known any more: it lasts as if they had been when the outcome ends.

        Returns:
            Of which a mark is left.
        """
        if not len(slot):
            return np.zeros(0, np.bool_)
        entries, column = self._entries, self._entries.slots.column
        keys, state = column["lo"][slot], column["state"][slot]
        met = state & (MATCHED | RAN_OUT) != 0
        marked: Mask = ~met & (column["shadow_mask"][slot] != 0)
        entries.closed.close(cell[met], keys[met], outcome_tags(column["value"][slot[met]], state[met]))
        unknown = ~met & ~marked
        entries.closed.empty(cell[unknown], keys[unknown])
        self._counts.orphans += int(np.count_nonzero(~met))
        lost = slot[~met]
        outcomes = MetOutcomes(column["value"][lost], column["time"][lost], column["time"][lost])
        entries.ended.add_outcomes(column["lo"][lost], column["variant"][lost], outcomes, Ending.ORPHANED)
        entries.slots.retire(slot[~marked])
        left, variant = slot[marked], column["variant"][slot[marked]]
        entries.clear_payload(left)
        column["state"][left], column["time"][left], column["variant"][left] = 0, ends_at[marked], variant
        entries.mark_changed(left)
        return marked

    def _end_marks(self, slot: SlotIndices, cell: CellIndices) -> None:
        """End requests of which only shadow answers were seen, all of them too long ago."""
        self._entries.closed.close_without_outcome(cell, self._entries.slots.column["lo"][slot])
        self._entries.slots.retire(slot)

    def sweep(
        self,
        watermark: int,
        prediction_ttl: Milliseconds,
        outcome_ttl: Milliseconds,
        pane_width: Milliseconds,
        *,
        everything: bool,
    ) -> None:
        """End what is over in the next sixteenth of memory; see `JoinTable.expire`."""
        column = self._entries.slots.column
        size = len(column["state"])
        start, length = (0, size) if everything else (self._swept_to, max(size // _SWEEPS, _SWEEP_AT_LEAST))
        self._swept_to = start + length if start + length < size else 0
        held = start + np.flatnonzero(column["state"][start : start + length] != FREE)
        variant = column["variant"][held]
        ttls = prediction_ttl[variant], outcome_ttl[variant], pane_width[variant]
        over = self._ends_at(held, *ttls) <= watermark
        slot = held[over]
        if len(slot):
            cell = self._entries.index.find(column["lo"][slot])
            self._end(slot, cell, watermark, *(ttl[over] for ttl in ttls))

    def end_waiting_outcomes(self) -> None:
        """End all outcomes that wait."""
        slot, column = self._entries.held(OUTCOME), self._entries.slots.column
        self._end_outcomes(slot, self._entries.index.find(column["lo"][slot]), column["time"][slot])


def outcome_tags(values: Values, state: NDArray[np.uint8]) -> ClosedTags:
    """Make the tags of keys whose outcome has met an answer, in time or not."""
    tags = tag_of(values)
    return np.where(state & MATCHED != 0, tags, late_tag(tags))
