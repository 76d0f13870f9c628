"""What a metric would be measured as at another value, and the nearest value that a rule takes for no chance. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from scipy import optimize

from detectors.pane_dependence import MetricDependence
from monitor.aggregation.metrics import QUANTILES, Estimate
from monitor.evaluation.rules import Measured, p_value
from monitor.spec import Bound, LimitBasis, RuleSpec

_COUNTED: Final = frozenset({"error_rate", "accuracy", "precision", "recall", "agreement", "coverage"})  # of hits
_LEAST_P: Final = 1e-300
_DOUBLINGS: Final = 60


@dataclass(frozen=True, slots=True)
class MetricModel:
    """Say how a metric varies around any value that it may have.

    Attributes:
        rule: The rule on it.
        n: Events behind it.
        spread: Variance of one event; None of a share.
        noise: What it has of chance alone, of one event.
        acceptable: Its right value: that of the baseline, else the limit; of a quantile the share above it.
        base: The baseline; None for a limit that is absolute.
        dependence: How much events depend on each other.
    """

    rule: RuleSpec
    n: int
    spread: float | None
    noise: float
    acceptable: float
    base: Measured | None
    dependence: MetricDependence

    @staticmethod
    def of(
        rule: RuleSpec, estimate: Estimate | None, baseline: Estimate | None, n: int, dependence: MetricDependence
    ) -> MetricModel | None:
        """Return what is known of a metric; None where that does not do."""
        known = estimate or baseline
        base = None if baseline is None else Measured(baseline, dependence=dependence)
        if rule.metric in QUANTILES:
            return MetricModel(rule, n, None, 0.0, 1 - QUANTILES[rule.metric], base, dependence)
        acceptable = rule.limit if baseline is None else baseline.value
        if rule.metric in _COUNTED or (known is not None and known.hits is not None):
            return MetricModel(rule, n, None, 0.0, acceptable, base, dependence)
        if known is None or not math.isfinite(known.variance):
            return None
        return MetricModel(
            rule, n, known.variance * known.n, known.noise * math.sqrt(known.n), acceptable, base, dependence
        )  # fmt: skip

    def over(self, windows: int, *, both: bool) -> MetricModel:
        """Return it over so many windows; `both`: the baseline is of the same windows."""
        base = self.base
        if both and base is not None and base.estimate is not None:
            known = base.estimate
            hits = None if known.hits is None else known.hits * windows
            longer = replace(known, n=known.n * windows, variance=known.variance / windows, hits=hits)
            base = replace(base, estimate=longer)
        return replace(self, n=self.n * windows, base=base)

    def measured(self, value: float) -> Measured:
        """Return the metric as it would be measured at this value."""
        if self.rule.metric in QUANTILES:
            level = self.acceptable if self.base is None or self.base.estimate is None else self.base.estimate.value
            above = round(value * self.n), self.n
            return Measured(Estimate(level, self.n), lambda limit: above, self.dependence)
        if self.spread is None:
            return Measured(Estimate.share(value * self.n, self.n), dependence=self.dependence)
        spread = self.spread
        if self.rule.reference is LimitBasis.SHARE and self.acceptable:
            spread *= (value / self.acceptable) ** 2  # what grows by a factor does so in every event
        noise = self.noise / math.sqrt(self.n)
        return Measured(Estimate(value, self.n, spread / self.n, noise=noise), dependence=self.dependence)

    def smallest(self, rule: RuleSpec, limit: float, level: float) -> float | None:
        """Return the value nearest to what is acceptable that is significant; None if none is."""

        def excess(value: float) -> float:
            p = p_value(rule, self.measured(value), self.base, limit)
            return math.log(max(p, _LEAST_P)) - math.log(max(level, _LEAST_P))

        if self.spread is None:
            return _crossing(excess, self.acceptable, 1.0 if rule.bound is Bound.ABOVE else 0.0)
        step = max(abs(self.acceptable), math.sqrt(self.spread / max(self.n, 1)), 1e-12)
        sign = 1 if rule.bound is Bound.ABOVE else -1
        for doubling in range(_DOUBLINGS):
            found = _crossing(excess, self.acceptable, self.acceptable + sign * step * 2.0 ** (doubling - 3))
            if found is not None:
                return found
        return None


def _crossing(excess: Callable[[float], float], start: float, end: float) -> float | None:
    """Return where a function that falls from `start` to `end` is 0; None if it is above 0 at both."""
    if excess(end) > 0:
        return None
    if excess(start) <= 0:
        return start
    return float(optimize.brentq(excess, start, end, xtol=1e-9, rtol=1e-5))
