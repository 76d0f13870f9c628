"""Requests that have ended, in the store: found by their keys, bounded, merged, and exactly those of the commits."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from monitor.errors import Fenced, StoreError
from monitor.join.ended import EndedRequests
from monitor.pipeline.commit import PipelineCommit
from monitor.store import reader
from monitor.store import tables as t
from monitor.store.writer import StoreWriter
from tests.monitor.store.fill import DAY, a_writer, deltas

IDENTITIES = {"events": "topic 1"}
DELTA = deltas(1)[0]


def some_ended(first: int, count: int, *, time: int = 1_700_000_000_000) -> EndedRequests:
    number = np.arange(first, first + count)
    return EndedRequests(
        key=number.astype(np.uint64), ending=(number % 3).astype(np.uint8), variant=(number % 7).astype(np.uint16),
        served_by=(number % 2).astype(np.uint8), pane=(number % 50).astype(np.uint32), predicted=number / 3,
        score=(number % 100 / 100).astype(np.float32), time=time + number, actual=number / 7,
        outcome_time=time + 2 * number,
    )  # fmt: skip


def a_delta(seq: int, ended: EndedRequests, clock: int = 1_700_000_000_000) -> PipelineCommit:
    """A commit of nothing but these."""
    join = replace(DELTA.join, segment=None, closed=(), alive=(), drop_segments=(), drop_closed=(), ended=ended)
    return replace(
        DELTA, seq=seq, watermark=clock, join=join, codes=[], models={}, published=[], dead_letters=[], commands=[]
    )


def a_bounded_writer(engine: Engine, ended: int) -> StoreWriter:
    writer = StoreWriter(engine, "me", DAY, ended=ended)
    writer.claim(0.0, lambda name: True)
    return writer


def held(engine: Engine) -> tuple[int, int]:
    """(rows of the table, requests in them)."""
    with engine.connect() as c:
        rows = c.execute(sa.select(t.ended.c.rows)).scalars().all()
    return len(rows), sum(rows)


def assert_same(found: EndedRequests, expected: EndedRequests) -> None:
    for column in fields(EndedRequests):
        np.testing.assert_array_equal(getattr(found, column.name), getattr(expected, column.name), column.name)


def test_a_request_is_found_by_its_key_with_all_that_is_known(engine: Engine) -> None:
    writer, ended = a_writer(engine), some_ended(0, 100)
    writer.commit(a_delta(1, ended.take(slice(0, 60))), identities=IDENTITIES)
    writer.commit(a_delta(2, ended.take(slice(60, 100))), identities=IDENTITIES)

    found = reader.ended(engine, np.array([70, 20, 1_000], np.uint64))

    assert_same(found, ended.take(np.array([20, 70])))


def test_times_that_are_far_apart_are_kept_as_they_are(engine: Engine) -> None:
    ended = EndedRequests.concatenated([some_ended(0, 2, time=1), some_ended(2, 2)])
    a_writer(engine).commit(a_delta(1, ended), identities=IDENTITIES)

    assert_same(reader.ended(engine, ended.key), ended)


def test_a_commit_of_many_is_cut_into_rows(engine: Engine) -> None:
    ended = some_ended(0, 150_000)
    a_writer(engine).commit(a_delta(1, ended), identities=IDENTITIES)

    assert held(engine) == (3, 150_000)
    assert_same(reader.ended(engine, ended.key[[0, 70_000, 149_999]]), ended.take(np.array([0, 70_000, 149_999])))


def test_the_oldest_go_beyond_the_limit(engine: Engine) -> None:
    writer = a_bounded_writer(engine, ended=1_000)
    for seq in range(1, 31):
        writer.commit(a_delta(seq, some_ended(100 * seq, 100)), identities=IDENTITIES)
        assert held(engine)[1] <= 1_000 + 200

    assert len(reader.ended(engine, np.array([100], np.uint64))) == 0
    assert len(reader.ended(engine, np.arange(2_100, 3_100, dtype=np.uint64))) == 1_000


def test_of_a_commit_of_several_rows_only_the_oldest_go(engine: Engine) -> None:
    writer = a_bounded_writer(engine, ended=100_000)
    writer.commit(a_delta(1, some_ended(0, 100_000)), identities=IDENTITIES)
    writer.commit(a_delta(2, some_ended(100_000, 65_536)), identities=IDENTITIES)

    assert held(engine)[1] >= 100_000
    assert len(reader.ended(engine, np.arange(65_536, 165_536, dtype=np.uint64))) == 100_000


def test_nothing_is_kept_where_none_are_wanted(engine: Engine) -> None:
    a_writer(engine).commit(a_delta(1, some_ended(0, 100)), identities=IDENTITIES)
    writer = a_bounded_writer(engine, ended=0)
    writer.commit(a_delta(2, some_ended(100, 10)), identities=IDENTITIES)

    assert held(engine) == (0, 0)


def test_small_rows_become_one(engine: Engine) -> None:
    writer, ended = a_writer(engine), some_ended(0, 640)
    for i in range(64):
        writer.commit(a_delta(i + 1, ended.take(slice(10 * i, 10 * i + 10))), identities=IDENTITIES)

    assert held(engine) == (1, 640)
    assert_same(reader.ended(engine, ended.key), ended)


def test_what_is_older_than_the_retention_is_deleted(engine: Engine) -> None:
    writer = a_writer(engine, retention=DAY)
    start = 1_700_000_000_000
    writer.commit(a_delta(1, some_ended(0, 5_000), start), identities=IDENTITIES)
    writer.commit(a_delta(64, some_ended(5_000, 5_000), start + 2 * DAY), identities=IDENTITIES)

    assert held(engine) == (1, 5_000)
    assert len(reader.ended(engine, np.array([0, 5_000], np.uint64))) == 1


def test_a_commit_that_is_refused_leaves_none(engine: Engine) -> None:
    fenced = a_writer(engine)
    a_writer(engine, "other")

    with pytest.raises(Fenced):
        fenced.commit(a_delta(1, some_ended(0, 10)), identities=IDENTITIES)

    assert held(engine) == (0, 0)


@pytest.mark.parametrize("column", ["requests", "body"])
def test_a_damaged_row_is_named(engine: Engine, column: str) -> None:
    a_writer(engine).commit(a_delta(1, some_ended(0, 2)), identities=IDENTITIES)
    with engine.begin() as c:
        found = bytearray(c.execute(sa.select(t.ended.c[column])).scalar_one())
        found[-1] ^= 1
        c.execute(sa.update(t.ended).values({column: bytes(found)}))

    with pytest.raises(StoreError, match=r"table ended, row 0 1 0"):
        reader.ended(engine, np.array([0], np.uint64))


def test_a_store_of_an_earlier_release_has_none(empty_database: Engine) -> None:
    assert len(reader.ended(empty_database, np.array([0], np.uint64))) == 0
