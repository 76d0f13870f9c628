"""Which references were in force when, and where they came from: written with the commit that puts them in force.

Shell. A record stays when its profile is forgotten. Of each subject the latest ones are kept however old they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version as installed
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, Row

from detectors.reference import Profile
from monitor.reference.provenance import Origin, RecordChanges
from monitor.reference.subjects import FEATURES
from monitor.store import tables as t
from monitor.store.engine import snapshot
from monitor.store.rows import read_rows

LATEST_RECORDS: Final = 50  # of a subject, kept however old they are
LATEST_PROFILES: Final = 10  # of a subject, of those that are not in force any more


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it is stored.

    Attributes:
        subject: What it is the reference of: the features, or the answers of a version.
        number: 1, 2, … within a model and subject.
        hash: Content hash of the profile.
        rows: Rows or predictions behind it.
        first: Time of the first of them, ms; None where it is not known.
        last: Time of the last of them, ms.
        since: Stream time from which on it was in force, ms; None: from the start, or not known.
        until: Stream time up to which it was, ms; None while it is, or where that is not known.
        in_force: Whether it is.
        origin: Where it comes from.
        release: Release that put it in force; None where it is not known.
        config: Digest of the settings that it was made with; None where it is not known.
    """

    subject: str
    number: int
    hash: str
    rows: int
    first: int | None
    last: int | None
    since: int | None
    until: int | None
    in_force: bool
    origin: Origin
    release: str | None
    config: str | None


def write(c: Connection, seq: int, model: str, changes: RecordChanges) -> None:
    """Write the records of a commit that have begun, then the ends of those that have ended.

    Args:
        c: The transaction of the commit.
        seq: Number of the commit.
        model: Name of the model.
        changes: What is new.
    """
    r = t.reference_record
    for record in changes.begun:
        profile = record.profile
        c.execute(
            sa.insert(r),
            {
                "model": model, "subject": record.subject, "number": record.number, "hash": profile.content_hash,
                "rows": profile.rows, "first_ms": profile.first_ms, "last_ms": profile.last_ms,
                "since_ms": record.since, "until_ms": None, "in_force": True, "origin": record.origin.kind.value,
                "detail": msgspec.json.encode(record.origin).decode(),
                "release": None if record.config is None else installed("driftd"), "config": record.config, "seq": seq,
            },
        )  # fmt: skip
    for ended in changes.ended:
        its = (r.c.model == model, r.c.subject == ended.subject, r.c.number == ended.number)
        c.execute(sa.update(r).where(*its).values(in_force=False, until_ms=ended.until))


def forget_old(c: Connection, before: int) -> None:
    """Delete records and profiles of references that are not in force any more, but the latest ones of each subject.

    Args:
        c: The transaction of a commit.
        before: Records of references that were in force after this stream time, ms, are kept as well.
    """
    r, other = t.reference_record, t.reference_record.alias("other")
    latest = sa.select(sa.func.max(other.c.number)).where(other.c.model == r.c.model, other.c.subject == r.c.subject)
    old = sa.or_(r.c.until_ms.is_(None), r.c.until_ms < before)
    c.execute(
        sa.delete(r).where(~r.c.in_force, old, r.c.number <= latest.scalar_subquery() - LATEST_RECORDS),
    )
    p, later = t.reference, t.reference.alias("later")
    retired = sa.select(later.c.id).where(
        later.c.model == p.c.model, later.c.subject == p.c.subject, later.c.state == "retired"
    )
    oldest = retired.order_by(later.c.id.desc()).offset(LATEST_PROFILES).limit(1).scalar_subquery()
    c.execute(sa.delete(p).where(p.c.state == "retired", p.c.id <= oldest))


def records(engine: Engine, model: str) -> list[StoredRecord] | None:
    """Return the records of a model, those of its features first, by number; None where none were ever kept.

    Args:
        engine: The store.
        model: Name of the model.

    Raises:
        StoreError: The database failed, or a row is damaged.
    """
    r = t.reference_record
    wanted = sa.select(r).where(r.c.model == model).order_by(r.c.subject != FEATURES, r.c.subject, r.c.number)
    with snapshot(engine) as c:
        if not sa.inspect(c).has_table(r.name):
            return None
        return list(read_rows(c, wanted, r, _record))


def profile_of(engine: Engine, model: str, record: StoredRecord) -> Profile | None:
    """Return the profile that a record is about; None where it is not kept any more.

    Raises:
        StoreError: The database failed, or the profile is damaged.
    """
    p = t.reference
    its = (p.c.model == model, p.c.subject == record.subject, p.c.hash == record.hash)
    wanted = sa.select(p).where(*its).order_by(p.c.id.desc()).limit(1)
    with snapshot(engine) as c:
        return next(read_rows(c, wanted, p, lambda row: Profile.from_bytes(bytes(row.body))), None)


def _record(row: Row[Any]) -> StoredRecord:
    origin = msgspec.json.decode(row.detail, type=Origin)
    return StoredRecord(
        row.subject, int(row.number), row.hash, int(row.rows), row.first_ms, row.last_ms, row.since_ms, row.until_ms,
        bool(row.in_force), origin, row.release, row.config,
    )  # fmt: skip
