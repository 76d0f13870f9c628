"""One look at a version: alerts first, then one decision of all that its rules propose, then the alerts of that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fallback.types import Route, ServingSpec
from monitor.spec import Consequence, LimitBasis
from tests.monitor.kit import (
    SECOND,
    T0,
    Run,
    Told,
    a_core,
    a_model,
    a_rule,
    counted,
    outcome,
    prediction,
    some_outcomes,
)

ERRORS = a_rule("errors", "error_rate", above=0.1, hard=True)
SLOW = a_rule("slow", "latency_p95_ms", above=10, hard=True)
SERVING = ServingSpec("v1", "v0", routes=(Route("v2", 2_000),))


def told_of(*rules: Any, version: str = "v1", count: int = 50, **parts: Any) -> Told:
    """Of windows of which the second one has failed and slow answers."""
    run = Run(a_core(a_model(window=counted(25, 25), rules=rules, serving=SERVING, **parts)))
    for i in range(count):
        bad: dict[str, Any] = {"latency_ms": 50.0, "error": "Timeout"} if i >= 25 else {"latency_ms": 1.0}
        run.events(prediction(f"r{i}", T0 + i * SECOND, None if i >= 25 else 1.0, version=version, **bad))
    return run.told()


def order(told: Told) -> list[str]:
    """Kinds and rules of alerts, with why they end, and reasons of decisions, after the first decision."""
    return [d.get("reason") or _alert(d) for d in told.published[1:]]


def _alert(d: dict[str, Any]) -> str:
    return ":".join(filter(None, (d["kind"], d["rule"]))) + (f" {d['closed_because']}" if d["closed_because"] else "")


def test_all_alerts_of_rules_come_before_the_decision_and_its_alert_after_it() -> None:
    told = told_of(replace(ERRORS, then=Consequence.FALLBACK), SLOW)

    assert order(told) == ["metric:errors", "metric:slow", "fallback_engaged", "fallback"]


def test_two_rules_that_begin_to_fire_in_one_look_are_one_decision() -> None:
    """Whichever stands first: the champion is rolled back, and never steps down on the way."""
    rules = replace(ERRORS, then=Consequence.FALLBACK), replace(SLOW, then=Consequence.ROLLBACK)
    one, other = told_of(*rules), told_of(*reversed(rules))

    retired = ["metric:errors retired", "metric:slow retired"]
    assert order(one) == ["metric:errors", "metric:slow", "rule_breached", "rollback", *retired]
    assert order(other) == ["metric:slow", "metric:errors", "rule_breached", "rollback", *reversed(retired)]
    assert one.decisions()[-1]["champion"] == "v0"
    assert one.decisions() == other.decisions()
    assert one.decisions()[-1]["cause"] == one.alerts("metric")[1]["event_id"]


def test_of_two_rules_with_one_consequence_the_first_of_the_configuration_is_the_cause() -> None:
    told = told_of(replace(ERRORS, then=Consequence.FALLBACK), replace(SLOW, then=Consequence.FALLBACK))

    assert [d["reason"] for d in told.decisions()] == ["initial", "fallback_engaged"]
    assert told.decisions()[-1]["cause"] == told.alerts("metric")[0]["event_id"]


def test_all_rules_of_a_look_are_compared_with_the_champion_though_one_of_them_rolls_the_challenger_back() -> None:
    """What is decided holds from the next look on."""
    slower = a_rule("slower", "latency_p95_ms", above=2.0, of=LimitBasis.SHARE, hard=True)
    run = Run(
        a_core(
            a_model(window=counted(25, 25), rules=(replace(ERRORS, then=Consequence.ROLLBACK), slower), serving=SERVING)
        )
    )
    for i in range(25):
        run.events(prediction(f"a{i}", T0 + i * SECOND, 1.0, latency_ms=1.0))
    for i in range(25):
        run.events(prediction(f"b{i}", T0 + i * SECOND, None, version="v2", latency_ms=9.0, error="Timeout"))

    retired = ["metric:errors retired", "metric:slower retired"]
    assert order(run.told()) == ["metric:errors", "metric:slower", "rule_breached", "rollback", *retired]


def test_windows_whose_outcomes_are_judged_together_are_one_look() -> None:
    """Both windows show errors beyond the limit of a rule: one of them is the cause of one decision."""
    wrong = a_rule("wrong", "mae", above=1.0, hard=True, then=Consequence.FALLBACK)
    awful = a_rule("awful", "mae", above=5.0, hard=True, then=Consequence.ROLLBACK)
    outcomes = some_outcomes(10_000 * SECOND, min_coverage=1.0)
    run = Run(a_core(a_model(window=counted(10, 10), rules=(wrong, awful), outcomes=outcomes, serving=SERVING)))
    run.events(*(prediction(f"r{i}", T0 + i * SECOND, 0.0) for i in range(20)))
    landed = [outcome(f"r{i}", T0 + 30 * SECOND, 3.0 if i < 10 else 9.0) for i in range(20)]
    # The last outcome of the first window comes with the last of the second.
    run.events(*landed[:9], *landed[10:], landed[9])

    assert [d["reason"] for d in run.told().decisions()] == ["initial", "rule_breached"]
    retired = ["metric:wrong retired", "metric:awful retired"]
    assert order(run.told()) == ["metric:wrong", "metric:wrong", "metric:awful", "rule_breached", "rollback", *retired]
