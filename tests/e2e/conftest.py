"""Recorded streams that several end-to-end tests read, with what a run over them must come to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import auditor, workload
from tests.e2e.place import FilePlace, KafkaPlace
from tests.servers.postgres import Postgres
from tests.servers.topics import Topics


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Everything here runs daemons as processes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.process)


@dataclass(frozen=True, slots=True)
class Recording:
    """A stream of files that is complete, what must come of it, and what an undisturbed run told."""

    place: FilePlace
    records: int
    expected: auditor.Expected
    told: set[tuple[Any, ...]]


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Files with events of every kind, in batches enough for several commits."""
    place = FilePlace(tmp_path_factory.mktemp("recording"))
    lines = workload.Workload(seed=1, seconds=500, per_second=25, ordered=True).lines()
    place.produce(lines)
    by_topic = {place.topic_of(kind): [x for x in lines if x.topic == kind] for kind in workload.TOPICS}
    expected = auditor.recount(auditor.merged(by_topic), place.inputs)
    place.configure(store={"commit_every": "1ms"})
    with place.daemon() as daemon:
        daemon.until_read(len(lines))
        assert daemon.stop() == 0
    found = place.found()
    assert auditor.differences(expected, found) == []
    return Recording(place, len(lines), expected, auditor.told(found))


@pytest.fixture
def file_place(tmp_path: Path) -> FilePlace:
    """Files and SQLite, empty."""
    return FilePlace(tmp_path)


@pytest.fixture
def kafka_place(tmp_path: Path, topics: Topics) -> KafkaPlace:
    """Topics of Kafka with one partition, and SQLite."""
    return KafkaPlace(tmp_path, topics)


@pytest.fixture
def postgres_place(tmp_path: Path, topics: Topics, postgres_url: str) -> KafkaPlace:
    """Topics of Kafka with two partitions, and PostgreSQL."""
    return KafkaPlace(tmp_path, topics, postgres_url, partitions=2)


@contextlib.contextmanager
def outage_of(server: Postgres) -> Iterator[None]:
    """Within it the server hangs."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()
