"""Notifications to systemd: ready, alive, stopping.

Shell. The protocol is sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names. Without one nothing is
sent. Only the poll loop feeds the watchdog, so a loop that hangs is noticed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import structlog

from monitor.clock import SYSTEM_CLOCK, Clock

log = structlog.get_logger(__name__)

_SECONDS_BETWEEN = 5.0  # of status lines; less where the watchdog's interval is shorter than four times that


class Systemd:
    """Notify the service manager. Implements `readiness.Watchdog`."""

    def __init__(self, environment: Mapping[str, str] = os.environ, clock: Clock = SYSTEM_CLOCK) -> None:
        """Read the socket's address and the watchdog's interval from environment variables."""
        self._clock = clock
        self._address = environment.get("NOTIFY_SOCKET", "")
        wanted_us = environment.get("WATCHDOG_USEC", "")
        self._every_s = min(int(wanted_us) / 4e6, _SECONDS_BETWEEN) if wanted_us.isdigit() else _SECONDS_BETWEEN
        self._told_at = float("-inf")
        self._is_ready = False

    def ready(self, status: str) -> None:
        """Report that the daemon works: READY=1 the first time. `status` is a line for people."""
        first, self._is_ready = not self._is_ready, True
        self._send(f"{'READY=1' if first else 'WATCHDOG=1'}\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """Feed the watchdog, at a limited rate. Before the first `ready` also ask for more time to start."""
        now = self._clock.monotonic()
        if now - self._told_at < self._every_s:
            return
        self._told_at = now
        more = "" if self._is_ready else "\nEXTEND_TIMEOUT_USEC=60000000"
        self._send(f"WATCHDOG=1\nSTATUS={status}{more}")

    def stopping(self) -> None:
        """Report that the process is about to end."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # A name that begins with @ is in Linux's abstract namespace, which has a NUL there.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
                s.sendto(text.encode(), address)
        except OSError as error:
            log.debug("systemd.unreachable", error=str(error))
