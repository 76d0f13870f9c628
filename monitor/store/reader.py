"""Queries of the store: the state to resume from, and answers for people and scripts.

Shell, read only. The first half is for the owner at its start; the rest works with or without a running daemon. Every
function raises StoreError when the database fails.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
import zstandard
from numpy.typing import NDArray
from sqlalchemy.engine import Connection, Engine, Row

from detectors.reference import Profile
from detectors.saved import unpack
from monitor.clock import wall_ms
from monitor.errors import StoreError
from monitor.events.codes import Entry
from monitor.join.ended import EndedRequests
from monitor.join.log import AliveRow, ClosedRow, SegmentRow
from monitor.pipeline.commit import ModelSnapshot, Snapshot
from monitor.pipeline.saved_states import read_shard
from monitor.pipeline.shown import opened
from monitor.pipeline.status import Totals, document
from monitor.saved import damage_in
from monitor.store import tables as t
from monitor.store.ended import decode, places_of
from monitor.store.engine import LEASE_S, snapshot
from monitor.store.owner import end_of
from monitor.store.rows import mapping, read_rows, row_of, with_keys
from monitor.store.subscriptions import STREAM
from monitor.store.writer import OUTCOMES_MAGIC, SHARD
from monitor.stream.types import Partition
from monitor.times import format_time

_decompress = zstandard.ZstdDecompressor().decompress


# -- the owner's start -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredProgress:
    """The next offset of each partition, and the ids of the topics that the offsets belong to."""

    positions: Mapping[Partition, int]
    identities: Mapping[str, str]


def load(engine: Engine, moved: Callable[[], None] = lambda: None) -> tuple[Snapshot, StoredProgress] | None:
    """Load the committed state of the pipeline and its progress; None before the first commit.

    Args:
        engine: The store.
        moved: Called for each row that was read.

    Raises:
        StoreError: The stored data are damaged.
    """
    with snapshot(engine) as c:
        row = _shard(c)
        if row is None or row.seq == 0:
            return None
        with damage_in(row_of(t.shard, SHARD)):
            shard, totals, positions = mapping(row.state), mapping(row.totals), json.loads(row.positions)
            progress = StoredProgress(
                {Partition(topic, int(number)): int(offset) for topic, number, offset, _ in positions},
                {topic: identity for topic, _, _, identity in positions},
            )
        segments, alive, closed = t.join_segment, t.join_alive, t.join_closed
        states = dict(
            read_rows(c, sa.select(t.model_state), t.model_state, lambda s: (s.model, mapping(s.body)), moved)
        )
        stored = Snapshot(
            seq=row.seq,
            shard=shard,
            totals=totals,
            segments=list(
                read_rows(
                    c,
                    sa.select(segments).where(segments.c.shard == SHARD),
                    segments,
                    lambda s: SegmentRow(s.id, s.rows, s.min_time, s.max_time, bytes(s.body)),
                    moved,
                )
            ),
            alive=list(
                read_rows(
                    c,
                    sa.select(alive).where(alive.c.shard == SHARD),
                    alive,
                    lambda a: AliveRow(a.id, a.as_of, bytes(a.bits)),
                    moved,
                )
            ),
            closed=list(
                read_rows(
                    c,
                    sa.select(closed).where(closed.c.shard == SHARD),
                    closed,
                    lambda k: ClosedRow(k.seq, k.generation, k.clock, bytes(k.body)),
                    moved,
                )
            ),
            codes=list(
                read_rows(
                    c, sa.select(t.code), t.code, lambda e: Entry(e.model, e.kind, int(e.code), str(e.text)), moved
                )
            ),
            models={model: _model(c, model, state, moved) for model, state in states.items()},
        )
        return stored, progress


def _shard(c: Connection) -> Row[Any] | None:
    return next(read_rows(c, sa.select(t.shard).where(t.shard.c.id == SHARD), t.shard, _checked), None)


def _checked(row: Row[Any]) -> Row[Any]:
    """Return the row of the shard whose numbers are numbers: SQLite stores whatever it is given."""
    with_keys(dict(row._mapping), numbers=("seq", "epoch", "stream_time"))
    if row.stream_time >= 0:
        format_time(row.stream_time)
    return row


def _model(c: Connection, model: str, state: Mapping[str, Any], moved: Callable[[], None]) -> ModelSnapshot:
    panes: dict[tuple[int, int], list[bytes]] = {}
    wanted = sa.select(t.pane).where(t.pane.c.model == model).order_by(t.pane.c.variant, t.pane.c.pane, t.pane.c.seq)
    for key, fragment in read_rows(
        c, wanted, t.pane, lambda p: ((p.variant, p.pane), _decompress(bytes(p.body))), moved
    ):
        panes.setdefault(key, []).append(fragment)
    outcomes: dict[int, list[dict[str, NDArray[Any]]]] = {}
    log = t.outcome_log
    wanted = sa.select(log).where(log.c.model == model).order_by(log.c.variant, log.c.seq)
    for variant, arrays in read_rows(c, wanted, log, lambda o: (o.variant, _outcomes(o.body)), moved):
        outcomes.setdefault(variant, []).append(arrays)
    learned: dict[str, list[bytes]] = {}
    wanted = sa.select(t.learned).where(t.learned.c.model == model).order_by(t.learned.c.seq)
    for subject, body in read_rows(c, wanted, t.learned, lambda row: (row.subject, bytes(row.body)), moved):
        learned.setdefault(subject, []).append(body)
    wanted = sa.select(t.reference).where(t.reference.c.model == model, t.reference.c.state == "active")
    references = dict(
        read_rows(c, wanted, t.reference, lambda r: (r.subject, Profile.from_bytes(bytes(r.body))), moved)
    )
    return ModelSnapshot(state, panes, outcomes, references, learned)


def _outcomes(body: bytes) -> dict[str, NDArray[Any]]:
    return unpack(OUTCOMES_MAGIC, _decompress(bytes(body)))[1]


def configured_references(engine: Engine) -> dict[str, str | None]:
    """Return the digest of the configured reference that was activated last, by model."""
    with snapshot(engine) as c:
        wanted = sa.select(t.model_state.c.model, t.model_state.c.body)
        return dict(
            read_rows(c, wanted, t.model_state, lambda row: (row.model, mapping(row.body)["configured_reference"]))
        )


def no_daemon(engine: Engine, lease_s: float) -> str | None:
    """Return why no daemon runs, in words; None where one runs, as far as is known."""
    with snapshot(engine) as c:
        row = _shard(c)
    if row is None:
        return "no daemon runs"
    with damage_in(row_of(t.shard, SHARD)):
        return end_of(row.owner, wall_ms() / 1000 - row.updated_at, lease_s)


def owner(engine: Engine) -> str | None:
    """Return the name of the process that owns the store; None where nobody does, or there are no tables yet."""
    with snapshot(engine) as c:
        if not sa.inspect(c).has_table(t.shard.name):
            return None
        name: str | None = c.execute(sa.select(t.shard.c.owner).where(t.shard.c.id == SHARD)).scalar_one_or_none()
        return name


def name_of_store(engine: Engine) -> str:
    """Return a short name by which all daemons of a store know it, however its address is written; "" without tables.

    It is made of the seed, which is random, and does not give that away.
    """
    with snapshot(engine) as c:
        if not sa.inspect(c).has_table(t.shard.name):
            return ""
        seed = c.execute(sa.select(t.shard.c.hash_seed).where(t.shard.c.id == SHARD)).scalar_one_or_none()
    return "" if seed is None else hashlib.sha256(f"store {seed}".encode()).hexdigest()[:8]


def is_empty(engine: Engine) -> bool:
    """Return whether nothing was ever committed."""
    with snapshot(engine) as c:
        seq = c.execute(sa.select(t.shard.c.seq).where(t.shard.c.id == SHARD)).scalar_one_or_none()
    return not seq


# -- questions -------------------------------------------------------------------------------------------


def status(engine: Engine, lease_s: float = LEASE_S) -> dict[str, Any] | None:
    """Return the status document as of the last commit; None before the first.

    Args:
        engine: The store.
        lease_s: Time in seconds after which an owner of another host counts as dead.
    """
    with snapshot(engine) as c:
        row = _shard(c)
        if row is None or row.seq == 0:
            return None
        models = dict(read_rows(c, sa.select(t.model_state), t.model_state, lambda s: (s.model, mapping(s.body))))
        waiting = _destinations(c)
    wall = wall_ms()
    with damage_in(row_of(t.shard, SHARD)):
        totals, about = Totals(**mapping(row.totals)), _about(row, waiting, wall, lease_s)
        daemon = read_shard(mapping(row.state)).daemon.firing
        document(totals, {}, daemon, wall)
    return {**_document(totals, models, daemon, wall), **about}


def _document(totals: Totals, models: Mapping[str, Any], daemon: Mapping[str, int], wall: int) -> dict[str, Any]:
    """Return what the states of models come to; of a damaged one, name the row."""
    try:
        with damage_in(row_of(t.model_state)):
            return opened(document(totals, models, daemon, wall))
    except StoreError:
        for name, state in models.items():
            with damage_in(row_of(t.model_state, name)):
                opened(document(Totals(), {name: state}))
        raise


def _about(row: Row[Any], waiting: Mapping[str, Mapping[str, Any]], wall: int, lease_s: float) -> dict[str, Any]:
    """Return what the row of the shard says of itself, and what waits for which destination."""
    return {
        "committed_at": format_time(round(row.updated_at * 1000)),
        "stream_time": row.stream_time,
        "commits": row.seq,
        "epoch": row.epoch,
        "owner": row.owner,
        "no_daemon": end_of(row.owner, wall / 1000 - row.updated_at, lease_s),
        "outbox": sum(d["waiting"] for d in waiting.values()),
        "destinations": waiting,
        "positions": [[topic, number, offset] for topic, number, offset, _ in json.loads(row.positions)],
    }


def _destinations(c: Connection) -> dict[str, dict[str, Any]]:
    """The destinations that messages wait for, with how many, and what was wrong at the latest attempt."""
    o = t.outbox
    if "destination" not in {column["name"] for column in sa.inspect(c).get_columns(o.name)}:
        # 0.1.0 left it, and no daemon of this release has run yet: everything is for the stream.
        waiting = c.execute(sa.select(sa.func.count()).select_from(o)).scalar_one()
        return {STREAM: {"waiting": waiting, "last_error": None}} if waiting else {}
    latest = sa.func.max(sa.case((o.c.last_error.is_not(None), o.c.id))).label("latest")
    found = sa.select(o.c.destination, sa.func.count().label("waiting"), latest).group_by(o.c.destination).subquery()
    rows = sa.select(found.c.destination, found.c.waiting, o.c.last_error)
    rows = rows.join(o, o.c.id == found.c.latest, isouter=True).order_by(found.c.destination)
    return {r.destination: {"waiting": r.waiting, "last_error": r.last_error} for r in c.execute(rows)}


def stream_time(engine: Engine) -> int:
    """Return stream time as of the last commit, ms; -1 before it is known."""
    with snapshot(engine) as c:
        row = _shard(c)
    return -1 if row is None else int(row.stream_time)


def hash_seed(engine: Engine) -> int:
    """Return the seed of the hashes of request ids; 0 before the first start."""
    with snapshot(engine) as c:
        seed = c.execute(sa.select(t.shard.c.hash_seed).where(t.shard.c.id == SHARD)).scalar_one_or_none()
    with damage_in(row_of(t.shard, SHARD)):
        return int(seed or 0)


def ended(engine: Engine, keys: NDArray[np.uint64]) -> EndedRequests:
    """Return what is stored of requests that have ended, in the order of commits.

    Args:
        engine: The store; one of an earlier release has nothing.
        keys: Keys of answers, as in `EndedRequests.key`.

    Raises:
        StoreError: A row is damaged.
    """
    e = t.ended
    with snapshot(engine) as c:
        if not sa.inspect(c).has_table(e.name):
            return EndedRequests.none()
        wanted = sa.select(e.c.seq, e.c.part, e.c.requests).where(e.c.shard == SHARD).order_by(e.c.seq, e.c.part)
        places = read_rows(c, wanted, e, lambda row: (row.seq, row.part, places_of(row.requests, keys)))
        parts = []
        for seq, part, places_in_row in [found for found in places if len(found[2])]:
            row = sa.select(e).where(e.c.shard == SHARD, e.c.seq == seq, e.c.part == part)
            parts += [its.take(places_in_row) for its in read_rows(c, row, e, lambda r: decode(r.requests, r.body))]
    return EndedRequests.concatenated(parts)


def references(engine: Engine, model: str) -> list[tuple[str, str, Profile]]:
    """Return the active and offered references of a model, as (subject, state, profile).

    Raises:
        StoreError: A reference is damaged.
    """
    r = t.reference
    wanted = sa.select(r).where(r.c.model == model, r.c.state != "retired").order_by(r.c.subject, r.c.id)
    with snapshot(engine) as c:
        try:
            return list(
                read_rows(c, wanted, r, lambda row: (row.subject, row.state, Profile.from_bytes(bytes(row.body))))
            )
        except StoreError as error:
            if error.retryable:
                raise
            hint = "or put a new reference in force"
            raise StoreError(f"a reference of {model} is damaged: {error}; {hint}", retryable=False) from error
