"""What is configured to be watched and cannot be judged: it is told, it ends, and it is the same in any run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detectors.reference import Profile
from fallback.types import Route, ServingSpec, Tier
from monitor.config import build
from monitor.config.load import parse
from monitor.evaluation.notes import notes_of
from monitor.pipeline.commands import CommandName
from monitor.spec import Consequence, ModelSpec
from tests.docs.blocks import blocks, read, section
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
    ends_of,
    from_file,
    learned,
    outcome,
    prediction,
    records_of,
    replay_of,
    some_outcomes,
    timed,
)

TIMED = timed(10 * SECOND, 30 * SECOND, longest=60 * SECOND, min_events=20)
WINDOWS = [TIMED, counted(50, 25)]
ROUTED = ServingSpec("v1", previous="v0", routes=(Route("v2", 2_000),), ensemble=("e1",))


def table(*names: str, rows: int = 200) -> Profile:
    dice = random.Random(1)
    return a_profile([{name: dice.gauss(0, 1) for name in names} for _ in range(rows)])


def predictions(
    count: int, features: Callable[[int], dict[str, Any]] = lambda i: {}, *, step: int = SECOND, first: int = 0,
    version: Callable[[int], str] = lambda i: "v1", **more: Any,
) -> list[Event]:  # fmt: skip
    return [
        prediction(f"r{i}", T0 + i * step, 0.5, version=version(i), features=features(i), **more)
        for i in range(first, first + count)
    ]


def replayed(model: ModelSpec, events: Iterable[Event], profile: Profile | None = None) -> Told:
    return replay_of(a_core(model), events, {} if profile is None else {"m": profile})


def blind(told: Told, cause: str = "") -> list[tuple[str, str, str]]:
    """(version, cause, status) of the records."""
    found = [(a["version"], a["labels"]["cause"], a["status"]) for a in told.alerts("blind")]
    return [record for record in found if cause in ("", record[1])]


# -- features --------------------------------------------------------------------------------------------

WATCHED = a_model(reference=from_file(), drift=a_drift(), window=TIMED)


@pytest.mark.parametrize("window", WINDOWS)
def test_features_that_never_came_are_named_with_what_came_instead(window: Any) -> None:
    dice = random.Random(2)
    told = replayed(
        replace(WATCHED, window=window),
        predictions(200, lambda i: {"temp": dice.gauss(5, 1), "wind": dice.gauss(5, 1)}),
        table("Temp", "wind "),
    )

    (alert,) = told.alerts("blind")
    assert [f["name"] for f in alert["features"]] == ["Temp", "wind "]
    assert "in the events: temp, wind" in alert["summary"]
    assert told.status["models"]["m"]["versions"]["v1"]["checks"].keys() <= {"blind", "no_reference", "too_few"}


def test_features_that_come_at_last_end_it() -> None:
    dice = random.Random(2)
    events = predictions(300, lambda i: {"temp" if i > 150 else "Temp": dice.gauss(0, 1)})

    assert blind(replayed(WATCHED, events, table("temp"))) == [("v1", "features", s) for s in ("firing", "resolved")]


def test_a_feature_that_is_rare_in_the_reference_too_is_not_missed() -> None:
    rows = [{"temp": float(i % 7), **({"rare": 1.0} if i % 500 == 0 else {})} for i in range(1_000)]
    told = replayed(WATCHED, predictions(200, lambda i: {"temp": float(i % 7)}), a_profile(rows))

    assert not blind(told)


def test_a_column_that_numbers_the_rows_is_not_missed() -> None:
    rows = [{"temp": float(i % 7), "id": i, "nr": i, "key": f"k{i}", "fuel": "ab"[i % 2]} for i in range(1_000)]
    told = replayed(WATCHED, predictions(200, lambda i: {"temp": float(i % 7)}), a_profile(rows))

    (alert,) = told.alerts("blind")
    assert [f["name"] for f in alert["features"]] == ["fuel"]


def test_a_feature_of_another_type_is_told_as_that() -> None:
    told = replayed(WATCHED, predictions(200, lambda i: {"temp": f"{i}.5"}), table("temp"))

    (alert,) = told.alerts("blind")
    assert "temp: another type" in alert["summary"]


def test_a_change_of_type_and_a_new_name_are_told_with_what_is_missing() -> None:
    """A number that became a text, and a feature that was renamed."""
    dice = random.Random(3)

    def features(i: int) -> dict[str, Any]:
        temp, wind = dice.gauss(0, 1), dice.gauss(0, 1)
        return {"temp": temp, "wind": wind} if i < 200 else {"temperature": temp, "wind": f"{wind:.2f}"}

    told = replayed(WATCHED, predictions(400, features), table("temp", "wind"))
    summary = told.alerts("data_quality")[-1]["summary"]
    assert "type changed" in summary
    assert summary.endswith("the reference has numbers: wind; missing: temp; in the events and not in the reference: "
                            "temperature")  # fmt: skip


def test_another_reference_ends_it() -> None:
    run = Run(a_core(WATCHED), profiles={"m": table("Temp")})
    run.events(*predictions(200, lambda i: {"temp": float(i % 7)}))
    run.command(CommandName.REFERENCE, profile=table("temp"))

    assert blind(run.told()) == [("v1", "features", s) for s in ("firing", "resolved")]


# -- windows ---------------------------------------------------------------------------------------------

DEFAULTED = a_model(reference=learned(50), drift=a_drift(), window=TIMED)


def test_a_window_that_never_holds_enough_names_one_that_does() -> None:
    told = replayed(DEFAULTED, predictions(40, step=7 * SECOND))

    (alert,) = told.alerts("blind")
    assert (alert["labels"]["cause"], alert["starts_at"]) == ("window", "2023-11-14T22:14:00.000Z")
    assert "set window.max_span to 150s" in alert["summary"]
    advised = replace(DEFAULTED, window=replace(TIMED, longest=150 * SECOND))
    assert not blind(replayed(advised, predictions(40, step=7 * SECOND)))


def test_a_window_that_holds_enough_at_last_ends_it() -> None:
    sparse = predictions(20, step=7 * SECOND)
    dense = predictions(60, first=200)

    assert blind(replayed(DEFAULTED, sparse + dense)) == [("v1", "window", s) for s in ("firing", "resolved")]


def test_a_window_that_is_empty_by_night_is_calm() -> None:
    days = [e for day in range(6) for e in predictions(300, first=day * 86_400)]
    nights = [
        prediction(f"n{day}.{i}", T0 + day * 24 * HOUR + 10 * HOUR + i * MINUTE, 0.5, features={})
        for day in range(6)
        for i in range(0, 300)
    ]

    assert not blind(replayed(DEFAULTED, sorted(days + nights, key=lambda e: e["time"])))


def test_where_nothing_is_watched_no_window_is_too_small() -> None:
    assert not blind(replayed(a_model(window=TIMED), predictions(40, step=7 * SECOND)))


# -- versions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
def test_a_route_that_gets_nothing_is_told_and_is_not_healthy(window: Any) -> None:
    told = replayed(a_model(window=window, serving=ROUTED), predictions(600))

    assert blind(told) == [("v2", "no_predictions", "firing")]
    assert told.status["models"]["m"]["versions"]["v2"]["health"] == "unknown"
    assert not [d for d in told.decisions() if d["reason"] != "initial"]


@pytest.mark.parametrize("window", WINDOWS)
def test_a_version_that_falls_silent_is_told_until_it_is_heard(window: Any) -> None:
    events = predictions(1_600, version=lambda i: "v2" if i % 5 == 0 and not 200 < i < 1_000 else "v1")
    told = replayed(a_model(window=window, serving=ROUTED), events)

    assert blind(told) == [("v2", "no_predictions", s) for s in ("firing", "resolved")]


def test_what_comes_of_versions_that_nobody_expects_is_named() -> None:
    told = replayed(a_model(window=TIMED), predictions(300, version=lambda i: "1.0"))

    (alert,) = told.alerts("blind")
    assert (alert["version"], "predictions come of 1.0" in alert["summary"]) == ("v1", True)


def test_a_version_that_a_decision_retires_is_not_blind_any_more() -> None:
    run = Run(a_core(a_model(window=TIMED, serving=ROUTED)))
    run.events(*predictions(300))
    run.command(CommandName.ROLLBACK, to="v2")
    run.command(CommandName.ROLLBACK, to="v1")
    run.events(*predictions(300, first=300))

    assert blind(run.told())[:1] == [("v2", "no_predictions", "firing")]
    assert blind(run.told())[-1] == ("v2", "no_predictions", "resolved")


def test_a_silent_model_is_no_silent_version() -> None:
    model = a_model(window=TIMED, serving=ROUTED, no_data_after=2 * MINUTE)
    both: Callable[[int], str] = lambda i: "v2" if i % 2 else "v1"  # noqa: E731
    told = replayed(model, predictions(100, version=both) + predictions(60, first=5_000, version=both))

    assert not blind(told)
    assert len(told.alerts("no_data")) == 2


def test_a_failed_champion_is_expected_to_answer_beside_the_tier_that_serves() -> None:
    serving = ServingSpec("v1", chain=(Tier.DEFAULT,), default=0, has_default=True)
    rules = (a_rule("failing", "error_rate", above=0.5, hard=True, then=Consequence.FALLBACK),)
    failing = [prediction(f"r{i}", T0 + i * SECOND, None, error="x") for i in range(100)]
    fallen: list[Event] = [
        prediction(f"r{i}", T0 + i * SECOND, 0, version="default", served_by="default") for i in range(100, 400)
    ]
    told = replayed(a_model(window=TIMED, serving=serving, rules=rules), failing + fallen)

    assert told.status["models"]["m"]["active_level"] == "default"
    assert blind(told, "no_predictions") == [("v1", "no_predictions", "firing")]


# -- rules and outcomes ----------------------------------------------------------------------------------


def test_rules_of_ones_own_that_are_never_judged_are_named() -> None:
    rules = (a_rule("slow", "latency_p95_ms", above=1), a_rule("failing", "error_rate", above=0.5))
    model = a_model(window=TIMED, rules=rules, own_rules=True)
    told = replayed(model, predictions(300))

    (alert,) = told.alerts("blind")
    assert (alert["features"], "slow (latency_p95_ms: never there)" in alert["summary"]) == ([], True)
    assert not blind(replayed(replace(model, own_rules=False), predictions(300)))
    assert not blind(replayed(model, predictions(300, latency_ms=0.5)))


def with_outcomes(named: str, *, of: range, every: int = 1) -> list[Event]:
    told = predictions(of.stop)
    told += [outcome(f"{named}{i}", T0 + i * SECOND + 500, 0.5) for i in of if i % every == 0]
    return sorted(told, key=lambda e: e["time"])


@pytest.mark.parametrize("window", WINDOWS)
def test_outcomes_that_never_join_are_told_until_they_do(window: Any) -> None:
    pane = 0 if window.counted else 10 * SECOND
    model = a_model(window=window, outcomes=some_outcomes(30 * SECOND, outcome_ttl=30 * SECOND, pane=pane))
    lost = with_outcomes("R", of=range(1_200))
    mended = with_outcomes("R", of=range(1_200)) + [
        e for e in with_outcomes("r", of=range(1_400)) if e["time"] >= T0 + 1_200 * SECOND
    ]

    assert blind(replayed(model, lost)) == [("v1", "outcomes", "firing")]
    assert blind(replayed(model, mended)) == [("v1", "outcomes", s) for s in ("firing", "resolved")]
    assert not blind(replayed(model, with_outcomes("r", of=range(600), every=9)))


def test_rules_without_errors_are_noted_and_no_rules_are_not() -> None:
    slow = a_rule("slow", "latency_p95_ms", above=1, then=Consequence.ROLLBACK)
    failing = a_rule("failing", "error_rate", above=0.5)
    own = a_model(own_rules=True)

    assert ["about errors" in note for note in notes_of(replace(own, rules=(slow,)))] == [True]
    assert ["no rule has a consequence" in note for note in notes_of(replace(own, rules=(failing,)))] == [True]
    assert notes_of(replace(own, rules=(slow, failing))) == []
    assert notes_of(own) == []
    assert notes_of(a_model(rules=(slow,))) == []


# -- the same in any run ---------------------------------------------------------------------------------


def the_lot() -> list[Event]:
    dice = random.Random(5)
    events: list[Event] = []
    for i in range(1_900):
        version = "v2" if i % 2 == 0 and not 200 < i < 1_200 else "v1"
        name = "temp" if i > 400 else "Temp"
        events.append(
            prediction(f"r{i}", T0 + i * SECOND, 0.5, version=version, features={name: dice.gauss(0, 1), f"x{i}": 1})
        )
        events.append(outcome(f"{'r' if i > 1_500 else 'R'}{i}", T0 + i * SECOND + 1, 0.5))
    return events


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("seed", range(3))
def test_alerts_are_the_same_however_the_stream_is_cut(window: Any, seed: int) -> None:
    pane = 0 if window.counted else 10 * SECOND
    model = a_model(
        reference=from_file(), drift=a_drift(), window=window, serving=ROUTED, own_rules=True,
        outcomes=some_outcomes(30 * SECOND, outcome_ttl=30 * SECOND, pane=pane),
        rules=(a_rule("slow", "latency_p95_ms", above=1),),
    )  # fmt: skip
    records = records_of(the_lot())
    whole, cut = (Run(a_core(model), ends_of(records), {"m": table("temp")}) for _ in range(2))
    whole.feed(records)
    dice = random.Random(seed)
    start = 0
    while start < len(records):
        size = dice.choice([1, 3, 50, 400])
        cut.feed(records[start : start + size])
        cut.commit()
        start += size

    expected = whole.finish()
    assert {cause for _, cause, _ in blind(expected)} == {"features", "no_predictions", "outcomes", "rules"}
    assert cut.finish().alerts() == expected.alerts()


def test_the_example_of_the_readme_and_the_demonstration_are_configured_without_notes() -> None:
    (first,) = blocks(section(read("README.md"), "Your first alert"), "yaml")
    demo = Path(build.__file__).parents[1] / "demo" / "demo.yaml"
    for text in (first.text, demo.read_text(encoding="utf-8")):
        for model in build.core(parse(text, {})).models:
            assert notes_of(model) == []
