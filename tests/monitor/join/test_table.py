"""The join of batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.join.arrays import Pane
from monitor.join.log import JoinLog
from monitor.join.results import JoinState, JoinVerdict
from monitor.join.table import JoinTable
from tests.monitor.join.one_by_one import Event, OneByOne, Pair
from tests.monitor.join.streams import T0, keys_for, random_events, rows_of


def join_in_batches(
    events: Sequence[Event], model: OneByOne, r: random.Random, *, crowded: bool = False
) -> tuple[JoinTable, list[str], list[Pair], list[tuple[int, int, int]]]:
    """Batches of random sizes, with expiry, commits and sweeps between them."""
    durations = model.prediction_ttl, model.outcome_ttl, model.pane
    requests = max((e.request for e in events), default=0) + 1
    keys = keys_for(r, requests, crowded=crowded)
    table = JoinTable(pending=10_000, seen=10_000)
    log = JoinLog(table)
    verdicts: list[str] = []
    pairs: list[Pair] = []
    agreements: list[tuple[int, int, int]] = []
    ttls = [np.full(100, duration, np.int64) for duration in durations]
    start = seq = 0
    while start < len(events):
        batch = events[start : start + r.choice((1, 2, 10, 700))]
        start += len(batch)
        joined = table.join(rows_of(batch, keys, *durations, keeps=model.keeps))
        verdicts += [JoinVerdict(v).name for v in joined.verdict]
        found, compared = table.pairs_of(joined), table.comparisons_of(joined)
        for i, row in enumerate(found.row):
            request = batch[row].request
            assert found.request[i] == keys[request]
            variant, value, time = (column[i].item() for column in (found.variant, found.predicted, found.time))
            times = time, int(found.outcome_time[i]), int(found.pair_time[i])
            pairs.append(Pair(request, variant, value, float(found.actual[i]), *times))
        for i, row in enumerate(compared.row):
            agreements.append((batch[row].request, int(compared.served_variant[i]), int(compared.variant[i])))
        if r.random() < 0.3:
            table.expire(batch[-1].clock, *ttls, everything=r.random() < 0.5)
        if r.random() < 0.3:
            seq += 1
            log.on_committed(log.prepare_commit(seq, batch[-1].clock))
            table.entries.index.sweep(share=1)
    return table, verdicts, pairs, agreements


def assert_equal_to_one_by_one(events: Sequence[Event], model: OneByOne, r: random.Random, crowded: bool) -> None:
    """Verdicts, pairs, agreements and counts are those of the dictionaries."""
    wanted = [model.put(event) for event in events]
    table, verdicts, pairs, agreements = join_in_batches(events, model, r, crowded=crowded)

    assert verdicts == wanted
    assert sorted(pairs) == sorted(model.pairs)
    assert sorted(agreements) == sorted(model.agreements)
    assert table.counts.joined == len(model.pairs)
    assert table.counts.duplicates == wanted.count("DUPLICATE")
    assert table.counts.conflicts == wanted.count("CONFLICT")
    assert table.counts.late == model.late
    forever = 10**9
    ttls = (np.full(100, duration) for duration in (model.prediction_ttl, model.outcome_ttl, model.pane))
    table.expire(forever, *ttls, everything=True)
    expired, orphans = model.finish()
    assert (table.counts.expired, table.counts.orphans) == (expired, orphans)
    assert table.waiting == 0


Drawn = tuple[int, int, int, int, int | None, bool, bool]
events_ = st.lists(
    st.builds(
        lambda request, step, back, value, variant, served, waits: (request, step, back, value, variant, served, waits),
        st.integers(0, 3), st.sampled_from((0, 0, 1, 5)), st.integers(0, 4), st.integers(0, 2),
        st.sampled_from((None, None, 1, 2, 65)), st.booleans(), st.booleans(),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=150)
@given(
    events_,
    st.sampled_from((10, 30, 10**6)),
    st.sampled_from((5, 10**6)),
    st.sampled_from((0, 3, 20)),
    st.booleans(),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_a_batch_equals_its_events_one_by_one(
    drawn: list[Drawn],
    prediction_ttl: int,
    outcome_ttl: int,
    pane: int,
    keeps: bool,
    seed: int,
    crowded: bool,
) -> None:
    """Also where one request has many events in a batch, and where all keys crowd the same cells."""
    clock, events = T0, []
    for request, step, back, value, variant, served, waits in drawn:
        clock += step
        events.append(Event(request, clock - back, clock, float(value), variant, served, waits or served))
    assert_equal_to_one_by_one(
        events, OneByOne(prediction_ttl, outcome_ttl, pane, keeps=keeps), random.Random(seed), crowded
    )


@pytest.mark.parametrize("seed", range(40))
def test_long_streams_equal_their_events_one_by_one(seed: int) -> None:
    """Thousands of events, with duplicates, conflicts, expiry and sweeps between batches."""
    r = random.Random(seed)
    events = random_events(r, r.choice((300, 2000)), r.choice((3, 20, 500)))
    ttls = r.choice((20, 100, 10**6)), r.choice((10, 50, 10**6)), r.choice((0, 10))
    assert_equal_to_one_by_one(events, OneByOne(*ttls, keeps=seed % 2 == 0), r, seed % 3 == 0)


def put(table: JoinTable, *events: Event) -> list[str]:
    """One batch; verdicts by name. The TTL is 100 for answers and outcomes."""
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


@pytest.mark.slow
def test_closed_requests_beyond_the_bound_are_forgotten_oldest_first() -> None:
    table = JoinTable(pending=1_000, seen=640)
    closed = table.entries.closed
    for i in range(2_000):
        put(table, Event(i, i, i, 0.0, variant=1), Event(i, i, i, 1.0))
        closed.forget(closed.generations_to_drop(i))

    assert closed.remembered <= 640
    assert put(table, Event(1_999, 2_000, 2_000, 1.0), Event(0, 2_000, 2_000, 1.0)) == ["DUPLICATE", "WAITING"]
    assert table.horizon is not None
    assert 1_000 < table.horizon < 2_000


def test_a_pair_has_the_pane_that_its_answer_was_given_after_the_join() -> None:
    """Also where answer and outcome are of one batch, and the answer does not wait any more."""
    table = JoinTable(100, 100)
    keys = keys_for(random.Random(1), 10)
    shadow = Event(1, 10, 10, 1.0, variant=2, served=False)
    joined = table.join(rows_of([Event(1, 10, 10, 0.0, variant=1), shadow, Event(1, 20, 20, 1.0)], keys, 100, 100))

    table.assign_panes(joined.slot, np.array([7, 8, 9]))

    assert sorted(zip(table.pairs_of(joined).variant, table.pairs_of(joined).pane, strict=True)) == [(1, 7), (2, 8)]
    assert table.comparisons_of(joined).pane.tolist() == [8]


def test_panes_that_are_known_before_the_join_come_with_the_rows() -> None:
    """Those of outcomes mean nothing, and are not what their answer gets."""
    table = JoinTable(100, 100)
    events = [Event(1, 10, 10, 0.0), Event(1, 10, 10, 0.0, variant=1), Event(1, 10, 10, 1.0, variant=2, served=False)]
    rows = rows_of(events, keys_for(random.Random(1), 10), 100, 100)
    joined = table.join(replace(rows, payload={**rows.payload, "pane": np.array([5, 7, 8])}))

    assert table.pairs_of(joined).pane.tolist() == [7]
    assert table.entries.slots.column["pane"][joined.slot[joined.slot >= 0]].tolist() == [7]


def test_waiting_answers_of_a_variant_can_be_moved_to_another_pane() -> None:
    table = JoinTable(100, 100)
    keys = keys_for(random.Random(1), 10)
    joined = table.join(rows_of([Event(i, 10, 10, 0.0, variant=i) for i in (1, 2)], keys, 100, 100))
    table.assign_panes(joined.slot, np.array([5, 6]))
    table.reassign_panes(np.arange(10) == 2, Pane(9))

    outcomes = table.join(rows_of([Event(1, 20, 20, 0.0), Event(2, 20, 20, 0.0)], keys, 100, 100))

    assert table.pairs_of(outcomes).pane.tolist() == [5, 9]


def test_a_score_of_few_decimals_comes_back_as_it_was() -> None:
    """They wait as 32-bit floats; 0.7 must not become 0.69999999, which is another bin of calibration."""
    table = JoinTable(100, 100)
    rows = rows_of([Event(1, 10, 10, 0.0, variant=1), Event(1, 20, 20, 1.0)], keys_for(random.Random(1), 10), 100, 100)
    joined = table.join(replace(rows, payload={**rows.payload, "score": np.array([0.7, 0.0], np.float32)}))

    assert table.pairs_of(joined).score.tolist() == [0.7]


def test_the_state_that_is_stored_is_restored() -> None:
    table, other = JoinTable(10, 64), JoinTable(10, 64)
    for i in range(100):
        put(table, Event(i, i, i, 0.0, variant=1), Event(i, i, i, 1.0))
        table.entries.closed.forget(table.entries.closed.generations_to_drop(i))
    put(table, *[Event(i, 100, 100, 0.0, variant=1) for i in range(200, 220)])
    table.downsample_pending()

    stored = msgspec.to_builtins(table.state())
    other.restore(msgspec.convert({**stored, "clock": "of somebody else"}, JoinState))

    assert list(stored) == ["sampling", "horizon", "counts"]
    assert other.state() == table.state()
    assert (other.sampling_log2 > 0, other.horizon is not None, other.counts.joined) == (True, True, 100)
