"""Connections: how long who waits for a lock, and how long a frozen process may keep one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from monitor.store.engine import connect, patient
from tests.monitor.service.stepping import SteppedClock


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A database that another process has."""
    path = tmp_path / "driftd.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        yield path


def test_who_waits_for_a_locked_file_gives_up_in_the_end(locked: Path) -> None:
    clock = SteppedClock()
    engine = connect(f"sqlite:///{locked}", clock=clock, busy_step_s=0.0)

    with engine.connect() as c, pytest.raises(OperationalError, match="locked"):
        c.execute(sa.text("SELECT 1"))

    assert 10 < clock.monotonic() < 11
    engine.dispose()


def test_who_waits_for_a_locked_file_is_asked_whether_to_wait_on(locked: Path) -> None:
    clock = SteppedClock()
    asked: list[float] = []

    def goes_on(waited_s: float) -> bool:
        asked.append(waited_s)
        return waited_s < 3

    engine = connect(f"sqlite:///{locked}", clock=clock, busy_step_s=0.0)
    with engine.connect() as c, patient(goes_on), pytest.raises(OperationalError, match="locked"):
        c.execute(sa.text("SELECT 1"))

    assert asked == sorted(asked)
    assert 3 <= clock.monotonic() < 3.1
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.parametrize(("lease_s", "shown"), [(12.0, "12s"), (600.0, "10min"), (0.3, "5s")])
def test_a_transaction_that_stands_still_for_a_lease_is_ended_by_postgresql(
    postgres_url: str, lease_s: float, shown: str
) -> None:
    """Else a process that was frozen in one would keep its locks from the next owner. Five seconds are the least."""
    engine = connect(postgres_url, lease_s=lease_s)
    with engine.connect() as c:
        assert c.execute(sa.text("SHOW idle_in_transaction_session_timeout")).scalar_one() == shown
    engine.dispose()
