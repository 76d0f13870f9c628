"""What has happened, as it is stored: alerts, decisions, and the silences that have not ended.

Shell, read only; works with or without a running daemon. Every function raises StoreError when the database fails.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Engine, Row

from monitor.alerting.numbering import Silence
from monitor.saved import from_plain
from monitor.store import tables as t
from monitor.store.engine import snapshot
from monitor.store.rows import document, mapping, read_rows, with_keys
from monitor.times import format_time

_ALERT: Final = ("starts_at", "status", "severity", "kind", "model", "version", "summary")
_DECISION: Final = ("issued_at", "model", "reason", "champion")


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
        return list(read_rows(c, wanted, a, _alert))


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
        found = list(read_rows(c, wanted, t.alert, _alert))
    return sorted(found, key=lambda alert: (alert["starts_at"], alert["model"], alert["version"]), reverse=True)


def _alert(row: Row[Any]) -> dict[str, Any]:
    return {**document(row.body, texts=_ALERT), "silenced": bool(row.silenced)}


def firing(engine: Engine) -> list[tuple[str, bytes, str]]:
    """Return the latest record of every firing, unsilenced alert, as (fingerprint, value, event id)."""
    wanted = _latest().where(~t.alert.c.silenced)
    with snapshot(engine) as c:
        return list(read_rows(c, wanted, t.alert, lambda row: (row.fingerprint, row.body.encode(), row.event_id)))


def silences(engine: Engine, model: str | None = None) -> list[dict[str, Any]]:
    """Return the silences that have not ended, by model; `until` as text."""
    with snapshot(engine) as c:
        found = dict(
            read_rows(c, sa.select(t.model_state), t.model_state, lambda row: (row.model, _silences(row.body)))
        )
    return [
        {"model": name, **silence}
        for name, silences_of in sorted(found.items())
        if model in (None, name)
        for silence in silences_of
    ]


def _silences(body: str) -> list[dict[str, Any]]:
    found = from_plain(mapping(body)["records"]["silences"], list[Silence])
    return [{**asdict(silence), "until": format_time(silence.until)} for silence in found]


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
        return list(read_rows(c, wanted, d, lambda row: _decision(row.body)))


def _decision(body: str) -> dict[str, Any]:
    found = document(body, texts=_DECISION, numbers=("generation",))
    for route in found.get("routes", ()):
        with_keys(route, texts=("version",), numbers=("weight",))
    return found
