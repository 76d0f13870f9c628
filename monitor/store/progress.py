"""Manual changes of the stored positions while no daemon runs.

Shell. Refused while a daemon owns the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from monitor.errors import ConfigError
from monitor.saved import damage_in
from monitor.store import tables as t
from monitor.store.engine import database_clock, insert, translated
from monitor.store.rows import row_of
from monitor.store.writer import SHARD
from monitor.stream.types import Partition

IsGone = Callable[[str], bool]


def adopt_topic(
    engine: Engine, topic: str, first: Mapping[Partition, int], identity: str, lease_s: float, is_gone: IsGone
) -> None:
    """Continue with a topic that was deleted and created again.

    Args:
        engine: The store.
        topic: Name of the topic.
        first: First offset of each of its partitions.
        identity: Its new id, as of `Source.identities`.
        lease_s: Time in seconds after which the owner of the store counts as dead.
        is_gone: Tells whether the process of an owner is known to have ended.

    Raises:
        ConfigError: A daemon owns the store.
        StoreError: The database failed.
    """
    with translated(), engine.begin() as c:
        kept = [row for row in _positions(c, lease_s, is_gone) if row[0] != topic]
        fresh: list[list[int | str]] = [[p.topic, p.number, offset, identity] for p, offset in sorted(first.items())]
        _write(c, sorted(kept + fresh))


def move_to(engine: Engine, topic: str, number: int, offset: int, lease_s: float, is_gone: IsGone) -> int | None:
    """Move the position of a partition forward, and record the skipped offsets as a gap.

    Args:
        engine: The store.
        topic: Topic of the partition.
        number: Number of the partition.
        offset: The next offset to read.
        lease_s: Time in seconds after which the owner of the store counts as dead.
        is_gone: Tells whether the process of an owner is known to have ended.

    Returns:
        The position before.

    Raises:
        ConfigError: A daemon owns the store, the partition was never read, or `offset` is before its position.
        StoreError: The database failed.
    """
    with translated(), engine.begin() as c:
        rows = _positions(c, lease_s, is_gone)
        mine = next((row for row in rows if row[:2] == [topic, number]), None)
        if mine is None:
            raise ConfigError("--skip", f"{topic}:{number}", "was never read")
        before = int(mine[2])
        if offset < before:
            hint = f"reading is at {before} already; going back would count records twice"
            raise ConfigError("--skip", offset, hint)
        mine[2] = offset
        _write(c, rows)
        gap = {"topic": topic, "partition": number, "from_offset": before, "to_offset": offset, "seq": 0}
        c.execute(insert(c, t.gap).values(**gap).on_conflict_do_nothing())
        a = t.attempt.c  # whoever goes on at the same record wants it tried again
        c.execute(sa.delete(t.attempt).where(a.shard == SHARD, a.topic == topic, a.partition == number))
        return before


def _positions(c: Connection, lease_s: float, is_gone: IsGone) -> list[list[int | str]]:
    age = (database_clock(c) - t.shard.c.updated_at).label("age")
    row = c.execute(
        sa.select(t.shard.c.owner, t.shard.c.positions, age).where(t.shard.c.id == SHARD).with_for_update()
    ).one_or_none()
    if row is None:
        return []
    if row.owner is not None and not is_gone(row.owner) and row.age < lease_s:
        raise ConfigError("store.url", None, f"is in use by {row.owner}: stop the daemon first")
    with damage_in(row_of(t.shard, SHARD)):
        found = json.loads(row.positions)
        rows: list[list[int | str]] = [
            [str(topic), int(number), int(offset), str(identity)] for topic, number, offset, identity in found
        ]
    return rows


def _write(c: Connection, rows: list[list[int | str]]) -> None:
    # A new epoch, so that a daemon that only seemed dead cannot commit its old positions afterwards.
    c.execute(
        sa.update(t.shard)
        .where(t.shard.c.id == SHARD)
        .values(positions=json.dumps(rows), epoch=t.shard.c.epoch + 1, owner=None)
    )
