"""What waits for its other half, and the join of a batch.

A request has one entry under its own key: the answer that was served, or an outcome that came before it, or
only the mark that other answers exist (`lanes`). Every answer that was not served has an entry of its own,
under a key made of the request's and its variant's. An outcome joins all of them.

A batch is processed in rounds: the first event of every request, then the second, and so on. In a round no
two rows share a request, so a round is vectors, and a batch equals its events one by one. Patience is judged
by the clock of the row in hand, not by when memory is swept. Pure; one worker owns it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.join.ids import U64, shadow_keys
from monitor.join.index import EMPTY, GENERATIONS, I64, MOST_AT_ONCE, Bools, KeyIndex, closed_tag_of, closed_value
from monitor.join.rows import (
    F64,
    PAYLOAD,
    Agreements,
    Columns,
    JoinCounts,
    Joined,
    JoinRows,
    JoinVerdict,
    Pairs,
    RowKind,
)
from monitor.join.slots import ANSWER, FREE, MATCHED, OUTCOME, UNSERVED, Slots

# Notes of closed keys: 16 bits that tell actual values apart; met no outcome; or, above that, met it too late.
NO_OUTCOME = 1 << 16
EMPTIED = 1 << 17  # only in the log: the key is unknown again, its next event is the first
_ROUNDS = 32  # rows of a request beyond so many in one batch are processed one at a time
_SWEEPS = 16  # calls of `expire` that look at all slots once
_SWEEP_AT_LEAST = 1 << 16
_GENERATIONS_HELD = 64  # closed keys are forgotten in portions of this share of their bound


@dataclass(frozen=True, slots=True)
class Closed:
    """Keys closed or vacated since the last commit, in order; a later entry of a key replaces an earlier one."""

    lo: U64
    note: NDArray[np.uint32]


@dataclass(slots=True)
class _Batch:
    """Results of the rounds of one batch, gathered."""

    verdict: NDArray[np.uint8]
    slot: I64
    pairs: list[tuple[I64, I64, F64, I64, U64]] = field(default_factory=list)
    agreements: list[tuple[I64, I64, I64]] = field(default_factory=list)


class JoinTable:
    """`pending` bounds what waits, `seen` the closed keys that are remembered."""

    def __init__(self, pending: int, seen: int) -> None:
        self.index = KeyIndex(pending + seen)
        self.slots = Slots()
        self.counts = JoinCounts()
        self.pending_bound, self.seen_bound = pending, seen
        self.waiting = 0  # answers
        self.sampling_log2 = 0  # k: only requests whose key is 0 modulo 2**k wait
        self._lane_variants: dict[int, list[int]] = {}
        self._touched: list[I64] = []
        self._closed: list[tuple[U64, NDArray[np.uint32]]] = []
        # (generation, keys, clock when it began), the oldest first.
        self._generations: deque[tuple[int, int, int]] = deque()
        self._expired_to = 0
        self.horizon: int | None = None  # ids closed before this stream time may be forgotten

    # -- the batch ---------------------------------------------------------------------------------------

    def join(self, rows: JoinRows) -> Joined:
        """Process rows in order. Raises ValueError for more than MOST_AT_ONCE of them."""
        count = len(rows)
        if count > MOST_AT_ONCE:
            raise ValueError(f"{count} rows at once, at most {MOST_AT_ONCE}")
        if not self._generations:
            self.new_generation(int(rows.clock[0]) if count else 0)
        batch = _Batch(np.zeros(count, np.uint8), np.full(count, -1, np.int64))
        sampled = self._sampled(rows.lo)
        left = np.flatnonzero(sampled | (rows.kind != RowKind.OUTCOME))
        self.index.reserve(2 * count)  # a key for the request, one for the answer beside it
        batch.verdict[~sampled & (rows.kind == RowKind.OUTCOME)] = JoinVerdict.UNSAMPLED
        cells = np.zeros(count, np.int64)
        cells[left] = self.index.find_or_add(rows.lo[left])
        for _ in range(_ROUNDS):
            if not len(left):
                break
            _, first = np.unique(cells[left], return_index=True)
            now = np.sort(left[first]) if len(first) < len(left) else left
            self._round(rows, now, cells[now], sampled[now], batch)
            if len(now) == len(left):
                left = left[:0]
            else:
                rest = np.ones(len(left), np.bool_)
                rest[first] = False
                left = left[rest]
        for row in left:
            one = np.array([row])
            self._round(rows, one, cells[one], sampled[one], batch)
        return self._result(rows, batch)

    def _sampled(self, lo: U64) -> Bools:
        if not self.sampling_log2:
            return np.ones(len(lo), np.bool_)
        result: Bools = lo & np.uint64((1 << self.sampling_log2) - 1) == 0
        return result

    def _result(self, rows: JoinRows, batch: _Batch) -> Joined:
        verdict = batch.verdict
        counts = self.counts
        tally = np.bincount(verdict, minlength=len(JoinVerdict))
        counts.duplicates += int(tally[JoinVerdict.DUPLICATE])
        counts.late += int(tally[JoinVerdict.LATE])
        counts.conflicts += int(tally[JoinVerdict.CONFLICT])
        counts.collisions += int(tally[JoinVerdict.COLLISION])
        counts.unsampled += int(tally[JoinVerdict.UNSAMPLED])
        pairs = _concatenated(batch.pairs, (np.int64, np.int64, np.float64, np.int64, np.uint64))
        order = np.argsort(pairs[0], kind="stable")
        counts.joined += len(order)
        agreed = _concatenated(batch.agreements, (np.int64, np.int64, np.int64))
        by_row = np.argsort(agreed[0], kind="stable")
        return Joined(
            verdict,
            batch.slot,
            Pairs(*(column[order] for column in pairs)),
            Agreements(*(column[by_row] for column in agreed)),
        )

    def _round(self, rows: JoinRows, row: I64, cell: I64, sampled: Bools, batch: _Batch) -> None:
        """Rows of distinct requests; what one leaves behind the others do not see."""
        self._run_out_of_patience(rows, row, cell)
        value = self.index.value[cell]
        held = np.flatnonzero(value >= 0)
        foreign = held[self.slots.column["hi"][value[held]] != rows.hi[row[held]]]
        if len(foreign):
            batch.verdict[row[foreign]] = JoinVerdict.COLLISION
            mine = np.ones(len(row), np.bool_)
            mine[foreign] = False
            row, cell, sampled, value = row[mine], cell[mine], sampled[mine], value[mine]
        outcome = rows.kind[row] == RowKind.OUTCOME
        if outcome.any():
            self._outcomes(rows, row[outcome], cell[outcome], batch)
            answer = ~outcome
            row, cell, sampled, value = row[answer], cell[answer], sampled[answer], value[answer]
        if len(row):
            self._answers(rows, row, cell, sampled & rows.waits[row], batch)

    def _run_out_of_patience(self, rows: JoinRows, row: I64, cell: I64) -> None:
        """Entries that expired before these rows came, whether or not memory was swept since."""
        value = self.index.value[cell]
        held = np.flatnonzero(value >= 0)
        if not len(held):
            return
        column = self.slots.column
        slot, at = value[held].astype(np.int64), row[held]
        age = rows.clock[at] - column["time"][slot]
        state = column["state"][slot]
        answered = (state & ANSWER != 0) & (age >= rows.within[at])
        self._expire_answers(slot[answered], cell[held[answered]])
        early = (state & OUTCOME != 0) & (age >= rows.early[at])
        self._expire_outcomes(slot[early], cell[held[early]])
        mark = (state & (ANSWER | OUTCOME) == 0) & (age >= rows.within[at])
        self._expire_marks(slot[mark], cell[held[mark]])

    # -- answers -----------------------------------------------------------------------------------------

    def _answers(self, rows: JoinRows, row: I64, cell: I64, waits: Bools, batch: _Batch) -> None:
        column = self.slots.column
        value = self.index.value[cell]
        open_, closed = value >= 0, value < EMPTY
        slot = np.where(open_, value, 0).astype(np.int64)
        variant = rows.payload["variant"][row]
        served = rows.kind[row] == RowKind.SERVED
        answered = open_ & (column["state"][slot] & ANSWER != 0)
        repeated = (answered & (column["variant"][slot] == variant)) | (served & closed)
        first = served & ~closed & ~answered
        # The same variant may have answered before without being served.
        marked = np.flatnonzero(first & open_ & (column["lanes"][slot] & _bit(variant) != 0))
        if len(marked):
            keys = shadow_keys(rows.lo[row[marked]], variant[marked])
            repeated[marked[self.index.look_up(keys) != EMPTY]] = True
        batch.verdict[row[repeated]] = JoinVerdict.DUPLICATE
        first &= ~repeated
        other = ~first & ~repeated
        if first.any():
            self._served(rows, row[first], cell[first], waits[first], batch)
        if other.any():
            self._unserved(rows, row[other], cell[other], waits[other], batch)

    def _served(self, rows: JoinRows, row: I64, cell: I64, waits: Bools, batch: _Batch) -> None:
        """Answers under their request's own key, where no answer is yet."""
        column, index = self.slots.column, self.index
        fresh = index.value[cell] < 0
        self._open(rows, row[fresh & waits], cell[fresh & waits])
        lost = fresh & ~waits
        self._close(cell[lost], rows.lo[row[lost]], np.full(int(lost.sum()), NO_OUTCOME))
        kept = ~lost
        row, cell, waits = row[kept], cell[kept], waits[kept]
        slot = index.value[cell].astype(np.int64)
        batch.slot[row] = slot
        early = column["state"][slot] & OUTCOME != 0
        actual, outcome_time = column["value"][slot], column["time"][slot]
        for name in PAYLOAD:
            column[name][slot] = rows.payload[name][row]
        column["state"][slot] |= ANSWER
        self.waiting += int(np.count_nonzero(~early))
        self._touched.append(slot)
        self._agree_with_others(rows, row, slot, batch)
        if early.any():
            batch.pairs.append((row[early], slot[early], actual[early], outcome_time[early], rows.lo[row[early]]))
            self._close(cell[early], rows.lo[row[early]], _tag(actual[early]))
            self.slots.retire(slot[early])
        gone = ~waits & ~early
        if gone.any():
            # It shares the request's entry with other answers, but nothing can score it.
            self._close(cell[gone], rows.lo[row[gone]], np.full(int(gone.sum()), NO_OUTCOME))
            self.waiting -= int(gone.sum())
            self.slots.retire(slot[gone])

    def _unserved(self, rows: JoinRows, row: I64, cell: I64, waits: Bools, batch: _Batch) -> None:
        """Answers beside the served one, each under a key of its own."""
        column, index = self.slots.column, self.index
        variant = rows.payload["variant"][row]
        keys = shadow_keys(rows.lo[row], variant)
        lane = index.find_or_add(keys)
        repeated = index.value[lane] != EMPTY
        batch.verdict[row[repeated]] = JoinVerdict.DUPLICATE
        kept = ~repeated
        row, cell, waits, lane, keys, variant = (x[kept] for x in (row, cell, waits, lane, keys, variant))
        if not len(row):
            return
        over = index.value[cell] < EMPTY  # the request's pair is closed
        gone = over | ~waits
        self._close(lane[gone], keys[gone], np.full(int(gone.sum()), NO_OUTCOME))
        main = self._mark_lanes(rows, row[~over], cell[~over], variant[~over])
        stays = ~gone
        if not stays.any():
            return
        row, lane, keys = row[stays], lane[stays], keys[stays]
        main = main[waits[~over]]
        slot = self.slots.take(len(row))
        column = self.slots.column
        index.value[lane] = slot
        batch.slot[row] = slot
        column["lo"][slot], column["hi"][slot], column["state"][slot] = keys, rows.hi[row], ANSWER | UNSERVED
        for name in PAYLOAD:
            column[name][slot] = rows.payload[name][row]
        self._touched.append(slot)
        self.waiting += len(row)
        served = column["state"][main] & ANSWER != 0
        if served.any():
            batch.agreements.append((row[served], main[served], slot[served]))
        early = column["state"][main] & OUTCOME != 0
        if early.any():
            self._pair_unserved(rows, row[early], main[early], slot[early], lane[early], batch)

    def _mark_lanes(self, rows: JoinRows, row: I64, cell: I64, variant: NDArray[np.uint16]) -> I64:
        """Slots of the requests' own entries, made where missing, that now know of these variants' answers."""
        for v in np.unique(variant).tolist():
            known = self._lane_variants.setdefault(v % 64, [])
            if v not in known:
                known.append(v)
        fresh = self.index.value[cell] < 0
        self._open(rows, row[fresh], cell[fresh])
        slot = self.index.value[cell].astype(np.int64)
        column = self.slots.column
        for name in PAYLOAD:
            column[name][slot[fresh]] = 0
        # Time and variant of an entry that is only a mark: what its patience is counted by.
        mark = column["state"][slot] & (ANSWER | OUTCOME) == 0
        column["time"][slot[mark]] = np.maximum(column["time"][slot[mark]], rows.payload["time"][row[mark]])
        column["variant"][slot[mark]] = variant[mark]
        column["lanes"][slot] |= _bit(variant)
        self._touched.append(slot)
        return slot

    def _open(self, rows: JoinRows, row: I64, cell: I64) -> None:
        slot = self.slots.take(len(row))
        column = self.slots.column
        column["lo"][slot], column["hi"][slot] = rows.lo[row], rows.hi[row]
        self.index.value[cell] = slot

    def _agree_with_others(self, rows: JoinRows, row: I64, slot: I64, batch: _Batch) -> None:
        for at, other, _ in self._lanes_of(rows, row, slot):
            batch.agreements.append((row[at], slot[at], other))

    def _pair_unserved(self, rows: JoinRows, row: I64, main: I64, slot: I64, lane: I64, batch: _Batch) -> None:
        """Answers whose outcome already waits for the served one."""
        column = self.slots.column
        actual = column["value"][main]
        batch.pairs.append((row, slot, actual, column["time"][main], rows.lo[row]))
        column["state"][main] |= MATCHED
        self._close(lane, column["lo"][slot], _tag(actual))
        self.waiting -= len(slot)
        self.slots.retire(slot)

    # -- outcomes ----------------------------------------------------------------------------------------

    def _outcomes(self, rows: JoinRows, row: I64, cell: I64, batch: _Batch) -> None:
        column, index = self.slots.column, self.index
        actual = rows.payload["value"][row]
        value = index.value[cell]
        self._after_the_end(rows, row, cell, value < EMPTY, batch)
        open_ = value >= 0
        slot = np.where(open_, value, 0).astype(np.int64)
        state = np.where(open_, column["state"][slot], 0)
        waiting = state & OUTCOME != 0
        same = waiting & (_bits(column["value"][slot]) == _bits(actual))
        batch.verdict[row[same]] = JoinVerdict.DUPLICATE
        batch.verdict[row[waiting & ~same]] = JoinVerdict.CONFLICT
        answered = state & ANSWER != 0
        marked = np.flatnonzero(open_ & ~waiting)
        met, ran_out = self._join_others(rows, row[marked], slot[marked], actual[marked], batch)
        was_met, was_lost = np.zeros(len(row), np.bool_), np.zeros(len(row), np.bool_)
        was_met[marked[met]] = True
        was_lost[marked[ran_out]] = True
        if answered.any():
            at, its = row[answered], slot[answered]
            batch.pairs.append((at, its, actual[answered], rows.payload["time"][at], rows.lo[at]))
            batch.verdict[at] = JoinVerdict.JOINED
            self._close(cell[answered], rows.lo[at], _tag(actual[answered]))
            self.waiting -= len(its)
            self.slots.retire(its)
        late = open_ & ~answered & ~waiting & was_lost & ~was_met
        if late.any():
            batch.verdict[row[late]] = JoinVerdict.LATE
            self._close(cell[late], rows.lo[row[late]], _late(_tag(actual[late])))
            self.slots.retire(slot[late])
        rest = (value == EMPTY) | (open_ & ~answered & ~waiting & ~late)
        if rest.any():
            self._wait(rows, row[rest], cell[rest], was_met[rest])
            batch.verdict[row[rest]] = np.where(was_met[rest], JoinVerdict.JOINED, JoinVerdict.WAITING)

    def _after_the_end(self, rows: JoinRows, row: I64, cell: I64, closed: Bools, batch: _Batch) -> None:
        """Outcomes of requests that are closed: late, the same again, or another value."""
        if not closed.any():
            return
        row, cell = row[closed], cell[closed]
        note, tag = closed_tag_of(self.index.value[cell]), _tag(rows.payload["value"][row])
        late = note == NO_OUTCOME
        same = np.where(note > NO_OUTCOME, note == _late(tag), note == tag)
        batch.verdict[row] = np.where(
            late, JoinVerdict.LATE, np.where(same, JoinVerdict.DUPLICATE, JoinVerdict.CONFLICT)
        )
        # From now on the request has had its outcome: the next one is a repeat or a conflict.
        self._close(cell[late], rows.lo[row[late]], _late(tag[late]))

    def _wait(self, rows: JoinRows, row: I64, cell: I64, met: Bools) -> None:
        fresh = self.index.value[cell] < 0
        self._open(rows, row[fresh], cell[fresh])
        slot = self.index.value[cell].astype(np.int64)
        column = self.slots.column
        for name in PAYLOAD:
            column[name][slot] = rows.payload[name][row]
        column["state"][slot] = np.where(met, OUTCOME | MATCHED, OUTCOME)
        self._touched.append(slot)

    def _join_others(self, rows: JoinRows, row: I64, slot: I64, actual: F64, batch: _Batch) -> tuple[Bools, Bools]:
        """Join the answers that were not served. -> which requests met one, which had one that ran out."""
        met, ran_out = np.zeros(len(row), np.bool_), np.zeros(len(row), np.bool_)
        column = self.slots.column
        for at, other, cell in self._lanes_of(rows, row, slot):
            over = rows.clock[row[at]] - column["time"][other] >= rows.within[row[at]]
            self._expire_answers(other[over], cell[over])
            ran_out[at[over]] = True
            at, other, cell = at[~over], other[~over], cell[~over]
            met[at] = True
            batch.pairs.append((row[at], other, actual[at], rows.payload["time"][row[at]], rows.lo[row[at]]))
            self._close(cell, column["lo"][other], _tag(actual[at]))
            self.waiting -= len(other)
            self.slots.retire(other)
        return met, ran_out

    def _lanes_of(self, rows: JoinRows, row: I64, slot: I64) -> list[tuple[I64, I64, I64]]:
        """Open answers beside the requests' own: (positions in `row`, slots, cells), a list a variant."""
        lanes = self.slots.column["lanes"][slot]
        found = []
        for bit in np.flatnonzero(np.bitwise_or.reduce(lanes, initial=0) >> np.arange(64, dtype=np.uint64) & 1):
            at = np.flatnonzero(lanes >> np.uint64(bit) & np.uint64(1))
            for variant in self._lane_variants.get(int(bit), ()):
                keys = shadow_keys(rows.lo[row[at]], np.full(len(at), variant))
                cell = self.index.find(keys)
                value = np.where(cell >= 0, self.index.value[cell], EMPTY)
                there = np.flatnonzero(value >= 0)
                other = value[there].astype(np.int64)
                mine = self.slots.column["hi"][other] == rows.hi[row[at[there]]]
                there, other = there[mine], other[mine]
                if len(there):
                    found.append((at[there], other, cell[there]))
        return found

    # -- endings -----------------------------------------------------------------------------------------

    def _close(self, cell: I64, lo: U64, note: I64) -> None:
        """Remember that these keys are done; their slots, if any, are the caller's to give up."""
        if not len(cell):
            return
        generation, keys, clock = self._generations[-1]
        self._generations[-1] = (generation, keys + len(cell), clock)
        self.index.value[cell] = closed_value(generation, note)
        self._closed.append((lo, note.astype(np.uint32)))

    def _empty(self, cell: I64, lo: U64) -> None:
        self.index.value[cell] = EMPTY
        self._closed.append((lo, np.full(len(lo), EMPTIED, np.uint32)))

    def _expire_answers(self, slot: I64, cell: I64) -> None:
        if len(slot):
            self.counts.expired += len(slot)
            self.waiting -= len(slot)
            self._close(cell, self.slots.column["lo"][slot], np.full(len(slot), NO_OUTCOME))
            self.slots.retire(slot)

    def _expire_outcomes(self, slot: I64, cell: I64) -> None:
        """Outcomes that no served answer came for: orphans, unless they met other answers."""
        if not len(slot):
            return
        column = self.slots.column
        lo, met = column["lo"][slot], column["state"][slot] & MATCHED != 0
        marked = ~met & (column["lanes"][slot] != 0)
        self._close(cell[met], lo[met], _tag(column["value"][slot[met]]))
        self._close(cell[marked], lo[marked], np.full(int(marked.sum()), NO_OUTCOME))
        self._empty(cell[~met & ~marked], lo[~met & ~marked])
        self.counts.orphans += int(np.count_nonzero(~met))
        self.slots.retire(slot)

    def _expire_marks(self, slot: I64, cell: I64) -> None:
        """Requests of which only answers beside the served one were seen, all of them too long ago."""
        self._close(cell, self.slots.column["lo"][slot], np.full(len(slot), NO_OUTCOME))
        self.slots.retire(slot)

    def expire(self, clock: int, within: I64, early: I64, *, everything: bool = False) -> None:
        """Give up what waited too long by `clock`; patience in ms by variant.

        Looks at the next sixteenth of memory only, or at all of it. What is found later changes no verdict,
        since rows judge patience by their own clock.
        """
        column = self.slots.column
        size = len(column["state"])
        start, length = (0, size) if everything else (self._expired_to, max(size // _SWEEPS, _SWEEP_AT_LEAST))
        self._expired_to = start + length if start + length < size else 0
        held = start + np.flatnonzero(column["state"][start : start + length] != FREE)
        state, variant = column["state"][held], column["variant"][held]
        age = clock - column["time"][held]
        outcome = state & OUTCOME != 0
        over = np.flatnonzero(age >= np.where(outcome, early[variant], within[variant]))
        if not len(over):
            return
        slot, state = held[over], state[over]
        cell = self.index.find(column["lo"][slot])
        answer, outcome = state & ANSWER != 0, state & OUTCOME != 0
        self._expire_answers(slot[answer], cell[answer])
        self._expire_outcomes(slot[outcome], cell[outcome])
        mark = ~answer & ~outcome
        self._expire_marks(slot[mark], cell[mark])

    def orphan_all(self) -> None:
        """The stream has ended: outcomes that still wait will never meet a prediction."""
        column = self.slots.column
        waiting = np.flatnonzero((column["state"] != FREE) & (column["state"] & OUTCOME != 0))
        self._expire_outcomes(waiting, self.index.find(column["lo"][waiting]))

    # -- bounds ------------------------------------------------------------------------------------------

    def new_generation(self, clock: int) -> None:
        """Keys closed from now on are forgotten together."""
        number = (self._generations[-1][0] + 1) % GENERATIONS if self._generations else 0
        self._generations.append((number, 0, clock))
        self.index.begin(number)

    @property
    def generation(self) -> int:
        """The one in which keys are closed now."""
        return self._generations[-1][0] if self._generations else 0

    @property
    def generation_began(self) -> int:
        """Stream time at which it began."""
        return self._generations[-1][2] if self._generations else 0

    def remembered(self) -> int:
        """Closed keys that are known."""
        return sum(keys for _, keys, _ in self._generations)

    def generations_to_drop(self, clock: int) -> list[int]:
        """Generations beyond the bound on closed keys; begins a new one where the latest is full.

        They are still known until `forget`, which may be called once their deletion is committed.
        """
        self._turn_over(clock)
        excess = self.remembered() - self.seen_bound
        dropped = []
        for number, keys, _ in self._generations:
            if excess <= 0 or number == self.generation:
                break
            dropped.append(number)
            excess -= keys
        return dropped

    def _turn_over(self, clock: int) -> None:
        if self._generations and self._generations[-1][1] >= max(self.seen_bound // _GENERATIONS_HELD, 1):
            self.new_generation(clock)

    def forget(self, generations: list[int]) -> None:
        """Closed keys of these are unknown from now on."""
        for number in generations:
            if not self._generations or self._generations[0][0] != number:
                raise ValueError(f"generation {number} is not the oldest")
            self._generations.popleft()
            self.index.forget(number)
            self.horizon = self._generations[0][2] if self._generations else None

    def outcome_waits(self, requests: U64) -> Bools:
        """Whether an outcome waits for the served answer of each request, given by the low half of its id."""
        value = self.index.look_up(requests)
        result: Bools = (value >= 0) & (self.slots.column["state"][np.maximum(value, 0)] & OUTCOME != 0)
        return result

    def displace(self, variants: Bools, pane: int) -> None:
        """Answers of these variants (a flag by code) that wait belong to another pane from now on."""
        column = self.slots.column
        held = np.flatnonzero((column["state"] != FREE) & (column["state"] & ANSWER != 0))
        moved = held[variants[column["variant"][held]]]
        column["pane"][moved] = pane
        self._touched.append(moved)

    def downsample_pending(self) -> int:
        """Keep a bounded number of waiting answers by halving the sample of requests. -> how many were let go.

        Fair to slow outcomes: letting the oldest go would measure quality on quick ones only.
        """
        let_go = 0
        column = self.slots.column
        while self.waiting > 0.9 * self.pending_bound:
            self.sampling_log2 += 1
            held = np.flatnonzero((column["state"] != FREE) & (column["state"] & (ANSWER | OUTCOME) != 0))
            out = held[~self._sampled(self._request_keys(held))]
            cell = self.index.find(column["lo"][out])
            answer = column["state"][out] & ANSWER != 0
            lost, its = out[answer], cell[answer]
            self._close(its, column["lo"][lost], np.full(len(lost), NO_OUTCOME))
            self.waiting -= len(lost)
            let_go += len(lost)
            # An outcome may yet see its answer come, which then must not look like a repeat.
            self._empty(cell[~answer], column["lo"][out[~answer]])
            self.counts.unsampled += len(out) - len(lost)
            self.slots.retire(out)
        return let_go

    def _request_keys(self, slot: I64) -> U64:
        column = self.slots.column
        keys: U64 = column["lo"][slot].copy()
        beside = column["state"][slot] & UNSERVED != 0
        keys[beside] = shadow_keys(keys[beside], column["variant"][slot[beside]])  # the mark undoes itself
        return keys

    # -- for the log -------------------------------------------------------------------------------------

    def take_changes(self) -> tuple[I64, Closed]:
        """(open slots that are new or changed, keys closed or vacated) since this was last called."""
        touched = np.unique(np.concatenate(self._touched)) if self._touched else np.zeros(0, np.int64)
        opened = touched[self.slots.column["state"][touched] != FREE]
        lo, note = _concatenated(self._closed, (np.uint64, np.uint32))
        self._touched, self._closed = [], []
        return opened, Closed(lo, note)

    def restore(self, columns: Columns, closed: list[tuple[int, int, Closed]], clock: int) -> None:
        """Fill an empty table: columns of what was open, and (generation, its clock, keys) in order."""
        latest: dict[int, int] = {}
        for generation, clock, keys in closed:
            if generation not in latest:
                latest[generation] = len(self._generations)
                self._generations.append((generation, 0, clock))
                self.index.begin(generation)
            at = latest[generation]
            number, count, began = self._generations[at]
            self._generations[at] = (number, count + len(keys.lo), began)
            for start in range(0, len(keys.lo), MOST_AT_ONCE):
                part = slice(start, start + MOST_AT_ONCE)
                self.index.reserve(len(keys.lo[part]))
                cell = self.index.find_or_add(keys.lo[part])
                # Of a key that is in the portion twice, numpy leaves the last one written.
                self.index.value[cell] = closed_value(generation, keys.note[part].astype(np.int64))
        self._turn_over(clock)
        for start in range(0, len(columns["lo"]), MOST_AT_ONCE):
            part = slice(start, start + MOST_AT_ONCE)
            lo = columns["lo"][part]
            self.index.reserve(len(lo))
            cell = self.index.find_or_add(lo)
            slot = self.slots.take(len(lo))
            for name, column in columns.items():
                self.slots.column[name][slot] = column[part]
            self.index.value[cell] = slot
        state = columns["state"]
        self.waiting = int(np.count_nonzero(state & ANSWER))
        for variant in np.unique(columns["variant"][state & UNSERVED != 0]).tolist():
            self._lane_variants.setdefault(variant % 64, []).append(variant)


def _bit(variant: NDArray[np.uint16]) -> U64:
    return np.uint64(1) << (variant.astype(np.uint64) & np.uint64(63))


def _bits(values: F64) -> U64:
    # Adding zero makes one zero of two.
    return (values + 0.0).view(np.uint64)


def _tag(actual: F64) -> I64:
    """16 bits that tell actual values apart."""
    mixed: U64 = _bits(actual) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(48)).astype(np.int64)


def _late(tag: I64) -> I64:
    """The note of a key whose outcome was late; what it was is told apart a little less well."""
    return NO_OUTCOME | np.maximum(tag, 1)


def _concatenated(parts: Sequence[tuple[Any, ...]], kinds: tuple[type[np.generic], ...]) -> list[NDArray[Any]]:
    if not parts:
        return [np.zeros(0, kind) for kind in kinds]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
