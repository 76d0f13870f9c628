"""Which rules have a part of the budget: those whose limit a healthy version may pass by chance. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from detectors.pane_dependence import in_student_law
from detectors.shares import two_shares_p_value
from monitor.aggregation.metrics import QUANTILES
from monitor.evaluation.rules import Measured, limit_of
from monitor.evaluation.version_state import RuleInstance
from monitor.spec import Bound, LimitBasis, RuleSpec

# Of the budget of all rules: one that passes its limit more seldom adds nothing to speak of to their alarms.
_NEGLIGIBLE: Final = 0.01


def part_of(rate: float, rules: Iterable[RuleInstance]) -> float:
    """Return how many false alarms per check each of some rules may raise.

    Args:
        rate: False alarms per check that all of them may raise.
        rules: The rules that can be judged.
    """
    sharing = {_incident(each.rule) for each in rules if not each.out_of_reach}
    return rate / max(len(sharing), 1)


def _incident(rule: RuleSpec) -> tuple[str, Bound, bool]:
    """Return what rules have in common that see the same thing: they begin to fire together, and share one part."""
    return rule.metric, rule.bound, rule.reference is LimitBasis.NOTHING


def is_out_of_reach(rule: RuleSpec, measured: Measured, baseline: Measured | None, rate: float) -> bool:
    """Tell whether chance alone does not take a version that is as its baseline beyond a limit.

    A window must be beyond the limit for its rule to breach, so that is a bound of its false alarms whatever its level
    is. Only shares and quantiles have a law that says how often that is; other metrics depend on their tails.

    Args:
        rule: The rule.
        measured: Its metric in the window, with its dependence; only how many events it has matters.
        baseline: Its metric while the version was healthy, with its dependence; None where that is not known.
        rate: False alarms per check that all rules may raise.
    """
    if measured.estimate is None or baseline is None or baseline.estimate is None:
        return False
    limit = limit_of(rule, baseline.estimate)
    if rule.metric in QUANTILES and baseline.above is not None:
        above, base_n = baseline.above(limit)
        share, hits = 1 - QUANTILES[rule.metric], float(above)
    elif baseline.estimate.hits is not None:
        share, hits, base_n = limit, baseline.estimate.hits, baseline.estimate.n
    else:
        return False
    n, phi, its = measured.estimate.n, measured.dependence.phi, baseline.dependence
    p = two_shares_p_value(
        share * n / phi, n / phi, hits / its.phi, base_n / its.phi, above=rule.bound is Bound.ABOVE
    )  # fmt: skip
    return in_student_law(p, min(measured.dependence.df, its.df)) <= rate * _NEGLIGIBLE
