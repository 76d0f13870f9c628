"""The relay: what it leaves out of a message that its topic does not take, and that it never ends by itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Engine
from structlog.testing import capture_logs

from monitor.alerting.daemon import DaemonAlerts
from monitor.alerting.records import AlertStatus
from monitor.publishing.destinations.base import Delivered, DeliveryResult, OutboxMessage, Rejected, Retry
from monitor.publishing.destinations.stream import StreamDestination, shrink
from monitor.publishing.heartbeat import Heartbeat
from monitor.publishing.loop import DeliveryLoop, GivenUp
from monitor.publishing.relay import Relay
from monitor.store import record
from monitor.store import tables as t
from monitor.store.subscriptions import MessageKind, trouble_with
from monitor.stream.types import Message
from tests.monitor.publishing.scripted import IN_ORDER, Scripted, Time, claimed, insert
from tests.monitor.store.fill import a_writer, deltas, rows


def waiting(kind: str, document: dict[str, Any]) -> OutboxMessage:
    return OutboxMessage(7, MessageKind(kind), b"key", json.dumps(document).encode(), {"seq": "1"})


def test_a_dead_letter_goes_without_the_bytes_that_were_refused() -> None:
    shorter = shrink(waiting("dead_letter", {"reason": "too_large", "offset": 3, "raw": "QUJD", "truncated": False}))

    assert shorter is not None
    assert (shorter.id, shorter.key, shorter.headers) == (7, b"key", {"seq": "1"})
    assert json.loads(shorter.value) == {"reason": "too_large", "offset": 3, "raw": "", "truncated": True}


def test_an_alert_names_its_features_without_their_distributions() -> None:
    shown = {"edges": [1], "counts": [2, 3]}
    shorter = shrink(waiting("alert", {"seq": 1, "features": [{"name": "x", "reference": shown, "current": shown}]}))

    assert shorter is not None
    none: dict[str, list[int]] = {"edges": [], "counts": []}
    assert json.loads(shorter.value)["features"] == [{"name": "x", "reference": none, "current": none}]


def test_what_has_nothing_to_leave_out_is_not_cut() -> None:
    shorter = shrink(waiting("dead_letter", {"raw": "QUJD", "truncated": False}))

    assert shorter is not None
    assert shrink(shorter) is None
    assert shrink(waiting("decision", {"model": "m"})) is None
    assert shrink(waiting("alert", {"features": []})) is None


class Surprising:
    """A sink that fails once with something that is no error of ours."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.done = threading.Event()
        self._surprises = 1

    def send(self, messages: Sequence[Message]) -> None:
        if self._surprises:
            self._surprises -= 1
            raise ValueError("nobody thought of this")
        self.sent += [message.key for message in messages]
        self.done.set()

    def close(self) -> None:
        pass


def test_an_error_that_nobody_thought_of_does_not_end_it(engine: Engine) -> None:
    insert(engine, "m", "stream")
    sink = Surprising()
    relay = Relay(engine, [StreamDestination(lambda: sink, {MessageKind.DECISION: "decisions"})], 60.0)

    relay.start()
    relay.set_epoch(claimed(engine))
    assert sink.done.wait(20)
    relay.stop(5)

    assert sink.sent == [b"m"]
    assert (relay.failing, relay.depth) == (False, 0)


# -- several destinations ----------------------------------------------------------------------------------


@contextmanager
def running(relay: Relay, epoch: int) -> Iterator[Relay]:
    relay.start()
    relay.set_epoch(epoch)
    try:
        yield relay
    finally:
        relay.stop(5)


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_dead_webhook_holds_up_neither_the_stream_nor_the_worker(engine: Engine) -> None:
    stream, pager = Scripted(IN_ORDER, "stream"), Scripted()
    pager.refuse[b"a"] = Retry("away")
    for destination in (pager.name, stream.name) * 20:
        insert(engine, "a", destination)
    with running(Relay(engine, [stream, pager], 60.0), claimed(engine)) as relay:
        until(lambda: len(stream.taken) == 20 and relay.states()["pager"].failing)
        until(lambda: relay.depth == 0)

        assert (relay.failing, relay.last_error, relay.published) == (False, None, 20)
        assert relay.states()["pager"].depth == 20


def test_what_is_given_up_becomes_an_alert_that_ends_when_messages_are_taken_again(engine: Engine) -> None:
    pager, alerts = Scripted(), DaemonAlerts()
    pager.results.append(Rejected("answered 400 Bad Request"))
    insert(engine, "a", pager.name)
    with running(Relay(engine, [pager], 60.0), claimed(engine)) as relay:
        until(lambda: relay.states()["pager"].given_up[GivenUp.REJECTED] == 1)
        insert(engine, "a", pager.name)
        relay.wake(1)
        until(lambda: relay.states()["pager"].delivered == 1)
    firing, resolved = relay.reports(alerts, 1_000)

    assert (firing.status, resolved.status) == (AlertStatus.FIRING, AlertStatus.RESOLVED)
    assert firing.subject == resolved.subject == trouble_with("pager")
    assert firing.summary == "destination pager: 1 message was given up (rejected): answered 400 Bad Request"


def test_messages_for_a_webhook_that_was_taken_out_are_deleted(engine: Engine) -> None:
    """Nobody would ever send them."""
    stream = Scripted(IN_ORDER, "stream")
    for destination in ("gone", "stream", "gone"):
        insert(engine, "a", destination)
    with capture_logs() as logs, running(Relay(engine, [stream], 60.0), claimed(engine)):
        until(lambda: len(stream.taken) == 1)

    assert rows(engine, t.outbox) == []
    (line,) = [line for line in logs if line["event"] == "relay.destination_removed"]
    assert (line["destination"], line["messages"]) == ("gone", 2)


def test_the_end_does_not_wait_for_a_webhook_that_hangs(engine: Engine) -> None:
    hangs = threading.Event()

    class Hanging(Scripted):
        def deliver(self, messages: Sequence[OutboxMessage], now: int) -> DeliveryResult:
            super().deliver(messages, now)
            hangs.wait(20)
            return Delivered()

    pager, stream = Hanging(), Scripted(IN_ORDER, "stream")
    insert(engine, "a", pager.name)
    relay = Relay(engine, [stream, pager], 60.0)
    relay.start()
    relay.set_epoch(claimed(engine))
    until(lambda: bool(pager.tried))
    insert(engine, "a", "stream")
    started = time.monotonic()
    relay.stop(5)
    hangs.set()

    assert stream.taken
    assert time.monotonic() - started < 4


def test_firing_alerts_are_repeated_to_the_stream_only(engine: Engine) -> None:
    """Again and again while that fails, and then after the time that is configured."""
    writer = a_writer(engine, subscriptions=())
    for commit in deltas(3):
        writer.commit(commit, identities={})
    fires = len(record.firing(engine))
    assert fires
    time_ = Time()
    stream = Scripted(IN_ORDER, "stream")
    heartbeat = Heartbeat(engine, 300.0, time_.clocks.monotonic)
    loop = DeliveryLoop(engine, stream, heartbeat=heartbeat, clocks=time_.clocks)

    def after(seconds: float) -> int:
        time_.move(seconds)
        loop.step(1)
        return len(stream.tried)

    assert after(299) == 0
    stream.results.append(Retry("away"))
    assert after(2) == 1
    assert after(0.2) == 2
    assert after(299) == 2
    assert after(2) == 3
    assert stream.tried == [[0] * fires] * 3
