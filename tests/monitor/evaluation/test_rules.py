"""Rules: limits, chance, patience, and the budget that they share."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.reference import Baseline
from detectors.types import FloatArray
from fallback.types import Route, ServingSpec
from monitor.aggregation.metrics import Estimate, latency_cells, latency_quantile
from monitor.evaluation.baselines import count_above
from monitor.evaluation.budget import Allowed
from monitor.evaluation.rules import Judgement, Measured, RuleState, RuleVerdict, judge, p_value
from monitor.saved import from_plain, to_plain
from monitor.spec import Bound, BudgetSpec, LimitBasis, ModelSpec, Severity, Task
from tests.monitor.kit import (
    HOUR,
    MINUTE,
    SECOND,
    T0,
    Event,
    Run,
    Told,
    a_core,
    a_drift,
    a_model,
    a_profile,
    a_rule,
    counted,
    from_file,
    learned,
    outcome,
    prediction,
    records_of,
    some_outcomes,
    timed,
)

LEVEL = 1e-4


def share(hits: float, n: int) -> Measured:
    return Measured(Estimate.share(hits, n))


def mean(value: float, n: int, variance: float) -> Measured:
    return Measured(Estimate(value, n, variance))


# -- limits ----------------------------------------------------------------------------------------------


def test_a_metric_within_an_absolute_limit_is_fine() -> None:
    rule = a_rule("errors", "error_rate", above=0.02)

    assert judge(rule, share(2, 100), None, LEVEL) == Judgement(RuleVerdict.OK, 0.02, 0.02, None, 100)


def test_a_metric_far_beyond_an_absolute_limit_is_a_breach() -> None:
    rule = a_rule("errors", "error_rate", above=0.02)

    assert judge(rule, share(20, 100), None, LEVEL) == Judgement(RuleVerdict.BREACH, 0.2, 0.02, None, 100)


def test_beyond_a_limit_by_what_chance_may_do_is_no_breach() -> None:
    rule = a_rule("errors", "error_rate", above=0.02)

    assert judge(rule, share(3, 100), None, LEVEL).verdict is RuleVerdict.CHANCE


def test_a_hard_rule_compares_the_bare_number() -> None:
    rule = a_rule("errors", "error_rate", above=0.02, hard=True)

    assert judge(rule, share(3, 100), None, LEVEL).verdict is RuleVerdict.BREACH
    assert judge(rule, share(2, 100), None, LEVEL).verdict is RuleVerdict.OK


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.90, RuleVerdict.OK), (0.80, RuleVerdict.BREACH)])
def test_a_drop_is_in_points_below_the_baseline(accuracy: float, verdict: RuleVerdict) -> None:
    rule = a_rule("accuracy", "accuracy", below=-0.03, of=LimitBasis.POINTS)

    found = judge(rule, share(accuracy * 1_000, 1_000), share(900, 1_000), LEVEL)

    assert found.verdict is verdict
    assert found.limit == pytest.approx(0.87)
    assert found.baseline == 0.9


@pytest.mark.parametrize(("error", "verdict"), [(2.0, RuleVerdict.OK), (2.2, RuleVerdict.BREACH)])
def test_a_share_is_a_multiple_of_the_baseline(error: float, verdict: RuleVerdict) -> None:
    rule = a_rule("error", "mae", above=1.05, of=LimitBasis.SHARE)

    found = judge(rule, mean(error, 500, 1e-4), mean(2.0, 500, 1e-4), LEVEL)

    assert found.verdict is verdict
    assert found.limit == pytest.approx(2.1)


def test_a_rule_against_a_baseline_asks_whether_the_two_differ_by_chance() -> None:
    """Not whether the limit does: that is a matter of size, and has been answered."""
    rule = a_rule("accuracy", "accuracy", below=-0.03, of=LimitBasis.POINTS)

    assert judge(rule, share(86, 100), share(900, 1_000), LEVEL).verdict is RuleVerdict.CHANCE
    assert judge(rule, share(8_600, 10_000), share(9_000, 10_000), LEVEL).verdict is RuleVerdict.BREACH


def test_a_latency_rule_counts_the_events_beyond_its_limit() -> None:
    """The 95 % quantile lies above 100 ms where more than one event in twenty does."""
    rule = a_rule("slow", "latency_p95_ms", above=100)
    measured = Estimate(120.0, 200)

    assert judge(rule, Measured(measured, lambda limit: (12, 200)), None, LEVEL).verdict is RuleVerdict.CHANCE
    assert judge(rule, Measured(measured, lambda limit: (40, 200)), None, LEVEL).verdict is RuleVerdict.BREACH


def test_latencies_that_have_not_changed_are_above_and_below_those_of_the_baseline_alike() -> None:
    """Both sides are counted above the same cell: p-values are uniform, whatever the width of cells."""
    rule, rng = a_rule("slow", "latency_p95_ms", above=1.0, of=LimitBasis.SHARE), np.random.default_rng(0)
    found = []
    for _ in range(400):
        base, latest = (latencies(rng.lognormal(3, 0.5, n)) for n in (10_000, 1_000))
        assert base.estimate is not None
        found.append(p_value(rule, latest, base, base.estimate.value))

    for p in (0.5, 0.1):
        assert np.mean(np.array(found) <= p) == pytest.approx(p, rel=0.25)


def latencies(values: FloatArray) -> Measured:
    counts = latency_cells(values)
    return Measured(Estimate(latency_quantile(counts, 0.95), len(values)), count_above(counts))


@pytest.mark.parametrize(
    ("measured", "baseline", "verdict"),
    [
        (Measured(None), share(9, 10), RuleVerdict.NO_DATA),
        (share(0, 29), share(9, 10), RuleVerdict.TOO_FEW),
        (share(0, 30), None, RuleVerdict.NO_BASELINE),
        (share(0, 30), Measured(None), RuleVerdict.NO_BASELINE),
        (share(0, 30), share(90, 100), RuleVerdict.BREACH),
    ],
)
def test_what_cannot_be_judged_is_skipped_with_the_reason(
    measured: Measured, baseline: Measured | None, verdict: RuleVerdict
) -> None:
    rule = a_rule("accuracy", "accuracy", below=-0.03, of=LimitBasis.POINTS, min_n=30)

    assert judge(rule, measured, baseline, LEVEL).verdict is verdict


def test_an_error_too_large_for_a_number_does_not_stop_the_daemon() -> None:
    rule = a_rule("error", "mse", above=1.0, hard=True)

    found = judge(rule, mean(float("inf"), 100, float("nan")), None, LEVEL)

    assert found.verdict is RuleVerdict.BREACH


@given(st.integers(0, 200), st.integers(1, 200), st.floats(0.01, 0.99), st.sampled_from(Bound), st.floats(1e-9, 0.1))
def test_a_breach_is_always_beyond_the_limit_and_a_hard_rule_finds_no_fewer(
    hits: int, n: int, limit: float, bound: Bound, alpha: float
) -> None:
    rule = replace(a_rule("r", "error_rate", above=limit), bound=bound)
    measured = share(min(hits, n), n)
    value = min(hits, n) / n

    soft = judge(rule, measured, None, alpha).verdict
    hard = judge(replace(rule, hard=True), measured, None, alpha).verdict

    beyond = value > limit if bound is Bound.ABOVE else value < limit
    assert hard is (RuleVerdict.BREACH if beyond else RuleVerdict.OK)
    assert soft is hard or (soft is RuleVerdict.CHANCE and hard is RuleVerdict.BREACH)


# -- chance, as a rate -----------------------------------------------------------------------------------


def test_a_rule_at_its_limit_breaches_no_more_often_than_alpha() -> None:
    """A model that fails exactly as often as is allowed: twenty thousand windows at an alpha of one in a hundred."""
    r = np.random.default_rng(1)
    rule = a_rule("errors", "error_rate", above=0.02)
    breaches = sum(
        judge(rule, share(hits, 500), None, 0.01).verdict is RuleVerdict.BREACH
        for hits in r.binomial(500, 0.02, 20_000).tolist()
    )

    assert breaches / 20_000 <= 0.01 * 1.25


def test_a_rule_against_a_baseline_breaches_no_more_often_than_alpha() -> None:
    """The baseline is a sample as well."""
    r = np.random.default_rng(2)
    rule = a_rule("accuracy", "accuracy", below=0.0, of=LimitBasis.POINTS)
    breaches = sum(
        judge(rule, share(hits, 400), share(base, 1_000), 0.01).verdict is RuleVerdict.BREACH
        for hits, base in zip(
            r.binomial(400, 0.9, 20_000).tolist(), r.binomial(1_000, 0.9, 20_000).tolist(), strict=True
        )
    )

    assert breaches / 20_000 <= 0.01 * 1.25


def test_a_rule_on_a_mean_breaches_no_more_often_than_alpha() -> None:
    r = np.random.default_rng(3)
    rule = a_rule("error", "mae", above=1.0, of=LimitBasis.SHARE)
    errors = np.abs(r.normal(0, 1, (5_000, 2, 300)))
    breaches = 0
    for window, base in errors:
        one, other = (mean(float(e.mean()), 300, float(e.var(ddof=1)) / 300) for e in (window, base))
        breaches += judge(rule, one, other, 0.01).verdict is RuleVerdict.BREACH

    assert breaches / 5_000 <= 0.01 * 1.3


def test_a_rule_beyond_its_limit_is_noticed() -> None:
    """The price of patience with chance is small: four times the allowed errors are seen in nearly every window."""
    r = np.random.default_rng(4)
    rule = a_rule("errors", "error_rate", above=0.02)
    noticed = sum(
        judge(rule, share(hits, 500), None, LEVEL).verdict is RuleVerdict.BREACH
        for hits in r.binomial(500, 0.08, 1_000).tolist()
    )

    assert noticed > 950


# -- patience --------------------------------------------------------------------------------------------


def fired(verdicts: Sequence[RuleVerdict], *, resolve_after: int = 3, **parts: Any) -> str:
    """`F` where the rule begins to fire, `R` where it is over, `.` in between, for a check each minute."""
    rule, state = a_rule("r", "error_rate", above=0.1, **parts), RuleState()
    said = ""
    for i, verdict in enumerate(verdicts):
        changed = state.update(rule, Judgement(verdict), i * MINUTE, resolve_after)
        said += ("F" if state.firing else "R") if changed else "."
    return said


O, C, B, N = RuleVerdict.OK, RuleVerdict.CHANCE, RuleVerdict.BREACH, RuleVerdict.NO_DATA  # noqa: E741 (as short as what they spell)


def test_a_rule_fires_after_its_checks_in_a_row() -> None:
    assert fired([B, B, O, B, B, B, B], checks=3) == ".....F."


def test_a_rule_fires_after_its_dwell() -> None:
    assert fired([B] * 5, dwell=3 * MINUTE) == "...F."
    assert fired([B, B, O, B, B, B, B], dwell=3 * MINUTE) == "......F"


def test_a_breach_that_chance_explains_begins_the_row_anew() -> None:
    assert fired([B, B, C, B, B, B], checks=3) == ".....F"


def test_a_skipped_check_counts_for_neither_side() -> None:
    assert fired([B, N, B, N, B, N, O, N, O, N, O], checks=3) == "....F.....R"


def test_a_rule_ends_after_calm_checks_in_a_row() -> None:
    assert fired([B, O, O, B, O, O, O, B], resolve_after=3) == "F.....RF"


def test_beyond_the_limit_by_chance_is_not_calm() -> None:
    assert fired([B, O, O, C, O, O, O], resolve_after=3) == "F.....R"


def test_a_rule_that_waits_is_pending_and_one_that_fires_is_not() -> None:
    rule, state = a_rule("r", "error_rate", above=0.1, checks=2), RuleState()

    state.update(rule, Judgement(B), 0, 3)
    assert (state.pending, state.firing) == (True, False)
    state.update(rule, Judgement(B), 1, 3)
    assert (state.pending, state.firing) == (False, True)
    assert from_plain(to_plain(state), RuleState) == state


# -- rules on a stream -----------------------------------------------------------------------------------


def answers(count: int, *, failing: range = range(0), start: int = 0, **more: Any) -> Iterator[Event]:
    """An answer a second; those within `failing` fail."""
    for i in range(start, start + count):
        error = {"error": "Timeout"} if i in failing else {}
        yield prediction(f"r{i}", T0 + i * SECOND, None if error else 1.0, **error, **more)


def told_of(model: ModelSpec, *events: Event) -> Told:
    run = Run(a_core(model))
    run.feed(records_of(events))
    run.commit(last=True)
    return run.told()


ERRORS = a_rule("errors", "error_rate", above=0.1, hard=True, severity=Severity.CRITICAL)


def test_a_rules_alert_has_the_numbers_and_the_window() -> None:
    told = told_of(a_model(window=counted(50, 50), rules=(ERRORS,)), *answers(100, failing=range(50, 75)))

    (alert,) = told.alerts()
    began = {"value": 0.5, "effect": pytest.approx(4.0), "at": alert["starts_at"]}
    assert alert["metric"] == {
        "name": "error_rate", "value": 0.5, "baseline": None, "limit": 0.1, "n": 50,
        "at_start": began, "peak": began, "as_of": None,
    }  # fmt: skip
    assert alert["window"]["events"] == 50
    assert (alert["kind"], alert["severity"], alert["rule"], alert["features"]) == ("metric", "critical", "errors", [])
    assert alert["starts_at"] == alert["window"]["end"] == alert["issued_at"]
    assert alert["summary"] == "errors: error_rate 0.5 is above 0.1"


def test_a_rule_that_waits_is_told_in_the_status_and_to_nobody_else() -> None:
    rule = replace(ERRORS, checks=3)
    told = told_of(a_model(window=counted(50, 50), rules=(rule,)), *answers(150, failing=range(50, 150)))

    assert told.alerts() == []
    assert told.status["models"]["m"]["versions"]["v1"]["pending"] == ["errors"]


def test_rules_on_answers_are_judged_when_a_window_closes_and_those_on_quality_when_outcomes_are_there() -> None:
    rules = (ERRORS, a_rule("wrong", "mae", above=0.5, hard=True))
    model = a_model(window=counted(50, 50), rules=rules, outcomes=some_outcomes())
    events = list(answers(50, failing=range(5, 20)))
    at = T0 + MINUTE
    landed = [outcome(f"r{i}", at, 3.0) for i in range(50)]

    assert [a["rule"] for a in told_of(model, *events).alerts()] == ["errors"]
    assert [a["rule"] for a in told_of(model, *events, *landed).alerts()] == ["errors", "wrong"]


def test_a_version_is_held_to_its_own_first_answers() -> None:
    """Their mean is the baseline from then on, whatever comes."""
    rule = a_rule("dear", "cost", above=1.5, of=LimitBasis.SHARE, hard=True)
    model = a_model(window=counted(500, 500), rules=(rule,))
    costs = [1.0] * 1_000 + [2.0] * 500 + [1.4] * 1_500
    events = [
        {**event, "metrics": {"cost": cost}} for event, cost in zip(answers(3_000), costs, strict=True)
    ]  # fmt: skip

    alerts = told_of(model, *events).alerts()

    assert [(a["status"], a["metric"]["baseline"], round(a["metric"]["value"], 9)) for a in alerts] == [
        ("firing", 1.0, 2.0),
        ("resolved", 1.0, 1.4),
    ]


def test_quality_is_held_to_the_references_own_where_it_has_one() -> None:
    profile = replace(a_profile([{"x": 1.0}] * 100), baselines={"mae": Baseline(0.1, 1_000, 1e-6)})
    rule = a_rule("error", "mae", above=1.5, of=LimitBasis.SHARE)
    model = a_model(window=counted(500, 500), rules=(rule,), outcomes=some_outcomes(), reference=from_file())
    run = Run(a_core(model), profiles={"m": profile})
    run.feed(records_of([*answers(500), *(outcome(f"r{i}", T0 + MINUTE, 2.0 + 0.01 * (i % 50)) for i in range(500))]))
    run.commit(last=True)

    (alert,) = run.told().alerts()
    assert (alert["metric"]["baseline"], alert["metric"]["limit"]) == (0.1, pytest.approx(0.15))


def test_a_challenger_is_held_to_the_champion_of_the_same_time() -> None:
    rule = a_rule("slow", "latency_p95_ms", above=2.0, of=LimitBasis.SHARE)
    model = a_model(window=counted(50, 50), rules=(rule,), serving=ServingSpec("v1", routes=(Route("v2", 5_000),)))
    events = [
        e
        for i in range(2_000)
        for e in (
            prediction(f"a{i}", T0 + i * SECOND, latency_ms=10.0),
            prediction(f"b{i}", T0 + i * SECOND, latency_ms=30.0, version="v2"),
        )
    ]

    alerts = told_of(model, *events).alerts()

    assert [(a["version"], round(a["metric"]["baseline"])) for a in alerts] == [("v2", 10)]


def test_a_metric_with_a_value_beyond_json_is_published_without_it() -> None:
    rule = a_rule("error", "mse", above=1.0, hard=True)
    model = a_model(window=counted(50, 50), rules=(rule,), outcomes=some_outcomes())
    events = [
        *answers(50),
        *(outcome(f"r{i}", T0 + MINUTE, 1e300 if i == 7 else 1.0) for i in range(50)),
    ]

    (alert,) = told_of(model, *events).alerts()

    assert alert["metric"]["value"] is None


# -- the budget ------------------------------------------------------------------------------------------


def allowed_of(**parts: Any) -> Allowed:
    """What the budget of a model leaves for a check of v1, after ten minutes of an answer a second."""
    rows = [{"x": random.Random(i).random(), "y": random.Random(-i).random()} for i in range(200)]
    run = Run(a_core(a_model(**{"reference": from_file(), **parts})), profiles={"m": a_profile(rows)})
    run.feed(records_of(answers(600, features={"x": 0.5, "y": 0.5})))
    (allowed,) = [run.model.evaluator.budget.allowed(watch) for watch in run.model.versions.states.values()]
    return allowed


def whole(allowed: Allowed) -> float:
    return allowed.drift + allowed.quality + allowed.rules


def test_the_budget_has_a_part_for_drift_for_rules_and_for_data_quality() -> None:
    month = 30 * 24 * HOUR
    model = {"window": timed(MINUTE, 5 * MINUTE), "drift": a_drift(1, period=month)}

    allowed = allowed_of(**model, rules=(ERRORS,))

    assert whole(allowed) == pytest.approx(MINUTE / month)
    assert allowed.rules == pytest.approx(0.35 * MINUTE / month)
    assert allowed.quality == pytest.approx(0.05 * MINUTE / month)


def test_a_part_of_the_budget_that_nobody_uses_goes_to_the_others() -> None:
    month = 30 * 24 * HOUR
    window, drift = timed(MINUTE, 5 * MINUTE), a_drift(1, period=month)

    without_rules = allowed_of(window=window, drift=drift)
    without_drift = allowed_of(window=window, rules=(ERRORS,))

    assert without_rules.rules == without_drift.drift == without_drift.quality == 0.0
    assert whole(without_rules) == pytest.approx(MINUTE / month)
    assert without_drift.rules == pytest.approx(MINUTE / month)


def test_rules_have_the_budget_of_their_windows_where_drift_is_not_watched() -> None:
    stated = BudgetSpec(2, events=100_000)
    by_events = allowed_of(window=counted(100, 50), rules=(ERRORS,))
    as_stated = allowed_of(window=counted(100, 50), rules=(ERRORS,), false_alarms=stated)

    assert by_events.rules == pytest.approx(50 / 1_000_000)
    assert as_stated.rules == pytest.approx(2 * 50 / 100_000)


def test_a_budget_in_events_meets_counted_windows_as_it_is() -> None:
    drift = replace(a_drift(1), budget=BudgetSpec(2, events=100_000))

    assert whole(allowed_of(window=counted(100, 50), drift=drift)) == pytest.approx(2 * 50 / 100_000)


def test_a_budget_in_time_meets_counted_windows_by_the_rate_of_events() -> None:
    """An answer a second, so an hour is 3600 events; the rate is measured once, in the first window."""
    drift = replace(a_drift(1), budget=BudgetSpec(1, period=HOUR))

    assert whole(allowed_of(window=counted(100, 50), drift=drift)) == pytest.approx(50 / 3_600, rel=0.02)


def test_versions_share_the_budget_of_windows_by_time() -> None:
    drift = a_drift(1, period=30 * 24 * HOUR)
    run = Run(
        a_core(a_model(window=timed(MINUTE, 5 * MINUTE), drift=drift, reference=from_file())),
        profiles={"m": a_profile([{"x": float(i)} for i in range(100)])},
    )

    def allowed() -> list[float]:
        return [
            whole(run.model.evaluator.budget.allowed(watch))
            for watch in run.model.versions.states.values()
            if len(watch.window)
        ]

    run.events(*answers(300, features={"x": 5.0}))
    (alone,) = allowed()
    run.events(*answers(20, start=300, version="v2", features={"x": 5.0}))
    assert allowed() == [alone]
    run.events(*answers(100, start=320, version="v2", features={"x": 5.0}))

    assert allowed() == [alone / 2, alone / 2]


def test_windows_from_before_a_reference_was_learned_use_nothing_of_the_budget_of_drift() -> None:
    model = a_model(window=counted(100, 50), drift=a_drift(events=100_000), reference=learned(100))
    run = Run(a_core(model))
    compared = []
    for start in range(0, 150, 50):
        run.events(*answers(50, start=start, features={"x": 5.0}))
        (watch,) = run.model.versions.states.values()
        compared.append(run.model.evaluator.budget.allowed(watch).drift > 0)

    assert compared == [False, False, True]


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_a_healthy_model_raises_no_alarm_in_a_hundred_windows(task: Task) -> None:
    """Overlapping windows, three seeds: bare comparisons with the baseline would raise several episodes in each."""
    rule = a_rule("accuracy", "accuracy", below=-0.01, of=LimitBasis.POINTS, checks=3, min_n=30)
    for seed in range(3):
        r = random.Random(seed)
        model = a_model(
            task=task, window=counted(500, 50), rules=(rule,), outcomes=some_outcomes(24 * HOUR, baseline_n=500)
        )
        events: list[Event] = []
        for i in range(5_000):
            events.append(prediction(f"r{i}", T0 + i * SECOND, 1))
            events.append(outcome(f"r{i}", T0 + i * SECOND, int(r.random() < 0.9)))

        assert told_of(model, *events).alerts() == []
