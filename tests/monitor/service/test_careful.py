"""Reading alone what may have killed the process: whose turn it is, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from monitor.errors import PartitionFault, StoreError
from monitor.service.careful import CarefulReading
from monitor.service.paused import PausedPartitions
from monitor.store import schema
from monitor.store import tables as t
from monitor.store.attempts import AttemptLog
from monitor.store.engine import connect
from monitor.store.writer import Claim, StoreWriter
from monitor.stream.kafka import KafkaSource, KafkaSpec
from monitor.stream.memory import MemorySource, MemoryStream
from monitor.stream.types import Batch, Partition
from tests.monitor.service.stepping import SteppedClock
from tests.servers.kafka import Cluster
from tests.servers.topics import Topics

RECORDS = 20
ONE, TWO, QUIET = (Partition("events", number) for number in range(3))
ALL = frozenset({ONE, TWO, QUIET})


class Clock(SteppedClock):
    """Has something done while it is waited."""

    meanwhile: Callable[[], object] | None = None

    def sleep(self, seconds: float) -> None:
        if self.meanwhile is not None:
            self.meanwhile()
        super().sleep(seconds)


class Decoding(MemorySource):
    """Has something done while records are decoded, and passes offsets without a record, as Kafka does."""

    meanwhile: Callable[[], object] | None = None
    gap: tuple[int, int] | None = None  # offsets of ONE from the first to the second are without a record

    def wait(self, timeout_s: float) -> bool:
        if self.gap is not None and self.positions()[ONE] == self.gap[0]:
            self.seek(ONE, self.gap[1])
        return super().wait(timeout_s)

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        if self.meanwhile is not None:
            self.meanwhile()
        return super().poll(max_records, timeout_s)


def store(path: Path) -> Engine:
    engine = connect(f"sqlite:///{path}/driftd.db")
    schema.upgrade(engine)
    return engine


def attempts(engine: Engine) -> AttemptLog:
    """Those of a process that has just claimed the store: what another one before it writes is of no effect."""
    claim = StoreWriter(engine, "us", 1_000).claim(0.0, lambda owner: True)
    assert isinstance(claim, Claim)
    return AttemptLog(engine, claim.epoch)


class Reading:
    """A source of three partitions, the last of which delivers nothing, after the process was killed twice."""

    def __init__(self, path: Path) -> None:
        stream = MemoryStream()
        stream.create("events", len(ALL))
        for number in range(RECORDS):
            for partition in (ONE, TWO):
                stream.append("events", b"%d" % number, partition.number)
        self.clock = Clock()
        self.source = Decoding(stream, ("events",), clock=self.clock)
        self.source.assign(dict.fromkeys(ALL, 0))
        self.paused = PausedPartitions(self.source)
        self.engine = store(path)
        for _ in range(2):
            self.begin()

    def begin(self) -> None:
        """As a process that comes after one that was killed."""
        self.careful = CarefulReading(self.source, attempts(self.engine))
        self.careful.begin(dict.fromkeys(ALL, 0), was_killed=True)

    def noted(self) -> int:
        """Partitions of which the store says that a record of them is being read."""
        return noted(self.engine)

    def turn(self, *candidates: Partition) -> tuple[Partition | None, int]:
        """Whose turn it was, and how many records came."""
        partition = self.careful.next(candidates)
        if partition is None:
            return None, 0
        self.paused.set(ALL - {partition})
        return partition, len(self.careful.read(partition))


def noted(engine: Engine) -> int:
    with engine.connect() as c:
        return len(c.execute(sa.select(t.attempt).where(t.attempt.c.reading)).all())


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    made = Reading(tmp_path)
    yield made
    made.engine.dispose()


def test_all_partitions_are_suspects_where_two_processes_were_killed_before_they_came_further(reading: Reading) -> None:
    assert reading.careful.suspects.keys() == ALL


def test_suspects_are_read_in_turns_one_record_at_a_time_and_one_turn_in_sixteen_is_for_the_others(
    reading: Reading,
) -> None:
    turns = [reading.turn(ONE, TWO) for _ in range(32)]

    assert [partition for partition, _ in turns].count(None) == 2
    assert all(count == 1 for partition, count in turns if partition is not None)
    assert abs(turns.count((ONE, 1)) - turns.count((TWO, 1))) <= 1


def test_one_that_has_nothing_is_waited_for_a_second_and_then_the_others_have_their_turn(reading: Reading) -> None:
    turns = [reading.turn(QUIET) for _ in range(4)]

    assert turns == [(QUIET, 0), (None, 0), (QUIET, 0), (None, 0)]
    assert reading.clock.monotonic() == pytest.approx(2.0)


def test_one_whose_doubtful_record_is_processed_or_that_is_at_its_end_is_a_suspect_no_longer(reading: Reading) -> None:
    reading.careful.acquit({ONE: 1, TWO: 0, QUIET: 0}, {QUIET})

    assert reading.careful.suspects.keys() == {TWO}


# -- notes -------------------------------------------------------------------------------------------------


def test_a_process_that_is_killed_while_nothing_has_come_accuses_no_record(reading: Reading) -> None:
    """However often: it is the next process that begins while this one still waits."""
    for _ in range(3):
        killed, reading.clock.meanwhile = reading.careful, reading.begin
        reading.paused.set(ALL - {QUIET})
        killed.read(QUIET)

    assert reading.careful.suspects[QUIET].deaths == 0


def test_a_record_that_ends_the_process_twice_while_it_is_decoded_is_not_read_again(reading: Reading) -> None:
    for deaths in (1, 2):
        killed, reading.source.meanwhile = reading.careful, reading.begin
        reading.paused.set(ALL - {ONE})
        killed.read(ONE)
        reading.source.seek(ONE, 0)
        assert reading.careful.suspects[ONE].deaths == deaths

    with pytest.raises(PartitionFault, match="the process ended 2 times while it read this record"):
        reading.careful.read(ONE)


def test_a_record_behind_offsets_without_one_is_found_though_they_are_passed_while_it_is_waited_for(
    reading: Reading,
) -> None:
    """As behind the marker of a transaction: which position a record is read at is known when its bytes are there."""
    reading.source.seek(ONE, 2)
    reading.source.gap = (2, 3)
    for deaths in (1, 2):
        killed, reading.source.meanwhile = reading.careful, reading.begin
        reading.paused.set(ALL - {ONE})
        killed.read(ONE)
        reading.source.seek(ONE, 2)
        assert reading.careful.suspects[ONE].deaths == deaths

    with pytest.raises(PartitionFault, match="the process ended 2 times while it read this record"):
        reading.careful.read(ONE)


def test_a_note_stands_while_a_record_is_decoded_and_no_longer(reading: Reading) -> None:
    seen: list[int] = []
    reading.source.meanwhile = lambda: seen.append(reading.noted())

    for _ in range(3):
        reading.turn(ONE)
        assert reading.noted() == 0

    assert seen == [1, 1, 1]


def test_a_note_that_could_not_be_taken_back_is_before_anything_else_is_read(reading: Reading) -> None:
    """The database was away in that moment: else whoever ends the process later would accuse the record."""
    updates: list[str] = []

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE attempt"):
            updates.append(statement)
            if len(updates) in (2, 3):
                raise OperationalError(statement, None, Exception("disk I/O error"))

    event.listen(reading.engine, "before_cursor_execute", fail)
    assert reading.turn(ONE) == (ONE, 1)
    assert reading.noted() == 1

    reading.careful.acquit(dict.fromkeys(ALL, 1), ALL)
    assert reading.careful.suspects.keys() == {ONE}  # it is not forgotten
    with pytest.raises(StoreError):
        reading.turn(ONE)
    assert reading.turn(ONE) == (ONE, 1)

    assert reading.noted() == 0


@pytest.mark.kafka
def test_no_note_stands_while_the_first_answer_of_a_broker_is_waited_for(
    tmp_path: Path, kafka: Cluster, topics: Topics
) -> None:
    topic = topics.make()
    topics.write(topic, [b"0"])
    partition = Partition(topic, 0)
    engine = store(tmp_path)
    with closing(KafkaSource(KafkaSpec(bootstrap=(kafka.bootstrap,)), [topic])) as source:
        source.assign({partition: 0})
        for _ in range(2):
            careful = CarefulReading(source, attempts(engine))
            careful.begin({partition: 0}, was_killed=True)
        kafka.nodes[0].freeze()
        try:
            reader = threading.Thread(target=careful.read, args=(partition,))
            reader.start()
            seen = 0
            while reader.is_alive():
                seen = max(seen, noted(engine))
                time.sleep(0.02)
        finally:
            kafka.nodes[0].thaw()

        assert seen == 0
        # The client may have to connect anew first.
        assert next((len(batch) for _ in range(30) if len(batch := careful.read(partition))), 0) == 1
    engine.dispose()
