"""Process the outcomes of a round. Pure."""

from __future__ import annotations

import numpy as np

from monitor.join.arrays import CellIndices, Mask, RowIndices, SlotIndices, Values
from monitor.join.closed import NO_OUTCOME, late_tag, tag_of, value_bits
from monitor.join.entries import Entries
from monitor.join.expiry import Expiry
from monitor.join.index import EMPTY, closed_tag_of
from monitor.join.results import BatchResults, JoinVerdict
from monitor.join.rows import JoinRows
from monitor.join.slots import ANSWER, MATCHED, OUTCOME


class OutcomeStep:
    """Pair an outcome with every open answer to its request, or let it wait for the served one."""

    def __init__(self, entries: Entries, expiry: Expiry) -> None:
        self._entries = entries
        self._expiry = expiry

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
        answered = state & ANSWER != 0
        first = np.flatnonzero(is_open & ~has_outcome)
        matched, ran_out = np.zeros(len(row), np.bool_), np.zeros(len(row), np.bool_)
        matched[first], ran_out[first] = self._pair_shadows(rows, row[first], slot[first], actual[first], results)
        if answered.any():
            self._pair_served(rows, row[answered], slot[answered], cell[answered], actual[answered], results)
        unanswered = is_open & ~answered & ~has_outcome
        late = unanswered & ran_out & ~matched
        if late.any():
            verdict[row[late]] = JoinVerdict.LATE
            self._entries.closed.close(cell[late], rows.lo[row[late]], late_tag(tag_of(actual[late])))
            self._entries.slots.retire(slot[late])
        rest = (value == EMPTY) | (unanswered & ~late)
        if rest.any():
            self._wait(rows, row[rest], cell[rest], matched[rest])
            verdict[row[rest]] = np.where(matched[rest], JoinVerdict.JOINED, JoinVerdict.WAITING)

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

    def _pair_served(
        self,
        rows: JoinRows,
        row: RowIndices,
        slot: SlotIndices,
        cell: CellIndices,
        actual: Values,
        results: BatchResults,
    ) -> None:
        keys = rows.lo[row]
        results.add_pairs(row, slot, actual, rows.payload["time"][row], keys)
        results.verdict[row] = JoinVerdict.JOINED
        self._entries.close_answers(slot, cell, keys, tag_of(actual))

    def _pair_shadows(
        self, rows: JoinRows, row: RowIndices, slot: SlotIndices, actual: Values, results: BatchResults
    ) -> tuple[Mask, Mask]:
        """Pair outcomes with the answers that were not served.

        Args:
            rows: The batch.
            row: Rows of the outcomes.
            slot: Slot of each one's request.
            actual: Value of each outcome.
            results: Where pairs are added.

        Returns:
            Which outcomes were paired, and which found an answer that had expired.
        """
        matched, ran_out = np.zeros(len(row), np.bool_), np.zeros(len(row), np.bool_)
        column = self._entries.slots.column
        for at, other, cell in self._entries.shadow_answers_of(rows, row, slot):
            over = rows.watermark[row[at]] - column["time"][other] >= rows.prediction_ttl[row[at]]
            self._expiry.end_answers(other[over], cell[over])
            ran_out[at[over]] = True
            at, other, cell = at[~over], other[~over], cell[~over]
            matched[at] = True
            results.add_pairs(row[at], other, actual[at], rows.payload["time"][row[at]], rows.lo[row[at]])
            self._entries.close_answers(other, cell, column["lo"][other], tag_of(actual[at]))
        return matched, ran_out

    def _wait(self, rows: JoinRows, row: RowIndices, cell: CellIndices, matched: Mask) -> None:
        """Let outcomes wait for the served answer; some were `matched` with others."""
        slot, _ = self._entries.slots_of_requests(rows, row, cell)
        self._entries.write_payload(slot, rows, row)
        self._entries.slots.column["state"][slot] = np.where(matched, OUTCOME | MATCHED, OUTCOME)
        self._entries.mark_changed(slot)
