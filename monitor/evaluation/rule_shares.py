"""How rules share their budget: what those take that chance alone can hardly break goes to the others. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from scipy import special

from detectors.shares import share_p_value
from monitor.aggregation.metrics import QUANTILES
from monitor.evaluation.rules import Measured, limit_of
from monitor.evaluation.version_state import RuleInstance
from monitor.spec import Bound, LimitBasis, RuleSpec

_LEAST_RATE: Final = 1e-12  # of which a float still tells 1 - rate; with a smaller one rules are broken more seldom
_Incident = tuple[str, Bound, bool]


def part_of(rate: float, rules: Iterable[RuleInstance]) -> float:
    """Return how many false alarms per check each of some rules may raise.

    All have an equal part; what a rule leaves of its own, since it cannot be broken so often, the others share.

    Args:
        rate: False alarms per check that all of them may raise.
        rules: The rules that can be judged.
    """
    reaches: dict[_Incident, float] = {}
    for each in rules:
        incident = _incident(each.rule)
        reaches[incident] = max(reaches.get(incident, 0.0), each.reach)
    left, sharing = rate, len(reaches)
    for reach in sorted(reaches.values()):
        if reach >= left / sharing:
            break
        left, sharing = left - reach, sharing - 1
    return left / max(sharing, 1)


def _incident(rule: RuleSpec) -> _Incident:
    """Return what rules have in common that see the same thing: they begin to fire together, and share one part."""
    return rule.metric, rule.bound, rule.reference is LimitBasis.NOTHING


def reach_of(
    rule: RuleSpec, measured: Measured, baseline: Measured | None, rate: float, windows: Iterable[int]
) -> float:
    """Return how often, at most, a check breaks a rule by chance if the version goes on as its baseline was.

    A rule with a limit relative to the baseline breaches only where the window is beyond the limit; one with a limit
    of its own only where a stretch is significantly beyond it. Only shares and quantiles have a law that says how
    often that is; of other metrics it depends on their tails.

    Args:
        rule: The rule.
        measured: Its metric in the window, with its dependence; only how many events it has matters.
        baseline: Its metric while the version was healthy; None where that is not known.
        rate: False alarms per check that all rules may raise.
        windows: Windows that stretches under test span.

    Returns:
        A probability; 1 where nothing bounds it.
    """
    if measured.estimate is None or baseline is None or baseline.estimate is None:
        return 1.0
    limit, above = limit_of(rule, baseline.estimate), rule.bound is Bound.ABOVE
    if rule.metric in QUANTILES and baseline.above is not None:
        share, (hits, base_n) = 1 - QUANTILES[rule.metric], baseline.above(limit)
    elif baseline.estimate.hits is not None:
        share, hits, base_n = limit, round(baseline.estimate.hits), baseline.estimate.n
    else:
        return 1.0
    phi = measured.dependence.phi
    n, its = measured.estimate.n / phi, base_n / phi
    # Of shares at least as extreme: as if the baseline had seen one event more of the kind that breaks the rule.
    normal = (hits / phi + above) / (its + 1)
    if not above:
        share, normal = 1 - share, 1 - normal
    if normal >= share:
        return 1.0
    if rule.reference is not LimitBasis.NOTHING:
        return share_p_value(max(share * n, 1.0), n, normal, above=True)
    return min(sum(_beyond(many * n, share, normal, rate) for many in windows), 1.0)


def _beyond(n: float, share: float, normal: float, rate: float) -> float:
    """Return how often a share of n events that is `normal` is significantly above another one, at a level."""
    least = float(special.bdtrik(1 - max(rate, _LEAST_RATE), n, share)) + 1
    return share_p_value(least, n, normal, above=True) if least <= n else 0.0
