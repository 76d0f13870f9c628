"""What is late: by the log of its own partition, or since its partition was not waited for."""

from __future__ import annotations

import numpy as np

from monitor.pipeline.lateness import Late, Lateness
from monitor.pipeline.pipeline import Pipeline
from monitor.stream.types import Partition
from tests.monitor.kit import (
    HOUR,
    MINUTE,
    SECOND,
    SEED,
    T0,
    WALL,
    Event,
    Run,
    a_core,
    a_model,
    batch_of,
    believed,
    counted,
    outcome,
    prediction,
    records_of,
    resources,
    some_outcomes,
    timed,
)

LATENESS = 5 * SECOND
TENS = timed(10 * SECOND, 10 * SECOND)
CORE = a_core(
    a_model(window=TENS, outcomes=some_outcomes(pane=10 * SECOND)),
    a_model("by_number", window=counted(4, 2)),
    lateness=LATENESS,
)
NEVER = -1
ZERO, ONE = Partition("events", 0), Partition("events", 1)


def judged(*events: Event, reached: int, watermark: int, horizon: int | None = None) -> Late:
    """Events at which their partition and stream time have come so many seconds behind T0."""
    found, refused = Pipeline(CORE, SEED).decoder.decode(batch_of(records_of(events)), WALL, ())[:2]
    assert not refused

    def everywhere(seconds: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.full(len(found), seconds if seconds == NEVER else T0 + seconds * SECOND)

    return Lateness(CORE).judge(found, everywhere(reached), everywhere(watermark), horizon)


def flags(late: Late) -> tuple[list[bool], list[bool]]:
    return late.by_partition.tolist(), late.after_idle.tolist()


def test_a_prediction_is_late_when_its_pane_ended_by_its_partitions_time() -> None:
    ones = [prediction("1", T0 + 9_999), prediction("2", T0 + 10_000)]

    assert flags(judged(*ones, reached=10, watermark=0)) == ([True, False], [False, False])


def test_an_event_whose_pane_was_closed_by_others_is_late_after_idle() -> None:
    ones = [prediction("1", T0 + 9_999), prediction("2", T0 + 10_000)]

    assert flags(judged(*ones, reached=9, watermark=10)) == ([False, False], [True, False])


def test_what_is_late_by_its_partition_is_not_late_after_idle_as_well() -> None:
    late = judged(prediction("1", T0), reached=10, watermark=20)

    assert flags(late) == ([True], [False])
    assert late.either.tolist() == [True]


def test_reports_of_resources_are_judged_as_predictions_are() -> None:
    assert flags(judged(resources(T0), resources(T0 + 15 * SECOND), reached=10, watermark=20)) == (
        [True, False],
        [False, True],
    )


def test_outcomes_are_not_judged_here() -> None:
    assert not judged(outcome("1", T0, 1.0), reached=99, watermark=99).either.any()


def test_nothing_is_late_for_counted_windows() -> None:
    assert not judged(prediction("1", T0, model="by_number"), reached=99, watermark=99).either.any()


def test_nothing_is_late_while_nothing_is_known() -> None:
    assert not judged(prediction("1", T0), reached=NEVER, watermark=NEVER).either.any()


def test_whose_repeats_may_be_forgotten_is_late_in_any_window() -> None:
    ones = [prediction("1", T0, model="by_number"), prediction("2", T0 + LATENESS, model="by_number")]

    assert flags(judged(*ones, reached=0, watermark=0, horizon=T0)) == ([True, False], [False, False])


# -- in the status document ----------------------------------------------------------------------------------


def a_run() -> Run:
    """Live, of two partitions."""
    return Run(a_core(a_model(window=TENS), lateness=0), partitions=(0, 1))


def feed(run: Run, partition: Partition, *events: Event, idle: tuple[Partition, ...] = ()) -> None:
    start = run.pipeline.positions[partition]
    records = [r._replace(offset=start + r.offset) for r in records_of(events, [partition.number] * len(events))]
    run.process(batch_of(records), idle=idle)


def counts(run: Run) -> tuple[int, int]:
    events = run.pipeline.totals.events
    return events["late_predictions"], events["late_after_idle"]


def test_another_partition_makes_nobody_late() -> None:
    run = a_run()
    feed(run, ZERO, *believed(prediction("a", T0)))
    feed(run, ONE, *believed(prediction("b", T0 + HOUR)))

    feed(run, ZERO, prediction("c", T0 + SECOND))

    assert counts(run) == (0, 0)


def test_what_a_partition_brings_for_panes_that_closed_while_it_was_idle_is_counted_apart() -> None:
    run = a_run()
    feed(run, ZERO, *believed(prediction("a", T0)))
    feed(run, ONE, *believed(prediction("b", T0 + HOUR)), idle=(ZERO,))

    feed(run, ZERO, prediction("c", T0 + SECOND), prediction("d", T0 + HOUR))

    assert counts(run) == (0, 1)
    assert run.pipeline.status()["events"]["late_after_idle"] == 1
    assert run.told().status["models"]["m"]["versions"]["v1"]["predictions"] == 3


def test_a_partition_that_was_idle_is_judged_by_its_own_time_afterwards() -> None:
    run = a_run()
    feed(run, ZERO, *believed(prediction("a", T0)))
    feed(run, ONE, *believed(prediction("b", T0 + HOUR)), idle=(ZERO,))
    feed(run, ZERO, *believed(prediction("c", T0 + MINUTE)))
    before = counts(run)

    feed(run, ZERO, prediction("d", T0 + SECOND))

    late, after_idle = counts(run)
    assert (late - before[0], after_idle - before[1]) == (1, 0)


def test_an_event_counts_in_the_pane_of_its_own_time_while_that_is_open() -> None:
    """Also one so far ahead that partition time did not follow it."""
    run = a_run()
    feed(run, ONE, *believed(prediction("z", T0)))
    feed(run, ZERO, *believed(prediction("a", T0)), prediction("far", T0 + 55 * SECOND), prediction("b", T0 + SECOND))
    end = believed(prediction("y", T0 + MINUTE))
    feed(run, ZERO, *end)
    feed(run, ONE, *[{**event, "request_id": "x"} for event in end])
    run.commit()

    assert counts(run) == (0, 0)
    assert [(start - T0, n) for start, _, _, n in run.told().values("predictions")] == [(0, 3), (50 * SECOND, 1)]


def test_partition_time_less_the_lateness_decides() -> None:
    run = Run(CORE, partitions=(0, 1))
    feed(run, ZERO, *believed(prediction("a", T0 + 30 * SECOND)), prediction("b", T0 + 21 * SECOND))
    assert run.pipeline.totals.events["late_predictions"] == 0

    feed(run, ZERO, prediction("c", T0 + 19 * SECOND))

    assert run.pipeline.totals.events["late_predictions"] == 1
