"""The stream as a destination: a topic each for alerts, decisions and dead letters.

Shell. A message that is too large for its topic goes alone, and without what can be missed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from monitor.errors import DriftdError, MessageTooLarge, StreamError
from monitor.publishing.destinations.base import Delivered, DeliveryPolicy, DeliveryResult, OutboxMessage, Retry
from monitor.store.subscriptions import STREAM, MessageKind
from monitor.stream.types import Message, Sink
from monitor.times import format_time

log = structlog.get_logger(__name__)

_POLICY: Final = DeliveryPolicy(batch=500, backoff_s=(0.2, 0.5, 1.0, 2.0), essential=True)

_SMALL: Final = 512  # bytes: a topic that refuses so little refuses everything, and nothing is gained by shrinking


class StreamDestination:
    """Delivers to the topics of the stream.

    Args:
        open_sink: Opens a sink; may raise `DriftdError`.
        topics: The topic of each kind of message.
    """

    name = STREAM
    kinds = frozenset(MessageKind)
    policy = _POLICY

    def __init__(self, open_sink: Callable[[], Sink], topics: Mapping[MessageKind, str]) -> None:
        self._open_sink = open_sink
        self._topics = topics
        self._sink: Sink | None = None

    def deliver(self, messages: Sequence[OutboxMessage], now: int) -> DeliveryResult:
        """Publish messages; `now` becomes their `published_at`."""
        try:
            self._send([self._message(m, now) for m in messages])
        except MessageTooLarge:
            return self._deliver_one_by_one(messages, now)
        except DriftdError as error:
            return Retry(str(error), cause=error)
        return Delivered()

    def close(self) -> None:
        """Close the sink. The next delivery opens another one."""
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.close()
            except StreamError as error:
                log.debug("relay.close_failed", destination=self.name, error=str(error))

    def _deliver_one_by_one(self, messages: Sequence[OutboxMessage], now: int) -> DeliveryResult:
        """Publish each message alone: what is too large for a topic together may not be so apart."""
        for done, m in enumerate(messages):
            try:
                self._send_or_shrink(m, now)
            except DriftdError as error:
                return Retry(str(error), done=done, cause=error)
        return Delivered()

    def _send_or_shrink(self, m: OutboxMessage, now: int) -> None:
        try:
            self._send([self._message(m, now)])
        except MessageTooLarge as error:
            shorter = shrink(m) if len(m.value) > _SMALL else None
            if shorter is None:
                raise
            log.warning("relay.cut", kind=m.kind.value, key=m.key.decode(), bytes=len(m.value), error=str(error))
            self._send([self._message(shorter, now)])

    def _message(self, m: OutboxMessage, now: int) -> Message:
        value = m.value if m.kind is MessageKind.DEAD_LETTER else with_published_at(m.value, now)
        return Message(self._topics[m.kind], m.key, value, {k: v.encode() for k, v in m.headers.items()})

    def _send(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        if self._sink is None:
            self._sink = self._open_sink()
        self._sink.send(messages)


def with_published_at(value: bytes, now: int) -> bytes:
    """Return a record with the time of its publication, the only field in which two copies may differ.

    Args:
        value: A JSON object that is not empty.
        now: The time of day, ms.
    """
    return value[:-1] + b',"published_at":"' + format_time(now).encode() + b'"}'


def shrink(message: OutboxMessage) -> OutboxMessage | None:
    """Return a message without its least important part.

    Returns:
        A dead letter without the refused bytes, an alert without distributions; None where nothing can be left out.
    """
    document: dict[str, Any] = json.loads(message.value)
    if document.get("raw"):
        document |= {"raw": "", "truncated": True}
    elif any(feature["reference"]["counts"] for feature in document.get("features", ())):
        none: dict[str, list[object]] = {"edges": [], "counts": []}
        document["features"] = [{**feature, "reference": none, "current": none} for feature in document["features"]]
    else:
        return None
    return replace(message, value=json.dumps(document, separators=(",", ":")).encode())
