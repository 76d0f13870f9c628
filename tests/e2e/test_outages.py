"""While a dependency is away the daemon waits, says so, and loses nothing; when it is back it goes on by itself.

`DRIFTD_OUTAGE_S` is how long the outages last; the default suits a suite that is run often.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from tests.e2e import auditor, workload
from tests.e2e.daemon import Daemon
from tests.e2e.place import FilePlace, KafkaPlace, Place
from tests.servers.kafka import Cluster
from tests.servers.postgres import Postgres
from tests.servers.topics import Topics

OUTAGE_S = float(os.environ.get("DRIFTD_OUTAGE_S", "6"))
AWAY = 75
ALIVE_S = 30.0  # systemd and Kubernetes are told to restart a loop that stands still for twice as long


class Pulse(threading.Thread):
    """Asks a daemon over and over how old the last turn of its loop is."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(name="pulse", daemon=True)
        self._daemon, self._over = daemon, threading.Event()
        self.ages: list[float] = []
        self.healthy: set[int] = set()

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.ages.append(self._daemon.metric("driftd_loop_age_seconds"))
            self.healthy.add(self._daemon.get("/-/healthy").code)

    def __enter__(self) -> Pulse:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


Outage = Callable[[Daemon], AbstractContextManager[None]]


def survives(
    place: Place,
    outage: Outage,
    why: str,
    *,
    seed: int,
    fed: bool = True,
    meanwhile: Callable[[Daemon], None] = lambda daemon: None,
) -> None:
    """Hold a daemon to everything that it may not do while something is away.

    Half of a workload comes before the outage, the other half within it, or after it where it cannot be `fed`.
    """
    lines = workload.Workload(seed=seed, seconds=200).lines()
    middle = len(lines) // 2
    place.configure(workload.models(drift=False))
    place.produce(lines[:middle])
    with place.daemon() as daemon:
        daemon.until_ready().until_read(middle).until_published()
        with Pulse(daemon) as pulse:
            until = time.monotonic() + OUTAGE_S
            with outage(daemon):
                if fed:
                    place.produce(lines[middle:])
                assert why in daemon.until_not_ready()
                meanwhile(daemon)
                time.sleep(max(until - time.monotonic(), 0))
                assert daemon.is_running
                assert not daemon.is_ready
            if not fed:
                place.produce(lines[middle:])
            daemon.until_ready().until_read(len(lines)).until_published()
        assert pulse.healthy == {200}
        assert max(pulse.ages) < ALIVE_S
        assert daemon.stop() == 0
    assert auditor.differences(auditor.recount(place.written, place.inputs), place.found()) == []


def between(begin: Callable[[], None], end: Callable[[], None]) -> Outage:
    """An outage that does not depend on the daemon."""

    @contextmanager
    def outage(daemon: Daemon) -> Iterator[None]:
        begin()
        try:
            yield
        finally:
            end()

    return outage


# -- the broker --------------------------------------------------------------------------------------------


@pytest.mark.kafka
def test_nothing_is_lost_while_the_broker_is_dead(kafka_place: KafkaPlace, kafka: Cluster) -> None:
    node = kafka.nodes[0]

    survives(kafka_place, between(node.kill, node.start), "stream: it is unavailable", seed=11, fed=False)


@pytest.mark.kafka
@pytest.mark.postgres
def test_nothing_is_lost_while_the_broker_hangs(postgres_place: KafkaPlace, kafka: Cluster) -> None:
    """Its connections stay open, and nobody answers."""
    node = kafka.nodes[0]

    survives(postgres_place, between(node.freeze, node.thaw), "stream: it is unavailable", seed=12, fed=False)


@pytest.mark.kafka
def test_alerts_wait_in_the_database_while_the_broker_refuses_them(kafka_place: KafkaPlace, topics: Topics) -> None:
    """Events are read and counted all the same, and what they say is published later."""

    def allow(size: int) -> None:
        # Dead letters first: one that is allowed between two attempts would go without the bytes that were too many.
        for topic in sorted(kafka_place.outputs.values(), key=lambda t: t != kafka_place.outputs["dead-letters"]):
            wanted = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(size)})
            topics.admin.alter_configs([wanted])

    def goes_on(daemon: Daemon) -> None:
        daemon.until_read(len(kafka_place.written))

    outage = between(lambda: allow(1), lambda: allow(1 << 20))
    survives(kafka_place, outage, "cannot publish", seed=13, meanwhile=goes_on)


