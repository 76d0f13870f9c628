"""Alerts about the daemon: said once while they last, numbered, and stored."""

from __future__ import annotations

import json

from monitor.alerting.daemon import DaemonAlerts, DaemonAlertsState
from monitor.alerting.records import AlertKind, AlertStatus
from monitor.saved import from_plain, to_plain
from monitor.spec import Severity


def test_an_alert_fires_once_while_it_lasts() -> None:
    alerts = DaemonAlerts()
    record = alerts.fire("gap a/0", "lost", 5)

    assert record is not None
    assert (record.subject.kind, record.subject.name, record.status) == (
        AlertKind.DAEMON, "gap a/0", AlertStatus.FIRING,
    )  # fmt: skip
    assert (record.severity, record.starts_at, record.issued_at, record.seq, record.begins) == (
        Severity.CRITICAL, 5, 5, 1, True,
    )  # fmt: skip
    assert alerts.fire("gap a/0", "lost", 6) is None


def test_an_alert_resolves_once() -> None:
    alerts = DaemonAlerts()
    alerts.fire("gap a/0", "lost", 5)
    record = alerts.resolve("gap a/0", "read on", 9)

    assert record is not None
    assert (record.status, record.starts_at, record.ends_at, record.seq) == (AlertStatus.RESOLVED, 5, 9, 2)
    assert alerts.resolve("gap a/0", "read on", 10) is None


def test_an_alert_does_not_end_before_it_began() -> None:
    """Stream time is not known yet where a daemon starts."""
    alerts = DaemonAlerts()
    alerts.fire("gap a/0", "lost", 5)
    record = alerts.resolve("gap a/0", "read on", -1)

    assert record is not None
    assert (record.ends_at, record.issued_at) == (5, 5)


def test_what_fires_when_a_daemon_ends_is_resolved_by_the_next_one() -> None:
    alerts, restored = DaemonAlerts(), DaemonAlerts()
    for name in ("gap a/0", "fault a/1"):
        alerts.fire(name, "trouble", 5)

    restored.restore(from_plain(json.loads(json.dumps(to_plain(alerts.state))), DaemonAlertsState))

    assert [(r.subject.name, r.seq) for r in restored.resolve_all("anew", 9)] == [("gap a/0", 2), ("fault a/1", 2)]
    assert restored.resolve_all("anew", 9) == []
