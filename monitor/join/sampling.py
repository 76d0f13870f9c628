"""Bound the waiting answers by sampling requests.

Fair to slow outcomes: letting the oldest go would measure quality on quick ones only. Pure.
"""

from __future__ import annotations

import numpy as np

from monitor.join.arrays import Keys, Mask, SlotIndices
from monitor.join.entries import Entries
from monitor.join.expiry import outcome_tags
from monitor.join.ids import shadow_keys
from monitor.join.results import JoinCounts
from monitor.join.slots import ANSWER, DONE, MATCHED, OUTCOME, RAN_OUT, UNSERVED

_FILLED = 0.9  # share of the bound at which the sample is halved


class RequestSample:
    """Decide which requests may wait: those whose key is 0 modulo `2**log2`."""

    def __init__(self, entries: Entries, counts: JoinCounts, bound: int) -> None:
        """Keep fewer than `bound` answers waiting."""
        self._entries = entries
        self._counts = counts
        self._bound = bound
        self.log2 = 0

    def includes(self, keys: Keys) -> Mask:
        """Tell of each request's key whether it is in the sample."""
        if not self.log2:
            return np.ones(len(keys), np.bool_)
        result: Mask = keys & np.uint64((1 << self.log2) - 1) == 0
        return result

    def shrink(self) -> int:
        """Halve the sample until the bound is kept, and end what is outside it.

        Returns:
            How many answers were let go.
        """
        let_go = 0
        while self._entries.waiting > _FILLED * self._bound:
            self.log2 += 1
            let_go += self._end_unsampled()
        return let_go

    def _end_unsampled(self) -> int:
        entries = self._entries
        column = entries.slots.column
        held = entries.held(ANSWER | OUTCOME)
        out = held[~self.includes(self._request_keys(held))]
        keys, state = column["lo"][out], column["state"][out]
        answer, done = state & ANSWER != 0, state & DONE != 0
        cell = entries.index.find(keys)
        entries.closed.close_without_outcome(cell[answer], keys[answer])
        entries.closed.close(cell[done], keys[done], outcome_tags(column["value"][out[done]], state[done]))
        # An outcome may yet see its answer come, which then must not look like a repeat.
        early = ~answer & ~done
        entries.closed.empty(cell[early], keys[early])
        answers = int(np.count_nonzero(answer))
        entries.waiting -= answers
        # Those that have met an answer are counted already.
        self._counts.unsampled += int(np.count_nonzero(early & (state & (MATCHED | RAN_OUT) == 0)))
        entries.slots.retire(out)
        return answers

    def _request_keys(self, slot: SlotIndices) -> Keys:
        column = self._entries.slots.column
        keys: Keys = column["lo"][slot].copy()
        shadow = column["state"][slot] & UNSERVED != 0
        keys[shadow] = shadow_keys(keys[shadow], column["variant"][slot[shadow]])  # which undoes itself
        return keys
