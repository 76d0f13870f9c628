"""Define what comes out of the join: verdicts, pairs and comparisons, counts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.join.arrays import Keys, Milliseconds, PaneNumbers, RowIndices, SlotIndices, Values


class JoinVerdict(IntEnum):
    """What became of a row of a batch."""

    ACCEPTED = 0  # an answer that counts
    DUPLICATE = 1
    JOINED = 2  # an outcome that was paired with an answer
    WAITING = 3  # an outcome before its answer
    LATE = 4  # an outcome after its answer expired
    CONFLICT = 5  # another actual value for the same request
    COLLISION = 6  # two requests share 64 bits of hash
    UNSAMPLED = 7  # an outcome of a request that the bound on waiting answers left out
    ORPHAN = 8  # an outcome that is too early for its answer, which was processed first


@dataclass(frozen=True, slots=True)
class PairSlots:
    """Answers that were paired with their outcome, by slot; `JoinTable.pairs_of` reads their values.

    `row` is the row that completed the pair. Ordered by it. `effective_time` is that of the outcome.
    """

    row: RowIndices
    slot: SlotIndices
    actual: Values
    outcome_time: Milliseconds
    effective_time: Milliseconds
    request: Keys


@dataclass(frozen=True, slots=True)
class MetOutcomes:
    """Outcomes that meet answers: what they say, their event times and their effective times."""

    value: Values
    time: Milliseconds
    effective_time: Milliseconds

    def take(self, chosen: NDArray[Any]) -> MetOutcomes:
        """Select by a mask or by positions."""
        return MetOutcomes(self.value[chosen], self.time[chosen], self.effective_time[chosen])


@dataclass(frozen=True, slots=True)
class ComparedSlots:
    """Two answers to one request, by slot, at the row that brought the second; see `JoinTable.comparisons_of`."""

    row: RowIndices
    served_slot: SlotIndices
    other_slot: SlotIndices


@dataclass(frozen=True, slots=True)
class Joined:
    """What a batch came to. Slots are handles for the join alone, valid until its next commit.

    Attributes:
        verdict: `JoinVerdict` of each row, uint8.
        slot: Handle of each accepted answer, for `JoinTable.assign_panes`; -1 where it does not wait.
        pairs: For `JoinTable.pairs_of`.
        compared: For `JoinTable.comparisons_of`.
    """

    verdict: NDArray[np.uint8]
    slot: SlotIndices
    pairs: PairSlots
    compared: ComparedSlots

    def spread(self, rows: RowIndices, count: int) -> Joined:
        """Number the rows as in a larger batch, of which only some were joined.

        Args:
            rows: Number of each joined row in the larger batch, increasing.
            count: Rows of the larger batch. Those that were not joined are ACCEPTED and have no slot.

        Returns:
            The same results by rows of the larger batch.
        """
        verdict = np.full(count, JoinVerdict.ACCEPTED, np.uint8)
        verdict[rows] = self.verdict
        slot = np.full(count, -1, np.int64)
        slot[rows] = self.slot
        p, c = self.pairs, self.compared
        pairs = replace(p, row=rows[p.row])
        return Joined(verdict, slot, pairs, ComparedSlots(rows[c.row], c.served_slot, c.other_slot))


@dataclass(frozen=True, slots=True)
class JoinedPairs:
    """Answers that were paired with their outcome, in the order in which that happened.

    Attributes:
        row: Row of the batch that completed the pair.
        request: Key of the request.
        hi: High half of the hash of its id.
        variant: Variant code of the answer, int64.
        pane: Outcome pane of the answer.
        predicted: Number or label code that was predicted.
        score: Score of the answer, NaN where it has none.
        time: Event time of the answer, ms.
        actual: Number or label code of the outcome.
        outcome_time: Event time of the outcome, ms.
        pair_time: The later of the answer's event time and the outcome's effective time, ms.
    """

    row: RowIndices
    request: Keys
    hi: Keys
    variant: NDArray[np.int64]
    pane: PaneNumbers
    predicted: Values
    score: Values
    time: Milliseconds
    actual: Values
    outcome_time: Milliseconds
    pair_time: Milliseconds


@dataclass(frozen=True, slots=True)
class ComparedAnswers:
    """Answers that were not served, each with the served one, in the order in which the second of the two came.

    Attributes:
        row: Row of the batch that brought the second answer.
        request: Key of the request.
        hi: High half of the hash of its id.
        pair_time: The later of the event times of the two answers, ms.
        variant: Variant code of the answer that was not served, int64.
        pane: Its outcome pane.
        other_value: What it predicted.
        served_variant: Variant code of the served answer, int64.
        served_value: What the served answer predicted.
    """

    row: RowIndices
    request: Keys
    hi: Keys
    pair_time: Milliseconds
    variant: NDArray[np.int64]
    pane: PaneNumbers
    other_value: Values
    served_variant: NDArray[np.int64]
    served_value: Values

    def take(self, rows: RowIndices) -> ComparedAnswers:
        """Return these rows."""
        return ComparedAnswers(*(getattr(self, column.name)[rows] for column in fields(self)))


@dataclass(slots=True)
class JoinCounts:
    """Cumulative. `joined` and `expired` count answers, the others events."""

    joined: int = 0
    duplicates: int = 0
    conflicts: int = 0
    orphans: int = 0
    late: int = 0
    expired: int = 0
    collisions: int = 0
    unsampled: int = 0

    def add_verdicts(self, verdict: NDArray[np.uint8]) -> None:
        """Count what the verdicts of a batch say; what happens to events of earlier rows is counted where it does."""
        n = np.bincount(verdict, minlength=len(JoinVerdict)).tolist()
        self.duplicates += n[JoinVerdict.DUPLICATE]
        self.late += n[JoinVerdict.LATE]
        self.conflicts += n[JoinVerdict.CONFLICT]
        self.collisions += n[JoinVerdict.COLLISION]
        self.unsampled += n[JoinVerdict.UNSAMPLED]
        self.orphans += n[JoinVerdict.ORPHAN]

    def restore(self, counts: JoinCounts) -> None:
        """Go on from stored counts."""
        for count in fields(self):
            setattr(self, count.name, getattr(counts, count.name))


class JoinState(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of the join apart from its log of entries.

    Attributes:
        sampling: `RequestSample.log2`.
        horizon: Keys closed before this stream time (ms) may be forgotten; None while none were.
        counts: Since the store was made.
    """

    sampling: int
    horizon: int | None
    counts: JoinCounts


