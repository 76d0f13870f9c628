"""Replay: what of a recording is read, and when it gives up."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.errors import ConfigError
from monitor.service.app import parts
from monitor.service.replay import Seen, StayedAway, replay
from monitor.stream.connect import Stream
from monitor.stream.memory import MemorySource, MemoryStream
from monitor.stream.types import Batch, Partition
from tests.monitor.config.texts import configured
from tests.monitor.kit import T0, prediction
from tests.monitor.service.stepping import SteppedClock


class SilentSource(MemorySource):
    """Holds records and hands none on."""

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        assert self._clock is not None
        self._clock.sleep(timeout_s)
        return Batch.empty()


class GrowingSource(MemorySource):
    """Gets more records once it was asked for its ends."""

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        bounds = super().bounds(partitions)
        for value in events(50, 70):
            self._stream.append("events", value)
        return bounds


def events(start: int, stop: int) -> list[bytes]:
    return [json.dumps(prediction(f"r{i}", T0 + i)).encode() for i in range(start, stop)]


class Recording:
    """A stream in memory, replayed into a database."""

    def __init__(self, database: Path, out: Path) -> None:
        self.clock = SteppedClock()
        self.stream = MemoryStream({"events": 2})
        self.seen: list[Seen] = []
        self._out = out
        self._parts = parts(configured(model="window: {events: 100, every: 50}"), store_url=f"sqlite:///{database}")

    def produce(self, start: int, stop: int, partition: int = 0) -> None:
        for value in events(start, stop):
            self.stream.append("events", value, partition)

    def replay(self, source: type[MemorySource] = MemorySource) -> int:
        """How many records were read."""
        stream = Stream(lambda: source(self.stream, ["events"], (), self.clock), self.stream.sink, self.stream.admin)
        read = replace(self._parts, stream=stream)
        summary = replay(read, out=self._out, publish=False, progress=self.seen.append, clock=self.clock)
        return int(summary["events"]["read"])

    def close(self) -> None:
        self._parts.engine.dispose()


@pytest.fixture
def recording(database: Path, tmp_path: Path) -> Iterator[Recording]:
    with closing(Recording(database, tmp_path / "out")) as recording:
        yield recording


def test_everything_is_read_from_the_first_record_to_the_last(recording: Recording, tmp_path: Path) -> None:
    recording.produce(0, 50)
    recording.produce(50, 60, partition=1)

    assert recording.replay() == 60
    assert (recording.seen[-1].records, recording.seen[-1].of) == (60, 60)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["driftd.decisions.jsonl"]


def test_what_is_written_after_it_began_is_not_read(recording: Recording) -> None:
    recording.produce(0, 50)

    assert recording.replay(GrowingSource) == 50


def test_a_stream_that_stays_silent_before_the_end_of_the_recording_is_given_up(recording: Recording) -> None:
    recording.produce(0, 50)

    with pytest.raises(StayedAway, match="nothing came for 60 s"):
        recording.replay(SilentSource)
    assert 60 < recording.clock.monotonic() < 61


def test_a_store_that_holds_something_is_refused(recording: Recording) -> None:
    recording.produce(0, 5)
    recording.replay()

    with pytest.raises(ConfigError, match=r"holds the state, history and alerts of \w+ until .*nor overwrites"):
        recording.replay()
