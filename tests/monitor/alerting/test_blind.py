"""Alerts that something cannot be judged: when they begin and end, and what they say."""

from __future__ import annotations

from monitor.alerting.blind import BlindAlerts, Blindness, Cause, Patience, closest, listed
from monitor.alerting.records import ClosedBecause

FEW = Blindness("too few")


# -- alerts ----------------------------------------------------------------------------------------------


def test_an_alert_begins_once_and_ends_when_it_can_be_judged() -> None:
    alerts = BlindAlerts("m")
    records = [
        *alerts.tell("v1", Cause.WINDOW, None, 1),
        *alerts.tell("v1", Cause.WINDOW, FEW, 2),
        *alerts.tell("v1", Cause.WINDOW, FEW, 3),
        *alerts.tell("v1", Cause.WINDOW, None, 4),
    ]

    assert [(r.status.value, r.begins, r.starts_at, r.ends_at) for r in records] == [
        ("firing", True, 2, None),
        ("resolved", False, 2, 4),
    ]


def test_each_version_and_cause_has_a_fingerprint_of_its_own() -> None:
    alerts = BlindAlerts("m")
    told = [alerts.tell(v, c, FEW, 1)[0] for v in ("v1", "v2") for c in (Cause.WINDOW, Cause.OUTCOMES)]

    assert len({record.subject.fingerprint for record in told}) == 4


def test_a_record_names_cause_and_features_and_no_rule() -> None:
    (record,) = BlindAlerts("m").tell("v1", Cause.FEATURES, Blindness("never came", ("load",)), 1)
    document = record.document()

    assert (document["labels"], document["rule"], document["severity"]) == ({"cause": "features"}, None, "warning")
    assert document["features"] == [
        {
            "name": "load", "statistic": None, "value": None, "effect": None, "p_value": None, "threshold": None,
            "reference": {"edges": [], "counts": []}, "current": {"edges": [], "counts": []},
        }
    ]  # fmt: skip


def test_other_features_are_told_in_another_record_of_the_episode() -> None:
    alerts = BlindAlerts("m")
    alerts.tell("v1", Cause.FEATURES, Blindness("both", ("load", "wind")), 1)
    (record,) = alerts.tell("v1", Cause.FEATURES, Blindness("one", ("load",)), 2)

    assert (record.begins, record.starts_at, record.unjudged) == (False, 1, ("load",))


def test_what_is_void_ends_with_its_reason() -> None:
    alerts = BlindAlerts("m")
    alerts.tell("v1", Cause.WINDOW, FEW, 1)
    (record,) = alerts.end(alerts.firing, "not configured any more", ClosedBecause.NOT_CONFIGURED, 5)

    assert (record.status.value, record.summary, alerts.firing) == ("resolved", "not configured any more", [])
    assert record.closed_because is ClosedBecause.NOT_CONFIGURED


def test_what_is_judged_again_has_recovered() -> None:
    alerts = BlindAlerts("m")
    alerts.tell("v1", Cause.WINDOW, FEW, 1)
    (record,) = alerts.tell("v1", Cause.WINDOW, None, 5)

    assert record.closed_because is ClosedBecause.RECOVERED


# -- patience --------------------------------------------------------------------------------------------


def test_what_was_never_judged_is_overdue_after_the_first_limit() -> None:
    patience = Patience(100, 1_000)

    assert [patience.overdue("v1", "window", 0, at) for at in (50, 99, 100)] == [False, False, True]


def test_what_was_judged_before_may_wait_as_long_as_the_rhythm_of_data() -> None:
    patience = Patience(100, 1_000)
    patience.judged("v1", "window", 0)

    assert [patience.overdue("v1", "window", 0, at) for at in (500, 999, 1_000)] == [False, False, True]


def test_a_time_in_which_nothing_came_counts_for_nothing() -> None:
    patience = Patience(100, 1_000)
    patience.judged("v1", "window", 0)

    assert not patience.overdue("v1", "window", 0, 5_000)


def test_a_pause_after_a_trial_is_no_waiting() -> None:
    patience = Patience(100, 1_000)
    patience.overdue("v1", "window", 0, 10)

    assert not any(patience.overdue("v1", "window", 0, at) for at in (5_000, 5_010, 5_020))


def test_what_comes_seldom_and_is_never_judged_is_told() -> None:
    patience = Patience(100, 1_000)

    assert [patience.overdue("v1", "window", at - 10, at) for at in range(500, 3_000, 500)][-1]


def test_windows_that_overlap_are_counted_once() -> None:
    patience = Patience(100, 1_000)
    patience.overdue("v1", "outcomes", 0, 0)

    assert [patience.count("v1", "outcomes", first, first + 2, 30) for first in range(6)] == [30, 30, 30, 60, 60, 60]


# -- words -----------------------------------------------------------------------------------------------


def test_names_that_are_most_like_what_is_missed_come_first() -> None:
    assert closest(["new", "Temp ", "wind_speed"], ["temp", "windspeed"]) == ["Temp ", "wind_speed", "new"]


def test_long_lists_and_long_names_are_cut() -> None:
    assert listed(["x" * 100, *"abcdef"]) == "x" * 60 + "…, a, b, c, d and 2 more"
