"""A restore that takes longer than the lease: the daemon that has begun it keeps the store, and the other one waits."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest
import sqlalchemy as sa

from tests.e2e import auditor, workload
from tests.e2e.auditor import query
from tests.e2e.daemon import Daemon
from tests.e2e.place import FilePlace, KafkaPlace, Place

LINES = workload.Workload(seed=43, seconds=60).lines()
HALF = len(LINES) // 2
LEASE_S = 0.9
STORED = 400_000  # labels of a model that is not configured any more: read and sorted by every restore
FILL = """
    WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {count})
    INSERT INTO code (model, kind, code, text) SELECT 'gone', 'label', i, 'label ' || i FROM numbers
"""


def slow_to_restore(place: Place) -> None:
    """Give the store so much to restore that it takes longer than the lease."""
    fill = FILL.format(count=STORED)
    if place.store_url.startswith("sqlite"):
        with closing(sqlite3.connect(place.directory / "driftd.db")) as connection, connection:
            connection.execute(fill)
        return
    url = sa.make_url(place.store_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as server:
        server.execute(fill)


def epoch(place: Place) -> int:
    ((found,),) = query(place.store_url, "SELECT epoch FROM shard")
    return int(found)


def restores_in_peace(place: Place) -> None:
    place.configure(workload.models(drift=False), store={"lease": f"{LEASE_S}s", "commit_every": "300ms"})
    place.produce(LINES[:HALF])
    with place.daemon(name="before") as before:
        before.until_read(HALF).until_published()
        assert before.stop() == 0
    slow_to_restore(place)
    place.produce(LINES[HALF:])
    epochs = epoch(place)

    with place.daemon(name="first") as first, place.daemon(name="second") as second:
        both = (first, second)
        working: list[Daemon] = []

        def one_works() -> bool:
            working[:] = [daemon for daemon in both if daemon.is_ready]
            return len(working) == 1

        first.until(one_works, "one of them works", timeout_s=60)
        working[0].until_read(len(LINES)).until_published()

        began = [line for daemon in both for line in daemon.logged("worker.began")]
        assert [line["seconds"] > LEASE_S for line in began] == [True]
        assert epoch(place) == epochs + 1
        assert not any(daemon.logged("worker.fenced") for daemon in both)
        for daemon in both:
            assert daemon.stop() == 0
    assert auditor.differences(auditor.recount(place.written, place.inputs), place.found()) == []


def test_two_daemons_do_not_fence_each_other_while_one_restores(file_place: FilePlace) -> None:
    restores_in_peace(file_place)


@pytest.mark.kafka
@pytest.mark.postgres
def test_so_it_is_on_postgresql(postgres_place: KafkaPlace) -> None:
    restores_in_peace(postgres_place)
