"""Rules: a metric is beyond its limit, by more than chance, for long enough.

A rule breaches when its point estimate is beyond the limit and the one-sided p-value against the acceptable
value (the baseline, or the limit where there is none) is at most the rule's share of the false-alarm budget.
The bare comparison would fire twenty times in 100 000 events of a healthy model. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from detectors.significance import mean_p_value, share_p_value, two_shares_p_value
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


_CHANCE: Final = 0.00135  # P(a normal variable lies more than three standard deviations above its mean)
SKIPPED: Final = frozenset({RuleVerdict.NO_DATA, RuleVerdict.TOO_FEW, RuleVerdict.NO_BASELINE})


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the numbers behind it; NaN where the check was skipped."""

    verdict: RuleVerdict
    value: float = float("nan")
    limit: float = float("nan")
    baseline: float | None = None
    n: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric of a window as rules need it.

    Attributes:
        estimate: Its estimate; None where the window has no value.
        above: Counts the events above a limit, for metrics that are quantiles: (how many, of how many).
    """

    estimate: Estimate | None
    above: Callable[[float], tuple[int, int]] | None = None


def judge(rule: RuleSpec, measured: Measured, baseline: Measured | None, alpha: float) -> Judgement:
    """Judge a rule on one window.

    Args:
        rule: The rule.
        measured: Its metric in the window.
        baseline: Its metric in what the window is compared with; None where there is nothing yet.
        alpha: The p-value at which it breaches: its share of the false-alarm budget.
    """
    estimate = measured.estimate
    if estimate is None:
        return Judgement(RuleVerdict.NO_DATA)
    if estimate.n < rule.min_n:
        return Judgement(RuleVerdict.TOO_FEW, estimate.value, n=estimate.n)
    base = baseline.estimate if baseline is not None else None
    if rule.reference is not LimitBasis.NOTHING and base is None:
        return Judgement(RuleVerdict.NO_BASELINE, estimate.value, n=estimate.n)
    limit = _limit(rule, base)
    beyond = estimate.value > limit if rule.bound is Bound.ABOVE else estimate.value < limit
    known = base.value if base is not None and rule.reference is not LimitBasis.NOTHING else None
    if not beyond:
        return Judgement(RuleVerdict.OK, estimate.value, limit, known, estimate.n)
    breach = rule.hard or _p_value(rule, measured, baseline, limit) <= alpha
    verdict = RuleVerdict.BREACH if breach else RuleVerdict.CHANCE
    return Judgement(verdict, estimate.value, limit, known, estimate.n)


def _limit(rule: RuleSpec, base: Estimate | None) -> float:
    match rule.reference:
        case LimitBasis.SHARE if base is not None:
            return rule.limit * base.value
        case LimitBasis.POINTS if base is not None:
            return base.value + rule.limit
        case _:
            return rule.limit


def _p_value(rule: RuleSpec, measured: Measured, baseline: Measured | None, limit: float) -> float:
    """Return P(an estimate so extreme) if the metric truly is at its acceptable value."""
    estimate, above = measured.estimate, rule.bound is Bound.ABOVE
    if estimate is None:
        return 1.0
    base = baseline.estimate if baseline is not None and rule.reference is not LimitBasis.NOTHING else None
    if rule.metric in QUANTILES and measured.above is not None:
        # The quantile lies above x where more than 1 - q of the events do.
        tail = 1 - QUANTILES[rule.metric]
        if base is None:
            return share_p_value(*measured.above(limit), tail, above=above)
        return two_shares_p_value(*measured.above(base.value), tail * base.n, base.n, above=above)
    if estimate.hits is not None:
        if base is None:
            return share_p_value(estimate.hits, estimate.n, limit, above=above)
        hits = base.hits if base.hits is not None else base.value * base.n
        return two_shares_p_value(estimate.hits, estimate.n, hits, base.n, above=above)
    acceptable = limit if base is None else base.value
    excess = estimate.value - acceptable if above else acceptable - estimate.value
    variance = estimate.variance + (base.variance if base is not None else 0.0)
    return mean_p_value(excess, variance, min(estimate.n, base.n) if base is not None else estimate.n)


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
