"""Connections: who waits how long for a lock, what counts as an outage, and what an address may not give away."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from monitor.errors import ConfigError, StoreError
from monitor.store import schema
from monitor.store.engine import connect, patient, translated
from tests.monitor.service.stepping import SteppedClock
from tests.servers.postgres import Postgres


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


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("state", "is_outage"),
    [
        ("08006", True), ("40001", True), ("40P01", True), ("53300", True), ("55P03", True), ("57P01", True),
        ("58030", True), ("25006", True), ("42P01", False), ("23505", False), ("22021", False), ("25001", False),
    ],
)  # fmt: skip
def test_what_a_failover_says_is_an_outage_and_what_a_statement_is_to_blame_for_is_none(
    postgres_url: str, state: str, is_outage: bool
) -> None:
    engine = connect(postgres_url)
    statement = f"DO $$ BEGIN RAISE EXCEPTION 'told' USING ERRCODE = '{state}'; END $$"

    with pytest.raises(StoreError, match="told") as caught, translated(), engine.begin() as c:
        c.exec_driver_sql(statement)

    assert caught.value.retryable == is_outage
    engine.dispose()


@pytest.mark.postgres
def test_the_next_attempt_after_a_failover_makes_a_new_connection(postgres_url: str) -> None:
    engine = connect(postgres_url)
    number = sa.text("SELECT pg_backend_pid()")
    with engine.begin() as c:
        before = c.execute(number).scalar_one()
    with pytest.raises(StoreError), translated(), engine.begin() as c:
        c.exec_driver_sql("SET LOCAL transaction_read_only = on; CREATE TABLE written (i int)")

    with engine.begin() as c:
        assert c.execute(number).scalar_one() != before
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_text_is_refused_by_its_encoding(postgres: Postgres, encoding: str) -> None:
    url = postgres.fresh_database(f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    engine = connect(url)

    with pytest.raises(ConfigError, match=f"store.url: '{encoding}': .*UTF8"):
        schema.upgrade(engine)

    engine.dispose()
    postgres.drop(url)


def test_a_new_database_and_the_files_beside_it_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        engine = connect(f"sqlite:///{tmp_path}/driftd.db")
        schema.upgrade(engine)
        with engine.connect() as c:
            c.execute(sa.text("SELECT 1"))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)

    assert modes == {"driftd.db": 0o600, "driftd.db-wal": 0o600, "driftd.db-shm": 0o600}
    engine.dispose()


def test_a_database_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "driftd.db"
    path.touch(0o640)
    path.chmod(0o640)

    engine = connect(f"sqlite:///{path}")
    schema.upgrade(engine)

    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://driftd:p@sesame@db/driftd", "postgresql+psycopg://driftd:p@se/same@db/driftd",
        "postgresql+psycopg://dri/ftd:sesame@db/driftd", "postgresql+psycopg://driftd:p@:sesame@db/driftd",
        "postgresql+psycopg://driftd:sesame/driftd", "mysql://driftd:p@sesame@db/driftd",
    ],
)  # fmt: skip
def test_an_address_whose_password_ends_too_early_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(url)

    assert "same" not in str(caught.value)


def test_an_address_with_an_escaped_password_is_taken() -> None:
    engine = connect("postgresql+psycopg://driftd:p%40s%2Fe%3A@db/driftd")

    assert engine.url.password == "p@s/e:"
    assert engine.url.host == "db"
