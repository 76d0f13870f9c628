"""Rules: a metric is beyond its limit, by more than chance, for long enough.

A rule breaches when its point estimate is beyond the limit and the one-sided p-value against the acceptable
value (the baseline, or the limit where there is none) is at most the rule's share of the false-alarm budget.
The bare comparison would fire twenty times in 100 000 events of a healthy model, and one that takes events for
independent a thousand times too often where they are not: counts are effective ones (`pane_dependence`). Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from detectors.pane_dependence import INDEPENDENT, MetricDependence, in_student_law
from detectors.shares import share_p_value, two_shares_p_value
from detectors.significance import mean_p_value
from monitor.aggregation.metrics import QUANTILES, Estimate
from monitor.spec import Bound, LimitBasis, RuleSpec


class RuleVerdict(StrEnum):
    """Verdicts of one check of one rule: a metric label and a field of the status document."""

    OK = "ok"  # within the limit
    CHANCE = "chance"  # beyond the limit, but chance explains it
    BREACH = "breach"
    NO_DATA = "no_data"  # skipped: the window has no value for the metric
    TOO_FEW = "too_few"  # skipped: fewer events than the rule's minimum
    NO_BASELINE = "no_baseline"  # skipped: nothing to compare with yet


_DOUBTFUL: Final = 0.02  # p-value up to which nothing is learned
_CHANCE: Final = 0.00135  # P(a normal variable lies more than three standard deviations above its mean)
SKIPPED: Final = frozenset({RuleVerdict.NO_DATA, RuleVerdict.TOO_FEW, RuleVerdict.NO_BASELINE})


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the numbers behind it; NaN where the check was skipped.

    `doubtful` is whether it differs enough to be kept out of what is learned: of a baseline, of its dependence.
    """

    verdict: RuleVerdict
    value: float = float("nan")
    limit: float = float("nan")
    baseline: float | None = None
    n: int = 0
    doubtful: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric of a window as rules need it.

    Attributes:
        estimate: Its estimate; None where the window has no value.
        above: Counts the events above a limit, for metrics that are quantiles: (how many, of how many).
        dependence: How much its events depend on each other.
    """

    estimate: Estimate | None
    above: Callable[[float], tuple[int, int]] | None = None
    dependence: MetricDependence = INDEPENDENT


@dataclass(frozen=True, slots=True)
class Stretch:
    """A longer stretch of panes that ends with the window, and is tested beside it.

    Attributes:
        measured: The metric in it.
        baseline: The metric in what it is compared with; None for a limit that is absolute.
        alpha: The p-value at which it shows a breach.
    """

    measured: Measured
    baseline: Measured | None
    alpha: float


def skipped(rule: RuleSpec, measured: Measured, baseline: Measured | None) -> RuleVerdict | None:
    """Return why a rule cannot be judged on a window; None where it can."""
    if measured.estimate is None:
        return RuleVerdict.NO_DATA
    if measured.estimate.n < rule.min_n:
        return RuleVerdict.TOO_FEW
    missing = baseline is None or baseline.estimate is None
    return RuleVerdict.NO_BASELINE if missing and rule.reference is not LimitBasis.NOTHING else None


def judge(
    rule: RuleSpec, measured: Measured, baseline: Measured | None, alpha: float, longer: Sequence[Stretch] = ()
) -> Judgement:
    """Judge a rule on one window.

    Args:
        rule: The rule.
        measured: Its metric in the window.
        baseline: Its metric in what the window is compared with; None where there is nothing yet.
        alpha: The p-value at which it breaches: its share of the false-alarm budget.
        longer: Longer stretches. Where the window is beyond the limit, one of them may show that it is not by chance.
    """
    estimate, why = measured.estimate, skipped(rule, measured, baseline)
    if estimate is None or why is not None:
        verdict, n = why or RuleVerdict.NO_DATA, 0 if estimate is None else estimate.n
        return Judgement(verdict, float("nan") if estimate is None else estimate.value, n=n)
    base = baseline.estimate if baseline is not None and rule.reference is not LimitBasis.NOTHING else None
    limit = limit_of(rule, base)
    known = base.value if base is not None else None
    if rule.hard:
        found = RuleVerdict.BREACH if _is_beyond(rule, estimate, limit) else RuleVerdict.OK
        return Judgement(found, estimate.value, limit, known, estimate.n)
    tests = [Stretch(measured, baseline, alpha), *longer]
    chances = [_chance(rule, test) for test in tests]
    doubtful = min(p for p, _ in chances) <= _DOUBTFUL
    verdict = RuleVerdict.OK
    if chances[0][1]:
        breach = any(beyond and p <= test.alpha for test, (p, beyond) in zip(tests, chances, strict=True))
        verdict = RuleVerdict.BREACH if breach else RuleVerdict.CHANCE
    return Judgement(verdict, estimate.value, limit, known, estimate.n, doubtful)


def _chance(rule: RuleSpec, test: Stretch) -> tuple[float, bool]:
    """Return (p-value, whether the estimate is beyond the limit)."""
    estimate, base = test.measured.estimate, None if test.baseline is None else test.baseline.estimate
    if estimate is None or (base is None and rule.reference is not LimitBasis.NOTHING):
        return 1.0, False
    limit = limit_of(rule, base)
    return p_value(rule, test.measured, test.baseline, limit), _is_beyond(rule, estimate, limit)


def _is_beyond(rule: RuleSpec, estimate: Estimate, limit: float) -> bool:
    return estimate.value > limit if rule.bound is Bound.ABOVE else estimate.value < limit


def limit_of(rule: RuleSpec, base: Estimate | None) -> float:
    """Return what the metric of a rule is held to, in its unit; `base` is its baseline."""
    match rule.reference:
        case LimitBasis.SHARE if base is not None:
            return rule.limit * base.value
        case LimitBasis.POINTS if base is not None:
            return base.value + rule.limit
        case _:
            return rule.limit


def p_value(rule: RuleSpec, measured: Measured, baseline: Measured | None, limit: float) -> float:
    """Return P(an estimate so extreme) if the metric truly is at its acceptable value."""
    estimate = measured.estimate
    if rule.reference is LimitBasis.NOTHING or baseline is None or baseline.estimate is None:
        baseline = None
    if estimate is None:
        return 1.0
    if rule.metric in QUANTILES and measured.above is not None:
        # The quantile lies above x where more than 1 - q of the events do.
        tail = 1 - QUANTILES[rule.metric]
        if baseline is None or baseline.estimate is None:
            return _share_p(rule, measured, *measured.above(limit), None, tail, 0)
        hits, n = tail * baseline.estimate.n, baseline.estimate.n
        if baseline.above is not None:
            # The quantile lies within a cell, and events are counted that lie above the cell: so of both sides.
            hits, n = baseline.above(baseline.estimate.value)
        return _share_p(rule, measured, *measured.above(baseline.estimate.value), baseline, hits, n)
    if estimate.hits is not None:
        if baseline is None or baseline.estimate is None:
            return _share_p(rule, measured, estimate.hits, estimate.n, None, limit, 0)
        base = baseline.estimate
        hits = base.hits if base.hits is not None else base.value * base.n
        return _share_p(rule, measured, estimate.hits, estimate.n, baseline, hits, base.n)
    return _mean_p(rule, measured, baseline, limit)


def _share_p(
    rule: RuleSpec, measured: Measured, hits: float, n: float, baseline: Measured | None, base_hits: float, base_n: int
) -> float:
    """Return the p-value of a share; without a baseline `base_hits` is the acceptable share."""
    above, phi, df = rule.bound is Bound.ABOVE, measured.dependence.phi, measured.dependence.df
    if baseline is None:
        return in_student_law(share_p_value(hits / phi, n / phi, base_hits, above=above), df)
    its = baseline.dependence
    p = two_shares_p_value(hits / phi, n / phi, base_hits / its.phi, base_n / its.phi, above=above)
    return in_student_law(p, min(df, its.df))


def _mean_p(rule: RuleSpec, measured: Measured, baseline: Measured | None, limit: float) -> float:
    """Return the p-value of a metric with a variance."""
    estimate, phi, df = measured.estimate, measured.dependence.phi, measured.dependence.df
    if estimate is None:
        return 1.0
    size, variance = estimate.n / phi, estimate.variance * phi
    acceptable, noise, slope = limit, 0.0, 1.0
    base = None if baseline is None else baseline.estimate
    if base is not None and baseline is not None:
        its = baseline.dependence
        size, df = min(size, base.n / its.phi), min(df, its.df)
        acceptable, noise = base.value, base.noise * math.sqrt(its.phi)
    if estimate.noise:
        # Without the noise of its own number of events, and with that of the window's: they add up like variances.
        own = estimate.noise * math.sqrt(phi)
        expected = math.sqrt(max(acceptable**2 - noise**2 + own**2, own**2 / 4))
        slope, acceptable = min(acceptable / expected, 1.0), expected
    if base is not None and baseline is not None:
        variance += base.variance * baseline.dependence.phi * slope**2
    excess = estimate.value - acceptable if rule.bound is Bound.ABOVE else acceptable - estimate.value
    return mean_p_value(excess, variance, min(size, df + 1))


def differs(metric: str, measured: Measured, told: float, n: int) -> bool:
    """Return whether a quantile differs from what one of another window was, beyond three standard errors.

    If it does not, the share of events above the earlier value is that of its window: what the share says of a
    quantile holds whatever the distribution is (Conover, 1999, "Practical Nonparametric Statistics"). Other metrics
    are told apart by their variances.

    Args:
        metric: Name of the metric.
        measured: The metric in the window.
        told: Its value in the earlier window.
        n: Number of events there.
    """
    if metric not in QUANTILES or measured.above is None or measured.estimate is None or not n:
        return True
    tail = (1 - QUANTILES[metric]) * n
    return two_shares_p_value(*measured.above(told), tail, n, above=measured.estimate.value > told) < _CHANCE


@dataclass(slots=True)
class RuleState:
    """The state of a rule on one version between checks, as it is stored.

    A rule fires after its checks or its dwell in breach, and resolves after `resolve_after` checks in a row that
    found the metric within the limit. Skipped checks count for neither.

    Attributes:
        breaches: Checks in a row that found a breach.
        since: End of the window of the first of them, ms.
        calm: Checks in a row that found the metric within the limit.
        firing: Whether it fires.
    """

    breaches: int = 0
    since: int | None = None
    calm: int = 0
    firing: bool = False

    def update(self, rule: RuleSpec, judgement: Judgement, now: int, resolve_after: int) -> bool:
        """Take in one check of the window that ends at `now` (ms); return whether `firing` changed."""
        match judgement.verdict:
            case RuleVerdict.BREACH:
                self.breaches += 1
                self.since = now if self.since is None else self.since
                self.calm = 0
                if not self.firing and self.breaches >= rule.checks and now - self.since >= rule.dwell:
                    self.firing = True
                    return True
            case RuleVerdict.OK:
                self.breaches, self.since = 0, None
                self.calm += 1
                if self.firing and self.calm >= resolve_after:
                    self.firing = False
                    return True
            case RuleVerdict.CHANCE:
                self.breaches, self.since = 0, None
                self.calm = 0
            case _:
                pass
        return False

    @property
    def pending(self) -> bool:
        """Whether it breaches, but not for long enough to fire."""
        return not self.firing and self.breaches > 0
