"""What normal is for one model: the reference of its features, and of each version's own answers.

Either from a profile, or learned and then frozen: by whole panes, or from the first answers where windows are counted.
Pure. `model` asks it to count answers, `evaluate` asks it to compare windows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import xxhash

from detectors.comparison import Comparison
from detectors.pane import Counts
from detectors.reference import CategoricalReference, NumericReference, Profile, Reference
from detectors.types import BoolArray, IntArray
from monitor.aggregation.predictions import Predictions
from monitor.alerting.blind import closest
from monitor.events.codes import OTHER, VERSIONLESS_TIERS, Labels
from monitor.events.features import FeatureTable
from monitor.events.readings import LabelCode
from monitor.names import shown_name
from monitor.reference.feature_reader import FeatureColumns, FeatureReader
from monitor.reference.freezer import Freezer
from monitor.reference.late_counts import LateCounts, answer_columns, feature_counts, late_answers, late_features
from monitor.reference.learning import MOST_NAMES, AnswerLearner, FeatureLearner, left_out_of
from monitor.reference.pane_learning import (
    PaneAnswerLearner,
    PaneFeatureLearner,
    answer_learner,
    by_panes,
    feature_learner,
)
from monitor.reference.pane_rows import Hashes, hash_rows, hashes_of_texts
from monitor.reference.provenance import NOT_KNOWN, LearnedFrom, Origin, OriginKind, RecordBook
from monitor.reference.stray_names import StrayNames
from monitor.spec import LEARNING, FeatureKind, ModelSpec, Task

FEATURES = "features"


def answers_of(version: str) -> str:
    """Name under which the reference of a version's answers is stored."""
    return f"answers:{version}"


