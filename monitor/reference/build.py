"""Building of references: the profile of a table, or the one read back from a file.

Shell: reads files. A table is read in batches, twice, so a hundred million rows need no more memory than ten thousand.
Columns are named as the features; `table_roles` says which are the answers, the actual values and the times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.blocks import BlockTimes
from detectors.reference import MAGIC, Baseline, CategoricalReference, Profile, Reference
from detectors.reference_builder import blocks_of
from detectors.saved import DamagedError
from detectors.season import Seasonal
from detectors.types import FloatArray, IntArray
from monitor.aggregation.outcomes import OutcomeTable, ScoredPairs
from monitor.errors import InputFileError
from monitor.events.codes import Labels
from monitor.events.schema import Scalar
from monitor.files import refuse_irregular
from monitor.names import feature_of
from monitor.reference.feature_shares import LARGE, FeatureShares
from monitor.reference.learning import about_season, numbers_of
from monitor.reference.table_columns import MOST_LABELS, TableColumns, is_missing, possible_probabilities
from monitor.reference.table_roles import Role, TableSpec, fault_of, notices_of
from monitor.reference.tables import Table, open_table
from monitor.spec import AnswerReading, Task
from monitor.times import parse_time

_EARLIEST: Final = 59 * 86_400_000  # 1970-03-01: earlier times, in ms, are times in seconds
_ID_LIKE: Final = 0.9
_ID_ROWS: Final = 100
ProgressCallback = Callable[[int], None]


def load(path: Path, spec: TableSpec, progress: ProgressCallback | None = None, jobs: int = 1) -> Profile:
    """Load the profile in a file, or build the profile of a table.

    Args:
        path: A file of a built profile, or of a table in a format known by its name.
        spec: How to read a table.
        progress: Called with the number of rows read so far, both passes counted.
        jobs: As for `build`; small tables are profiled here.

    Raises:
        InputFileError: The file cannot be read, or is neither.
    """
    try:
        refuse_irregular(path)
        with path.open("rb") as file:
            first = file.read(len(MAGIC))
        large = path.stat().st_size >= LARGE
    except OSError as error:
        raise InputFileError(str(path), error.strerror or str(error)) from error
    if first != MAGIC:
        return build(path, spec, progress, jobs if large else 1)
    try:
        profile = Profile.from_bytes(path.read_bytes())
    except (DamagedError, KeyError, TypeError, ValueError, RecursionError, MemoryError) as error:
        hint = "build it again with `driftd reference build`"
        raise InputFileError(str(path), f"is a damaged profile: {error}; {hint}") from error
    if spec.season is not None and profile.season is not spec.season:
        found = "without a season" if profile.season is None else f"by {profile.season}"
        hint = f"build it again with `driftd reference build --season {spec.season}`"
        raise InputFileError(str(path), f"is a profile {found}, and `reference.season` is {spec.season}: {hint}")
    return profile


def build(path: Path, spec: TableSpec, progress: ProgressCallback | None = None, jobs: int = 1) -> Profile:
    """Build the profile of a table in two passes.

    The first pass finds types, distributions and baselines, the second the dispersion of each feature.

    Args:
        path: The table.
        spec: How to read it.
        progress: Called with the number of rows read so far, both passes counted.
        jobs: Processes among which features are divided, 1: this one; the profile is the same for any number.

    Raises:
        InputFileError: The table cannot be read, or a process has ended, as for want of memory.
    """
    table = open_table(path, spec)
    fault = fault_of(table.columns, spec)
    if fault is not None:
        raise InputFileError(str(path), fault)
    read = TableColumns(table.columns, spec)
    try:
        with FeatureShares(
            read, spec.points, seasonal=spec.season is not None, jobs=min(jobs, len(read.kinds))
        ) as shares:
            return _profile(path, spec, table, shares, progress or (lambda rows: None))
    except ChildProcessError as error:
        raise InputFileError(str(path), f"{error}; try `--jobs 1`") from error


def _profile(path: Path, spec: TableSpec, table: Table, shares: FeatureShares, tell: ProgressCallback) -> Profile:
    clock, outcomes, rows = _Times(spec.roles.get(Role.TIME)), TableOutcomes(spec), 0
    for columns, count in table.batches():
        shares.distribute(columns, count)
        clock.add(columns)
        outcomes.add(columns, count)
        rows += count
        tell(rows)
    if not rows:
        raise InputFileError(str(path), "has no rows")
    kept, notices = _without_ids(shares.features(), spec)
    if not kept:
        reasons = "; ".join([*table.notices, *notices]) or "there are columns of answers and times only"
        raise InputFileError(str(path), f"has no column that could be compared: {reasons}")
    kept.sort(key=lambda f: feature_of(f.name) is None)  # blocks have what a profile has in its order: answers last
    seasonal = _seasonal(path, spec, clock)
    shares.begin([f.name for f in kept], seasonal)
    done = rows
    for columns, count in table.batches():
        shares.learn(columns, count, None if seasonal is None else clock.times_of(columns))
        done += count
        tell(done)
    learned, counts = shares.learned()
    features, answers = _apart(learned)
    return Profile(
        features=features,
        rows=rows,
        ordered=clock.ordered,
        first_ms=clock.first,
        last_ms=clock.last,
        baselines=outcomes.baselines(),
        notices=(*table.notices, *notices, *clock.notices(), *about_season(features), *notices_of(table.columns, spec)),
        answers=answers,
        blocks=(blocks_of(rows, clock.block_times, counts),),
    )


def _seasonal(path: Path, spec: TableSpec, clock: _Times) -> Seasonal | None:
    """Return the season by which rows are told apart. Raises InputFileError where rows have no times."""
    if spec.season is None:
        return None
    if clock.first is None or clock.last is None or clock.unread:
        why = f"{clock.unread} of its rows have none that can be read" if clock.unread else "it has no column of times"
        column = spec.roles.get(Role.TIME) or Role.TIME.value
        hint = f"give each row a time in the column {column!r}, name another in `reference.columns.time`, or leave out"
        raise InputFileError(str(path), f"`reference.season` needs the times of the rows, and {why}: {hint} the season")
    return Seasonal(spec.season, clock.first, clock.last)


def _apart(found: Sequence[Reference]) -> tuple[tuple[Reference, ...], tuple[Reference, ...]]:
    """Return features, under their own names, and answers."""
    named = [(feature_of(f.name), f) for f in found]
    return tuple(replace(f, name=name) for name, f in named if name is not None), tuple(
        f for name, f in named if name is None
    )


def _without_ids(features: Sequence[Reference], spec: TableSpec) -> tuple[list[Reference], list[str]]:
    """Drop identifiers, whose future values would all be unseen: texts that are nearly all distinct."""
    kept, notices = [], []
    for f in features:
        name = feature_of(f.name)
        declared = name is None or f.name in (spec.kinds or {})
        if isinstance(f, CategoricalReference) and not declared and _is_id_like(f):
            notices.append(f"{name}: ignored, nearly every value is different, as in an identifier")
        else:
            kept.append(f)
    return kept, notices


def _is_id_like(f: CategoricalReference) -> bool:
    if f.rows < _ID_ROWS:
        return False
    if f.complete:
        return len(f.known) > _ID_LIKE * f.rows
    # The number of texts kept is bounded; of an identifier's, nearly none was seen again in all later rows.
    return f.singletons > _ID_LIKE * len(f.known)


class _Times:
    """The column of the times: first and last time, and whether the rows are in order."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self.first: int | None = None
        self.last: int | None = None
        self._sorted = True
        self.unread = 0  # rows without a time
        self._seconds: Scalar = None  # a time that seems to be in seconds
        self._blocks = BlockTimes()

    def add(self, columns: Mapping[str, Any]) -> None:
        """Add a batch."""
        column = None if self._name is None else columns.get(self._name)
        if column is None:
            return
        found = [(t, value) for t, value in zip(map(time_of, column), column, strict=True) if t is not None]
        if self._seconds is None:
            self._seconds = next((value for t, value in found if 0 <= t < _EARLIEST), None)
        times = np.array([t for t, _ in found if t >= _EARLIEST], np.int64)
        self.unread += len(column) - len(times)
        if not len(times):
            return
        self._blocks.add(times)
        after = self.last is None or times[0] >= self.last
        self._sorted = self._sorted and bool(after and (np.diff(times) >= 0).all())
        low, high = int(times.min()), int(times.max())
        self.first = low if self.first is None else min(self.first, low)
        self.last = high if self.last is None else max(self.last, high)

    def times_of(self, columns: Mapping[str, Any]) -> IntArray:
        """Return the times of a batch in ms, all of which can be read."""
        return np.array([time_of(value) for value in columns[self._name or ""]], np.int64)

    @property
    def ordered(self) -> bool:
        """Whether the rows are known to be in order of time."""
        return self.first is not None and self._sorted and not self.unread

    @property
    def block_times(self) -> BlockTimes | None:
        """Return when blocks of rows begin and end; None where rows have no times, or are not in their order."""
        return self._blocks if self.ordered else None

    def notices(self) -> list[str]:
        """Return what the false-alarm budget has to assume of the order of the rows."""
        assumed = "the order of the rows is taken for the order of time, which is an assumption"
        if self.first is None and not self.unread:
            return [f"no time column: {assumed}"]
        if self._seconds is not None:
            early = f"{self._seconds} is in January or February 1970; seconds?"
            return [f"{self._name}: {early} Milliseconds are needed: {assumed}"]
        if self.unread:
            form = "one is written like 2026-11-21T09:30:00.123Z, or in milliseconds since 1970"
            return [f"{self._name}: {self.unread} values are no time ({form}): {assumed}"]
        if not self._sorted:
            return ["rows are not in the order of time: the promise of the false-alarm budget is an assumption"]
        return []


