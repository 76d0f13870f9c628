"""The relay: what it leaves out of a message that its topic does not take, and that it never ends by itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from monitor.publishing.outbox import OutboxMessage
from monitor.publishing.relay import Relay, RelaySpec, shrink
from monitor.store import schema
from monitor.store import tables as t
from monitor.store.engine import connect
from monitor.store.writer import Claim, StoreWriter
from monitor.stream.types import Message


def waiting(kind: str, document: dict[str, Any]) -> OutboxMessage:
    return OutboxMessage(7, kind, b"key", json.dumps(document).encode(), {"seq": "1"})


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


def test_an_error_that_nobody_thought_of_does_not_end_it(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    schema.upgrade(engine)
    claim = StoreWriter(engine, "owner", 1).claim(0.0, lambda owner: True)
    assert isinstance(claim, Claim)
    with engine.begin() as c:
        c.execute(sa.insert(t.outbox).values(kind="decision", key=b"m", value=b"{}", headers="{}"))
    sink = Surprising()
    relay = Relay(engine, lambda: sink, RelaySpec({"decision": "decisions"}, 60.0))

    relay.start()
    relay.set_epoch(claim.epoch)
    assert sink.done.wait(20)
    relay.stop(5)

    assert sink.sent == [b"m"]
    assert (relay.failing, relay.depth) == (False, 0)
    engine.dispose()
