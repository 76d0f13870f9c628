"""Process the answers (predictions) of a round. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.join.arrays import CellIndices, Keys, Mask, RowIndices, SlotIndices, VariantCodes
from monitor.join.closed import tag_of
from monitor.join.completion import Completion, is_early, is_late
from monitor.join.ended import Ending
from monitor.join.entries import Entries, shadow_bit
from monitor.join.ids import shadow_keys
from monitor.join.index import EMPTY
from monitor.join.results import BatchResults, JoinVerdict, MetOutcomes
from monitor.join.rows import JoinRows, RowKind
from monitor.join.slots import ANSWER, DONE, MATCHED, OUTCOME, RAN_OUT, UNSERVED


class AnswerStep:
    """Accept the first answer of each variant to a request, and pair it where the outcome waits already."""

    def __init__(self, entries: Entries, completion: Completion) -> None:
        self._entries = entries
        self._completion = completion

    def process(self, rows: JoinRows, row: RowIndices, cell: CellIndices, waits: Mask, results: BatchResults) -> None:
        """Process answers of distinct requests.

        Args:
            rows: The batch.
            row: Rows of answers.
            cell: Cell of each one's request.
            waits: Which of them wait for an outcome.
            results: Where verdicts, slots, pairs and comparisons are added.
        """
        column, index = self._entries.slots.column, self._entries.index
        value = index.value[cell]
        is_open, closed = value >= 0, value < EMPTY
        slot = np.where(is_open, value, 0).astype(np.int64)
        variant = rows.payload["variant"][row]
        served = rows.kind[row] == RowKind.SERVED
        answered = is_open & (column["state"][slot] & (ANSWER | DONE) != 0)
        repeated = (answered & (column["variant"][slot] == variant)) | (served & closed)
        first = served & ~closed & ~answered
        # The same variant may have answered before without being served.
        marked = np.flatnonzero(first & is_open & (column["shadow_mask"][slot] & shadow_bit(variant) != 0))
        if len(marked):
            keys = shadow_keys(rows.lo[row[marked]], variant[marked])
            repeated[marked[index.look_up(keys) != EMPTY]] = True
        results.verdict[row[repeated]] = JoinVerdict.DUPLICATE
        first &= ~repeated
        other = ~first & ~repeated
        if first.any():
            self._add_served(rows, row[first], cell[first], waits[first], results)
        if other.any():
            self._add_unserved(rows, row[other], cell[other], waits[other], results)

    # -- served ------------------------------------------------------------------------------------------

    def _add_served(
        self, rows: JoinRows, row: RowIndices, cell: CellIndices, waits: Mask, results: BatchResults
    ) -> None:
        """Put answers under their requests' own keys, where no answer is yet."""
        entries = self._entries
        fresh = entries.index.value[cell] < 0
        opened = fresh & waits
        entries.open(rows, row[opened], cell[opened])
        lost = fresh & ~waits
        entries.closed.close_without_outcome(cell[lost], rows.lo[row[lost]])
        kept = ~lost
        row, cell, waits = row[kept], cell[kept], waits[kept]
        slot = entries.index.value[cell].astype(np.int64)
        results.slot[row] = slot
        column = entries.slots.column
        early = np.flatnonzero(column["state"][slot] & OUTCOME != 0)
        outcomes, state = self._completion.waiting_outcomes(slot[early]), column["state"][slot[early]]
        column["pane"][slot[early]] = 0
        entries.write_answers(slot, rows, row)
        column["state"][slot] = ANSWER
        entries.waiting += len(slot)
        entries.mark_changed(slot)
        for shadow in entries.shadow_answers_of(slot):
            results.add_compared(row[shadow.position], slot[shadow.position], shadow.slot)
        if len(early):
            self._meet_outcomes(rows, row[early], cell[early], slot[early], outcomes, state, results)
        done = ~waits & (column["state"][slot] == ANSWER)
        if done.any():
            # It shares the request's entry with other answers, but nothing can score it.
            entries.close_answers_without_outcome(slot[done], cell[done], rows.lo[row[done]])

    def _meet_outcomes(
        self,
        rows: JoinRows,
        row: RowIndices,
        cell: CellIndices,
        slot: SlotIndices,
        outcomes: MetOutcomes,
        state: NDArray[np.uint8],
        results: BatchResults,
    ) -> None:
        """Pair served answers with the outcomes that waited in their slots, in that state; or end what missed it."""
        time = rows.payload["time"][row]
        late = is_late(rows, row, time, outcomes.effective_time)
        early = ~late & is_early(rows, row, time, outcomes.effective_time)
        met = ~late & ~early
        results.add_pairs(row[met], slot[met], outcomes.take(met), rows.lo[row[met]])
        alone = state & (MATCHED | RAN_OUT) == 0
        self._completion.end_late(slot[late], outcomes.take(late))
        lost = early & (state & (MATCHED | RAN_OUT) == 0)
        its = rows.lo[row[lost]], rows.payload["variant"][row[lost]], outcomes.take(lost)
        self._entries.ended.add_outcomes(*its, Ending.ORPHANED)
        self._completion.counts.late += int(np.count_nonzero(late & alone))
        self._completion.counts.orphans += int(np.count_nonzero(early & alone))
        done, matched = ~early, met | (state & MATCHED != 0)
        self._completion.complete(rows, row[done], cell[done], slot[done], outcomes.take(done), matched[done])

    # -- not served --------------------------------------------------------------------------------------

    def _add_unserved(
        self, rows: JoinRows, row: RowIndices, cell: CellIndices, waits: Mask, results: BatchResults
    ) -> None:
        """Put answers that were not served under keys of their own."""
        index, closed = self._entries.index, self._entries.closed
        variant = rows.payload["variant"][row]
        keys = shadow_keys(rows.lo[row], variant)
        own = index.find_or_add(keys)
        repeated = index.value[own] != EMPTY
        results.verdict[row[repeated]] = JoinVerdict.DUPLICATE
        kept = ~repeated
        row, cell, waits, own, keys, variant = (x[kept] for x in (row, cell, waits, own, keys, variant))
        if not len(row):
            return
        request_open = index.value[cell] >= EMPTY
        stays = request_open & waits
        closed.close_without_outcome(own[~stays], keys[~stays])
        # Where an outcome is kept for them, those that come after it has been forgotten have waited in vain.
        self._completion.count_expired(int(np.count_nonzero(~request_open & waits & rows.keeps_outcome[row])))
        main = self._mark_requests(rows, row[request_open], cell[request_open], variant[request_open])
        self._count_late_outcomes(rows, row[request_open], main)
        if stays.any():
            self._add_waiting(rows, row[stays], own[stays], keys[stays], main[waits[request_open]], results)

    def _mark_requests(self, rows: JoinRows, row: RowIndices, cell: CellIndices, variant: VariantCodes) -> SlotIndices:
        """Mark in the requests' own entries, opened where missing, that these variants answered."""
        entries, column = self._entries, self._entries.slots.column
        entries.add_shadow_variants(variant)
        slot, fresh = entries.slots_of_requests(rows, row, cell)
        entries.clear_payload(slot[fresh])
        # Time and variant of an entry that is only a mark: what its TTL is counted by.
        mark = column["state"][slot] & (ANSWER | OUTCOME) == 0
        column["time"][slot[mark]] = np.maximum(column["time"][slot[mark]], rows.payload["time"][row[mark]])
        column["variant"][slot[mark]] = variant[mark]
        column["shadow_mask"][slot] |= shadow_bit(variant)
        entries.mark_changed(slot)
        return slot

    def _count_late_outcomes(self, rows: JoinRows, row: RowIndices, main: SlotIndices) -> None:
        """Count waiting outcomes in slots `main` that are too late for these answers."""
        waits = np.flatnonzero(self._entries.slots.column["state"][main] & OUTCOME != 0)
        if len(waits):
            outcomes = self._completion.waiting_outcomes(main[waits])
            late = is_late(rows, row[waits], rows.payload["time"][row[waits]], outcomes.effective_time)
            self._completion.count_late(main[waits[late]])

    def _add_waiting(
        self, rows: JoinRows, row: RowIndices, own: CellIndices, keys: Keys, main: SlotIndices, results: BatchResults
    ) -> None:
        """Open entries of answers that were not served, in cells of their `own`, and look at their requests'.

        Args:
            rows: The batch.
            row: Rows of the answers.
            own: Cell of each answer.
            keys: Key of each answer.
            main: Slot of each one's request.
            results: Where slots, pairs and comparisons are added.
        """
        entries, column = self._entries, self._entries.slots.column
        slot = entries.open(rows, row, own, keys=keys)
        results.slot[row] = slot
        column["state"][slot] = ANSWER | UNSERVED
        entries.write_answers(slot, rows, row)
        entries.mark_changed(slot)
        entries.waiting += len(row)
        served = column["state"][main] & ANSWER != 0
        if served.any():
            results.add_compared(row[served], main[served], slot[served])
        waits = np.flatnonzero(column["state"][main] & OUTCOME != 0)
        if not len(waits):
            return
        row, own, keys, main, slot = row[waits], own[waits], keys[waits], main[waits], slot[waits]
        outcomes, time = self._completion.waiting_outcomes(main), rows.payload["time"][row]
        late = is_late(rows, row, time, outcomes.effective_time)
        self._completion.end_late(slot[late], outcomes.take(late))
        entries.close_answers_without_outcome(slot[late], own[late], keys[late])
        met = ~late & ~is_early(rows, row, time, outcomes.effective_time)
        results.add_pairs(row[met], slot[met], outcomes.take(met), rows.lo[row[met]])
        column["state"][main[met]] |= MATCHED
        entries.mark_changed(main[met])
        entries.close_answers(slot[met], own[met], keys[met], tag_of(outcomes.value[met]))
