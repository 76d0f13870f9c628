"""The join of batches."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.join.rows import JoinVerdict
from monitor.join.table import JoinTable
from tests.monitor.join.one_by_one import Event, OneByOne, Pair
from tests.monitor.join.streams import T0, keys_for, random_events, rows_of

PATIENCE = np.full(100, 100, np.int64)


def join_in_batches(
    events: Sequence[Event], within: int, early: int, r: random.Random, *, crowded: bool = False
) -> tuple[JoinTable, list[str], list[Pair], list[tuple[int, int, int]]]:
    """Batches of random sizes, with expiry, commits and sweeps between them."""
    requests = max((e.request for e in events), default=0) + 1
    keys = keys_for(r, requests, crowded=crowded)
    table = JoinTable(pending=10_000, seen=10_000)
    verdicts: list[str] = []
    pairs: list[Pair] = []
    agreements: list[tuple[int, int, int]] = []
    patience = np.full(100, within, np.int64), np.full(100, early, np.int64)
    start = 0
    while start < len(events):
        batch = events[start : start + r.choice((1, 2, 10, 700))]
        start += len(batch)
        joined = table.join(rows_of(batch, keys, within, early))
        verdicts += [JoinVerdict(v).name for v in joined.verdict]
        column, found, agreed = table.slots.column, joined.pairs, joined.agreements
        for i, slot in enumerate(found.slot):
            request = batch[found.row[i]].request
            assert found.request[i] == keys[request]
            variant, value, time = (column[name][slot].item() for name in ("variant", "value", "time"))
            pairs.append(Pair(request, variant, value, float(found.actual[i]), time, int(found.outcome_time[i])))
        for i, row in enumerate(agreed.row):
            one, other = agreed.served_slot[i], agreed.other_slot[i]
            agreements.append((batch[row].request, int(column["variant"][one]), int(column["variant"][other])))
        if r.random() < 0.3:
            table.expire(batch[-1].clock, *patience, everything=r.random() < 0.5)
        if r.random() < 0.3:
            table.take_changes()
            table.slots.release(table.slots.retired())
            table.index.sweep(share=1)
    return table, verdicts, pairs, agreements


def assert_equal_to_one_by_one(
    events: Sequence[Event], within: int, early: int, r: random.Random, crowded: bool
) -> None:
    """Verdicts, pairs, agreements and counts are those of the dictionaries."""
    model = OneByOne(within, early)
    wanted = [model.put(event) for event in events]
    table, verdicts, pairs, agreements = join_in_batches(events, within, early, r, crowded=crowded)

    assert verdicts == wanted
    assert sorted(pairs) == sorted(model.pairs)
    assert sorted(agreements) == sorted(model.agreements)
    assert table.counts.joined == len(model.pairs)
    assert table.counts.duplicates == wanted.count("DUPLICATE")
    assert table.counts.conflicts == wanted.count("CONFLICT")
    assert table.counts.late == wanted.count("LATE")
    forever = 10**9
    table.expire(forever, np.full(100, within), np.full(100, early), everything=True)
    expired, orphans = model.finish()
    assert (table.counts.expired, table.counts.orphans) == (expired, orphans)
    assert table.waiting == 0


events_ = st.lists(
    st.builds(
        lambda request, step, back, value, variant, served, waits: (request, step, back, value, variant, served, waits),
        st.integers(0, 3), st.sampled_from((0, 0, 1, 5)), st.integers(0, 4), st.integers(0, 2),
        st.sampled_from((None, None, 1, 2, 65)), st.booleans(), st.booleans(),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=150)
@given(events_, st.sampled_from((10, 30, 10**6)), st.sampled_from((5, 10**6)), st.integers(0, 2**32), st.booleans())
def test_a_batch_equals_its_events_one_by_one(
    drawn: list[tuple[int, int, int, int, int | None, bool, bool]], within: int, early: int, seed: int, crowded: bool
) -> None:
    """Also where one request has many events in a batch, and where all keys crowd the same cells."""
    clock, events = T0, []
    for request, step, back, value, variant, served, waits in drawn:
        clock += step
        events.append(Event(request, clock - back, clock, float(value), variant, served, waits or served))
    assert_equal_to_one_by_one(events, within, early, random.Random(seed), crowded)


@pytest.mark.parametrize("seed", range(40))
def test_long_streams_equal_their_events_one_by_one(seed: int) -> None:
    """Thousands of events, with duplicates, conflicts, expiry and sweeps between batches."""
    r = random.Random(seed)
    events = random_events(r, r.choice((300, 2000)), r.choice((3, 20, 500)))
    assert_equal_to_one_by_one(events, r.choice((20, 100, 10**6)), r.choice((10, 50, 10**6)), r, seed % 3 == 0)


def put(table: JoinTable, *events: Event) -> list[str]:
    """One batch; verdicts by name. Patience is 100 for answers and outcomes."""
    keys = np.arange(1, 10_001, dtype=np.uint64) << np.uint64(7)
    return [JoinVerdict(v).name for v in table.join(rows_of(events, keys, 100, 100)).verdict]


def test_an_outcome_before_its_prediction_waits_and_then_joins() -> None:
    table = JoinTable(100, 100)

    assert put(table, Event(1, 10, 10, 1.0)) == ["WAITING"]
    assert put(table, Event(1, 5, 11, 0.0, variant=1)) == ["ACCEPTED"]
    assert (table.counts.joined, table.waiting) == (1, 0)


@pytest.mark.parametrize(("first", "other"), [(1.0, 0.0), (0.0, 1.0)])
def test_an_outcome_after_expiry_is_late_and_its_repeat_a_duplicate(first: float, other: float) -> None:
    table = JoinTable(100, 100)
    put(table, Event(1, 10, 10, 0.0, variant=1))

    assert put(table, Event(1, 200, 200, first), Event(1, 201, 201, first), Event(1, 202, 202, other)) == [
        "LATE", "DUPLICATE", "CONFLICT",
    ]  # fmt: skip
    assert (table.counts.late, table.counts.expired, table.counts.joined) == (1, 1, 0)


def test_an_outcome_joins_every_answer_of_its_request() -> None:
    table = JoinTable(100, 100)
    put(table, Event(1, 10, 10, 0.0, variant=1), Event(1, 10, 10, 1.0, variant=2, served=False))

    assert put(table, Event(1, 20, 20, 1.0)) == ["JOINED"]
    assert table.counts.joined == 2


def test_a_failed_attempt_is_remembered_but_does_not_wait() -> None:
    table = JoinTable(100, 100)
    failed = Event(1, 10, 10, float("nan"), variant=1, served=False, waits=False)

    assert put(table, failed, failed) == ["ACCEPTED", "DUPLICATE"]
    assert table.waiting == 0


def test_two_requests_that_share_half_a_hash_are_told_apart() -> None:
    """The second is refused rather than joined to the first one's outcome."""
    table = JoinTable(100, 100)
    put(table, Event(1, 10, 10, 0.0, variant=1))
    rows = rows_of([Event(1, 11, 11, 1.0)], np.arange(1, 3, dtype=np.uint64) << np.uint64(7), 100, 100)
    rows.hi[:] += np.uint64(1)

    assert JoinVerdict(table.join(rows).verdict[0]) is JoinVerdict.COLLISION
    assert table.counts.collisions == 1


