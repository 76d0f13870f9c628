"""A partition that has records and does not deliver them holds the others for a minute, and is told to be left out.

As one whose leader is away or where a transaction hangs: its end is known to be further on, and nothing comes. Kafka
of the tests has one node, so here the source is one of the stream in memory that hands nothing on of such partitions;
`tests/e2e/test_held.py` has a transaction that hangs on a real broker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitor.stream.memory import MemorySource, MemoryStream
from monitor.stream.types import Partition, Run
from tests.monitor.kit import HOUR, MINUTE, SECOND, T0, Event, a_core, a_model, prediction, timed
from tests.monitor.service.conftest import MakeDaemon
from tests.monitor.service.stepping import TOPICS, SteppedClock, SteppedDaemon

LATENESS: Final = 5 * SECOND
HOLD_S: Final = 60  # the default of `stream.hold`
STUCK: Final = Partition("events", 0)
KNOWN, MISSING = (
    10,
    20,
)  # records of the partition before its leader goes, and those that it has by then and hands on later


class LeaderlessStream(MemoryStream):
    """Partitions in `leaderless` have an end and hand nothing on."""

    def __init__(self, partitions: int) -> None:
        super().__init__({"events": partitions, **dict.fromkeys(TOPICS.values(), 1)})
        self.leaderless: set[Partition] = set()


class LeaderlessSource(MemorySource):
    """A source of it."""

    def _run(self, partition: Partition, max_records: int) -> Run:
        assert isinstance(self._stream, LeaderlessStream)
        return super()._run(partition, 0 if partition in self._stream.leaderless else max_records)


def at(number: int, partition: int) -> Event:
    """An answer of a second of its partition."""
    return prediction(f"p{partition}-{number}", T0 + number * SECOND)


class Leaderless:
    """A daemon that reads two partitions live, of which the first one has lost its leader after some records."""

    def __init__(self, make_daemon: MakeDaemon) -> None:
        self.stream = LeaderlessStream(2)
        core = a_core(a_model(window=timed(10 * SECOND, 10 * SECOND)), lateness=LATENESS)
        self.daemon: SteppedDaemon = make_daemon(
            core=core, stream=self.stream, source=LeaderlessSource, idle_after_s=10.0,
            clock=SteppedClock(T0 + HOUR, until=0.0),
        )  # fmt: skip
        self.daemon.start()
        self._second = 0
        self.pass_seconds(KNOWN, both=True)
        self.stream.leaderless.add(STUCK)
        for number in range(KNOWN, KNOWN + MISSING):
            self.daemon.produce(at(number, 0))

    def pass_seconds(self, seconds: int, *, both: bool = False) -> None:
        """Time goes on, with an event a second in the second partition, or in both."""
        for _ in range(seconds):
            for partition in (0, 1) if both else (1,):
                self.daemon.produce(at(self._second, partition), partition=partition)
            self._second += 1
            self.daemon.advance(1)

    def come_back(self) -> None:
        """The partition has a leader again."""
        self.stream.leaderless.clear()
        self.daemon.advance(2)

    def told(self) -> list[tuple[str, str]]:
        """(status, summary) of alerts of the daemon that name the partition."""
        return [
            (status, summary) for status, name, summary in self.daemon.alerts() if "events[0]" in f"{name} {summary}"
        ]

    def gauges(self) -> set[str]:
        """Metrics of the partition that are 1 and are not its lag."""
        return set(self._gauges())

    def _gauges(self) -> Iterator[str]:
        for family in text_string_to_metric_families(self.daemon.telemetry.scrape().decode()):
            for sample in family.samples:
                if sample.labels == {"topic": "events", "partition": "0"} and sample.value == 1:
                    yield sample.name

    def counts(self) -> dict[str, int]:
        """What came too late, and why."""
        events = self.daemon.telemetry.status["events"]
        return {name: events.get(name, 0) for name in ("late_predictions", "late_after_idle")}


@pytest.fixture
def leaderless(make_daemon: MakeDaemon) -> Leaderless:
    return Leaderless(make_daemon)


def test_a_partition_that_does_not_deliver_holds_stream_time_for_a_while(leaderless: Leaderless) -> None:
    """However long `idle_after` is: there are records, and they may come at any moment."""
    leaderless.pass_seconds(HOLD_S - 10)

    assert leaderless.daemon.stream_time <= KNOWN * SECOND
    assert leaderless.told() == []


def test_after_the_hold_the_others_go_on(leaderless: Leaderless) -> None:
    leaderless.pass_seconds(HOLD_S + 20)

    assert leaderless.daemon.stream_time >= HOLD_S * SECOND
    assert leaderless.daemon.read == KNOWN + KNOWN + HOLD_S + 20


def test_that_a_partition_is_left_out_is_told_by_an_alert_and_a_gauge(leaderless: Leaderless) -> None:
    before = leaderless.gauges()
    leaderless.pass_seconds(HOLD_S + 20)

    assert [status for status, _ in leaderless.told()] == ["firing"]
    assert leaderless.gauges() - before - {"driftd_lag_records"} != set()


def test_what_comes_back_in_time_is_counted_as_if_nothing_had_been(leaderless: Leaderless) -> None:
    leaderless.pass_seconds(HOLD_S - 10)

    leaderless.come_back()

    assert leaderless.daemon.read == KNOWN + MISSING + KNOWN + HOLD_S - 10
    assert leaderless.counts() == {"late_predictions": 0, "late_after_idle": 0}
    assert leaderless.told() == []


def test_what_comes_after_the_hold_for_panes_that_are_closed_is_late_after_idle(leaderless: Leaderless) -> None:
    """By the time of its own partition none of it is late. Its first panes and all of these have been closed."""
    leaderless.pass_seconds(HOLD_S + 20)

    leaderless.come_back()

    assert leaderless.counts() == {"late_predictions": 0, "late_after_idle": MISSING}


def test_a_partition_that_delivers_again_holds_stream_time_again_and_the_alert_is_over(leaderless: Leaderless) -> None:
    leaderless.pass_seconds(HOLD_S + 20)
    leaderless.come_back()
    leaderless.pass_seconds(3, both=True)

    assert [status for status, _ in leaderless.told()] == ["firing", "resolved"]
    assert leaderless.daemon.stream_time <= (KNOWN + HOLD_S + 23) * SECOND
    assert leaderless.daemon.stream_time >= MINUTE
