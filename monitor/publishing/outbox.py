"""Messages that wait to be published: committed with what they follow from, gone once they are acknowledged.

Shell. Used by the relay's thread, beside the worker's. Where an epoch is given, an owner that is not the owner any
more finds nothing to send and crosses nothing off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from monitor.store import tables as t
from monitor.store.engine import translated
from monitor.store.writer import SHARD


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """One message; `kind` says which topic it is for."""

    id: int
    kind: str
    key: bytes
    value: bytes
    headers: Mapping[str, str]


class Outbox:
    """The oldest first."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def oldest(self, most: int, epoch: int | None = None) -> list[OutboxMessage]:
        """At most so many messages."""
        o = t.outbox
        with translated(), self._engine.connect() as c:
            rows = c.execute(sa.select(o).where(_owned(epoch)).order_by(o.c.id).limit(most)).all()
        return [OutboxMessage(r.id, r.kind, bytes(r.key), bytes(r.value), json.loads(r.headers)) for r in rows]

    def remove(self, sent: Sequence[OutboxMessage], epoch: int | None = None) -> None:
        """These are published."""
        if not sent:
            return
        with translated(), self._engine.begin() as c:
            mine = t.outbox.c.id.in_([message.id for message in sent])
            c.execute(sa.delete(t.outbox).where(mine, _owned(epoch)))

    def is_owned(self, epoch: int) -> bool:
        """Whether this is the epoch of the store's owner."""
        with translated(), self._engine.connect() as c:
            return bool(c.execute(sa.select(_owned(epoch))).scalar_one())

    def depth(self) -> int:
        """How many wait."""
        with translated(), self._engine.connect() as c:
            return int(c.execute(sa.select(sa.func.count()).select_from(t.outbox)).scalar_one())


def _owned(epoch: int | None) -> sa.ColumnElement[bool]:
    if epoch is None:
        return sa.true()
    return sa.exists().where(t.shard.c.id == SHARD, t.shard.c.epoch == epoch)
