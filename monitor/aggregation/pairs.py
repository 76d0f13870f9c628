"""Predictions that met their outcomes, and answers compared with served ones: values for whoever subscribes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from detectors.types import BoolArray, FloatArray, IntArray

UserMetrics = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """Predictions of one model with their outcomes, in the order in which they are counted.

    Attributes:
        position: Row of the batch that completed the pair.
        request, hi: Low and high half of the hash of the request's id.
        pair_time: The later of the prediction's event time and the outcome's effective time, ms.
        variant: Code of the version that answered.
        pane: Outcome pane of the prediction.
        predicted, score, actual: As in `Predictions.value` and `Predictions.score`.
        time: Event time of the outcome, ms.
        delay: From prediction to outcome, seconds.
        metrics: The user's own metrics that came with the outcome.
    """

    position: IntArray
    request: NDArray[np.uint64]
    hi: NDArray[np.uint64]
    pair_time: IntArray
    variant: IntArray
    pane: IntArray
    predicted: FloatArray
    score: FloatArray
    actual: FloatArray
    time: IntArray
    delay: FloatArray
    metrics: Sequence[UserMetrics | None]

    def __len__(self) -> int:
        return len(self.position)

    def take(self, rows: IntArray) -> MatchedPairs:
        """Return these rows."""
        return MatchedPairs(
            self.position[rows], self.request[rows], self.hi[rows], self.pair_time[rows], self.variant[rows],
            self.pane[rows], self.predicted[rows], self.score[rows], self.actual[rows], self.time[rows],
            self.delay[rows], [self.metrics[i] for i in rows.tolist()],
        )  # fmt: skip

    @classmethod
    def concatenated(cls, parts: Sequence[MatchedPairs]) -> MatchedPairs:
        """Return the rows of all parts, one after the other; at least one part is needed."""
        if len(parts) == 1:
            return parts[0]
        names = [name for name in cls.__slots__ if name != "metrics"]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**arrays, metrics=list(chain.from_iterable(part.metrics for part in parts)))


@dataclass(frozen=True, slots=True)
class ShadowComparisons:
    """Answers that were not served, compared with the served one of their request, in order.

    Attributes:
        position: Row of the batch that brought the second answer.
        request, hi: Low and high half of the hash of the request's id.
        pair_time: The later of the event times of the two answers, ms.
        variant: Code of the version whose answer was not served.
        pane: Outcome pane of its answer.
        agreed: Whether the two answers agree.
    """

    position: IntArray
    request: NDArray[np.uint64]
    hi: NDArray[np.uint64]
    pair_time: IntArray
    variant: IntArray
    pane: IntArray
    agreed: BoolArray

    def __len__(self) -> int:
        return len(self.position)

    def take(self, rows: IntArray) -> ShadowComparisons:
        """Return these rows."""
        return ShadowComparisons(
            self.position[rows], self.request[rows], self.hi[rows], self.pair_time[rows], self.variant[rows],
            self.pane[rows], self.agreed[rows],
        )  # fmt: skip

    @classmethod
    def concatenated(cls, parts: Sequence[ShadowComparisons]) -> ShadowComparisons:
        """Return the rows of all parts, one after the other; at least one part is needed."""
        if len(parts) == 1:
            return parts[0]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__})
