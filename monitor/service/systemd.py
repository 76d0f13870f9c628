"""What systemd is told: ready, alive, stopping.

Shell. The protocol of sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names. Without one nothing is
sent. The watchdog is fed by the poll loop only, so a loop that hangs is noticed.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)

_SECONDS_BETWEEN = 5.0  # of status lines, where no watchdog wants them oftener


class Systemd:
    """Keeps the protocol `worker.Watchdog`."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        wanted_us = environment.get("WATCHDOG_USEC", "")
        self._every_s = min(int(wanted_us) / 4e6, _SECONDS_BETWEEN) if wanted_us.isdigit() else _SECONDS_BETWEEN
        self._told_at = -self._every_s
        self._is_ready = False

    def ready(self, status: str) -> None:
        """The daemon does its work."""
        first, self._is_ready = not self._is_ready, True
        self._send(f"{'READY=1' if first else 'WATCHDOG=1'}\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """The loop has turned. Until it is ready for the first time it also asks for more time to start."""
        now = time.monotonic()
        if now - self._told_at < self._every_s:
            return
        self._told_at = now
        more = "" if self._is_ready else "\nEXTEND_TIMEOUT_USEC=60000000"
        self._send(f"WATCHDOG=1\nSTATUS={status}{more}")

    def stopping(self) -> None:
        """What is in hand is finished, then the process ends."""
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
