"""Daemons that tests step through, each on a database of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from monitor.store import schema
from monitor.store.engine import connect
from tests.monitor.service.stepping import SteppedDaemon

MakeDaemon = Callable[..., SteppedDaemon]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and nothing in them: making the tables takes longer than a test."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    engine = connect(f"sqlite:///{path}")
    schema.upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> Path:
    return Path(shutil.copy(empty_database, tmp_path / "driftd.db"))


@pytest.fixture
def make_daemon(database: Path) -> Iterator[MakeDaemon]:
    """Makes daemons on one database; in the end they are gone."""
    with ExitStack() as stack:

        def make(**options: Any) -> SteppedDaemon:
            return stack.enter_context(closing(SteppedDaemon(database, **options)))

        yield make


@pytest.fixture
def daemon(make_daemon: MakeDaemon) -> SteppedDaemon:
    """One daemon with all defaults, not started."""
    return make_daemon()
