"""The default rules are those of the documentation, word by word."""

from __future__ import annotations

import pytest

from monitor.config import build
from monitor.config.rules import default_rules
from monitor.spec import Bound, Consequence, LimitBasis, RuleSpec, Severity, Task
from tests.monitor.config.texts import configured

NONE, ROLLBACK = Consequence.NONE, Consequence.ROLLBACK
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
MINUTE = 60_000

# metric, side, limit, measured from, severity, consequence
OPERATIONAL = {
    ("latency_p95_ms", Bound.ABOVE, 750.0, LimitBasis.NOTHING, WARNING, NONE),
    ("latency_p95_ms", Bound.ABOVE, 1_000.0, LimitBasis.NOTHING, CRITICAL, NONE),
    ("latency_p95_ms", Bound.ABOVE, 2.0, LimitBasis.SHARE, CRITICAL, ROLLBACK),  # latency +100 %
    ("error_rate", Bound.ABOVE, 0.002, LimitBasis.NOTHING, WARNING, NONE),
    ("error_rate", Bound.ABOVE, 0.005, LimitBasis.NOTHING, CRITICAL, NONE),
    ("error_rate", Bound.ABOVE, 0.01, LimitBasis.NOTHING, CRITICAL, ROLLBACK),
    ("memory_mb", Bound.ABOVE, 1.5, LimitBasis.SHARE, CRITICAL, ROLLBACK),  # memory > 150 % of the baseline
    ("agreement", Bound.BELOW, 0.75, LimitBasis.NOTHING, WARNING, NONE),
}
CLASSIFIER = {
    ("accuracy", Bound.BELOW, -0.01, LimitBasis.POINTS, WARNING, NONE),
    ("accuracy", Bound.BELOW, -0.03, LimitBasis.POINTS, CRITICAL, NONE),
    ("accuracy", Bound.BELOW, -0.05, LimitBasis.POINTS, CRITICAL, ROLLBACK),
}
REGRESSION = {
    ("mae", Bound.ABOVE, 1.1, LimitBasis.SHARE, WARNING, NONE),
    ("mae", Bound.ABOVE, 1.25, LimitBasis.SHARE, CRITICAL, NONE),
    ("mae", Bound.ABOVE, 1.5, LimitBasis.SHARE, CRITICAL, ROLLBACK),
}


def essence(rules: tuple[RuleSpec, ...]) -> set[tuple[object, ...]]:
    return {(r.metric, r.bound, r.limit, r.reference, r.severity, r.then) for r in rules}


@pytest.mark.parametrize(
    ("task", "quality"), [(Task.BINARY, CLASSIFIER), (Task.MULTICLASS, CLASSIFIER), (Task.REGRESSION, REGRESSION)]
)
def test_the_default_rules_of_each_task(task: Task, quality: set[tuple[object, ...]]) -> None:
    """Critical at 3 points, 1 000 ms, 0.5 %; warning at 1, 750, 0.2; rollback at 5 points, 1 %, +100 %, 150 %."""
    rules = default_rules(task, outcomes=True)

    assert essence(rules) == OPERATIONAL | quality
    assert len(rules) == len(OPERATIONAL | quality)


def test_agreement_has_to_be_low_for_half_an_hour() -> None:
    """All others for three checks in a row: one bad window is not an incident."""
    rules = {rule.name: rule for rule in default_rules(Task.BINARY, outcomes=True)}

    agreement = rules.pop("agreement_warning")
    assert (agreement.checks, agreement.dwell) == (1, 30 * MINUTE)
    assert {(rule.checks, rule.dwell) for rule in rules.values()} == {(3, 0)}


def test_chance_is_always_excluded_and_names_are_unique() -> None:
    """Nobody is woken by a bare comparison."""
    rules = default_rules(Task.REGRESSION, outcomes=True)

    assert not any(rule.hard for rule in rules)
    assert len({rule.name for rule in rules}) == len(rules)


@pytest.mark.parametrize("task", list(Task))
def test_without_outcomes_there_are_no_rules_on_quality(task: Task) -> None:
    """Nothing would ever be judged by them."""
    assert essence(default_rules(task, outcomes=False)) == OPERATIONAL


def test_without_the_metric_there_are_no_rules_on_it() -> None:
    """Where `outcomes.metrics` lists others only."""
    assert essence(default_rules(Task.BINARY, outcomes=True, listed=["f1"])) == OPERATIONAL
    assert essence(default_rules(Task.BINARY, outcomes=True, listed=["accuracy"])) == OPERATIONAL | CLASSIFIER


def test_a_model_without_rules_has_the_default_ones() -> None:
    """An empty list switches them off, and a list replaces them."""
    (by_default,) = build.core(configured()).models
    (none,) = build.core(configured(model="rules: []")).models
    (one,) = build.core(configured(model="rules: [{name: a, metric: mae, above: 3}]")).models

    assert by_default.rules == default_rules(Task.REGRESSION, outcomes=True)
    assert none.rules == ()
    assert [rule.name for rule in one.rules] == ["a"]
