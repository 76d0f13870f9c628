"""References learned by whole panes, for models with time windows.

What is learned, and what is compared in each pane, depends on the predictions alone (`pane_rows`). A reference is in
force from the first pane after the one that completed it; predictions of such panes that came before it was known are
kept, and counted then. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from detectors.reference import Profile
from detectors.saved import unpack
from detectors.season import Season
from detectors.types import FloatArray, IntArray
from monitor.events.readings import Readings
from monitor.reference.freezing import AnswerRecipe, FeatureRecipe, request
from monitor.reference.learning import MAGIC, MOST_NAMES, AnswerLearner, FeatureLearner
from monitor.reference.pane_rows import (
    HASH,
    RAW,
    SCORE,
    TIME,
    VALUE,
    VARIANT,
    Hashes,
    PaneRows,
    Rows,
    most_rows,
    packed_rows,
    unpacked_rows,
)
from monitor.spec import BASELINE_N, FeatureKind, ModelSpec

LabelsOf = Callable[[set[int]], Mapping[int, str] | None]  # texts of label codes; None where there are none


_BYTES: Final = 16  # of a feature in JSON, with its name


def by_panes(bodies: Sequence[bytes]) -> bool:
    """Tell whether stored rows were all gathered to be learned by whole panes.

    0.1.0 learned from the first rows, in the order in which they came; what it began is finished like that.
    """
    return all(HASH in unpack(MAGIC, body)[1] for body in bodies)


class PaneFeatureLearner:
    """Gathers the features of a model's predictions until whole panes hold `wanted` of them."""

    def __init__(
        self,
        wanted: int,
        most: int,
        points: int,
        kinds: Mapping[str, FeatureKind],
        names: int = MOST_NAMES,
        season: Season | None = None,
    ) -> None:
        self.rows = PaneRows(wanted, most)
        self._recipe = FeatureRecipe(kinds, points, names, season)

    @property
    def values(self) -> int:
        """Values gathered, about."""
        return self.rows.bytes(RAW) // _BYTES

    def add(self, raws: Sequence[bytes], time: IntArray, hashes: Hashes, variant: IntArray) -> None:
        """Take undecoded features in, with time in ms, hash and version of their predictions."""
        useful = np.flatnonzero(self.rows.useful(time, hashes))
        raw = np.empty(len(useful), np.object_)
        raw[:] = [bytes(raws[i]) for i in useful.tolist()]
        self.rows.add({TIME: time[useful], HASH: hashes[useful], VARIANT: variant[useful], RAW: raw})

    def freezing(self, end: int, labels: LabelsOf) -> Callable[[], bytes]:
        """Return what makes the request to `freeze` the profile of panes up to `end` ms; it may be called later."""
        rows, recipe = self.rows.until(end), self._recipe
        return lambda: request(recipe, rows())

    def finish(self, end: int, frozen: Profile | None = None) -> tuple[Profile, Rows]:
        """Return the profile of panes up to `end` ms, then the rows of later panes.

        Args:
            end: End of the last pane to learn from, ms.
            frozen: The profile, where it was made already.
        """
        profile = self._recipe.freeze(self.rows.until(end)()) if frozen is None else frozen
        return profile, self.rows.later(end)

    def drain_fresh(self) -> bytes | None:
        """Return what was gathered since this was last called, for the database."""
        rows = self.rows.settle()
        return None if rows is None else packed_rows(rows)

    def restore(self, bodies: Sequence[bytes]) -> None:
        """Take back what `drain_fresh` gave."""
        self.rows.restore([unpacked_rows(body) for body in bodies])


