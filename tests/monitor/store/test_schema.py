"""The tables: made by the scripts as the code describes them, and left alone where a newer release made them."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Engine

from monitor.errors import ConfigError, SchemaTooNew, StoreError
from monitor.publishing.outbox import Outbox
from monitor.store import schema
from monitor.store import tables as t
from monitor.store.engine import connect, translated
from monitor.store.subscriptions import MessageKind


def test_the_scripts_make_the_tables_that_the_code_describes(empty_database: Engine) -> None:
    revision = schema.upgrade(empty_database)

    with empty_database.connect() as c:
        context = MigrationContext.configure(c, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, t.metadata) == []
        assert context.get_current_revision() == revision
    assert schema.is_made(empty_database)


def test_columns_and_keys_are_exactly_those_of_a_database_made_at_once(empty_database: Engine) -> None:
    """What alembic does not compare: order of columns, keys, uniqueness."""

    def described() -> dict[str, object]:
        found = sa.inspect(empty_database)
        return {
            name: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)],
                found.get_pk_constraint(name)["constrained_columns"],
                sorted(
                    (str(i["name"]), tuple(map(str, i["column_names"])), bool(i["unique"]))
                    for i in found.get_indexes(name)
                ),
                sorted(tuple(u["column_names"]) for u in found.get_unique_constraints(name)),
            )
            for name in found.get_table_names()
            if name != "alembic_version"
        }

    schema.upgrade(empty_database)
    migrated = described()
    with empty_database.begin() as c:
        t.metadata.drop_all(c)
        t.metadata.create_all(c)

    assert migrated == described()


def test_upgrading_what_is_current_changes_nothing(engine: Engine) -> None:
    assert schema.upgrade(engine) == schema.upgrade(engine)


def test_the_scripts_can_be_undone(engine: Engine) -> None:
    config = schema.alembic_config()
    with engine.begin() as c:
        config.attributes["connection"] = c
        command.downgrade(config, "base")

    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    assert not schema.is_made(engine)


def test_tables_of_a_newer_release_are_refused_and_left_alone(engine: Engine) -> None:
    with engine.begin() as c:
        c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaTooNew, match=r"the database has schema 9999, this release knows .*: install the newer"):
        schema.upgrade(engine)
    with pytest.raises(SchemaTooNew):
        schema.is_made(engine)
    with engine.connect() as c:
        assert c.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"


def test_an_id_of_the_outbox_is_never_used_twice(engine: Engine) -> None:
    """Also where the table was empty in between: consumers may remember ids."""
    row = {"kind": "alert", "key": b"k", "value": b"v", "headers": "{}"}
    ids = []
    for _ in range(3):
        with engine.begin() as c:
            ids.append(c.execute(sa.insert(t.outbox).values(**row).returning(t.outbox.c.id)).scalar_one())
        with engine.begin() as c:
            c.execute(sa.delete(t.outbox))

    assert ids == [1, 2, 3]


def migrated_to(engine: Engine, revision: str) -> None:
    """Tables as an earlier release made them."""
    config = schema.alembic_config()
    with engine.begin() as c:
        config.attributes["connection"] = c
        command.upgrade(config, revision)


def test_what_the_first_release_left_in_the_outbox_is_for_the_stream(empty_database: Engine) -> None:
    """Published in its order, and as if it had never been tried."""
    migrated_to(empty_database, "0001")
    with empty_database.begin() as c:
        for key in "abc":
            c.execute(
                sa.text("INSERT INTO outbox (kind, key, value, headers) VALUES ('alert', :key, :value, '{}')"),
                {"key": key.encode(), "value": b"{}"},
            )

    assert schema.is_made(empty_database)
    assert "destination" not in {c["name"] for c in sa.inspect(empty_database).get_columns("outbox")}
    schema.upgrade(empty_database)

    waiting = Outbox(empty_database).oldest(10)
    assert [(m.id, m.key, m.kind, m.attempts) for m in waiting] == [
        (1, b"a", MessageKind.ALERT, 0), (2, b"b", MessageKind.ALERT, 0), (3, b"c", MessageKind.ALERT, 0),
    ]  # fmt: skip


def test_the_ids_of_an_outbox_that_is_empty_go_on_after_an_upgrade(empty_database: Engine) -> None:
    migrated_to(empty_database, "0001")
    with empty_database.begin() as c:
        for _ in range(3):
            c.execute(sa.text("INSERT INTO outbox (kind, key, value, headers) VALUES ('alert', '', '', '{}')"))
        c.execute(sa.text("DELETE FROM outbox"))
    schema.upgrade(empty_database)

    row = {"kind": "alert", "key": b"k", "value": b"v", "headers": "{}"}
    with empty_database.begin() as c:
        assert c.execute(sa.insert(t.outbox).values(row).returning(t.outbox.c.id)).scalar_one() == 4


def test_going_back_to_the_first_release_keeps_what_is_for_the_stream(engine: Engine) -> None:
    row = {"kind": "alert", "key": b"k", "value": b"v", "headers": "{}"}
    with engine.begin() as c:
        c.execute(sa.insert(t.outbox), [{**row, "destination": name} for name in ("stream", "pager", "stream")])
    config = schema.alembic_config()
    with engine.begin() as c:
        config.attributes["connection"] = c
        command.downgrade(config, "0001")
        assert list(c.execute(sa.text("SELECT id FROM outbox ORDER BY id")).scalars()) == [1, 3]


@pytest.mark.postgres
def test_postgresql_does_not_compress_what_is_compressed(postgres_url: str) -> None:
    engine = connect(postgres_url)
    schema.upgrade(engine)
    with engine.connect() as c:
        found = c.execute(
            sa.text(
                "SELECT c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
                "WHERE a.attname = 'body' AND a.attstorage = 'e' AND c.relkind = 'r' ORDER BY 1"
            )
        )
        tables = list(found.scalars())
    engine.dispose()

    assert tables == ["ended", "join_closed", "join_segment", "learned", "outcome_log", "pane"]


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("nonsense", "is not a database URL"),
        ("mysql://localhost/x", "a sqlite or postgresql"),
        ("sqlite:////nowhere/at/all/driftd.db", "the folder /nowhere/at/all does not exist"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(url: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as caught:
        connect(url)
    assert caught.value.path == "store.url"


def test_errors_of_the_driver_become_ours(engine: Engine) -> None:
    """Without the statement, which may hold what nobody should read in a log."""
    with pytest.raises(StoreError) as caught, translated(), engine.connect() as c:
        c.execute(sa.text("SELECT secret FROM nowhere_at_all"))

    assert "secret" not in str(caught.value)
    assert str(caught.value).startswith("database: ")


def test_what_sqlite_acknowledges_survives_a_loss_of_power(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    with engine.connect() as c:
        mode, synchronous = (
            c.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous")
        )
    engine.dispose()

    full = 2
    assert (mode, synchronous) == ("wal", full)


def test_who_only_looks_into_sqlite_does_not_wait_for_the_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/driftd.db"
    engine, looking = connect(url), connect(url, read_only=True)
    schema.upgrade(engine)
    with engine.begin() as writing, looking.begin() as c:
        writing.execute(sa.insert(t.gap).values(topic="x", partition=0, from_offset=1, to_offset=2, seq=1))
        assert c.execute(sa.select(sa.func.count()).select_from(t.gap)).scalar_one() == 0
    engine.dispose()
    looking.dispose()
