"""The delivery of one destination's messages, with its attempts, pauses and limits.

Shell. `DeliveryLoop.step` does one pass and says when the next one is due; it neither sleeps nor knows of threads, and
asks only the clocks that it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import structlog
from sqlalchemy.engine import Engine

from monitor.errors import DriftdError, StoreError
from monitor.publishing.backoff import Backoff, Clocks
from monitor.publishing.destinations.base import (
    Delivered,
    DeliveryResult,
    Destination,
    OutboxMessage,
    Rejected,
    Retry,
)
from monitor.publishing.heartbeat import Heartbeat
from monitor.publishing.outbox import Outbox

log = structlog.get_logger(__name__)

_LOOKED_AT: Final = 100  # rows of a destination that takes one message at a time
_AT_A_TIME: Final = 10  # messages for it in one step
IDLE_S: Final = 0.5  # until the next look at what waits
_STORE_S: Final = 1.0  # until the next look at a database that has failed
_TIDY_S: Final = 5.0  # between two looks at what is too old


class GivenUp(StrEnum):
    """Why a message is not delivered at all."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    OVERFLOW = "overflow"
    CLOSED = "closed"


@dataclass(slots=True)
class DeliveryState:
    """How a destination is doing. Counts are those of this process.

    Attributes:
        depth: Messages that wait.
        attempts: Deliveries that were tried, of one message or of a batch.
        failures: Those that failed.
        delivered: Messages that were acknowledged, repeats of firing alerts aside.
        given_up: Messages that were given up, by reason.
        failing: Whether the last attempt failed.
        last_error: Why, while it is failing.
    """

    depth: int = 0
    attempts: int = 0
    failures: int = 0
    delivered: int = 0
    given_up: dict[GivenUp, int] = field(default_factory=lambda: dict.fromkeys(GivenUp, 0))
    failing: bool = False
    last_error: str | None = None


Report = Callable[[str, str | None], None]
"""Called with a destination's name and what is wrong with it; with None when it takes messages again."""