class PaneAnswerLearner:
    """Gathers predictions and scores of one version until whole panes hold `wanted` of them."""

    def __init__(
        self,
        wanted: int,
        most: int,
        points: int,
        readings: Readings = Readings(),  # noqa: B008 - immutable
        season: Season | None = None,
    ) -> None:
        self.rows = PaneRows(wanted, most)
        self._points, self._readings, self._season = points, readings, season

    @property
    def missing(self) -> int:
        """Predictions still needed."""
        return self.rows.missing

    @property
    def values(self) -> int:
        """Values gathered, about."""
        return self.rows.held * 2

    def add(self, values: FloatArray, scores: FloatArray, time: IntArray, hashes: Hashes, variant: IntArray) -> None:
        """Take numbers or label codes in, and scores, with time in ms, hash and version."""
        useful = np.flatnonzero(self.rows.useful(time, hashes))
        columns = {TIME: time, HASH: hashes, VARIANT: variant, VALUE: values, SCORE: scores}
        self.rows.add({name: column[useful] for name, column in columns.items()})

    def freezing(self, end: int, labels: LabelsOf) -> Callable[[], bytes]:
        """Return what makes the request to `freeze` the profile of panes up to `end` ms; it may be called later.

        Args:
            end: End of the last pane to learn from, ms.
            labels: Returns the texts of label codes, None where predictions are numbers.
        """
        rows, recipe = self.rows.until(end), self._recipe(labels)
        return lambda: request(recipe, rows())

    def finish(self, end: int, labels: LabelsOf, frozen: Profile | None = None) -> tuple[Profile, Rows]:
        """Return the profile of panes up to `end` ms, then the rows of later panes.

        Args:
            end: End of the last pane to learn from, ms.
            labels: As of `freezing`.
            frozen: The profile, where it was made already.
        """
        profile = self._recipe(labels).freeze(self.rows.until(end)()) if frozen is None else frozen
        return profile, self.rows.later(end)

    def _recipe(self, labels: LabelsOf) -> AnswerRecipe:
        codes = {int(code) for code in self.rows.distinct(VALUE).tolist()}
        texts = labels({*codes, *self._readings.probabilities})
        return AnswerRecipe(texts, self._points, self._readings, self._season)

    def drain_fresh(self) -> bytes | None:
        """Return what was gathered since this was last called, for the database."""
        rows = self.rows.settle()
        return None if rows is None else packed_rows(rows)

    def restore(self, bodies: Sequence[bytes]) -> None:
        """Take back what `drain_fresh` gave."""
        self.rows.restore([unpacked_rows(body) for body in bodies])


def feature_learner(
    spec: ModelSpec, wanted: int, limit: int, names: int, *, in_order: bool
) -> FeatureLearner | PaneFeatureLearner:
    """Make what learns the reference of a model's features.

    Args:
        spec: The model.
        wanted: Predictions to learn from at least.
        limit: Predictions to learn from at most, where that is more than `wanted`.
        names: Features to learn at most.
        in_order: Learn from the first predictions in the order of the stream, not by whole panes.
    """
    points, kinds, season = spec.reference.points, spec.feature_kinds, spec.reference.season
    if in_order:
        return FeatureLearner(wanted, points, kinds, names, season)
    return PaneFeatureLearner(wanted, most_rows(wanted, limit), points, kinds, names, season)


def answer_learner(spec: ModelSpec, limit: int, *, in_order: bool) -> AnswerLearner | PaneAnswerLearner:
    """Make what learns the reference of one version's own answers; as `feature_learner`."""
    wanted = least_answers(spec)
    readings = Readings.of(spec.positive, spec.threshold)
    if in_order:
        return AnswerLearner(wanted, spec.reference.points, readings, spec.reference.season)
    most = most_rows(wanted, limit)
    return PaneAnswerLearner(wanted, most, spec.reference.points, readings, spec.reference.season)


def least_answers(spec: ModelSpec) -> int:
    """Return how many predictions the reference of a version's answers is learned from at least."""
    wanted = spec.outcomes.baseline_n if spec.outcomes else BASELINE_N
    # With a season as many periods as that of the features has.
    return wanted if spec.reference.season is None else max(wanted, spec.reference.learn)
