"""Connections to SQLite and PostgreSQL with durable commits and bounded waits.

Shell. Only this module translates errors of the drivers to `StoreError`. Waiting for a hanging server or a locked file
is bounded, and whoever waits is asked regularly whether to go on.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import psycopg
import sqlalchemy as sa
from psycopg.waiting import Ready
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from monitor.clock import SYSTEM_CLOCK, Clock
from monitor.errors import ConfigError, StoreError
from monitor.store.permissions import is_refused, why_refused

_BUSY_S: Final = 10.0
_BUSY_STEP_S: Final = 0.2
_BUSY_PAUSE_S: Final = 0.01
_PRIVATE: Final = 0o600
_HUNG_S: Final = 40.0  # without an answer from a server, whose own timeouts are shorter
LEASE_S: Final = 30.0  # where no daemon's lease is known
_LEAST_IDLE_S: Final = 5.0  # between two statements of one transaction: decoding a large state takes seconds
_READING: Final = "driftd_reading"  # an option of connections: the transaction takes no write lock
_READING_MS: Final = 3_600_000
_READ_ONLY: Final = "25006"  # an SQLSTATE: a failover has made this server a standby
_OUTAGE_STATES: Final = frozenset({_READ_ONLY, "55P03"})  # the latter: a lock was not available
# Connection, transaction rollback, resources, operator intervention, system error.
_OUTAGE_CLASSES: Final = frozenset({"08", "40", "53", "57", "58"})
_SQLITE_OUTAGES: Final = frozenset(
    {
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)  # fmt: skip
_DRIVERS: Final = {"sqlite": "pysqlite", "postgresql": "psycopg"}
_POSTGRES: Final = {
    "client_encoding": "UTF8",
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


# -- patience --------------------------------------------------------------------------------------------

Patience = Callable[[float], bool]
_patience: ContextVar[Patience | None] = ContextVar("patience", default=None)


@contextmanager
def patient(goes_on: Patience) -> Iterator[None]:
    """Within this context, ask `goes_on` whether to go on waiting for a database in this thread.

    Args:
        goes_on: Called several times a second with the seconds waited so far; False ends the wait with StoreError.
    """
    token = _patience.set(goes_on)
    try:
        yield
    finally:
        _patience.reset(token)


def _waits_on(waited_s: float) -> bool:
    goes_on = _patience.get()
    return goes_on is None or goes_on(waited_s)


_Result = TypeVar("_Result")


class _Connection(psycopg.Connection[Any]):
    """A connection with bounded waits. libpq would wait for ever: a hanging machine keeps its connections open, and its
    kernel still acknowledges packets."""

    def wait(self, gen: Generator[Any, Any, _Result], *arguments: Any, **options: Any) -> _Result:
        return super().wait(self._patiently(gen), *arguments, **options)

    def _patiently(self, gen: Generator[Any, Any, _Result]) -> Generator[Any, Any, _Result]:
        began = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready == Ready.NONE:
                    waited = time.monotonic() - began
                    if waited > _HUNG_S or not _waits_on(waited):
                        self.pgconn.finish()  # a late answer must not reach the next query
                        raise psycopg.OperationalError(f"the server has not answered for {waited:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            result: _Result = done.value
            return result


# -- engines ---------------------------------------------------------------------------------------------


def connect(
    url: str,
    *,
    read_only: bool = False,
    lease_s: float = LEASE_S,
    clock: Clock = SYSTEM_CLOCK,
    busy_step_s: float = _BUSY_STEP_S,
) -> Engine:
    """Create an engine.

    Args:
        url: URL of a SQLite or PostgreSQL database.
        read_only: Take no write locks, to query while another process owns the store.
        lease_s: The lease of the store's owner. PostgreSQL ends a transaction that is idle for so long: a process that
            was frozen in the middle of one would keep its locks from the next owner.
        clock: Measures how long SQLite has been locked.
        busy_step_s: How long SQLite waits for a lock before patience is asked.

    Raises:
        ConfigError: The URL is not one of SQLite or PostgreSQL.
    """
    try:
        parsed = sa.make_url(url)
    except (SQLAlchemyError, ValueError):
        raise ConfigError("store.url", None, "is not a database URL, such as sqlite:///driftd.db") from None
    if parsed.get_backend_name() != "sqlite":
        _check_host(parsed)
    backend, _, driver = parsed.drivername.partition("+")
    if driver not in ("", _DRIVERS.get(backend, driver)):
        hint = f"write {backend}+{_DRIVERS[backend]}:// or {backend}://: driftd has no other driver"
        raise ConfigError("store.url", parsed.drivername, hint)
    if backend in _DRIVERS:
        parsed = parsed.set(drivername=f"{backend}+{_DRIVERS[backend]}")
    match backend:
        case "sqlite":
            return _sqlite(parsed, clock, busy_step_s, read_only=read_only)
        case "postgresql":
            return _postgresql(parsed, lease_s)
        case other:
            raise ConfigError("store.url", other, "a sqlite or postgresql+psycopg URL is needed")


def _check_host(url: sa.URL) -> None:
    """Refuse an address whose password seems to end early: the rest would be shown as the name of a host."""
    if "@" in f"{url.host}{url.database}":
        hint = "a user or a password has an @ or a / in it: write @ as %40, / as %2F, : as %3A and % as %25"
        raise ConfigError("store.url", None, hint)


def is_in_memory(url: sa.URL) -> bool:
    """Return whether a URL is that of a SQLite database without a file, which ends with its connection."""
    name = url.database or ""
    return url.get_backend_name() == "sqlite" and (not name or ":memory:" in name or url.query.get("mode") == "memory")


def _postgresql(url: sa.URL, lease_s: float) -> Engine:
    idle_ms = round(max(lease_s, _LEAST_IDLE_S) * 1000)
    timeouts = {"statement_timeout": 30_000, "lock_timeout": 10_000, "idle_in_transaction_session_timeout": idle_ms}
    arguments = {**_POSTGRES, "options": " ".join(f"-c {name}={ms}" for name, ms in timeouts.items())}
    engine = sa.create_engine(url, connect_args=arguments, pool_pre_ping=True, pool_size=2)

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        if not _waits_on(0.0):
            raise psycopg.OperationalError("there is no time left to connect")
        return _Connection.connect(*arguments, **options)

    @event.listens_for(engine, "handle_error")
    def _leave_standby(context: Any) -> None:
        # The next connection may find the server that is the primary now.
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
            context.is_disconnect = True

    return engine


def _sqlite(url: sa.URL, clock: Clock, busy_step_s: float, *, read_only: bool) -> Engine:
    if url.database and not is_in_memory(url):
        folder = Path(url.database).expanduser().parent
        if not folder.is_dir():
            raise ConfigError("store.url", url.database, f"the folder {folder} does not exist")
    is_file = url.database and not is_in_memory(url) and not url.database.startswith("file:")
    file = Path(url.database or "") if is_file else None
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_S, "check_same_thread": False})

    @event.listens_for(engine, "do_connect")
    def _make(dialect: Any, record: Any, arguments: Any, options: Any) -> None:
        # The files beside the database get its mode. One that is there keeps its own, and is not opened here: closing
        # it would end the locks that this process has on it.
        if file is None:
            return
        if read_only:  # whoever only asks makes no file, and changes none
            arguments[0] = f"file:{quote(str(file.absolute()))}?mode=ro"
            options["uri"] = True
        else:
            with suppress(OSError):  # SQLite says it better
                os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, _PRIVATE))

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, record: Any) -> None:
        # The driver would begin transactions by itself, too late for a lock; the "begin" listener below does it.
        connection.isolation_level = None
        cursor = connection.cursor()
        if not read_only:
            cursor.execute("PRAGMA journal_mode=WAL")
        # FULL: an acknowledged commit survives a power failure.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        if not read_only:
            # `_begin` waits longer, and can be interrupted.
            cursor.execute(f"PRAGMA busy_timeout={round(busy_step_s * 1000)}")
        cursor.close()

    @event.listens_for(engine, "handle_error")
    def _name_file(context: Any) -> None:
        if file is not None and is_refused(context.original_exception):
            raise StoreError(why_refused(file, context.original_exception), retryable=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if read_only or connection.get_execution_options().get(_READING):
            connection.exec_driver_sql("BEGIN")
            return
        # A writer takes its lock at once: upgrading a read lock later fails if two writers do it.
        began = clock.monotonic()
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except OperationalError as error:
                waited = clock.monotonic() - began
                if "locked" not in str(error.orig) or waited > _BUSY_S or not _waits_on(waited):
                    raise
                clock.sleep(_BUSY_PAUSE_S)

    return engine


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Within this context, read one state of the database, without keeping others from writing.

    Raises:
        StoreError: The database failed.
    """
    with translated(), engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection = connection.execution_options(**{_READING: True})
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            if connection.dialect.name != "sqlite":
                # It has no locks that an owner waits for, and decoding a large state between two statements takes time.
                connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {_READING_MS}")
            yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Translate errors of the database to StoreError; those that may be temporary are retryable."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(_message(error), retryable=_may_pass(error)) from error
    except UnicodeDecodeError as error:  # the name of something damaged, in an error of SQLite itself
        raise StoreError("the database is damaged: restore it from a backup", retryable=False) from error
    except sa.exc.TimeoutError as error:
        raise StoreError(f"the database does not answer: {error}", retryable=True) from error