class BatchResults:
    """Gather the results of the rounds of one batch."""

    def __init__(self, count: int) -> None:
        """Start with `count` rows that are accepted and have no slot."""
        self.verdict: NDArray[np.uint8] = np.full(count, JoinVerdict.ACCEPTED, np.uint8)
        self.slot: SlotIndices = np.full(count, -1, np.int64)
        self._pairs: list[tuple[RowIndices, SlotIndices, Values, Milliseconds, Milliseconds, Keys]] = []
        self._compared: list[tuple[RowIndices, SlotIndices, SlotIndices]] = []

    def add_pairs(self, row: RowIndices, slot: SlotIndices, outcomes: MetOutcomes, request: Keys) -> None:
        """Add answers that were paired with their outcome, one an element of each array."""
        self._pairs.append((row, slot, outcomes.value, outcomes.time, outcomes.effective_time, request))

    def add_compared(self, row: RowIndices, served_slot: SlotIndices, other_slot: SlotIndices) -> None:
        """Add pairs of a served answer and another one to the same request, at the row of the second."""
        self._compared.append((row, served_slot, other_slot))

    def joined(self) -> Joined:
        """Put the results in the order of the batch."""
        pairs = _concatenated(self._pairs, (np.int64, np.int64, np.float64, np.int64, np.int64, np.uint64))
        order = np.argsort(pairs[0], kind="stable")
        compared = _concatenated(self._compared, (np.int64, np.int64, np.int64))
        by_row = np.argsort(compared[0], kind="stable")
        return Joined(
            self.verdict,
            self.slot,
            PairSlots(*(column[order] for column in pairs)),
            ComparedSlots(*(column[by_row] for column in compared)),
        )


def _concatenated(parts: Sequence[tuple[Any, ...]], kinds: tuple[type[np.generic], ...]) -> list[NDArray[Any]]:
    if not parts:
        return [np.zeros(0, kind) for kind in kinds]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def exact_scores(score: NDArray[np.float32]) -> Values:
    """Turn scores that waited as 32-bit floats back into the decimals they were.

    0.7 is 0.7 again, and not 0.69999999, in another bin of calibration.
    """
    exact = score.astype(np.float64)
    rounded = np.round(exact, 7)
    result: Values = np.where(rounded.astype(np.float32) == score, rounded, exact)
    return result
