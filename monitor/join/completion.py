"""Judge by their own times what an answer and an outcome of one request are to each other, and end what is complete.

Whichever of the two is processed first, they are judged alike: by the event time of the answer and the effective time
of the outcome, never by stream time. Pure.
"""

from __future__ import annotations

import numpy as np

from monitor.join.arrays import CellIndices, Mask, Milliseconds, RowIndices, SlotIndices
from monitor.join.closed import late_tag, tag_of
from monitor.join.ended import Ending
from monitor.join.entries import Entries
from monitor.join.results import JoinCounts, MetOutcomes
from monitor.join.rows import JoinRows
from monitor.join.slots import DONE, MATCHED, OUTCOME, RAN_OUT


def is_late(rows: JoinRows, row: RowIndices, answer_time: Milliseconds, outcome_time: Milliseconds) -> Mask:
    """Tell which outcomes are too late for their answers.

    Args:
        rows: The batch.
        row: A row of each request.
        answer_time: Event time of each answer, ms.
        outcome_time: Effective time of each outcome, ms.
    """
    result: Mask = outcome_time - answer_time >= rows.prediction_ttl[row]
    return result


def is_early(rows: JoinRows, row: RowIndices, answer_time: Milliseconds, outcome_time: Milliseconds) -> Mask:
    """Tell which outcomes are too early for their answers; see `is_late`."""
    result: Mask = answer_time - outcome_time >= rows.outcome_ttl[row]
    return result


class Completion:
    """Count outcomes that were not paired, and end requests whose served answer and outcome have met."""

    def __init__(self, entries: Entries, counts: JoinCounts) -> None:
        self._entries = entries
        self.counts = counts

    def waiting_outcomes(self, slot: SlotIndices) -> MetOutcomes:
        """Read outcomes that wait in these slots."""
        column = self._entries.slots.column
        time = column["time"][slot]
        return MetOutcomes(column["value"][slot], time, time + column["pane"][slot])

    def count_late(self, slot: SlotIndices) -> None:
        """Count waiting outcomes as late for an answer, unless they were in time for another."""
        state = self._entries.slots.column["state"]
        new = slot[state[slot] & (MATCHED | RAN_OUT) == 0]
        state[new] |= RAN_OUT
        self.counts.late += len(new)
        self._entries.mark_changed(new)

    def count_expired(self, count: int) -> None:
        """Count answers that no outcome came for in time."""
        self.counts.expired += count

    def end_late(self, slot: SlotIndices, outcomes: MetOutcomes) -> None:
        """Count answers whose outcomes came too late, and note them."""
        self.counts.expired += len(slot)
        self._entries.ended.add_answers(slot, outcomes.value, outcomes.time, Ending.LATE)

    def complete(
        self,
        rows: JoinRows,
        row: RowIndices,
        cell: CellIndices,
        slot: SlotIndices,
        outcomes: MetOutcomes,
        matched: Mask,
    ) -> None:
        """End served answers whose outcome is there, in time or not.

        Args:
            rows: The batch.
            row: A row of each request.
            cell: Cell of each request.
            slot: Slot of each served answer.
            outcomes: Outcome of each.
            matched: Which outcomes were paired with an answer; the others have been counted as late.
        """
        kept, ended = rows.keeps_outcome[row], ~rows.keeps_outcome[row]
        tags = tag_of(outcomes.value)
        tags = np.where(matched, tags, late_tag(tags))
        self._entries.close_answers(slot[ended], cell[ended], rows.lo[row[ended]], tags[ended])
        if kept.any():
            self._keep(rows, row[kept], cell[kept], slot[kept], outcomes.take(kept), matched[kept])

    def _keep(
        self,
        rows: JoinRows,
        row: RowIndices,
        cell: CellIndices,
        slot: SlotIndices,
        outcomes: MetOutcomes,
        matched: Mask,
    ) -> None:
        """Put outcomes in place of their served answers, which stay readable in their slots until the commit."""
        entries, column = self._entries, self._entries.slots.column
        variant, mask = column["variant"][slot], column["shadow_mask"][slot]
        entries.retire_answers(slot)
        own = entries.open(rows, row, cell)
        entries.clear_payload(own)
        column["variant"][own], column["shadow_mask"][own] = variant, mask
        column["value"][own], column["time"][own] = outcomes.value, outcomes.time
        column["pane"][own] = outcomes.effective_time - outcomes.time
        column["state"][own] = OUTCOME | DONE | np.where(matched, MATCHED, RAN_OUT)
        entries.mark_changed(own)
