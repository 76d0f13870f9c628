"""Paths of one model: its features and its answers, pane by pane, from one family."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import special

from detectors.reference import Profile
from detectors.types import BoolArray, FloatArray
from monitor.spec import Task
from tests.simulation.families import Family, path_of
from tests.simulation.monitored import PANE, Answers, profile_of

ANSWERS: Final = 3  # columns of scores behind answers: error, latency, failure
_ACCURACY: Final = float(special.ndtri(0.9))  # scores below are right answers
_FAILURE: Final = float(special.ndtri(0.999))  # scores above are failed answers


class Path:
    """One path: rows of the reference, then live ones. It goes on for as long as it was made for.

    Args:
        family: How rows depend on each other, and the law of features.
        features: How many.
        task: What answers are; None without answers.
        rows: Rows of the reference.
        panes: Panes that come after.
        rng: Where everything comes from.
    """

    def __init__(
        self, family: Family, features: int, task: Task | None, rows: int, panes: int, rng: np.random.Generator
    ) -> None:
        self.family, self._task, self._rows = family, task, rows
        total = rows + panes * PANE
        scores = path_of(family, total, features + (0 if task is None else ANSWERS), rng)
        self.values = family.marginal.values(scores[:, :features])
        self._behind = scores[:, features:]
        self._truth = rng.standard_normal(total)

    def profile(self, points: int) -> Profile:
        """Return the profile of the features in the reference."""
        return profile_of(self.values[: self._rows], self.family.marginal, points)

    def features(self, pane: int) -> FloatArray:
        """Return the features of a live pane, shape (events, features)."""
        return self.values[self._live(pane)]

    def answers(self, pane: int, right_below: float = _ACCURACY) -> Answers:
        """Return the answers of a pane; those before pane 0 are beside the reference.

        Args:
            pane: Number of the live pane.
            right_below: Score below which a label is right.
        """
        rows = self._live(pane)
        error, latency, failure = self._behind[rows].T
        return answers_of(
            self._task, self._truth[rows], error, np.exp(3 + 0.5 * latency), failure > _FAILURE, right_below
        )

    def _live(self, pane: int) -> slice:
        start = self._rows + pane * PANE
        return slice(start, start + PANE)


def answers_of(
    task: Task | None, truth: FloatArray, error: FloatArray, latency: FloatArray, failed: BoolArray, right_below: float
) -> Answers:
    """Return answers to `truth` (scores) that are wrong as `error` says."""
    if task is Task.BINARY:
        actual = (truth > 0).astype(np.float64)
        predicted = np.where(error < right_below, actual, 1 - actual)
    else:
        actual = 10 * truth
        predicted = actual + error
    return Answers(np.where(failed, np.nan, predicted), actual, latency, failed)
