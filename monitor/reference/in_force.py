"""What windows of one model are compared with, and predictions are counted against.

Pure. `active` puts references in force.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from detectors.comparison import Comparison
from detectors.pane import Counts
from detectors.reference import Profile
from detectors.types import BoolArray, IntArray
from monitor.aggregation.predictions import Predictions
from monitor.alerting.blind import closest
from monitor.events.codes import Labels
from monitor.events.features import FeatureTable
from monitor.names import shown_name
from monitor.reference.compared import Compared, compared_answers, compared_features
from monitor.reference.feature_reader import FeatureColumns
from monitor.reference.late_counts import LateCounts, answer_columns, feature_counts, late_answers, late_features
from monitor.reference.learning import left_out_of
from monitor.reference.pane_rows import Rows
from monitor.reference.stray_names import StrayNames
from monitor.reference.subjects import FEATURES, answers_of
from monitor.spec import ModelSpec


class ReferencesInForce:
    """The references of one model that windows are compared with, and the next ones.

    Args:
        spec: The model.
        labels: Its labels.

    Attributes:
        answers: What answers are compared with, by version.
        beside: Next references, which panes are counted against beside those in force, by subject.
        seen: Features that events had: other columns of a reference are not judged.
        strays: Features that events have, and the reference has not.
        numbered: Predictions so far.
        reached: Predictions up to what happens now.
        mistyped: Values of another type than the reference's in counted predictions, cumulative.
    """

    def __init__(self, spec: ModelSpec, labels: Labels) -> None:
        self._spec, self._labels = spec, labels
        self._features: Compared | None = None
        self._left_out: list[tuple[int, int]] = []
        self.answers: dict[str, Comparison] = {}
        self.beside: dict[str, Compared] = {}
        self.seen: set[str] = set()
        self.strays = StrayNames()
        self.numbered = self.reached = self.mistyped = 0

    @property
    def profile(self) -> Profile | None:
        """The reference of the features; None without one."""
        return None if self._features is None else self._features.profile

    @property
    def features(self) -> Comparison | None:
        """What features are compared with; None where nothing is."""
        return None if self._features is None else self._features.comparison

    def compared_with(self, subject: str, profile: Profile) -> Compared:
        """Return how features, or answers, are compared with a profile."""
        return (compared_features if subject == FEATURES else compared_answers)(self._spec, profile)

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

    def unused(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the vectors that nothing is counted in any more: two references may be the same."""
        if not names:
            return ()
        used = set() if self.features is None else set(self.features.all_vectors)
        used = used.union(*(own.all_vectors for own in self.answers.values()))
        used = used.union(*(following.vectors for following in self.beside.values()))
        return tuple(name for name in names if name not in used)

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

    # -- counting ----------------------------------------------------------------------------------------

    def counted(
        self,
        versions: Mapping[int, str],
        predictions: Predictions,
        first: int,
        read: FeatureColumns | None,
        compared: BoolArray,
    ) -> Callable[[int, IntArray], Mapping[str, Counts]]:
        """Return how predictions are counted.

        Args:
            versions: Name by variant code, of all versions among the predictions.
            predictions: Of this model, in order.
            first: The first of them whose features are compared.
            read: Features from there on.
            compared: Whose answers are.

        Returns:
            A function of a variant code and rows of `predictions`: counts of what is compared with a reference.
        """
        value, score = predictions.events.value, predictions.events.score
        reading, beside = self.features, self.beside.get(FEATURES)
        following = None if beside is None else _read_beside(beside, predictions.features)

        def counts(code: int, rows: IntArray) -> Mapping[str, Counts]:
            found: dict[str, Counts] = {}
            seen = rows[rows >= first] - first
            if reading is not None and read is not None and len(seen):
                found |= feature_counts(reading, read, seen, predictions.time[seen + first])
            if beside is not None and beside.comparison is not None and following is not None:
                found |= feature_counts(beside.comparison, following, rows, predictions.time[rows])
            given = rows[compared[rows]]
            for own in self._answer_comparisons(versions[code]) if len(given) else ():
                columns = answer_columns(self._labels, own, value[given], score[given])
                found |= own.bin_counts(*columns, predictions.time[given])
            return found

        return counts

    def late_counts(self, subject: str, following: Compared, later: Rows) -> list[LateCounts]:
        """Return what predictions that have come count against a next reference."""
        if following.comparison is None:
            return []
        if subject != FEATURES:
            return late_answers(self._spec, self._labels, following.comparison, later)
        return late_features(self._spec, following.comparison, lambda table, _: _read_beside(following, table), later)

    def _answer_comparisons(self, version: str) -> Iterator[Comparison]:
        """Yield what answers of a version are counted against."""
        if version in self.answers:
            yield self.answers[version]
        beside = self.beside.get(answers_of(version))
        if beside is not None and beside.comparison is not None:
            yield beside.comparison

    def _read(self, features: FeatureTable, places: IntArray) -> FeatureColumns | None:
        """Read what the reference in force compares; None without one. `places` are those of `StrayNames`."""
        reader = None if self._features is None else self._features.reader
        if reader is None or not reader.reads:
            return None
        self.strays.note(features, places, reader.known)
        columns = reader.read(features)
        self.mistyped += columns.mistyped
        return columns


def _read_beside(beside: Compared, features: FeatureTable) -> FeatureColumns | None:
    """Read what a reference compares that is not in force yet."""
    if beside.reader is None or not beside.reader.reads:
        return None
    return beside.reader.read(features)
