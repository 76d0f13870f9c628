"""What is told of alerts and decisions, and when a promise counts as kept."""

from __future__ import annotations

from typing import Any

from monitor.demo.story import Mood, Promise, Story

FROM = "2012-07-08 19:00"
FULL = [{"version": "v1.1.0", "weight": 10_000}]
SHARED = [{"version": "v1.2.0", "weight": 3_000}, {"version": "v1.1.0", "weight": 7_000}]


def an_alert(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"{kind} of {more.get('version')}", "seq": 1, "kind": kind, "status": "firing",
        "severity": "critical", "version": "v1.1.0", "summary": "1 of 7 features drifted: hum",
        "issued_at": "2012-07-03T00:00:00.000Z", "features": [],
    } | more  # fmt: skip


def a_decision(generation: int, reason: str, level: str = "primary", routes: Any = FULL) -> dict[str, Any]:
    return {
        "generation": generation, "reason": reason, "issued_at": "2012-07-07T00:00:00.000Z", "champion": "v1.1.0",
        "routes": routes, "active_level": level, "levels": {"previous": "v1.0.0"},
    }  # fmt: skip


HUM = [{"name": "hum", "statistic": "ks", "value": 1.0}]


def test_drift_is_told_with_the_feature_and_keeps_its_promise() -> None:
    story = Story()

    line = story.alert(an_alert("drift", features=HUM))

    assert line is not None
    assert line.what == "critical drift"
    assert "hum" in line.text
    assert line.mood is Mood.BAD
    assert story.kept == {Promise.DRIFT: "hum, seen by v1.1.0"}


def test_drift_of_what_the_model_answers_is_no_feature_yet() -> None:
    story = Story()
    answers = [{"name": "prediction", "statistic": "wasserstein", "value": 0.4}]

    assert story.alert(an_alert("drift", features=answers)) is not None
    assert not story.kept
    story.alert(an_alert("drift", features=[*HUM, *answers]) | {"seq": 2})
    assert story.kept == {Promise.DRIFT: "hum, seen by v1.1.0"}


def test_a_repeated_record_is_told_once() -> None:
    story = Story()
    story.alert(an_alert("drift", features=HUM))

    assert story.alert(an_alert("drift", features=HUM) | {"published_at": "2026-11-21T10:00:00.000Z"}) is None


def test_the_end_of_an_alert_is_good_news_and_keeps_no_promise() -> None:
    story = Story()

    line = story.alert(an_alert("drift", status="resolved", features=HUM))

    assert line is not None
    assert line.mood is Mood.GOOD
    assert not story.kept


def test_an_alert_that_says_what_its_decision_says_is_left_out() -> None:
    assert Story().alert(an_alert("rollback", summary="v1.2.0 was rolled back, v1.1.0 has its traffic")) is None


def test_the_first_decision_says_who_answers_and_keeps_no_promise() -> None:
    story = Story()

    line = story.decision(a_decision(1, "initial", routes=SHARED), FROM)

    assert line.when == FROM
    assert "v1.1.0 answers 70% and v1.2.0 answers 30%" in line.text
    assert not story.kept


def test_a_challenger_that_lost_its_route_was_rolled_back() -> None:
    story = Story()
    story.decision(a_decision(1, "initial", routes=SHARED), FROM)

    line = story.decision(a_decision(2, "rule_breached"), FROM)

    assert "v1.2.0 is rolled back" in line.text
    assert f"followed from {FROM}" in line.text
    assert story.kept == {Promise.ROLLBACK: "v1.2.0 (rule_breached)"}


def test_a_step_down_the_chain_says_who_answers_now() -> None:
    story = Story()
    story.decision(a_decision(1, "initial"), FROM)

    line = story.decision(a_decision(2, "fallback_engaged", "previous"), FROM)

    assert "level primary → previous; all requests are answered by v1.0.0" in line.text
    assert story.level == "previous"
    assert story.kept == {Promise.FALLBACK: "level previous (v1.0.0) took over from v1.1.0"}


def test_coming_back_up_by_hand_is_not_recovery() -> None:
    story = Story()
    story.decision(a_decision(1, "fallback_engaged", "rules"), FROM)

    story.decision(a_decision(2, "manual"), FROM)

    assert Promise.RECOVERY not in story.kept


def test_recovery_is_the_way_back_to_the_primary_level() -> None:
    story = Story()
    story.decision(a_decision(1, "fallback_engaged", "rules"), FROM)

    story.decision(a_decision(2, "recovered", "previous"), FROM)
    halfway = Promise.RECOVERY in story.kept
    story.decision(a_decision(3, "recovered"), FROM)

    assert not halfway
    assert Promise.RECOVERY in story.kept


def test_the_story_is_complete_when_all_promises_are_kept() -> None:
    story = Story()
    for document in (
        a_decision(1, "initial", routes=SHARED),
        a_decision(2, "rule_breached"),
        a_decision(3, "fallback_engaged", "previous"),
        a_decision(4, "recovered"),
    ):
        story.decision(document, FROM)
    before = story.complete

    story.alert(an_alert("drift", features=HUM))

    assert not before
    assert story.complete
