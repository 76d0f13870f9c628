"""From the event that takes stream time past the end of a window to the alert on its topic: real Kafka, real daemon."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from monitor.stream.kafka_repairs import construct
from tests.servers.kafka import Cluster
from tests.servers.topics import Topics

Tell = Callable[[str], None]
_PANE_MS = 10_000
_LATENESS_MS = 1_000
_PER_PANE = 200
_CONFIG = """\
stream: {{url: "kafka://{bootstrap}", events: [{topic}], alerts: {topic}.alerts, decisions: {topic}.decisions,
          dead_letters: {topic}.dead, lateness: 1s}}
store: {{url: "sqlite:///{folder}/latency.db"}}
http: {{port: 0}}
models:
  heat:
    task: regression
    champion: v1
    outcomes: null
    window: {{span: 10s, pane: 10s, min_events: 100}}
    rules: [{{name: slow, metric: latency_p95_ms, above: 100, severity: critical, for: 1 checks, hard: true}}]
"""


def latency(episodes: int, tell: Tell) -> dict[str, Any]:
    """Seconds of each alert record, firing and resolved ones."""
    with tempfile.TemporaryDirectory(prefix="driftd-bench-") as folder, Cluster(Path(folder) / "kafka") as cluster:
        topics = Topics(cluster.bootstrap)
        topic = topics.make(1)
        for name in ("alerts", "decisions", "dead"):
            made = {"num_partitions": 1, "replication_factor": 1}
            topics.admin.create_topics({f"{topic}.{name}": made}, wait_for_metadata=True)
        topics.close()
        config = Path(folder) / "driftd.yaml"
        config.write_text(_CONFIG.format(bootstrap=cluster.bootstrap, topic=topic, folder=folder))
        with _daemon(config):
            seconds = _measure(cluster.bootstrap, topic, episodes, tell)
    return {"alerts": len(seconds), "median_s": statistics.median(seconds), "worst_s": max(seconds)}


@contextlib.contextmanager
def _daemon(config: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "monitor", "run", "--config", str(config), "--log-level", "ERROR"]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _measure(bootstrap: str, topic: str, episodes: int, tell: Tell) -> list[float]:
    producer = construct(KafkaProducer, bootstrap_servers=bootstrap, linger_ms=0)
    consumer = construct(KafkaConsumer, bootstrap_servers=bootstrap, fetch_max_wait_ms=50)
    alerts = TopicPartition(f"{topic}.alerts", 0)
    consumer.assign([alerts])
    consumer.seek_to_beginning(alerts)
    start = 1_700_000_000_000 // _PANE_MS * _PANE_MS
    number, seconds = 0, []
    for pane in range(2 * episodes):
        slow = pane % 2 == 0  # every second pane breaches, so every pane's end has its record
        for i in range(_PER_PANE):
            number += 1
            producer.send(topic, _event(number, start + pane * _PANE_MS + i * 10, slow), partition=0)
        producer.flush(30)
        time.sleep(1.5)  # what is here is processed and committed before the window ends
        number += 1
        after = _event(number, start + (pane + 1) * _PANE_MS + _LATENESS_MS, not slow)
        producer.send(topic, after, partition=0).get(30)
        passed = time.monotonic()
        record = _next(consumer)
        seconds.append(time.monotonic() - passed)
        if record["status"] != ("firing" if slow else "resolved"):
            raise RuntimeError(f"another record than expected: {record['summary']}")
        tell(f"{record['status']}: {seconds[-1]:.2f} s")
    producer.close()
    consumer.close()
    return seconds


def _event(number: int, time_ms: int, slow: bool) -> bytes:
    event = {
        "type": "prediction", "request_id": f"r{number}", "time": time_ms, "model": "heat", "version": "v1",
        "prediction": 1.0, "latency_ms": 500.0 if slow else 10.0,
    }  # fmt: skip
    return json.dumps(event).encode()


def _next(consumer: Any) -> dict[str, Any]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for records in consumer.poll(100, max_records=1).values():
            found: dict[str, Any] = json.loads(records[0].value)
            return found
    raise TimeoutError("no alert within a minute")
