"""A transaction that hangs, on a real broker: the other partitions go on after `stream.hold`, and it is told."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from monitor.stream.kafka_repairs import construct
from tests.e2e import workload
from tests.e2e.auditor import query
from tests.e2e.daemon import Daemon
from tests.e2e.place import KafkaPlace
from tests.servers.kafka import Cluster
from tests.servers.topics import Topics

pytestmark = pytest.mark.kafka

BEFORE, WITHIN, BESIDE = 100, 5, 600  # records before the transaction, in it, and of the other partition


def answers(prefix: str, start: int, stop: int) -> list[bytes]:
    """Plain answers of the model `prices`, one each 100 ms."""
    return [
        json.dumps(
            {
                "type": "prediction", "request_id": f"{prefix}{number}", "time": workload.T0 + number * 100,
                "model": "prices", "version": "v2", "prediction": 1.0,
            }
        ).encode()
        for number in range(start, stop)
    ]  # fmt: skip


class Hanging:
    """A place whose first partition has an open transaction at its end, and a second one without."""

    def __init__(self, directory: Path, topics: Topics, producer: Any) -> None:
        self.place = KafkaPlace(directory, topics, partitions=2)
        self.place.configure(workload.models(drift=False), stream={"idle_after": "1s", "hold": "3s"})
        self.producer, self.topic = producer, self.place.events[0]
        self.place.append(self.topic, answers("a", 0, BEFORE), 0)
        producer.init_transactions()
        producer.begin_transaction()
        for value in answers("t", BEFORE, BEFORE + WITHIN):
            producer.send(self.topic, value, partition=0).get(10)
        self.place.append(self.topic, answers("b", 0, BESIDE), 1)

    def checks_of(self, daemon: Daemon) -> int:
        """Windows that were checked."""
        assert daemon.is_running
        found: int = query(self.place.store_url, "SELECT count(*) FROM history WHERE NOT outcomes")[0][0]
        return found

    def go_on(self, daemon: Daemon) -> None:
        """Until the partition is left out: the windows of the other one are checked to nearly its end."""
        daemon.until_read(BEFORE + BESIDE)
        panes = BESIDE * 100 // workload.PANE
        daemon.until(lambda: self.checks_of(daemon) >= panes - 2, "the windows of the other partition are checked", 40)

    def told(self) -> list[dict[str, Any]]:
        """Alerts of the daemon that name the partition."""
        return [a for a in self.place.alerts() if a["kind"] == "daemon" and f"{self.topic}[0]" in json.dumps(a)]

    def gauges(self, daemon: Daemon) -> set[str]:
        """Metrics of the partition that are 1."""
        label = f'{{partition="0",topic="{self.topic}"}}'
        return {name.removesuffix(label) for name, n in daemon.metrics().items() if name.endswith(label) and n == 1}


@pytest.fixture
def hanging(tmp_path: Path, topics: Topics, kafka: Cluster) -> Iterator[Hanging]:
    producer: Any = construct(KafkaProducer, bootstrap_servers=kafka.bootstrap, transactional_id=topics.name("hanging"))
    with closing(producer):
        yield Hanging(tmp_path, topics, producer)


def test_the_other_partitions_go_on_beside_a_transaction_that_hangs(hanging: Hanging) -> None:
    with hanging.place.daemon() as daemon:
        hanging.go_on(daemon)
        daemon.until(lambda: hanging.told() != [], "an alert names the partition", 20)
        assert hanging.gauges(daemon) - {"driftd_lag_records"} != set()
        assert daemon.stop() == 0

    assert hanging.told()[0]["status"] == "firing"


def test_what_a_transaction_brings_too_late_is_late_after_idle(hanging: Hanging) -> None:
    """By the log of its own partition none of it is late."""
    with hanging.place.daemon() as daemon:
        hanging.go_on(daemon)

        hanging.producer.commit_transaction()

        daemon.until_read(BEFORE + WITHIN + BESIDE).until_published()
        events = daemon.status()["events"]
        daemon.until(lambda: [a["status"] for a in hanging.told()] == ["firing", "resolved"], "the alert is over", 20)
        assert daemon.stop() == 0
    assert (events["late_predictions"], events.get("late_after_idle")) == (0, WITHIN)


def test_a_transaction_that_ends_in_time_changes_nothing(hanging: Hanging) -> None:
    hanging.place.configure(workload.models(drift=False), stream={"idle_after": "1s", "hold": "1m"})
    with hanging.place.daemon() as daemon:
        daemon.until_read(BEFORE)
        hanging.producer.commit_transaction()
        daemon.until_read(BEFORE + WITHIN + BESIDE).until_published()
        events = daemon.status()["events"]
        assert daemon.stop() == 0

    assert (events["late_predictions"], events.get("late_after_idle", 0)) == (0, 0)
    assert hanging.told() == []
