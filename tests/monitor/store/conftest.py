"""Both databases behind one face: what is shown of the store is shown of either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from monitor.store import schema
from monitor.store.engine import connect


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database without tables."""
    url = f"sqlite:///{tmp_path}/driftd.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = connect(url)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(empty_database: Engine) -> Engine:
    """A database with the tables of this release and nothing in them."""
    schema.upgrade(empty_database)
    return empty_database
