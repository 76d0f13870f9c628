"""The merge of partitions: one order, however the records arrive; and who is waited for."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.events.columns import Events
from monitor.events.features import FeatureTable
from monitor.pipeline.merge import ENOUGH_BYTES, DecodedRecords, Holding, PartitionMerge
from monitor.pipeline.pipeline import Pipeline
from monitor.stream.partition_time import RECENT, UNKNOWN, PartitionTime
from monitor.stream.types import Batch, Partition
from tests.monitor.kit import SECOND, SEED, T0, WALL, Event, Record, a_core, a_model, batch_of, prediction

LATENESS = 5 * SECOND
MOST = 100  # handed on at a time, so that a merge of some hundreds has several parts
A, B, C = PARTITIONS = tuple(Partition("events", number) for number in range(3))
RUBBISH = b"rubbish"
CALLS = 11  # in which even a single record is handed on, where the order allows it
Log = list[bytes | None]


def a_merge(most: int = MOST, *, live: bool = False) -> PartitionMerge:
    return PartitionMerge(Pipeline(a_core(a_model()), SEED).decoder, None if live else {}, most=most)


def begun(*partitions: Partition, most: int = MOST, live: bool = False) -> PartitionMerge:
    """A merge of partitions of which nothing was read."""
    merge = a_merge(most, live=live)
    merge.assign(dict.fromkeys(partitions, 0), {p: PartitionTime(LATENESS) for p in partitions})
    return merge


def at(*seconds: float) -> Log:
    return [json.dumps(prediction(f"r{s}", T0 + round(s * SECOND))).encode() for s in seconds]


def steady(*seconds: float) -> Log:
    """Nine at the first time, so that partition time follows the others one by one."""
    return at(*[seconds[0]] * (RECENT - 1), *seconds)


def read(merge: PartitionMerge, partition: Partition, values: Sequence[bytes | None]) -> None:
    """The next records of a partition come in."""
    start = merge.positions[partition]
    merge.add(batch_of([Record(partition, start + i, value) for i, value in enumerate(values)]))


class HandedOn(NamedTuple):
    place: int
    partition: Partition
    offset: int
    partition_time: int
    time: int | None  # None where the record was refused
    features: dict[str, Any] | None


def rows_of(records: DecodedRecords) -> list[HandedOn]:
    """The records one by one, with the features that their columns hold."""
    events = records.events
    features = features_of(events)
    times: list[int | None] = [None] * len(records)
    found: list[dict[str, Any] | None] = [None] * len(records)
    for row, time, its in zip(events.row.tolist(), events.time.tolist(), features, strict=True):
        times[row], found[row] = time, its
    assert [r.row for r in records.refused] == [row for row, time in enumerate(times) if time is None]
    batch = records.batch
    return [
        HandedOn(*row)
        for row in zip(
            records.place.tolist(),
            [batch.partitions[i] for i in batch.source],
            batch.offset.tolist(),
            records.partition_time.tolist(),
            times,
            found,
            strict=True,
        )
    ]


def features_of(events: Events) -> list[dict[str, Any] | None]:
    """The features of each event, None where there are none."""
    names = ("x", "word", "count", "rare")
    columns = {(model, name): list(table.values(name)) for model, table in events.features.items() for name in names}
    return [
        {name: value for name in names if (value := columns[model, name][row]) is not None} if row >= 0 else None
        for model, row in zip(events.model.tolist(), events.feature_row.tolist(), strict=True)
    ]


def drained(
    merge: PartitionMerge, waiting: Collection[Partition] = (), held: Collection[Partition] = ()
) -> list[HandedOn]:
    """All that may be handed on; a few records are put off for a few calls."""
    found: list[HandedOn] = []
    nothing = 0
    while nothing < CALLS:
        records = merge.next(WALL, (), Holding(waiting=waiting, held=held))
        nothing = nothing + 1 if records is None else 0
        found += [] if records is None else rows_of(records)
    return found


def order_of(handed: Iterable[HandedOn]) -> list[tuple[int, int]]:
    """(partition, offset)."""
    return [(h.partition.number, h.offset) for h in handed]


# -- laws ----------------------------------------------------------------------------------------------------


def random_log(r: random.Random, count: int) -> Log:
    """Events in disorder, some far ahead, gaps, repeats of one time, other features from time to time, rubbish."""
    log: Log = []
    now = T0 + r.randrange(60) * SECOND
    pace = r.choice((0, 300, 3_000))
    names = ["x"]
    for i in range(count):
        now += r.choice((0, pace, 2 * pace)) + (r.random() < 0.02) * 300 * SECOND
        if r.random() < 0.05:
            names = r.sample(("x", "word", "count", "rare"), r.randrange(1, 5))
        if r.random() < 0.1:
            log.append(r.choice((RUBBISH, None, b"{}")))
            continue
        time = now - r.choice((0, 0, 1, 4, 20)) * SECOND + (r.random() < 0.03) * 500 * SECOND
        values: dict[str, Any] = {
            "x": i / 2,
            "word": r.choice(("red", "blue")),
            "count": r.choice((1, "many")),
            "rare": True,
        }
        features: Event = {"features": {name: values[name] for name in names}} if r.random() < 0.9 else {}
        log.append(json.dumps(prediction(f"{i}", time, **features)).encode())
    return log


def logs_of(seed: int, sizes: Sequence[int]) -> dict[Partition, Log]:
    r = random.Random(seed)
    return {p: random_log(r, size) for p, size in zip(PARTITIONS, sizes, strict=True)}


def by_definition(logs: dict[Partition, Log]) -> list[HandedOn]:
    """Each partition's places by its own log, and then sorted."""
    found = []
    for partition, log in logs.items():
        events = [None if value in (RUBBISH, None, b"{}") else json.loads(value or b"") for value in log]
        times = np.array([e["time"] for e in events if e is not None], np.int64)
        partition_time, place = PartitionTime(LATENESS).places(times)
        known = iter(zip(partition_time.tolist(), place.tolist(), strict=True))
        time_before, place_before = UNKNOWN, int(place[0]) if len(place) else UNKNOWN
        for offset, event in enumerate(events):
            if event is not None:
                time_before, place_before = next(known)
            values = None if event is None else event.get("features", {})
            at_time = None if event is None else event["time"]
            found.append(HandedOn(place_before, partition, offset, time_before, at_time, values))
    return sorted(found, key=lambda h: h[:3])


