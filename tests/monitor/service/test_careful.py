"""Reading alone what may have killed the process: whose turn it is, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.service.careful import CarefulReading
from monitor.service.paused import PausedPartitions
from monitor.store import schema
from monitor.store.attempts import AttemptLog
from monitor.store.engine import connect
from monitor.store.writer import Claim, StoreWriter
from monitor.stream.memory import MemorySource, MemoryStream
from monitor.stream.types import Partition
from tests.monitor.service.stepping import SteppedClock

RECORDS = 20
ONE, TWO, QUIET = (Partition("events", number) for number in range(3))
ALL = frozenset({ONE, TWO, QUIET})


class Reading:
    """A source of three partitions, the last of which delivers nothing, after the process was killed twice."""

    def __init__(self, path: Path) -> None:
        stream = MemoryStream()
        stream.create("events", len(ALL))
        for number in range(RECORDS):
            for partition in (ONE, TWO):
                stream.append("events", b"%d" % number, partition.number)
        self.clock = SteppedClock()
        self.source: MemorySource = stream.source("events", clock=self.clock)
        self.source.assign(dict.fromkeys(ALL, 0))
        self.paused = PausedPartitions(self.source)
        engine = connect(f"sqlite:///{path}/driftd.db")
        schema.upgrade(engine)
        claim = StoreWriter(engine, "us", 1_000).claim(0.0, lambda owner: True)
        assert isinstance(claim, Claim)
        for _ in range(2):
            self.careful = CarefulReading(self.source, AttemptLog(engine, claim.epoch))
            self.careful.begin(dict.fromkeys(ALL, 0), was_killed=True)
        self.engine = engine

    def turn(self, *candidates: Partition) -> tuple[Partition | None, int]:
        """Whose turn it was, and how many records came."""
        partition = self.careful.next(candidates)
        if partition is None:
            return None, 0
        self.paused.set(ALL - {partition})
        return partition, len(self.careful.read(partition))


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
