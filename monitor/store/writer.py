"""The owner's side of the store: the claim, and one transaction per commit.

Shell. A commit is one transaction that begins by updating the shard's row under the owner's epoch (a fencing token). A
writer whose epoch is over finds no row to update and is `Fenced`; one that does not know whether its commit succeeded
reads the sequence number back.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import sqlalchemy as sa
import zstandard
from sqlalchemy.engine import Connection, Engine

from detectors.saved import pack
from fallback.decisions import document as decision_document
from fallback.types import Decision
from monitor.alerting.records import AlertRecord, Subject
from monitor.clock import wall_ms
from monitor.errors import Fenced
from monitor.pipeline.commit import ModelCommit, OutcomeRows, PipelineCommit
from monitor.pipeline.effects import DeadLetter
from monitor.saved import damage_in
from monitor.store import reference_records
from monitor.store import tables as t
from monitor.store.ended import EndedWriter
from monitor.store.engine import database_clock, insert, translated
from monitor.store.history_rows import HistoryWriter
from monitor.store.retention import Retention
from monitor.store.rows import row_of
from monitor.store.subscriptions import STREAM_SUBSCRIPTION, MessageKind, Subscription
from monitor.stream.types import Partition

SHARD: Final = 0  # one worker owns all partitions; the column is prepared for more
OUTCOMES_MAGIC: Final = b"DRIFTOUT"
_RETENTION_EVERY: Final = 64  # commits
_compress = zstandard.ZstdCompressor(level=1).compress


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write, until another owner's claim ends it.

    Attributes:
        epoch: Number of the claim.
        hash_seed: Seed of the hashes of request ids.
        was_killed: The owner before has not given the store back.
    """

    epoch: int
    hash_seed: int
    was_killed: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets from `start` to before `stop` that were removed before they were read."""

    partition: Partition
    start: int
    stop: int


class StoreWriter:
    """Claims the store and writes commits. Used by the worker's thread only.

    Without `subscriptions` nothing is written to the outbox, for replays that publish nothing. Of requests that have
    ended about the latest `ended` are kept.
    """

    def __init__(
        self,
        engine: Engine,
        owner: str,
        retention_ms: int,
        *,
        subscriptions: Sequence[Subscription] = (STREAM_SUBSCRIPTION,),
        clock: Callable[[], int] = wall_ms,
        ended: int = 1_000_000,
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._retention = Retention(retention_ms)
        self._subscriptions = subscriptions
        self._clock = clock
        self._epoch = 0
        self._history = HistoryWriter()
        self._ended = EndedWriter(SHARD, ended, retention_ms)

    # -- owning ------------------------------------------------------------------------------------------

    def claim(self, lease_s: float, is_gone: Callable[[str], bool]) -> Claim | float:
        """Become the owner, unless the lease of another owner still holds.

        Args:
            lease_s: Time in seconds since its last commit for which an owner keeps the store.
            is_gone: Tells whether the process of an owner is known to have ended; then its lease is ignored.

        Returns:
            The claim, or the remaining time of the other owner's lease in seconds.

        Raises:
            StoreError: The database failed.
        """
        with translated(), self._engine.begin() as c:
            clock = database_clock(c)
            self._insert_missing(c, clock)
            row = c.execute(
                sa.select(
                    t.shard.c.owner, t.shard.c.epoch, t.shard.c.hash_seed, (clock - t.shard.c.updated_at).label("age")
                )
                .where(t.shard.c.id == SHARD)
                .with_for_update()
            ).one()
            with damage_in(row_of(t.shard, SHARD)):
                seed, epoch = int(row.hash_seed), int(row.epoch)
            held = row.owner is not None and row.owner != self._owner and not is_gone(row.owner)
            if held and row.age < lease_s:
                return max(lease_s - float(row.age), 0.1)
            self._epoch = epoch + 1
            c.execute(
                sa.update(t.shard)
                .where(t.shard.c.id == SHARD)
                .values(epoch=self._epoch, owner=self._owner, updated_at=clock)
            )
            return Claim(self._epoch, seed, was_killed=row.owner not in (None, self._owner))

    def _insert_missing(self, c: Connection, clock: sa.ColumnElement[float]) -> None:
        values = {
            "id": SHARD, "epoch": 0, "owner": None, "seq": 0, "updated_at": 0.0, "stream_time": -1,
            "positions": "[]", "state": "{}", "totals": "{}", "hash_seed": str(secrets.randbits(62)),
        }  # fmt: skip
        c.execute(insert(c, t.shard).values(**values).on_conflict_do_nothing())

    def release(self) -> None:
        """Give up the store, so that the next owner need not wait. No effect if another one owns it.

        Raises:
            StoreError: The database failed.
        """
        with translated(), self._engine.begin() as c:
            c.execute(
                sa.update(t.shard).where(t.shard.c.id == SHARD, t.shard.c.epoch == self._epoch).values(owner=None)
            )

    # -- committing --------------------------------------------------------------------------------------

    def commit(self, delta: PipelineCommit, *, identities: Mapping[str, str], gaps: Sequence[Gap] = ()) -> None:
        """Write a commit of the pipeline in one transaction.

        Args:
            delta: Changes since the last commit.
            identities: Ids of the topics, as of `Source.identities`.
            gaps: Offsets that were removed before they were read.

        Raises:
            Fenced: Another daemon owns the store.
            StoreError: The database failed; `is_committed` tells whether the commit succeeded.
        """
        try:
            self._commit(delta, identities, gaps)
        except BaseException:
            self._history.forget()  # the transaction's layouts may not be stored
            self._retention.reread()
            self._ended.forget()
            raise

    def _commit(self, delta: PipelineCommit, identities: Mapping[str, str], gaps: Sequence[Gap]) -> None:
        with translated(), self._engine.begin() as c:
            updated = c.execute(
                sa.update(t.shard)
                .where(t.shard.c.id == SHARD, t.shard.c.epoch == self._epoch)
                .values(
                    seq=delta.seq,
                    updated_at=database_clock(c),
                    stream_time=delta.watermark,
                    positions=_positions(delta.positions, identities),
                    state=json.dumps(delta.shard),
                    totals=json.dumps(asdict(delta.totals)),
                )
            )
            if updated.rowcount != 1:
                raise Fenced(self._epoch)
            self._write_join(c, delta)
            self._ended.write(c, delta.seq, delta.watermark, delta.join.ended)
            if delta.codes:
                c.execute(sa.insert(t.code), [asdict(entry) for entry in delta.codes])
            for model, part in delta.models.items():
                self._write_model(c, delta.seq, model, part)
            self._publish(c, delta.published, delta.dead_letters)
            for gap in gaps:
                row = {"topic": gap.partition.topic, "partition": gap.partition.number, "seq": delta.seq}
                row |= {"from_offset": gap.start, "to_offset": gap.stop}
                c.execute(insert(c, t.gap).values(**row).on_conflict_do_nothing())
            for command, result in delta.commands:
                c.execute(
                    sa.update(t.command).where(t.command.c.id == command).values(applied_seq=delta.seq, result=result)
                )
            if delta.seq % _RETENTION_EVERY == 0 and delta.watermark >= 0:
                self._retention.forget_old(c, delta.watermark)
                self._ended.forget_old(c, delta.watermark)

    def is_committed(self, seq: int) -> bool:
        """Return whether the commit with this sequence number is stored.

        Raises:
            Fenced: Another daemon owns the store.
            StoreError: The database failed.
        """
        with translated(), self._engine.begin() as c:
            row = c.execute(sa.select(t.shard.c.epoch, t.shard.c.seq).where(t.shard.c.id == SHARD)).one()
        if row.epoch != self._epoch:
            raise Fenced(self._epoch)
        return bool(row.seq >= seq)

    def _write_join(self, c: Connection, delta: PipelineCommit) -> None:
        join = delta.join
        if join.drop_segments:
            for table in (t.join_segment, t.join_alive):
                c.execute(sa.delete(table).where(table.c.shard == SHARD, table.c.id.in_(join.drop_segments)))
        if join.segment is not None:
            c.execute(sa.insert(t.join_segment), {"shard": SHARD, **asdict(join.segment)})
        for row in join.alive:
            upsert = insert(c, t.join_alive).values(shard=SHARD, **asdict(row))
            c.execute(
                upsert.on_conflict_do_update(
                    index_elements=["shard", "id"], set_={"as_of": upsert.excluded.as_of, "bits": upsert.excluded.bits}
                )
            )
        if join.drop_closed:
            c.execute(
                sa.delete(t.join_closed).where(
                    t.join_closed.c.shard == SHARD, t.join_closed.c.seq.in_(join.drop_closed)
                )
            )
        if join.closed:
            c.execute(sa.insert(t.join_closed), [{"shard": SHARD, **asdict(row)} for row in join.closed])

    def _write_model(self, c: Connection, seq: int, model: str, part: ModelCommit) -> None:
        if part.windows_reset:
            for table in (t.pane, t.outcome_log):
                c.execute(sa.delete(table).where(table.c.model == model))
        if part.fragments:
            c.execute(
                sa.insert(t.pane),
                [
                    {"model": model, "variant": f.variant, "pane": f.pane, "seq": seq, "body": _compress(f.body)}
                    for f in part.fragments
                ],
            )
        for variant, first in part.first_panes.items():
            c.execute(
                sa.delete(t.pane).where(t.pane.c.model == model, t.pane.c.variant == variant, t.pane.c.pane < first)
            )
        for rows in part.outcomes:
            if rows.everything:
                log = t.outcome_log
                c.execute(sa.delete(log).where(log.c.model == model, log.c.variant == rows.variant))
            c.execute(
                sa.insert(t.outcome_log),
                {"model": model, "variant": rows.variant, "seq": seq, "body": _outcome_body(rows)},
            )
        for subject in part.retired:
            r = t.reference
            mine = (r.c.model == model, r.c.subject == subject, r.c.state == "active")
            c.execute(sa.update(r).where(*mine).values(state="retired"))
        for subject in part.forget_learned:
            c.execute(sa.delete(t.learned).where(t.learned.c.model == model, t.learned.c.subject == subject))
        if part.learned:
            c.execute(
                sa.insert(t.learned),
                [{"model": model, "subject": s, "seq": seq, "body": body} for s, body in part.learned],
            )
        for fresh in part.references:
            r = t.reference
            c.execute(
                sa.update(r)
                .where(r.c.model == model, r.c.subject == fresh.subject, r.c.state != "retired")
                .values(state="retired")
            )
            body = fresh.profile.to_bytes()
            c.execute(
                sa.insert(r),
                {
                    "model": model, "subject": fresh.subject, "hash": fresh.profile.content_hash, "state": "active",
                    "seq": seq, "source": "", "body": body,
                },
            )  # fmt: skip
        reference_records.write(c, seq, model, part.records)
        self._history.write(c, model, part.history)
        if part.history:
            self._retention.stored(model, max(row.end for row in part.history))
        state = insert(c, t.model_state).values(model=model, seq=seq, body=json.dumps(part.state))
        c.execute(
            state.on_conflict_do_update(
                index_elements=["model"], set_={"seq": state.excluded.seq, "body": state.excluded.body}
            )
        )

    def _publish(
        self, c: Connection, published: Sequence[AlertRecord | Decision], dead_letters: Sequence[DeadLetter]
    ) -> None:
        """Write the history of alerts and decisions, and the outbox in the order of the stream."""
        outbox: list[dict[str, Any]] = []
        alerts: list[dict[str, Any]] = []
        decisions: list[dict[str, Any]] = []
        for what in published:
            if isinstance(what, Decision):
                body = _json(decision_document(what))
                decisions.append(
                    {
                        "model": what.model, "generation": what.generation, "reason": what.reason.value,
                        "issued_at": what.issued_at, "body": body,
                    }
                )  # fmt: skip
                headers = {"schema": "1", "generation": str(what.generation)}
                outbox += self._outgoing(MessageKind.DECISION, what.model, body, headers)
                continue
            body = _json(what.document())
            alerts.append(
                {
                    "event_id": what.event_id, "seq": what.seq, "fingerprint": what.subject.fingerprint,
                    "model": what.subject.model, "kind": what.subject.kind.value, "status": what.status.value,
                    "silenced": what.silenced, "issued_at": what.issued_at, "body": body,
                }
            )  # fmt: skip
            if not what.silenced:
                headers = {"schema": "1", "event_id": what.event_id, "seq": str(what.seq)}
                outbox += self._outgoing(MessageKind.ALERT, what.subject.fingerprint, body, headers, what.subject)
        for letter in dead_letters:
            key = f"{letter.partition.topic}:{letter.partition.number}:{letter.offset}"
            headers = {"reason": letter.reason.value}
            outbox += self._outgoing(MessageKind.DEAD_LETTER, key, _json(letter.document()), headers)
        for table, rows in ((t.alert, alerts), (t.decision, decisions), (t.outbox, outbox)):
            if rows:
                c.execute(sa.insert(table), rows)

    def _outgoing(
        self, kind: MessageKind, key: str, body: str, headers: Mapping[str, str], subject: Subject | None = None
    ) -> list[dict[str, Any]]:
        """Return a row of the outbox for each destination that subscribes to the message."""
        row = {
            "kind": kind.value, "key": key.encode(), "value": body.encode(), "headers": json.dumps(headers),
            "created_at": self._clock(),
        }  # fmt: skip
        return [{**row, "destination": s.destination} for s in self._subscriptions if s.wants(kind, subject)]


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _positions(positions: Mapping[Partition, int], identities: Mapping[str, str]) -> str:
    rows = [[p.topic, p.number, offset, identities.get(p.topic, "")] for p, offset in sorted(positions.items())]
    return json.dumps(rows)


def _outcome_body(rows: OutcomeRows) -> bytes:
    return _compress(pack(OUTCOMES_MAGIC, {"schema": 1, "everything": rows.everything}, rows.arrays))
