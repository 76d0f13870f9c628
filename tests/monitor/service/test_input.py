"""The input side of the loop: parked and faulty partitions, gaps, idle partitions, outages, new partitions."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from monitor.errors import ConfigError, StreamError
from monitor.store import tables as t
from monitor.stream.memory import MemorySource
from monitor.stream.types import Batch, Partition
from tests.monitor.kit import SECOND, believed
from tests.monitor.service.conftest import MakeDaemon
from tests.monitor.service.stepping import ONE, ZERO, SteppedDaemon, at, gaps, late_clock, left_out

RUBBISH = b"rubbish"


def parked(daemon: SteppedDaemon, partition: int = 0) -> bool:
    return daemon.metric("driftd_partition_parked", topic="events", partition=str(partition)) == 1.0


def lag(daemon: SteppedDaemon, partition: int = 0) -> float | None:
    return daemon.metric("driftd_lag_records", topic="events", partition=str(partition))


# -- partitions full of refused records --------------------------------------------------------------------


@pytest.fixture
def strict(make_daemon: MakeDaemon) -> SteppedDaemon:
    """Three refused records in a minute are too many. Two partitions, of which one waits for the other for 3 s."""
    return make_daemon(partitions=2, refused_per_minute=2, hold_s=3.0)


def test_a_partition_with_too_many_refused_records_waits_and_the_other_is_read(strict: SteppedDaemon) -> None:
    strict.start()
    strict.produce(RUBBISH, RUBBISH, RUBBISH)
    strict.advance(2)
    strict.produce(RUBBISH)
    strict.produce(*at(1, 2), partition=1)

    strict.advance(5)

    assert strict.positions() == {ZERO: 3, ONE: 2}
    assert parked(strict)
    assert not parked(strict, 1)


def test_a_parked_partition_is_a_reason_not_to_be_ready_and_an_alert(strict: SteppedDaemon) -> None:
    strict.start()
    strict.produce(RUBBISH, RUBBISH, RUBBISH)

    strict.advance(2)

    summary = "events[0] waits: 3 records refused in a minute, the last one not_json"
    assert strict.why_not_ready() == summary
    assert strict.alerts() == [("firing", "refused events[0]", summary)]


def test_a_parked_partition_is_read_again_in_the_next_minute(strict: SteppedDaemon) -> None:
    strict.start()
    strict.produce(RUBBISH, RUBBISH, RUBBISH)
    strict.advance(2)
    strict.produce(RUBBISH)

    strict.pass_time(61).advance(1)

    assert strict.read == 4
    assert strict.why_not_ready() is None
    assert not parked(strict)
    assert ("resolved", "refused events[0]", "events[0] is read again") in strict.alerts()[1:]


def test_refused_records_are_counted_anew_every_minute(strict: SteppedDaemon) -> None:
    strict.start()
    for _ in range(5):
        strict.produce(RUBBISH, RUBBISH)
        strict.pass_time(61)

    assert strict.read == 10
    assert strict.alerts() == []


def test_a_parked_partition_waits_on_when_new_partitions_appear(strict: SteppedDaemon) -> None:
    strict.start()
    strict.produce(RUBBISH, RUBBISH, RUBBISH)
    strict.advance(2)
    strict.produce(RUBBISH)
    strict.stream.create("events", 3)

    strict.advance(10)

    assert strict.read == 3


def test_a_parked_partition_holds_the_records_of_others_no_longer_than_they_wait(strict: SteppedDaemon) -> None:
    strict.start()
    strict.produce(RUBBISH, RUBBISH, RUBBISH)
    strict.advance(1)
    strict.produce(*at(1), partition=1)
    strict.advance(1)
    assert strict.positions()[ONE] == 0

    strict.advance(3)

    assert strict.positions()[ONE] == 1
    assert left_out(strict, 0)
    summary = (
        "events[0] has delivered nothing for 3 s, too many of its records are refused: the others go on without it"
    )
    assert strict.alerts()[1:] == [("firing", "left out events[0]", summary)]


# -- gaps --------------------------------------------------------------------------------------------------


def test_records_that_retention_took_are_skipped_and_told(daemon: SteppedDaemon) -> None:
    daemon.start()
    daemon.produce(*at(*range(10)))
    daemon.stream.cut("events", 7)

    daemon.advance(2)

    assert daemon.read == 3
    assert gaps(daemon) == [(0, 7)]
    assert daemon.metric("driftd_gap_records_total") == 7
    assert daemon.alerts() == [
        ("firing", "gap events[0]", "events[0]: offsets 0 to 7 were lost"),
        ("resolved", "gap events[0]", "events[0] is read from offset 7 on"),
    ]
    assert daemon.why_not_ready() is None


def test_a_log_that_became_shorter_is_read_from_its_end_on(daemon: SteppedDaemon) -> None:
    daemon.produce(*at(*range(10)))
    daemon.start().advance(2)
    del daemon.stream.log(Partition("events", 0)).records[4:]
    daemon.advance(1)
    daemon.produce(*at(20, 21))

    daemon.advance(2)

    assert daemon.read == 12
    assert daemon.positions() == {ZERO: 6}
    assert daemon.alerts()[0][2] == "events[0]: offset 10 is not there any more, reading goes on at 4"
    assert daemon.metric("driftd_gap_records_total") == 0


def test_a_gap_that_was_committed_is_not_told_again_by_the_next_commit(daemon: SteppedDaemon) -> None:
    daemon.start()
    daemon.produce(*at(*range(10)))
    daemon.stream.cut("events", 7)
    daemon.advance(2)
    daemon.produce(*at(10))

    daemon.advance(5)

    with daemon.engine.connect() as c:
        assert c.execute(sa.select(sa.func.count()).select_from(t.gap)).scalar_one() == 1


# -- bytes that cannot be read -----------------------------------------------------------------------------


def test_a_partition_with_unreadable_bytes_waits_and_the_other_is_read(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(partitions=2, hold_s=3.0).start()
    daemon.produce(*at(1, 2, 3))
    daemon.stream.damage("events", 1)
    daemon.advance(2)
    daemon.produce(*at(4, 5), partition=1)

    daemon.advance(5)

    assert daemon.positions() == {ZERO: 1, ONE: 2}
    assert parked(daemon)
    summary = (
        "events[0]: cannot read offset 1: it is damaged: the partition waits, "
        "`driftd topics --skip events:0:OFFSET` goes past it"
    )
    assert daemon.why_not_ready() == summary
    assert daemon.alerts()[0] == ("firing", "fault events[0]", summary)


def test_a_partition_with_unreadable_bytes_holds_back_stream_time_no_longer_than_others_wait(
    make_daemon: MakeDaemon,
) -> None:
    daemon = make_daemon(partitions=2, hold_s=10.0, clock=late_clock()).start()
    daemon.produce(*believed(*at(1)))
    daemon.produce(*believed(*at(1)), partition=1)
    daemon.advance(1)
    daemon.produce(*at(2))
    daemon.stream.damage("events", 9)
    for second in range(30, 36):
        daemon.produce(*believed(*at(second)), partition=1)
        daemon.advance(1)
    assert daemon.stream_time == 1 * SECOND
    assert daemon.positions()[ONE] == 9
    for second in range(36, 46):
        daemon.produce(*believed(*at(second)), partition=1)
        daemon.advance(1)

    assert daemon.stream_time > 36 * SECOND


# -- idle partitions ---------------------------------------------------------------------------------------


def test_a_partition_without_new_records_holds_back_stream_time_until_the_idle_timeout(
    make_daemon: MakeDaemon,
) -> None:
    daemon = make_daemon(partitions=2, idle_after_s=10.0, clock=late_clock()).start()
    daemon.produce(*believed(*at(1)), partition=1)
    daemon.produce(*believed(*at(1)))
    daemon.advance(2)
    for second in range(30, 37):
        daemon.produce(*believed(*at(second)))
        daemon.advance(1)
    assert daemon.stream_time == 1 * SECOND
    for second in range(37, 44):
        daemon.produce(*believed(*at(second)))
        daemon.advance(1)

    assert daemon.stream_time > 37 * SECOND


def test_where_all_partitions_are_idle_stream_time_follows_the_clock(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(idle_after_s=10.0).start()
    daemon.produce(*believed(*at(1)))
    daemon.advance(9)
    assert daemon.stream_time == 1 * SECOND

    daemon.advance(20)

    assert daemon.stream_time > 25 * SECOND


def test_a_partition_that_was_not_read_to_its_end_is_not_idle(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(partitions=2, idle_after_s=5.0, refused_per_minute=0).start()
    daemon.produce(*believed(*at(1)), RUBBISH)
    daemon.advance(2)
    daemon.produce(*at(2))  # behind it the partition waits
    for second in range(30, 50):
        daemon.produce(*at(second), partition=1)
        daemon.advance(1)

    assert daemon.stream_time == 1 * SECOND


def test_a_process_that_was_frozen_takes_no_partition_for_idle_that_it_has_not_looked_at(
    make_daemon: MakeDaemon,
) -> None:
    daemon = make_daemon(partitions=2, idle_after_s=10.0).start()
    daemon.produce(*believed(*at(1)), partition=1)
    daemon.produce(*believed(*at(1)))
    daemon.advance(5)
    daemon.clock.jump(20)
    daemon.produce(*believed(*at(24)))

    daemon.advance(2)
    assert daemon.stream_time == 1 * SECOND
    daemon.produce(*believed(*at(26)))
    daemon.advance(9)

    assert daemon.stream_time == 26 * SECOND


def test_no_partition_is_idle_while_the_stream_is_away(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(idle_after_s=10.0).start()
    daemon.produce(*believed(*at(1)))
    daemon.advance(5)
    daemon.stream.away = True
    daemon.advance(20)
    daemon.stream.away = False

    daemon.advance(5)

    assert daemon.stream_time == 1 * SECOND


class SilentlyAway(MemorySource):
    """An outage that polls do not tell of, as those of the Kafka client do not: only questions fail."""

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        try:
            return super().poll(max_records, timeout_s)
        except StreamError:
            assert self._clock is not None
            self._clock.sleep(timeout_s)
            return Batch.empty()


def test_no_partition_is_idle_while_the_stream_is_away_and_polls_are_merely_empty(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(idle_after_s=10.0, source=SilentlyAway).start()
    daemon.produce(*believed(*at(1)))
    daemon.advance(5)
    daemon.stream.away = True

    daemon.advance(20)

    assert daemon.why_not_ready() == "stream: it is unavailable; the log says why"
    assert daemon.stream_time == 1 * SECOND


# -- outages -----------------------------------------------------------------------------------------------


def test_an_outage_of_the_stream_is_a_reason_not_to_be_ready_and_nothing_else(daemon: SteppedDaemon) -> None:
    daemon.start()
    daemon.produce(*at(1))
    daemon.advance(2)
    daemon.stream.away = True
    daemon.pass_time(600)
    assert daemon.why_not_ready() == "stream: it is unavailable; the log says why"
    commits = daemon.metric("driftd_commits_total") or 0
    daemon.advance(5)
    assert (daemon.metric("driftd_commits_total") or 0) > commits  # the lease is kept
    daemon.stream.away = False
    daemon.produce(*at(2))

    daemon.advance(3)

    assert daemon.why_not_ready() is None
    assert daemon.read == 2


def test_a_stream_that_is_back_with_nothing_new_is_noticed(daemon: SteppedDaemon) -> None:
    daemon.start().advance(1)
    daemon.stream.away = True
    daemon.advance(60)
    daemon.stream.away = False

    daemon.advance(4)

    assert daemon.why_not_ready() is None


def test_new_partitions_that_appear_in_an_outage_are_read_after_it(daemon: SteppedDaemon) -> None:
    daemon.start().advance(1)
    daemon.stream.away = True
    daemon.advance(10)
    daemon.stream.create("events", 2)
    daemon.produce(*at(1), partition=1)
    daemon.stream.away = False

    daemon.advance(10)

    assert daemon.read == 1


# -- topics that change ------------------------------------------------------------------------------------


def test_a_new_partition_is_read_from_its_beginning(daemon: SteppedDaemon) -> None:
    daemon.start().advance(2)
    daemon.stream.create("events", 2)
    daemon.produce(*at(1, 2, 3), partition=1)

    daemon.advance(5)

    assert daemon.read == 3


def test_a_topic_that_was_made_anew_is_refused(daemon: SteppedDaemon) -> None:
    daemon.start().advance(2)
    daemon.stream.delete("events")
    daemon.stream.create("events")

    with pytest.raises(ConfigError, match="deleted and made anew"):
        daemon.advance(5)


def test_the_lag_is_shown_by_partition(strict: SteppedDaemon) -> None:
    strict.start()
    strict.produce(RUBBISH, RUBBISH, RUBBISH)
    strict.advance(2)
    strict.produce(*at(*range(7)))

    strict.advance(2)

    assert lag(strict) == 7
    assert lag(strict, 1) == 0


def test_offsets_are_told_to_the_stream_once_they_are_committed(daemon: SteppedDaemon) -> None:
    daemon.start()
    daemon.produce(*at(1, 2, 3))

    daemon.advance(2)

    assert daemon.stream.committed == {ZERO: 3}
