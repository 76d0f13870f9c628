"""Liveness and readiness: signals that the poll loop goes on, and the reasons why the daemon does not do its work.

Shell. Liveness goes to the watchdog and to `/-/healthy`, readiness to `/-/ready`. An outage of the stream or of the
database makes the daemon unready, never dead: a restart would not help.
"""

from __future__ import annotations

from typing import Protocol

from monitor.clock import Clock
from monitor.errors import DriftdError, Fenced, SchemaTooNew, StreamError, TopicsMissing
from monitor.web.metrics import Telemetry

_OWN_TEXT = (Fenced, SchemaTooNew, TopicsMissing)


def why(error: DriftdError) -> str:
    """Return what is shown of an error of the stream or the store to whoever asks over HTTP.

    Texts of drivers stay in the log: they may repeat parts of an address.
    """
    if isinstance(error, _OWN_TEXT):
        return str(error)
    part = "stream: it is" if isinstance(error, StreamError) else "store: the database is"
    return f"{part} unavailable; the log says why"


class Watchdog(Protocol):
    """Receive liveness signals from the poll loop."""

    def ready(self, status: str) -> None:
        """Note that the daemon has begun to work. `status` is a line for people."""
        ...

    def alive(self, status: str) -> None:
        """Note that the loop goes on; called several times a second."""
        ...


class Progress:
    """When what takes long was last seen to get on. Moved by the thread that does it, and asked by another one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._moved_at = clock.monotonic()

    def moved(self) -> None:
        """Note that it gets on."""
        self._moved_at = self._clock.monotonic()

    def age_s(self) -> float:
        """Return the seconds since it was last seen to get on."""
        return self._clock.monotonic() - self._moved_at


class Readiness:
    """Why the daemon is not ready: reasons by the part at fault. It is ready while there is none."""

    def __init__(self, telemetry: Telemetry, watchdog: Watchdog) -> None:
        self._telemetry, self._watchdog = telemetry, watchdog
        self._reasons: dict[str, str] = {}

    def heartbeat(self, status: str) -> None:
        """Signal that the loop goes on. `status` says what it does."""
        self._telemetry.tick()
        self._watchdog.alive(status)

    def begin(self) -> None:
        """Be ready: the store is owned and the stream is read."""
        self._reasons.clear()
        self._publish()
        self._watchdog.ready("running")

    def set_unready(self, part: str, reason: str, *, only: bool = False) -> None:
        """Be unready because of a part, beside the reasons of other parts.

        Args:
            part: What is at fault; its earlier reason is replaced.
            reason: What is shown.
            only: Drop the reasons of all other parts.
        """
        if only:
            self._reasons.clear()
        self._reasons[part] = reason
        self._publish()

    def clear(self, part: str) -> bool:
        """Drop the reason of a part. Returns whether there was one."""
        if self._reasons.pop(part, None) is None:
            return False
        self._publish()
        return True

    def is_unready(self, part: str) -> bool:
        """Return whether a part is a reason not to be ready."""
        return part in self._reasons

    def _publish(self) -> None:
        self._telemetry.set_ready(
            ready=not self._reasons,
            why_not="; ".join(self._reasons.values()),
            standby=self._reasons.keys() == {"owner"},
        )