@dataclass
class Delivery:
    """Brings logs to a merge in any portions; every partition is waited for until its end."""

    merge: PartitionMerge
    logs: dict[Partition, Log]
    dice: random.Random
    handed: list[HandedOn] = field(default_factory=list)

    @property
    def waiting(self) -> set[Partition]:
        return {p for p, log in self.logs.items() if self.merge.positions[p] < len(log)}

    def step(self, held: Collection[Partition] = ()) -> None:
        """Some partitions bring some records, in rows that are mixed; and something is handed on."""
        records: list[Record] = []
        for p in self.dice.sample(sorted(self.waiting), self.dice.randint(0, len(self.waiting))):
            start = self.merge.positions[p]
            some = self.logs[p][start : start + self.dice.choice((1, 7, 30, 200))]
            records += [Record(p, start + i, value) for i, value in enumerate(some)]
        turns = [r.partition for r in records]
        self.dice.shuffle(turns)
        queues = {p: iter([r for r in records if r.partition == p]) for p in PARTITIONS}
        self.merge.add(batch_of([next(queues[p]) for p in turns]))
        for _ in range(self.dice.choice((0, 1, 1, 99))):
            records_ = self.merge.next(WALL, (), Holding(waiting=self.waiting | set(held), held=held))
            if records_ is None:
                break
            assert 0 < len(records_) <= MOST
            self.handed += rows_of(records_)

    def finish(self) -> list[HandedOn]:
        while self.waiting:
            self.step()
        self.handed += drained(self.merge)
        return self.handed


sizes = st.tuples(*[st.sampled_from((0, 1, 5, 9, 40, 70, 150, 400))] * 3)
seeds = st.integers(0, 10**6)


@settings(max_examples=60)
@given(seeds, sizes, seeds)
def test_all_deliveries_are_handed_on_in_one_and_the_same_order(
    seed: int, sizes: tuple[int, ...], delivery: int
) -> None:
    """Nothing is lost or doubled, and each record has its place, partition time, event and features."""
    logs = logs_of(seed, sizes)

    assert Delivery(begun(*PARTITIONS), logs, random.Random(delivery)).finish() == by_definition(logs)


@settings(max_examples=30)
@given(seeds, sizes)
def test_places_never_decrease_and_offsets_are_in_order(seed: int, sizes: tuple[int, ...]) -> None:
    handed = Delivery(begun(*PARTITIONS), logs_of(seed, sizes), random.Random(seed)).finish()

    assert [h.place for h in handed] == sorted(h.place for h in handed)
    for p, size in zip(PARTITIONS, sizes, strict=True):
        assert [h.offset for h in handed if h.partition == p] == list(range(size))


