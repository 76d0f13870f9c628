"""Join predictions with their outcomes, a batch at a time.

A batch is processed in rounds: the first event of every request, then the second, and so on. In a round no
two rows share a request, so a round is vectors, and a batch equals its events one by one. Pure; one worker
owns it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from monitor.join.answers import AnswerStep
from monitor.join.arrays import (
    CellIndices,
    Keys,
    Mask,
    Milliseconds,
    Pane,
    PaneNumbers,
    RowIndices,
    SlotIndices,
    VariantCode,
)
from monitor.join.completion import Completion
from monitor.join.ended import Ending
from monitor.join.entries import Entries
from monitor.join.expiry import Expiry
from monitor.join.index import MOST_AT_ONCE
from monitor.join.outcomes import OutcomeStep
from monitor.join.request_state import RequestState, look_up
from monitor.join.results import (
    BatchResults,
    ComparedAnswers,
    JoinCounts,
    Joined,
    JoinedPairs,
    JoinState,
    JoinVerdict,
    exact_scores,
)
from monitor.join.rows import JoinRows, RowKind
from monitor.join.sampling import RequestSample
from monitor.join.slots import ANSWER

_ROUNDS = 32  # rows of a request beyond so many in one batch are processed one at a time


class JoinTable:
    """Join batches of rows, and hold what waits between them.

    Of each batch, in this order: `join`, then `assign_panes` for the answers whose outcome pane was not in the
    payload, then `pairs_of` and `comparisons_of`: the pane of a counted window is known only once it is known
    which answers the join accepts, and an answer may be paired in its own batch.
    """

    def __init__(self, pending: int, seen: int, *, note_ended: bool = False) -> None:
        """Bound the waiting answers by `pending` and the closed keys that are remembered by `seen`.

        Args:
            pending: Answers.
            seen: Keys.
            note_ended: Have commits store what is known of requests that end.
        """
        self.entries = Entries(pending, seen, note_ended=note_ended)  # for the log, which stores them
        self.counts = JoinCounts()
        self._sample = RequestSample(self.entries, self.counts, pending)
        self._expiry = Expiry(self.entries, self.counts)
        completion = Completion(self.entries, self.counts)
        self._answers = AnswerStep(self.entries, completion)
        self._outcomes = OutcomeStep(self.entries, self._expiry, completion)

    # -- the batch ---------------------------------------------------------------------------------------

    def join(self, rows: JoinRows) -> Joined:
        """Process rows in order.

        Args:
            rows: At most MOST_AT_ONCE.

        Returns:
            A verdict for each, and handles of what was accepted, paired and compared.

        Raises:
            ValueError: There are more rows.
            IndexFull: More keys than the bounds allow.
        """
        count = len(rows)
        if count > MOST_AT_ONCE:
            raise ValueError(f"{count} rows at once, at most {MOST_AT_ONCE}")
        self.entries.closed.ensure_generation(int(rows.watermark[0]) if count else 0)
        results = BatchResults(count)
        sampled = self._sample.includes(rows.lo)
        processed = sampled | (rows.kind != RowKind.OUTCOME)
        results.verdict[~processed] = JoinVerdict.UNSAMPLED
        self._process(rows, np.flatnonzero(processed), sampled & rows.waits, results)
        joined = results.joined()
        self.counts.add_verdicts(joined.verdict)
        pairs = joined.pairs
        self.counts.joined += len(pairs.row)
        self.entries.ended.add_answers(pairs.slot, pairs.actual, pairs.outcome_time, Ending.JOINED)
        return joined

    def _process(self, rows: JoinRows, left: RowIndices, waits: Mask, results: BatchResults) -> None:
        """Process rows in rounds of distinct requests."""
        self.entries.index.reserve(2 * len(rows))  # a key for the request, one for a shadow answer
        cells = np.zeros(len(rows), np.int64)
        cells[left] = self.entries.index.find_or_add(rows.lo[left])
        for _ in range(_ROUNDS):
            if not len(left):
                return
            _, first = np.unique(cells[left], return_index=True)
            if len(first) == len(left):
                self._round(rows, left, cells[left], waits, results)
                return
            now = np.sort(left[first])
            self._round(rows, now, cells[now], waits, results)
            rest = np.ones(len(left), np.bool_)
            rest[first] = False
            left = left[rest]
        for row in left:
            one = np.array([row])
            self._round(rows, one, cells[one], waits, results)

    def _round(self, rows: JoinRows, row: RowIndices, cell: CellIndices, waits: Mask, results: BatchResults) -> None:
        """Process rows of distinct requests; what one leaves behind the others do not see."""
        self._expiry.end_expired(rows, row, cell)
        value = self.entries.index.value[cell]
        held = np.flatnonzero(value >= 0)
        foreign = held[self.entries.slots.column["hi"][value[held]] != rows.hi[row[held]]]
        if len(foreign):
            results.verdict[row[foreign]] = JoinVerdict.COLLISION
            mine = np.ones(len(row), np.bool_)
            mine[foreign] = False
            row, cell = row[mine], cell[mine]
        outcome = rows.kind[row] == RowKind.OUTCOME
        if outcome.any():
            self._outcomes.process(rows, row[outcome], cell[outcome], results)
            row, cell = row[~outcome], cell[~outcome]
        if len(row):
            self._answers.process(rows, row, cell, waits[row], results)

    # -- values of the batch -----------------------------------------------------------------------------

    def assign_panes(self, slot: SlotIndices, pane: PaneNumbers) -> None:
        """Set the outcome panes of answers of the last batch; before `pairs_of` and before the next commit.

        Args:
            slot: Handles from `Joined.slot`; -1 is passed over.
            pane: The pane of each.
        """
        kept = slot >= 0
        self.entries.slots.column["pane"][slot[kept]] = pane[kept]

    def pairs_of(self, joined: Joined) -> JoinedPairs:
        """Read the pairs of the last batch, once its panes are assigned and before the next commit."""
        pairs, column = joined.pairs, self.entries.slots.column
        return JoinedPairs(
            row=pairs.row,
            request=pairs.request,
            hi=column["hi"][pairs.slot],
            variant=column["variant"][pairs.slot].astype(np.int64),
            pane=column["pane"][pairs.slot].astype(np.int64),
            predicted=column["value"][pairs.slot],
            score=exact_scores(column["score"][pairs.slot]),
            time=column["time"][pairs.slot],
            actual=pairs.actual,
            outcome_time=pairs.outcome_time,
            pair_time=np.maximum(column["time"][pairs.slot], pairs.effective_time),
        )

    def comparisons_of(self, joined: Joined) -> ComparedAnswers:
        """Read the comparisons of the last batch, once its panes are assigned and before the next commit."""
        compared, column = joined.compared, self.entries.slots.column
        return ComparedAnswers(
            row=compared.row,
            request=column["lo"][compared.served_slot],
            hi=column["hi"][compared.served_slot],
            pair_time=np.maximum(column["time"][compared.served_slot], column["time"][compared.other_slot]),
            variant=column["variant"][compared.other_slot].astype(np.int64),
            pane=column["pane"][compared.other_slot].astype(np.int64),
            other_value=column["value"][compared.other_slot],
            served_variant=column["variant"][compared.served_slot].astype(np.int64),
            served_value=column["value"][compared.served_slot],
        )

    def reassign_panes(self, variants: Mask, pane: Pane) -> None:
        """Move the waiting answers of some variants to another outcome pane.

        Args:
            variants: A flag by variant code.
            pane: Their pane from now on.
        """
        column = self.entries.slots.column
        held = self.entries.held(ANSWER)
        moved = held[variants[column["variant"][held]]]
        column["pane"][moved] = pane
        self.entries.mark_changed(moved)

    # -- bounds ------------------------------------------------------------------------------------------

    def expire(
        self,
        watermark: int,
        prediction_ttl: Milliseconds,
        outcome_ttl: Milliseconds,
        pane_width: Milliseconds,
        *,
        everything: bool = False,
    ) -> None:
        """End what stream time has left behind.

        Looks at the next sixteenth of memory only, or at all of it. What is found later changes no verdict, since
        rows end what they find by their own stream time first.

        Args:
            watermark: Stream time, ms.
            prediction_ttl: As in `JoinRows`, ms, by variant code.
            outcome_ttl: As in `JoinRows`, ms, by variant code.
            pane_width: As in `JoinRows`, ms, by variant code.
            everything: Look at all of memory.
        """
        self._expiry.sweep(watermark, prediction_ttl, outcome_ttl, pane_width, everything=everything)

    def orphan_waiting_outcomes(self) -> None:
        """End the outcomes that wait, because the stream has ended: no prediction will come."""
        self._expiry.end_waiting_outcomes()

    def downsample_pending(self) -> int:
        """Keep the waiting answers below their bound by halving the sample of requests.

        Returns:
            How many answers were let go.
        """
        return self._sample.shrink()

    def count_orphans(self, count: int) -> None:
        """Count outcomes that are not joined at all, because their model expects none."""
        self.counts.orphans += count

    # -- reading -----------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Count the answers that wait for an outcome."""
        return self.entries.waiting

    @property
    def sampling_log2(self) -> int:
        """Tell k: only requests whose key is 0 modulo `2**k` wait."""
        return self._sample.log2

    @property
    def horizon(self) -> int | None:
        """Tell the stream time (ms) before which closed keys may be forgotten; None while none were."""
        return self.entries.closed.horizon

    def has_waiting_outcome(self, requests: Keys) -> Mask:
        """Tell of each request's key whether an outcome waits for the served answer."""
        return self.entries.has_waiting_outcome(requests)

    def has_met_outcome(self, requests: Keys) -> Mask:
        """Tell of each request's key whether its outcome has met the served answer, and is kept for others."""
        return self.entries.has_met_outcome(requests)

    def look_up(self, low: Keys, high: Keys, variants: Iterable[VariantCode]) -> RequestState:
        """Tell what is known of one request.

        Args:
            low: Low half of the hash of its id, one element.
            high: High half, one element.
            variants: Variants of the model, whose answers that were not served are looked for.
        """
        return look_up(self.entries, low, high, variants)

    # -- state -------------------------------------------------------------------------------------------

    def state(self) -> JoinState:
        """Give what is stored apart from the log of entries."""
        return JoinState(sampling=self._sample.log2, horizon=self.horizon, counts=replace(self.counts))

    def restore(self, state: JoinState) -> None:
        """Go on from a stored state; `JoinLog.restore` adds the entries."""
        self._sample.log2 = state.sampling
        self.entries.closed.horizon = state.horizon
        self.counts.restore(state.counts)
