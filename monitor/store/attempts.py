"""Attempts to read: what a process was reading when it was killed, so that the same record does not kill it for ever.

Shell. A process that is killed can write nothing any more, so where it stands is written before: at the start for each
partition, and before each record that is read alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from monitor.store import tables as t
from monitor.store.engine import translated
from monitor.store.writer import SHARD
from monitor.stream.types import Partition


@dataclass(frozen=True, slots=True)
class Attempt:
    """How often a partition was begun at one position, and what ended the process there.

    Attributes:
        position: Where reading began.
        attempts: Starts from there, with this one; all others ended without being stopped.
        suspect: Offset of the record that was read alone when the process ended; None where there was none.
        deaths: How often it ended there.
    """

    position: int
    attempts: int = 1
    suspect: int | None = None
    deaths: int = 0


class AttemptLog:
    """Keeps the attempts of one claim. Used by the worker's thread only."""

    def __init__(self, engine: Engine, epoch: int) -> None:
        """Take the store and the epoch of the claim; another owner's attempts are left alone."""
        self._engine = engine
        self._is_ours = sa.exists().where(t.shard.c.id == SHARD, t.shard.c.epoch == epoch)

    def begin(self, positions: Mapping[Partition, int], *, was_killed: bool) -> dict[Partition, Attempt]:
        """Note that reading begins.

        Args:
            positions: Offset of the next record of each partition.
            was_killed: The process before has not ended by itself.

        Returns:
            The attempts at each of these positions, with the one that begins.

        Raises:
            StoreError: The database failed.
        """
        a = t.attempt.c
        with translated(), self._engine.begin() as c:
            rows = c.execute(sa.select(t.attempt).where(a.shard == SHARD)).all()
            found = {p: Attempt(position) for p, position in positions.items()}
            for row in rows:
                partition = Partition(row.topic, row.partition)
                if partition in found:
                    found[partition] = _next(row, positions[partition], was_killed=was_killed)
            if c.execute(sa.select(self._is_ours)).scalar_one():
                c.execute(sa.delete(t.attempt).where(a.shard == SHARD))
                if found:
                    c.execute(sa.insert(t.attempt), [_row(*item) for item in found.items()])
        return found

    def note(self, partition: Partition, offset: int) -> None:
        """Note that the record at an offset is read alone, before it is.

        Raises:
            StoreError: The database failed.
        """
        a = t.attempt.c
        deaths = sa.case((a.suspect == offset, a.deaths), else_=0)
        self._update(partition, {"suspect": offset, "reading": True, "deaths": deaths})

    def settle(self, partition: Partition, *, came: bool) -> None:
        """Note that the process outlived what it noted last.

        Args:
            partition: Its partition.
            came: A record came; else there was none to be read yet, and nothing is known of it.

        Raises:
            StoreError: The database failed.
        """
        self._update(partition, {"reading": False} | ({"deaths": 0} if came else {}))

    def _update(self, partition: Partition, values: dict[str, object]) -> None:
        a = t.attempt.c
        mine = (a.shard == SHARD, a.topic == partition.topic, a.partition == partition.number)
        with translated(), self._engine.begin() as c:
            c.execute(sa.update(t.attempt).where(*mine, self._is_ours).values(values))


def _next(row: sa.Row[Any], position: int, *, was_killed: bool) -> Attempt:
    """Return the attempt that follows another one."""
    attempts = row.attempts + 1 if was_killed and row.position == position else 1
    if row.suspect is None or row.suspect < position:
        return Attempt(position, attempts)
    return Attempt(position, attempts, row.suspect, row.deaths + int(was_killed and row.reading))


def _row(partition: Partition, attempt: Attempt) -> dict[str, object]:
    return {
        "shard": SHARD,
        "topic": partition.topic,
        "partition": partition.number,
        "position": attempt.position,
        "attempts": attempt.attempts,
        "suspect": attempt.suspect,
        "reading": False,
        "deaths": attempt.deaths,
    }
