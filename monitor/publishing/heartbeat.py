"""Repeats of firing alerts, for consumers that came late or lost their state.

Shell.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sqlalchemy.engine import Engine

from monitor.publishing.destinations.base import OutboxMessage
from monitor.publishing.outbox import Outbox
from monitor.saved import damage_in
from monitor.store import record
from monitor.store.subscriptions import MessageKind


class Heartbeat:
    """Says when the last record of every firing alert is due again.

    Args:
        engine: The store.
        every_s: Time between two repeats, seconds.
        monotonic: A clock that is never set, seconds.
    """

    def __init__(self, engine: Engine, every_s: float, monotonic: Callable[[], float]) -> None:
        self._engine, self._outbox = engine, Outbox(engine)
        self._every_s, self._monotonic = every_s, monotonic
        self._due_at = monotonic() + every_s

    def due(self, epoch: int | None) -> list[OutboxMessage]:
        """Return the records to repeat now; none while it is not time, or the store is not ours.

        Args:
            epoch: The owner's epoch; None: nobody owns the store, and nothing is repeated.

        Raises:
            StoreError: The database failed.
        """
        if epoch is None or self._monotonic() < self._due_at:
            return []
        firing = []
        if self._outbox.is_owned(epoch):
            for fingerprint, body, event_id in record.firing(self._engine):
                with damage_in(f"table alert, row {event_id!r}"):
                    headers = {"schema": "1", "event_id": event_id, "seq": str(json.loads(body)["seq"])}
                firing.append(OutboxMessage(0, MessageKind.ALERT, fingerprint.encode(), body, headers))
        if not firing:
            self.done()
        return firing

    def done(self) -> None:
        """Begin to wait for the next time: what was due is delivered."""
        self._due_at = self._monotonic() + self._every_s