@settings(max_examples=30)
@given(seeds, sizes, seeds)
def test_partitions_that_are_held_and_waited_for_change_nothing_but_when(
    seed: int, sizes: tuple[int, ...], delivery: int
) -> None:
    """Parked ones, while the others wait for them."""
    logs, dice = logs_of(seed, sizes), random.Random(delivery)
    it = Delivery(begun(*PARTITIONS), logs, dice)
    for _ in range(20):
        held = set(dice.sample(PARTITIONS, dice.randrange(3)))
        before = len(it.handed)
        it.step(held)
        assert held.isdisjoint(h.partition for h in it.handed[before:])

    assert it.finish() == by_definition(logs)


@settings(max_examples=30)
@given(seeds, sizes, seeds)
def test_where_nobody_waits_every_partition_still_has_its_own_order_and_nothing_is_lost(
    seed: int, sizes: tuple[int, ...], delivery: int
) -> None:
    """Live: what is there is handed on, and what comes later is behind it."""
    logs, dice = logs_of(seed, sizes), random.Random(delivery)
    merge, handed = begun(*PARTITIONS), []
    while any(merge.positions[p] < len(log) for p, log in logs.items()):
        for p in dice.sample(PARTITIONS, 2):
            if some := logs[p][merge.positions[p] :][: dice.choice((1, 9, 200))]:
                read(merge, p, some)
        handed += drained(merge)

    for p in PARTITIONS:
        its = [h for h in handed if h.partition == p]
        assert [h.offset for h in its] == list(range(len(logs[p])))
        assert [h.place for h in its] == sorted(h.place for h in its)
        wanted = [h for h in by_definition(logs) if h.partition == p]
        assert [h[3:] for h in its] == [h[3:] for h in wanted]
    assert merge.in_hand() == {}


@settings(max_examples=30)
@given(seeds, sizes, st.integers(0, 800), seeds)
def test_a_merge_that_begins_again_goes_on_in_the_same_order(
    seed: int, sizes: tuple[int, ...], crash: int, delivery: int
) -> None:
    """From partition time and position of what was handed on. What was in hand is read again.

    Only a refused record among the first nine events of its partition may find another place among the others.
    """
    logs, dice = logs_of(seed, sizes), random.Random(delivery)
    it = Delivery(begun(*PARTITIONS), logs, dice)
    while it.waiting and len(it.handed) < crash:
        it.step()
    clocks, positions = {p: PartitionTime(LATENESS) for p in PARTITIONS}, dict.fromkeys(PARTITIONS, 0)
    for h in it.handed:
        positions[h.partition] += 1
        if h.time is not None:
            clocks[h.partition].settle(h.partition_time, np.array([h.time]))

    it.merge.assign(positions, clocks)

    assert [h for h in it.finish() if h.time] == [h for h in by_definition(logs) if h.time]


# -- who is waited for ---------------------------------------------------------------------------------------


def test_nothing_is_handed_on_beyond_what_a_partition_that_is_waited_for_may_still_bring() -> None:
    merge = begun(A, B)
    read(merge, A, steady(*range(100)))
    read(merge, B, at(*([10] * 70)))

    handed = drained(merge, waiting=[B])

    assert max(h.place for h in handed) == T0 + 10 * SECOND
    assert order_of(handed)[-1] == (1, 69)
    assert len(handed) == 8 + 11 + 70


def test_a_partition_that_is_waited_for_and_brought_nothing_holds_all() -> None:
    merge = begun(A, B)
    read(merge, A, at(1, 2))

    assert drained(merge, waiting=[B]) == []
    assert order_of(drained(merge)) == [(0, 0), (0, 1)]


def test_a_sparse_partition_with_fewer_than_nine_events_holds_nobody_back() -> None:
    merge = begun(A, B)
    read(merge, A, steady(*range(100)))
    read(merge, B, at(3, 50))

    handed = drained(merge)

    assert order_of(handed).index((1, 0)) == 8 + 4  # behind that of the same time
    assert order_of(handed).index((1, 1)) == 8 + 52
    assert len(handed) == 8 + 102


def test_live_events_of_a_partition_that_has_fewer_than_nine_are_placed_before_all_others() -> None:
    """One that comes later may be below them: then all of the nine have their places."""
    merge = begun(A, B, live=True)
    read(merge, A, steady(*range(100)))
    read(merge, B, at(30, 50))

    handed = drained(merge)
    read(merge, B, at(*([10] * 7)))

    assert [(h.partition, h.place) for h in handed[:2]] == [(B, UNKNOWN)] * 2
    assert {h.place for h in drained(merge)} == {T0 + 10 * SECOND}


