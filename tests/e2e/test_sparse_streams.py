"""Ten events a day, in files and in twelve partitions of Kafka: a daemon and a replay make the same checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from monitor.clock import wall_ms
from tests.e2e.auditor import query
from tests.e2e.place import FilePlace, KafkaPlace, Place
from tests.servers.topics import Topics

HOUR: Final = 3_600_000
DAYS: Final = 9
EVENTS: Final = DAYS * 10
MODELS: Final[dict[str, Any]] = {
    "rare": {
        "task": "regression",
        "champion": "v1",
        "window": {"span": "1d", "pane": "1h", "min_events": 5, "max_span": "3d"},
        "outcomes": None,
        "drift": None,
        "rules": [],
    }
}
Check = tuple[int, int, bytes]  # start and end of the window, what was measured


def fill(place: Place) -> None:
    """One event each 2.4 hours, the last one two days ago, now in this partition and now in that one."""
    first = (wall_ms() // HOUR - (DAYS + 2) * 24) * HOUR
    for i in range(EVENTS):
        time = first + i * 24 * HOUR // 10
        event = {"type": "prediction", "request_id": f"r{i}", "time": time, "model": "rare", "version": "v1"}
        value = json.dumps({**event, "prediction": float(i)}).encode()
        place.append(place.events[0], [value], i * 7 % place.partitions)


def checks_in(place: Place) -> list[Check]:
    rows = query(place.store_url, "SELECT start_ms, end_ms, body FROM history ORDER BY end_ms, start_ms")
    return [(start, end, bytes(body)) for start, end, body in rows]


def live_checks(place: Place) -> list[Check]:
    """Until the clock on the wall has closed the last window."""
    with place.daemon() as daemon:
        daemon.until_read(EVENTS)
        daemon.until(lambda: len(checks_in(place)) >= EVENTS, "all windows are checked", 30)
        assert daemon.status()["events"]["late_predictions"] == 0
        assert daemon.stop() == 0
    return checks_in(place)


def replayed_checks(place: Place) -> list[Check]:
    """Of the same topics, with a database of its own."""
    url = f"sqlite:///{place.directory}/replay.db"
    replayed = place.driftd("replay", "--json", "--store", url, "--out", str(place.directory / "out"))
    assert replayed.code == 0, replayed.err
    assert replayed.json()["events"]["late_predictions"] == 0
    place.store_url = url
    return checks_in(place)


def configured(place: Place) -> Place:
    place.configure(MODELS, stream={"idle_after": "1s"})
    fill(place)
    return place


@pytest.mark.kafka
def test_a_daemon_and_a_replay_make_the_same_checks_of_twelve_partitions(tmp_path: Path, topics: Topics) -> None:
    """A replay ends with the last event, whose own pane need not be over by then."""
    place = configured(KafkaPlace(tmp_path, topics, partitions=12))

    live, replayed = live_checks(place), replayed_checks(place)

    assert len(live) == EVENTS
    assert replayed in (live, live[:-1])


def test_a_daemon_and_a_replay_make_the_same_checks_of_files(file_place: FilePlace) -> None:
    """As above."""
    place = configured(file_place)

    live, replayed = live_checks(place), replayed_checks(place)

    assert len(live) == EVENTS
    assert replayed in (live, live[:-1])
