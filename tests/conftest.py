"""Servers for the tests: one Kafka and one PostgreSQL in each pytest process, started when first asked for."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.servers.kafka import Cluster
from tests.servers.postgres import Postgres
from tests.servers.receiver import Receiver

if TYPE_CHECKING:
    from tests.servers.topics import Topics


# How long an example takes says more of the machine than of the code.
settings.register_profile("driftd", deadline=None)
settings.load_profile("driftd")

# kafka-python reads its schemas in a way that Python 3.11 and 3.12 deprecate; it says so once, when it is imported.
# Here for the import of conftest files, below for that of test modules.
OF_KAFKA_PYTHON = "(read|open)_text is deprecated"
warnings.filterwarnings("ignore", OF_KAFKA_PYTHON, DeprecationWarning)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", f"ignore:{OF_KAFKA_PYTHON}:DeprecationWarning")


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Outside pytest's own folders: a socket's path is short, and PostgreSQL runs as another user than root."""
    directory = Path(tempfile.mkdtemp(prefix="driftd-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(server_directory: Path) -> Iterator[Cluster]:
    """A cluster of one node. Tests share it: each makes topics of its own, and thaws or starts what it stopped."""
    with Cluster(server_directory / "kafka") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def topics(kafka: Cluster) -> Iterator[Topics]:
    """Makes and fills topics of `kafka`."""
    from tests.servers.topics import Topics

    with closing(Topics(kafka.bootstrap)) as topics:
        yield topics


@pytest.fixture(scope="session")
def postgres(server_directory: Path) -> Iterator[Postgres]:
    """A server. Tests share it: each uses databases of its own, and starts or thaws what it stopped."""
    with Postgres(server_directory / "postgres") as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The address of a database of one's own, for SQLAlchemy."""
    url = postgres.fresh_database()
    yield url
    postgres.drop(url)
