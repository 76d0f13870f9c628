"""Migration of a database to the schema of this release; a newer schema is refused.

Shell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from monitor.errors import ConfigError, SchemaTooNew
from monitor.store.engine import translated

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def alembic_config() -> Config:
    """Return Alembic's settings, which need no file."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    return config


def upgrade(engine: Engine) -> str:
    """Create or migrate the tables to the schema of this release.

    Returns:
        The revision of the schema.

    Raises:
        ConfigError: The database cannot hold every text.
        SchemaTooNew: A newer release has changed the tables.
        StoreError: The database failed.
    """
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head() or ""
    with translated(), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            _check_encoding(connection)
            # Two daemons may start at once; with SQLite the transaction itself is a lock.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7310741)")
        present = MigrationContext.configure(connection).get_current_revision()
        if present is not None and present not in {s.revision for s in script.walk_revisions()}:
            raise SchemaTooNew("the database", present, head)
        if present != head:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return head


def _check_encoding(connection: Connection) -> None:
    found = str(connection.exec_driver_sql("SHOW server_encoding").scalar_one())
    if found != "UTF8":
        hint = (
            "the database's encoding must be UTF8, for names that have other letters: CREATE DATABASE … ENCODING 'UTF8'"
        )
        raise ConfigError("store.url", found, hint)


def is_made(engine: Engine) -> bool:
    """Return whether there are tables, of this release or an earlier one.

    Raises:
        SchemaTooNew: A newer release has changed them.
        StoreError: The database failed.
    """
    script = ScriptDirectory.from_config(alembic_config())
    with translated(), engine.begin() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in {s.revision for s in script.walk_revisions()}:
        raise SchemaTooNew("the database", present, script.get_current_head() or "")
    return present is not None
