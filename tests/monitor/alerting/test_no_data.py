"""Missing data: when it fires, when it is over, and that neither depends on batches."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.types import IntArray
from monitor.alerting.no_data import GapEvent, NoDataDetector
from monitor.alerting.records import AlertRecord, AlertStatus
from monitor.spec import ModelSpec
from tests.monitor.kit import (
    MINUTE,
    SECOND,
    T0,
    Event,
    Run,
    Told,
    a_core,
    a_model,
    believed,
    prediction,
    records_of,
    timed,
)

LIMIT = 60
FIRING, RESOLVED = AlertStatus.FIRING, AlertStatus.RESOLVED


def ints(*values: int) -> IntArray:
    return np.array(values, np.int64)


def processed(detector: NoDataDetector, events: IntArray, positions: IntArray, clock: IntArray) -> list[AlertRecord]:
    """One batch."""
    planned = sorted(detector.plan(events, positions, clock), key=lambda gap: gap.position)
    records = [record for gap in planned for record in detector.apply(gap)]
    detector.advance(events, int(clock[-1]))
    return records


def told(records: list[AlertRecord]) -> list[tuple[AlertStatus, int]]:
    return [(record.status, record.issued_at) for record in records]


# -- the plan --------------------------------------------------------------------------------------------


def test_a_batch_without_a_gap_plans_nothing() -> None:
    assert NoDataDetector("m", LIMIT).plan(ints(0, 60), ints(0, 1), ints(0, 60, 60)) == []


def test_without_a_limit_nothing_is_planned() -> None:
    assert NoDataDetector("m", 0).plan(ints(0, 900), ints(0, 1), ints(0, 900, 900)) == []


def test_before_the_first_event_nothing_is_missing() -> None:
    assert NoDataDetector("m", LIMIT).plan(ints(), ints(), ints(900, 999)) == []


def test_a_model_that_never_had_an_event_misses_them_from_when_they_are_expected() -> None:
    detector = NoDataDetector("m", LIMIT)
    detector.expect(100)

    assert told(processed(detector, ints(), ints(), ints(160, 161))) == [(FIRING, 160)]
    assert told(processed(detector, ints(500), ints(0), ints(500, 500))) == [(RESOLVED, 500)]


def test_where_events_have_come_none_is_expected_from_another_time() -> None:
    detector = NoDataDetector("m", LIMIT)
    processed(detector, ints(100), ints(0), ints(100, 100))
    detector.expect(0)

    assert detector.expected_from is None


def test_a_gap_that_stream_time_shows_begins_after_the_event_that_moved_it() -> None:
    """Row 1 is of another model."""
    plan = NoDataDetector("m", LIMIT).plan(ints(0), ints(0), ints(0, 61, 61))

    assert plan == [GapEvent(1, 60, last=0)]


def test_an_event_shows_a_gap_only_once_stream_time_has_reached_it() -> None:
    """Another partition may still bring what fills it."""
    detector = NoDataDetector("m", LIMIT)

    assert processed(detector, ints(0, 61), ints(0, 1), ints(0, 0, 0)) == []
    assert detector.plan(ints(), ints(), ints(5, 61)) == [
        GapEvent(1, 60, last=0),
        GapEvent(1, 61, last=0, ends_with=61),
    ]
    assert processed(detector, ints(30), ints(0), ints(10, 70)) == []


def test_to_plan_changes_nothing() -> None:
    detector = NoDataDetector("m", LIMIT)
    batch = ints(0, 900), ints(0, 1), ints(0, 900, 999)

    assert detector.plan(*batch) == detector.plan(*batch)
    assert not detector.episode.firing
    assert detector.last_event is None


def test_the_latest_event_of_an_earlier_release_may_be_ahead_of_stream_time() -> None:
    """0.1.0 stored that: what comes before it is no gap, and it is not forgotten."""
    detector = NoDataDetector("m", LIMIT)
    detector.restore(100, (), 50, detector.episode.state)

    assert processed(detector, ints(60), ints(0), ints(55, 55)) == []
    assert told(processed(detector, ints(), ints(), ints(160, 161))) == [(FIRING, 160)]


# -- records ---------------------------------------------------------------------------------------------


def test_a_gap_fires_at_the_last_event_plus_the_limit_and_resolves_at_the_next_event() -> None:
    records = processed(NoDataDetector("m", LIMIT), ints(0, 900), ints(0, 1), ints(0, 900, 900))

    assert told(records) == [(FIRING, 60), (RESOLVED, 900)]
    assert [r.summary for r in records] == ["no predictions of m arrive", "predictions of m arrive again"]


def test_a_gap_that_goes_on_fires_once() -> None:
    detector = NoDataDetector("m", LIMIT)
    batches = [(ints(0), ints(0), ints(0, 0)), (ints(), ints(), ints(100)), (ints(), ints(), ints(900))]

    assert told([record for batch in batches for record in processed(detector, *batch)]) == [(FIRING, 60)]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 150), st.integers(0, 40), st.booleans()), min_size=1, max_size=30),
    st.sets(st.integers(1, 29)),
)
def test_how_the_stream_is_cut_into_batches_does_not_matter(steps: list[tuple[int, int, bool]], cuts: set[int]) -> None:
    """Events of this model and of another, in order or late by up to 40, and some by more."""
    latest = np.cumsum([step for step, _, _ in steps])
    clock = np.maximum.accumulate(latest - 40)
    mine = np.array([is_mine for *_, is_mine in steps])
    times = np.maximum(latest - [late for _, late, _ in steps], clock)

    def batches(bounds: list[int]) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
        for start, stop in pairwise(bounds):
            part = mine[start:stop]
            yield times[start:stop][part], np.flatnonzero(part), np.append(clock[start:stop], clock[stop - 1])

    whole, parts = NoDataDetector("m", LIMIT), NoDataDetector("m", LIMIT)
    cut = sorted({0, len(steps), *(c for c in cuts if c < len(steps))})

    found = [record for batch in batches(cut) for record in processed(parts, *batch)]

    assert found == [record for batch in batches([0, len(steps)]) for record in processed(whole, *batch)]
    assert parts.episode == whole.episode


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=1, max_size=30),
    st.integers(0, 10**6),
    st.sampled_from((0, 30, 200)),
)
def test_the_order_in_which_partitions_are_read_does_not_matter(
    drawn: list[tuple[int, bool]], seed: int, lag: int
) -> None:
    """Events of this model and of another in any order in which none is below stream time."""
    r = random.Random(seed)

    def told_in(order: list[tuple[int, bool]]) -> list[AlertRecord]:
        times = np.array([time for time, _ in order], np.int64)
        least = np.minimum.accumulate(times[::-1])[::-1]
        clock = np.maximum.accumulate(np.where(least - lag < 0, -1, least - lag))
        detector, records, start = NoDataDetector("m", LIMIT), list[AlertRecord](), 0
        while start < len(order):
            stop = min(start + r.choice((1, 3, 30)), len(order))
            mine = np.array([start + i for i, (_, its) in enumerate(order[start:stop]) if its], np.int64)
            batch = times[mine], mine - start, np.append(clock[start:stop], clock[stop - 1])
            records += processed(detector, *batch)
            if r.random() < 0.3:
                again = NoDataDetector("m", LIMIT)
                now = int(batch[2][-1])
                again.restore(detector.last_event, detector.coming, now, detector.episode.state)
                detector = again
            start = stop
        return records + processed(detector, ints(), ints(), ints(450))

    assert told_in(r.sample(drawn, len(drawn))) == told_in(sorted(drawn))


# -- on a stream -----------------------------------------------------------------------------------------


def told_of(model: ModelSpec, events: Iterator[Event]) -> Told:
    run = Run(a_core(model))
    run.feed(records_of(events))
    run.commit(last=True)
    return run.told()


def test_missing_data_is_told_at_the_last_event_plus_its_limit_and_its_end_at_the_next_event() -> None:
    model = a_model(window=timed(10 * SECOND, 10 * SECOND), no_data_after=MINUTE)
    gap = believed(prediction("1", T0), prediction("2", T0 + 50 * SECOND), prediction("3", T0 + 300 * SECOND))

    begin, end = told_of(model, iter(gap)).alerts()

    assert (begin["status"], begin["issued_at"]) == ("firing", begin["starts_at"])
    assert (end["status"], end["event_id"]) == ("resolved", begin["event_id"])
    run = Run(a_core(model))
    run.feed(records_of(gap))
    run.commit()
    times = [(w.starts_at, w.ends_at) for d in run.told_so_far for w in d.published if isinstance(w, AlertRecord)]
    assert times == [(T0 + 110 * SECOND, None), (T0 + 110 * SECOND, T0 + 300 * SECOND)]


def test_another_models_events_show_that_one_is_silent() -> None:
    """Whichever event moves stream time past the limit, and not the next event of the silent model."""
    silent, other = a_model("m", no_data_after=MINUTE), a_model("n")
    run = Run(a_core(silent, other))
    run.events(prediction("1", T0), *believed(prediction("2", T0 + 61 * SECOND, model="n")))

    assert [a["status"] for a in run.told().alerts("no_data")] == ["firing"]


@pytest.mark.parametrize("late", [45, 20])
def test_an_event_that_is_behind_stream_time_ends_a_gap_when_it_comes(late: int) -> None:
    """It counts as no older than what its partition may still bring: predictions arrive again."""
    silent, other = a_model("m", no_data_after=MINUTE), a_model("n")
    run = Run(a_core(silent, other))
    run.events(
        prediction("1", T0),
        *believed(prediction("2", T0 + 100 * SECOND, model="n")),
        prediction("3", T0 + late * SECOND),
        prediction("4", T0 + 101 * SECOND, model="n"),
    )

    alerts = [w for d in run.told_so_far for w in d.published if isinstance(w, AlertRecord)]
    told = [(AlertStatus.FIRING, T0 + MINUTE), (AlertStatus.RESOLVED, T0 + 100 * SECOND)]
    assert [(a.status, a.issued_at) for a in alerts] == told
