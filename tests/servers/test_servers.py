"""The servers of the tests do to their clients what the tests believe they do."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tests.servers.jars import LOCK, write_lock
from tests.servers.postgres import Postgres


def rows(engine: sa.Engine) -> list[int]:
    with engine.connect() as connection:
        return [row[0] for row in connection.execute(sa.text("SELECT n FROM numbers ORDER BY n"))]


@pytest.fixture
def engine(postgres_url: str) -> sa.Engine:
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE numbers (n int)"))
        connection.execute(sa.text("INSERT INTO numbers VALUES (1)"))
    return engine


@pytest.mark.postgres
def test_each_database_is_fresh(postgres: Postgres, engine: sa.Engine) -> None:
    """What one test writes no other sees."""
    other = postgres.fresh_database()
    try:
        with pytest.raises(sa.exc.ProgrammingError, match="numbers"):
            rows(sa.create_engine(other, poolclass=sa.NullPool))
    finally:
        postgres.drop(other)
    assert rows(engine) == [1]


@pytest.mark.postgres
def test_what_was_committed_survives_a_kill(postgres: Postgres, engine: sa.Engine) -> None:
    """And what was not does not; connections break."""
    with engine.connect() as connection:
        connection.execute(sa.text("INSERT INTO numbers VALUES (2)"))
        postgres.kill()
        try:
            with pytest.raises(sa.exc.OperationalError):
                connection.execute(sa.text("SELECT 1"))
        finally:
            postgres.start()
    assert rows(engine) == [1]


@pytest.mark.postgres
def test_a_frozen_server_does_not_answer_until_it_is_thawed(postgres: Postgres, engine: sa.Engine) -> None:
    """Nothing breaks: that is what makes a hung machine worse than a dead one."""
    answers: list[list[int]] = []
    asking = threading.Thread(target=lambda: answers.append(rows(engine)))
    postgres.freeze()
    try:
        asking.start()
        asking.join(0.3)
        assert answers == []
    finally:
        postgres.thaw()
    asking.join(10)
    assert answers == [[1]]


@pytest.mark.postgres
def test_a_database_can_be_dropped_under_a_client(postgres: Postgres) -> None:
    """A daemon that a test has left behind must not break the next test."""
    url = postgres.fresh_database()
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        postgres.drop(url)
        with pytest.raises((sa.exc.OperationalError, psycopg.OperationalError)):
            connection.execute(sa.text("SELECT 1"))


@pytest.mark.kafka
def test_the_lock_of_the_jars_is_what_locking_would_write(tmp_path: Path) -> None:
    """Given the closure as Maven prints it, so that renewing the lock changes what has changed and nothing else."""
    coordinates = [line.split()[0].rsplit(":", 1) for line in LOCK.read_text().splitlines()]
    closure = tmp_path / "closure.txt"
    closure.write_text("".join(f"   {name}:jar:{version}:runtime -- module x\n" for name, version in coordinates))

    assert write_lock(closure, tmp_path / "lock") == len(coordinates)
    assert (tmp_path / "lock").read_text() == LOCK.read_text()
