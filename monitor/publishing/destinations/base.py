"""What a destination promises, and what the relay promises to a destination.

Pure. `tests/contracts/test_destination.py` holds every destination to this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from monitor.errors import DriftdError
from monitor.store.subscriptions import MessageKind


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """One message for one destination.

    Attributes:
        id: Key of its row; 0 for a message that is no row, such as the repeat of a firing alert.
        kind: What it is.
        key: Messages of one key are delivered in the order of their ids: the fingerprint of an alert, the model of a
            decision, the position of a dead letter.
        value: The record, JSON in UTF-8.
        headers: What identifies the record: `event_id` and `seq` of an alert, `generation` of a decision.
        attempts: How many deliveries of it have failed.
    """

    id: int
    kind: MessageKind
    key: bytes
    value: bytes
    headers: Mapping[str, str]
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Delivered:
    """All messages are acknowledged."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The delivery failed in a way that time may heal; trying again is right.

    Attributes:
        why: For people; without secrets and without the destination's address.
        after_s: How long the destination wants to be left alone, seconds; None where it did not say.
        done: So many of the messages, the first ones, are acknowledged all the same.
        cause: The error behind it, where there is one of ours.
    """

    why: str
    after_s: float | None = None
    done: int = 0
    cause: DriftdError | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The destination refuses a message for good; sending it again would change nothing.

    Attributes:
        why: For people; without secrets and without the destination's address.
        done: So many of the messages, the first ones, are acknowledged; the next one is refused.
        closed: The destination wants no other message either.
    """

    why: str
    done: int = 0
    closed: bool = False


DeliveryResult = Delivered | Retry | Rejected


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How the relay delivers to a destination.

    Attributes:
        batch: Messages handed over at a time. With more than one they are in the order of their ids over all keys,
            and a failure holds all of them; with one, a message that fails holds only those of its key.
        backoff_s: Pauses after the first failure in a row, the second and so on, seconds; the last one repeats.
        essential: Whether reading waits while too many messages wait, and the daemon is not ready while it fails.
        max_age_ms: Messages that could not be delivered for so long are given up; None: never.
        limit: With more messages waiting the oldest are given up; None: never.
    """

    batch: int
    backoff_s: tuple[float, ...]
    essential: bool = False
    max_age_ms: int | None = None
    limit: int | None = None

    @property
    def in_order(self) -> bool:
        """Whether messages keep their order over all keys."""
        return self.batch > 1


class Destination(Protocol):
    """Where messages go. Used by one thread."""

    @property
    def name(self) -> str:
        """The name under which rows of the outbox, metrics and log lines are found."""
        ...

    @property
    def kinds(self) -> frozenset[MessageKind]:
        """What is sent to it."""
        ...

    @property
    def policy(self) -> DeliveryPolicy:
        """How the relay delivers to it."""
        ...

    def deliver(self, messages: Sequence[OutboxMessage], now: int) -> DeliveryResult:
        """Deliver messages in order; return when it is known what became of them.

        Failures that can be expected are results. After any result, and after an exception, the next call begins anew:
        it opens what it needs. Nothing to deliver is `Delivered`, without asking anybody.

        Args:
            messages: At most `policy.batch` of them.
            now: The time of day, ms.

        Returns:
            What became of them. A message that was acknowledged, but not in time, is delivered again with the same
            identity: readers know repeats.
        """
        ...

    def close(self) -> None:
        """Close connections. Idempotent; returns within five seconds also when the destination is away."""
        ...
