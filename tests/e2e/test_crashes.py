"""Whatever point the daemon is killed at, every input counts once and the world is told what it would have been."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from monitor.join.ended import HAS_ANSWER, Ending
from monitor.store.ended import decode
from tests.e2e import auditor, workload
from tests.e2e.auditor import query
from tests.e2e.conftest import Recording
from tests.e2e.daemon import Daemon, Trouble
from tests.e2e.place import FilePlace, KafkaPlace, Place
from tests.servers.topics import Topics

KILLED = -signal.SIGKILL


def crashing(place: Place, point: str, n: int) -> Daemon:
    """A daemon that dies when it is at a point for the n-th time."""
    return place.daemon(module="tests.e2e.crashing", before=[f"{point}:{n}"], name="crashing")


def dies(place: Place, point: str, n: int, records: int) -> bool:
    """Whether it came to the point before it had read and published everything."""
    with crashing(place, point, n) as daemon:
        try:
            daemon.until_read(records).until_published()
        except (Trouble, OSError):  # it may die while it is asked
            assert daemon.ended() == KILLED, daemon.told()
            return True
        daemon.kill()
        return False


def finish(place: Place, records: int) -> auditor.Found:
    """An ordinary daemon reads the rest and ends well."""
    with place.daemon() as daemon:
        daemon.until_read(records)
        assert daemon.stop() == 0
    return place.found()


# -- files and SQLite --------------------------------------------------------------------------------------


@pytest.fixture
def crash_place(tmp_path: Path, recording: Recording) -> FilePlace:
    """The recording, read by nobody yet. Every batch is a commit of its own."""
    place = FilePlace(tmp_path)
    place.link(recording.place)
    place.configure(store={"commit_every": "1ms"})
    return place


@pytest.mark.parametrize(
    "point",
    ["claimed", "restored", "polled", "before-commit", "in-commit-early", "in-commit-late", "after-commit", "advised"],
)
def test_a_kill_around_a_commit_loses_nothing(crash_place: FilePlace, recording: Recording, point: str) -> None:
    """At the first, the second and the third time, one run after the other on the same store."""
    for n in (1,) * 3 if point in ("claimed", "restored") else (1, 2, 3):
        with crashing(crash_place, point, n) as daemon:
            assert daemon.ended() == KILLED

    found = finish(crash_place, recording.records)

    assert auditor.differences(recording.expected, found) == []
    assert auditor.told(found) == recording.told


def test_a_kill_while_a_reference_is_made_begins_it_again(crash_place: FilePlace, recording: Recording) -> None:
    """From the predictions that are stored: nobody sends them again."""
    for n in (1, 2, 1):
        with crashing(crash_place, "while-freezing", n) as daemon:
            assert daemon.ended() == KILLED

    found = finish(crash_place, recording.records)

    assert auditor.differences(recording.expected, found) == []
    assert auditor.told(found) == recording.told


def ended(place: Place) -> Counter[tuple[float, ...]]:
    """What the store has of requests that have ended; not their keys, which every store hashes anew."""
    found: Counter[tuple[float, ...]] = Counter()
    keys: list[int] = []
    for requests, body in query(place.store_url, "SELECT requests, body FROM ended"):
        its = decode(requests, body)
        keys += its.key[np.isin(its.ending, HAS_ANSWER)].tolist()
        columns = its.ending, its.pane, its.time, its.outcome_time, np.nan_to_num(its.predicted, nan=-1)
        found.update(zip(*(column.tolist() for column in (*columns, np.nan_to_num(its.actual, nan=-1))), strict=True))
    assert len(set(keys)) == len(keys)
    return found


@pytest.mark.parametrize("point", ["before-commit", "in-commit-late", "after-commit"])
def test_a_kill_around_a_commit_keeps_what_is_known_of_each_request_once(
    crash_place: FilePlace, recording: Recording, point: str
) -> None:
    for n in (1, 2, 3):
        with crashing(crash_place, point, n) as daemon:
            assert daemon.ended() == KILLED

    finish(crash_place, recording.records)

    assert ended(crash_place) == ended(recording.place)
    assert sum(row[0] == Ending.JOINED for row in ended(crash_place).elements()) == recording.expected.join["joined"]


@pytest.mark.parametrize("point", ["before-send", "half-sent", "torn-line", "after-send", "crossed-off"])
def test_a_kill_around_publishing_loses_no_message(crash_place: FilePlace, recording: Recording, point: str) -> None:
    """What was sent and not crossed off is sent again, and is the same but for the time of publishing."""
    died = [dies(crash_place, point, n, recording.records) for n in (1, 1, 2, 3)]
    assert sum(died) >= 2

    found = finish(crash_place, recording.records)

    assert auditor.differences(recording.expected, found) == []
    assert auditor.told(found) == recording.told


def test_what_was_sent_and_not_crossed_off_is_repeated_with_the_same_ids(
    crash_place: FilePlace, recording: Recording
) -> None:
    for _ in range(2):
        with crashing(crash_place, "after-send", 1) as daemon:
            assert daemon.ended() == KILLED
    finish(crash_place, recording.records)

    initial = [d for d in crash_place.decisions() if d["generation"] == 1 and d["model"] == "prices"]

    assert len(initial) == 3
    assert len({d["published_at"] for d in initial}) == 3
    assert len({tuple(sorted((k, str(v)) for k, v in d.items() if k != "published_at")) for d in initial}) == 1


def test_a_kill_between_the_last_commit_and_the_end_is_a_clean_end(
    crash_place: FilePlace, recording: Recording
) -> None:
    with crashing(crash_place, "released", 1) as daemon:
        daemon.until_read(recording.records)
        daemon.signal(signal.SIGTERM)
        assert daemon.ended() == KILLED

    found = finish(crash_place, recording.records)

    assert auditor.differences(recording.expected, found) == []


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_commit_whose_answer_is_lost_is_not_made_twice(crash_place: FilePlace, recording: Recording, n: int) -> None:
    """The connection breaks after COMMIT: the sequence number in the database says that it happened."""
    with crashing(crash_place, "lost-answer", n) as daemon:
        daemon.until_read(recording.records)
        assert daemon.metric("driftd_commit_failures_total") == 1
        assert daemon.stop() == 0

    assert auditor.differences(recording.expected, crash_place.found()) == []


@pytest.mark.parametrize("n", [1, 2, 5, 9, 14, 20, 30])
def test_a_commit_that_breaks_at_a_statement_is_made_again(
    crash_place: FilePlace, recording: Recording, n: int
) -> None:
    with crashing(crash_place, "failing-statement", n) as daemon:
        daemon.until_read(recording.records)
        assert daemon.metric("driftd_commit_failures_total") == 1
        assert daemon.stop() == 0

    found = crash_place.found()

    assert auditor.differences(recording.expected, found) == []
    assert auditor.told(found) == recording.told


# -- Kafka and PostgreSQL ----------------------------------------------------------------------------------


class Stream:
    """Topics of events that are filled once, with two partitions each."""

    def __init__(self, place: KafkaPlace) -> None:
        lines = workload.Workload(seed=2, seconds=400).lines()
        place.produce(lines)
        self.events, self.written = place.events, place.written
        self.expected = auditor.recount(place.written, place.inputs)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory, topics: Topics) -> Stream:
    return Stream(KafkaPlace(tmp_path_factory.mktemp("stream"), topics, partitions=2))


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.parametrize(
    "points",
    [
        ["claimed:1", "polled:2", "before-commit:2"],
        ["in-commit-early:1", "in-commit-early:2", "in-commit-late:1"],
        ["after-commit:1", "after-commit:2", "advised:1"],
        ["before-send:1", "half-sent:1", "after-send:1", "crossed-off:1"],
    ],
    ids=lambda points: points[-1].partition(":")[0],
)
def test_kills_lose_nothing_on_kafka_and_postgresql(
    postgres_place: KafkaPlace, stream: Stream, points: Sequence[str]
) -> None:
    place = postgres_place
    place.events = stream.events
    place.configure(workload.models(drift=False), store={"commit_every": "1ms"})
    for point in points:
        name, _, n = point.partition(":")
        assert dies(place, name, int(n), len(stream.written)), point

    found = finish(place, len(stream.written))

    assert auditor.differences(stream.expected, found) == []


# -- at random ----------------------------------------------------------------------------------------------


class Producer(threading.Thread):
    """Writes a workload in small portions, as time goes by."""

    def __init__(self, place: Place, lines: Sequence[workload.Line], seconds: float) -> None:
        super().__init__(name="producer")
        self._place, self._lines, self._pause = place, lines, seconds / 60
        self._each = -(-len(lines) // 60)
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for start in range(0, len(self._lines), self._each):
                self._place.produce(self._lines[start : start + self._each])
                time.sleep(self._pause)
        except BaseException as error:  # noqa: BLE001 - for the thread that waits
            self.error = error


def kill_at_random(place: Place, seed: int, seconds: float) -> None:
    """Run daemons one after the other for some time, at least three of them, each killed after a moment."""
    chance = random.Random(seed)
    until = time.monotonic() + seconds
    killed = 0
    while time.monotonic() < until or killed < 3:  # a busy machine takes its time to start them
        with place.daemon(name=f"killed-{killed}") as daemon:
            try:
                daemon.ended(chance.uniform(0.4, 1.6))
            except AssertionError:
                daemon.kill()
            killed += 1


@pytest.mark.parametrize("seed", [1, 2])
def test_random_kills_beside_a_producer_lose_nothing_on_files(file_place: FilePlace, seed: int) -> None:
    """Files grow while daemons are killed: which file is ahead of which is a matter of chance."""
    lines = workload.Workload(seed=seed, seconds=400).lines()
    file_place.configure(workload.models(drift=False))
    producer = Producer(file_place, lines, 5)
    producer.start()
    kill_at_random(file_place, seed, 6)
    producer.join()
    assert producer.error is None

    found = finish(file_place, len(lines))

    assert auditor.differences(auditor.recount(file_place.written, file_place.inputs), found) == []


@pytest.mark.kafka
@pytest.mark.postgres
def test_random_kills_beside_a_producer_lose_nothing_on_kafka_and_postgresql(postgres_place: KafkaPlace) -> None:
    lines = workload.Workload(seed=3, seconds=300).lines()
    postgres_place.configure(workload.models(drift=False))
    producer = Producer(postgres_place, lines, 6)
    producer.start()
    kill_at_random(postgres_place, 3, 8)
    producer.join()
    assert producer.error is None

    found = finish(postgres_place, len(lines))

    assert auditor.differences(auditor.recount(postgres_place.written, postgres_place.inputs), found) == []
