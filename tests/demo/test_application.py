"""The serving application: it does what decisions say, and tells of everything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fallback.decisions import document, initial
from fallback.types import BusinessRule, Condition, Decision, Reason, Route, ServingSpec, Tier
from monitor.demo.application import OUTCOMES, PREDICTIONS, Application, Follower
from monitor.demo.rides import HOUR_MS, SERVED_FROM, VERSIONS, Hour, Precomputed, load
from monitor.times import parse_time

SPEC = ServingSpec(
    champion="v1.1.0",
    previous="v1.0.0",
    routes=(Route("v1.2.0", 3_000),),
    chain=(Tier.PREVIOUS, Tier.RULES, Tier.DEFAULT),
    rules=(BusinessRule((Condition("hour", "<", 6),), 30),),
    default=190,
    has_default=True,
)


def a_decision(generation: int, spec: ServingSpec = SPEC) -> dict[str, Any]:
    return document(Decision("bike_demand", generation, 0, Reason.INITIAL, None, initial(spec), "bike_demand/0"))


@pytest.fixture(scope="module")
def hours() -> Sequence[Hour]:
    return [hour for hour in load() if hour.time >= SERVED_FROM][: 14 * 24]


@pytest.fixture
def application(tmp_path: Path, hours: Sequence[Hour]) -> Iterator[Application]:
    models = {version: Precomputed(version, hours) for version in VERSIONS}
    with closing(Application(tmp_path, a_decision(1), models)) as application:
        yield application


def events(directory: Path, topic: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / f"{topic}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_versions_share_the_requests_as_the_decision_says(
    application: Application, hours: Sequence[Hour], tmp_path: Path
) -> None:
    for hour in hours:
        application.serve(hour)

    told = events(tmp_path, PREDICTIONS)
    assert len(told) == len(hours)
    assert {event["version"] for event in told} == {"v1.1.0", "v1.2.0"}
    assert 0.2 < application.served["primary", "v1.2.0"] / len(hours) < 0.4


def test_a_version_without_a_route_answers_nothing_any_more(application: Application, hours: Sequence[Hour]) -> None:
    assert application.follow(a_decision(2, ServingSpec(champion="v1.1.0")))

    for hour in hours:
        application.serve(hour)

    assert application.served == {("primary", "v1.1.0"): len(hours)}


def test_a_decision_that_is_not_younger_changes_nothing(application: Application) -> None:
    assert not application.follow(a_decision(1, ServingSpec(champion="v1.0.0")))


def test_requests_are_answered_by_the_chain_while_the_models_are_down(
    application: Application, hours: Sequence[Hour], tmp_path: Path
) -> None:
    application.faults.models_down = True

    for hour in hours[:24]:
        application.serve(hour)

    assert application.served == {("rules", "rules"): 6, ("default", "default"): 18}
    attempts = [event for event in events(tmp_path, PREDICTIONS) if not event["served"]]
    assert {event["error"] for event in attempts} == {"ConnectionError"}
    assert len(attempts) == 2 * 24
    assert application.failed.total() == 2 * 24


def test_a_sensor_in_percent_is_what_models_and_events_get(
    application: Application, hours: Sequence[Hour], tmp_path: Path
) -> None:
    application.faults.hum_in_percent = True
    champion_answers = next(h for h in hours if h.features["hum"])

    application.serve(champion_answers)

    told = events(tmp_path, PREDICTIONS)[0]
    assert told["features"]["hum"] == round(100 * float(champion_answers.features["hum"] or 0), 1)
    assert told["prediction"] == champion_answers.predicted[f"{told['version']}_percent"]


def test_what_was_rented_is_told_hours_later_and_sometimes_days(
    application: Application, hours: Sequence[Hour], tmp_path: Path
) -> None:
    for hour in hours:
        application.serve(hour)

    asked = {event["request_id"]: parse_time(event["time"]) for event in events(tmp_path, PREDICTIONS)}
    told = events(tmp_path, OUTCOMES)
    delays = [(parse_time(event["time"]) - asked[event["request_id"]]) / HOUR_MS for event in told]
    rentals = {hour.time: hour.actual for hour in hours}
    assert len(told) > len(hours) - 48
    assert all(2 <= delay <= 45 for delay in delays)
    assert 0.1 < sum(delay > 24 for delay in delays) / len(delays) < 0.3
    assert all(event["actual"] == rentals[asked[event["request_id"]]] for event in told)
    assert [event["time"] for event in told] == sorted(event["time"] for event in told)


def test_lines_counts_what_is_in_both_topics(application: Application, hours: Sequence[Hour], tmp_path: Path) -> None:
    for hour in hours[:72]:
        application.serve(hour)

    assert application.lines == len(events(tmp_path, PREDICTIONS)) + len(events(tmp_path, OUTCOMES))


def test_a_follower_hears_of_whole_lines_only_and_of_each_once(tmp_path: Path) -> None:
    path = tmp_path / "driftd.decisions.jsonl"
    with closing(Follower(tmp_path, "driftd.decisions")) as follower:
        assert follower.news() == []
        path.write_bytes(b'{"generation": 1}\n{"gener')
        assert follower.news() == [{"generation": 1}]
        with path.open("ab") as file:
            file.write(b'ation": 2}\n')
        assert follower.news() == [{"generation": 2}]
        assert follower.news() == []
