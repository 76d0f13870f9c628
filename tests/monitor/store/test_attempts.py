"""Attempts to read: what is known of a process that was killed."""

from __future__ import annotations

from sqlalchemy.engine import Engine

from monitor.store.attempts import Attempt, AttemptLog
from monitor.store.writer import Claim, StoreWriter
from monitor.stream.types import Partition

ONE, OTHER = Partition("events", 0), Partition("events", 1)


def claimed(engine: Engine, owner: str) -> Claim:
    claim = StoreWriter(engine, owner, 1_000).claim(0.0, lambda owner: True)
    assert isinstance(claim, Claim)
    return claim


def attempts(engine: Engine, owner: str = "us") -> AttemptLog:
    return AttemptLog(engine, claimed(engine, owner).epoch)


def test_starts_at_one_position_are_counted_as_long_as_they_end_in_kills(engine: Engine) -> None:
    for number in (1, 2, 3):
        found = attempts(engine).begin({ONE: 5, OTHER: number}, was_killed=True)
        assert found == {ONE: Attempt(5, number), OTHER: Attempt(number, 1)}

    assert attempts(engine).begin({ONE: 5}, was_killed=False) == {ONE: Attempt(5, 1)}


def test_an_end_while_a_record_is_read_alone_is_counted_at_its_offset(engine: Engine) -> None:
    for deaths in (0, 1, 2):
        log = attempts(engine)
        found = log.begin({ONE: 5}, was_killed=True)[ONE]
        assert (found.suspect, found.deaths) == ((None, 0) if deaths == 0 else (7, deaths))
        log.note(ONE, 7)


def test_what_was_outlived_is_no_suspect(engine: Engine) -> None:
    log = attempts(engine)
    log.begin({ONE: 5}, was_killed=True)
    log.note(ONE, 7)
    log.settle(ONE, came=True)

    assert attempts(engine).begin({ONE: 5}, was_killed=True)[ONE].deaths == 0


def test_a_look_that_brought_nothing_neither_accuses_nor_clears(engine: Engine) -> None:
    log = attempts(engine)
    log.begin({ONE: 5}, was_killed=True)
    log.note(ONE, 7)
    log = attempts(engine)
    log.begin({ONE: 5}, was_killed=True)
    log.note(ONE, 7)
    log.settle(ONE, came=False)

    assert attempts(engine).begin({ONE: 5}, was_killed=True)[ONE].deaths == 1


def test_another_record_begins_anew(engine: Engine) -> None:
    for offset in (7, 8):
        log = attempts(engine)
        log.begin({ONE: 5}, was_killed=True)
        log.note(ONE, offset)

    assert attempts(engine).begin({ONE: 5}, was_killed=True)[ONE] == Attempt(5, 3, 8, 1)


def test_a_suspect_stays_one_until_reading_is_behind_it(engine: Engine) -> None:
    """Also after a clean end, and where what comes before it is processed meanwhile."""
    log = attempts(engine)
    log.begin({ONE: 5}, was_killed=True)
    log.note(ONE, 7)
    attempts(engine).begin({ONE: 5}, was_killed=True)

    assert attempts(engine).begin({ONE: 7}, was_killed=False)[ONE] == Attempt(7, 1, 7, 1)
    assert attempts(engine).begin({ONE: 8}, was_killed=False)[ONE] == Attempt(8, 1)


def test_an_owner_of_the_past_changes_nothing(engine: Engine) -> None:
    old, new = attempts(engine, "old"), attempts(engine, "new")
    new.begin({ONE: 5}, was_killed=True)

    old.begin({ONE: 1}, was_killed=True)
    old.note(ONE, 7)

    assert new.begin({ONE: 5}, was_killed=True)[ONE] == Attempt(5, 2)


def test_only_a_store_that_was_not_given_back_is_one_of_a_process_that_was_killed(engine: Engine) -> None:
    writer = StoreWriter(engine, "us", 1_000)
    first = writer.claim(0.0, lambda owner: True)
    after_a_kill = claimed(engine, "next")
    writer = StoreWriter(engine, "third", 1_000)
    writer.claim(0.0, lambda owner: True)
    writer.release()
    after_an_end = claimed(engine, "fourth")

    assert isinstance(first, Claim)
    assert (first.was_killed, after_a_kill.was_killed, after_an_end.was_killed) == (False, True, False)
