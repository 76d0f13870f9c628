"""Metrics and the status document say how each destination is doing, and what fires."""

from __future__ import annotations

import re

from monitor.pipeline.status import Totals, document
from monitor.publishing.loop import DeliveryState, GivenUp
from monitor.web.metrics import MetricsSnapshot, Telemetry
from tests.monitor.kit import SECOND, T0, Run, a_blind_run, a_core, a_drift, a_model, counted, learned, prediction

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


def scraped(run: Run, prefix: str) -> dict[str, float]:
    """The series of a run whose names begin so, without the name."""
    found = Telemetry()
    found.publish(MetricsSnapshot(run.pipeline.status()))
    lines = [line for line in found.scrape().decode().splitlines() if line.startswith(prefix)]
    return {series.removeprefix(prefix): float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}


def feed(run: Run, first: int, count: int, **features: float) -> None:
    run.events(
        *(
            prediction(f"r{i}", T0 + i * SECOND, features={"x": i * 37 % 100, **features})
            for i in range(first, first + count)
        )
    )


def a_watched(rows: int = 200) -> Run:
    return Run(a_core(a_model(drift=a_drift(), reference=learned(rows), window=counted(100, 100))))


def test_each_feature_has_its_effect_in_units_of_its_limit() -> None:
    run = a_watched()
    feed(run, 0, 300)
    calm = scraped(run, "driftd_feature_drift_ratio")
    feed(run, 300, 100, x=1_000)

    assert set(calm) == {
        '{feature="x",kind="drift",model="m",version="v1"}', '{feature="x",kind="data_quality",model="m",version="v1"}'
    }  # fmt: skip
    assert all(value < 1 for value in calm.values())
    assert scraped(run, "driftd_feature_drift_ratio")['{feature="x",kind="drift",model="m",version="v1"}'] > 5


def test_a_feature_that_was_not_judged_has_no_effect() -> None:
    run = a_watched()
    feed(run, 0, 300, y=1.0)
    feed(run, 300, 100)

    found = scraped(run, "driftd_feature_drift_ratio")
    assert '{feature="y",kind="drift",model="m",version="v1"}' not in found
    assert found['{feature="y",kind="data_quality",model="m",version="v1"}'] == 20  # all are missing


def test_the_state_of_the_reference_has_a_gauge() -> None:
    run = a_watched()
    states = [state_of(run)]
    feed(run, 0, 150)
    states.append(state_of(run))
    rows = scraped(run, "driftd_reference_rows")
    feed(run, 150, 150)

    assert [*states, state_of(run), state_of(Run(a_core(a_model())))] == ["waiting", "learning", "frozen", "absent"]
    assert (rows, scraped(run, "driftd_reference_rows")) == ({'{model="m"}': 150}, {'{model="m"}': 200})


def state_of(run: Run) -> str:
    (state,) = [series for series, value in scraped(run, "driftd_reference_state").items() if value]
    return state.split('state="')[1].removesuffix('"}')


def test_since_when_the_reference_is_in_force_is_stream_time() -> None:
    run = a_watched()
    feed(run, 0, 150)
    before = scraped(run, "driftd_reference_since_seconds")
    feed(run, 150, 150)

    assert before == {}
    assert scraped(run, "driftd_reference_since_seconds") == {'{model="m"}': T0 / 1000 + 199}


def test_a_version_that_was_not_judged_has_a_role_and_no_health() -> None:
    run = Run(a_core(a_model()))
    feed(run, 0, 5)

    assert scraped(run, "driftd_version_role") == {'{model="m",role="champion",version="v1"}': 1}
    assert scraped(run, "driftd_version_health") == {}


def test_what_cannot_be_judged_has_a_series_of_its_version_and_cause() -> None:
    assert scraped(a_blind_run(), "driftd_blind") == {'{cause="window",model="m",version="v1"}': 1.0}


def test_the_scrape_names_the_release_and_the_process() -> None:
    scrape = telemetry().scrape().decode()

    assert re.search(r'^driftd_build_info\{.*version="\d', scrape, re.MULTILINE)
    assert "process_cpu_seconds_total" in scrape
