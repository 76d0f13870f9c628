"""Predictions that met their outcomes, and answers compared with served ones: values for whoever subscribes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detectors.types import BoolArray, FloatArray, IntArray

UserMetrics = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """Predictions of one model with their outcomes, in the order in which the pairs were completed.

    Attributes:
        position: Row of the batch that completed the pair.
        variant: Code of the version that answered.
        pane: Outcome pane of the prediction.
        predicted, score, actual: As in `Predictions.value` and `Predictions.score`.
        time: Event time of the outcome, ms.
        delay: From prediction to outcome, seconds.
        metrics: The user's own metrics that came with the outcome.
    """

    position: IntArray
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
            self.position[rows], self.variant[rows], self.pane[rows], self.predicted[rows], self.score[rows],
            self.actual[rows], self.time[rows], self.delay[rows], [self.metrics[i] for i in rows.tolist()],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ShadowComparisons:
    """Answers that were not served, compared with the served one of their request, in order."""

    position: IntArray
    variant: IntArray  # of the answer that was not served
    pane: IntArray
    agreed: BoolArray
