"""The relay: publishes what is committed, until it is acknowledged.

Shell, a thread of its own. Only committed messages are in the outbox, so nothing leaves that a crash could
undo; what was sent and not yet crossed off is sent again with the same ids. By the clock on the wall it also
repeats the last record of every alert that fires, for those who came late.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog
from sqlalchemy.engine import Engine

from monitor.clock import wall_ms
from monitor.errors import DriftdError, MessageTooLarge, StoreError, StreamError
from monitor.publishing.outbox import Outbox, OutboxMessage
from monitor.store import reader
from monitor.stream.types import Message, Sink
from monitor.times import format_time

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 500
_IDLE_S: Final = 0.5
_LAST_SEND_S: Final = 2.0  # beyond the time to drain, for what is on its way
_BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class RelaySpec:
    """Which topic each kind of message is for, and how often firing alerts are repeated."""

    topics: Mapping[str, str]
    heartbeat_s: float


def with_published_at(value: bytes, now: int) -> bytes:
    """A record with the time at which it is published: the only field in which two copies may differ."""
    return value[:-1] + b',"published_at":"' + format_time(now).encode() + b'"}'


def shrink(message: OutboxMessage) -> OutboxMessage | None:
    """A message without what can be missed: a dead letter's bytes, an alert's distributions. None: there is nothing."""
    document = json.loads(message.value)
    if document.get("raw"):
        document |= {"raw": "", "truncated": True}
    elif any(feature["reference"]["counts"] for feature in document.get("features", ())):
        none: dict[str, list[object]] = {"edges": [], "counts": []}
        document["features"] = [{**feature, "reference": none, "current": none} for feature in document["features"]]
    else:
        return None
    return replace(message, value=json.dumps(document, separators=(",", ":")).encode())


class Relay:
    """`start` it, `wake` it after a commit, `stop` it."""

    def __init__(self, engine: Engine, open_sink: Callable[[], Sink], spec: RelaySpec) -> None:
        self._engine = engine
        self._outbox = Outbox(engine)
        self._open_sink = open_sink
        self._sink: Sink | None = None
        self._spec = spec
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._epoch: int | None = None  # of the owner that we are; None: publish nothing
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._drain_until: float | None = None
        self._found = 0  # messages that waited at the last look
        self._committed, self._looked = 0, 0  # messages told of by `wake`: all, and those of before the last look
        self.published = 0
        self.failing = False
        self.last_error: str | None = None

    @property
    def depth(self) -> int:
        """Messages that wait: a commit counts at once, before they are looked at."""
        return self._found + self._committed - self._looked

    def start(self) -> None:
        """Begin; nothing is published before `set_epoch`."""
        self._thread.start()

    def set_epoch(self, epoch: int | None) -> None:
        """The store is ours under this epoch, or not ours: a daemon that was fenced publishes nothing."""
        self._epoch = epoch
        self._awake.set()

    def wake(self, messages: int) -> None:
        """So many were committed."""
        self._committed += messages
        self._awake.set()

    def stop(self, drain_s: float) -> None:
        """Publish what is left for at most `drain_s`, then end."""
        self._drain_until = time.monotonic() + drain_s
        self._stopping.set()
        self._awake.set()
        self._thread.join(drain_s + _LAST_SEND_S)
        if not self._thread.is_alive():  # else it is stuck in a call, and ends with the process
            self._close_sink()

    def drain(self) -> int:
        """Publish everything now, in the caller's thread: for a replay. -> how many. Raises `StreamError`."""
        total = 0
        while self._publish():
            total = self.published
        return total

    def close(self) -> None:
        """Of a relay that was never started."""
        self._close_sink()

    def _run(self) -> None:
        failures = 0
        beat_at = time.monotonic() + self._spec.heartbeat_s
        while True:
            try:
                epoch = self._epoch
                busy = epoch is not None and self._publish(epoch)
                if epoch is not None and time.monotonic() >= beat_at:
                    self._repeat_firing(epoch)
                    beat_at = time.monotonic() + self._spec.heartbeat_s
                if failures:
                    log.info("relay.recovered", waiting=self.depth)
                failures, self.failing, self.last_error = 0, False, None
            except Exception as error:
                if not failures:
                    unexpected = not isinstance(error, DriftdError)
                    log.warning("relay.failing", error=str(error) or repr(error), exc_info=unexpected)
                self.failing, self.last_error = True, str(error)
                busy = False
                self._close_sink()
                self._count()
                pause = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                if self._stopping.is_set():
                    time.sleep(min(pause, _BACKOFF_S[0]))
                else:
                    self._awake.wait(pause)
                failures += 1
            if self._stopping.is_set() and (not busy or time.monotonic() > (self._drain_until or 0)):
                if failures and time.monotonic() < (self._drain_until or 0):
                    continue
                return
            if not busy:
                self._awake.wait(_IDLE_S)
                self._awake.clear()

    def _publish(self, epoch: int | None = None) -> bool:
        """Send the oldest messages and cross them off. -> whether there may be more."""
        committed = self._committed
        waiting = self._outbox.oldest(_AT_ONCE, epoch)
        self._found = len(waiting) if len(waiting) < _AT_ONCE else self._outbox.depth()
        self._looked = committed
        if not waiting:
            return False
        now = wall_ms()
        try:
            self._send([self._message(m, now) for m in waiting])
        except MessageTooLarge:
            self._publish_apart(waiting, now, epoch)
        else:
            self._delete_sent(waiting, epoch)
        return True

    def _publish_apart(self, waiting: Sequence[OutboxMessage], now: int, epoch: int | None) -> None:
        """One by one: what together is too large for a topic may go apart, and what is so alone is cut."""
        for m in waiting:
            self._send_or_cut(m, now)
            self._delete_sent([m], epoch)

    def _send_or_cut(self, m: OutboxMessage, now: int) -> None:
        try:
            self._send([self._message(m, now)])
        except MessageTooLarge as error:
            shorter = shrink(m)
            if shorter is None:
                raise
            log.warning("relay.cut", kind=m.kind, key=m.key.decode(), bytes=len(m.value), error=str(error))
            self._send([self._message(shorter, now)])

    def _delete_sent(self, sent: Sequence[OutboxMessage], epoch: int | None) -> None:
        self._outbox.remove(sent, epoch)
        self.published += len(sent)
        self._found -= len(sent)

    def _message(self, m: OutboxMessage, now: int) -> Message:
        value = m.value if m.kind == "dead_letter" else with_published_at(m.value, now)
        return Message(self._spec.topics[m.kind], m.key, value, {k: v.encode() for k, v in m.headers.items()})

    def _count(self) -> None:
        """How many wait while nothing can be sent: the worker stops reading at a limit."""
        committed = self._committed
        with suppress(StoreError):
            self._found = self._outbox.depth()
            self._looked = committed

    def _repeat_firing(self, epoch: int) -> None:
        if not self._outbox.is_owned(epoch):
            return
        now = wall_ms()
        firing = []
        for fingerprint, body, event_id in reader.firing(self._engine):
            headers = {"schema": "1", "event_id": event_id, "seq": str(json.loads(body)["seq"])}
            firing.append(OutboxMessage(0, "alert", fingerprint.encode(), body, headers))
        try:
            self._send([self._message(m, now) for m in firing])
        except MessageTooLarge:
            for m in firing:
                self._send_or_cut(m, now)

    def _send(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        if self._sink is None:
            self._sink = self._open_sink()
        self._sink.send(messages)

    def _close_sink(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.close()
            except StreamError as error:
                log.debug("relay.close_failed", error=str(error))
