"""What checks found of single features: the latest finding, its course over the latest windows, and two histograms.

Pure. A version keeps them for what people look at: the page, `status` and `/metrics`. Nothing is judged by them.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec
import zstandard

from detectors.evidence import Evidence
from detectors.findings import CheckResult, Family, Value
from detectors.registry import RATES

RECENT: Final = 24  # windows
CONFIGURED: Final = 50  # features of those that the configuration names
FIRST: Final = 20  # features of the reference, where it names none
ALARMED: Final = 20  # further ones that an alert lists
DRAWN: Final = 5  # features with histograms of those that an alert lists,
LARGEST: Final = 2  # and of the others
_MOST_RATIO: Final = 10_000.0
_STEPS: Final = 100  # a ratio is kept in hundredths: it is written with every commit


class Course(msgspec.Struct, omit_defaults=True):
    """What checks found of one feature in one family of tests.

    Attributes:
        statistic: The strongest statistic of the latest check that could judge it.
        effect: Its effect.
        limit: The smallest effect that counts.
        recent: Effects in hundredths of their limit, of the latest windows, the earliest first; None: not judged.
    """

    statistic: str
    effect: float
    limit: float
    recent: list[int | None] = []

    @property
    def ratio(self) -> float | None:
        """The effect of the latest window in units of its limit; None where the window could not be judged."""
        return _ratio(self.recent[-1]) if self.recent else None

    def ratios(self) -> list[float | None]:
        """Return the ratios of the latest windows, the earliest first."""
        return [_ratio(steps) for steps in self.recent]

    def move_on(self, found: Value | None, limit: float) -> None:
        """Take in one more window; None where it could not be judged."""
        if found is not None:
            self.statistic, self.effect, self.limit = found.statistic, found.effect, limit
        steps = None if found is None else round(min(_relative(found.effect, limit), _MOST_RATIO) * _STEPS)
        self.recent.append(steps)
        if len(self.recent) > RECENT:
            del self.recent[0]


class FeatureCourse(msgspec.Struct, omit_defaults=True):
    """The courses of one feature; None where it was judged in none of the latest windows."""

    drift: Course | None = None
    data_quality: Course | None = None
    histograms: Evidence | None = None

    def courses(self) -> Iterator[Course]:
        """Yield those that there are."""
        yield from (course for course in (self.drift, self.data_quality) if course is not None)

    @property
    def largest(self) -> float:
        """The larger ratio of the latest window; 0 where it could not be judged."""
        return max((course.ratio or 0.0 for course in self.courses()), default=0.0)

    def move_on(self, found: Mapping[Family, Value], limits: Mapping[str, float]) -> None:
        """Take in what a check found of it."""
        self.drift = _moved(self.drift, found.get(Family.DRIFT), limits)
        self.data_quality = _moved(self.data_quality, found.get(Family.DATA_QUALITY), limits)
        self.histograms = None


class FeatureCourses:
    """The courses of the features of one version that are shown.

    Attributes:
        features: By name, in the order in which they are watched.
    """

    def __init__(self) -> None:
        self.features: dict[str, FeatureCourse] = {}
        self._packed: str | None = ""

    def move_on(
        self,
        watched: Iterable[str],
        check: CheckResult,
        limits: Mapping[str, float],
        evidence: Callable[[str], Evidence | None],
        alarmed: Collection[str] = (),
    ) -> None:
        """Take in one check.

        Args:
            watched: Names of the features to keep; the courses of others end.
            check: What it found.
            limits: The smallest effect that counts, by statistic.
            evidence: Feature → its distributions in the reference and in the window; asked for a few.
            alarmed: Features of alerts that fire, the strongest first: so many are kept as well, and drawn first.
        """
        alarmed = list(alarmed)[:ALARMED]
        names = dict.fromkeys((*watched, *alarmed))
        found = _strongest(check, names, limits)
        kept = {name: self.features.get(name) or FeatureCourse() for name in names}
        for name, course in kept.items():
            course.move_on(found.get(name, {}), limits)
        self.features = {name: course for name, course in kept.items() if any(course.courses())}
        drawn = [name for name in alarmed if name in self.features][:DRAWN]
        others = sorted(self.features.keys() - set(alarmed), key=lambda name: (-self.features[name].largest, name))
        for name in (*drawn, *others[:LARGEST]):
            self.features[name].histograms = evidence(name)
        self._packed = None

    def skip(self) -> None:
        """Take in a window that could not be judged."""
        for course in self.features.values():
            course.move_on({}, {})
        self.features = {name: course for name, course in self.features.items() if any(course.courses())}
        self._packed = None

    def clear(self) -> None:
        """Forget all: the windows to come are compared with something else."""
        self.features, self._packed = {}, ""

    def saved(self) -> str:
        """Return what is stored of it, compressed: it is made once per check, and written with every commit."""
        if self._packed is None:
            body = msgspec.json.encode(self.features)
            self._packed = base64.b64encode(zstandard.ZstdCompressor().compress(body)).decode()
        return self._packed

    def restore(self, saved: str) -> None:
        """Go on with what `saved` returned."""
        self.features, self._packed = stored_courses(saved), saved


def watched(configured: Iterable[str], compared: Iterable[str], own: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names of the features that are followed: those configured, or else the first of the reference.

    Args:
        configured: Names that the configuration gives a kind.
        compared: Names of the features that are compared, in the order of the reference.
        own: Names by which a version's own answers are compared: followed as well.
    """
    names, known = list(compared), list(configured)
    if known:
        there = set(names)
        chosen = [name for name in known if name in there][:CONFIGURED]
    else:
        chosen = names[:FIRST]
    return tuple(dict.fromkeys((*chosen, *own)))


def stored_courses(saved: str) -> dict[str, FeatureCourse]:
    """Return the courses of features from what is stored of them; none where an earlier release stored none.

    Raises:
        ValueError, zstandard.ZstdError, msgspec.MsgspecError: It is damaged.
    """
    if not saved:
        return {}
    body = zstandard.ZstdDecompressor().decompress(base64.b64decode(saved))
    return msgspec.json.decode(body, type=dict[str, FeatureCourse])


def _ratio(steps: int | None) -> float | None:
    return None if steps is None else steps / _STEPS


def _relative(effect: float, limit: float) -> float:
    """Return an effect in units of its limit; as it is where every effect counts."""
    return effect / limit if limit > 0 else effect


def _moved(course: Course | None, found: Value | None, limits: Mapping[str, float]) -> Course | None:
    """Return the course with one more window; None once no window that is kept was judged."""
    if course is None and found is None:
        return None
    course = Course("", 0.0, 0.0) if course is None else course
    course.move_on(found, 0.0 if found is None else limits[found.statistic])
    return course if found is not None or any(steps is not None for steps in course.recent) else None


def _strongest(
    check: CheckResult, names: Collection[str], limits: Mapping[str, float]
) -> dict[str, dict[Family, Value]]:
    """Return of each feature the statistic with the largest ratio in each family, if the check could judge it."""
    found: dict[str, dict[Family, Value]] = {}
    largest: dict[tuple[str, Family], float] = {}
    for value in check.values:
        feature, family = value.feature, Family.DATA_QUALITY if value.statistic in RATES else Family.DRIFT
        if feature not in names or (family is Family.DRIFT and feature in check.skipped):
            continue
        ratio = _relative(value.effect, limits[value.statistic])
        if math.isfinite(ratio) and ratio > largest.get((feature, family), -1.0):
            largest[feature, family] = ratio
            found.setdefault(feature, {})[family] = value
    return found
