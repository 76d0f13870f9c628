"""Events that are far ahead of their partition move nothing: no event is late for them, and every window is whole.

One of a few wrong clocks, or one of many answers in fifty that tells a time of its own. Whether the stream is read as
it comes or from a backlog, in one partition or in twelve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from monitor.spec import CoreSpec
from monitor.store import history
from tests.monitor.kit import HOUR, MINUTE, SECOND, T0, a_core, a_model, prediction, timed
from tests.monitor.service.conftest import MakeDaemon
from tests.monitor.service.stepping import SteppedClock, SteppedDaemon

LATENESS: Final = 5 * SECOND
EVERY: Final = 4 * SECOND  # between two events of a partition
LENGTH: Final = 20 * MINUTE
PANE: Final = MINUTE


@dataclass(frozen=True, slots=True)
class Written:
    """An event: when it was written, in which partition, and its time, in ms after `T0`."""

    at: int
    partition: int
    time: int


def steady(partitions: int) -> Iterator[Written]:
    """Events of each partition at their time, `EVERY` apart."""
    for at in range(0, LENGTH, EVERY):
        for partition in range(partitions):
            yield Written(at, partition, at + partition * 100)


def with_three_ahead(partitions: int, among: int) -> list[Written]:
    """Three events in a row are nine minutes ahead, in each of the first `among` partitions."""
    ahead = range(5 * MINUTE, 5 * MINUTE + 3 * EVERY, EVERY)
    return [
        replace(w, time=w.time + 9 * MINUTE) if w.at in ahead and w.partition < among else w for w in steady(partitions)
    ]


def with_one_in_fifty_ahead(partitions: int) -> list[Written]:
    """Every fiftieth event of each partition is 55 minutes ahead."""
    return [replace(w, time=w.time + 55 * MINUTE) if w.at // EVERY % 50 == 49 else w for w in steady(partitions)]


def the_core() -> CoreSpec:
    """One model with a window of a pane, so that the history has what each pane holds."""
    core = a_core(a_model(window=timed(PANE, PANE)), lateness=LATENESS)
    return replace(core, max_future=2 * HOUR)


def read_by(make_daemon: MakeDaemon, written: Sequence[Written], *, live: bool) -> SteppedDaemon:
    """A daemon that has read them, a step of time after the other or all at once."""
    partitions = 1 + max(w.partition for w in written)
    daemon = make_daemon(core=the_core(), partitions=partitions, clock=SteppedClock(T0 + 2 * HOUR, until=0.0))
    daemon.start()
    for i, w in enumerate(written):
        if live and i and w.at != written[i - 1].at:
            daemon.advance(0.2)
        daemon.produce(prediction(f"r{i}", T0 + w.time), partition=w.partition)
    return daemon.advance(5)


def held(daemon: SteppedDaemon) -> dict[int, int]:
    """Minute after `T0` → number of answers in its window, of all windows that were checked."""
    rows = history.history(daemon.engine, "m", metric="predictions")
    return {(row.start - T0) // MINUTE: row.n for row in rows}


def recounted(written: Sequence[Written]) -> dict[int, int]:
    """The same by the events' own times."""
    return dict(Counter(w.time // MINUTE for w in written))


def differences(daemon: SteppedDaemon, written: Sequence[Written], until: int) -> dict[int, tuple[Any, Any]]:
    """Minutes before `until` whose windows do not hold what they must: (what they must, what they do)."""
    expected, found = recounted(written), held(daemon)
    return {m: (expected.get(m), found.get(m)) for m in range(until) if expected.get(m) != found.get(m)}


def counts(daemon: SteppedDaemon) -> dict[str, int]:
    """What was late, and why."""
    events = daemon.telemetry.status["events"]
    return {name: events.get(name, 0) for name in ("late_predictions", "late_after_idle", "dead_letters")}


HOW: Final = [pytest.param(True, id="live", marks=pytest.mark.slow), pytest.param(False, id="backlog")]
NOTHING_LATE: Final = {"late_predictions": 0, "late_after_idle": 0, "dead_letters": 0}
CASES: Final = {
    "three nine minutes ahead, one partition": with_three_ahead(1, 1),
    "three nine minutes ahead in one of twelve": with_three_ahead(12, 1),
    "three nine minutes ahead in each of twelve": with_three_ahead(12, 12),
    "one in fifty 55 minutes ahead, one partition": with_one_in_fifty_ahead(1),
    "one in fifty 55 minutes ahead, twelve partitions": with_one_in_fifty_ahead(12),
}


@pytest.mark.parametrize("live", HOW)
@pytest.mark.parametrize("case", CASES)
def test_events_far_ahead_make_no_other_event_late(make_daemon: MakeDaemon, case: str, live: bool) -> None:
    daemon = read_by(make_daemon, CASES[case], live=live)

    assert daemon.read == len(CASES[case])
    assert counts(daemon) == NOTHING_LATE


@pytest.mark.parametrize("live", HOW)
@pytest.mark.parametrize("case", CASES)
def test_windows_hold_all_answers_of_their_time_whoever_is_ahead(
    make_daemon: MakeDaemon, case: str, live: bool
) -> None:
    """Those that are ahead count in the windows of their own times. The last minutes are not over yet."""
    daemon = read_by(make_daemon, CASES[case], live=live)

    assert differences(daemon, CASES[case], until=LENGTH // MINUTE - 2) == {}


def test_stream_time_is_not_ahead_of_the_events_that_are_in_time(make_daemon: MakeDaemon) -> None:
    daemon = read_by(make_daemon, with_three_ahead(1, 1), live=True)

    assert LENGTH - EVERY - LATENESS - SECOND <= daemon.stream_time <= LENGTH
