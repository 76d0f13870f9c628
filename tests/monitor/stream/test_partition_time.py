"""Partition time: what moves it, and that it is the same however the log is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median_low

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.types import IntArray
from monitor.stream.partition_time import RECENT, UNKNOWN, PartitionTime
from tests.monitor.kit import MINUTE, SECOND, T0

LATENESS = 5

# Quiet stretches, single steps of any width, and stretches of events that are all far ahead.
times = st.lists(
    st.one_of(
        st.lists(st.integers(0, 12), max_size=12),
        st.lists(st.integers(0, 60), max_size=6),
        st.builds(lambda at, count: [at] * count, st.integers(20, 90), st.integers(1, 12)),
    ),
    max_size=6,
).map(lambda parts: [time for part in parts for time in part])
cuts = st.lists(st.integers(0, 60), max_size=5)


@dataclass
class OneByOne:
    """The definition, event by event."""

    seen: list[int] = field(default_factory=list)
    time: int = UNKNOWN

    def see(self, time: int) -> int:
        self.seen.append(time)
        if len(self.seen) < RECENT:
            self.time = min(self.seen)
            return self.time
        limit = self.time + LATENESS
        ahead = [t for t in self.seen[-RECENT:] if t > limit]
        if time <= limit:
            self.time = max(self.time, time)
        elif len(ahead) > RECENT / 2:
            self.time = median_low(self.seen[-RECENT:])
            for later in sorted(t for t in ahead if t > self.time):
                self.time = later if later - self.time <= LATENESS else self.time
        return self.time


def array(log: Sequence[int]) -> IntArray:
    return np.array(log, np.int64)


def parts_of(log: Sequence[int], at: Sequence[int]) -> list[IntArray]:
    return np.split(array(log), sorted(min(cut, len(log)) for cut in at))


def after(log: Sequence[int], lateness: int = LATENESS) -> int:
    clock = PartitionTime(lateness)
    clock.advance(array(log))
    return clock.time


def steady(count: int = 20, *, start: int = T0, step: int = SECOND) -> list[int]:
    return [start + i * step for i in range(count)]


# -- laws ----------------------------------------------------------------------------------------------------


@given(times, cuts)
def test_many_events_at_once_move_it_as_one_by_one(log: list[int], at: list[int]) -> None:
    clock, definition = PartitionTime(LATENESS), OneByOne()

    found = [time for part in parts_of(log, at) for time in clock.advance(part).tolist()]

    assert found == [definition.see(time) for time in log]
    assert clock.recent == log[-RECENT:]


@given(st.integers(0, 10**6), st.integers(0, 3), st.integers(1, 3_000))
def test_long_logs_are_no_different(seed: int, wild: int, size: int) -> None:
    """Longer than the pieces in which events are looked at together."""
    r = np.random.default_rng(seed)
    log = np.cumsum(r.integers(0, 3, 5_000)) + (r.random(5_000) < 0.02 * wild) * r.integers(0, 40, 5_000)
    log[2_500:] += 400 * (wild > 1)
    clock, definition = PartitionTime(LATENESS), OneByOne()

    found = [time for start in range(0, 5_000, size) for time in clock.advance(log[start : start + size]).tolist()]

    assert found == [definition.see(time) for time in log.tolist()]


@given(times, cuts)
def test_from_the_ninth_event_on_it_never_goes_back(log: list[int], at: list[int]) -> None:
    clock = PartitionTime(LATENESS)

    found = [time for part in parts_of(log, at) for time in clock.advance(part).tolist()]

    assert found[RECENT - 2 :] == sorted(found[RECENT - 2 :])


@given(st.integers(0, 30), st.lists(st.integers(-30, LATENESS), min_size=RECENT), cuts)
def test_where_events_are_less_than_the_lateness_ahead_it_is_the_latest_time_as_in_0_1_0(
    start: int, steps: list[int], at: list[int]
) -> None:
    log = [start] * RECENT
    for step in steps:
        log.append(max(max(log) + step, 0))
    clock = PartitionTime(LATENESS)

    found = [time for part in parts_of(log, at) for time in clock.advance(part).tolist()]

    assert found == np.maximum.accumulate(log).tolist()


@given(times, st.integers(0, 60))
def test_one_that_is_stored_goes_on(log: list[int], crash: int) -> None:
    before = PartitionTime(LATENESS)
    first = before.advance(array(log[:crash])).tolist()
    restored = PartitionTime(LATENESS, before.time, before.recent)

    assert [*first, *restored.advance(array(log[crash:])).tolist()] == PartitionTime(LATENESS).advance(
        array(log)
    ).tolist()


@given(times, cuts)
def test_one_that_follows_another_is_like_it(log: list[int], at: list[int]) -> None:
    """It needs the times of all accepted events, and partition time after the last one."""
    clock, follower = PartitionTime(LATENESS), PartitionTime(LATENESS)
    for part in parts_of(log, at):
        found = clock.advance(part)
        if len(part):
            follower.settle(int(found[-1]), part)

    assert (follower.time, follower.recent) == (clock.time, clock.recent)


# -- places --------------------------------------------------------------------------------------------------


@given(times)
def test_a_place_is_a_lower_bound_of_what_is_to_come_and_never_decreases(log: list[int]) -> None:
    """Of the times of later events, each raised to partition time less the lateness: its effective time."""
    found, places = PartitionTime(LATENESS).places(array(log))

    assert places.tolist() == sorted(places.tolist())
    effective = np.maximum(array(log), found - LATENESS)
    for i, place in enumerate(places.tolist()):
        assert (effective[i:] >= place - LATENESS).all()


@given(times, st.integers(0, 60))
def test_places_are_the_same_in_parts_once_nine_events_are_seen(log: list[int], crash: int) -> None:
    crash = max(crash, RECENT)
    clock = PartitionTime(LATENESS)
    parts = [clock.places(array(log[:crash]))[1], clock.places(array(log[crash:]))[1]]

    assert np.concatenate(parts).tolist() == PartitionTime(LATENESS).places(array(log))[1].tolist()


@given(times, st.integers(0, RECENT))
def test_places_of_the_first_events_are_the_same_after_a_restart_between_them(log: list[int], crash: int) -> None:
    """A restart reads on with all that is there, as the first start did."""
    before = PartitionTime(LATENESS)
    before.advance(array(log[:crash]))
    restored = PartitionTime(LATENESS, before.time, before.recent)

    assert (
        restored.places(array(log[crash:]))[1].tolist()
        == PartitionTime(LATENESS).places(array(log))[1].tolist()[crash:]
    )


def test_the_first_events_are_placed_by_the_smallest_that_is_still_to_come() -> None:
    _, places = PartitionTime(LATENESS).places(array([50, 20, 30, 25, 40]))

    assert places.tolist() == [20, 20, 25, 25, 40]


# -- examples ------------------------------------------------------------------------------------------------


def test_three_events_nine_minutes_ahead_change_nothing() -> None:
    log = steady()

    assert after([*log, *[T0 + 9 * MINUTE] * 3], MINUTE) == log[-1]


def test_one_event_fifty_five_minutes_ahead_changes_nothing() -> None:
    log = steady()

    assert after([*log, T0 + 55 * MINUTE, *steady(5, start=log[-1])], MINUTE) == log[-1] + 4 * SECOND


def test_a_gap_in_the_data_is_followed_with_the_fifth_event_behind_it() -> None:
    log, behind = steady(), steady(5, start=T0 + 55 * MINUTE)

    assert after([*log, *behind[:4]], MINUTE) == log[-1]
    assert after([*log, *behind], MINUTE) == behind[4]


def test_three_wrong_among_those_behind_a_gap_are_not_followed() -> None:
    """The median of the nine is one of the others, and from there on steps are small."""
    wild = T0 + 55 * MINUTE + 9 * 60 * MINUTE

    log = [*steady(), wild, wild, wild, *steady(2, start=T0 + 55 * MINUTE)]
    assert after(log, MINUTE) == T0 + 55 * MINUTE + SECOND


def test_events_that_come_late_beside_those_ahead_delay_a_gap() -> None:
    """The majority of the last nine counts."""
    behind, late = steady(5, start=T0 + 55 * MINUTE), [T0] * 5

    assert after([*steady(), *behind[:4], *late, behind[4]], MINUTE) == T0 + 19 * SECOND


def test_an_event_exactly_the_lateness_ahead_moves_it_at_once() -> None:
    assert after([10] * RECENT + [10 + LATENESS]) == 10 + LATENESS
    assert after([10] * RECENT + [10 + LATENESS + 1]) == 10


def test_before_nine_events_it_is_the_smallest() -> None:
    assert after([50, 20, 30, 60, 90, 90, 90, 90]) == 20


def test_nine_events_of_which_most_are_ahead_of_the_smallest_are_enough() -> None:
    assert after([50, 20, 30, 60, 90, 90, 90, 90, 90]) == 90


def test_without_events_it_is_unknown() -> None:
    assert after([]) == UNKNOWN


def test_a_copy_goes_its_own_way() -> None:
    clock = PartitionTime(LATENESS)
    clock.advance(array([10]))
    other = clock.copy()
    other.advance(array([5]))

    assert (clock.time, clock.recent) == (10, [10])
    assert (other.time, other.recent) == (5, [10, 5])
