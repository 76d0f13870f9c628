"""What has ended ends: versions that are retired or silent, and what is not configured any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fallback.types import Route, ServingSpec
from monitor.pipeline.commands import CommandName
from monitor.pipeline.status import SHOWN_REMOVED, Totals, document
from monitor.spec import Consequence, ModelSpec
from monitor.store.engine import connect
from monitor.times import format_time
from tests.monitor.kit import (
    MINUTE,
    SECOND,
    T0,
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
    ends_of,
    from_file,
    outcome,
    prediction,
    records_of,
    some_outcomes,
    timed,
)

ERRORS = a_rule("errors", "error_rate", above=0.1, hard=True)
SLOW = a_rule("slow", "latency_p95_ms", above=50.0, hard=True)
SLOWLY = a_rule("slowly", "latency_p95_ms", above=50.0, hard=True, checks=1_000)
CANARY = ServingSpec("v1", "v0", routes=(Route("v2", 2_000),))


def answers(version: str, start: int, stop: int, *, failing: bool = False, shift: float = 0.0) -> Iterator[Event]:
    """An answer a second of one version, from second `start` to before `stop`."""
    for i in range(start, stop):
        more: dict[str, Any] = {"error": "Timeout"} if failing else {}
        features = {"x": round((i * 7919 % 1000) / 100 + shift, 3)}
        value = None if failing else 1.0
        at = T0 + i * SECOND
        latency = 90.0 if failing else 5.0
        yield prediction(f"{version}-{i}", at, value, version=version, features=features, latency_ms=latency, **more)


def mixed(*parts: Iterator[Event]) -> list[Event]:
    return sorted((event for part in parts for event in part), key=lambda event: event["time"])


PROFILE = {"m": a_profile([event["features"] for event in answers("v1", 0, 1_000)])}


def a_watched_model(**parts: Any) -> ModelSpec:
    window = replace(timed(20 * SECOND, 100 * SECOND), longest=200 * SECOND)
    watched = a_model(window=window, drift=a_drift(events=1_000_000), reference=from_file(), serving=CANARY)
    return replace(watched, **parts)


def told_of(model: ModelSpec, events: list[Event]) -> Told:
    run = Run(a_core(model), profiles=PROFILE)
    run.feed(records_of(events))
    run.commit(last=True)
    return run.told()


def of(told: Told, version: str, status: str = "resolved") -> list[dict[str, Any]]:
    return [a for a in told.alerts() if (a["version"], a["status"]) == (version, status)]


# -- retired ---------------------------------------------------------------------------------------------


def a_rollback(**parts: Any) -> Told:
    """A challenger that drifts, and whose errors roll it back, while it goes on answering for a long time."""
    rules = (replace(ERRORS, then=Consequence.ROLLBACK, checks=5), SLOW)
    events = mixed(answers("v1", 0, 2_000), answers("v2", 0, 500, shift=4.0), answers("v2", 500, 2_000, failing=True))
    return told_of(a_watched_model(rules=rules, **parts), events)


def test_all_alerts_of_a_version_that_is_rolled_back_end_with_the_decision() -> None:
    told = a_rollback()
    decision = told.decisions()[-1]

    assert decision["reason"] == "rule_breached"
    began = {(a["kind"], a["rule"]) for a in of(told, "v2", "firing")}
    ended = {(a["kind"], a["rule"]): a for a in of(told, "v2")}
    assert began - ended.keys() == {("rollback", None)}
    assert {("drift", None), ("metric", "errors"), ("metric", "slow")} <= ended.keys()
    assert {a["closed_because"] for a in ended.values()} == {"retired"}
    assert {a["ends_at"] for a in ended.values()} == {decision["issued_at"]}


def test_nothing_fires_of_a_version_that_was_rolled_back_though_it_goes_on_answering() -> None:
    told = a_rollback()
    after = told.published[told.published.index(told.decisions()[-1]) + 1 :]

    assert [a["kind"] for a in after if a["version"] == "v2" and a["status"] == "firing"] == ["rollback"]
    assert told.status["alerts"]["active_by_kind"] == {"rollback": 1}
    shown = told.status["models"]["m"]["versions"]["v2"]
    assert (shown["firing"], shown["pending"], shown["drifted"], shown["health"]) == ([], [], [], "healthy")


def test_what_is_pending_ends_with_the_version_too() -> None:
    rules = (replace(ERRORS, then=Consequence.ROLLBACK, checks=5), SLOWLY)
    events = mixed(answers("v1", 0, 900), answers("v2", 0, 900, failing=True))
    told = told_of(a_watched_model(rules=rules, drift=None), events)

    assert told.status["models"]["m"]["versions"]["v2"]["pending"] == []


def test_outcomes_that_come_after_the_rollback_raise_no_alert() -> None:
    rules = (
        replace(ERRORS, then=Consequence.ROLLBACK),
        a_rule("wrong", "mae", above=0.5, hard=True),
    )
    model = a_watched_model(rules=rules, outcomes=some_outcomes(pane=20 * SECOND, concept_drift="adwin"), drift=None)
    events = mixed(answers("v1", 0, 900), answers("v2", 0, 400), answers("v2", 400, 500, failing=True))
    landed = [outcome(f"v2-{i}", T0 + (500 + i) * SECOND, 9.0) for i in range(400)]
    told = told_of(model, mixed(iter(events), iter(landed)))

    assert told.decisions()[-1]["reason"] == "rule_breached"
    assert {a["rule"] for a in of(told, "v2", "firing")} == {"errors", None}


def test_the_champion_that_is_rolled_back_is_retired_and_the_next_one_is_watched() -> None:
    rules = (replace(ERRORS, then=Consequence.ROLLBACK),)
    events = mixed(answers("v1", 0, 400, failing=True), answers("v0", 400, 900, failing=True))
    told = told_of(a_watched_model(rules=rules, serving=ServingSpec("v1", "v0")), events)

    assert [a["closed_because"] for a in of(told, "v1")] == ["retired"]
    assert {a["kind"] for a in of(told, "v0", "firing")} == {"blind", "metric"}  # it sent nothing for a while
    assert [a["kind"] for a in of(told, "v0")] == ["blind"]


def test_a_version_that_comes_back_is_judged_again() -> None:
    run = Run(a_core(a_watched_model(rules=(replace(ERRORS, then=Consequence.ROLLBACK),), drift=None)))
    run.feed(records_of(mixed(answers("v1", 0, 400), answers("v2", 0, 400, failing=True))))
    run.commit()
    run.command(CommandName.ROLLBACK, to="v2", who="ada")
    run.events(*answers("v2", 400, 700, failing=True))

    alerts = [a for a in run.told().alerts("metric") if a["version"] == "v2"]
    assert [(a["status"], a["closed_because"]) for a in alerts][:3] == [
        ("firing", None), ("resolved", "retired"), ("firing", None),
    ]  # fmt: skip


def test_a_tier_that_stands_by_is_no_longer_alarming_once_the_primary_one_answers() -> None:
    """The previous version served while the champion failed, and failed as well."""
    rules = (replace(ERRORS, then=Consequence.FALLBACK),)
    serving = ServingSpec("v1", "v0", has_default=True)
    events = mixed(
        answers("v1", 0, 300, failing=True), answers("v1", 300, 900),
        answers("v0", 100, 300), answers("v0", 300, 500, failing=True),
    )  # fmt: skip
    told = told_of(a_watched_model(rules=rules, serving=serving, drift=None), events)

    assert told.status["models"]["m"]["active_level"] == "primary"
    assert told.status["alerts"]["active"] == 0
    assert [a["closed_because"] for a in told.alerts("fallback") if a["status"] == "resolved"] == ["recovered"]


# -- no traffic ------------------------------------------------------------------------------------------


def test_a_version_that_no_decision_names_ends_when_it_sends_nothing_for_the_longest_window() -> None:
    events = mixed(answers("v1", 0, 1_000), answers("v9", 0, 400, failing=True))
    told = told_of(a_watched_model(rules=(ERRORS,), drift=None), events)

    (alert,) = of(told, "v9")
    assert (alert["closed_because"], alert["ends_at"]) == ("no_traffic", format_time(T0 + 600 * SECOND))
    assert told.status["alerts"]["active_by_kind"] == {"blind": 1}  # the canary sends nothing


def test_a_version_that_no_decision_names_and_that_sends_again_begins_anew() -> None:
    events = mixed(
        answers("v1", 0, 1_500), answers("v9", 0, 400, failing=True), answers("v9", 900, 1_500, failing=True)
    )  # fmt: skip
    told = told_of(a_watched_model(rules=(ERRORS,), drift=None), events)

    assert len({a["event_id"] for a in of(told, "v9", "firing")}) == 2
    assert len(of(told, "v9")) == 1


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4"])
def test_a_version_in_service_never_ends_by_silence(version: str) -> None:
    serving = replace(CANARY, shadows=("v3",), cohorts={"internal": "v4"})
    others = [answers(v, 0, 2_000) for v in ("v1", "v2", "v3", "v4") if v != version]
    told = told_of(
        a_watched_model(rules=(ERRORS,), drift=None, serving=serving),
        mixed(*others, answers(version, 0, 400, failing=True)),
    )

    assert of(told, version, "firing")
    assert of(told, version) == []


def test_in_windows_counted_in_events_a_version_is_silent_after_ten_of_its_windows() -> None:
    events = mixed(answers("v1", 0, 3_000), answers("v9", 0, 400, failing=True))
    told = told_of(a_model(window=counted(100, 50), rules=(ERRORS,), serving=CANARY), events)

    (alert,) = of(told, "v9")
    assert alert["closed_because"] == "no_traffic"


def test_a_replay_ends_the_same_alerts_at_the_same_times_and_so_does_a_run_begun_again(tmp_path: Path) -> None:
    rules = (replace(ERRORS, then=Consequence.ROLLBACK, checks=3),)
    core = a_core(a_watched_model(rules=rules))
    events = mixed(
        answers("v1", 0, 1_500), answers("v2", 0, 300), answers("v2", 300, 700, failing=True),
        answers("v9", 0, 500, shift=4.0),
    )  # fmt: skip
    records = records_of(events)
    replay = Run(core, ends_of(records), profiles=PROFILE)
    replay.feed(records, [997])
    wanted = replay.finish()
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(core, profiles=PROFILE, engine=engine)
    for start in range(0, len(records), 211):
        run.feed(records[start : start + 211])
        run.commit()
        run.restart()
    found = run.finish()
    engine.dispose()

    assert {"retired", "no_traffic"} <= {a["closed_because"] for a in wanted.alerts()}
    assert found.published == wanted.published
    assert found.alerts()[-1]["closed_because"] == "no_traffic"


# -- not configured --------------------------------------------------------------------------------------


@pytest.fixture
def burning(tmp_path: Path) -> Iterator[StoredRun]:
    """A model of which a rule, a feature and missing data fire, beside another one."""
    model = a_watched_model(rules=(ERRORS,), no_data_after=MINUTE)
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(a_core(model, a_model("n")), profiles=PROFILE, engine=engine)
    run.feed(records_of([*answers("v1", 0, 300, shift=4.0), *answers("v1", 300, 600, failing=True, shift=4.0)]))
    late = [prediction(f"n{i}", T0 + (700 + i) * SECOND, 1.0, model="n") for i in range(30)]
    run.events(*late)
    assert {a["kind"] for a in run.told().alerts()} - {"blind"} == {"drift", "metric", "no_data"}
    yield run
    engine.dispose()


def ended_by(run: StoredRun, *models: ModelSpec) -> dict[str, str]:
    """Kind → why it ended, of alerts that end when these models are configured from now on."""
    run.restart(a_core(*models))
    run.events(prediction("later", T0 + 800 * SECOND, 1.0, model="n"))
    return {a["kind"]: a["closed_because"] for a in run.told().alerts() if a["status"] == "resolved"}


def test_what_is_not_configured_any_more_ends(burning: StoredRun) -> None:
    bare = a_watched_model(drift=None)

    because = dict.fromkeys(("drift", "metric", "no_data"), "not_configured")
    assert ended_by(burning, bare, a_model("n")) == because


def test_a_model_that_is_removed_ends_with_all_its_alerts_and_is_shown_for_a_day(burning: StoredRun) -> None:
    because = dict.fromkeys(("blind", "drift", "metric", "no_data"), "not_configured")
    assert ended_by(burning, a_model("n")) == because

    status = burning.told().status
    assert status["models"]["m"]["removed_at"] is not None
    assert (status["alerts"]["active"], status["models"]["m"]["alerts"]) == (0, [])
    commits = [commit.models["m"].state for commit in burning.told_so_far if "m" in commit.models]
    removed_at = commits[-1]["removed_at"]
    states = {"m": commits[-1]}
    assert "m" in document(Totals(), states, wall=removed_at + SHOWN_REMOVED)["models"]
    assert "m" not in document(Totals(), states, wall=removed_at + SHOWN_REMOVED + 1)["models"]


def test_a_removed_model_ends_once_and_may_come_back(burning: StoredRun) -> None:
    model = burning.core.models[0]
    ended_by(burning, a_model("n"))
    count = len(burning.told().alerts())

    burning.restart()
    burning.events(prediction("again", T0 + 801 * SECOND, 1.0, model="n"))
    assert len(burning.told().alerts()) == count

    burning.restart(a_core(model, a_model("n")))
    burning.events(*answers("v1", 810, 900))
    assert burning.told().status["models"]["m"]["removed_at"] is None


def test_another_reference_ends_what_was_compared_with_the_last_one() -> None:
    run = Run(a_core(a_watched_model()), profiles=PROFILE)
    run.events(*answers("v1", 0, 500, shift=4.0))
    run.command(CommandName.RELEARN, events=100)

    assert [a["closed_because"] for a in of(run.told(), "v1")] == ["reference_changed"]


# -- who decides -----------------------------------------------------------------------------------------


def test_a_decision_says_who_made_it() -> None:
    run = Run(a_core(a_watched_model(rules=(replace(ERRORS, then=Consequence.ROLLBACK),), drift=None)))
    run.feed(records_of(mixed(answers("v1", 0, 400), answers("v2", 0, 400, failing=True))))
    run.commit()
    run.command(CommandName.ROLLBACK, to="v0", who="ada")

    told = run.told()
    assert [(d["reason"], d["by"]) for d in told.decisions()] == [
        ("initial", "config"), ("rule_breached", "rules"), ("manual_rollback", "ada"),
    ]  # fmt: skip
    assert told.decisions()[1]["cause"] == of(told, "v2", "firing")[0]["event_id"]
    assert told.status["models"]["m"]["by"] == "ada"


def test_in_windows_counted_in_events_a_version_that_slows_down_is_not_silent() -> None:
    """To a fortieth: it takes longer than ten of its windows until its next pane is full."""
    model = a_model(window=counted(100, 50), rules=(SLOW,), serving=ServingSpec("v1"))
    events = []
    for i in range(8_000):
        events.append(prediction(f"c{i}", T0 + i * 100, 0.5, latency_ms=1.0))
        if i < 1_000 or i % 40 == 0:
            events.append(prediction(f"o{i}", T0 + i * 100, 0.5, version="v9", latency_ms=90.0))

    assert [a["status"] for a in told_of(model, events).alerts("metric")] == ["firing"]
