"""What is forgotten of the history, of alerts, of decisions and of references.

Shell. A model's records are old when they are older than the retention at the end of its newest window, not at the wall
clock: a replay of last year's data, or a model whose stream has dried up, keeps what it has to show.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store import reference_records
from monitor.store import tables as t


class Retention:
    """Deletes old rows, and remembers where the newest window of each model ends."""

    def __init__(self, kept_ms: int) -> None:
        """Prepare; `kept_ms` is how long records are kept."""
        self._kept = kept_ms
        self._newest: dict[str, int] | None = None  # by model, ms; None before it is read

    def reread(self) -> None:
        """Read the newest windows anew: the transaction that stored them may have failed."""
        self._newest = None

    def stored(self, model: str, end: int) -> None:
        """Note that a window of a model was stored that ends at `end`, ms."""
        if self._newest is not None:
            self._newest[model] = max(self._newest.get(model, end), end)

    def forget_old(self, c: Connection, stream_time: int) -> None:
        """Delete what is old, but no latest decision and no firing alert.

        Alerts and decisions that came long after a model's newest window are old by stream time: without windows for
        ever they would grow without bound. Of those the latest record of each alert stays, or an alert that has ended
        would fire again.

        Args:
            c: The transaction.
            stream_time: Stream time of the commit, ms.
        """
        if self._newest is None:
            h = t.history
            ends = c.execute(sa.select(h.c.model, sa.func.max(h.c.end_ms)).group_by(h.c.model))
            self._newest = {row[0]: row[1] for row in ends}
        newest = {model: min(end, stream_time) for model, end in self._newest.items()}
        if newest:
            self._forget_history(c, newest)
        before = stream_time - self._kept
        a = t.alert.alias("a")
        latest = sa.select(sa.func.max(a.c.seq)).where(a.c.fingerprint == t.alert.c.fingerprint).scalar_subquery()
        is_over = sa.or_(t.alert.c.status != "firing", t.alert.c.seq < latest)
        end = _end_of(t.alert, newest, stream_time)
        c.execute(
            sa.delete(t.alert).where(
                t.alert.c.issued_at < before,
                sa.or_(
                    sa.and_(t.alert.c.issued_at < end - self._kept, is_over),
                    sa.and_(t.alert.c.issued_at > end + self._kept, t.alert.c.seq < latest),
                ),
            )
        )
        d = t.decision.alias("d")
        end = _end_of(t.decision, newest, stream_time)
        c.execute(
            sa.delete(t.decision).where(
                t.decision.c.issued_at < before,
                sa.not_(t.decision.c.issued_at.between(end - self._kept, end + self._kept)),
                t.decision.c.generation
                < sa.select(sa.func.max(d.c.generation)).where(d.c.model == t.decision.c.model).scalar_subquery(),
            )
        )

        reference_records.forget_old(c, before)

    def _forget_history(self, c: Connection, newest: dict[str, int]) -> None:
        # The first condition is for the index: what is newer than that is old for no model.
        end_ms = t.history.c.end_ms
        c.execute(
            sa.delete(t.history).where(
                end_ms < max(newest.values()) - self._kept, end_ms < _end_of(t.history, newest, 0) - self._kept
            )
        )


def _end_of(table: sa.Table, newest: dict[str, int], other: int) -> sa.ColumnElement[Any]:
    """Return the expression for the end of the newest window of a row's model; `other` where it has none."""
    if not newest:
        return sa.literal(other, sa.BigInteger)
    return sa.case(
        {model: sa.literal(end, sa.BigInteger) for model, end in newest.items()},
        value=table.c.model,
        else_=sa.literal(other, sa.BigInteger),
    )
