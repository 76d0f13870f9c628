"""Judging the tests of a window: who has which share of the false-alarm budget, and what is drift.

A verdict of drift needs enough events, a p-value of at most the level that the budget leaves, and an effect that
matters. Tests that nothing but a change can make significant, or that could not be significant at all, take no share
of the budget from the others. Pure. Called by `monitor.evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from detectors.feature_tests import FeatureTest
from detectors.findings import CheckResult, Family, Finding, Skipped, Value, Verdict
from detectors.overlap import level_of
from detectors.types import IntArray

if TYPE_CHECKING:
    from detectors.comparison import Comparison

# A feature that alarmed is calm again when its effect is below this share of the minimum effect,
CALM_EFFECT: Final = 0.8
# or when its p-value is above this multiple of alpha.
CALM_ALPHA_FACTOR: Final = 10.0
Totals = Callable[[str], IntArray | None]


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

    def of(self, test: FeatureTest) -> float:
        """Return the rate of the family of a test."""
        return self.drift if test.family is Family.DRIFT else self.quality


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
    rates = shared(allowed, [test for tests in computed for test in tests.tests])
    results = [tests.judged(rates, listed) for tests in computed]
    joined = results[0]
    for result in results[1:]:
        joined = joined.joined(result)
    return joined


def shared(allowed: Rates, tests: Iterable[FeatureTest]) -> Rates:
    """Return what is left for each share: as much for each of those that can be significant by chance."""
    uncertain = [test for test in tests if not test.certain]
    each = Rates(_each(allowed.drift, uncertain, Family.DRIFT), _each(allowed.quality, uncertain, Family.DATA_QUALITY))
    seeing = [test for test in uncertain if not test.blind(each.of(test))]
    return Rates(
        _each(allowed.drift, seeing, Family.DRIFT),
        _each(allowed.quality, seeing, Family.DATA_QUALITY),
        allowed.panes,
    )


def _each(allowed: float, tests: Iterable[FeatureTest], family: Family) -> float:
    return allowed / max(len({(t.feature, t.share) for t in tests if t.family is family}), 1)


@dataclass(frozen=True, slots=True)
class ComputedTests:
    """The tests of one comparison of one window, before they are judged.

    Attributes:
        tests: The tests.
        skipped: Features that cannot be judged, with the reason.
        absent: Those of them that no event ever had.
        statistics: Statistics of every feature, in the order of its tests.
        min_effect: Smallest effect that counts, by statistic.
    """

    tests: tuple[FeatureTest, ...]
    skipped: Mapping[str, Skipped]
    absent: frozenset[str]
    statistics: Mapping[str, tuple[str, ...]]
    min_effect: Mapping[str, float]

    def judged(self, rates: Rates, listed: Collection[tuple[Family, str]] = ()) -> CheckResult:
        """Judge the tests, at `rates` of each share; `listed` is as for `check`."""
        blind = {t.feature: Skipped.BLIND for t in self.tests if t.blind(rates.of(t))}
        skipped = {**self.skipped, **blind}
        values, findings = [], []
        for test in self.tests:
            value = self._value(test, rates, skipped)
            values.append(value)
            if value.verdict is Verdict.DRIFT:
                findings.append(self._finding(test, rates))
        followed = [t for t in self.tests if (t.family, t.feature) in listed] if listed else []
        restless = {(t.family, t.feature) for t in followed if not self._calm(t, rates)}
        now = tuple(self._finding(t, rates) for t in followed)
        alpha = level_of(rates.drift, rates.panes) if rates.drift > 0 else 0.0
        return CheckResult(
            tuple(values), tuple(findings), frozenset(listed) - restless, skipped, now, self._untested(skipped), alpha
        )

    def _value(self, test: FeatureTest, rates: Rates, skipped: Mapping[str, Skipped]) -> Value:
        """Judge a test. Its p-value is computed only where the effect is large enough."""
        why = skipped.get(test.feature) if test.family is Family.DRIFT else None
        unseeing = Verdict(why) if why in (Skipped.BLIND, Skipped.RARE) else None
        if not test.effect >= self.min_effect[test.statistic]:
            return Value(test.feature, test.statistic, test.value, test.events, test.effect, unseeing or Verdict.OK)
        p_value, alpha = test.p_value(), _level(test, rates)
        verdict = Verdict.DRIFT if p_value <= alpha else unseeing or Verdict.CHANCE
        return Value(test.feature, test.statistic, test.value, test.events, test.effect, verdict, p_value, alpha)

    def _untested(self, skipped: Mapping[str, Skipped]) -> tuple[Value, ...]:
        """Return the statistics of skipped features that were not computed."""
        computed = {(t.feature, t.statistic) for t in self.tests}
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


def _level(test: FeatureTest, rates: Rates) -> float:
    rate = rates.of(test)
    return test.level(rate, rates.panes) if rate > 0 else 0.0
