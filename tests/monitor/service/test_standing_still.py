"""An owner that stands still before its first commit loses the store, and is not called alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from sqlalchemy import event

from monitor.store.writer import Claim, StoreWriter
from monitor.stream.memory import MemorySource
from monitor.stream.types import Batch
from tests.monitor.service.conftest import MakeDaemon
from tests.monitor.service.stepping import STUCK_S, SteppedDaemon, at

LEASE_S: Final = 0.4


@pytest.fixture
def restoring(make_daemon: MakeDaemon) -> Iterator[SteppedDaemon]:
    """A daemon that hangs at the rows of the join, in the middle of restoring."""
    first = make_daemon()
    first.produce(*at(0, 1, 2))
    first.start().advance(2)
    first.stop()
    daemon = make_daemon(stream=first.stream, lease_s=LEASE_S, busy_step_s=5.0)
    reached, goes_on = threading.Event(), threading.Event()

    def hang(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM join_segment" in statement:
            reached.set()
            goes_on.wait(STUCK_S)

    event.listen(daemon.engine, "before_cursor_execute", hang)
    with run_aside(daemon, goes_on):
        assert reached.wait(STUCK_S)
        yield daemon


@contextmanager
def run_aside(daemon: SteppedDaemon, goes_on: threading.Event) -> Iterator[None]:
    """Have the worker run; its time is the test's."""

    def run() -> None:
        daemon.worker.run()
        daemon.clock.end()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        daemon.worker.stop()
        goes_on.set()
        daemon.clock.advance(1e6)
        thread.join(STUCK_S)


def until(done: Callable[[], bool]) -> bool:
    """Wait for what a thread does by the clock on the wall."""
    deadline = time.monotonic() + STUCK_S
    while not (happened := done()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return happened


def can_be_taken(daemon: SteppedDaemon) -> bool:
    return isinstance(StoreWriter(daemon.relay_engine, "other", 1).claim(LEASE_S, lambda owner: False), Claim)


def keeps(daemon: SteppedDaemon) -> bool:
    """Whether it is called alive and has the store for two leases more."""
    heard, end = len(daemon.watchdog.signals), time.monotonic() + 2 * LEASE_S
    while time.monotonic() < end:
        if can_be_taken(daemon):
            return False
        time.sleep(LEASE_S / 4)
    return len(daemon.watchdog.signals) > heard


def test_the_store_is_kept_while_restoring_takes_long(restoring: SteppedDaemon) -> None:
    restoring.clock.jump(290)

    assert keeps(restoring)
    assert restoring.why_not_ready() == "restoring the state of the last commit"
    assert not restoring.telemetry.standby


def test_restoring_that_does_not_get_on_for_five_minutes_loses_the_store(restoring: SteppedDaemon) -> None:
    restoring.clock.jump(301)

    assert until(lambda: can_be_taken(restoring))
    heard = len(restoring.watchdog.signals)
    time.sleep(LEASE_S)
    assert len(restoring.watchdog.signals) == heard
    restoring.clock.jump(60)
    assert restoring.telemetry.loop_age_s() >= 60


class HangingSource(MemorySource):
    """The first poll does not come back before it is told to."""

    reached, goes_on = threading.Event(), threading.Event()

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        self.reached.set()
        self.goes_on.wait(STUCK_S)
        return super().poll(max_records, timeout_s)


def test_a_loop_that_hangs_before_the_first_commit_loses_the_store_after_the_lease(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(source=HangingSource, commit_every_s=1000.0, lease_s=LEASE_S, busy_step_s=5.0)
    with run_aside(daemon, HangingSource.goes_on):
        assert HangingSource.reached.wait(STUCK_S)
        assert not can_be_taken(daemon)
        daemon.clock.jump(LEASE_S + 0.1)

        assert until(lambda: can_be_taken(daemon))
