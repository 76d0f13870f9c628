"""The poll loop: owning the store, commits and their retry, fencing, backpressure, commands, and the end."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from monitor.errors import StoreError, StreamError
from monitor.pipeline.commands import CommandName
from monitor.store import tables as t
from monitor.store.commands import ask
from monitor.store.writer import Claim, StoreWriter
from monitor.stream.memory import MemorySource
from monitor.stream.types import Batch, Message, Partition, Start
from tests.monitor.kit import SECOND, T0, prediction
from tests.monitor.service.conftest import MakeDaemon
from tests.monitor.service.stepping import SteppedDaemon

EVENTS = Partition("events", 0)


def predictions(start: int, stop: int) -> list[Any]:
    return [prediction(f"r{i}", T0 + i) for i in range(start, stop)]


def waiting(daemon: SteppedDaemon) -> list[str]:
    """The kinds of the messages that wait to be published."""
    with daemon.engine.connect() as c:
        return list(c.execute(sa.select(t.outbox.c.kind).order_by(t.outbox.c.id)).scalars())


@contextmanager
def broken(daemon: SteppedDaemon) -> Iterator[None]:
    """Within it every statement of the database fails."""

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        raise OperationalError(statement, None, Exception("disk I/O error"))

    event.listen(daemon.engine, "before_cursor_execute", fail)
    yield
    event.remove(daemon.engine, "before_cursor_execute", fail)


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Within it another process has the database."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


# -- beginning ---------------------------------------------------------------------------------------------


def test_it_is_ready_once_it_owns_the_store_and_reads_the_stream(daemon: SteppedDaemon) -> None:
    assert daemon.why_not_ready() == "starting"

    daemon.start()

    assert daemon.why_not_ready() is None
    assert daemon.watchdog.readies == ["running"]
    assert daemon.shard().owner == "us"


@pytest.mark.parametrize(("start", "read"), [(Start.EARLIEST, 30), (Start.LATEST, 10)])
def test_a_partition_that_was_never_read_begins_where_it_is_configured_to(
    make_daemon: MakeDaemon, start: Start, read: int
) -> None:
    daemon = make_daemon(start=start)
    daemon.produce(*predictions(0, 20))
    daemon.start()
    daemon.produce(*predictions(20, 30))

    daemon.advance(2)

    assert daemon.read == read


def test_the_next_daemon_goes_on_where_the_last_commit_was(make_daemon: MakeDaemon) -> None:
    first = make_daemon()
    first.produce(*predictions(0, 20))
    first.start().stop()
    first.produce(*predictions(20, 30))

    second = make_daemon(stream=first.stream, owner="next", start=Start.LATEST).start().advance(2)

    assert second.read == 30
    assert second.positions() == {EVENTS: 30}


def test_it_waits_for_a_stream_that_is_away_and_says_so(daemon: SteppedDaemon) -> None:
    daemon.stream.away = True

    daemon.start().advance(60)

    assert daemon.why_not_ready() == "stream: it is unavailable; the log says why"
    assert daemon.watchdog.readies == []
    daemon.stream.away = False
    assert daemon.advance(3).why_not_ready() is None


def test_it_ends_where_the_stream_stays_away_for_the_startup_timeout(daemon: SteppedDaemon) -> None:
    daemon.stream.away = True

    daemon.start(startup_timeout_s=5.0)

    assert daemon.ended(10) is False


def test_the_startup_timeout_is_over_once_it_has_begun(daemon: SteppedDaemon) -> None:
    daemon.start(startup_timeout_s=5.0)
    daemon.stream.away = True
    daemon.advance(60)
    daemon.stream.away = False

    assert daemon.advance(3).why_not_ready() is None


def test_a_stop_while_it_waits_to_begin_is_a_good_end(daemon: SteppedDaemon) -> None:
    daemon.stream.away = True

    assert daemon.start().advance(10).stop() is True


# -- commits -----------------------------------------------------------------------------------------------


def test_records_are_committed_once_the_interval_is_over(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(commit_every_s=10.0)
    daemon.produce(*predictions(0, 20))
    daemon.start()  # the first decision is committed at once
    daemon.produce(*predictions(20, 40))

    assert daemon.advance(9).read == 20
    assert daemon.advance(2).read == 40
    assert daemon.metric("driftd_commits_total") == 2


def test_what_is_to_be_published_is_committed_at_once(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(commit_every_s=1000.0).start()
    daemon.produce(*predictions(0, 1))

    daemon.advance(0.2)

    assert daemon.read == 1
    assert daemon.relay.depth == 1  # the first decision


def test_a_commit_that_fails_is_tried_until_the_database_is_back(daemon: SteppedDaemon) -> None:
    daemon.start()
    daemon.produce(*predictions(0, 20))
    with broken(daemon):
        daemon.advance(30)
        assert daemon.why_not_ready() == "store: the database is unavailable; the log says why"
        assert daemon.read == 0
    daemon.advance(4)

    assert daemon.why_not_ready() is None
    assert daemon.read == 20
    assert (daemon.metric("driftd_commit_failures_total") or 0) > 1


def test_the_watchdog_is_fed_while_the_database_is_away(daemon: SteppedDaemon) -> None:
    daemon.start()
    daemon.produce(*predictions(0, 20))
    with broken(daemon):
        daemon.advance(10)
        heard = len(daemon.watchdog.signals)
        daemon.advance(10)

        assert len(daemon.watchdog.signals) > heard
        assert daemon.telemetry.loop_age_s() < 10


class LosesAnAnswer(StoreWriter):
    """The connection breaks once after a commit has happened."""

    lost = False

    def commit(self, *arguments: Any, **options: Any) -> None:
        super().commit(*arguments, **options)
        if not self.lost:
            self.lost = True
            raise StoreError("server closed the connection unexpectedly", retryable=True)


def test_a_commit_whose_answer_was_lost_is_not_written_twice(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(make_writer=LosesAnAnswer)
    daemon.produce(*predictions(0, 1), b"rubbish")

    daemon.start().advance(5)

    assert daemon.metric("driftd_commit_failures_total") == 1
    assert waiting(daemon) == ["decision", "dead_letter"]
    assert daemon.read == 2


def test_it_says_so_where_the_database_does_not_answer(daemon: SteppedDaemon, database: Path) -> None:
    daemon.start()
    with locked(database):
        daemon.advance(4)
        assert daemon.why_not_ready() == "store: the database does not answer"
        heard = len(daemon.watchdog.signals)
        assert len(daemon.advance(1).watchdog.signals) > heard
    daemon.advance(2)

    assert daemon.why_not_ready() is None


def test_an_end_waits_only_so_long_for_a_database_that_is_away(daemon: SteppedDaemon) -> None:
    daemon.start()
    daemon.produce(*predictions(0, 20))
    with broken(daemon):
        daemon.advance(5)
        with pytest.raises(StoreError, match="disk I/O error"):
            daemon.stop(7)


def test_an_end_waits_only_so_long_for_a_database_that_is_locked(daemon: SteppedDaemon, database: Path) -> None:
    daemon.start()
    daemon.produce(*predictions(0, 20))
    with locked(database):
        daemon.advance(5)
        with pytest.raises(StoreError, match="locked"):
            daemon.stop(7)


# -- another owner -----------------------------------------------------------------------------------------


def another_owner(daemon: SteppedDaemon) -> StoreWriter:
    """Somebody who has taken the store over."""
    other = StoreWriter(daemon.engine, "other", 1)
    assert isinstance(other.claim(0.0, lambda owner: True), Claim)
    return other


def test_it_waits_while_another_daemon_owns_the_store(make_daemon: MakeDaemon) -> None:
    first = make_daemon().start()
    first.produce(*predictions(0, 20))
    second = make_daemon(stream=first.stream, owner="second").start()
    second.advance(60)

    assert second.why_not_ready() == "another daemon owns the store"
    assert second.watchdog.signals[-1] == "waiting"
    assert first.stop() is True
    assert second.advance(1).why_not_ready() is None
    assert second.advance(2).read == 20


def test_whoever_has_lost_the_store_writes_nothing_more(daemon: SteppedDaemon) -> None:
    daemon.start().advance(2)
    another_owner(daemon)
    before = daemon.shard(), waiting(daemon)
    daemon.produce(*predictions(0, 20), b"rubbish")

    daemon.advance(30)

    assert (daemon.shard(), waiting(daemon)) == before
    assert daemon.why_not_ready() == "another daemon owns the store"


def test_whoever_has_lost_the_store_publishes_nothing_more(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(busy_step_s=0.2)
    daemon.produce(*predictions(0, 1))
    daemon.relay.start()
    daemon.start()
    another_owner(daemon)
    daemon.advance(2)
    with daemon.engine.begin() as c:
        c.execute(sa.insert(t.outbox).values(kind="decision", key=b"m", value=b"{}", headers="{}"))
    published = len(daemon.stream.records("decisions"))

    daemon.relay.stop(1.0)

    assert len(daemon.stream.records("decisions")) == published


def test_whoever_gets_the_store_back_goes_on_with_what_the_other_has_committed(daemon: SteppedDaemon) -> None:
    daemon.start().advance(2)
    daemon.produce(*predictions(0, 20))
    other = another_owner(daemon)  # has committed nothing
    daemon.advance(5)
    assert daemon.read == 0
    other.release()

    daemon.advance(3)

    assert daemon.why_not_ready() is None
    assert daemon.read == 20
    assert daemon.metric("driftd_fenced_total") == 1
    assert daemon.shard().owner == "us"


# -- publishing --------------------------------------------------------------------------------------------


def test_nothing_is_read_while_too_many_messages_wait(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(outbox_limit=3).start()
    daemon.produce(*[b"rubbish"] * 5)
    daemon.advance(2)
    daemon.produce(*predictions(0, 20))
    assert daemon.advance(10).read == 5

    daemon.relay.drain()
    daemon.advance(2)

    assert daemon.read == 25


class AwaySink:
    """A sink of a broker that is away."""

    def send(self, messages: Sequence[Message]) -> None:
        raise StreamError("the broker is away", retryable=True)

    def close(self) -> None:
        pass


def test_alerts_that_reach_nobody_are_a_reason_not_to_be_ready(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(open_sink=AwaySink, busy_step_s=0.2)
    daemon.produce(*predictions(0, 20))
    daemon.start().advance(0.2)
    daemon.relay.start()
    deadline = time.monotonic() + 30
    while not daemon.relay.failing and time.monotonic() < deadline:
        time.sleep(0.01)  # the relay has a thread and a clock of its own

    daemon.advance(0.2)

    assert daemon.why_not_ready() == "stream: cannot publish; the log says why; 1 messages wait"
    daemon.produce(*predictions(20, 30))
    assert daemon.advance(2).read == 30
    daemon.relay.stop(0.0)


# -- commands ----------------------------------------------------------------------------------------------


def result_of(daemon: SteppedDaemon, command: int) -> str | None:
    with daemon.engine.connect() as c:
        result: str | None = c.execute(sa.select(t.command.c.result).where(t.command.c.id == command)).scalar_one()
        return result


def test_a_command_is_applied_in_the_next_commit_and_answered(daemon: SteppedDaemon) -> None:
    daemon.produce(*predictions(0, 1))
    daemon.start().advance(2)
    command = ask(daemon.engine, "m", CommandName.SILENCE, {"for_ms": 60 * SECOND}, reason="because", who="me")
    assert result_of(daemon, command) is None

    daemon.advance(2)

    assert (result_of(daemon, command) or "").startswith("silent until")


def test_a_command_that_waited_for_a_daemon_is_applied_at_its_start(daemon: SteppedDaemon) -> None:
    command = ask(daemon.engine, "nobody", CommandName.RECOVER, {}, reason="because", who="me")

    daemon.start().advance(2)

    assert result_of(daemon, command) == "refused: nobody is not configured"


# -- the end -----------------------------------------------------------------------------------------------


def test_a_clean_end_commits_what_was_processed_and_gives_the_store_back(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(commit_every_s=1000.0).start()
    daemon.produce(*predictions(0, 20))
    daemon.advance(0.5)
    daemon.produce(*predictions(20, 40))
    daemon.advance(0.5)
    assert daemon.read == 20

    assert daemon.stop() is True

    assert daemon.read == 40
    assert daemon.positions() == {EVENTS: 40}
    assert daemon.shard().owner is None


class BrokenSource(MemorySource):
    """A source that fails in a way that waiting does not mend."""

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        raise StreamError("the brokers refuse us", retryable=False)


def test_an_error_of_the_stream_that_waiting_does_not_mend_ends_it(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(source=BrokenSource)

    with pytest.raises(StreamError, match="the brokers refuse us"):
        daemon.start().advance(5)
