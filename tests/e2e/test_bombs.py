"""Records that kill the process that reads them: they do not, or not for ever, and all others are counted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e import workload
from tests.e2e.crashing import POISON
from tests.e2e.daemon import ROOT, WAIT_S, Daemon
from tests.e2e.place import FilePlace, KafkaPlace, Place
from tests.servers.topics import Topics

KILLED = -signal.SIGKILL
MIB = 1 << 20
BOUND = 700 * MIB
LOOK_S = 0.002


def predictions(start: int, stop: int) -> list[bytes]:
    return [
        json.dumps(
            {
                "type": "prediction",
                "request_id": f"b{number}",
                "time": workload.T0 + number,
                "model": "prices",
                "version": "v2",
                "prediction": 1.5,
                "features": {"size": 1.0, "city": "aa"},
            }
        ).encode()
        for number in range(start, stop)
    ]


class MemoryBound:
    """Kills a process that has more memory than it may, as a kernel does.

    Attributes:
        peak: The most that it had, in bytes.
    """

    def __init__(self, pid: int, most: int) -> None:
        self._pid, self._most, self.peak = pid, most, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGESIZE")
        while not self._over.wait(LOOK_S):
            try:
                used = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1]) * page
            except (OSError, IndexError):
                return
            self.peak = max(self.peak, used)
            if used > self._most:
                os.kill(self._pid, signal.SIGKILL)
                return


@contextmanager
def bounded(place: Place) -> Iterator[tuple[Daemon, MemoryBound]]:
    with place.daemon() as daemon:
        bound = MemoryBound(daemon.pid, BOUND)
        try:
            yield daemon, bound
        finally:
            bound.stop()


def drop_bomb(place: KafkaPlace, codec: str, megabytes: int) -> None:
    arguments = (place.topics.bootstrap, place.events[0], "0", codec, str(megabytes))
    command = [sys.executable, "-m", "tests.e2e.bomb", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, timeout=WAIT_S, capture_output=True)


def parked(place: Place, daemon: Daemon) -> bool:
    return daemon.metric(f'driftd_partition_parked{{partition="0",topic="{place.events[0]}"}}') == 1


def counted(daemon: Daemon) -> int:
    found: int = daemon.status()["events"]["predictions"]
    return found


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("codec", "megabytes"),
    [
        ("zstd", 300),
        pytest.param("zstd", 1_200, marks=pytest.mark.slow),
        pytest.param("gzip", 300, marks=pytest.mark.slow),
        pytest.param("lz4", 300, marks=pytest.mark.slow),
    ],
)
def test_a_bomb_under_a_bound_of_memory_parks_its_partition_alone(
    tmp_path: Path, topics: Topics, codec: str, megabytes: int
) -> None:
    """It is never killed. What is told says where to go on, and there it goes on."""
    place = KafkaPlace(tmp_path, topics, partitions=3)
    place.configure(stream={"hold": "1s"})
    topic = place.events[0]
    place.append(topic, predictions(0, 100))
    drop_bomb(place, codec, megabytes)
    place.append(topic, predictions(100, 150))
    for number in (1, 2):
        place.append(topic, predictions(1_000 * number, 1_000 * number + 200), number)

    with bounded(place) as (daemon, bound):
        daemon.until(lambda: parked(place, daemon), "the partition waits")
        daemon.until(lambda: counted(daemon) == 500, "all others are counted")
        unready = daemon.why_not_ready or ""
        daemon.until_published()
        assert daemon.stop() == 0
    assert bound.peak < BOUND

    place_of = rf"`driftd topics --skip ({re.escape(topic)}:0:101)` goes past it"
    told = [a["summary"] for a in place.alerts() if a["kind"] == "daemon" and "--skip" in a["summary"]]
    assert len(told) == 1
    assert "cannot read offset 100: a batch of records decompresses to more than 67108864 bytes" in told[0]
    assert told[0] in unready
    skip = re.search(place_of, told[0])
    assert skip is not None

    assert place.driftd("topics", "--skip", skip[1]).code == 0
    with bounded(place) as (daemon, _):
        daemon.until_ready()
        daemon.until(lambda: daemon.read == 550, "what is behind it is read")
        assert daemon.stop() == 0
    assert len(place.found().gaps) == 1


@pytest.mark.kafka
@pytest.mark.slow
def test_where_the_limit_is_higher_than_the_memory_a_bomb_kills_three_times_at_most(
    tmp_path: Path, topics: Topics
) -> None:
    place = KafkaPlace(tmp_path, topics, partitions=2)
    place.configure(stream={"hold": "1s", "batch_bytes": 2 << 30})
    drop_bomb(place, "zstd", 300)
    place.append(place.events[0], predictions(0, 200), 1)
    for _ in range(3):
        with bounded(place) as (daemon, _bound):
            assert daemon.ended() == KILLED

    with bounded(place) as (daemon, _bound):
        daemon.until(lambda: parked(place, daemon), "the partition waits")
        daemon.until(lambda: counted(daemon) == 200, "all others are counted")
        assert daemon.stop() == 0


def test_a_record_that_nobody_survives_is_found_and_its_partition_waits(tmp_path: Path) -> None:
    """Whatever it is that kills: after the third time it is not read again, and everything else is counted exactly."""
    place = FilePlace(tmp_path)
    place.configure(stream={"hold": "1s"})
    topic, other = place.events
    place.append(topic, [*predictions(0, 20), POISON, *predictions(20, 50)])
    place.append(other, predictions(1_000, 1_300))

    def lethal(name: str) -> Daemon:
        return place.daemon(module="tests.e2e.crashing", before=["poisoned:1"], name=name)

    for life in range(3):
        with lethal(f"life-{life}") as daemon:
            assert daemon.ended() == KILLED
    for life in (3, 4):  # and it stays so, however often it is started
        with lethal(f"life-{life}") as daemon:
            daemon.until(lambda: parked(place, daemon), "the partition waits")
            daemon.until(lambda: counted(daemon) == 320, "all others are counted")
            detail = "cannot read offset 20: the process ended 2 times while it read this record"
            assert detail in (daemon.why_not_ready or "")
            daemon.until_published()
            assert daemon.stop() == 0

    assert "goes on at 21" in place.driftd("topics", "--skip", f"{topic}:0:21").err
    with lethal("behind") as daemon:
        daemon.until(lambda: daemon.read == 350, "what is behind it is read")
        assert daemon.stop() == 0


def test_whoever_goes_on_at_the_same_record_has_it_tried_again(tmp_path: Path) -> None:
    """With a release that survives it nothing is lost."""
    place = FilePlace(tmp_path)
    place.configure(stream={"hold": "1s"})
    topic = place.events[0]
    place.append(topic, [*predictions(0, 20), POISON, *predictions(20, 50)])
    for _ in range(3):
        with place.daemon(module="tests.e2e.crashing", before=["poisoned:1"], name="lethal") as daemon:
            assert daemon.ended() == KILLED
    with place.daemon() as daemon:
        daemon.until(lambda: parked(place, daemon) and daemon.read == 20, "the partition waits")
        assert daemon.stop() == 0

    assert "goes on at 20" in place.driftd("topics", "--skip", f"{topic}:0:20").err
    with place.daemon() as daemon:
        daemon.until(lambda: daemon.read == 51, "all of it is read")
        assert daemon.is_ready
        assert daemon.stop() == 0
    assert len(place.dead_letters()) == 1


def test_a_healthy_partition_is_not_parked_however_often_the_process_is_killed_at_its_start(tmp_path: Path) -> None:
    place = FilePlace(tmp_path)
    place.configure()
    for topic in place.events:
        place.append(topic, predictions(0, 100))
    for _ in range(5):
        with place.daemon(module="tests.e2e.crashing", before=["restored:1"], name="killed") as daemon:
            assert daemon.ended() == KILLED

    with place.daemon() as daemon:
        daemon.until(lambda: daemon.read == 200, "everything is read")
        assert daemon.is_ready
        assert daemon.stop() == 0
