"""Stream time: laws that hold however a stream is cut, and who may hold it up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.types import IntArray
from monitor.stream.partition_time import RECENT, PartitionTime
from monitor.stream.types import Batch, Partition
from monitor.stream.watermark import UNKNOWN, Watermark, WatermarkState

LATENESS = 5
A, B, C = (Partition("t", number) for number in range(3))
PARTITIONS = (A, B, C)
WALL = 10_000

Event = tuple[Partition, int]  # and its time, negative where the record was refused
anything = st.lists(st.tuples(st.sampled_from(PARTITIONS), st.integers(-1, 60)), max_size=50)
# Live a partition moves stream time once nine of its events were seen; in half of these streams all have so many.
beginnings = st.lists(st.integers(0, 60), min_size=RECENT, max_size=RECENT)
begun = st.tuples(*[beginnings] * len(PARTITIONS)).map(
    lambda times: [(p, time) for p, its in zip(PARTITIONS, times, strict=True) for time in its]
)
streams = anything | st.builds(list.__add__, begun, anything)
cuts = st.lists(st.integers(0, 50), max_size=5)


class Record(NamedTuple):
    """A record with what its partition's log says of it."""

    place: int
    partition: Partition
    offset: int
    partition_time: int
    time: int

    @property
    def effective_time(self) -> int:
        return max(self.time, self.partition_time - LATENESS)


@dataclass
class Logs:
    """Gives the records of partitions their places and partition times, as the merge of partitions does.

    Live, those of a partition of which fewer than nine events are known have no place.
    """

    live: bool
    clocks: dict[Partition, PartitionTime]
    places: dict[Partition, int]
    offsets: dict[Partition, int]

    @staticmethod
    def empty(*, live: bool = True) -> Logs:
        return Logs(live, {p: PartitionTime(LATENESS) for p in PARTITIONS}, {}, {})

    def merged(self, stream: Sequence[Event]) -> list[Record]:
        """The next records of all partitions, in the order of processing."""
        return sorted(r for p in PARTITIONS for r in self._records(p, [t for q, t in stream if q == p]))

    def _records(self, p: Partition, times: list[int]) -> list[Record]:
        accepted = [t for t in times if t >= 0]
        before = self.clocks[p].time
        found = iter(zip(*map(np.ndarray.tolist, self.clocks[p].places(np.array(accepted, np.int64))), strict=True))
        has_place = not self.live or len(self.clocks[p].recent) == RECENT
        records = []
        for time in times:
            if time >= 0:
                before, place = next(found)
            if time >= 0 and has_place:
                self.places[p] = max(self.places.get(p, UNKNOWN), place)
            offset = self.offsets[p] = self.offsets.get(p, -1) + 1
            records.append(Record(self.places.get(p, UNKNOWN), p, offset, before, time))
        return records


def merged(stream: Sequence[Event], *, live: bool = True) -> list[Record]:
    return Logs.empty(live=live).merged(stream)


def parts_of(records: Sequence[Record], at: Collection[int]) -> list[Sequence[Record]]:
    """The records cut before some of them."""
    ends = [0, *sorted(cut for cut in at if cut < len(records)), len(records)]
    return [records[start:end] for start, end in pairwise(ends)]


def advance(
    clock: Watermark,
    records: Sequence[Record],
    to_come: Mapping[Partition, int] | None = None,
    idle: Collection[Partition] = (),
    wall: int = WALL,
) -> list[int]:
    """Stream time at each record."""

    def column(values: list[int]) -> IntArray:
        return np.array(values, np.int64)

    batch = Batch(
        PARTITIONS,
        np.array([PARTITIONS.index(r.partition) for r in records], np.int32),
        column([r.offset for r in records]),
        np.full(len(records), -1),
        [b"{}"] * len(records),
    )
    place, partition_time = column([r.place for r in records]), column([r.partition_time for r in records])
    found = clock.advance(batch, place, partition_time, column([r.time for r in records]), to_come or {}, idle, wall)
    return [int(now) for now in found]