def test_near_its_bound_the_table_samples_requests_instead_of_losing_the_slow_ones() -> None:
    """What waits stays below the bound, and pairs are kept or dropped by request, never by age."""
    table = JoinTable(pending=1_000, seen=10_000)
    keys = keys_for(random.Random(1), 5_000)
    answers = [Event(i, 10, 10, 0.0, variant=1) for i in range(5_000)]
    for start in range(0, 5_000, 500):
        table.join(rows_of(answers[start : start + 500], keys, 10**6, 10**6))
        table.downsample_pending()
        assert table.waiting <= 900

    outcomes = [Event(i, 20, 20, 1.0) for i in range(5_000)]
    verdict = table.join(rows_of(outcomes, keys, 10**6, 10**6)).verdict
    sampled = keys % np.uint64(2**table.sampling_log2) == 0
    assert table.sampling_log2 > 0
    assert (verdict[~sampled] == JoinVerdict.UNSAMPLED).all()
    # A request that is in the final sample was in every larger one.
    assert (verdict[sampled] == JoinVerdict.JOINED).all()


def test_closed_requests_beyond_the_bound_are_forgotten_oldest_first() -> None:
    table = JoinTable(pending=1_000, seen=640)
    for i in range(2_000):
        put(table, Event(i, i, i, 0.0, variant=1), Event(i, i, i, 1.0))
        table.forget(table.generations_to_drop(i))

    assert table.remembered() <= 640
    assert put(table, Event(1_999, 2_000, 2_000, 1.0), Event(0, 2_000, 2_000, 1.0)) == ["DUPLICATE", "WAITING"]
    assert table.horizon is not None
    assert 1_000 < table.horizon < 2_000
