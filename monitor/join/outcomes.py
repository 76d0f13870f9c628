"""Process the outcomes of a round. Pure."""

from __future__ import annotations

import numpy as np

from monitor.join.arrays import CellIndices, Mask, RowIndices, SlotIndices
from monitor.join.closed import NO_OUTCOME, late_tag, tag_of, value_bits
from monitor.join.completion import Completion, is_early, is_late
from monitor.join.ended import Ending
from monitor.join.entries import Entries
from monitor.join.expiry import Expiry
from monitor.join.index import EMPTY, closed_tag_of
from monitor.join.results import BatchResults, JoinVerdict, MetOutcomes
from monitor.join.rows import JoinRows
from monitor.join.slots import ANSWER, MATCHED, OUTCOME, RAN_OUT


class OutcomeStep:
    """Pair an outcome with every open answer to its request, or let it wait for the served one."""

    def __init__(self, entries: Entries, expiry: Expiry, completion: Completion) -> None:
        self._entries = entries
        self._expiry = expiry
        self._completion = completion

    def process(self, rows: JoinRows, row: RowIndices, cell: CellIndices, results: BatchResults) -> None:
        """Process outcomes of distinct requests.

        Args:
            rows: The batch.
            row: Rows of outcomes.
            cell: Cell of each one's request.
            results: Where verdicts and pairs are added.
        """
        column, verdict = self._entries.slots.column, results.verdict
        actual = rows.payload["value"][row]
        value = self._entries.index.value[cell]
        self._judge_closed(rows, row, cell, value < EMPTY, results)
        is_open = value >= 0
        slot = np.where(is_open, value, 0).astype(np.int64)
        state = np.where(is_open, column["state"][slot], 0)
        has_outcome = state & OUTCOME != 0
        same = has_outcome & (value_bits(column["value"][slot]) == value_bits(actual))
        verdict[row[same]] = JoinVerdict.DUPLICATE
        verdict[row[has_outcome & ~same]] = JoinVerdict.CONFLICT
        first = is_open & ~has_outcome
        if first.any():
            self._meet(rows, row[first], cell[first], slot[first], results)
        unknown = value == EMPTY
        if unknown.any():
            nobody = np.zeros(int(np.count_nonzero(unknown)), np.bool_)
            self._wait(rows, row[unknown], cell[unknown], nobody, nobody, results)

    def _meet(
        self, rows: JoinRows, row: RowIndices, cell: CellIndices, slot: SlotIndices, results: BatchResults
    ) -> None:
        """Process outcomes of requests to which answers are known, and no outcome."""
        column = self._entries.slots.column
        outcomes = MetOutcomes(rows.payload["value"][row], rows.payload["time"][row], rows.effective_time[row])
        late = is_late(rows, row, column["time"][slot], outcomes.effective_time)
        early = is_early(rows, row, column["time"][slot], outcomes.effective_time)
        served = column["state"][slot] & ANSWER != 0
        # Of answers that were not served the latest one counts: its time is that of an entry which is only a mark.
        matched = self._pair_shadows(rows, row, slot, outcomes, results)
        met = served & ~late & ~early
        if met.any():
            results.add_pairs(row[met], slot[met], outcomes.take(met), rows.lo[row[met]])
            matched |= met
        self._completion.end_late(slot[served & late], outcomes.take(served & late))
        self._note_alone(rows, row, outcomes, served & early & ~matched, Ending.ORPHANED)
        missed = np.where(late, JoinVerdict.LATE, JoinVerdict.ORPHAN)
        results.verdict[row] = np.where(matched, JoinVerdict.JOINED, missed)
        done = served & ~early
        if done.any():
            its = row[done], cell[done], slot[done]
            self._completion.complete(rows, *its, outcomes.take(done), matched[done])
        waits = ~served
        if waits.any():
            self._wait(rows, row[waits], cell[waits], matched[waits], late[waits], results)

    def _judge_closed(
        self, rows: JoinRows, row: RowIndices, cell: CellIndices, closed: Mask, results: BatchResults
    ) -> None:
        """Judge outcomes of requests that are closed: late, the same again, or another value."""
        if not closed.any():
            return
        row, cell = row[closed], cell[closed]
        known, tag = closed_tag_of(self._entries.index.value[cell]), tag_of(rows.payload["value"][row])
        late = known == NO_OUTCOME
        same = np.where(known > NO_OUTCOME, known == late_tag(tag), known == tag)
        results.verdict[row] = np.where(
            late, JoinVerdict.LATE, np.where(same, JoinVerdict.DUPLICATE, JoinVerdict.CONFLICT)
        )
        # From now on the request has had its outcome: the next one is a repeat or a conflict.
        self._entries.closed.close(cell[late], rows.lo[row[late]], late_tag(tag[late]))
        outcomes = MetOutcomes(rows.payload["value"][row], rows.payload["time"][row], rows.effective_time[row])
        self._note_alone(rows, row, outcomes, late, Ending.OVERDUE)

    def _note_alone(self, rows: JoinRows, row: RowIndices, outcomes: MetOutcomes, which: Mask, ending: Ending) -> None:
        """Note outcomes that met no answer: those of `row` that `which` tells."""
        at = row[which]
        self._entries.ended.add_outcomes(rows.lo[at], rows.payload["variant"][at], outcomes.take(which), ending)

    def _pair_shadows(
        self, rows: JoinRows, row: RowIndices, slot: SlotIndices, outcomes: MetOutcomes, results: BatchResults
    ) -> Mask:
        """Pair outcomes with the answers that were not served.

        Args:
            rows: The batch.
            row: Rows of the outcomes.
            slot: Slot of each one's request.
            outcomes: The outcomes.
            results: Where pairs are added.

        Returns:
            Which outcomes were paired.
        """
        matched = np.zeros(len(row), np.bool_)
        column = self._entries.slots.column
        for at, other, cell in self._entries.shadow_answers_of(slot):
            its = column["time"][other], outcomes.effective_time[at]
            over, ahead = is_late(rows, row[at], *its), is_early(rows, row[at], *its)
            self._expiry.end_answers(other[over], cell[over])
            met = ~over & ~ahead
            at, other, cell = at[met], other[met], cell[met]
            matched[at] = True
            results.add_pairs(row[at], other, outcomes.take(at), rows.lo[row[at]])
            self._entries.close_answers(other, cell, column["lo"][other], tag_of(outcomes.value[at]))
        return matched

    def _wait(
        self, rows: JoinRows, row: RowIndices, cell: CellIndices, matched: Mask, late: Mask, results: BatchResults
    ) -> None:
        """Let outcomes wait for the served answer; some have met others, in time or too late."""
        column = self._entries.slots.column
        slot, _ = self._entries.slots_of_requests(rows, row, cell)
        self._entries.write_payload(slot, rows, row)
        column["pane"][slot] = rows.effective_time[row] - rows.payload["time"][row]
        column["state"][slot] = OUTCOME | np.where(matched, MATCHED, np.where(late, RAN_OUT, 0))
        self._entries.mark_changed(slot)
        verdicts = np.where(late, JoinVerdict.LATE, JoinVerdict.WAITING)
        results.verdict[row] = np.where(matched, JoinVerdict.JOINED, verdicts)