def in_hand(records: Sequence[Record]) -> dict[Partition, int]:
    """The place of the next record of each partition that has any."""
    return {r.partition: r.place for r in reversed(records)}


def run(clock: Watermark, records: Sequence[Record], at: Collection[int], wall: int = WALL) -> list[int]:
    """Stream time at each record, all of which are in hand from the beginning."""
    told, done = [], 0
    for part in parts_of(records, at):
        done += len(part)
        told += advance(clock, part, in_hand(records[done:]), wall=wall)
    return told


def live(*partitions: Partition) -> Watermark:
    clock = Watermark(LATENESS)
    clock.assign(partitions)
    return clock


def replay() -> Watermark:
    clock = Watermark(LATENESS, live=False)
    clock.assign(PARTITIONS)
    return clock


def steady(partition: Partition, *times: int) -> list[Event]:
    """Nine events at the first time, so that partition time follows each of the others, and these."""
    return [(partition, times[0])] * (RECENT - 1) + [(partition, time) for time in times]


# -- laws ----------------------------------------------------------------------------------------------------


def by_definition(records: Sequence[Record], wall: int | None) -> list[int]:
    """The least place to come, and live the least partition time of what has nothing to come, less the lateness.

    Live that of a partition that has shown fewer than nine events is not known.
    """
    told, now = [], UNKNOWN
    for i, record in enumerate(records):
        bounds = [record.place]
        if wall is not None:
            for p in PARTITIONS:
                its = [r for r in records[: i + 1] if r.partition == p]
                if all(r.partition != p for r in records[i + 1 :]):
                    is_known = sum(r.time >= 0 for r in its) >= RECENT
                    bounds.append(its[-1].partition_time if is_known else UNKNOWN)
        if UNKNOWN not in bounds:
            now = max(now, min([min(bounds) - LATENESS] + ([] if wall is None else [wall])))
        told.append(now)
    return told


@given(streams, cuts)
def test_in_a_replay_it_is_the_place_of_the_record_less_the_lateness(stream: list[Event], at: list[int]) -> None:
    """At every record, however the stream is cut; a partition that is read to its end holds nobody up."""
    records = merged(stream, live=False)

    assert run(replay(), records, at) == by_definition(records, None)


@given(streams, cuts, st.integers(0, 60))
def test_live_a_partition_with_nothing_in_hand_holds_it_at_its_time(
    stream: list[Event], at: list[int], wall: int
) -> None:
    """And it is never later than the wall clock."""
    records = merged(stream)

    assert run(live(*PARTITIONS), records, at, wall) == by_definition(records, wall)


@given(streams, cuts, cuts)
def test_it_does_not_depend_on_how_the_stream_was_cut(stream: list[Event], at: list[int], other: list[int]) -> None:
    """Nor does what is stored of it."""
    for is_live, one, two in ((False, replay(), replay()), (True, live(*PARTITIONS), live(*PARTITIONS))):
        records = merged(stream, live=is_live)
        assert run(one, records, at) == run(two, records, other)
        assert one.state() == two.state()
        assert one.end() == two.end()


@given(st.lists(streams, max_size=5), st.lists(st.sets(st.sampled_from(PARTITIONS)), min_size=5, max_size=5))
def test_it_never_goes_back(arrivals: list[list[Event]], idle: list[set[Partition]]) -> None:
    """Whoever falls idle and wakes up again, and also between the batches."""
    clock, logs = live(*PARTITIONS), Logs.empty()
    seen = [clock.now]
    for stream, sleeping in zip(arrivals, idle, strict=False):
        seen += [*advance(clock, logs.merged(stream), idle=sleeping), clock.now]

    assert seen == sorted(seen)


