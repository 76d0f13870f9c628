"""The tables of a database: brought up to this release, or refused where they are of a newer one.

Shell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine

from monitor.errors import SchemaTooNew
from monitor.store.engine import translated

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def alembic_config() -> Config:
    """Alembic's settings, without a file."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    return config


def upgrade(engine: Engine) -> str:
    """Make or change the tables as this release needs them. -> the revision they are at.

    Raises:
        SchemaTooNew: a newer release has changed them.
        StoreError: the database failed.
    """
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head() or ""
    with translated(), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # Two daemons may start together; SQLite's transaction is a lock already.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7310741)")
        present = MigrationContext.configure(connection).get_current_revision()
        if present is not None and present not in {s.revision for s in script.walk_revisions()}:
            raise SchemaTooNew("the database", present, head)
        if present != head:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return head


def is_current(engine: Engine) -> bool:
    """Whether the tables are there as this release needs them. Raises `SchemaTooNew`."""
    script = ScriptDirectory.from_config(alembic_config())
    head = script.get_current_head() or ""
    with translated(), engine.begin() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in {s.revision for s in script.walk_revisions()}:
        raise SchemaTooNew("the database", present, head)
    return present == head
