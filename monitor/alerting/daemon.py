"""Alerts about the daemon itself: lost records, partitions that are not read.

Pure. They are committed and published like all other alerts, and need no configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from monitor.alerting.numbering import AlertNumbering, NumberingState
from monitor.alerting.records import AlertKind, AlertRecord, AlertStatus, Subject
from monitor.spec import Severity

LEFT_OUT: Final = "features:"  # begins the names of alerts about references, which last whatever daemon runs


@dataclass(slots=True)
class DaemonAlertsState:
    """The stored state of `DaemonAlerts`: numbers of records, and since when (ms) each alert fires, by name."""

    records: NumberingState = field(default_factory=NumberingState)
    firing: dict[str, int] = field(default_factory=dict)


class DaemonAlerts:
    """Alerts by name: what is wrong, and where."""

    def __init__(self) -> None:
        self.restore(DaemonAlertsState())

    def fire(self, name: str, summary: str, now: int) -> AlertRecord | None:
        """Return the first record of an alert; None while it fires already."""
        if name in self.state.firing:
            return None
        self.state.firing[name] = now
        return self._record(name, AlertStatus.FIRING, summary, now, None)

    def resolve(self, name: str, summary: str, now: int) -> AlertRecord | None:
        """Return the last record of an alert; None where it does not fire."""
        since = self.state.firing.pop(name, None)
        return None if since is None else self._record(name, AlertStatus.RESOLVED, summary, since, max(now, since))

    def resolve_all(self, summary: str, now: int) -> list[AlertRecord]:
        """Resolve all alerts but those about references in force: a daemon that starts fires again what lasts."""
        over = [name for name in self.state.firing if not name.startswith(LEFT_OUT)]
        resolved = [self.resolve(name, summary, now) for name in over]
        return [record for record in resolved if record is not None]

    def restore(self, state: DaemonAlertsState) -> None:
        """Go on with a stored state."""
        self.state = state
        self._numbering = AlertNumbering(state.records)

    def _record(
        self, name: str, status: AlertStatus, summary: str, since: int, ended: int | None
    ) -> AlertRecord | None:
        return self._numbering.publish(
            AlertRecord(
                Subject("", "", AlertKind.DAEMON, name),
                seq=0,
                status=status,
                severity=Severity.CRITICAL,
                summary=summary,
                starts_at=since,
                ends_at=ended,
                issued_at=since if ended is None else ended,
                begins=ended is None,
            )
        )
