"""How rules share their budget: what chance can hardly break leaves its part to the others."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.pane_dependence import MetricDependence
from monitor.aggregation.metrics import Estimate
from monitor.alerting.episodes import SimpleEpisode
from monitor.alerting.records import AlertKind, Subject
from monitor.evaluation.rule_shares import part_of, reach_of
from monitor.evaluation.rules import Measured
from monitor.evaluation.version_state import RuleInstance
from monitor.spec import LimitBasis, RuleSpec
from tests.monitor.kit import a_rule

RATE = 1e-4
ACCURACY = a_rule("accuracy", "accuracy", below=-0.05, of=LimitBasis.POINTS)
ERRORS = a_rule("errors", "error_rate", above=0.02)
SLOW = a_rule("slow", "latency_p95_ms", above=100)
MAE = a_rule("error", "mae", above=1.5, of=LimitBasis.SHARE)


def instance(rule: RuleSpec, reach: float) -> RuleInstance:
    return RuleInstance(rule, SimpleEpisode(Subject("m", "v1", AlertKind.METRIC, rule.name)), reach=reach)


def reach(rule: RuleSpec, value: float, base: Estimate, n: int = 1_000, phi: float = 4.0) -> float:
    window = Measured(Estimate.share(value * n, n), dependence=MetricDependence(phi))
    return reach_of(rule, window, Measured(base), RATE, (1, 2, 3, 5))


def test_rules_on_the_same_side_of_a_metric_share_one_part() -> None:
    rules = [instance(ACCURACY, 1.0), instance(ACCURACY, 1.0), instance(ERRORS, 1.0)]

    assert part_of(RATE, rules) == pytest.approx(RATE / 2)


def test_what_a_rule_leaves_of_its_part_goes_to_the_others() -> None:
    rules = [instance(ACCURACY, 1.0), instance(ERRORS, 1e-5), instance(SLOW, 0.0)]

    assert part_of(RATE, rules) == pytest.approx(RATE - 1e-5)
    assert part_of(RATE, rules[1:]) == pytest.approx(RATE - 1e-5)


def test_without_a_rule_that_can_be_judged_the_budget_is_left() -> None:
    assert part_of(RATE, []) == RATE


def test_a_limit_far_from_the_baseline_is_out_of_the_reach_of_chance() -> None:
    assert reach(ACCURACY, 0.9, Estimate.share(9_000, 10_000)) > 1e-3
    assert reach(ACCURACY, 0.9, Estimate.share(9_999, 10_000)) < 1e-9
    assert reach(ERRORS, 0.0, Estimate.share(0, 10_000)) < 1e-6
    assert reach(ERRORS, 0.0, Estimate.share(300, 10_000)) == 1.0


def test_metrics_whose_law_depends_on_their_tails_keep_their_part() -> None:
    window = Measured(Estimate(1.0, 1_000, 1e-6), dependence=MetricDependence(4.0))

    assert reach_of(MAE, window, Measured(Estimate(1.0, 10_000, 1e-7)), RATE, (1,)) == 1.0
    assert reach_of(ERRORS, window, None, RATE, (1,)) == 1.0


def test_a_share_breaks_a_limit_of_its_own_no_more_often_than_is_said() -> None:
    """Of independent events: three in a hundred where five are allowed."""
    rng, rate = np.random.default_rng(1), 0.01
    rule = a_rule("errors", "error_rate", above=0.05)
    window = Measured(Estimate.share(6, 200), dependence=MetricDependence(1.0))
    bound = reach_of(rule, window, Measured(Estimate.share(300, 10_000)), rate, (1,))
    least = next(hits for hits in range(200) if (rng.binomial(200, 0.05, 20_000) >= hits).mean() <= rate)

    assert (rng.binomial(200, 0.03, 200_000) >= least).mean() <= 1.5 * bound < 0.01
