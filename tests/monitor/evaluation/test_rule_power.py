"""What rules are said to find is what they find: windows with such a change are simulated and judged."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from monitor.aggregation.metrics import Estimate
from monitor.cli.explain import explanation_of
from monitor.evaluation.baselines import Baselines
from monitor.evaluation.metric_panes import is_assumed
from monitor.evaluation.rule_power import RulePower, RulePowers
from monitor.evaluation.rules import Measured, p_value
from monitor.spec import LimitBasis, RuleSpec, Task
from tests.monitor.kit import (
    HOUR,
    SECOND,
    T0,
    Run,
    a_core,
    a_drift,
    a_model,
    a_rule,
    counted,
    outcome,
    prediction,
    some_outcomes,
)

RATE = 1e-5  # false alarms per check of all rules
N = 200
ACCURACY = a_rule("accuracy_drop", "accuracy", below=-0.05, of=LimitBasis.POINTS, checks=3)
ERRORS = a_rule("errors", "error_rate", above=0.02)
LATENCY = a_rule("slow", "latency_p95_ms", above=100)
REPEATS = 400


def a_run(rules: Sequence[RuleSpec], events: int = 4_000, accuracy: float = 0.9) -> Run:
    """A classifier with windows of 200 answers that is right so often."""
    model = a_model(
        task=Task.BINARY, positive="1", window=counted(N, 20), rules=tuple(rules),
        outcomes=some_outcomes(24 * HOUR, baseline_n=1000), drift=a_drift(events=1_000_000),
    )  # fmt: skip
    run, dice = Run(a_core(model)), random.Random(1)
    for start in range(0, events, 1000):
        some: list[dict[str, Any]] = []
        for i in range(start, min(start + 1000, events)):
            right, at = dice.random() < accuracy, T0 + i * SECOND
            some += [
                dict(prediction(f"r{i}", at, "1", latency_ms=dice.uniform(5, 20))),
                dict(outcome(f"r{i}", at + 1, "1" if right else "0")),
            ]
        run.events(*some)
    return run


def powers(run: Run) -> dict[str, RulePower]:
    model = run.model
    (state,) = model.versions.states.values()
    baselines = Baselines(model.spec, model.versions.states, model.references, model.controller)
    return {p.rule.name: p for p in RulePowers(model.spec, state, baselines, (), 1.0).of_all(RATE, N)}


@pytest.fixture(scope="module")
def run() -> Run:
    return a_run([ACCURACY, ERRORS, LATENCY, replace(ERRORS, name="hard", hard=True)])


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_drop_of_the_size_that_is_told_is_found_in_about_half_of_the_windows(run: Run, at: int) -> None:
    power = powers(run)["accuracy_drop"]
    change = power.changes[at]
    assert change.value is not None
    n, rng = change.windows * N, np.random.default_rng(1)
    base = Estimate.share(round((power.baseline or 0.0) * power.baseline_n), power.baseline_n)

    def found(value: float) -> float:
        """The share of windows that break the rule; events depend on each other as was learned."""
        effective = n / power.dependence.phi
        shares = rng.binomial(round(effective), value, REPEATS) / round(effective)
        windows = [Measured(Estimate.share(share * n, n), dependence=power.dependence) for share in shares]
        compared = Measured(base, dependence=power.dependence)
        return float(np.mean([p_value(ACCURACY, w, compared, power.limit or 0.0) <= change.level for w in windows]))

    assert 0.4 <= found(change.value) <= 0.65
    assert found((power.baseline or 0.0) * 0.5 + change.value * 0.5) < 0.2


def test_longer_stretches_find_smaller_drops_after_more_events(run: Run) -> None:
    changes = powers(run)["accuracy_drop"].changes
    values = [change.value for change in changes]

    assert [change.windows for change in changes] == [1, 2, 3, 5]
    assert values == sorted(values, key=lambda value: value or 0.0)
    expected = [N + 40, 2 * N + 40, 3 * N + 40, 5 * N + 40]  # with two more checks; one outcome is yet to come
    assert [change.events for change in changes] == pytest.approx(expected, rel=0.01)


def test_where_a_small_change_is_significant_the_limit_decides() -> None:
    wide = replace(ACCURACY, limit=-0.4)

    changes = powers(a_run([wide], events=2_000))["accuracy_drop"].changes

    assert all(change.by_limit for change in changes[1:])


def test_dependence_is_supposed_until_there_are_enough_panes() -> None:
    early, late = powers(a_run([ACCURACY], events=1_200)), powers(a_run([ACCURACY], events=4_000))

    assert not late["accuracy_drop"].is_supposed
    assert late["accuracy_drop"].panes > early["accuracy_drop"].panes
    assert late["accuracy_drop"].dependence.phi < early["accuracy_drop"].dependence.phi


def test_a_rule_without_a_baseline_says_so_and_finds_nothing() -> None:
    power = powers(a_run([ACCURACY], events=600))["accuracy_drop"]

    assert power.why == "no_baseline"
    assert power.limit is None
    assert power.changes == ()


def test_a_hard_rule_has_no_promise_and_takes_no_share(run: Run) -> None:
    found = powers(run)
    alone = powers(a_run([ACCURACY, ERRORS, LATENCY]))

    assert found["hard"].changes == ()
    assert not found["hard"].is_supposed
    assert found["errors"].changes == alone["errors"].changes


def test_a_quantile_is_found_by_the_share_of_answers_above_its_limit(run: Run) -> None:
    (change,) = powers(run)["slow"].changes

    assert change.value is not None
    assert 0.05 < change.value < 1


def test_a_mean_error_that_rises_is_found_where_its_own_spread_lets_it() -> None:
    rule = a_rule("error", "mae", above=1.1, of=LimitBasis.SHARE)
    model = a_model(window=counted(N, 20), rules=(rule,), outcomes=some_outcomes(24 * HOUR, baseline_n=1000))
    run, dice = Run(a_core(model)), random.Random(1)
    events = []
    for i in range(3_000):
        at = T0 + i * SECOND
        events += [prediction(f"r{i}", at, 1.0), outcome(f"r{i}", at + 1, 1.0 + dice.gauss(0, 1))]
    run.events(*events)

    power = powers(run)["error"]
    values = [change.value or math.nan for change in power.changes]

    assert power.baseline == pytest.approx(0.8, abs=0.1)
    assert 1.1 * (power.baseline or 0.0) <= values[3] < values[0] < 4


def test_the_status_says_of_a_version_how_well_its_promise_is_founded(run: Run) -> None:
    early = a_run([ACCURACY, ERRORS], events=200).told().status["models"]["m"]["versions"]["v1"]
    late = run.told().status["models"]["m"]["versions"]["v1"]

    assert (early["founded"], late["founded"]) == ("assumed", "kept")
    (reason,) = early["assumed_because"]
    assert reason.startswith("rules on error_rate: fewer than 16 panes before the window show")


def test_dependence_of_failures_that_never_came_is_supposed_and_the_promise_is_kept(run: Run) -> None:
    """A version that goes on without any raises no alarm, however much they might depend on each other."""
    power = powers(run)["errors"]

    assert power.is_supposed
    assert not power.is_assumed
    assert power.panes > 16
    assert power.telling == 0


def test_of_a_few_failures_the_promise_is_assumed() -> None:
    assert is_assumed(200, 5)
    assert is_assumed(15, 0)
    assert not is_assumed(200, 16)


def test_the_document_says_of_rules_what_was_computed(run: Run) -> None:
    version = explanation_of(run.model).document()["versions"]["v1"]
    rules = {rule["name"]: rule for rule in version["rules"]}

    assert version["parts"]["drift"] == 0  # nothing is compared with a reference
    assert rules["accuracy_drop"]["finds"][0]["direction"] == "drop"
    assert rules["hard"]["dependence"] is None
    assert rules["accuracy_drop"]["dependence"]["supposed"] is False
