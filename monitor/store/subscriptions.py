"""Which destinations want which messages: the table by which a commit fills the outbox.

Pure. The writer reads it; `monitor.publishing` has the code that delivers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from monitor.alerting.records import AlertKind, Subject

STREAM: Final = "stream"
"""The destination that is always there: the topics of alerts, decisions and dead letters."""


class MessageKind(StrEnum):
    """What a message of the outbox is."""

    ALERT = "alert"
    DECISION = "decision"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True)
class Subscription:
    """The kinds of messages that one destination wants.

    Attributes:
        destination: Name of the destination, unique in the configuration.
        kinds: What is sent to it.
    """

    destination: str
    kinds: frozenset[MessageKind]

    def wants(self, kind: MessageKind, subject: Subject | None = None) -> bool:
        """Tell whether a message goes to this destination.

        Args:
            kind: What the message is.
            subject: What an alert is about.

        Returns:
            False for other kinds, and for alerts that this destination itself does not take what is sent to it: each
            of them would be refused in turn, and be the reason for the next one. The stream gets those too.
        """
        return kind in self.kinds and (self.destination == STREAM or subject != trouble_with(self.destination))


STREAM_SUBSCRIPTION: Final = Subscription(STREAM, frozenset(MessageKind))


def trouble_with(destination: str) -> Subject:
    """Return what alerts about a destination are about."""
    return Subject("", "", AlertKind.DAEMON, f"destination {destination}")


def names(subscriptions: Iterable[Subscription]) -> frozenset[str]:
    """Return the names of the destinations."""
    return frozenset(s.destination for s in subscriptions)
