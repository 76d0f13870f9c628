"""Keep what is known of requests that end, until the commit that stores it: for `driftd inspect`.

Answers that end stay readable in their slots until that commit, so a batch notes slots only, and the columns are read
once a commit. No features are among them. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from monitor.join.arrays import Columns, Keys, Milliseconds, RowIndices, SlotIndices, Values, VariantCodes
from monitor.join.results import MetOutcomes


class Ending(IntEnum):
    """How an answer, or an outcome that met none, has ended. The numbers are stored."""

    JOINED = 0
    EXPIRED = 1  # an answer without an outcome
    LATE = 2  # an answer, with the outcome that came too late for it
    ORPHANED = 3  # an outcome without an answer
    OVERDUE = 4  # an outcome that came when its answer had ended already


HAS_ANSWER: Final = (Ending.JOINED, Ending.EXPIRED, Ending.LATE)
HAS_OUTCOME: Final = (Ending.JOINED, Ending.LATE, Ending.ORPHANED, Ending.OVERDUE)


@dataclass(frozen=True, slots=True)
class EndedRequests:
    """Answers and outcomes that have ended, in the order in which that was noted; one an element of each column.

    Attributes:
        key: Key of the request; of an answer that was not served its own, as of `shadow_keys`; uint64.
        ending: `Ending`, uint8.
        variant: Variant code of the answer, or of the outcome's model, uint16.
        served_by: Index of the tier that served the answer, uint8.
        pane: Outcome pane of the answer, uint32.
        predicted: Number or label code, float64; of an outcome alone NaN.
        score: Score of the answer, float32; NaN where it has none.
        time: Event time of the answer, ms, int64; of an outcome alone its own.
        actual: Number or label code, float64; of an answer alone NaN.
        outcome_time: Event time of the outcome, ms, int64; of an answer alone its own.
    """

    key: Keys
    ending: NDArray[np.uint8]
    variant: NDArray[np.uint16]
    served_by: NDArray[np.uint8]
    pane: NDArray[np.uint32]
    predicted: Values
    score: NDArray[np.float32]
    time: Milliseconds
    actual: Values
    outcome_time: Milliseconds

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: slice | RowIndices) -> EndedRequests:
        """Return these rows."""
        return EndedRequests(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})

    @classmethod
    def concatenated(cls, parts: Sequence[EndedRequests]) -> EndedRequests:
        """Return the rows of all parts, one after the other."""
        every = parts or [cls.none()]
        return cls(**{c.name: np.concatenate([getattr(part, c.name) for part in every]) for c in fields(cls)})

    @classmethod
    def none(cls) -> EndedRequests:
        """Return no rows."""
        number, time = np.zeros(0, np.float64), np.zeros(0, np.int64)
        byte, score = np.zeros(0, np.uint8), np.zeros(0, np.float32)
        variant, pane = np.zeros(0, np.uint16), np.zeros(0, np.uint32)
        return cls(np.zeros(0, np.uint64), byte, variant, byte, pane, number, score, time, number, time)


class EndedLog:
    """Note what ends, where it is wanted at all."""

    def __init__(self, *, wanted: bool) -> None:
        """Note nothing unless `wanted`."""
        self._wanted = wanted
        self._answers: list[tuple[SlotIndices, Values, Milliseconds, Ending]] = []
        self._outcomes: list[tuple[Keys, VariantCodes, Values, Milliseconds, Ending]] = []

    def add_answers(self, slot: SlotIndices, actual: Values, outcome_time: Milliseconds, ending: Ending) -> None:
        """Note answers that ended with an outcome; their slots are retired by the next commit."""
        if self._wanted and len(slot):
            self._answers.append((slot, actual, outcome_time, ending))

    def add_expired(self, slot: SlotIndices, time: Milliseconds) -> None:
        """Note answers, of these event times, that no outcome came for; see `add_answers`."""
        if self._wanted and len(slot):
            self._answers.append((slot, np.full(len(slot), np.nan), time, Ending.EXPIRED))

    def add_outcomes(self, keys: Keys, variant: VariantCodes, outcomes: MetOutcomes, ending: Ending) -> None:
        """Note outcomes that met no answer: keys of their requests, and a variant of each one's model."""
        if self._wanted and len(keys):
            self._outcomes.append((keys, variant, outcomes.value, outcomes.time, ending))

    def drain(self, column: Columns) -> EndedRequests:
        """Take what was noted since the last call. Only a commit may, before it releases slots.

        Args:
            column: Columns of `Slots`.
        """
        answers, self._answers = self._answers, []
        outcomes, self._outcomes = self._outcomes, []
        parts = []
        if answers:
            slot = np.concatenate([part[0] for part in answers])
            parts.append(
                EndedRequests(
                    key=column["lo"][slot],
                    ending=_endings(answers),
                    variant=column["variant"][slot],
                    served_by=column["served_by"][slot],
                    pane=column["pane"][slot],
                    predicted=column["value"][slot],
                    score=column["score"][slot],
                    time=column["time"][slot],
                    actual=np.concatenate([part[1] for part in answers]),
                    outcome_time=np.concatenate([part[2] for part in answers]),
                )
            )
        if outcomes:
            keys, time = np.concatenate([part[0] for part in outcomes]), np.concatenate([p[3] for p in outcomes])
            missing = np.full(len(keys), np.nan)
            parts.append(
                EndedRequests(
                    key=keys,
                    ending=_endings(outcomes),
                    variant=np.concatenate([part[1] for part in outcomes]).astype(np.uint16),
                    served_by=np.zeros(len(keys), np.uint8),
                    pane=np.zeros(len(keys), np.uint32),
                    predicted=missing,
                    score=missing.astype(np.float32),
                    time=time,
                    actual=np.concatenate([part[2] for part in outcomes]),
                    outcome_time=time,
                )
            )
        return EndedRequests.concatenated(parts)


def _endings(parts: Sequence[tuple[Any, ...]]) -> NDArray[np.uint8]:
    """Repeat the ending of each part, its last element, for its rows."""
    return np.repeat(np.array([part[-1] for part in parts], np.uint8), [len(part[0]) for part in parts])