class DeliveryLoop:
    """Delivers what waits for one destination.

    Args:
        engine: The store.
        destination: Where messages go.
        report: Told when messages are given up, and when the destination takes messages again after that.
        heartbeat: Repeats firing alerts to this destination.
        clocks: What time it is.
    """

    def __init__(
        self,
        engine: Engine,
        destination: Destination,
        report: Report = lambda name, trouble: None,
        heartbeat: Heartbeat | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.destination = destination
        self._outbox = Outbox(engine, destination.name)
        self._policy = destination.policy
        self._report, self._heartbeat, self._clocks = report, heartbeat, clocks or Clocks()
        self._counts = DeliveryState()
        self._found = 0  # messages that waited at the last look
        self._committed, self._looked = 0, 0  # messages told of by `committed`: all, and those of before that look
        self._backoff = Backoff(self._policy, self._clocks)
        self._tidy_at = 0.0
        self._has_failed = False  # in this step
        self._troubled = self._closed = False
        self._epoch: int | None = None

    @property
    def depth(self) -> int:
        """Messages that wait: a commit counts at once, before they are looked at."""
        return self._found + self._committed - self._looked

    @property
    def state(self) -> DeliveryState:
        """How the destination is doing."""
        self._counts.depth = self.depth
        return self._counts

    def committed(self, messages: int) -> None:
        """Take note that so many messages were committed."""
        self._committed += messages

    def hurry(self) -> None:
        """Wait only shortly after a failure from now on: the process is about to end."""
        self._backoff.hurry()

    def step(self, epoch: int | None) -> float:
        """Deliver once what is due.

        Args:
            epoch: The owner's epoch; None: whatever waits is delivered.

        Returns:
            After how many seconds there may be more to do; 0: at once.
        """
        self._has_failed = busy = False
        try:
            self._tidy(epoch)
            if self._backoff.left_s:
                return min(self._backoff.left_s, _TIDY_S)
            if not self._closed:
                busy = self._deliver_due(epoch)
            if not self._has_failed:
                self._repeat_firing(epoch)
            if not self._has_failed and not self._found:
                self._recovered()
        except StoreError as error:
            self._store_failed(str(error))
        except DriftdError as error:
            self._failed(str(error))
        except Exception as error:  # noqa: BLE001 - logged as what it is; the thread lives on
            self._failed(str(error) or repr(error), exc_info=True)
        if self._has_failed:
            return min(self._backoff.left_s, _TIDY_S)
        if busy:
            return 0.0
        return IDLE_S if self._found or self._policy.essential else _TIDY_S

    def drain(self) -> None:
        """Deliver everything that waits, without a second attempt.

        Raises:
            DriftdError: Something could not be delivered.
        """
        while messages := self._outbox.oldest(self._policy.batch):
            result = self._attempt(messages)
            if not isinstance(result, Delivered):
                cause = result.cause if isinstance(result, Retry) else None
                raise cause or DriftdError(f"{self.destination.name}: {result.why}")
            self._delivered(messages, None)

    # -- delivering ----------------------------------------------------------------------------------------

    def _deliver_due(self, epoch: int | None) -> bool:
        """Deliver the messages whose turn it is. Returns whether there may be more."""
        committed = self._committed
        batches = self._next_batches(epoch)
        first = len(batches[0]) if batches else 0
        all_seen = self._policy.in_order and first < self._policy.batch
        self._found = first if all_seen else self._outbox.depth()
        self._looked = committed
        for i, batch in enumerate(batches):
            if i and epoch is not None and not self._outbox.is_owned(epoch):
                return False  # another daemon owns the store now: it goes on with them
            if not self._settled(batch, self._attempt(batch), epoch):
                return False
        return bool(batches)

    def _next_batches(self, epoch: int | None) -> list[list[OutboxMessage]]:
        if self._policy.in_order:
            batch = self._outbox.oldest(self._policy.batch, epoch)
            return [batch] if batch else []
        return [[m] for m in self._outbox.due(_LOOKED_AT, self._clocks.wall_ms(), epoch)[:_AT_A_TIME]]

    def _attempt(self, messages: Sequence[OutboxMessage]) -> DeliveryResult:
        self._counts.attempts += 1
        try:
            return self.destination.deliver(messages, self._clocks.wall_ms())
        except Exception as error:  # the thread lives on, and this message does not hold others for ever
            if not self._counts.failing:
                log.warning("relay.unexpected", destination=self.destination.name, exc_info=True)
            return Retry(str(error) or repr(error), cause=error if isinstance(error, DriftdError) else None)

    def _settled(self, batch: Sequence[OutboxMessage], result: DeliveryResult, epoch: int | None) -> bool:
        """Note what became of messages. Returns whether the next ones may be tried at once."""
        match result:
            case Delivered():
                self._delivered(batch, epoch)
                return True
            case Retry():
                self._delivered(batch[: result.done], epoch)
                self._failed(result.why, result.after_s)
                # In order, the first one holds the others: theirs need no note.
                failed = batch[result.done :]
                self._postpone(failed[:1] if self._policy.in_order else failed, result, epoch)
                return False
            case Rejected():
                self._delivered(batch[: result.done], epoch)
                self._counts.failures += 1
                refused = batch[result.done : result.done + 1]
                self._outbox.remove(refused, epoch)
                self._found -= len(refused)
                self._give_up(len(refused), GivenUp.REJECTED, result.why)
                self._closed |= result.closed
                self._tidy_at = 0.0  # what a closed destination leaves behind is given up at once
                return not result.closed

    def _delivered(self, messages: Sequence[OutboxMessage], epoch: int | None) -> None:
        if not messages:
            return
        self._outbox.remove(messages, epoch)
        self._counts.delivered += len(messages)
        self._found -= len(messages)
        self._recovered()
        if self._troubled:
            self._troubled = False
            self._report(self.destination.name, None)

    def _postpone(self, messages: Sequence[OutboxMessage], result: Retry, epoch: int | None) -> None:
        """Note a failure of messages that will be tried again."""
        next_at = 0
        if not self._policy.in_order:
            wait_s = self._backoff.of_message_s(messages[0].attempts, result.after_s)
            next_at = self._clocks.wall_ms() + round(wait_s * 1000)
        self._outbox.postpone(messages, result.why, next_at, epoch)

    def _repeat_firing(self, epoch: int | None) -> None:
        if self._heartbeat is None:
            return
        messages = self._heartbeat.due(epoch)
        for start in range(0, len(messages), self._policy.batch):
            result = self._attempt(messages[start : start + self._policy.batch])
            if not isinstance(result, Delivered):
                self._failed(result.why)
                return
        if messages:
            self._heartbeat.done()

    # -- failing and recovering ----------------------------------------------------------------------------

    def _failed(self, why: str, after_s: float | None = None, *, exc_info: bool = False) -> None:
        state = self._counts
        if not state.failing:
            log.warning("relay.failing", destination=self.destination.name, error=why, exc_info=exc_info)
        state.failing, state.last_error = True, why
        state.failures += 1
        self._has_failed = True
        self._backoff.fail(after_s)
        self.destination.close()
        self._count()

    def _store_failed(self, why: str) -> None:
        """Try again soon: that the database is away says nothing of a webhook."""
        if self._policy.essential:
            self._failed(why)
            return
        self._has_failed = True
        if not self._backoff.left_s:
            self._backoff.pause(_STORE_S)

    def _recovered(self) -> None:
        if self._backoff.failures:
            log.info("relay.recovered", destination=self.destination.name, waiting=self.depth)
        self._backoff.reset()
        self._counts.failing, self._counts.last_error = False, None

    def _count(self) -> None:
        """Look how many wait while nothing can be sent: the worker stops reading at a limit."""
        committed = self._committed
        with suppress(StoreError):
            self._found = self._outbox.depth()
            self._looked = committed

    # -- giving up -----------------------------------------------------------------------------------------

    def _tidy(self, epoch: int | None) -> None:
        """Give up what waits for too long, or is too much. What is given up is reported."""
        if epoch != self._epoch:  # as after a restart: alerts begin anew as well
            self._epoch, self._closed, self._troubled = epoch, False, False
            # What has waited while no daemon ran is tried before it is given up.
            self._tidy_at = self._clocks.monotonic() + _TIDY_S
        now = self._clocks.monotonic()
        if now < self._tidy_at:
            return
        self._tidy_at = now + _TIDY_S
        policy, error = self._policy, self._counts.last_error or "it is slow"
        if self._closed:
            self._give_up(self._outbox.give_up_all(epoch), GivenUp.CLOSED, "it wants no more messages")
        if policy.max_age_ms is not None:
            oldest = self._clocks.wall_ms() - policy.max_age_ms
            self._give_up(self._outbox.give_up_before(oldest, epoch), GivenUp.EXPIRED, error)
        if policy.limit is not None:
            self._give_up(self._outbox.give_up_beyond(policy.limit, epoch), GivenUp.OVERFLOW, error)
            self._count()

    def _give_up(self, count: int, reason: GivenUp, why: str) -> None:
        if not count:
            return
        name = self.destination.name
        self._counts.given_up[reason] += count
        self._troubled = True
        log.error("relay.given_up", destination=name, messages=count, reason=reason.value, error=why)
        messages = "1 message was" if count == 1 else f"{count} messages were"
        self._report(name, f"{messages} given up ({reason.value}): {why}")
