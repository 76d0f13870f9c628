"""What cannot be judged for long, or not any more: healthy rhythms raise nothing, and what is over ends as that."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fallback.types import ServingSpec
from monitor.alerting.records import AlertKind
from monitor.pipeline.commands import CommandName
from monitor.spec import FeatureKind, LimitBasis, ModelSpec
from monitor.store.engine import connect
from monitor.times import format_time
from tests.monitor.kit import (
    HOUR,
    MINUTE,
    SECOND,
    T0,
    WALL,
    Event,
    Run,
    StoredRun,
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
    replay_of,
    some_outcomes,
    timed,
)

TIMED = timed(10 * SECOND, 30 * SECOND, longest=300 * SECOND, min_events=20)
SPARSE = timed(10 * MINUTE, 30 * MINUTE, longest=5 * HOUR, min_events=20)


def replayed(model: ModelSpec, events: Sequence[Event], *others: ModelSpec) -> Told:
    return replay_of(a_core(model, *others), events)


def blind(told: Told) -> list[tuple[str, str, str, str | None]]:
    return [
        (a["version"], a["labels"]["cause"], a["status"], a["closed_because"]) for a in told.alerts(AlertKind.BLIND)
    ]


# -- rules -----------------------------------------------------------------------------------------------

OWN = a_model(window=SPARSE, rules=(a_rule("own", "mine", above=5.0),), own_rules=True, user_metrics=("mine",))


@pytest.mark.parametrize("value", [1.0, 9.0])
def test_a_metric_of_ones_own_that_stops_is_told(value: float) -> None:
    """As one that fires does, too."""
    events = [
        {**prediction(f"r{i}", T0 + i * 2 * MINUTE), **({"metrics": {"mine": value}} if i < 300 else {})}
        for i in range(6_000)
    ]
    told = replayed(OWN, events)

    assert blind(told) == [("v1", "rules", "firing", None)]
    assert "mine: not there any more" in told.alerts(AlertKind.BLIND)[0]["summary"]


@pytest.mark.parametrize("window", [TIMED, counted(50, 25)])
def test_a_metric_of_ones_own_that_comes_with_outcomes_is_judged(window: Any) -> None:
    outcomes = some_outcomes(10 * MINUTE, pane=0 if window.counted else 10 * SECOND)
    model = replace(OWN, window=window, outcomes=outcomes)
    events: list[Event] = []
    for i in range(1_200):
        events.append(prediction(f"r{i}", T0 + i * SECOND))
        events.append(outcome(f"r{i}", T0 + i * SECOND + 1, 0.5, metrics={"mine": 1.0}))

    assert not blind(replayed(model, events))


def test_a_metric_that_is_not_in_the_baseline_is_told_after_the_warm_up() -> None:
    rule = a_rule("slow", "latency_p95_ms", above=2.0, of=LimitBasis.SHARE)
    model = a_model(window=TIMED, rules=(rule,), own_rules=True)
    late = [
        {**prediction(f"r{i}", T0 + i * SECOND), **({"latency_ms": 5.0} if i > 1_100 else {})} for i in range(2_000)
    ]
    healthy = [prediction(f"r{i}", T0 + i * SECOND, latency_ms=5.0) for i in range(2_000)]

    told = replayed(model, late)
    assert blind(told)[0] == ("v1", "rules", "firing", None)
    assert blind(replayed(model, healthy)) == []


# -- rhythms ---------------------------------------------------------------------------------------------


def test_a_trial_and_a_pause_before_the_start_leave_no_window_blind() -> None:
    model = a_model(window=replace(TIMED, min_events=100), drift=a_drift(), reference=learned(50))
    trial = [prediction(f"p{i}", T0 + i * SECOND) for i in range(3)]
    start = [prediction(f"r{i}", T0 + 2 * HOUR + i * 200, features={"x": float(i % 7)}) for i in range(1_000)]

    assert blind(replayed(model, trial + start)) == []


def test_few_labels_at_random_are_enough() -> None:
    model = a_model(window=replace(TIMED, min_events=100), outcomes=some_outcomes(MINUTE, pane=10 * SECOND))
    for seed in range(8):
        dice = random.Random(seed)
        events: list[Event] = []
        for i in range(2_500):
            events.append(prediction(f"r{i}", T0 + i * 200))
            if dice.random() < 0.01:
                events.append(outcome(f"r{i}", T0 + i * 200 + 5_000, 0.5))
        assert blind(replayed(model, events)) == []


# -- what is over ----------------------------------------------------------------------------------------

PROFILE = a_profile([{"x": float(i % 97), "y": float(i % 91)} for i in range(500)])


def test_what_an_operator_retires_is_not_blind_from_that_decision_on() -> None:
    model = a_model(window=TIMED, reference=from_file(), drift=a_drift(), serving=ServingSpec("v1", previous="v0"))
    run = Run(a_core(model), profiles={"m": PROFILE})
    run.events(*[prediction(f"r{i}", T0 + i * SECOND, features={"x": float(i % 97)}) for i in range(100)])
    run.command(CommandName.ROLLBACK, to="v0")

    told = run.told()
    assert blind(told)[-1] == ("v1", "features", "resolved", "retired")
    assert told.alerts(AlertKind.BLIND)[-1]["ends_at"] == told.decisions()[-1]["issued_at"]


def test_what_is_not_configured_any_more_ends_as_that(tmp_path: Path) -> None:
    rules = (a_rule("slow", "latency_p95_ms", above=5.0), a_rule("batches", "batch_ms", above=5.0))
    model = a_model(window=TIMED, reference=from_file(), drift=a_drift(), rules=rules[:1], own_rules=True)
    run = StoredRun(a_core(model), engine=connect(f"sqlite:///{tmp_path}/x.db"), profiles={"m": PROFILE})
    events = [prediction(f"r{i}", T0 + i * SECOND, features={"x": float(i % 97)}) for i in range(500)]
    run.events(*events[:400])
    run.restart(a_core(replace(model, rules=(), own_rules=True, feature_kinds={"y": FeatureKind.IGNORE})))
    run.events(*events[400:])

    assert {(cause, why) for _, cause, status, why in blind(run.told()) if status == "resolved"} == {
        ("features", "not_configured"),
        ("rules", "not_configured"),
    }


# -- what never came -------------------------------------------------------------------------------------


def test_a_model_that_never_sends_anything_is_told_after_its_limit() -> None:
    model = a_model(window=TIMED, no_data_after=MINUTE)
    told = replayed(model, [prediction(f"r{i}", T0 + i * SECOND) for i in range(100)], replace(model, name="n"))

    assert [(a["model"], a["status"], a["starts_at"]) for a in told.alerts("no_data")] == [
        ("n", "firing", "2023-11-14T22:14:00.000Z")
    ]


def test_a_version_that_is_new_at_a_restart_is_not_expected_in_the_backlog(tmp_path: Path) -> None:
    model = a_model(window=TIMED)
    run = StoredRun(a_core(model), engine=connect(f"sqlite:///{tmp_path}/x.db"))
    run.events(*[prediction(f"r{i}", T0 + i * SECOND) for i in range(100)])
    run.restart(a_core(replace(model, serving=ServingSpec("v1", shadows=("s",)))))
    run.events(*[prediction(f"r{i}", T0 + i * SECOND) for i in range(100, 900)])
    assert blind(run.told()) == []

    wall = WALL + 2 * HOUR
    start = len(run.fed)
    late = records_of([prediction(f"l{i}", WALL + i * SECOND) for i in range(400)])
    run.feed([record._replace(offset=start + record.offset) for record in late], wall=wall)
    run.commit()
    assert blind(run.told()) == [("s", "no_predictions", "firing", None)]


# -- the reference ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "least"), [(TIMED, 3_010), (counted(50, 25), 4_999)])
def test_a_reference_that_is_learned_for_too_long_is_told_until_it_is_in_force(window: Any, least: int) -> None:
    model = a_model(window=window, drift=a_drift(), reference=learned(least + 1_000))

    told = replayed(model, [prediction(f"r{i}", T0 + i * SECOND, 0.5, features={"x": i % 7}) for i in range(7_000)])

    assert blind(told) == [("v1", "reference", "firing", None), ("v1", "reference", "resolved", "recovered")]
    begun = told.alerts(AlertKind.BLIND)[0]
    assert begun["starts_at"] == format_time(T0 + least * SECOND)
    assert f"of the {least + 1_000} predictions it needs" in begun["summary"]


def test_a_reference_that_is_learned_within_ten_longest_windows_is_not_told() -> None:
    model = a_model(window=TIMED, drift=a_drift(), reference=learned(2_900))

    told = replayed(model, [prediction(f"r{i}", T0 + i * SECOND, 0.5, features={"x": i % 7}) for i in range(4_000)])

    assert blind(told) == []


def test_a_reference_of_predictions_without_features_is_noted() -> None:
    model = a_model(window=TIMED, drift=a_drift(), reference=learned(100))

    told = replayed(model, [prediction(f"r{i}", T0 + i * SECOND, i % 5 / 5) for i in range(400)])

    assert told.status["models"]["m"]["reference"]["state"] == "frozen"
    assert [note[:23] for note in told.status["models"]["m"]["notes"]] == ["no feature is compared "]
