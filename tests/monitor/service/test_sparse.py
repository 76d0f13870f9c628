"""Ten events a day: a daemon that is there as they come and a replay of them make the same checks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from monitor.service.app import Components, parts
from monitor.service.replay import replay
from monitor.store import history
from monitor.stream.connect import Stream
from monitor.stream.memory import MemorySource, MemoryStream
from tests.monitor.config.texts import configured
from tests.monitor.kit import HOUR, T0, prediction
from tests.monitor.service.conftest import MakeDaemon
from tests.monitor.service.stepping import SteppedClock

pytestmark = pytest.mark.slow

DAYS: Final = 3
GAP: Final = 24 * HOUR // 10
WINDOW: Final = "window: {span: 1d, pane: 1h, min_events: 5, max_span: 3d}, outcomes: null, rules: []"
Check = tuple[int, int, int]  # start and end of the window in hours since the epoch, number of answers


def events(partitions: int) -> list[tuple[int, int, bytes]]:
    """(time, partition, value): one each 2.4 hours, now in this partition and now in that one."""
    return [
        (T0 + i * GAP, i * 7 % partitions, json.dumps(prediction(f"r{i}", T0 + i * GAP, float(i))).encode())
        for i in range(DAYS * 10)
    ]


def the_parts(database: Path) -> Components:
    return parts(configured(model=WINDOW), store_url=f"sqlite:///{database}")


def checks_in(engine: Any) -> list[Check]:
    rows = history.history(engine, "m", metric="predictions")
    return [(row.start // HOUR, row.end // HOUR, row.n) for row in rows]


def live_checks(make_daemon: MakeDaemon, database: Path, partitions: int) -> list[Check]:
    """Each event is read at its time; nothing else comes, so the clock on the wall closes its pane."""
    components = the_parts(database)
    daemon = make_daemon(
        core=components.core, partitions=partitions, idle_after_s=1.0, clock=SteppedClock(T0, until=0.0)
    )
    daemon.start()
    for time, partition, value in events(partitions):
        wait_s = (time - daemon.clock.wall_ms()) / 1000
        if wait_s > 1:
            daemon.pass_time(wait_s - 4).advance(4)
        daemon.produce(value, partition=partition)
    daemon.advance(4).pass_time(3 * 3600).advance(4)
    components.engine.dispose()
    return checks_in(daemon.engine)


def replayed_checks(database: Path, partitions: int) -> list[Check]:
    stream = MemoryStream({"events": partitions})
    for _, partition, value in events(partitions):
        stream.append("events", value, partition)
    clock = SteppedClock(T0 + DAYS * 24 * HOUR)
    components = the_parts(database)
    opened = Stream(lambda: MemorySource(stream, ["events"], (), clock), stream.sink, stream.admin)
    replay(
        replace(components, stream=opened),
        out=database.parent / "out",
        publish=False,
        progress=lambda seen: None,
        clock=clock,
    )
    try:
        return checks_in(components.engine)
    finally:
        components.engine.dispose()


@pytest.mark.parametrize("partitions", [1, 12])
def test_ten_events_a_day_are_checked_live_as_in_a_replay(
    make_daemon: MakeDaemon, database: Path, empty_database: Path, tmp_path: Path, partitions: int
) -> None:
    """A replay ends with its last event, whose own pane need not be over by then."""
    other = tmp_path / "replay.db"
    other.write_bytes(empty_database.read_bytes())

    live, replayed = live_checks(make_daemon, database, partitions), replayed_checks(other, partitions)

    assert len(live) == DAYS * 10
    assert replayed in (live, live[:-1])


def test_none_of_ten_events_a_day_is_late(make_daemon: MakeDaemon, database: Path) -> None:
    """A window of a day holds ten answers or eleven, from the second day on."""
    live = live_checks(make_daemon, database, 12)

    assert {answers for _, _, answers in live[12:]} <= {10, 11}
