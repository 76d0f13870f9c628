"""The destinations behind one face, for the suite that holds them to the same contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from monitor.publishing.destinations.base import Destination, OutboxMessage
from monitor.publishing.destinations.stream import StreamDestination
from monitor.publishing.destinations.webhook import Webhook, WebhookSpec
from monitor.store.subscriptions import MessageKind
from tests.contracts.streams import Backend, Files, Memory
from tests.servers.receiver import KEY, Receiver


def alert(number: int, *, key: bytes = b"fingerprint") -> OutboxMessage:
    """An alert as the outbox has it."""
    value = {"event_id": "e", "seq": number, "status": "firing", "issued_at": "2026-11-21T09:31:00.000Z"}
    headers = {"schema": "1", "event_id": "e", "seq": str(number)}
    return OutboxMessage(number, MessageKind.ALERT, key, json.dumps(value, separators=(",", ":")).encode(), headers)


class End(Protocol):
    """The far end of a destination, which knows what came without the code under test."""

    def destination(self) -> Destination: ...

    def numbers(self) -> list[int]:
        """Numbers of the alerts that came, in order."""
        ...

    def outage(self) -> AbstractContextManager[None]:
        """Within it nothing can be delivered."""
        ...


class OfStream:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._topics = {kind: backend.topic() for kind in MessageKind}

    def destination(self) -> Destination:
        return StreamDestination(self._backend.sink, self._topics)

    def numbers(self) -> list[int]:
        return [json.loads(value or b"")["seq"] for value in self._backend.read(self._topics[MessageKind.ALERT])]

    def outage(self) -> AbstractContextManager[None]:
        return self._backend.outage()


class OfWebhook:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def destination(self) -> Destination:
        return Webhook(a_webhook(self._receiver.url))

    def numbers(self) -> list[int]:
        return [request.document()["data"]["seq"] for request in self._receiver.requests]

    def outage(self) -> AbstractContextManager[None]:
        return self._receiver.outage()


def a_webhook(url: str, *, keys: tuple[bytes, ...] = (KEY,), timeout_s: float = 5.0) -> WebhookSpec:
    """A webhook that wants alerts."""
    return WebhookSpec("pager", url, keys, frozenset({MessageKind.ALERT}), timeout_s, 86_400_000, 1_000)


ENDS: dict[str, Callable[[pytest.FixtureRequest], End]] = {
    "stream in memory": lambda request: OfStream(Memory()),
    "stream of files": lambda request: OfStream(Files(Path(request.getfixturevalue("tmp_path")) / "stream")),
    "webhook": lambda request: OfWebhook(request.getfixturevalue("receiver")),
}
