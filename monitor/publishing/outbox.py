"""The messages that wait for one destination.

Shell. A message is committed together with the state it follows from, and deleted once the destination has
acknowledged it. Used by the destination's thread, beside the worker's. Where an epoch is given, a process that does not
own the store any more finds nothing to send and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine, Row

from monitor.publishing.destinations.base import OutboxMessage
from monitor.store import tables as t
from monitor.store.engine import translated
from monitor.store.rows import read_rows
from monitor.store.subscriptions import STREAM, MessageKind
from monitor.store.writer import SHARD

_o = t.outbox


class Outbox:
    """The rows of one destination, the oldest first. Every method may raise `StoreError`."""

    def __init__(self, engine: Engine, destination: str = STREAM) -> None:
        self._engine, self._destination = engine, destination
        self._mine = _o.c.destination == destination

    def oldest(self, most: int, epoch: int | None = None) -> list[OutboxMessage]:
        """Return the oldest messages.

        Args:
            most: How many at most.
            epoch: The owner's epoch.
        """
        return self._select(most, epoch)

    def due(self, most: int, now: int, epoch: int | None = None) -> list[OutboxMessage]:
        """Return the oldest messages whose turn has come, at most one of each key.

        A message that waits for its next attempt holds those of its key.

        Args:
            most: How many rows are looked at.
            now: The time of day, ms.
            epoch: The owner's epoch.

        Returns:
            Those first that have failed least often, so that messages that always fail keep no others waiting.
        """
        waiting = _o.alias()
        held = sa.select(waiting.c.key).where(waiting.c.destination == self._destination, waiting.c.next_at > now)
        heads: dict[bytes, OutboxMessage] = {}
        for message in self._select(most, epoch, _o.c.key.not_in(held)):
            heads.setdefault(message.key, message)
        return sorted(heads.values(), key=lambda m: (m.attempts, m.id))

    def _select(self, most: int, epoch: int | None, *more: sa.ColumnElement[bool]) -> list[OutboxMessage]:
        wanted = sa.select(_o).where(self._mine, _owned(epoch), *more).order_by(_o.c.id).limit(most)
        with translated(), self._engine.connect() as c:
            return list(read_rows(c, wanted, _o, _message))

    def remove(self, sent: Sequence[OutboxMessage], epoch: int | None = None) -> None:
        """Delete messages that were delivered or given up."""
        if not sent:
            return
        with translated(), self._engine.begin() as c:
            c.execute(sa.delete(_o).where(_o.c.id.in_([message.id for message in sent]), _owned(epoch)))

    def postpone(self, failed: Sequence[OutboxMessage], error: str, next_at: int = 0, epoch: int | None = None) -> None:
        """Note that an attempt has failed.

        Args:
            failed: The messages of the attempt.
            error: What went wrong.
            next_at: When they may be tried again, ms.
            epoch: The owner's epoch.
        """
        values = {"attempts": _o.c.attempts + 1, "next_at": next_at, "last_error": error}
        with translated(), self._engine.begin() as c:
            c.execute(sa.update(_o).where(_o.c.id.in_([m.id for m in failed]), _owned(epoch)).values(values))

    def give_up_before(self, created_at: int, epoch: int | None = None) -> int:
        """Delete messages that were committed before a time of day, ms. Returns how many."""
        return self._give_up(_o.c.created_at < created_at, epoch)

    def give_up_beyond(self, limit: int, epoch: int | None = None) -> int:
        """Delete the oldest messages beyond so many. Returns how many."""
        newest = sa.select(_o.c.id).where(self._mine).order_by(_o.c.id.desc()).offset(limit).limit(1)
        return self._give_up(_o.c.id <= newest.scalar_subquery(), epoch)

    def give_up_all(self, epoch: int | None = None) -> int:
        """Delete all messages. Returns how many."""
        return self._give_up(sa.true(), epoch)

    def _give_up(self, which: sa.ColumnElement[bool], epoch: int | None) -> int:
        with translated(), self._engine.begin() as c:
            return c.execute(sa.delete(_o).where(self._mine, which, _owned(epoch))).rowcount

    def is_owned(self, epoch: int) -> bool:
        """Tell whether this is the epoch of the store's owner."""
        with translated(), self._engine.connect() as c:
            return bool(c.execute(sa.select(_owned(epoch))).scalar_one())

    def depth(self) -> int:
        """Return how many messages wait."""
        with translated(), self._engine.connect() as c:
            return int(c.execute(sa.select(sa.func.count()).select_from(_o).where(self._mine)).scalar_one())


def _message(r: Row[Any]) -> OutboxMessage:
    headers = dict(json.loads(r.headers))
    return OutboxMessage(r.id, MessageKind(r.kind), bytes(r.key), bytes(r.value), headers, r.attempts)


def remove_others(engine: Engine, destinations: Collection[str], epoch: int) -> dict[str, int]:
    """Delete messages for destinations that are not configured any more.

    Args:
        engine: The store.
        destinations: Names of those that are.
        epoch: The owner's epoch.

    Returns:
        How many messages were deleted, by destination.

    Raises:
        StoreError: The database failed.
    """
    others = _o.c.destination.not_in(list(destinations))
    counted = sa.select(_o.c.destination, sa.func.count()).where(others, _owned(epoch)).group_by(_o.c.destination)
    with translated(), engine.begin() as c:
        found = {name: int(count) for name, count in c.execute(counted)}
        if found:
            c.execute(sa.delete(_o).where(others, _owned(epoch)))
        return found


def _owned(epoch: int | None) -> sa.ColumnElement[bool]:
    if epoch is None:
        return sa.true()
    return sa.exists().where(t.shard.c.id == SHARD, t.shard.c.epoch == epoch)
