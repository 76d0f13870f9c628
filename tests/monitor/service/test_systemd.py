"""Notifications to systemd: what is sent, and how often."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from monitor.service.systemd import Systemd
from tests.monitor.service.stepping import SteppedClock


class Manager:
    """Listens as systemd does."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Messages since this was last called."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4_096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(prefix="driftd-") as directory, closing(Manager(Path(directory))) as manager:
        yield manager


def notifier(manager: Manager, clock: SteppedClock, watchdog_s: float = 20.0) -> Systemd:
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": str(round(watchdog_s * 1e6))}
    return Systemd(environment, clock)


def test_it_is_told_once_that_the_daemon_is_ready(manager: Manager) -> None:
    systemd = notifier(manager, SteppedClock())

    systemd.ready("running")
    systemd.ready("running again")

    assert manager.heard() == ["READY=1\nSTATUS=running", "WATCHDOG=1\nSTATUS=running again"]


def test_the_watchdog_is_fed_four_times_in_its_interval(manager: Manager) -> None:
    clock = SteppedClock()
    systemd = notifier(manager, clock, watchdog_s=2.0)
    systemd.ready("running")
    manager.heard()

    for _ in range(40):
        systemd.alive("working")
        clock.sleep(0.1)

    assert manager.heard() == ["WATCHDOG=1\nSTATUS=working"] * 8


def test_more_time_is_asked_for_until_it_is_ready_for_the_first_time(manager: Manager) -> None:
    clock = SteppedClock()
    systemd = notifier(manager, clock)
    systemd.alive("waiting")
    clock.sleep(10)
    systemd.ready("running")
    systemd.alive("working")

    first, _, later = manager.heard()

    assert "EXTEND_TIMEOUT_USEC" in first
    assert "EXTEND_TIMEOUT_USEC" not in later


def test_it_is_told_of_the_end(manager: Manager) -> None:
    notifier(manager, SteppedClock()).stopping()

    assert manager.heard() == ["STOPPING=1\nSTATUS=stopping"]


def test_without_a_socket_nothing_is_sent() -> None:
    Systemd({}).ready("running")