def test_the_beginning_of_a_partition_is_waited_for_until_enough_of_it_is_there() -> None:
    """Its first events are placed by the smallest among them."""
    merge = begun(A)
    read(merge, A, at(50, 40))
    assert drained(merge, waiting=[A]) == []

    read(merge, A, at(*([60] * 62)))

    assert [h.place - T0 for h in drained(merge, waiting=[A])][:3] == [40 * SECOND, 40 * SECOND, 60 * SECOND]


def test_the_beginning_of_a_partition_with_large_records_is_not_waited_for_for_ever() -> None:
    """A few of them fill the share of the memory that a partition has: then no more are read."""
    merge = begun(A)
    large = [json.dumps(prediction("1", T0, features={"x": "y" * ENOUGH_BYTES})).encode()]
    read(merge, A, large)

    assert len(drained(merge, waiting=[A])) == 1


def test_places_of_the_same_time_are_in_the_order_of_partitions() -> None:
    merge = begun(B, A)
    read(merge, B, at(1, 1))
    read(merge, A, at(1, 1))

    assert order_of(drained(merge)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_record_far_ahead_keeps_its_place_behind_the_one_before_it() -> None:
    """And does not hold up those that come after it in its own log."""
    merge = begun(A, B)
    read(merge, A, steady(*range(20), 3_000, 20, 21))
    read(merge, B, steady(*range(20), 20.5, 21.5))

    assert order_of(drained(merge))[-7:] == [(0, 27), (0, 28), (1, 27), (0, 29), (1, 28), (0, 30), (1, 29)]


# -- held ----------------------------------------------------------------------------------------------------


def test_a_held_partition_that_is_waited_for_holds_the_others_at_its_next_record() -> None:
    merge = begun(A, B)
    read(merge, A, at(*range(20)))
    read(merge, B, at(*range(20)))

    assert drained(merge, waiting=[B], held=[B]) == []


def test_a_held_partition_that_is_left_out_holds_nobody_and_comes_first_afterwards() -> None:
    merge = begun(A, B)
    read(merge, A, at(*range(20)))
    read(merge, B, at(*range(20)))

    assert order_of(drained(merge, held=[B])) == [(0, i) for i in range(20)]
    read(merge, A, at(20))
    assert order_of(drained(merge)) == [*((1, i) for i in range(20)), (0, 20)]


def test_where_a_held_partition_is_waited_for_the_next_places_say_so() -> None:
    merge = begun(A, B)
    read(merge, A, at(*range(20)))
    read(merge, B, at(*range(30, 100)))
    assert len(drained(merge, waiting=[B], held=[B])) == 20

    assert merge.next_places(Holding(waiting=[B], held=[B])) == {B: T0 + 30 * SECOND}
    assert merge.next_places(Holding(held=[B])) == {}


def test_of_a_partition_of_which_nothing_is_known_the_next_place_is_far_in_the_past() -> None:
    assert begun(A).next_places(Holding(waiting=[A]))[A] < UNKNOWN


# -- refused records -----------------------------------------------------------------------------------------


def test_refused_records_stay_between_the_events_of_their_partition() -> None:
    merge = begun(A, B)
    read(merge, A, [RUBBISH, *at(1), RUBBISH, *at(5), RUBBISH])
    read(merge, B, at(0, 3, 9))

    handed = drained(merge)

    assert [(h.partition.number, h.offset, h.time is None) for h in handed] == [
        (1, 0, False), (0, 0, True), (0, 1, False), (0, 2, True), (1, 1, False), (0, 3, False), (0, 4, True),
        (1, 2, False),
    ]  # fmt: skip


def test_a_partition_of_refused_records_only_comes_first() -> None:
    """Nothing says where else."""
    merge = begun(A, B)
    read(merge, A, at(1, 2))
    read(merge, B, [RUBBISH, RUBBISH])

    handed = drained(merge)

    assert order_of(handed) == [(1, 0), (1, 1), (0, 0), (0, 1)]
    assert [h.partition_time for h in handed[:2]] == [UNKNOWN, UNKNOWN]


def test_a_refused_record_says_why_in_its_row() -> None:
    merge = begun(A, B)
    read(merge, A, [*at(1), b"{}"])
    read(merge, B, [*at(0), RUBBISH])

    records = merge.next(WALL, (), Holding())

    assert records is not None
    assert [(r.row, records.batch.values[r.row]) for r in records.refused] == [(1, RUBBISH), (3, b"{}")]


# -- what is in hand -----------------------------------------------------------------------------------------


def test_the_size_of_what_is_in_hand_is_that_of_its_records_about() -> None:
    merge = begun(A, B)
    read(merge, A, [*at(*range(500)), b" " * 100_000, *([None] * 100)])
    assert 150_000 < merge.in_hand()[A] < 220_000

    drained(merge, waiting=[B])
    assert 150_000 < merge.in_hand()[A] < 220_000
    drained(merge)

    assert merge.in_hand() == {}


def test_what_is_in_hand_is_dropped_when_partitions_are_assigned_anew() -> None:
    merge = begun(A)
    read(merge, A, at(1, 2))
    merge.assign({A: 0, B: 0}, {A: PartitionTime(LATENESS), B: PartitionTime(LATENESS)})

    assert (drained(merge), merge.in_hand(), merge.positions) == ([], {}, {A: 0, B: 0})


def test_a_partition_that_goes_on_has_its_partition_time_as_its_place() -> None:
    merge = a_merge()
    merge.assign({A: 9}, {A: PartitionTime(LATENESS, T0, [T0] * RECENT)})

    assert merge.next_places(Holding(waiting=[A])) == {A: T0}


def test_no_records_are_records_too() -> None:
    nothing = begun(A).nothing()

    assert (len(nothing), len(nothing.events), nothing.refused) == (0, 0, [])


# -- features ------------------------------------------------------------------------------------------------

OF_LAYOUTS: list[dict[str, Any]] = [
    {"x": 1.5}, {"x": 2.5, "word": "red"}, {}, {"word": "blue", "count": 3}, {"x": "a text"}, {"rare": True},
]  # fmt: skip


def events_of(*features: dict[str, Any], keep_raw: bool = False, decode: Any = None) -> Events:
    """Decoded together; a decoder that goes on widens its layout."""
    decode = decode or Pipeline(a_core(a_model()), SEED).decoder.decode
    values = [json.dumps(prediction(f"{i}", T0, features=f)).encode() for i, f in enumerate(features)]
    batch = batch_of([Record(A, i, value) for i, value in enumerate(values)])
    found: Events = decode(batch, WALL, [0] if keep_raw else []).events
    return found


@pytest.mark.parametrize("one_decoder", [True, False])
def test_features_of_different_layouts_survive_joining(one_decoder: bool) -> None:
    decode = Pipeline(a_core(a_model()), SEED).decoder.decode if one_decoder else None
    parts = [events_of(*OF_LAYOUTS[i : i + 2], decode=decode) for i in (0, 2, 4)]

    joined = Events.joined(parts, [0, 2, 4])

    assert joined.row.tolist() == list(range(6))
    assert features_of(joined) == OF_LAYOUTS


def test_features_that_no_event_points_at_are_dropped() -> None:
    events = events_of(*OF_LAYOUTS).take(np.array([4, 1]))
    assert len(events.features[0]) == 6

    compact = events.compact()

    assert len(compact.features[0]) == 2
    assert features_of(compact) == features_of(events) == [OF_LAYOUTS[4], OF_LAYOUTS[1]]


def test_events_without_features_stay_without() -> None:
    """Outcomes have none, and keep a row of none."""
    decode = Pipeline(a_core(a_model()), SEED).decoder.decode
    outcome = json.dumps({"type": "outcome", "model": "m", "request_id": "1", "time": T0, "actual": 1.0}).encode()
    without, _ = decode(batch_of([Record(A, 0, outcome)]), WALL, ())[:2]

    joined = Events.joined([without, events_of({"x": 1.0}), without], [0, 1, 2]).compact()

    assert features_of(joined) == [None, {"x": 1.0}, None]


def test_raw_features_are_kept_where_all_parts_have_them() -> None:
    with_raw, without = events_of({"x": 1.0}, keep_raw=True), events_of({"x": 2.0})

    assert len(FeatureTable.joined([with_raw.features[0]] * 2).raw) == 2
    assert not FeatureTable.joined([with_raw.features[0], without.features[0]]).raw


def test_nothing_and_nothing_is_nothing() -> None:
    assert len(FeatureTable.joined([])) == 0


def test_runs_of_one_batch_are_taken_apart_in_order() -> None:
    batch = batch_of([Record(A, 3, b"a"), Record(B, 0, b"b"), Record(A, 4, b"c")])

    assert [(run.partition, run.offset.tolist(), run.values) for run in batch.runs()] == [
        (A, [3, 4], [b"a", b"c"]),
        (B, [0], [b"b"]),
    ]
    assert Batch.empty().runs() == []
