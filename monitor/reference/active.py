"""What normal is for one model: the reference of its features, and of each version's own answers.

Either from a profile, or learned from the first answers and then frozen. Pure. `model` asks it to count
answers, `evaluate` asks it to compare windows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from detectors.comparison import Comparison
from detectors.pane import Counts
from detectors.reference import CategoricalReference, NumericReference, Profile
from detectors.types import BoolArray, FloatArray, IntArray
from monitor.aggregation.predictions import Predictions
from monitor.events.codes import OTHER, VERSIONLESS_TIERS, LabelCode, Labels
from monitor.events.features import FeatureTable
from monitor.events.schema import RESERVED
from monitor.reference.feature_reader import FeatureColumns, FeatureReader
from monitor.reference.learning import AnswerLearner, FeatureLearner
from monitor.spec import BASELINE_N, ModelSpec, Task

FEATURES = "features"


def answers_of(version: str) -> str:
    """Name under which the reference of a version's answers is stored."""
    return f"answers:{version}"


@dataclass(frozen=True, slots=True)
class NewReference:
    """A profile that is in force from now on. `subject` is FEATURES, or `answers_of` a version."""

    subject: str
    profile: Profile


@dataclass(slots=True)
class ReferenceChanges:
    """What a commit writes: profiles in force, subjects that have none any more, rows learned and rows of no use."""

    fresh: list[NewReference] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    learned: list[tuple[str, bytes]] = field(default_factory=list)


