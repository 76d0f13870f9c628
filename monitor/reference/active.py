"""How references of one model come in force: of its features, and of each version's own answers.

Either from a profile, or learned and then frozen (`learners`), or renewed from time to time (`rolling`). Pure. What is
in force is in `in_force`. `model` asks it to count predictions, `evaluate` asks it to compare windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from detectors.pane import Counts
from detectors.reference import Profile
from detectors.types import IntArray
from monitor.aggregation.predictions import Predictions
from monitor.events.codes import OTHER, VERSIONLESS_TIERS, Labels
from monitor.reference.compared import compared_answers, compared_features
from monitor.reference.feature_reader import FeatureColumns
from monitor.reference.freezer import Freezer
from monitor.reference.in_force import ReferencesInForce
from monitor.reference.late_counts import LateCounts, Sealed, late_answers, late_features
from monitor.reference.learners import Learned, Learners
from monitor.reference.learning import MOST_NAMES
from monitor.reference.provenance import NOT_KNOWN, LearnedFrom, Origin, OriginKind, RecordBook
from monitor.reference.rolling import Renewal, RenewalKind, SavedRoller, Standing
from monitor.reference.rolling_set import RollingSet
from monitor.reference.subjects import FEATURES, NewReference, ReferenceChanges, answers_of, version_of
from monitor.spec import LEARNING, ModelSpec


class ReferenceSet(ReferencesInForce):
    """The references of one model: those in force, and how they come to be.

    Args:
        spec: The model.
        labels: Its labels.
        most: Limit of predictions that a reference is learned from.
        names: Limit of features that a reference is learned of.

    Attributes:
        learners: References that are being learned.
        freezer: References that are being made elsewhere.
        records: Which references were in force when, and where they come from.
        rolling: References that are renewed.
    """

    def __init__(self, spec: ModelSpec, labels: Labels, most: int = LEARNING, names: int = MOST_NAMES) -> None:
        super().__init__(spec, labels)
        self.learners = Learners(spec, labels, most, names)
        self.rolling = RollingSet(spec, self.learners, most, names)
        self.freezer = Freezer(spec.name)
        self.records = RecordBook(spec)
        self.rows: dict[str, int] = {}  # behind each reference in force, by subject
        self.since: int | None = None  # stream time from which on that of the features was in force, ms
        self.relearning = 0  # answers that an operator wants learned; 0: as configured
        self._changes = ReferenceChanges()
        self.activate(None)

    # -- in force ----------------------------------------------------------------------------------------

    @property
    def wanted(self) -> int:
        """Least number of predictions to learn the reference of the features from; 0: it is not learned."""
        return self.relearning or self._spec.reference.learn

    @property
    def reads_raw(self) -> bool:
        """Whether features are wanted undecoded, to be learned from."""
        return self.learners.features is not None or FEATURES in self.rolling.rollers

    def activate(self, profile: Profile | None) -> None:
        """Compare features with this profile from now on; without one, learn it where that is configured."""
        self._features = None if profile is None else compared_features(self._spec, profile)
        self.rows.pop(FEATURES, None)
        if profile is not None:
            self.learners.features, self.rows[FEATURES] = None, profile.rows
        elif self.wanted and self._spec.drift is not None:
            self.learners.begin_features(self.wanted)

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
        self.learners.answers.pop(version, None)
        comparison = compared_answers(self._spec, profile).comparison
        if comparison is not None:
            self.answers[version] = comparison
            self.rows[answers_of(version)] = profile.rows

    def begin(self, version: str) -> None:
        """A version was seen for the first time: its reference is the table's, or its own first answers.

        A table speaks of the version that was configured as champion when it was given.
        """
        spec = self._spec
        if spec.drift is None or version in (*VERSIONLESS_TIERS, OTHER):
            return
        if not (spec.reference.learn or spec.reference.path):
            return
        self.rolling.begin(answers_of(version))
        if version in self.answers or version in self.learners.answers:
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
        self.learners.begin_answers(version)

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
        self.rolling.add(versions, predictions)
        first, rest = self._read_features(versions, predictions)
        compared, complete = self.learners.learn_answers(versions, predictions)
        for learned in complete:
            self._learned_answers(learned, LearnedFrom.FIRST)
        return self.counted(versions, predictions, first, rest, compared)

    def _read_features(
        self, versions: Mapping[int, str], predictions: Predictions
    ) -> tuple[int, FeatureColumns | None]:
        """Return the row from which features are compared, and their columns from there on."""
        time, features = predictions.time, predictions.features
        places = time
        if self._spec.window.counted:
            places, self.strays.settled = self.numbered + np.arange(len(time)), self.numbered
        self.numbered += len(time)
        taken, profile = self.learners.learn_features(versions, predictions)
        if profile is not None:
            at = int(time[taken - 1])
            self.replace(profile, at=at, origin=self._learned_from(LearnedFrom.FIRST))
            self.note_left_out(at)
        if self.learners.features is not None:
            return len(time), None
        rest = features.take(np.arange(taken, len(time))) if taken else features
        return taken, self._read(rest, places[taken:])

    def _learned_from(self, rows: LearnedFrom) -> Origin:
        """Return where the reference of the features that is learned now comes from."""
        asked = self.records.state.asked or Origin(OriginKind.RELEARNED if self.relearning else OriginKind.LEARNED)
        return msgspec.structs.replace(asked, learned_from=rows)

    def _learned_answers(self, learned: Learned, rows: LearnedFrom) -> None:
        subject = answers_of(learned.version)
        self._put_answers(learned.version, learned.profile, learned.at, Origin(OriginKind.LEARNED, learned_from=rows))
        self._changes.forgotten.append(subject)

    def _put_answers(self, version: str, profile: Profile, at: int, origin: Origin) -> None:
        """Compare a version's answers with a new reference from `at`, ms, on."""
        subject = answers_of(version)
        self.activate_answers(version, profile)
        self.records.begin(subject, profile, at, origin)
        self._changes.fresh = [new for new in self._changes.fresh if new.subject != subject]
        self._changes.fresh.append(NewReference(subject, profile))

    # -- panes -------------------------------------------------------------------------------------------

    def must_wait(self, panes: Iterable[int]) -> bool:
        """Tell whether sealing these time panes, which have ended, has to wait for references made elsewhere.

        What is to be made is asked for. Rows of the panes are all there, so it makes no difference when it comes.
        """
        for pane in panes:
            end = (pane + 1) * self._spec.window.pane
            self.learners.ask(self.freezer, end)
            self.rolling.ask(self.freezer, end, self._in_force)
        return self.freezer.waiting

    @property
    def _in_force(self) -> dict[str, int]:
        """How many values of a row are compared, by subject of references in force."""
        features = {} if self.profile is None else {FEATURES: len(self.profile.features)}
        return features | {answers_of(version): len(own.names) for version, own in self.answers.items()}

    def seal(self, pane: int, standing: Standing = Standing()) -> Sealed:  # noqa: B008 - immutable
        """Take note that a time pane has ended, for all versions; panes are sealed in order.

        A reference that has enough whole panes with this one is in force from the next pane on.

        Args:
            pane: Its number.
            standing: What its checks have shown.
        """
        end = (pane + 1) * self._spec.window.pane
        late: list[LateCounts] = []
        finished = self.learners.finished_features(self.freezer, end)
        if finished is not None:
            profile, later = finished
            self.replace(profile, at=end, origin=self._learned_from(LearnedFrom.PANES))
            self.note_left_out(end)
            if self.features is not None:
                late += late_features(self._spec, self.features, self._read, later)
        for learned, later in self.learners.finished_answers(self.freezer, end):
            self._learned_answers(learned, LearnedFrom.PANES)
            if learned.version in self.answers:
                late += late_answers(self._spec, self._labels, self.answers[learned.version], later)
        void: list[str] = []
        for renewal in self.rolling.seal(self.freezer, end, standing, set(self._in_force)):
            late += self._renew(renewal, end, void)
        return Sealed(late, self.unused(void))

    def _renew(self, renewal: Renewal, end: int, void: list[str]) -> list[LateCounts]:
        """Do a step of renewing a reference, add to `void` what is not counted any more; return counts as `seal`."""
        subject, profile = renewal.subject, renewal.profile
        if renewal.kind is RenewalKind.BEGUN:
            return self._begin_beside(subject, profile)
        following = self.beside.pop(subject)
        if renewal.kind is RenewalKind.DROPPED:
            void += following.vectors
            return []
        origin = Origin(OriginKind.ROLLING, window=renewal.period)
        if subject == FEATURES:
            void += () if self.features is None else self.features.all_vectors
            self.replace(profile, at=end, origin=origin)
            self.note_left_out(end)
        else:
            version = version_of(subject)
            void += self.answers[version].all_vectors
            self._put_answers(version, profile, end, origin)
        return []

    def _begin_beside(self, subject: str, profile: Profile) -> list[LateCounts]:
        """Count later panes against a next reference, too; return what their predictions that came count."""
        now = self.features if subject == FEATURES else self.answers[version_of(subject)]
        following = self.beside[subject] = self.compared_with(subject, profile)
        later = self.rolling.later(subject)
        same = now is not None and set(following.vectors) == set(now.all_vectors)  # counted already
        return [] if later is None or same else self.late_counts(subject, following, later)

    def forget_rolling(self) -> tuple[str, ...]:
        """Begin to gather what features are renewed from anew; return the vectors of a next reference."""
        self.rolling.clear(FEATURES, self.freezer)
        following = self.beside.pop(FEATURES, None)
        return () if following is None else self.unused(following.vectors)

    def advance(self, watermark: int) -> None:
        """Take note of stream time, ms: all panes that it has passed are sealed."""
        width = self._spec.window.pane
        self.strays.settled = watermark // width * width
        self.learners.advance((watermark // width + 1) * width)

    def end(self, version: str) -> tuple[str, ...]:
        """Forget the reference of a version that was not admitted: it is counted as OTHER from now on.

        Returns:
            Names of the vectors that were counted against it.
        """
        subject = answers_of(version)
        self.freezer.take(subject)
        self.rolling.end(subject, self.freezer)
        following = self.beside.pop(subject, None)
        void = () if following is None else following.vectors
        if self.learners.answers.pop(version, None) is not None:
            self._changes.forgotten.append(subject)
        own = self.answers.pop(version, None)
        if own is None:
            return void
        self._changes.fresh = [new for new in self._changes.fresh if new.subject != subject]
        self._changes.retired.append(subject)
        return (*own.all_vectors, *void)

    @property
    def is_full(self) -> bool:
        """Whether so many predictions are kept for later panes that it would take a while to count them."""
        return self.learners.is_full or self.rolling.is_full

    # -- keeping -----------------------------------------------------------------------------------------

    def drain_changes(self) -> ReferenceChanges:
        """What is new since this was last called."""
        changes, self._changes = self._changes, ReferenceChanges()
        rows, forgotten = self.rolling.drain_changes()
        changes.learned = [*self.learners.drain_fresh(), *rows]
        changes.forgotten += forgotten
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
        elif FEATURES in learned:
            self.learners.restore(FEATURES, learned[FEATURES], self.wanted)
        for subject, profile in references.items():
            if subject != FEATURES:
                self.activate_answers(version_of(subject), profile)
        for subject, bodies in learned.items():
            if subject != FEATURES and subject not in references:
                self.begin(version_of(subject))
                self.learners.restore(subject, bodies, self.wanted)

    def restore_rolling(self, saved: Mapping[str, SavedRoller], stored: Mapping[str, Sequence[bytes]]) -> None:
        """Go on renewing references where that was stored; rows and next references are among `stored`."""
        for version in self.answers:
            self.rolling.begin(answers_of(version))
        for subject, profile in self.rolling.restore(saved, stored).items():
            self.beside[subject] = self.compared_with(subject, profile)

    def forget_answers(self, at: int | None) -> None:
        """References of versions' own answers are void from stream time `at` (ms) on: answers were configured anew."""
        for subject in map(answers_of, (*self.answers, *self.learners.answers)):
            self.records.end(subject, at)
            self._changes.retired.append(subject)
            self._changes.forgotten.append(subject)
            self.rows.pop(subject, None)
            self.beside.pop(subject, None)
            self.freezer.take(subject)
            self.rolling.end(subject, self.freezer)
        self.answers.clear()
        self.learners.answers.clear()