def time_of(value: Scalar) -> int | None:
    """Return the time of a row in ms, None for what is no time. A time without a zone is UTC."""
    if is_missing(value) or isinstance(value, bool) or value is None:
        return None
    try:
        return parse_time(value)
    except ValueError:
        if not isinstance(value, str):
            return None
        try:  # tables often omit the zone and mean UTC
            return parse_time(value + "Z")
        except ValueError:
            return None


class TableOutcomes:
    """Predictions and actual values of a table, for the baselines of the quality metrics."""

    def __init__(self, spec: TableSpec) -> None:
        self._spec, self._roles = spec, spec.roles
        task = spec.task
        self._labels = Labels(
            "", MOST_LABELS, binary=task is Task.BINARY, positive=spec.positive, threshold=spec.threshold
        )
        self._table = OutcomeTable(task, 0, None, self._labels.readings) if task is not None else None

    def add(self, columns: Mapping[str, Any], rows: int) -> None:
        """Add a batch of `rows` rows."""
        pairs = self.pairs(columns, rows)
        if self._table is None or pairs is None:
            return
        pairs = replace(pairs, pane=np.zeros(len(pairs), np.int64))
        self._table.expect(pairs.pane)
        self._table.add(pairs, lambda name: None)
        self._table.bound_scores()

    def pairs(self, columns: Mapping[str, Any], rows: int) -> ScoredPairs | None:
        """Return the pairs of a batch, with their rows as panes; None where a table has none."""
        prediction, score_column, actual_column = (
            columns.get(self._roles[role]) if role in self._roles else None
            for role in (Role.PREDICTION, Role.SCORE, Role.ACTUAL)
        )
        if self._table is None or prediction is None or actual_column is None:
            return None
        predicted, score = self._predicted(prediction, score_column, rows)
        actual = self._values(actual_column)
        known = np.flatnonzero(~np.isnan(actual))
        none: list[Mapping[str, float | None] | None] = [None] * len(known)
        return ScoredPairs(known, predicted[known], score[known], actual[known], np.zeros(len(known)), none)

    def _predicted(self, column: Any, scores: Any, rows: int) -> tuple[FloatArray, FloatArray]:
        score = np.full(rows, np.nan) if scores is None else numbers_of(list(scores))
        score = np.where((score >= 0) & (score <= 1), score, np.nan)
        if self._spec.task is not Task.BINARY:
            return self._values(column), score
        doubts, number = self._spec.answers is AnswerReading.AUTO, possible_probabilities(column, self._spec)
        if doubts:
            number[~np.isnan(score) & ((number == 0) | (number == 1))] = np.nan  # beside a score it is a label
        values, found = self._labels.readings.take(number, self._spec.threshold, doubts=doubts)
        rest = np.flatnonzero(np.isnan(values))
        values[rest] = self._values([column[i] for i in rest.tolist()])
        score = np.where(np.isnan(score), found, score)
        return values, score

    def _values(self, column: Any) -> FloatArray:
        if self._spec.task is Task.REGRESSION:
            numbers = numbers_of(list(column))
            return np.where(np.isfinite(numbers), numbers, np.nan)
        values = np.array([np.nan if is_missing(v) else self._labels.code(v) for v in column], np.float64)
        return self._labels.compared(values)

    def baselines(self) -> dict[str, Baseline]:
        """Return the baseline of each quality metric that follows from the table."""
        if self._table is None or not self._table.panes:
            return {}
        found = self._table.metrics(0, 0, ())
        skip = ("coverage", "label_delay_s")
        return {
            name: Baseline(float(e.value), e.n, float(e.variance) if np.isfinite(e.variance) else 0.0)
            for name, e in found.items()
            if name not in skip and np.isfinite(e.value)
        }
