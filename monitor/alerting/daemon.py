"""Alerts about the daemon itself: records that were lost, partitions that wait.

Pure. They are committed and published like all others; nobody configures them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fallback.types import Decision
from monitor.alerting.episodes import AlertPublisher
from monitor.alerting.records import AlertKind, AlertRecord, AlertStatus, Subject
from monitor.spec import Severity


class DaemonAlerts:
    """What fires, by name: the trouble and where it is."""

    def __init__(self) -> None:
        self._records = AlertPublisher()
        self._firing: dict[str, int] = {}  # name → since when

    def fire(self, name: str, summary: str, now: int) -> None:
        """Something needs an operator; said once while it lasts."""
        if name not in self._firing:
            self._firing[name] = now
            self._emit(name, AlertStatus.FIRING, summary, now, None, begins=True)

    def resolve(self, name: str, summary: str, now: int) -> None:
        """It is over. Nothing where it does not fire."""
        if name in self._firing:
            self._emit(name, AlertStatus.RESOLVED, summary, self._firing[name], now)
            del self._firing[name]

    def resolve_all(self, summary: str, now: int) -> None:
        """Nothing is known to last: what does is said again."""
        for name in list(self._firing):
            self.resolve(name, summary, now)

    def _emit(
        self, name: str, status: AlertStatus, summary: str, since: int, ended: int | None, *, begins: bool = False
    ) -> None:
        subject = Subject("", "", AlertKind.DAEMON, name)
        now = since if ended is None else max(ended, since)
        end = None if ended is None else now
        self._records.emit(AlertRecord(subject, 0, status, Severity.CRITICAL, summary, since, end, now, begins=begins))

    def take(self) -> list[AlertRecord | Decision]:
        """Records since this was last called."""
        return self._records.take()

    def state(self) -> dict[str, Any]:
        """To be stored."""
        return {"records": self._records.state(), "firing": self._firing}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._records.restore(state["records"])
        self._firing = dict(state["firing"])