@pytest.mark.kafka
def test_the_backlog_of_messages_is_shown_while_they_cannot_be_published(
    kafka_place: KafkaPlace, topics: Topics
) -> None:
    """And beyond the limit reading waits, so that the database does not grow for ever."""
    kafka_place.configure(workload.models(drift=False), limits={"outbox": 1_000})
    rubbish = [b"{"] * 1_500
    with kafka_place.daemon() as daemon:
        daemon.until_ready().until_published()
        topics.admin.delete_topics([kafka_place.outputs["dead-letters"]])
        kafka_place.append(kafka_place.events[0], rubbish)
        daemon.until(lambda: daemon.metric("driftd_outbox_depth") >= 1_000, "the backlog is shown")
        kafka_place.append(kafka_place.events[0], rubbish)
        daemon.until(lambda: "messages wait" in (daemon.why_not_ready or ""), "it says why")
        read, commits = daemon.read, daemon.metric("driftd_commits_total")
        daemon.until(lambda: daemon.metric("driftd_commits_total") > commits + 10, "it goes on committing")
        assert daemon.read == read < 3_000
        assert daemon.metric("driftd_outbox_depth") >= read

        assert kafka_place.driftd("topics", "--create").code == 0

        daemon.until_read(3_000).until_published().until_ready()
        assert daemon.stop() == 0
    assert sorted(letter["offset"] for letter in kafka_place.dead_letters()) == list(range(3_000))


# -- the database ------------------------------------------------------------------------------------------


@pytest.mark.kafka
@pytest.mark.postgres
def test_nothing_is_lost_while_the_database_is_dead(postgres_place: KafkaPlace, postgres: Postgres) -> None:
    survives(postgres_place, between(postgres.kill, postgres.start), "database", seed=21)


@pytest.mark.postgres
def test_nothing_is_lost_while_a_failover_has_made_the_database_read_only(
    tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    outage = between(lambda: postgres.set_read_only(True), lambda: postgres.set_read_only(False))

    survives(FilePlace(tmp_path, postgres_url), outage, "store: the database is unavailable", seed=25)


def turns(daemon: Daemon) -> None:
    """The loop turns though nothing answers: a watchdog must not shoot a daemon that only has to wait."""
    for _ in range(2):
        time.sleep(1)
        daemon.until(lambda: daemon.metric("driftd_loop_age_seconds") < 0.8, "the loop turns")


@pytest.mark.kafka
@pytest.mark.postgres
def test_nothing_is_lost_while_the_database_hangs(postgres_place: KafkaPlace, postgres: Postgres) -> None:
    outage = between(postgres.freeze, postgres.thaw)

    survives(postgres_place, outage, "the database does not answer", seed=22, meanwhile=turns)


def test_nothing_is_lost_while_another_process_has_locked_the_file(file_place: FilePlace) -> None:
    @contextmanager
    def locked(daemon: Daemon) -> Iterator[None]:
        path = file_place.store_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield

    survives(file_place, locked, "the database does not answer", seed=23, meanwhile=turns)


def test_nothing_is_lost_while_the_disk_is_full(file_place: FilePlace) -> None:
    """A limit on the size of files is to the daemon what a full disk is: writing fails, reading does not."""

    @contextmanager
    def full(daemon: Daemon) -> Iterator[None]:
        before = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
        yield
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, before)

    survives(file_place, full, "database", seed=24)


# -- from the start ----------------------------------------------------------------------------------------


def once(act: Callable[[], None]) -> Callable[[], None]:
    """An act that is done at the first call."""
    left = [act]
    return lambda: left.pop()() if left else None


def waits_from_the_start(place: Place, begin: Callable[[], None], end: Callable[[], None], why: str) -> None:
    """A daemon that is started within an outage works when it is over, unless it was told how long to wait."""
    place.configure(workload.models(drift=False))
    place.produce(workload.Workload(seed=31, seconds=60).lines())
    with ExitStack() as stack:
        begin()
        over = once(end)
        stack.callback(over)
        daemon = stack.enter_context(place.daemon())
        hasty = stack.enter_context(place.daemon("--startup-timeout", "2", name="hasty"))
        daemon.until(lambda: why in (daemon.why_not_ready or ""), "it says why it waits")
        assert hasty.ended() == AWAY
        assert daemon.is_running
        over()
        daemon.until_ready().until_read(len(place.written))
        assert daemon.stop() == 0
    assert auditor.differences(auditor.recount(place.written, place.inputs), place.found()) == []


@pytest.mark.kafka
def test_a_daemon_that_starts_before_the_broker_waits_for_it(kafka_place: KafkaPlace, kafka: Cluster) -> None:
    node = kafka.nodes[0]

    waits_from_the_start(kafka_place, node.kill, node.start, "stream: it is unavailable")


@pytest.mark.postgres
def test_a_daemon_that_starts_before_the_database_waits_for_it(
    tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    place = FilePlace(tmp_path, postgres_url)

    waits_from_the_start(place, postgres.kill, postgres.start, "database")


@pytest.mark.postgres
def test_a_daemon_that_starts_while_the_database_is_read_only_waits_for_it(
    tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    place = FilePlace(tmp_path, postgres_url)

    waits_from_the_start(
        place, lambda: postgres.set_read_only(True), lambda: postgres.set_read_only(False), "database is unavailable"
    )


@pytest.mark.postgres
def test_a_daemon_that_starts_while_the_database_hangs_waits_for_it(
    tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    place = FilePlace(tmp_path, postgres_url)

    waits_from_the_start(place, postgres.freeze, postgres.thaw, "database")
