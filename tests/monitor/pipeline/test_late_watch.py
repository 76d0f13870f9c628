"""A partition of which most predictions come too late is told of, with who sends them and by how much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.pipeline.late_watch import QUIET
from monitor.store.engine import connect
from monitor.stream.types import Partition
from monitor.times import format_time
from tests.monitor.kit import (
    SECOND,
    T0,
    Event,
    Run,
    StoredRun,
    Told,
    a_core,
    a_model,
    batch_of,
    believed,
    prediction,
    records_of,
    timed,
)

FIRST, OTHER = Partition("events", 0), Partition("events", 1)
CORE = a_core(a_model(window=timed(10 * SECOND, 10 * SECOND)), lateness=5 * SECOND)


def in_time(count: int, start: int = 0, name: str = "a") -> list[Event]:
    """Predictions a second apart."""
    return [prediction(f"{name}{start + i}", T0 + (start + i) * SECOND) for i in range(count)]


def late(count: int, at: int, by: int, version: str = "v2") -> list[Event]:
    """Predictions that come at one time, and are of another one."""
    return [prediction(f"late{at}-{i}", T0 + (at - by) * SECOND, version=version) for i in range(count)]


def told(events: list[Event], sizes: list[int] | None = None) -> Told:
    run = Run(CORE, partitions=(0, 1))
    run.feed(records_of(events), sizes)
    return run.finish()


def alerts(events: list[Event], sizes: list[int] | None = None) -> list[dict[str, Any]]:
    return told(events, sizes).alerts("daemon")


def test_most_predictions_of_a_minute_being_late_is_told_with_partition_version_and_how_far() -> None:
    (alert,) = alerts([*in_time(30), *late(40, 29, by=120)])

    assert (alert["status"], alert["severity"]) == ("firing", "critical")
    assert alert["summary"] == (
        "31 of 61 predictions of events[0] within a minute came too late for their window, up to 120 s behind the "
        "others: m v2 (31)"
    )


def test_it_ends_when_the_partition_brings_no_predictions_any_more() -> None:
    """Whether the others go on without it, or it comes back after a long time: at the same time, in the same words."""
    begins = [*in_time(30), *late(40, 29, by=120)]
    back = alerts([*begins, *in_time(10, start=1_200)])
    run = Run(CORE, partitions=(0, 1))
    run.feed(records_of(begins))
    run.feed([r._replace(partition=OTHER, offset=r.offset) for r in records_of(in_time(1_200, name="b"))])
    run.process(batch_of([]), idle=[FIRST])

    for first, last in (back, run.finish().alerts("daemon")):
        assert (first["status"], last["status"]) == ("firing", "resolved")
        assert last["summary"] == "events[0] brings no predictions any more"
        assert last["ends_at"] == format_time(T0 // (60 * SECOND) * 60 * SECOND + 60 * SECOND + QUIET)


def test_half_of_them_is_not_most() -> None:
    assert alerts([*in_time(30), *late(30, 29, by=120)]) == []


def test_fewer_than_twenty_predictions_in_a_minute_say_nothing() -> None:
    assert alerts([*in_time(55), *believed(*in_time(1, 60))[:5], *late(14, 60, by=120)]) == []


def test_it_ends_with_a_minute_in_which_most_come_in_time() -> None:
    first, last = alerts([*in_time(30), *late(40, 29, by=120), *in_time(120, 30)])

    assert (first["status"], last["status"]) == ("firing", "resolved")
    assert last["summary"] == "predictions of events[0] come in time again"
    assert last["ends_at"] == "2023-11-14T22:14:00.000Z"


def test_it_goes_on_while_the_next_minute_is_no_better() -> None:
    events = [*in_time(30), *late(40, 29, by=120), *in_time(25, 60), *late(40, 84, by=180, version="v3")]

    assert [alert["status"] for alert in alerts(events)] == ["firing"]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_what_is_told_does_not_depend_on_batches(sizes: list[int]) -> None:
    events = [*in_time(30), *late(40, 29, by=120), *in_time(100, 30), *late(70, 129, by=90), *in_time(70, 131)]

    assert alerts(events, sizes) == alerts(events)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_a_first_event_far_ahead_hides_nothing_however_batches_are_cut(sizes: list[int]) -> None:
    """Until nine events were seen, partition time goes back to the smallest of them."""
    ahead = prediction("ahead", T0 + 3_600 * SECOND)
    events = [ahead, *in_time(30), *late(40, 29, by=120), *in_time(120, 30)]

    assert [alert["status"] for alert in alerts(events)] == ["firing", "resolved"]
    assert alerts(events, sizes) == alerts(events)


def test_a_daemon_that_goes_on_has_counted_the_minute_before_its_end(tmp_path: Path) -> None:
    run = StoredRun(CORE, engine=connect(f"sqlite:///{tmp_path}/store.db"))
    run.events(*in_time(30), *late(20, 29, by=120))
    run.restart()
    run.events(*late(20, 29, by=150))

    (alert,) = run.told().alerts("daemon")
    assert alert["summary"].startswith("31 of 61 predictions of events[0]")