@given(st.lists(streams, max_size=5), cuts)
def test_while_nobody_is_idle_no_event_to_come_is_below_it(arrivals: list[list[Event]], at: list[int]) -> None:
    """Below it in effective time; whatever order the partitions are heard in, and from their first events on."""
    clock, logs = live(*PARTITIONS), Logs.empty()
    for stream in arrivals:
        records, done = logs.merged(stream), 0
        for part in parts_of(records, at):
            before = clock.now
            assert all(r.effective_time >= before for r in part)
            done += len(part)
            told = advance(clock, part, in_hand(records[done:]))
            assert all(r.effective_time >= now for i, now in enumerate(told) for r in part[i + 1 :])


@given(streams, cuts, st.integers(0, 50))
def test_a_restart_changes_nothing(stream: list[Event], at: list[int], crash: int) -> None:
    """What is stored is all that there is."""
    records, crash = merged(stream), min(crash, len(stream))
    whole = run(live(*PARTITIONS), records, at)
    before, after = live(*PARTITIONS), Watermark(LATENESS)
    told = advance(before, records[:crash], in_hand(records[crash:]))
    after.restore(before.state())
    after.assign(PARTITIONS)

    assert after.state() == before.state()
    assert [*told, *run(after, records[crash:], at)] == whole


# -- who holds it up -----------------------------------------------------------------------------------------


def test_it_is_unknown_until_every_partition_has_shown_nine_events() -> None:
    """Partition time of fewer can still fall."""
    clock, logs = live(A, B), Logs.empty()

    assert set(advance(clock, logs.merged(steady(A, 100)))) == {UNKNOWN}
    assert set(advance(clock, logs.merged([(B, 50)] * (RECENT - 1)))) == {UNKNOWN}
    assert advance(clock, logs.merged([(B, 50)])) == [45]


def test_in_a_replay_a_partition_of_a_single_event_moves_it() -> None:
    assert advance(replay(), merged([(A, 100)], live=False)) == [95]


def test_refused_records_do_not_move_it() -> None:
    clock, logs = live(A), Logs.empty()

    assert advance(clock, logs.merged([(A, -1)])) == [UNKNOWN]
    assert advance(clock, logs.merged([*steady(A, 100), (A, -1)]))[-2:] == [95, 95]


def test_one_event_far_ahead_does_not_move_it() -> None:
    clock, logs = live(A), Logs.empty()

    assert advance(clock, logs.merged(steady(A, 100, 999, 103)))[-2:] == [95, 98]


def test_an_idle_partition_holds_nobody_up() -> None:
    clock, logs = live(A, B), Logs.empty()
    advance(clock, logs.merged([*steady(A, 100), *steady(B, 50)]))
    assert clock.now == 45

    advance(clock, logs.merged([(A, 101)]), idle=[B])

    assert clock.now == 96


def test_a_partition_that_wakes_up_holds_it_up_again() -> None:
    """At the record where it does so, although it was called idle a moment before."""
    clock, logs = live(A, B), Logs.empty()
    advance(clock, logs.merged([*steady(A, 100), *steady(B, 50)]))
    advance(clock, [], idle=[B])
    assert clock.now == 95

    assert advance(clock, logs.merged([(B, 55), (A, 105)]), idle=[B]) == [95, 95]


def test_an_idle_partition_that_never_showed_anything_does_not_keep_it_unknown() -> None:
    """An empty topic is no reason to wait."""
    assert advance(live(A, B), merged(steady(A, 100)), idle=[B])[-1] == 95


def test_an_idle_partition_of_fewer_than_nine_events_holds_nobody_up() -> None:
    clock, logs = live(A, B), Logs.empty()
    advance(clock, logs.merged([*steady(A, 100), (B, 50)]))
    assert clock.now == UNKNOWN

    advance(clock, [], idle=[B])

    assert clock.now == 95


def test_a_partition_that_is_waited_for_holds_it_at_its_next_place() -> None:
    """Not at its partition time, which may be that of the past."""
    clock, logs = live(A, B), Logs.empty()
    advance(clock, logs.merged([*steady(A, 60), *steady(B, 50)]), {A: 90, B: 70})

    assert clock.now == 65


