"""The durable form of the join: what comes back is what was there."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.saved import DamagedError
from monitor.errors import SchemaTooNew
from monitor.join.blobs import decode_segment, encode_segment
from monitor.join.index import EMPTY, closed_tag_of
from monitor.join.log import AliveRow, ClosedRow, JoinCommit, JoinLog, SegmentRow
from monitor.join.results import JoinVerdict
from monitor.join.slots import FREE, SAVED
from monitor.join.table import JoinTable
from tests.monitor.join.one_by_one import Event
from tests.monitor.join.streams import keys_for, random_events, rows_of

Entry = tuple[Any, ...]


class Tables:
    """The rows of the database, as dictionaries keyed like its tables."""

    def __init__(self) -> None:
        self.segments: dict[int, SegmentRow] = {}
        self.alive: dict[int, AliveRow] = {}
        self.closed: dict[int, ClosedRow] = {}

    def apply(self, delta: JoinCommit) -> None:
        """What the transaction of a commit does."""
        for segment in delta.drop_segments:
            del self.segments[segment]
            self.alive.pop(segment, None)
        if delta.segment:
            self.segments[delta.segment.id] = delta.segment
        self.alive.update({row.id: row for row in delta.alive})
        for seq in delta.drop_closed:
            del self.closed[seq]
        self.closed.update({row.seq: row for row in delta.closed})

    def restored(self, pending: int, seen: int) -> tuple[JoinTable, JoinLog]:
        """A new process."""
        table = JoinTable(pending, seen)
        log = JoinLog(table)
        log.restore(self.segments.values(), self.alive.values(), self.closed.values(), watermark=0)
        return table, log


def open_entries(table: JoinTable) -> set[Entry]:
    """All that is open, comparable."""
    column = table.entries.slots.column
    held = np.flatnonzero(column["state"] != FREE)
    return set(zip(*(column[name][held].tolist() for name in SAVED), strict=True))


def closed_keys(table: JoinTable, keys: NDArray[np.uint64]) -> list[int]:
    """What the index says of keys that are not open; generations may be numbered anew after a restart."""
    values = table.entries.index.look_up(keys)
    return [int(v) for v in np.where(values < EMPTY, closed_tag_of(values), -1)]


@pytest.mark.parametrize("seed", range(30))
def test_a_restored_table_goes_on_exactly_as_before(seed: int) -> None:
    """Crashes at random commits: open entries, closed keys, verdicts and pairs are those of a table that lived on."""
    r = random.Random(seed)
    requests, seen = r.choice(((20, 10_000), (500, 10_000), (500, 320)))
    events = random_events(r, 2_000, requests)
    keys = keys_for(r, requests)
    prediction_ttl, outcome_ttl, pane = r.choice((20, 100, 10**6)), r.choice((10, 50, 10**6)), r.choice((0, 10))
    ttls = np.full(100, prediction_ttl), np.full(100, outcome_ttl), np.full(100, pane)
    survivor, database = JoinTable(10_000, seen), Tables()
    survivor_log = JoinLog(survivor)
    table, log = database.restored(10_000, seen)

    start = seq = 0
    while start < len(events):
        batch = events[start : start + r.choice((3, 50, 300))]
        start += len(batch)
        rows = rows_of(batch, keys, prediction_ttl, outcome_ttl, pane, keeps=seed % 2 == 0)
        mine, theirs = table.join(rows), survivor.join(rows)
        assert mine.verdict.tolist() == theirs.verdict.tolist()
        assert mine.pairs.actual.tolist() == theirs.pairs.actual.tolist()
        assert mine.pairs.outcome_time.tolist() == theirs.pairs.outcome_time.tolist()
        assert mine.pairs.effective_time.tolist() == theirs.pairs.effective_time.tolist()
        if r.random() < 0.6:
            seq += 1
            rewrite = r.random() < 0.1
            for t, its_log in ((table, log), (survivor, survivor_log)):
                t.expire(batch[-1].clock, *ttls, everything=True)
                delta = its_log.prepare_commit(seq, batch[-1].clock, rewrite=rewrite)
                if t is table:
                    database.apply(delta)
                its_log.on_committed(delta)
            if r.random() < 0.5:
                table, log = database.restored(10_000, seen)
            assert open_entries(table) == open_entries(survivor)
            assert closed_keys(table, keys) == closed_keys(survivor, keys)
            assert table.waiting == survivor.waiting
            assert table.entries.closed.remembered == survivor.entries.closed.remembered
    assert seq > 3


@pytest.mark.slow
def test_segments_and_records_of_closed_keys_stay_few() -> None:
    """A thousand commits leave tens of rows, whatever opened and closed in them."""
    r = random.Random(7)
    table, database = JoinTable(100_000, 100_000), Tables()
    log = JoinLog(table)
    keys = keys_for(r, 60_000)
    for seq in range(1, 1_001):
        answers = [Event(seq * 50 + i, seq, seq, 0.0, variant=1) for i in range(50)]
        outcomes = [Event(max(e.request - r.randrange(1, 400), 50), seq, seq, 1.0) for e in answers]
        table.join(rows_of(answers + outcomes, keys, 300, 300))
        table.expire(seq, *[np.full(10, 300)] * 3, everything=True)
        delta = log.prepare_commit(seq, seq)
        database.apply(delta)
        log.on_committed(delta)

    assert len(database.segments) < 40
    assert len(database.closed) < 130
    assert open_entries(database.restored(100_000, 100_000)[0]) == open_entries(table)


def test_a_failed_commit_can_be_written_again() -> None:
    """The delta is a value: writing it later gives the same database."""
    table, database = JoinTable(1_000, 1_000), Tables()
    log = JoinLog(table)
    keys = keys_for(random.Random(1), 10)
    table.join(
        rows_of([Event(1, 5, 5, 0.0, variant=1), Event(2, 5, 5, 0.0, variant=1), Event(2, 6, 6, 1.0)], keys, 9, 9)
    )
    delta = log.prepare_commit(1, 6)

    database.apply(delta)
    log.on_committed(delta)

    assert open_entries(database.restored(1_000, 1_000)[0]) == open_entries(table)


def a_segment() -> dict[str, NDArray[Any]]:
    """Columns of three entries, one of them three hundred years later than the others."""
    columns = {name: np.arange(3).astype(kind) for name, kind in SAVED.items()}
    columns["time"][2] = 10**13
    return columns


def test_a_segment_comes_back_as_it_was() -> None:
    columns = a_segment()

    back = decode_segment(encode_segment(columns))

    assert {name: c.tolist() for name, c in back.items()} == {name: c.tolist() for name, c in columns.items()}


def test_a_damaged_segment_is_refused_not_skipped() -> None:
    body = bytearray(encode_segment(a_segment()))
    body[-3] ^= 1

    with pytest.raises(DamagedError, match="damaged"):
        decode_segment(bytes(body))


def test_a_segment_of_a_newer_release_is_refused() -> None:
    body = bytearray(encode_segment(a_segment()))
    body[2] = 2

    with pytest.raises(SchemaTooNew, match="install the newer release"):
        decode_segment(bytes(body))


def test_a_stream_that_ended_leaves_no_outcome_waiting_after_a_restart() -> None:
    """Orphans are counted once, at the end, and not again by whoever opens the store next."""
    table, database = JoinTable(1_000, 1_000), Tables()
    log = JoinLog(table)
    table.join(rows_of([Event(1, 5, 5, 1.0)], keys_for(random.Random(1), 10), 100, 100))
    for seq in (1, 2):
        if seq == 2:
            table.orphan_waiting_outcomes()
        delta = log.prepare_commit(seq, 5)
        database.apply(delta)
        log.on_committed(delta)

    assert table.counts.orphans == 1
    assert open_entries(database.restored(1_000, 1_000)[0]) == set()


def test_verdict_of_a_forgotten_request_is_that_of_a_new_one() -> None:
    """A key whose generation was dropped is new again, also after a restart."""
    table, database = JoinTable(10_000, 64), Tables()
    log = JoinLog(table)
    keys = keys_for(random.Random(3), 500)
    for seq in range(1, 301):
        table.join(rows_of([Event(seq, seq, seq, 0.0, variant=1), Event(seq, seq, seq, 1.0)], keys, 100, 100))
        delta = log.prepare_commit(seq, seq)
        database.apply(delta)
        log.on_committed(delta)
    restored, _ = database.restored(10_000, 64)

    again = rows_of([Event(1, 301, 301, 1.0), Event(300, 301, 301, 1.0)], keys, 100, 100)

    assert [JoinVerdict(v).name for v in restored.join(again).verdict] == ["WAITING", "DUPLICATE"]
