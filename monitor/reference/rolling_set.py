"""The references of one model that are renewed, and what is stored of them.

Pure. `active` asks it, and counts panes against next references.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from detectors.reference import Profile
from detectors.types import IntArray
from monitor.aggregation.predictions import Predictions
from monitor.events.readings import Readings
from monitor.reference.freezer import Freezer
from monitor.reference.freezing import AnswerRecipe, FeatureRecipe
from monitor.reference.learners import Learners
from monitor.reference.pane_learning import least_answers
from monitor.reference.pane_rows import HASH, RAW, SCORE, TIME, VALUE, VARIANT, Rows
from monitor.reference.rolling import Renewal, Roller, SavedRoller, Standing
from monitor.reference.rolling_rows import RollingRows
from monitor.reference.subjects import FEATURES, answers_of
from monitor.spec import ModelSpec, Task

ROWS: Final = "rolling:"  # of stored rows, before their subject and step
NEXT: Final = "rolling-next:"  # of the stored reference that is not in force yet, before its subject
_LEAST: Final = 10  # windows that rows have to fill, where it is not configured how many are learned from


class RollingSet:
    """All references of a model that are renewed.

    Args:
        spec: The model.
        learners: Knows the hashes of predictions, and the texts of labels.
        most: Limit of predictions that a reference is learned from.
        names: Limit of features that a reference is learned of.

    Attributes:
        rollers: By subject; none where it is not configured.
    """

    def __init__(self, spec: ModelSpec, learners: Learners, most: int, names: int) -> None:
        self._spec, self._learners, self._most, self._names = spec, learners, most, names
        self.rollers: dict[str, Roller] = {}
        self.begin(FEATURES)
        self._changed: set[str] = set()  # subjects whose next reference is another one than is stored, or none
        self._forgotten: list[str] = []

    def begin(self, subject: str) -> None:
        """Gather what a reference is renewed from, if that is configured."""
        spec = self._spec
        if spec.reference.rolling is None or spec.drift is None or spec.window.counted or subject in self.rollers:
            return
        least = least_answers(spec) if subject != FEATURES else spec.reference.learn or _LEAST * spec.window.min_events
        recipe = self._feature_recipe if subject == FEATURES else self._answer_recipe
        self.rollers[subject] = Roller(spec, subject, self._most, least, recipe)

    def _feature_recipe(self, rows: RollingRows) -> FeatureRecipe:
        reference = self._spec.reference
        return FeatureRecipe(self._spec.feature_kinds, reference.points, self._names, reference.season)

    def _answer_recipe(self, rows: RollingRows) -> AnswerRecipe:
        spec = self._spec
        readings = Readings.of(spec.positive, spec.threshold)
        numbers = spec.task is Task.REGRESSION
        texts = None if numbers else self._learners.texts(rows.distinct(VALUE) | {*readings.probabilities})
        return AnswerRecipe(texts, spec.reference.points, readings, spec.reference.season)

    # -- a batch -----------------------------------------------------------------------------------------

    def add(self, versions: Mapping[int, str], predictions: Predictions) -> None:
        """Gather predictions; `versions` are names by variant code."""
        if not self.rollers or not len(predictions):
            return
        if (roller := self.rollers.get(FEATURES)) is not None:
            at = np.flatnonzero(roller.rows.useful(predictions.time))
            hashes = self._learners.feature_hashes(versions, predictions, at)
            raw = np.empty(len(at), np.object_)
            raw[:] = [bytes(predictions.features.raw[i]) for i in at.tolist()]
            roller.rows.add({**_columns(predictions, at), HASH: hashes, RAW: raw})
        value, score = predictions.events.value, predictions.events.score
        for code, version in versions.items():
            if (own := self.rollers.get(answers_of(version))) is not None:
                mine = (predictions.variant == code) & ~np.isnan(value)
                at = np.flatnonzero(mine & own.rows.useful(predictions.time))
                hashes = self._learners.hashes(versions, predictions, at)
                own.rows.add({**_columns(predictions, at), HASH: hashes, VALUE: value[at], SCORE: score[at]})

    def later(self, subject: str) -> Rows | None:
        """Return all rows of panes that have not ended; None without any."""
        return self.rollers[subject].rows.later()

    # -- panes -------------------------------------------------------------------------------------------

    def ask(self, freezer: Freezer, end: int, values: Mapping[str, int]) -> None:
        """Ask for the next references that are due with panes up to `end`, ms.

        Args:
            freezer: Whom to ask.
            end: End of a pane, ms.
            values: How many values a row has, by subject of references in force.
        """
        for subject in sorted(self.rollers.keys() & values.keys()):
            roller = self.rollers[subject]
            roller.settle(end)
            if roller.may_be_due(end):
                freezer.ask(NEXT + subject, roller.rows.held * values[subject], partial(roller.request, end))

    def seal(self, freezer: Freezer, end: int, standing: Standing, in_force: set[str]) -> Iterator[Renewal]:
        """Decide at the end of a pane, of references in force, what becomes of the next ones."""
        for roller in self.rollers.values():
            roller.settle(end)
        for subject in sorted(self.rollers.keys() & in_force):
            frozen = freezer.take(NEXT + subject)
            for renewal in self.rollers[subject].seal(end, standing.of(subject), frozen):
                self._changed.add(subject)
                yield renewal

    @property
    def is_full(self) -> bool:
        """Whether so many rows of later panes are kept that it would take a while to count them."""
        return any(roller.rows.is_full for roller in self.rollers.values())

    def clear(self, subject: str, freezer: Freezer) -> None:
        """Begin one anew."""
        freezer.take(NEXT + subject)
        if subject in self.rollers:
            self.rollers[subject].clear()
            self._changed.add(subject)

    def end(self, subject: str, freezer: Freezer) -> None:
        """Forget one: its version is counted no more."""
        self.clear(subject, freezer)
        roller = self.rollers.pop(subject, None)
        if roller is not None:
            self._forgotten += [_row_of(subject, step) for step in roller.rows.stored_steps]

    def saved(self) -> dict[str, SavedRoller]:
        """Return what is stored of all."""
        return {subject: roller.saved() for subject, roller in self.rollers.items()}

    def drain_changes(self) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Return (rows to store, subjects of rows to drop before) since this was last called."""
        fresh: list[tuple[str, bytes]] = []
        forgotten, self._forgotten = self._forgotten, []
        for subject, roller in self.rollers.items():
            rows, void = roller.rows.drain_changes()
            forgotten += [_row_of(subject, step) for step in sorted(void)]
            fresh += [(_row_of(subject, step), body) for step, body in sorted(rows.items())]
        for subject in sorted(self._changed):
            forgotten.append(NEXT + subject)
            following = self.rollers[subject].next if subject in self.rollers else None
            if following is not None:
                fresh.append((NEXT + subject, following.to_bytes()))
        self._changed = set()
        return fresh, forgotten

    def restore(self, saved: Mapping[str, SavedRoller], stored: Mapping[str, Sequence[bytes]]) -> dict[str, Profile]:
        """Go on with what was stored; what is not configured any more, or was for other lengths, is forgotten.

        Returns:
            Next references that are not in force yet, by subject.
        """
        by_subject: dict[str, dict[int, Sequence[bytes]]] = {}
        for name, bodies in stored.items():
            if name.startswith(ROWS):
                subject, _, step = name.removeprefix(ROWS).rpartition(":")
                by_subject.setdefault(subject, {})[int(step)] = bodies
        kept: dict[str, Profile | None] = {}
        for subject, its in saved.items():
            following = stored.get(NEXT + subject)
            profile = Profile.from_bytes(following[-1]) if following else None
            if subject in self.rollers and self.rollers[subject].restore(its, by_subject.get(subject, {}), profile):
                kept[subject] = profile
        self._forgotten += [
            name
            for name in stored
            if is_rolling(name)
            and not (name.removeprefix(NEXT) in kept or name.removeprefix(ROWS).rpartition(":")[0] in kept)
        ]
        return {subject: profile for subject, profile in kept.items() if profile is not None}


def is_rolling(stored: str) -> bool:
    """Tell whether stored rows are those of rolling references."""
    return stored.startswith((ROWS, NEXT))


def _row_of(subject: str, step: int) -> str:
    return f"{ROWS}{subject}:{step}"


def _columns(predictions: Predictions, at: IntArray) -> dict[str, IntArray]:
    return {TIME: predictions.time[at], VARIANT: predictions.variant[at]}
