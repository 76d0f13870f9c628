"""Partitions that cannot deliver, and what is in hand of the others meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.stream.memory import MemorySource
from monitor.stream.types import Blocked
from tests.monitor.kit import SECOND, a_core, a_model, believed, timed
from tests.monitor.service.conftest import MakeDaemon
from tests.monitor.service.stepping import ONE, ZERO, SteppedDaemon, at, gaps, late_clock, left_out

WITH_PANES = a_core(a_model(window=timed(10 * SECOND, 10 * SECOND)), lateness=SECOND)


@pytest.fixture
def patient(make_daemon: MakeDaemon) -> SteppedDaemon:
    """One partition waits for the other for ten seconds. Both have begun."""
    daemon = make_daemon(core=WITH_PANES, partitions=2, hold_s=10.0, clock=late_clock()).start()
    daemon.produce(*believed(*at(1)))
    daemon.produce(*believed(*at(1.5)), partition=1)
    return daemon.advance(1)


def go_on(daemon: SteppedDaemon, *seconds: int) -> None:
    """Partition 0 brings events of these times, one a second."""
    for second in seconds:
        daemon.produce(*believed(*at(second)))
        daemon.advance(1)


def test_a_partition_behind_an_open_transaction_holds_stream_time_no_longer_than_others_wait(
    patient: SteppedDaemon,
) -> None:
    """What the others bring is processed meanwhile: what it holds comes later than all that it can bring now."""
    patient.stream.blocked[ONE] = Blocked.OPEN_TRANSACTION
    patient.produce(*at(2), partition=1)
    go_on(patient, *range(30, 37))
    assert patient.positions()[ZERO] == 9 * 8
    assert patient.stream_time == 0.5 * SECOND
    assert not left_out(patient, 1)

    go_on(patient, *range(37, 42))

    assert patient.stream_time > 36 * SECOND
    assert left_out(patient, 1)
    summary = "events[1] has delivered nothing for 10 s, a transaction is open: the others go on without it"
    assert patient.alerts() == [("firing", "left out events[1]", summary)]


def test_a_partition_without_a_leader_holds_the_records_of_others_no_longer_than_they_wait(
    patient: SteppedDaemon,
) -> None:
    """Where it is known to hold more, that comes first."""
    patient.stream.blocked[ONE] = Blocked.LEADERLESS
    patient.produce(*at(2), partition=1)
    go_on(patient, *range(30, 37))
    assert patient.positions()[ZERO] == 9 + 4  # it takes five to move partition time over a gap
    assert patient.stream_time == 0.5 * SECOND

    go_on(patient, *range(37, 42))

    assert patient.positions()[ZERO] > 9 * 8
    assert patient.stream_time > 36 * SECOND
    summary = "events[1] has delivered nothing for 10 s, it has no leader: the others go on without it"
    assert patient.alerts() == [("firing", "left out events[1]", summary)]


def test_a_partition_without_a_leader_that_holds_no_more_holds_stream_time_only(patient: SteppedDaemon) -> None:
    patient.stream.blocked[ONE] = Blocked.LEADERLESS

    go_on(patient, *range(30, 37))

    assert patient.positions()[ZERO] == 9 * 8
    assert patient.stream_time == 0.5 * SECOND


@pytest.mark.parametrize("why", list(Blocked))
def test_a_partition_that_was_left_out_comes_back_and_what_it_brings_for_closed_panes_is_counted(
    patient: SteppedDaemon, why: Blocked
) -> None:
    patient.stream.blocked[ONE] = why
    patient.produce(*at(2), partition=1)
    go_on(patient, *range(30, 42))
    assert left_out(patient, 1)
    patient.stream.blocked.clear()

    patient.advance(2)

    assert not left_out(patient, 1)
    assert patient.alerts()[1:] == [("resolved", "left out events[1]", "events[1] delivers again, or holds no more")]
    assert patient.metric("driftd_late_after_idle_total") == 1
    assert patient.metric("driftd_late_predictions_total") == 0
    assert patient.positions()[ONE] == 10


def test_a_partition_that_delivers_in_time_has_lost_nothing(patient: SteppedDaemon) -> None:
    patient.stream.blocked[ONE] = Blocked.LEADERLESS
    patient.produce(*at(2), partition=1)
    go_on(patient, *range(30, 37))
    patient.stream.blocked.clear()

    patient.advance(2)

    assert patient.metric("driftd_late_after_idle_total") == 0
    assert patient.positions() == {ZERO: 9 * 8, ONE: 10}
    assert patient.alerts() == []


def test_nobody_is_left_out_while_the_stream_is_away(patient: SteppedDaemon) -> None:
    patient.stream.blocked[ONE] = Blocked.LEADERLESS
    patient.produce(*at(2), partition=1)
    patient.stream.away = True
    patient.advance(30)
    patient.stream.away = False

    patient.advance(5)

    assert not left_out(patient, 1)


# -- records in hand ---------------------------------------------------------------------------------------


def test_a_gap_behind_records_in_hand_is_skipped_once_these_are_processed(patient: SteppedDaemon) -> None:
    patient.stream.blocked[ONE] = Blocked.LEADERLESS
    patient.produce(*at(2), partition=1)
    patient.produce(*at(2, 3, 4))
    patient.advance(2)
    patient.produce(*at(5, 6, 7))
    patient.stream.cut("events", 14)
    patient.advance(2)
    assert patient.positions()[ZERO] == 9
    assert gaps(patient) == []
    patient.stream.blocked.clear()

    patient.advance(3)

    assert gaps(patient) == [(12, 14)]
    assert patient.positions() == {ZERO: 15, ONE: 10}
    assert patient.read == 9 + 3 + 1 + 10


def test_a_gap_behind_records_that_were_in_hand_at_a_crash_has_lost_these_too_and_says_so(
    patient: SteppedDaemon, make_daemon: MakeDaemon
) -> None:
    """Only what is processed is committed: retention has taken what was read and not processed."""
    patient.stream.blocked[ONE] = Blocked.LEADERLESS
    patient.produce(*at(2), partition=1)
    patient.produce(*at(2, 3, 4))
    patient.advance(2)
    patient.produce(*at(5, 6, 7))
    patient.stream.cut("events", 14)
    patient.advance(2)
    patient.stop()
    patient.stream.blocked.clear()

    after = make_daemon(core=WITH_PANES, stream=patient.stream, clock=late_clock()).start().advance(3)

    assert gaps(after) == [(9, 14)]
    assert after.positions() == {ZERO: 15, ONE: 10}
    assert after.read == 9 + 1 + 10


def test_records_in_hand_at_a_crash_are_read_again(patient: SteppedDaemon, make_daemon: MakeDaemon) -> None:
    patient.stream.blocked[ONE] = Blocked.LEADERLESS
    patient.produce(*at(2), partition=1)
    patient.produce(*at(2, 3, 4))
    patient.advance(2)
    patient.stop()
    patient.stream.blocked.clear()

    after = make_daemon(core=WITH_PANES, stream=patient.stream, clock=late_clock()).start().advance(3)

    assert after.positions() == {ZERO: 12, ONE: 10}
    assert after.read == 22


class Followed(MemorySource):
    """Shows the latest source that was opened."""

    latest: Followed

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        Followed.latest = self


def test_what_is_in_hand_is_bounded_and_read_on_when_it_is_processed(make_daemon: MakeDaemon) -> None:
    options: dict[str, Any] = {"core": WITH_PANES, "clock": late_clock(), "source": Followed}
    daemon = make_daemon(partitions=2, hold_s=10.0, buffer_bytes=1 << 20, **options).start()
    daemon.produce(*believed(*at(1)))
    daemon.produce(*believed(*at(1)), partition=1)
    daemon.advance(1)
    daemon.stream.blocked[ONE] = Blocked.LEADERLESS
    daemon.produce(*at(1.5), partition=1)
    daemon.produce(*at(*(2 + i / 10 for i in range(20_000))))
    daemon.advance(3)
    assert 0 < Followed.latest.positions()[ZERO] < 11_000
    assert daemon.positions()[ZERO] == 9
    assert not left_out(daemon, 0)
    daemon.stream.blocked.clear()

    daemon.advance(5)

    assert daemon.positions() == {ZERO: 20_009, ONE: 10}
    assert daemon.alerts() == []
