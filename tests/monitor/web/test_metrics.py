"""Metrics and the status document say how each destination is doing."""

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
