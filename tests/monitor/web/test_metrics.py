"""Metrics and the status document say how each destination is doing, and what fires."""

from __future__ import annotations

from monitor.pipeline.status import Totals, document
from monitor.publishing.loop import DeliveryState, GivenUp
from monitor.web.metrics import MetricsSnapshot, Telemetry

STATE = DeliveryState(depth=3, attempts=9, failures=4, delivered=5, failing=True, last_error="answered 503")
STATE.given_up[GivenUp.EXPIRED] = 2


def telemetry() -> Telemetry:
    found = Telemetry()
    found.publish(MetricsSnapshot(document(Totals(), {}), destinations={"pager": STATE}))
    return found


def test_a_destination_has_series_of_its_own() -> None:
    lines = telemetry().scrape().decode().splitlines()

    for line in (
        'driftd_destination_depth{destination="pager"} 3.0',
        'driftd_destination_attempts_total{destination="pager"} 9.0',
        'driftd_destination_failures_total{destination="pager"} 4.0',
        'driftd_destination_delivered_total{destination="pager"} 5.0',
        'driftd_destination_failing{destination="pager"} 1.0',
        'driftd_destination_given_up_total{destination="pager",reason="expired"} 2.0',
        'driftd_destination_given_up_total{destination="pager",reason="closed"} 0.0',
    ):
        assert line in lines


def test_the_status_document_says_what_waits_and_why() -> None:
    assert telemetry().status["destinations"] == {"pager": {"waiting": 3, "last_error": "answered 503"}}
    assert Telemetry().status == {}


def test_the_gauge_of_alerts_counts_what_fires_and_not_what_began() -> None:
    found = Telemetry()
    firing = {"kind": "drift", "version": "v1", "rule": None, "severity": "critical", "since": ""}
    totals = Totals(alerts={"firing": 9, "resolved": 8}, alerts_by_kind={"drift": 9})
    status = document(totals, {}, {"gap a/0": 5})
    status["models"]["m"] = {"alerts": [firing], "removed_at": "2026-11-21T09:30:00.000Z"}
    found.publish(MetricsSnapshot(status))

    lines = found.scrape().decode().splitlines()

    assert 'driftd_alerts_firing{kind="drift",severity="critical"} 1.0' in lines
    assert 'driftd_alerts_firing{kind="drift",severity="warning"} 0.0' in lines
    assert 'driftd_alerts_firing{kind="daemon",severity="critical"} 1.0' in lines