class ReferenceSet:
    """The references of one model, and those that are being learned."""

    def __init__(self, spec: ModelSpec, labels: Labels) -> None:
        self._spec, self._labels = spec, labels
        self.profile: Profile | None = None
        self.features: Comparison | None = None
        self.learner: FeatureLearner | None = None
        self.answers: dict[str, Comparison] = {}  # by version
        self.answer_learners: dict[str, AnswerLearner] = {}
        self.relearning = 0  # answers that an operator wants learned; 0: as configured
        self.seen: set[str] = set()  # features that events had: other columns of a reference are not judged
        self.mistyped = 0  # values of another type than the reference's in counted predictions, cumulative
        self._changes = ReferenceChanges()
        self._reader: FeatureReader | None = None
        self.activate(None)

    # -- in force ----------------------------------------------------------------------------------------

    @property
    def _learn(self) -> int:
        return self.relearning or self._spec.reference.learn

    def activate(self, profile: Profile | None) -> None:
        """Compare features with this profile from now on; without one, learn it where that is configured."""
        spec = self._spec
        self.profile, self.features = profile, None
        self._reader = None if profile is None else FeatureReader(profile, spec.feature_kinds)
        if profile is None:
            if self._learn and spec.drift is not None:
                self.learner = FeatureLearner(self._learn, spec.reference.points, spec.feature_kinds)
            return
        self.learner = None
        if spec.drift is not None and self._reader is not None and self._reader.reads:
            self.features = self._comparison(FEATURES, self._reader.numeric, self._reader.categorical)

    def replace(self, profile: Profile | None, learn: int = 0) -> None:
        """A new reference, or None to learn it from the next `learn` answers."""
        self.relearning = learn
        self.activate(profile)
        self._changes.forgotten.append(FEATURES)
        self._changes.fresh = [new for new in self._changes.fresh if new.subject != FEATURES]
        if profile is not None:
            self._changes.fresh.append(NewReference(FEATURES, profile))
        else:
            self._changes.retired.append(FEATURES)

    def activate_answers(self, version: str, profile: Profile) -> None:
        """Compare a version's own answers with this profile from now on."""
        self.answer_learners.pop(version, None)
        if self._spec.drift is None:
            return
        numeric = [f for f in profile.features if isinstance(f, NumericReference) and f.name in RESERVED]
        categorical = [f for f in profile.features if isinstance(f, CategoricalReference) and f.name in RESERVED]
        if self._spec.task is not Task.REGRESSION:
            numeric = [f for f in numeric if f.name != "prediction"]
        self.answers[version] = self._comparison("answers", numeric, categorical)

    def begin(self, version: str) -> None:
        """A version was seen for the first time: its reference is the table's, or its own first answers.

        A table speaks of the version that was configured as champion when it was given.
        """
        spec = self._spec
        known = version in self.answers or version in self.answer_learners
        if spec.drift is None or known or version in (*VERSIONLESS_TIERS, OTHER):
            return
        if not (spec.reference.learn or spec.reference.path):
            return
        given = [f for f in self.profile.features if f.name in RESERVED] if self.profile is not None else []
        if given and self.profile is not None and version == spec.serving.champion:
            profile = replace(self.profile, features=tuple(given))
            self.activate_answers(version, profile)
            # Kept under the version's own name: another champion may be configured before the next start.
            self._changes.fresh.append(NewReference(answers_of(version), profile))
            return
        wanted = spec.outcomes.baseline_n if spec.outcomes else BASELINE_N
        self.answer_learners[version] = AnswerLearner(wanted, spec.reference.points)

    def _comparison(
        self, prefix: str, numeric: Sequence[NumericReference], categorical: Sequence[CategoricalReference]
    ) -> Comparison:
        drift = self._spec.drift
        if drift is None:
            raise ValueError("nothing is compared where drift is not watched")
        # Panes outlive references: the name of what they count says against which reference it was counted.
        name = f"{prefix}:{_digest(numeric, categorical)}"
        return Comparison(name, numeric, categorical, (*drift.numeric, *drift.categorical), drift.min_effect)

    def comparisons(self, version: str) -> list[Comparison]:
        """What windows of a version are compared with now."""
        own = self.answers.get(version)
        return [c for c in (self.features, own) if c is not None]

    # -- a batch -----------------------------------------------------------------------------------------

    def counting(
        self, versions: Mapping[int, str], predictions: Predictions
    ) -> Callable[[int, IntArray], Mapping[str, Counts]]:
        """Learn from predictions as far as that is wanted, and return how the rest is counted.

        Learning follows the order of the stream, before predictions are grouped into panes.

        Args:
            versions: Name by variant code, of all versions among the predictions.
            predictions: Of this model, in order.

        Returns:
            A function of a variant code and rows of `predictions`: counts of what is compared with a reference.
        """
        variant, value, score = predictions.variant, predictions.events.value, predictions.events.score
        first, rest = self._learn_features(predictions.time, predictions.features)
        compared = self._learn_answers(versions, variant, value, score)
        reading = self.features

        def counts(code: int, rows: IntArray) -> Mapping[str, Counts]:
            found: dict[str, Counts] = {}
            seen = rows[rows >= first] - first
            if reading is not None and rest is not None and len(seen):
                found |= reading.bin_counts(rest.numbers[seen], [c[seen] for c in rest.codes])
            own = self.answers.get(versions[code])
            given = rows[compared[rows]]
            if own is not None and len(given):
                found |= own.bin_counts(*self._answer_columns(own, value[given], score[given]))
            return found

        return counts

    def _learn_features(self, time: IntArray, features: FeatureTable) -> tuple[int, FeatureColumns | None]:
        """Return the row from which features are compared, and their columns from there on."""
        if self.learner is None:
            return 0, self._read(features)
        taken = min(self.learner.missing, len(time))
        self.learner.add(features.raw[:taken], time[:taken])
        if self.learner.missing or not len(time):
            return len(time), None
        self.replace(self.learner.profile())
        return taken, self._read(features.take(np.arange(taken, len(time))))

    def _read(self, features: FeatureTable) -> FeatureColumns | None:
        """Read what the reference in force compares; None without one."""
        if self._reader is None or not self._reader.reads:
            return None
        columns = self._reader.read(features)
        self.mistyped += columns.mistyped
        return columns

    def _learn_answers(
        self, versions: Mapping[int, str], variant: IntArray, value: FloatArray, score: FloatArray
    ) -> BoolArray:
        """Which answers are compared with their version's reference, and not used to learn it."""
        compared: BoolArray = ~np.isnan(value)
        for code, version in versions.items():
            learner = self.answer_learners.get(version)
            if learner is None:
                continue
            mine = np.flatnonzero((variant == code) & compared)
            taken = mine[: learner.missing]
            learner.add(value[taken], score[taken])
            compared[taken] = False
            if not learner.missing:
                texts = None
                if self._spec.task is not Task.REGRESSION:
                    texts = {label: self._labels.text(LabelCode(label)) for label in learner.codes}
                profile = learner.profile(texts)
                self.activate_answers(version, profile)
                self._changes.fresh.append(NewReference(answers_of(version), profile))
                self._changes.forgotten.append(answers_of(version))
        return compared

    def _answer_columns(
        self, own: Comparison, value: FloatArray, score: FloatArray
    ) -> tuple[FloatArray, list[IntArray]]:
        """Predictions and scores as the features of a comparison."""
        columns = {"prediction": value, "score": score}
        numbers = [columns[r.name] for r in own.numeric_cells.references]
        matrix = np.column_stack(numbers) if numbers else np.zeros((len(value), 0))
        return matrix, [self._label_cells(own, f, value) for f in range(len(own.category_cells))]

    def _label_cells(self, own: Comparison, feature: int, labels: FloatArray) -> IntArray:
        """Cells of label codes. A table may call a label by another of its names than the stream does."""
        codes = own.category_cells.codes[feature]
        categories = own.category_cells.references[feature].categories
        of_label = {self._labels.code(text): i for i, text in enumerate(categories)}
        distinct, where = np.unique(labels, return_inverse=True)
        seen = [LabelCode(int(c)) for c in distinct.tolist()]
        cells = [of_label.get(c, codes[self._labels.text(c)]) for c in seen]
        result: IntArray = np.array(cells, np.int64)[where]
        return result

    # -- keeping -----------------------------------------------------------------------------------------

    def drain_changes(self) -> ReferenceChanges:
        """What is new since this was last called."""
        changes, self._changes = self._changes, ReferenceChanges()
        learned = [] if self.learner is None else [(FEATURES, self.learner.drain_fresh())]
        learned += [(answers_of(v), learner.drain_fresh()) for v, learner in self.answer_learners.items()]
        changes.learned = [(subject, body) for subject, body in learned if body is not None]
        return changes

    def restore(
        self, references: Mapping[str, Profile], learned: Mapping[str, Sequence[bytes]], relearning: int
    ) -> None:
        """Take back what was stored: references in force, and rows of those that are being learned."""
        self.relearning = relearning
        if relearning:
            self.activate(None)
        if FEATURES in references:
            self.activate(references[FEATURES])
        elif self.learner is not None:
            self.learner.restore(learned.get(FEATURES, ()))
        for subject, profile in references.items():
            if subject != FEATURES:
                self.activate_answers(subject.removeprefix(answers_of("")), profile)
        for subject, bodies in learned.items():
            if subject != FEATURES and subject not in references:
                version = subject.removeprefix(answers_of(""))
                self.begin(version)
                if version in self.answer_learners:
                    self.answer_learners[version].restore(bodies)

    def forget_answers(self) -> None:
        """References of versions' own answers are void: what an answer is was configured anew."""
        for subject in map(answers_of, (*self.answers, *self.answer_learners)):
            self._changes.retired.append(subject)
            self._changes.forgotten.append(subject)
        self.answers.clear()
        self.answer_learners.clear()


def _digest(numeric: Sequence[NumericReference], categorical: Sequence[CategoricalReference]) -> str:
    """What tells these references from any others."""
    found = hashlib.sha256()
    for r in numeric:
        found.update(json.dumps(r.name).encode() + r.points.tobytes() + r.weights.tobytes())
    for c in categorical:
        found.update(json.dumps([c.name, c.categories, c.other]).encode() + c.counts.tobytes())
    return found.hexdigest()[:12]
