"""Stream time: laws that hold however a stream is cut, and who may hold it up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.stream.types import Batch, Partition
from monitor.stream.watermark import UNKNOWN, Watermark

LATENESS = 5
A, B, C = (Partition("t", number) for number in range(3))
PARTITIONS = (A, B, C)
WALL = 10_000

Record = tuple[Partition, int]  # and its event time, negative where the record was refused
records = st.lists(st.tuples(st.sampled_from(PARTITIONS), st.integers(-1, 60)), max_size=25)
cuts = st.lists(st.integers(0, 25), max_size=5)


def batches(stream: Sequence[Record], at: Collection[int]) -> list[tuple[Batch, list[int]]]:
    """The stream cut before some of its records, with the event times of each batch."""
    offsets: dict[Partition, int] = {}
    numbered = []
    for partition, time in stream:
        offsets[partition] = offsets.get(partition, -1) + 1
        numbered.append((partition, offsets[partition], time))
    ends = sorted({*(c for c in at if c < len(stream)), len(stream)})
    parts = [numbered[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [(_batch([(p, o) for p, o, _ in part]), [t for *_, t in part]) for part in parts]


def _batch(part: Sequence[tuple[Partition, int]]) -> Batch:
    held = tuple(sorted({p for p, _ in part}))
    source = np.array([held.index(p) for p, _ in part], np.int32)
    offset = np.array([o for _, o in part], np.int64)
    return Batch(held, source, offset, np.full(len(part), -1), [b"{}"] * len(part))


def times_of(times: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(times, np.int64)


def run(
    clock: Watermark, stream: Sequence[Record], at: Collection[int] = (), idle: Collection[Partition] = ()
) -> list[int]:
    """Stream time at every record."""
    return [
        now
        for batch, times in batches(stream, at)
        for now in clock.advance(batch, times_of(times), idle, WALL).tolist()
    ]


def live(*partitions: Partition) -> Watermark:
    clock = Watermark(LATENESS)
    clock.assign(dict.fromkeys(partitions, 0))
    return clock


def replay(stream: Sequence[Record]) -> Watermark:
    """A replay whose partitions end with the stream."""
    clock = Watermark(LATENESS, ends_of(stream))
    clock.assign(dict.fromkeys(PARTITIONS, 0))
    return clock


def ends_of(stream: Sequence[Record]) -> dict[Partition, int]:
    return {p: sum(q == p for q, _ in stream) for p in PARTITIONS}


@dataclass
class OneByOne:
    """The definition: the least, over partitions that count, of the latest time seen less the lateness."""

    ends: Mapping[Partition, int] | None
    latest: dict[Partition, int] = field(default_factory=dict)
    read: dict[Partition, int] = field(default_factory=dict)
    now: int = UNKNOWN

    def see(self, partition: Partition, time: int) -> int:
        active = [p for p in PARTITIONS if self.ends is None or self.read.get(p, 0) < self.ends[p]]
        if time >= 0:
            self.latest[partition] = max(self.latest.get(partition, 0), time)
        if all(p in self.latest for p in active):
            self.now = max(self.now, min(self.latest[p] for p in active) - LATENESS)
        self.read[partition] = self.read.get(partition, 0) + 1
        return self.now


@given(records, cuts)
def test_it_is_the_least_of_the_latest_times_less_the_lateness(stream: list[Record], at: list[int]) -> None:
    """At every record, its own event included, however the stream is cut."""
    model = OneByOne(None)

    assert run(live(*PARTITIONS), stream, at) == [model.see(*record) for record in stream]


@given(records, cuts)
def test_in_a_replay_a_partition_that_was_read_to_its_end_holds_nobody_up(stream: list[Record], at: list[int]) -> None:
    """Its last event still counts when it is processed; from then on the others decide."""
    model = OneByOne(ends_of(stream))

    assert run(replay(stream), stream, at) == [model.see(*record) for record in stream]


@given(records, cuts, cuts)
def test_it_does_not_depend_on_how_the_stream_was_cut(stream: list[Record], at: list[int], other: list[int]) -> None:
    """Nor does what is stored of it."""
    one, two = replay(stream), replay(stream)

    assert run(one, stream, at) == run(two, stream, other)
    assert one.state() == two.state()
    assert one.end() == two.end()


@given(records, cuts, st.lists(st.sets(st.sampled_from(PARTITIONS)), min_size=7, max_size=7))
def test_it_never_goes_back(stream: list[Record], at: list[int], idle: list[set[Partition]]) -> None:
    """Whoever falls idle and wakes up again, and also between the batches."""
    clock = live(*PARTITIONS)
    seen = [clock.now]
    for (batch, times), sleeping in zip(batches(stream, at), idle, strict=False):
        seen += [*clock.advance(batch, times_of(times), sleeping, WALL).tolist(), clock.now]

    assert seen == sorted(seen)


@given(records, cuts, st.integers(0, 25))
def test_a_restart_changes_nothing(stream: list[Record], at: list[int], crash: int) -> None:
    """What is stored, with the positions that are stored beside it, is all that there is."""
    crash = min(crash, len(stream))
    whole = run(replay(stream), stream, at)
    before = Watermark(LATENESS, ends_of(stream))
    before.assign(dict.fromkeys(PARTITIONS, 0))
    parts = batches(stream, [*at, crash])
    clock, told, read = before, [], 0
    for batch, times in parts:
        if read == crash:
            clock = Watermark(LATENESS, ends_of(stream))
            clock.restore(before.state())
            clock.assign({p: sum(q == p for q, _ in stream[:read]) for p in PARTITIONS})
        told += clock.advance(batch, times_of(times), (), WALL).tolist()
        read += len(batch)

    assert told == whole


# -- who holds it up -------------------------------------------------------------------------------------


def test_it_is_unknown_until_every_partition_has_shown_an_event() -> None:
    """A refused record shows nothing."""
    clock = live(A, B)

    assert run(clock, [(A, 100), (A, 200), (B, -1), (B, 50)]) == [UNKNOWN, UNKNOWN, UNKNOWN, 45]


def test_the_partition_that_lags_holds_it() -> None:
    """However far the other one has come."""
    assert run(live(A, B), [(B, 50), (A, 1_000), (A, 2_000), (B, 60), (B, 55)]) == [UNKNOWN, 45, 45, 55, 55]


def test_an_idle_partition_does_not_hold_it() -> None:
    """At its end nothing has come for a while."""
    clock = live(A, B)
    run(clock, [(A, 100), (B, 50)])

    assert run(clock, [(A, 200)]) == [45]
    assert run(clock, [(A, 210)], idle=[B]) == [205]


def test_a_partition_that_wakes_up_counts_again_from_the_batch_that_has_its_record() -> None:
    """Even if it was called idle a moment before."""
    clock = live(A, B)
    run(clock, [(A, 100), (B, 50)])
    run(clock, [(A, 200)], idle=[B])

    assert run(clock, [(B, 150), (A, 300), (B, 260)], idle=[B]) == [195, 195, 255]


def test_an_idle_partition_that_never_showed_anything_does_not_keep_it_unknown() -> None:
    """An empty topic is no reason to wait."""
    assert run(live(A, B), [(A, 100)], idle=[B]) == [95]


def test_where_all_are_idle_it_follows_the_clock_on_the_wall() -> None:
    """Less the lateness, so that what is under way still counts."""
    clock = live(A, B)
    run(clock, [(A, 100), (B, 100)])

    clock.advance(Batch.empty(), times_of([]), [A, B], WALL)

    assert clock.now == WALL - LATENESS


def test_whoever_has_a_record_is_not_idle() -> None:
    """So it does not follow the clock on the wall while events come."""
    clock = live(A)
    run(clock, [(A, 100)], idle=[A])

    assert clock.now == 95


def test_an_empty_batch_shows_that_a_partition_has_fallen_idle() -> None:
    """Time passes without records too."""
    clock = live(A, B)
    run(clock, [(A, 100), (B, 50)])

    clock.advance(Batch.empty(), times_of([]), [B], WALL)

    assert clock.now == 95


def test_a_daemon_without_partitions_does_not_follow_the_clock() -> None:
    """All of none are idle, which means nothing."""
    clock = live()
    clock.advance(Batch.empty(), times_of([]), [], WALL)

    assert clock.now == UNKNOWN


def test_a_new_partition_holds_it_where_it_is() -> None:
    """Until it has shown an event, or is found idle."""
    clock = live(A)
    run(clock, [(A, 100)])
    clock.assign({A: 1, B: 0})

    assert run(clock, [(A, 200)]) == [95]
    assert run(clock, [(A, 300)], idle=[B]) == [295]


# -- replays ---------------------------------------------------------------------------------------------


def test_an_empty_partition_of_a_replay_is_finished_before_it_begins() -> None:
    """It has no event to show."""
    assert run(replay([(A, 100)]), [(A, 100)]) == [95]


def test_a_replay_has_no_clock_on_the_wall() -> None:
    """It ends where its events end."""
    stream = [(A, 100), (B, 90)]
    clock = replay(stream)
    run(clock, stream)
    clock.advance(Batch.empty(), times_of([]), PARTITIONS, WALL)

    assert clock.now == 85


def test_at_the_end_of_a_replay_time_moves_past_the_lateness_of_the_last_event() -> None:
    """So that all panes with events in them close."""
    stream = [(A, 100), (B, 90)]
    clock = replay(stream)
    run(clock, stream)

    assert clock.end() == 100 + LATENESS


def test_a_replay_without_a_single_event_ends_nowhere() -> None:
    """There is no time to speak of."""
    clock = replay([(A, -1)])
    run(clock, [(A, -1)])

    assert clock.end() == UNKNOWN


def test_a_partition_whose_last_record_was_not_delivered_can_be_finished() -> None:
    """Offsets without a record: a transaction marker, a torn line."""
    clock = Watermark(LATENESS, {A: 5, B: 1})
    clock.assign({A: 0, B: 0})
    assert run(clock, [(A, 10), (B, 500)]) == [UNKNOWN, 5]

    clock.finish([A])
    clock.advance(Batch.empty(), times_of([]), (), WALL)

    assert clock.now == 5  # both are read to the end: only `end` moves it on
    assert clock.end() == 505


def test_a_replay_that_goes_on_does_not_wait_for_what_is_read_already() -> None:
    """Positions say which partitions were finished before the restart."""
    clock = Watermark(LATENESS, {A: 1, B: 9})
    clock.assign({A: 1, B: 0})

    assert run(clock, [(B, 100)]) == [95]