def _may_pass(error: DBAPIError) -> bool:
    """Return whether an error is one of an outage, such as a failover, rather than of what was asked or is stored."""
    cause = error.orig
    if isinstance(cause, sqlite3.OperationalError):
        return not is_undecodable(cause) and cause.sqlite_errorcode & 0xFF in _SQLITE_OUTAGES
    state = getattr(cause, "sqlstate", None) or ""
    is_outage = state in _OUTAGE_STATES or state[:2] in _OUTAGE_CLASSES
    return is_outage or error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def is_undecodable(error: BaseException | None) -> bool:
    """Return whether the driver of SQLite has met a text that is not UTF-8: its only error without a code."""
    return isinstance(error, sqlite3.OperationalError) and not hasattr(error, "sqlite_errorcode")


def _message(error: DBAPIError) -> str:
    # The statement and its parameters may hold blobs and, in URLs, passwords: only the driver's message is shown.
    if is_undecodable(error.orig):  # the driver's message has the text in it
        return "the store is damaged: a text is not UTF-8; restore it from a backup"
    words = str(error.orig).strip().splitlines()
    return f"database: {words[0] if words else type(error.orig).__name__}"


def database_clock(connection: Connection) -> sa.ColumnElement[float]:
    """Return an expression for the database's time in seconds since the epoch; leases use this clock only."""
    if connection.dialect.name == "sqlite":
        return (sa.func.julianday("now") - 2440587.5) * 86400.0
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float)


def insert(c: Connection, table: sa.Table) -> Any:
    """Return an INSERT of the connection's dialect, which supports ON CONFLICT."""
    return (sqlite if c.dialect.name == "sqlite" else postgresql).insert(table)
