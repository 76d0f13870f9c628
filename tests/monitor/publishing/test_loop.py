"""The delivery of one destination's messages: order, attempts, pauses, and what is given up."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from structlog.testing import capture_logs

from monitor.publishing.destinations.base import DeliveryResult, OutboxMessage, Rejected, Retry
from monitor.publishing.loop import GivenUp
from monitor.store import tables as t
from tests.monitor.publishing.scripted import IN_ORDER, MAX_AGE_S, ONE_BY_ONE, T0, Bench, Scripted, claimed, insert

AWAY = Retry("away")


def one_by_one(engine: Engine) -> Bench:
    return Bench(engine, Scripted(ONE_BY_ONE))


def in_order(engine: Engine) -> Bench:
    return Bench(engine, Scripted(IN_ORDER, "stream"))


# -- delivering --------------------------------------------------------------------------------------------


def test_what_is_delivered_is_deleted(engine: Engine) -> None:
    bench = one_by_one(engine)
    ids = bench.waiting("a", "b", "a")
    bench.run(1)

    assert sorted(bench.destination.taken) == ids
    assert bench.left() == []
    assert (bench.loop.depth, bench.loop.state.delivered, bench.loop.state.attempts) == (0, 3, 3)


def test_messages_of_other_destinations_are_left_alone(engine: Engine) -> None:
    bench = one_by_one(engine)
    insert(engine, "a", "stream")
    bench.run(1)

    assert bench.destination.tried == []
    assert bench.loop.depth == 0


def test_in_order_batches_are_as_large_as_the_destination_takes(engine: Engine) -> None:
    bench = in_order(engine)
    ids = bench.waiting("a", "b", "a", "b")
    bench.run(1)

    assert bench.destination.tried == [ids[:3], ids[3:]]


def test_who_does_not_own_the_store_delivers_nothing(engine: Engine) -> None:
    bench = one_by_one(engine)
    ids = bench.waiting("a")
    claimed(engine, "other")
    bench.step()
    bench.step(MAX_AGE_S + 10)

    assert bench.destination.tried == []
    assert bench.left() == ids


def test_an_owner_that_is_fenced_while_it_sends_deletes_nothing(engine: Engine) -> None:
    """The new owner sends it again, and readers know it by its id."""

    class Slow(Scripted):
        def deliver(self, messages: Sequence[OutboxMessage], now: int) -> DeliveryResult:
            claimed(engine, "other")
            return super().deliver(messages, now)

    bench = Bench(engine, Slow())
    ids = bench.waiting("a")
    bench.step()

    assert bench.destination.taken == ids
    assert bench.left() == ids


def test_who_is_fenced_between_two_messages_sends_no_more_of_them(engine: Engine) -> None:
    class Slow(Scripted):
        def deliver(self, messages: Sequence[OutboxMessage], now: int) -> DeliveryResult:
            claimed(engine, "other")
            return super().deliver(messages, now)

    bench = Bench(engine, Slow())
    ids = bench.waiting("a", "b", "c")
    bench.step()

    assert bench.destination.taken == ids[:1]
    assert bench.left() == ids
    assert bench.reports == []


def test_what_has_waited_while_no_daemon_ran_is_tried_before_it_is_given_up(engine: Engine) -> None:
    bench = one_by_one(engine)
    ids = bench.waiting("a", "b", "c", created_at=T0 - round(10_000 * MAX_AGE_S))
    bench.run(30)

    assert bench.destination.taken == ids
    assert bench.reports == []


def test_a_database_that_is_away_is_no_fault_of_a_webhook(engine: Engine) -> None:
    bench = one_by_one(engine)
    bench.waiting("a")
    with engine.begin() as c:
        c.execute(sa.text("ALTER TABLE outbox RENAME TO away"))
    bench.run(60)
    with engine.begin() as c:
        c.execute(sa.text("ALTER TABLE away RENAME TO outbox"))
    bench.run(2)

    assert (bench.loop.state.failing, bench.loop.state.failures, bench.loop.state.delivered) == (False, 0, 1)


# -- failing -----------------------------------------------------------------------------------------------


def test_in_order_a_failure_holds_everything(engine: Engine) -> None:
    bench = in_order(engine)
    ids = bench.waiting("a", "b", "c", "d")
    bench.destination.results.extend([Retry("away", done=1), AWAY])
    bench.run(5)

    assert bench.destination.tried == [ids[:3], ids[1:], ids[1:]]
    assert bench.destination.taken == ids


def test_one_by_one_a_failure_holds_its_own_key_only(engine: Engine) -> None:
    bench = one_by_one(engine)
    a1, b1, a2, b2 = bench.waiting("a", "b", "a", "b")
    bench.destination.refuse[b"a"] = AWAY
    bench.run(70)

    assert bench.destination.taken == [b1, b2]
    bench.destination.refuse.clear()
    bench.run(120)
    assert bench.destination.taken == [b1, b2, a1, a2]


def test_messages_that_always_fail_keep_no_others_waiting(engine: Engine) -> None:
    bench = one_by_one(engine)
    bench.waiting("a", "b", "c")
    bench.destination.refuse = dict.fromkeys((b"a", b"b", b"c"), AWAY)
    bench.run(400)
    started = bench.time.passed_s
    (healthy,) = bench.waiting("healthy")
    while healthy not in bench.destination.taken:
        bench.run(1)

    assert bench.time.passed_s - started <= max(ONE_BY_ONE.backoff_s)


def test_an_attempt_that_failed_is_on_record(engine: Engine) -> None:
    bench = one_by_one(engine)
    bench.waiting("a")
    bench.destination.results.extend([AWAY, Retry("worse")])
    bench.step()
    bench.step(1.0)

    with engine.connect() as c:
        row = c.execute(sa.select(t.outbox)).one()
    assert (row.attempts, row.last_error, row.next_at) == (2, "worse", T0 + 6_000)


def test_attempts_become_rare_and_are_not_made_earlier_after_a_restart(engine: Engine) -> None:
    bench = one_by_one(engine)
    ids = bench.waiting("a")
    bench.destination.refuse[b"a"] = AWAY
    bench.run(20)
    before = len(bench.destination.tried)
    again = Bench(engine, bench.destination, bench.time)
    again.run(45)

    assert before == len(bench.destination.tried) == 3  # at 0, 1 and 6 seconds; then after 60
    again.run(10)
    assert bench.destination.tried == [ids] * 4


def test_a_destination_that_asks_for_time_is_left_alone(engine: Engine) -> None:
    """All of it, not only the message that was answered so."""
    bench = one_by_one(engine)
    bench.waiting("a", "b")
    bench.destination.results.append(Retry("slow down", after_s=300.0))
    bench.run(299)

    assert len(bench.destination.tried) == 1
    bench.run(2)
    assert len(bench.destination.taken) == 2


def test_failing_and_recovery_are_said_once(engine: Engine) -> None:
    bench = one_by_one(engine)
    bench.waiting("a")
    bench.destination.results.extend([AWAY] * 5)
    with capture_logs() as logs:
        bench.run(1)
        failing = (bench.loop.state.failing, bench.loop.state.last_error)
        bench.run(300)

    assert failing == (True, "away")
    assert not bench.loop.state.failing
    assert [line["event"] for line in logs] == ["relay.failing", "relay.recovered"]
    assert {line["destination"] for line in logs} == {"pager"}


def test_an_error_that_nobody_thought_of_is_a_failure_of_its_message(engine: Engine) -> None:
    bench = one_by_one(engine)
    a, b = bench.waiting("a", "b")
    bench.destination.results.append(ValueError("nobody thought of this"))
    with capture_logs() as logs:
        bench.run(60)

    assert bench.destination.taken == [b, a]
    assert logs[0]["event"] == "relay.unexpected"


# -- giving up ---------------------------------------------------------------------------------------------


def test_a_refused_message_is_given_up_and_the_next_one_goes_on(engine: Engine) -> None:
    bench = one_by_one(engine)
    _, second = bench.waiting("a", "a")
    bench.destination.results.append(Rejected("answered 400 Bad Request"))
    bench.run(1)

    assert bench.destination.taken == [second]
    assert bench.loop.state.given_up[GivenUp.REJECTED] == 1
    assert bench.reports == ["1 message was given up (rejected): answered 400 Bad Request", None]


def test_what_is_too_old_is_given_up(engine: Engine) -> None:
    """Also in the middle of a pause."""
    bench = one_by_one(engine)
    bench.destination.refuse[b"a"] = Retry("away", after_s=3_600.0)
    bench.waiting("a", "a")
    bench.run(MAX_AGE_S - 60)
    assert len(bench.left()) == 2
    bench.run(120)

    assert bench.left() == []
    assert bench.loop.state.given_up[GivenUp.EXPIRED] == 2
    assert bench.reports == ["2 messages were given up (expired): away"]
    assert bench.loop.depth == 0


def test_of_too_many_messages_the_oldest_are_given_up(engine: Engine) -> None:
    bench = one_by_one(engine)
    bench.destination.refuse[b"a"] = AWAY
    ids = bench.waiting(*["a"] * 60)
    bench.run(10)

    assert bench.left() == ids[10:]
    assert bench.loop.state.given_up[GivenUp.OVERFLOW] == 10


def test_a_closed_destination_is_not_asked_again(engine: Engine) -> None:
    """Until the store is owned anew, as after a restart."""
    bench = one_by_one(engine)
    bench.waiting("a", "b", "c")
    bench.destination.results.append(Rejected("answered 410 Gone", closed=True))
    bench.run(30)
    bench.waiting("d")
    bench.run(30)

    assert len(bench.destination.tried) == 1
    assert bench.left() == []
    assert bench.loop.state.given_up[GivenUp.CLOSED] == 3
    bench.epoch = claimed(engine)
    ids = bench.waiting("e")
    bench.run(30)
    assert bench.destination.taken == ids


def test_in_order_nothing_is_ever_given_up(engine: Engine) -> None:
    bench = in_order(engine)
    ids = bench.waiting("a", "b", created_at=0)
    bench.destination.results.extend([AWAY] * 100)
    bench.run(90)

    assert bench.left() == ids
    assert bench.reports == []


def test_a_report_that_it_takes_messages_again_follows_trouble_only(engine: Engine) -> None:
    bench = one_by_one(engine)
    bench.waiting("a", "b")
    bench.destination.results.append(AWAY)
    bench.run(60)

    assert len(bench.destination.taken) == 2
    assert bench.reports == []


# -- counting ----------------------------------------------------------------------------------------------


def test_a_commit_counts_before_it_is_looked_at(engine: Engine) -> None:
    bench = in_order(engine)
    bench.waiting("a", "b")
    bench.loop.committed(2)
    assert bench.loop.depth == 2

    bench.destination.results.append(AWAY)
    bench.step()
    assert bench.loop.depth == 2
    bench.run(5)
    assert bench.loop.depth == 0