def test_a_partition_that_is_waited_for_and_was_never_read_keeps_it_unknown() -> None:
    clock = live(A, B)

    advance(clock, merged([(A, 100)])[:0], {A: 100, B: -(1 << 62)})

    assert clock.now == UNKNOWN


def test_a_partition_that_is_left_out_does_not_hold_it_although_it_has_more_to_bring() -> None:
    clock = live(A, B)
    advance(clock, merged(steady(A, 100)), {B: 70}, idle=[B])

    assert clock.now == 95


def test_where_all_are_idle_it_follows_the_clock_on_the_wall() -> None:
    """Less the lateness, so that what is under way still counts."""
    clock = live(A, B)
    advance(clock, merged([(A, 100), (B, 100)]))

    advance(clock, [], idle=[A, B])

    assert clock.now == WALL - LATENESS


def test_whoever_has_a_record_is_not_idle() -> None:
    """So it does not follow the clock on the wall while events come."""
    clock = live(A)
    advance(clock, merged(steady(A, 100)), idle=[A])

    assert clock.now == 95


def test_it_is_never_later_than_the_clock_on_the_wall() -> None:
    """Whatever the events say, and whether or not they are in hand."""
    clock = live(A)

    assert advance(clock, merged(steady(A, 100, 104)), wall=97)[-2:] == [95, 97]
    advance(clock, [], {A: 200}, wall=98)
    assert clock.now == 98


def test_a_daemon_without_partitions_does_not_follow_the_clock() -> None:
    """All of none are idle, which means nothing."""
    clock = live()
    advance(clock, [])

    assert clock.now == UNKNOWN


def test_a_new_partition_holds_it_where_it_is() -> None:
    """Until it has shown an event, or is found idle."""
    clock, logs = live(A), Logs.empty()
    advance(clock, logs.merged(steady(A, 100)))
    clock.assign([A, B])

    assert advance(clock, logs.merged([(A, 103)])) == [95]
    assert advance(clock, logs.merged([(A, 106)]), idle=[B]) == [101]


# -- replays -------------------------------------------------------------------------------------------------


def test_a_replay_waits_for_nobody_who_has_nothing_to_come() -> None:
    """Neither for an empty partition nor for one that was read to its end."""
    assert advance(replay(), merged([(A, 100), (B, 200)], live=False)) == [95, 195]


def test_a_replay_has_no_clock_on_the_wall() -> None:
    """It ends where its events end."""
    clock = replay()
    advance(clock, merged([(A, WALL + 100)], live=False))
    advance(clock, [], idle=PARTITIONS)

    assert clock.now == WALL + 95


def test_between_batches_a_replay_comes_up_to_what_is_next() -> None:
    clock = replay()
    advance(clock, merged([(A, 100)]), {B: 130, C: 120})

    assert clock.now == 115


def test_at_the_end_of_a_replay_time_moves_past_the_lateness_of_the_last_event() -> None:
    """So that all panes with events in them close."""
    clock = replay()
    advance(clock, merged([(A, 100), (B, 90)]))

    assert clock.end() == 100 + LATENESS


def test_the_end_of_a_replay_is_beyond_the_last_events_also_where_partition_time_did_not_follow_them() -> None:
    clock = replay()
    advance(clock, merged(steady(A, 100, 400, 402)))

    assert clock.end() == 402 + LATENESS


def test_a_replay_without_a_single_event_ends_nowhere() -> None:
    """There is no time to speak of."""
    clock = replay()
    advance(clock, merged([(A, -1)]))

    assert clock.end() == UNKNOWN


# -- what 0.1.0 stored ---------------------------------------------------------------------------------------


def test_a_partition_without_stored_recent_events_goes_on_as_if_they_were_at_its_time() -> None:
    clock = Watermark(LATENESS)
    clock.restore(WatermarkState(95, [("t", 0, 100)]))

    (its,) = clock.assign([A]).values()

    assert (clock.now, its.time, its.recent) == (95, 100, [100] * RECENT)
