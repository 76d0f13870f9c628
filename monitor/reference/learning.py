"""References learned from the first answers, in the order in which they came: models with counted windows.

The first answers of a model, or of a version, are kept as they came until there are enough; then they
become a profile that is frozen for good. What was gathered is stored with each commit, so learning goes on
after a restart where it stopped. Models with time windows learn by whole panes (`pane_learning`). Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final

import numpy as np
import zstandard

from detectors.categorical import text_of
from detectors.reference import Profile, Reference
from detectors.reference_builder import Column, build
from detectors.saved import pack, unpack
from detectors.season import Season, season_notices
from detectors.types import FloatArray, IntArray
from monitor.events.features import members
from monitor.events.readings import Readings, any_probability
from monitor.events.schema import Scalar, ignored_names
from monitor.names import shown_name
from monitor.spec import FeatureKind

MAGIC = b"DRIFTLRN"
MOST_NAMES: Final = 1_000  # features of a learned profile; twice the default of `limits.features`
_RARE: Final = 0.01  # share of predictions up to which the name of a feature is a rarity
_LEFT_OUT: Final = " features are left out"  # in the notice of a profile: stored, never change it
_ID_LIKE = 0.9  # share of distinct texts from which a column of texts is taken for an identifier
_ID_ROWS = 100
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress


class FeatureLearner:
    """Gathers the features of the first `wanted` answers of a model."""

    def __init__(
        self,
        wanted: int,
        points: int,
        kinds: Mapping[str, FeatureKind],
        most: int = MOST_NAMES,
        season: Season | None = None,
    ) -> None:
        self.wanted = wanted
        self._most, self._season = most, season
        self._points = points
        self._kinds = kinds
        self._raw: list[bytes] = []
        self._times: list[int] = []
        self._stored = 0

    @property
    def held(self) -> int:
        """Answers gathered so far."""
        return len(self._raw)

    @property
    def missing(self) -> int:
        """Answers still needed."""
        return max(self.wanted - self.held, 0)

    def add(self, raws: Sequence[bytes], times: IntArray) -> None:
        """Take undecoded features in; no more than are missing."""
        if len(raws) != len(times):
            raise ValueError(f"{len(raws)} features of {len(times)} answers")
        self._raw += map(bytes, raws)
        self._times += times.tolist()

    def profile(self) -> Profile:
        """The frozen profile of what was gathered."""
        times = np.array(self._times)
        return feature_profile(self._raw, times, self._kinds, self._points, self._most, self._season)

    def drain_fresh(self) -> bytes | None:
        """What was gathered since this was last called, for the database."""
        raws, times = self._raw[self._stored :], self._times[self._stored :]
        if not raws:
            return None
        self._stored = len(self._raw)
        text = b"".join(raws)
        arrays = {
            "text": np.frombuffer(_compress(text), np.uint8),
            "length": np.array([len(raw) for raw in raws]),
            "time": np.array(times),
        }
        return pack(MAGIC, {"raw": len(text)}, arrays)

    def restore(self, bodies: Sequence[bytes]) -> None:
        """Take back what `drain_fresh` gave, in order."""
        for body in bodies:
            header, arrays = unpack(MAGIC, body)
            text = _decompress(arrays["text"].tobytes(), max_output_size=max(header["raw"], 1))
            ends = np.cumsum(arrays["length"])
            self._raw += [text[end - n : end] for end, n in zip(ends.tolist(), arrays["length"].tolist(), strict=True)]
            self._times += arrays["time"].tolist()
        self._stored = len(self._raw)


def feature_profile(
    raws: Sequence[bytes],
    times: IntArray,
    kinds: Mapping[str, FeatureKind],
    points: int,
    most: int = MOST_NAMES,
    season: Season | None = None,
) -> Profile:
    """Make the frozen profile of undecoded features.

    Args:
        raws: JSON of the features of each prediction, in order.
        times: Time of each prediction, ms; at least one.
        kinds: Configured kinds of features.
        points: Points that summarise a numeric feature.
        most: Names from which on rare ones are left out; then the features of the profile at most, those that the
            most predictions have, of equals the first by name.
        season: What repeats itself, by which rows are told apart.

    Returns:
        The profile; a notice says how many features it leaves out because there are too many (`left_out_of`).
    """
    ignored = ignored_names(kinds)
    rows, left_out = _with_frequent_names([members(raw, ignored) or {} for raw in raws], most)
    numeric, columns, notices = columns_of(rows, kinds)
    if left_out:
        notices.append(f"{left_out}{_LEFT_OUT}: more than {most} names came, as where a name holds an id")
    built = build(numeric, columns, len(rows), points, season, times)
    return Profile(
        features=built.features,
        rows=len(rows),
        ordered=True,
        first_ms=int(times.min()),
        last_ms=int(times.max()),
        notices=(*notices, *about_season(built.features)),
        blocks=(replace(built.blocks, names=tuple(map(shown_name, built.blocks.names))),),
    )


def about_season(features: Sequence[Reference]) -> tuple[str, ...]:
    """Say in words what references are too short or too thin for, where their rows are told apart by season."""
    held = next((f.seasonal for f in features if f.seasonal is not None), None)
    return () if held is None else season_notices(held.season, held.rows, held.periods)


def left_out_of(profile: Profile) -> int:
    """Return how many features a learned profile leaves out because there were too many names."""
    counts = [notice.partition(_LEFT_OUT) for notice in profile.notices]
    return sum(int(count) for count, found, _ in counts if found and count.isdecimal())


def _with_frequent_names(rows: list[dict[str, Scalar]], most: int) -> tuple[list[dict[str, Scalar]], int]:
    """Return rows without names that are too many, and how many these are.

    A table with a column for every name would be far too large where a name holds an id. Such names come once or
    twice each: of too many only those are kept that are no rarity, which makes a table as large as the rows are.
    """
    if len(set().union(*rows)) <= most:
        return rows, 0
    counts = Counter(chain.from_iterable(rows))
    common = [name for name, count in counts.items() if count > _RARE * len(rows)]
    names = frozenset(sorted(common, key=lambda name: (-counts[name], name))[:most])
    return [{name: row[name] for name in row.keys() & names} for row in rows], len(counts) - len(names)


def columns_of(
    rows: Sequence[Mapping[str, Scalar]], overrides: Mapping[str, FeatureKind]
) -> tuple[dict[str, bool], dict[str, Column], list[str]]:
    """(which features are numeric, their columns, notices) of rows of JSON scalars."""
    names = sorted({name for row in rows for name in row})
    kinds: dict[str, bool] = {}
    columns: dict[str, Column] = {}
    notices: list[str] = []
    for name in names:
        kind = overrides.get(shown_name(name))
        if kind is FeatureKind.IGNORE:
            continue
        values = [row.get(name) for row in rows]
        numeric = kind is FeatureKind.NUMERIC or (kind is None and mostly_numbers(values))
        if numeric:
            kinds[name], columns[name] = True, numbers_of(values)
        else:
            texts = [None if v is None else text_of(v) for v in values]
            if kind is None and id_like(texts):
                notices.append(f"{name}: ignored, nearly every value is different, as in an identifier")
                continue
            kinds[name], columns[name] = False, texts
    return kinds, columns, notices


_PLAIN: Final = {int, float, type(None)}  # types of values that need no look at each: most columns have no others


def mostly_numbers(values: Sequence[Scalar]) -> bool:
    """Whether more than half of the values that are there are numbers; a boolean is none."""
    found = set(map(type, values))
    if found <= _PLAIN:
        return found != {type(None)} and bool(found)
    present = [v for v in values if v is not None]
    return 2 * sum(isinstance(v, int | float) and not isinstance(v, bool) for v in present) > len(present)


def numbers_of(values: Sequence[Scalar]) -> FloatArray:
    """Numbers as they are, anything else as NaN."""
    if set(map(type, values)) <= _PLAIN:
        return np.array(values, np.float64)
    return np.array([float(v) if isinstance(v, int | float) and not isinstance(v, bool) else np.nan for v in values])


def id_like(texts: Sequence[str | None]) -> bool:
    """Whether a column of texts looks like an identifier, of which every future value is new."""
    present = [text for text in texts if text is not None]
    return len(present) >= _ID_ROWS and len(set(present)) > _ID_LIKE * len(present)


class AnswerLearner:
    """Gathers the first `wanted` predictions and scores of one version."""

    def __init__(
        self,
        wanted: int,
        points: int,
        readings: Readings = Readings(),  # noqa: B008 - immutable
        season: Season | None = None,
    ) -> None:
        self.wanted = wanted
        self._points, self._readings, self._season = points, readings, season
        self._time: list[int] = []
        self._value: list[float] = []
        self._score: list[float] = []
        self._stored = 0

    @property
    def missing(self) -> int:
        """Answers still needed."""
        return max(self.wanted - len(self._value), 0)

    def add(self, values: FloatArray, scores: FloatArray, times: IntArray) -> None:
        """Numbers or label codes, scores, and times in ms; no more than are missing."""
        self._value += values.tolist()
        self._score += scores.tolist()
        self._time += times.tolist()

    def profile(self, labels: Mapping[int, str] | None) -> Profile:
        """The frozen profile: the prediction as number, or as text by `labels`; the score where there is one."""
        values, scores, times = np.array(self._value), np.array(self._score), np.array(self._time, np.int64)
        # What an earlier release has gathered has no times.
        season = self._season if len(times) == len(values) else None
        return answer_profile(values, scores, labels, self._points, self._readings, season, times)

    @property
    def codes(self) -> set[int]:
        """Label codes gathered, and those that they may be read as."""
        return {*map(int, self._value), *self._readings.probabilities}

    def drain_fresh(self) -> bytes | None:
        """What was gathered since this was last called, for the database."""
        start, self._stored = self._stored, len(self._value)
        if start == self._stored:
            return None
        arrays: dict[str, Any] = {"value": np.array(self._value[start:]), "score": np.array(self._score[start:])}
        if self._season is not None and len(self._time) == len(self._value):
            arrays["time"] = np.array(self._time[start:], np.int64)
        return pack(MAGIC, {}, arrays)

    def restore(self, bodies: Sequence[bytes]) -> None:
        """Take back what `drain_fresh` gave, in order."""
        for body in bodies:
            _, arrays = unpack(MAGIC, body)
            self.add(arrays["value"], arrays["score"], arrays.get("time", np.zeros(0, np.int64)))
        self._stored = len(self._value)


def answer_profile(
    values: FloatArray,
    scores: FloatArray,
    labels: Mapping[int, str] | None,
    points: int,
    readings: Readings,
    season: Season | None = None,
    times: IntArray | None = None,
) -> Profile:
    """Make the frozen profile of predictions, and of their scores where there are any.

    Where any of them surely is a probability, answers of exactly 0 and 1 are probabilities too.

    Args:
        values: Predictions in order: numbers, or label codes.
        scores: Score of each, NaN without one.
        labels: Text of each label code; None where predictions are numbers.
        points: Points that summarise a numeric column.
        readings: What answers of exactly 0 and 1 stand for.
        season: What repeats itself, by which rows are told apart.
        times: Time of each prediction, ms; needed for a season.
    """
    values, scores = readings.read(values, scores, probabilities=any_probability(scores))
    kinds: dict[str, bool] = {"prediction": labels is None}
    columns: dict[str, Column] = {"prediction": values}
    if labels is not None:
        columns["prediction"] = [labels[int(code)] for code in values.tolist()]
    if not np.isnan(scores).all():
        kinds["score"], columns["score"] = True, scores
    built = build(kinds, columns, len(values), points, season, times if times is not None and len(times) else None)
    notices = about_season(built.features)
    return Profile((), len(values), ordered=True, answers=built.features, notices=notices, blocks=(built.blocks,))
