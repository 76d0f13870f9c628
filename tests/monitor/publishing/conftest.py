"""A store to publish from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from monitor.store import schema
from monitor.store.engine import connect


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """SQLite with the tables of this release."""
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    schema.upgrade(engine)
    yield engine
    engine.dispose()
