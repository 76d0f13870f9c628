"""Judging the tests of a window: who has which share of the false-alarm budget, and what is drift.

A verdict of drift needs enough events, a p-value of at most the level that the budget leaves, and an effect that
matters. Tests that nothing but a change can make significant, or that could not be significant at all, take no share
of the budget from the others. Pure. Called by `monitor.evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from detectors.feature_tests import FeatureTest, Share, StatisticTests
from detectors.findings import CheckResult, Deferred, Family, Finding, Skipped, Value, Verdict
from detectors.overlap import level_of
from detectors.registry import can_alarm
from detectors.types import FloatArray, IntArray

if TYPE_CHECKING:
    from detectors.comparison import Comparison

# A feature that alarmed is calm again when its effect is below this share of the minimum effect,
CALM_EFFECT: Final = 0.8
# or when its p-value is above this multiple of alpha.
CALM_ALPHA_FACTOR: Final = 10.0
Totals = Callable[[str], IntArray | None]
_Place = tuple[int, int]  # a group, and a test of it


@dataclass(frozen=True, slots=True)
class Rates:
    """Hold how many false alarms are allowed per check.

    Attributes:
        drift: By tests of how values are distributed.
        quality: By tests of missing and of unseen values.
        panes: Panes in the window, which slides on by one from check to check.
    """

    drift: float
    quality: float
    panes: int = 1

    def of(self, family: Family) -> float:
        """Return the rate of a family of tests."""
        return self.drift if family is Family.DRIFT else self.quality


def check(
    comparisons: Sequence[Comparison],
    totals: Totals,
    allowed: Rates,
    listed: Collection[tuple[Family, str]] = (),
    seen: Collection[str] | None = None,
) -> CheckResult:
    """Judge a window by several comparisons, which share what is allowed.

    Args:
        comparisons: What the window is compared with; at least one.
        totals: Returns a count vector of the window by name, None if no pane has it.
        allowed: False alarms that all tests together may raise per check.
        listed: Features that alarmed before, of which the result says whether they are calm again.
        seen: As for `Comparison.compute`.
    """
    computed = [c.compute(totals, seen) for c in comparisons]
    rates = shared(allowed, computed)
    results = [tests.judged(rates, listed) for tests in computed]
    joined = results[0]
    for result in results[1:]:
        joined = joined.joined(result)
    return joined


def shared(allowed: Rates, computed: Sequence[ComputedTests]) -> Rates:
    """Return what is left for each share: as much for each of those that can be significant by chance."""
    return Rates(
        _each(allowed.drift, [tests.sees_from(Family.DRIFT) for tests in computed]),
        _each(allowed.quality, [tests.sees_from(Family.DATA_QUALITY) for tests in computed]),
        allowed.panes,
    )


def _each(allowed: float, sees_from: Sequence[FloatArray]) -> float:
    """Share out what is allowed, first to all, then to those that would see anything by their part."""
    all_of = sum(map(len, sees_from))
    each = allowed / max(all_of, 1)
    seeing = sum(int(np.count_nonzero(each >= its)) for its in sees_from)
    return allowed / max(seeing, 1)


@dataclass(frozen=True)
class ComputedTests:
    """The tests of one comparison of one window, before they are judged.

    Attributes:
        names: Names of all features, by index.
        groups: The tests, in the order of the statistics of a feature.
        skipped: Features that cannot be judged, with the reason.
        absent: Those of them that no event ever had.
        statistics: Statistics of every feature, in the order of its tests.
        min_effect: Smallest effect that counts, by statistic.
    """

    names: Sequence[str]
    groups: tuple[StatisticTests, ...]
    skipped: Mapping[str, Skipped]
    absent: frozenset[str]
    statistics: Mapping[str, tuple[str, ...]]
    min_effect: Mapping[str, float]
    _made: dict[_Place, FeatureTest] = field(default_factory=dict, repr=False, compare=False)

    @property
    def tests(self) -> tuple[FeatureTest, ...]:
        """Return all tests, those of one feature after the other."""
        return tuple(self._test(place) for place in self._places())

    def sees_from(self, family: Family) -> FloatArray:
        """Return for each share that can be significant by chance from which level on it would see anything."""
        found: dict[Share, FloatArray] = {}
        for tests in self.groups:
            if tests.family is family and can_alarm(tests.statistic, self.min_effect):
                levels = found.setdefault(tests.share, np.full(len(self.names), -1.0))
                known = 0.0 if tests.sees_from is None else tests.sees_from
                if tests.certain is None:
                    levels[tests.features] = known
                else:
                    levels[tests.features] = np.where(tests.certain, levels[tests.features], known)
        return np.concatenate([np.zeros(0), *(levels[levels >= 0] for levels in found.values())])

    def judged(self, rates: Rates, listed: Collection[tuple[Family, str]] = ()) -> CheckResult:
        """Judge the tests, at `rates` of each share; `listed` is as for `check`.

        p-values are computed only where the effect is large enough, and values are made when they are read.
        """
        skipped = {**self.skipped, **dict.fromkeys(self._blind(rates), Skipped.BLIND)}
        judged: dict[_Place, tuple[Verdict, float, float]] = {}
        findings = []
        for place in self._places(self._large):
            test = self._test(place)
            p_value, alpha = test.p_value(), _level(test, rates)
            unseeing = _unseeing(test.family, test.feature, skipped)
            judged[place] = (Verdict.DRIFT if p_value <= alpha else unseeing or Verdict.CHANCE, p_value, alpha)
            if p_value <= alpha:
                findings.append(self._finding(test, rates))
        followed = self._followed(listed) if listed else []
        restless = {(t.family, t.feature) for t in followed if not self._calm(t, rates)}
        now = tuple(self._finding(t, rates) for t in followed)
        alpha = level_of(rates.drift, rates.panes) if rates.drift > 0 else 0.0
        return CheckResult(
            Deferred(lambda: self._values(skipped, judged)), tuple(findings), frozenset(listed) - restless, skipped,
            now, self._untested(skipped), alpha,
        )  # fmt: skip

    def _blind(self, rates: Rates) -> Iterator[str]:
        """Yield the features of which no statistic could be significant."""
        for tests in self.groups:
            if tests.sees_from is not None and can_alarm(tests.statistic, self.min_effect):
                for place in np.flatnonzero(rates.of(tests.family) < tests.sees_from).tolist():
                    yield self.names[tests.features[place]]

    def _large(self, tests: StatisticTests) -> IntArray:
        """Return which tests have an effect that matters."""
        return np.flatnonzero(tests.effects >= self.min_effect[tests.statistic])

    def _followed(self, listed: Collection[tuple[Family, str]]) -> list[FeatureTest]:
        names = {name for _, name in listed}
        features = np.array([f for f, name in enumerate(self.names) if name in names], np.int64)
        places = self._places(lambda tests: np.flatnonzero(np.isin(tests.features, features)))
        return [t for t in map(self._test, places) if (t.family, t.feature) in listed]

    def _places(self, of: Callable[[StatisticTests], IntArray] | None = None) -> list[_Place]:
        """Return the places of some tests of each group, or of all: those of one feature after the other."""
        found = [
            (feature, group, place)
            for group, tests in enumerate(self.groups)
            for chosen in (np.arange(len(tests.features)) if of is None else of(tests),)
            for feature, place in zip(tests.features[chosen].tolist(), chosen.tolist(), strict=True)
        ]
        return [(group, place) for _, group, place in sorted(found)]

    def _test(self, place: _Place) -> FeatureTest:
        found = self._made.get(place)
        if found is None:
            tests = self.groups[place[0]]
            found = self._made[place] = tests.test(place[1], self.names[tests.features[place[1]]])
        return found

    def _values(
        self, skipped: Mapping[str, Skipped], judged: Mapping[_Place, tuple[Verdict, float, float]]
    ) -> Iterator[Value]:
        """Yield the values of all tests, of which only some were judged: the others have no effect that matters."""
        columns = [
            (t.family, t.statistic, t.features.tolist(), t.values.tolist(), t.events.tolist(), t.effects.tolist())
            for t in self.groups
        ]
        for at in self._places():
            group, place = at
            family, statistic, features, values, events, effects = columns[group]
            name = self.names[features[place]]
            verdict, p_value, alpha = judged.get(at) or (
                _unseeing(family, name, skipped) or Verdict.OK, None, None
            )  # fmt: skip
            yield Value(name, statistic, values[place], events[place], effects[place], verdict, p_value, alpha)

    def _untested(self, skipped: Mapping[str, Skipped]) -> tuple[Value, ...]:
        """Return the statistics of skipped features that were not computed."""
        if not skipped:
            return ()
        computed = {(self.names[f], tests.statistic) for tests in self.groups for f in tests.features.tolist()}
        reasons = {name: Verdict.NEVER_CAME if name in self.absent else Verdict(why) for name, why in skipped.items()}
        return tuple(
            Value(name, statistic, float("nan"), 0, verdict=why)
            for name, why in reasons.items()
            for statistic in self.statistics[name]
            if (name, statistic) not in computed
        )

    def _calm(self, test: FeatureTest, rates: Rates) -> bool:
        small = test.effect < CALM_EFFECT * self.min_effect[test.statistic]
        return small or test.p_value() > CALM_ALPHA_FACTOR * _level(test, rates)

    def _finding(self, test: FeatureTest, rates: Rates) -> Finding:
        return Finding(
            test.family, test.feature, test.statistic, test.value, test.effect, self.min_effect[test.statistic],
            test.p_value, _level(test, rates), test.events, test.error,
        )  # fmt: skip


def _unseeing(family: Family, feature: str, skipped: Mapping[str, Skipped]) -> Verdict | None:
    """Return why a test would not see a change; None where it would."""
    why = skipped.get(feature) if family is Family.DRIFT else None
    return Verdict(why) if why in (Skipped.BLIND, Skipped.RARE) else None


def _level(test: FeatureTest, rates: Rates) -> float:
    rate = rates.of(test.family)
    return test.level(rate, rates.panes) if rate > 0 else 0.0
