"""What has happened, as it is stored: alerts, decisions, and the silences that have not ended.

Shell, read only; works with or without a running daemon. Every function raises StoreError when the database fails.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from monitor.store import tables as t
from monitor.store.engine import snapshot
from monitor.store.rows import mapping, read_rows


def alerts(
    engine: Engine, model: str | None = None, *, since: int | None = None, most: int = 100
) -> list[dict[str, Any]]:
    """Return the latest alert records, the newest first, at most `most`; `since` ms only those issued after it."""
    a = t.alert
    wanted = (
        sa.select(a.c.event_id, a.c.seq, a.c.body, a.c.silenced)
        .order_by(a.c.issued_at.desc(), a.c.seq.desc())
        .limit(most)
    )
    if model is not None:
        wanted = wanted.where(a.c.model == model)
    if since is not None:
        wanted = wanted.where(a.c.issued_at > since)
    with snapshot(engine) as c:
        return list(read_rows(c, wanted, a, lambda row: {**mapping(row.body), "silenced": row.silenced}))


def _latest() -> sa.Select[Any]:
    """The latest record of every alert that fires."""
    a = t.alert
    latest = sa.select(a.c.fingerprint, sa.func.max(a.c.seq).label("seq")).group_by(a.c.fingerprint).subquery()
    same = sa.and_(a.c.fingerprint == latest.c.fingerprint, a.c.seq == latest.c.seq)
    return (
        sa.select(a.c.event_id, a.c.seq, a.c.fingerprint, a.c.body, a.c.silenced)
        .join(latest, same)
        .where(a.c.status == "firing")
    )


def firing_alerts(engine: Engine, model: str | None = None) -> list[dict[str, Any]]:
    """Return the latest record of every alert that fires, those that began last first."""
    wanted = _latest() if model is None else _latest().where(t.alert.c.model == model)
    with snapshot(engine) as c:
        rows = read_rows(c, wanted, t.alert, lambda row: {**mapping(row.body), "silenced": row.silenced})
        found = list(rows)
    return sorted(found, key=lambda alert: (alert["starts_at"], alert["model"], alert["version"]), reverse=True)


def firing(engine: Engine) -> list[tuple[str, bytes, str]]:
    """Return the latest record of every firing, unsilenced alert, as (fingerprint, value, event id)."""
    wanted = _latest().where(~t.alert.c.silenced)
    with snapshot(engine) as c:
        return list(read_rows(c, wanted, t.alert, lambda row: (row.fingerprint, row.body.encode(), row.event_id)))


def silences(engine: Engine, model: str | None = None) -> list[dict[str, Any]]:
    """Return the silences that have not ended, by model."""
    with snapshot(engine) as c:
        rows = read_rows(c, sa.select(t.model_state), t.model_state, lambda row: (row.model, mapping(row.body)))
        bodies = dict(rows)
    return [
        {"model": name, **silence}
        for name, body in sorted(bodies.items())
        if model in (None, name)
        for silence in body["records"]["silences"]
    ]


def decisions(
    engine: Engine, model: str | None = None, *, since: int | None = None, most: int = 100
) -> list[dict[str, Any]]:
    """Return the latest decisions, the newest first, at most `most`; `since` ms only those issued after it."""
    d = t.decision
    wanted = (
        sa.select(d.c.model, d.c.generation, d.c.body)
        .order_by(d.c.issued_at.desc(), d.c.generation.desc(), d.c.model)
        .limit(most)
    )
    if model is not None:
        wanted = wanted.where(d.c.model == model)
    if since is not None:
        wanted = wanted.where(d.c.issued_at > since)
    with snapshot(engine) as c:
        return list(read_rows(c, wanted, d, lambda row: mapping(row.body)))
