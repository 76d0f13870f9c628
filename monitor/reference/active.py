"""What windows of one model are compared with: the reference of its features, and of each version's own answers.

Either from a profile, or learned and then frozen (`learners`), or renewed from time to time (`rolling`). Pure. `model`
asks it to count answers, `evaluate` asks it to compare windows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from detectors.comparison import Comparison
from detectors.pane import Counts
from detectors.reference import Profile
from detectors.types import IntArray
from monitor.aggregation.predictions import Predictions
from monitor.alerting.blind import closest
from monitor.events.codes import OTHER, VERSIONLESS_TIERS, Labels
from monitor.events.features import FeatureTable
from monitor.names import shown_name
from monitor.reference.compared import Compared, compared_answers, compared_features
from monitor.reference.feature_reader import FeatureColumns
from monitor.reference.freezer import Freezer
from monitor.reference.late_counts import LateCounts, answer_columns, feature_counts, late_answers, late_features
from monitor.reference.learners import Learned, Learners
from monitor.reference.learning import MOST_NAMES, left_out_of
from monitor.reference.provenance import NOT_KNOWN, LearnedFrom, Origin, OriginKind, RecordBook
from monitor.reference.rolling import Renewal, RenewalKind, SavedRoller, Standing
from monitor.reference.rolling_set import RollingSet
from monitor.reference.stray_names import StrayNames
from monitor.reference.subjects import FEATURES, NewReference, answers_of, version_of
from monitor.spec import LEARNING, ModelSpec


@dataclass(slots=True)
class ReferenceChanges:
    """What a commit writes: profiles in force, subjects that have none any more, rows learned and rows of no use."""

    fresh: list[NewReference] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    learned: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sealed:
    """What follows for panes from the end of one.

    Attributes:
        late: What predictions of later panes count against references that panes are counted against from now on.
        void: Names of vectors that nothing is compared with any more.
    """

    late: list[LateCounts]
    void: tuple[str, ...] = ()


class ReferenceSet:
    """The references of one model.

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
        beside: Next references, which panes are counted against beside those in force, by subject.
    """

    def __init__(self, spec: ModelSpec, labels: Labels, most: int = LEARNING, names: int = MOST_NAMES) -> None:
        self._spec, self._labels = spec, labels
        self._left_out: list[tuple[int, int]] = []
        self.learners = Learners(spec, labels, most, names)
        self.rolling = RollingSet(spec, self.learners, most, names)
        self.freezer = Freezer(spec.name)
        self.records = RecordBook(spec)
        self._features: Compared | None = None
        self.answers: dict[str, Comparison] = {}  # by version
        self.beside: dict[str, Compared] = {}
        self.rows: dict[str, int] = {}  # behind each reference in force, by subject
        self.since: int | None = None  # stream time from which on that of the features was in force, ms
        self.relearning = 0  # answers that an operator wants learned; 0: as configured
        self.seen: set[str] = set()  # features that events had: other columns of a reference are not judged
        self.strays = StrayNames()  # features that events have, and the reference has not
        self.numbered = self.reached = 0  # predictions so far, and up to what happens now
        self.mistyped = 0  # values of another type than the reference's in counted predictions, cumulative
        self._changes = ReferenceChanges()
        self.activate(None)

    # -- in force ----------------------------------------------------------------------------------------

    @property
    def profile(self) -> Profile | None:
        """The reference of the features; None without one."""
        return None if self._features is None else self._features.profile

    @property
    def features(self) -> Comparison | None:
        """What features are compared with; None where nothing is."""
        return None if self._features is None else self._features.comparison

    @property
    def wanted(self) -> int:
        """Least number of predictions to learn the reference of the features from; 0: it is not learned."""
        return self.relearning or self._spec.reference.learn

    @property
    def reads_raw(self) -> bool:
        """Whether features are wanted undecoded, to be learned from."""
        return self.learners.features is not None or FEATURES in self.rolling.rollers

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

    def comparisons(self, version: str) -> list[Comparison]:
        """What windows of a version are compared with now."""
        own = self.answers.get(version)
        return [c for c in (self.features, own) if c is not None]

    def vectors(self, version: str) -> set[str]:
        """Return the names of all vectors that panes of a version are counted in."""
        beside = [self.beside[subject] for subject in (FEATURES, answers_of(version)) if subject in self.beside]
        vectors = {name for c in self.comparisons(version) for name in c.all_vectors}
        return vectors.union(*(compared.vectors for compared in beside))

    def instead(self, missed: Collection[str], end: int, start: int | None = None) -> list[str]:
        """Return names that events have and the reference has not, those most like `missed` ones first.

        Args:
            missed: Features of the reference that do not come.
            end: End of the window that was looked at, ms.
            start: Its start, where only names that first came in it are wanted; of counted windows in the latest ten.
        """
        reader = None if self._features is None else self._features.reader
        known = () if reader is None else reader.known
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
        self.rolling.add(versions, predictions)
        first, rest = self._read_features(versions, predictions)
        compared, complete = self.learners.take_answers(versions, predictions)
        for learned in complete:
            self._learned_answers(learned, LearnedFrom.FIRST)
        reading, beside = self.features, self.beside.get(FEATURES)
        following = self._read_beside(beside, predictions.features)

        def counts(code: int, rows: IntArray) -> Mapping[str, Counts]:
            found: dict[str, Counts] = {}
            seen = rows[rows >= first] - first
            if reading is not None and rest is not None and len(seen):
                found |= feature_counts(reading, rest, seen, predictions.time[seen + first])
            if beside is not None and beside.comparison is not None and following is not None:
                found |= feature_counts(beside.comparison, following, rows, predictions.time[rows])
            given = rows[compared[rows]]
            for own in self._answer_comparisons(versions[code]) if len(given) else ():
                columns = answer_columns(self._labels, own, value[given], score[given])
                found |= own.bin_counts(*columns, predictions.time[given])
            return found

        return counts

    def _answer_comparisons(self, version: str) -> Iterator[Comparison]:
        """Yield what answers of a version are counted against."""
        if version in self.answers:
            yield self.answers[version]
        beside = self.beside.get(answers_of(version))
        if beside is not None and beside.comparison is not None:
            yield beside.comparison

    def _read_features(
        self, versions: Mapping[int, str], predictions: Predictions
    ) -> tuple[int, FeatureColumns | None]:
        """Return the row from which features are compared, and their columns from there on."""
        time, features = predictions.time, predictions.features
        places = time
        if self._spec.window.counted:
            places, self.strays.settled = self.numbered + np.arange(len(time)), self.numbered
        self.numbered += len(time)
        taken, profile = self.learners.take_features(versions, predictions)
        if profile is not None:
            at = int(time[taken - 1])
            self.replace(profile, at=at, origin=self._learned_from(LearnedFrom.FIRST))
            self.note_left_out(at)
        if self.learners.features is not None:
            return len(time), None
        rest = features.take(np.arange(taken, len(time))) if taken else features
        return taken, self._read(rest, places[taken:])

    def _read(self, features: FeatureTable, places: IntArray) -> FeatureColumns | None:
        """Read what the reference in force compares; None without one. `places` are those of `StrayNames`."""
        reader = None if self._features is None else self._features.reader
        if reader is None or not reader.reads:
            return None
        self.strays.note(features, places, reader.known)
        columns = reader.read(features)
        self.mistyped += columns.mistyped
        return columns

    @staticmethod
    def _read_beside(beside: Compared | None, features: FeatureTable) -> FeatureColumns | None:
        """Read what a reference compares that is not in force yet."""
        if beside is None or beside.reader is None or not beside.reader.reads:
            return None
        return beside.reader.read(features)

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
        return Sealed(late, self._unused(void))

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
        of_features = subject == FEATURES
        following = (compared_features if of_features else compared_answers)(self._spec, profile)
        self.beside[subject] = following
        later = self.rolling.later(subject)
        if following.comparison is None or later is None:
            return []
        if of_features:
            return late_features(
                self._spec, following.comparison, lambda table, _: self._read_beside(following, table), later
            )
        return late_answers(self._spec, self._labels, following.comparison, later)

    def _unused(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the vectors that nothing is counted in any more: two references may be the same."""
        if not names:
            return ()
        used = set() if self.features is None else set(self.features.all_vectors)
        used = used.union(*(own.all_vectors for own in self.answers.values()))
        used = used.union(*(following.vectors for following in self.beside.values()))
        return tuple(name for name in names if name not in used)

    def forget_rolling(self) -> tuple[str, ...]:
        """Begin to gather what features are renewed from anew; return the vectors of a next reference."""
        self.rolling.clear(FEATURES, self.freezer)
        following = self.beside.pop(FEATURES, None)
        return () if following is None else self._unused(following.vectors)

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
        rows, forgotten = self.rolling.drain()
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
            compared = compared_features if subject == FEATURES else compared_answers
            self.beside[subject] = compared(self._spec, profile)

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