def version_of(subject: str) -> str:
    """Return the version that `answers_of` was called with."""
    return subject.removeprefix(answers_of(""))


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
    """The references of one model, and those that are being learned.

    Args:
        spec: The model.
        labels: Its labels.
        most: Limit of predictions that a reference is learned from.
        names: Limit of features that a reference is learned of.

    Attributes:
        freezer: References that are being made elsewhere.
        records: Which references were in force when, and where they come from.
    """

    def __init__(self, spec: ModelSpec, labels: Labels, most: int = LEARNING, names: int = MOST_NAMES) -> None:
        self._spec, self._labels, self._most, self._names = spec, labels, most, names
        self._left_out: list[tuple[int, int]] = []
        self.freezer = Freezer(spec.name)
        self.records = RecordBook(spec)
        self.profile: Profile | None = None
        self.features: Comparison | None = None
        self.learner: FeatureLearner | PaneFeatureLearner | None = None
        self.answers: dict[str, Comparison] = {}  # by version
        self.answer_learners: dict[str, AnswerLearner | PaneAnswerLearner] = {}
        self.rows: dict[str, int] = {}  # behind each reference in force, by subject
        self.since: int | None = None  # stream time from which on that of the features was in force, ms
        self.relearning = 0  # answers that an operator wants learned; 0: as configured
        self.seen: set[str] = set()  # features that events had: other columns of a reference are not judged
        self.strays = StrayNames()  # features that events have, and the reference has not
        self.numbered = self.reached = 0  # predictions so far, and up to what happens now
        self.mistyped = 0  # values of another type than the reference's in counted predictions, cumulative
        self._changes = ReferenceChanges()
        self._reader: FeatureReader | None = None
        self.activate(None)

    # -- in force ----------------------------------------------------------------------------------------

    @property
    def wanted(self) -> int:
        """Least number of predictions to learn the reference of the features from; 0: it is not learned."""
        return self.relearning or self._spec.reference.learn

    def _feature_learner(self, *, in_order: bool) -> FeatureLearner | PaneFeatureLearner:
        return feature_learner(self._spec, self.wanted, self._most, self._names, in_order=in_order)

    @property
    def left_out(self) -> int:
        """Features that events had and the reference in force leaves out, since there were too many names."""
        return 0 if self.profile is None or self._spec.drift is None else left_out_of(self.profile)

    def newly_left_out(self) -> list[tuple[int, int]]:
        """Return (time in ms, features left out) of each change of the reference since the last call."""
        left_out, self._left_out = self._left_out, []
        return left_out

    def note_left_out(self, time: int) -> None:
        """Take note that another reference is in force since `time` in ms, or none."""
        self._left_out.append((time, self.left_out))

    def activate(self, profile: Profile | None) -> None:
        """Compare features with this profile from now on; without one, learn it where that is configured."""
        spec = self._spec
        self.profile, self.features = profile, None
        self.rows.pop(FEATURES, None)
        self._reader = None if profile is None else FeatureReader(profile, spec.feature_kinds)
        if profile is None:
            if self.wanted and spec.drift is not None:
                self.learner = self._feature_learner(in_order=spec.window.counted)
            return
        self.learner, self.rows[FEATURES] = None, profile.rows
        if spec.drift is not None and self._reader is not None and self._reader.reads:
            self.features = self._comparison(FEATURES, self._reader.numeric, self._reader.categorical)

    def replace(
        self, profile: Profile | None, learn: int = 0, at: int | None = None, origin: Origin = NOT_KNOWN
    ) -> None:
        """A new reference, in force from `at` (ms) on, or None to learn it from the next `learn` answers.

        `origin` says where it comes from, or will.
        """
        if profile is None:
            self.records.end(FEATURES, at)
        else:
            self.records.begin(FEATURES, profile, at, origin)
        self.records.state.asked = origin if profile is None else None
        self.relearning, self.since = learn, None if profile is None else at
        self.freezer.take(FEATURES)
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
        kinds = self._spec.feature_kinds
        compared = [f for f in profile.answers if kinds.get(f.name) is not FeatureKind.IGNORE]
        numeric = [f for f in compared if isinstance(f, NumericReference)]
        categorical = [f for f in compared if isinstance(f, CategoricalReference)]
        if self._spec.task is not Task.REGRESSION:
            numeric = [f for f in numeric if f.name != "prediction"]
        self.answers[version] = self._comparison("answers", numeric, categorical)
        self.rows[answers_of(version)] = profile.rows

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
        if self.profile is not None and self.profile.answers and version == spec.serving.champion:
            profile = replace(self.profile, features=())
            self.activate_answers(version, profile)
            table = self.records.state.in_force.get(FEATURES)
            origin = Origin(OriginKind.TABLE_ANSWERS, features=None if table is None else table.number)
            self.records.begin(answers_of(version), profile, self.since, origin)
            # Kept under the version's own name: another champion may be configured before the next start.
            self._changes.fresh.append(NewReference(answers_of(version), profile))
            return
        self.answer_learners[version] = answer_learner(spec, self._most, in_order=spec.window.counted)

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

    def instead(self, missed: Collection[str], end: int, start: int | None = None) -> list[str]:
        """Return names that events have and the reference has not, those most like `missed` ones first.

        Args:
            missed: Features of the reference that do not come.
            end: End of the window that was looked at, ms.
            start: Its start, where only names that first came in it are wanted; of counted windows in the latest ten.
        """
        known = () if self._reader is None else self._reader.known
        window, since = self._spec.window, start
        if window.counted:
            end, since = self.reached, None if start is None else self.reached - 10 * window.events
        came = [name for name in self.strays.between(0 if since is None else since, end) if name not in known]
        return closest(list(map(shown_name, came)), missed)

    # -- a batch -----------------------------------------------------------------------------------------

    def counting(
        self, versions: Mapping[int, str], predictions: Predictions
    ) -> Callable[[int, IntArray], Mapping[str, Counts]]:
        """Learn from predictions as far as that is wanted, and return how the rest is counted.

        With counted windows learning follows the order of the stream, before predictions are grouped into panes.

        Args:
            versions: Name by variant code, of all versions among the predictions.
            predictions: Of this model, in order.

        Returns:
            A function of a variant code and rows of `predictions`: counts of what is compared with a reference.
        """
        value, score = predictions.events.value, predictions.events.score
        first, rest = self._learn_features(versions, predictions)
        compared = self._learn_answers(versions, predictions)
        reading = self.features

        def counts(code: int, rows: IntArray) -> Mapping[str, Counts]:
            found: dict[str, Counts] = {}
            seen = rows[rows >= first] - first
            if reading is not None and rest is not None and len(seen):
                found |= feature_counts(reading, rest, seen, predictions.time[seen + first])
            own = self.answers.get(versions[code])
            given = rows[compared[rows]]
            if own is not None and len(given):
                columns = answer_columns(self._labels, own, value[given], score[given])
                found |= own.bin_counts(*columns, predictions.time[given])
            return found

        return counts

    def _hashes(self, versions: Mapping[int, str], predictions: Predictions) -> Hashes:
        """Return the hash of each prediction, without its features: these are known undecoded at times only."""
        events = predictions.events
        value: Hashes = events.value.view(np.uint64)
        if self._spec.task is not Task.REGRESSION:  # label codes follow the order of processing
            codes = np.where(np.isnan(events.value), -1, events.value).astype(np.int64)
            texts = {code: self._labels.text(LabelCode(code)) for code in np.unique(codes).tolist() if code >= 0}
            value = hashes_of_texts(codes, {-1: "", **texts})
        return hash_rows((events.time, events.score, events.latency, value), predictions.variant, versions)

    def _learn_features(
        self, versions: Mapping[int, str], predictions: Predictions
    ) -> tuple[int, FeatureColumns | None]:
        """Return the row from which features are compared, and their columns from there on."""
        time, features, learner = predictions.time, predictions.features, self.learner
        places = time
        if self._spec.window.counted:
            places, self.strays.settled = self.numbered + np.arange(len(time)), self.numbered
        self.numbered += len(time)
        if learner is None:
            return 0, self._read(features, places)
        if isinstance(learner, PaneFeatureLearner):
            contents = np.array(list(map(xxhash.xxh3_64_intdigest, features.raw)), np.uint64)
            hashes = hash_rows((self._hashes(versions, predictions), contents), predictions.variant, versions)
            learner.add(features.raw, time, hashes, predictions.variant)
            return len(time), None
        taken = min(learner.missing, len(time))
        learner.add(features.raw[:taken], time[:taken])
        if learner.missing or not len(time):
            return len(time), None
        self.replace(learner.profile(), at=int(time[taken - 1]), origin=self._learned_from(LearnedFrom.FIRST))
        self.note_left_out(int(time[taken - 1]))
        return taken, self._read(features.take(np.arange(taken, len(time))), places[taken:])

    def _read(self, features: FeatureTable, places: IntArray) -> FeatureColumns | None:
        """Read what the reference in force compares; None without one. `places` are those of `StrayNames`."""
        if self._reader is None or not self._reader.reads:
            return None
        self.strays.note(features, places, self._reader.known)
        columns = self._reader.read(features)
        self.mistyped += columns.mistyped
        return columns

    def _learn_answers(self, versions: Mapping[int, str], predictions: Predictions) -> BoolArray:
        """Which answers are compared with their version's reference, and not used to learn it."""
        learners = map(self.answer_learners.get, versions.values())
        by_panes = any(isinstance(learner, PaneAnswerLearner) for learner in learners)
        hashes = self._hashes(versions, predictions) if by_panes else np.zeros(0, np.uint64)
        variant, value, score = predictions.variant, predictions.events.value, predictions.events.score
        compared: BoolArray = ~np.isnan(value)
        for code, version in versions.items():
            learner = self.answer_learners.get(version)
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
                self._learned_answers(version, learner.profile(self._texts(learner.codes)), at, LearnedFrom.FIRST)
        return compared

    def _texts(self, codes: set[int]) -> Mapping[int, str] | None:
        """Return the texts of label codes; None where predictions are numbers."""
        numbers = self._spec.task is Task.REGRESSION
        return None if numbers else {code: self._labels.text(LabelCode(code)) for code in codes}

    def _learned_from(self, rows: LearnedFrom) -> Origin:
        """Return where the reference of the features that is learned now comes from."""
        asked = self.records.state.asked or Origin(OriginKind.RELEARNED if self.relearning else OriginKind.LEARNED)
        return msgspec.structs.replace(asked, learned_from=rows)

    def _learned_answers(self, version: str, profile: Profile, at: int, rows: LearnedFrom) -> None:
        self.activate_answers(version, profile)
        self.records.begin(answers_of(version), profile, at, Origin(OriginKind.LEARNED, learned_from=rows))
        self._changes.fresh.append(NewReference(answers_of(version), profile))
        self._changes.forgotten.append(answers_of(version))

    # -- panes -------------------------------------------------------------------------------------------

    def must_wait(self, panes: Iterable[int]) -> bool:
        """Tell whether sealing these time panes, which have ended, has to wait for references made elsewhere.

        What is to be made is asked for. Rows of the panes are all there, so it makes no difference when it comes.
        """
        learners = {FEATURES: self.learner, **{answers_of(v): own for v, own in sorted(self.answer_learners.items())}}
        for pane in panes:
            self.freezer.ask(learners, (pane + 1) * self._spec.window.pane, self._texts)
        return self.freezer.waiting

    def seal(self, pane: int) -> list[LateCounts]:
        """Take note that a time pane has ended, for all versions; panes are sealed in order.

        A reference that has enough whole panes with this one is in force from the next pane on.

        Returns:
            What predictions of later panes that were kept count against references that are in force now.
        """
        end = (pane + 1) * self._spec.window.pane
        found: list[LateCounts] = []
        if isinstance(self.learner, PaneFeatureLearner) and self.learner.rows.enough(end):
            learner = self.learner
            profile, raws, later = learner.finish(end, self.freezer.take(FEATURES))
            self.replace(profile, at=end, origin=self._learned_from(LearnedFrom.PANES))
            self.note_left_out(end)
            if self.features is not None:
                found += late_features(self._spec, self.features, self._read, raws, later)
        for version in sorted(self.answer_learners):
            own = self.answer_learners[version]
            if isinstance(own, PaneAnswerLearner) and own.rows.enough(end):
                frozen = self.freezer.take(answers_of(version))
                profile, value, score, later = own.finish(end, self._texts, frozen)
                self._learned_answers(version, profile, end, LearnedFrom.PANES)
                if version in self.answers:
                    found += late_answers(self._spec, self._labels, self.answers[version], value, score, later)
        return found

    def advance(self, watermark: int) -> None:
        """Take note of stream time, ms: all panes that it has passed are sealed."""
        width = self._spec.window.pane
        self.strays.settled = watermark // width * width
        for learner in (self.learner, *self.answer_learners.values()):
            if isinstance(learner, PaneFeatureLearner | PaneAnswerLearner):
                learner.rows.advance((watermark // width + 1) * width)

    def end(self, version: str) -> tuple[str, ...]:
        """Forget the reference of a version that was not admitted: it is counted as OTHER from now on.

        Returns:
            Names of the vectors that were counted against it.
        """
        subject = answers_of(version)
        self.freezer.take(subject)
        if self.answer_learners.pop(version, None) is not None:
            self._changes.forgotten.append(subject)
        own = self.answers.pop(version, None)
        if own is None:
            return ()
        self._changes.fresh = [new for new in self._changes.fresh if new.subject != subject]
        self._changes.retired.append(subject)
        return own.all_vectors

    @property
    def is_full(self) -> bool:
        """Whether so many predictions are kept for later panes that it would take a while to count them."""
        learners = (self.learner, *self.answer_learners.values())
        return any(isinstance(own, PaneFeatureLearner | PaneAnswerLearner) and own.rows.is_full for own in learners)

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
            bodies = learned.get(FEATURES, ())
            if not by_panes(bodies):
                self.learner = self._feature_learner(in_order=True)
            self.learner.restore(bodies)
        for subject, profile in references.items():
            if subject != FEATURES:
                self.activate_answers(version_of(subject), profile)
        for subject, bodies in learned.items():
            if subject != FEATURES and subject not in references:
                version = version_of(subject)
                self.begin(version)
                if version in self.answer_learners:
                    if not by_panes(bodies):
                        self.answer_learners[version] = answer_learner(self._spec, self._most, in_order=True)
                    self.answer_learners[version].restore(bodies)

    def forget_answers(self, at: int | None) -> None:
        """References of versions' own answers are void from stream time `at` (ms) on: answers were configured anew."""
        for subject in map(answers_of, (*self.answers, *self.answer_learners)):
            self.records.end(subject, at)
            self._changes.retired.append(subject)
            self._changes.forgotten.append(subject)
            self.rows.pop(subject, None)
            self.freezer.take(subject)
        self.answers.clear()
        self.answer_learners.clear()


def _digest(numeric: Sequence[NumericReference], categorical: Sequence[CategoricalReference]) -> str:
    """What tells these references from any others."""
    found = hashlib.sha256()
    for r in numeric:
        found.update(json.dumps(r.name).encode() + r.points.tobytes() + r.weights.tobytes() + _by_season(r))
    for c in categorical:
        found.update(json.dumps([c.name, c.categories, c.other]).encode() + c.counts.tobytes() + _by_season(c))
    return found.hexdigest()[:12]


def _by_season(r: Reference) -> bytes:
    held = r.seasonal
    return b"" if held is None else held.season.encode() + held.counts.tobytes() + held.missing.tobytes()
