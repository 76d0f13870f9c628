"""What meets does not depend on the order in which events of different partitions are processed.

An event is processed before stream time passes its effective time, and a prediction is accepted while its pane is open
in its own partition. Within that, any order gives the same pairs and, once everything is swept, the same counts.
"""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitor.join.table import JoinTable
from tests.monitor.join.one_by_one import Event
from tests.monitor.join.streams import T0, keys_for, rows_of

PREDICTION_TTL, OUTCOME_TTL, PANE = 20, 8, 10
SHADOWS = (2, 3, 66)  # 2 and 66 share a bit of the mark
REQUESTS = 4


class Request(NamedTuple):
    """Answers are given at one time; an outcome comes `after` it (or before, below zero), if at all.

    `behind` are effective times less event times, of the answers and of the outcome.
    """

    time: int
    served: bool
    shadows: tuple[int, ...]
    failed: bool  # whether the first of the shadows is a failed attempt, which waits for nothing
    after: int | None
    behind: tuple[int, int]
    repeated: bool


requests_ = st.builds(
    Request,
    st.integers(T0, T0 + 40),
    st.booleans(),
    st.lists(st.sampled_from(SHADOWS), unique=True, max_size=3).map(tuple),
    st.booleans(),
    st.none() | st.integers(-12, 25),
    st.tuples(st.integers(0, 9), st.integers(0, 30)),
    st.booleans(),
)


def events_of(number: int, request: Request) -> list[Event]:
    """Events of a request, without stream time. Repeats are of what can be paired, and equal what they repeat."""
    time = request.time
    pane_end = (time // PANE + 1) * PANE
    effective = min(time + request.behind[0], pane_end - 1)
    events = []
    if request.served:
        events.append(Event(number, time, 0, 1.0, variant=1, effective=effective))
    for i, variant in enumerate(request.shadows):
        waits = not (request.failed and i == 0)
        events.append(Event(number, time, 0, 2.0, variant, served=False, waits=waits, effective=effective))
    if request.repeated:
        events += events
    if request.after is not None:
        at = time + request.after
        events.append(Event(number, at, 0, 3.0, effective=at + request.behind[1]))
        if request.repeated and request.served and time - events[-1].own_time < OUTCOME_TTL:
            events.append(events[-1])
    return events


def joined(events: list[Event], r: random.Random, *, keeps: bool) -> tuple[set[tuple[object, ...]], dict[str, int]]:
    """Pairs and final counts; stream time is as late as it may be, or lags behind."""
    least = np.minimum.accumulate(np.array([e.own_time for e in events][::-1], np.int64))[::-1]
    clocks = np.maximum.accumulate(least - r.choice((0, 0, 5, 100)))
    table, keys, pairs = JoinTable(1_000, 10_000), keys_for(random.Random(1), REQUESTS), set()
    ttls = [np.full(100, duration) for duration in (PREDICTION_TTL, OUTCOME_TTL, PANE)]
    start = 0
    while start < len(events):
        size = r.choice((1, 2, 50))
        batch = [
            e._replace(clock=int(clock)) for e, clock in zip(events[start : start + size], clocks[start:], strict=False)
        ]
        start += size
        results = table.join(rows_of(batch, keys, PREDICTION_TTL, OUTCOME_TTL, PANE, keeps=keeps))
        table.assign_panes(results.slot, np.array([e.time // PANE for e in batch], np.int64))
        found = table.pairs_of(results)
        names = ("request", "hi", "variant", "pane", "predicted", "time", "actual", "outcome_time", "pair_time")
        pairs |= set(zip(*(getattr(found, name).tolist() for name in names), strict=True))
        if r.random() < 0.5:
            table.expire(batch[-1].clock, *ttls, everything=True)
    table.expire(10**9, *ttls, everything=True)
    assert table.waiting == 0
    assert len(pairs) == table.counts.joined
    return pairs, asdict(table.counts)


@settings(max_examples=150, deadline=None)
@given(st.lists(requests_, min_size=1, max_size=REQUESTS), st.integers(0, 10**6), st.booleans())
@example([Request(T0, True, (2,), False, 3, (0, 0), False)], 3, True)
def test_any_order_gives_the_same_pairs_and_counts(requests: list[Request], seed: int, shadows: bool) -> None:
    """Answers that were not served are among them where the join was told that they are to be expected."""
    if not shadows:
        requests = [request._replace(shadows=()) for request in requests]
    events = [event for i, request in enumerate(requests) for event in events_of(i, request)]
    r = random.Random(seed)
    shuffled = r.sample(events, len(events))

    in_order = sorted(events, key=lambda e: e.own_time)
    assert joined(shuffled, r, keeps=shadows) == joined(in_order, random.Random(0), keeps=shadows)


def pairs_of(*events: Event) -> tuple[set[tuple[object, ...]], dict[str, int]]:
    return joined(list(events), random.Random(0), keeps=False)


def test_an_outcome_that_its_partition_brings_late_is_late_although_it_was_processed_first() -> None:
    """And the other way round."""
    answer = Event(1, T0, 0, 1.0, variant=1)
    outcome = Event(1, T0 + 5, 0, 1.0, effective=T0 + PREDICTION_TTL)

    for events in ((answer, outcome), (outcome, answer)):
        pairs, counts = pairs_of(*events)
        assert pairs == set()
        assert (counts["late"], counts["expired"], counts["orphans"]) == (1, 1, 0)


def test_an_outcome_long_before_its_prediction_is_an_orphan_although_the_prediction_was_processed_first() -> None:
    """And the prediction goes on waiting."""
    answer, outcome = Event(1, T0 + OUTCOME_TTL, 0, 1.0, variant=1), Event(1, T0, 0, 1.0)

    for events in ((answer, outcome), (outcome, answer)):
        pairs, counts = pairs_of(*events)
        assert pairs == set()
        assert (counts["late"], counts["expired"], counts["orphans"]) == (0, 1, 1)


def test_a_served_answer_counts_although_an_outcome_long_before_it_has_ended_meanwhile() -> None:
    """And an answer that was not served is known: that one is no repeat of the other."""
    outcome = Event(1, T0 - 12, 0, 1.0)
    shadow = Event(1, T0, 0, 2.0, variant=2, served=False)
    answer = Event(1, T0, 0, 1.0, variant=1, effective=T0 + PANE - 1)

    for seed in range(10):  # however far stream time is, and however the events are cut
        for events in ((outcome, shadow, answer), (answer, outcome, shadow)):
            pairs, counts = joined(list(events), random.Random(seed), keeps=True)
            assert pairs == set()
            assert (counts["duplicates"], counts["orphans"], counts["expired"]) == (0, 1, 2)
