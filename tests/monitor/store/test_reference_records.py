"""Records of references in the store: written with their commit, kept within bounds, read with or without a daemon."""

from __future__ import annotations

from importlib.metadata import version as installed

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Engine

from monitor.errors import StoreError
from monitor.pipeline.commands import CommandName
from monitor.reference.subjects import FEATURES
from monitor.store import reference_records, schema
from monitor.store import tables as t
from monitor.store.reference_records import LATEST_PROFILES, LATEST_RECORDS, StoredRecord, records
from tests.monitor.kit import SECOND, T0, Run, a_profile
from tests.monitor.store.fill import DAY, a_watched_core, a_writer, some_events, written

LEARNED_AT = T0 + 149 * SECOND


def filled(engine: Engine, accepted: int, *, commits: int = 1) -> Run:
    """A store in which so many references were accepted after the learned one, and so many commits made since."""
    run = Run(a_watched_core())
    run.events(*some_events(0, 200))
    for i in range(accepted):
        run.command(CommandName.REFERENCE, profile=a_profile([{"x": float(j % (i + 2))} for j in range(20)]))
    for _ in range(commits):
        run.commit()
    writer = a_writer(engine)
    for delta in run.told_so_far:
        writer.commit(delta, identities={})
    return run


def of_features(engine: Engine) -> list[StoredRecord]:
    return [record for record in records(engine, "m") or () if record.subject == FEATURES]


def forget(engine: Engine, before: int) -> None:
    with engine.begin() as c:
        reference_records.forget_old(c, before)


def test_a_record_is_written_with_its_reference_and_the_release(engine: Engine) -> None:
    written(engine)

    (record,) = of_features(engine)
    assert (record.subject, record.number, record.since, record.rows) == ("features", 1, LEARNED_AT, 150)
    assert record.release == installed("driftd")
    with engine.connect() as c:
        r = t.reference
        seq, content = c.execute(sa.select(r.c.seq, r.c.hash).where(r.c.subject == FEATURES)).one()
        its = t.reference_record.c
        assert c.execute(sa.select(its.seq).where(its.subject == FEATURES)).scalar_one() == seq
    assert record.hash == content


def test_its_profile_is_that_which_was_in_force(engine: Engine) -> None:
    filled(engine, 2)

    for record in of_features(engine):
        profile = reference_records.profile_of(engine, "m", record)
        assert profile is not None
        assert (profile.content_hash, profile.rows) == (record.hash, record.rows)


def test_of_each_subject_the_latest_records_are_kept_however_old_they_are(engine: Engine) -> None:
    filled(engine, LATEST_RECORDS + 5)
    forget(engine, T0 + 1_000 * DAY)

    found = of_features(engine)
    assert [r.number for r in found] == list(range(7, LATEST_RECORDS + 7))
    assert [r.in_force for r in found] == [False] * (LATEST_RECORDS - 1) + [True]


def test_more_of_them_are_kept_within_the_retention(engine: Engine) -> None:
    filled(engine, LATEST_RECORDS + 5)
    forget(engine, T0)

    assert len(of_features(engine)) == LATEST_RECORDS + 6


def test_numbers_go_on_where_records_were_forgotten(engine: Engine) -> None:
    run = filled(engine, LATEST_RECORDS + 5)
    forget(engine, T0 + 1_000 * DAY)

    run.command(CommandName.REFERENCE, profile=a_profile([{"x": 0.5}, {"x": 1.5}]))
    a_writer(engine, "another").commit(run.told_so_far[-1], identities={})

    assert of_features(engine)[-1].number == LATEST_RECORDS + 7


def test_profiles_are_kept_for_the_latest_records_and_in_force_for_ever(engine: Engine) -> None:
    filled(engine, LATEST_PROFILES + 3)
    forget(engine, T0)

    kept = [reference_records.profile_of(engine, "m", record) is not None for record in of_features(engine)]
    assert kept == [False] * 3 + [True] * (LATEST_PROFILES + 1)


def test_they_are_forgotten_now_and_then_by_the_commits_themselves(engine: Engine) -> None:
    filled(engine, LATEST_PROFILES + 3, commits=64)

    with engine.connect() as c:
        its = t.reference.c.subject == FEATURES
        assert c.execute(sa.select(sa.func.count()).where(its)).scalar_one() == LATEST_PROFILES + 1


def test_a_store_of_an_earlier_release_has_no_records_until_a_daemon_opens_it(engine: Engine) -> None:
    config = schema.alembic_config()
    with engine.begin() as c:
        config.attributes["connection"] = c
        command.downgrade(config, "0004")
    assert records(engine, "m") is None
    schema.upgrade(engine)

    assert records(engine, "m") == []


def test_a_damaged_record_is_named(engine: Engine) -> None:
    written(engine)
    with engine.begin() as c:
        c.execute(sa.update(t.reference_record).values(detail='{"kind": "nonsense"}'))

    with pytest.raises(StoreError, match="table reference_record, row 'm' 'features' 1: "):
        records(engine, "m")
