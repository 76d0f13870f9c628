"""The references of one model that are being learned: of its features, and of each version's own answers.

By whole panes, or from the first answers where windows are counted. Pure. `active` asks it, and puts in force what is
complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from detectors.reference import Profile
from detectors.types import BoolArray, IntArray
from monitor.aggregation.predictions import Predictions
from monitor.events.codes import Labels
from monitor.events.readings import LabelCode
from monitor.reference.freezer import Freezer
from monitor.reference.learning import AnswerLearner, FeatureLearner
from monitor.reference.pane_learning import (
    PaneAnswerLearner,
    PaneFeatureLearner,
    answer_learner,
    by_panes,
    feature_learner,
)
from monitor.reference.pane_rows import Hashes, Rows, hash_rows, hashes_of_texts
from monitor.reference.subjects import FEATURES, answers_of, version_of
from monitor.spec import ModelSpec, Task

_BY_PANES = (PaneFeatureLearner, PaneAnswerLearner)


@dataclass(frozen=True, slots=True)
class Learned:
    """A reference of a version's answers that is complete.

    Attributes:
        version: The version.
        profile: Its reference.
        at: Time of the last prediction behind it, ms.
    """

    version: str
    profile: Profile
    at: int


class Learners:
    """What learns the references of one model.

    Args:
        spec: The model.
        labels: Its labels.
        most: Limit of predictions that a reference is learned from.
        names: Limit of features that a reference is learned of.

    Attributes:
        features: Learns the reference of the features; None where it is in force, or is not learned.
        answers: Learns the references of answers, by version.
    """

    def __init__(self, spec: ModelSpec, labels: Labels, most: int, names: int) -> None:
        self._spec, self._labels, self._most, self._names = spec, labels, most, names
        self.features: FeatureLearner | PaneFeatureLearner | None = None
        self.answers: dict[str, AnswerLearner | PaneAnswerLearner] = {}

    def begin_features(self, wanted: int, *, in_order: bool | None = None) -> None:
        """Learn the reference of the features anew, from `wanted` predictions at least."""
        in_order = self._spec.window.counted if in_order is None else in_order
        self.features = feature_learner(self._spec, wanted, self._most, self._names, in_order=in_order)

    def begin_answers(self, version: str, *, in_order: bool | None = None) -> None:
        """Learn the reference of a version's answers."""
        in_order = self._spec.window.counted if in_order is None else in_order
        self.answers[version] = answer_learner(self._spec, self._most, in_order=in_order)

    def _all(self) -> list[FeatureLearner | AnswerLearner | PaneFeatureLearner | PaneAnswerLearner]:
        return [*([] if self.features is None else [self.features]), *self.answers.values()]

    # -- a batch -----------------------------------------------------------------------------------------

    def learn_features(self, versions: Mapping[int, str], predictions: Predictions) -> tuple[int, Profile | None]:
        """Learn from the first of these predictions: (how many were taken, the reference where it is complete).

        Args:
            versions: Name by variant code.
            predictions: In order.
        """
        time, features, learner = predictions.time, predictions.features, self.features
        if learner is None:
            return 0, None
        if isinstance(learner, PaneFeatureLearner):
            hashes = self.feature_hashes(versions, predictions, np.arange(len(time)))
            learner.add(features.raw, time, hashes, predictions.variant)
            return len(time), None
        taken = min(learner.missing, len(time))
        learner.add(features.raw[:taken], time[:taken])
        return taken, None if learner.missing or not len(time) else learner.profile()

    def learn_answers(self, versions: Mapping[int, str], predictions: Predictions) -> tuple[BoolArray, list[Learned]]:
        """Learn from answers: (which are compared with their version's reference instead, what is complete)."""
        by_panes_here = any(isinstance(self.answers.get(version), PaneAnswerLearner) for version in versions.values())
        everything = np.arange(len(predictions))
        hashes = self.hashes(versions, predictions, everything) if by_panes_here else np.zeros(0, np.uint64)
        variant, value, score = predictions.variant, predictions.events.value, predictions.events.score
        compared: BoolArray = ~np.isnan(value)
        complete: list[Learned] = []
        for code, version in versions.items():
            learner = self.answers.get(version)
            if learner is None:
                continue
            taken = np.flatnonzero((variant == code) & compared)
            if isinstance(learner, PaneAnswerLearner):
                learner.add(value[taken], score[taken], predictions.time[taken], hashes[taken], variant[taken])
            else:
                taken = taken[: learner.missing]
                learner.add(value[taken], score[taken], predictions.time[taken])
            compared[taken] = False
            if isinstance(learner, AnswerLearner) and not learner.missing:
                # None is taken where fewer are wanted than before a restart.
                at = int(predictions.time[taken[-1] if len(taken) else 0])
                complete.append(Learned(version, learner.profile(self.texts(learner.codes)), at))
        return compared, complete

    def hashes(self, versions: Mapping[int, str], predictions: Predictions, rows: IntArray) -> Hashes:
        """Return the hash of some predictions, without features: these are known undecoded at times only."""
        events = predictions.events
        its = events.value[rows]
        value: Hashes = its.view(np.uint64)
        if self._spec.task is not Task.REGRESSION:  # label codes follow the order of processing
            codes = np.where(np.isnan(its), -1, its).astype(np.int64)
            texts = {code: self._labels.text(LabelCode(code)) for code in np.unique(codes).tolist() if code >= 0}
            value = hashes_of_texts(codes, {-1: "", **texts})
        columns = (events.time[rows], events.score[rows], events.latency[rows], value)
        return hash_rows(columns, predictions.variant[rows], versions)

    def feature_hashes(self, versions: Mapping[int, str], predictions: Predictions, rows: IntArray) -> Hashes:
        """Return the hash of some predictions with their features, which are there undecoded."""
        raws = predictions.features.raw
        contents: NDArray[Any] = np.array([xxhash.xxh3_64_intdigest(raws[i]) for i in rows.tolist()], np.uint64)
        return hash_rows((self.hashes(versions, predictions, rows), contents), predictions.variant[rows], versions)

    def texts(self, codes: set[int]) -> Mapping[int, str] | None:
        """Return the texts of label codes; None where predictions are numbers."""
        numbers = self._spec.task is Task.REGRESSION
        return None if numbers else {code: self._labels.text(LabelCode(code)) for code in codes}

    # -- panes -------------------------------------------------------------------------------------------

    def ask(self, freezer: Freezer, end: int) -> None:
        """Ask for each reference that is complete with panes up to `end`, ms."""
        if isinstance(its := self.features, PaneFeatureLearner) and its.rows.enough(end):
            freezer.ask(FEATURES, its.values, partial(its.freezing, end, self.texts))
        for version, own in sorted(self.answers.items()):
            if isinstance(own, PaneAnswerLearner) and own.rows.enough(end):
                freezer.ask(answers_of(version), own.values, partial(own.freezing, end, self.texts))

    def finished_features(self, freezer: Freezer, end: int) -> tuple[Profile, Rows] | None:
        """Return the reference of the features if panes up to `end`, ms, complete it, and what came later."""
        if isinstance(self.features, PaneFeatureLearner) and self.features.rows.enough(end):
            return self.features.finish(end, freezer.take(FEATURES))
        return None

    def finished_answers(self, freezer: Freezer, end: int) -> Iterator[tuple[Learned, Rows]]:
        """Yield the references of answers that panes up to `end`, ms, complete, and what came later."""
        for version in sorted(self.answers):
            own = self.answers[version]
            if isinstance(own, PaneAnswerLearner) and own.rows.enough(end):
                profile, later = own.finish(end, self.texts, freezer.take(answers_of(version)))
                yield Learned(version, profile, end), later

    def advance(self, end: int) -> None:
        """Take note that the next pane to end does so at `end`, ms."""
        for learner in self._all():
            if isinstance(learner, _BY_PANES):
                learner.rows.advance(end)

    @property
    def is_full(self) -> bool:
        """Whether so many predictions are kept for later panes that it would take a while to count them."""
        return any(isinstance(own, _BY_PANES) and own.rows.is_full for own in self._all())

    # -- keeping -----------------------------------------------------------------------------------------

    def drain_fresh(self) -> list[tuple[str, bytes]]:
        """Return (subject, rows) that were gathered since this was last called, for the database."""
        fresh = [] if self.features is None else [(FEATURES, self.features.drain_fresh())]
        fresh += [(answers_of(version), learner.drain_fresh()) for version, learner in self.answers.items()]
        return [(subject, body) for subject, body in fresh if body is not None]

    def restore(self, subject: str, bodies: Sequence[bytes], wanted: int) -> None:
        """Take back the rows of a subject that is being learned; what 0.1.0 began is finished in its order."""
        in_order = None if by_panes(bodies) else True
        if subject == FEATURES and self.features is not None:
            if in_order:
                self.begin_features(wanted, in_order=True)
            self.features.restore(bodies)
        elif (version := version_of(subject)) in self.answers:
            if in_order:
                self.begin_answers(version, in_order=True)
            self.answers[version].restore(bodies)
