"""From the event that takes stream time past the end of a window to the alert on its topic: real Kafka, real daemon."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
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
_PANES_EACH = 6
_CONFIG = """\
stream: {{url: "kafka://{bootstrap}", events: [{topic}], alerts: {topic}.alerts, decisions: {topic}.decisions,
          dead_letters: {topic}.dead, lateness: 1s}}
store: {{url: "sqlite:///{folder}/latency.db"}}
http: {{port: {port}}}
models:
  heat:
    task: regression
    champion: v1
    outcomes: null
    window: {{span: 10s, pane: 10s, min_events: 100}}
    rules: [{{name: slow, metric: latency_p95_ms, above: 100, severity: critical, for: 1 checks, hard: true}}]
"""


def latency(episodes: int, tell: Tell) -> dict[str, Any]:
    """Seconds of each of so many alerts."""
    with tempfile.TemporaryDirectory(prefix="driftd-bench-") as folder, Cluster(Path(folder) / "kafka") as cluster:
        topics = Topics(cluster.bootstrap)
        topic = topics.make(1)
        for name in ("alerts", "decisions", "dead"):
            made = {"num_partitions": 1, "replication_factor": 1}
            topics.admin.create_topics({f"{topic}.{name}": made}, wait_for_metadata=True)
        topics.close()
        config = Path(folder) / "driftd.yaml"
        port = _free_port()
        config.write_text(_CONFIG.format(bootstrap=cluster.bootstrap, topic=topic, folder=folder, port=port))
        with _daemon(config, port):
            seconds = _measure(cluster.bootstrap, topic, episodes, tell)
    return {"alerts": len(seconds), "median_s": statistics.median(seconds), "worst_s": max(seconds)}


@contextlib.contextmanager
def _daemon(config: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "monitor", "run", "--config", str(config), "--log-level", "ERROR"]
    process = subprocess.Popen(command)
    try:
        _wait_until_ready(port)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _wait_until_ready(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2):
            return
        time.sleep(0.1)
    raise TimeoutError("the daemon is not ready after a minute")


def _measure(bootstrap: str, topic: str, episodes: int, tell: Tell) -> list[float]:
    producer = construct(KafkaProducer, bootstrap_servers=bootstrap, linger_ms=0)
    consumer = construct(KafkaConsumer, bootstrap_servers=bootstrap, fetch_max_wait_ms=50)
    alerts = TopicPartition(f"{topic}.alerts", 0)
    consumer.assign([alerts])
    consumer.seek_to_beginning(alerts)
    first = 1_700_000_000_000 // _PANE_MS
    number, seconds = 0, []
    for pane in range(first, first + episodes * _PANES_EACH):
        begins = pane % _PANES_EACH == first % _PANES_EACH  # one pane breaches, the others are calm until it is over
        for i in range(_PER_PANE):
            number += 1
            producer.send(topic, _event(number, pane * _PANE_MS + 1_500 + i * 10, begins), partition=0)
        producer.flush(30)
        time.sleep(1.5 if begins else 0.1)  # what is here is processed and committed before the window ends
        number += 1
        # It belongs to the next pane, and takes stream time past the end of this one.
        after = _event(number, (pane + 1) * _PANE_MS + _LATENESS_MS, slow=False)
        producer.send(topic, after, partition=0).get(30)
        if begins:
            passed = time.monotonic()
            record = _next(consumer, "firing")
            seconds.append(time.monotonic() - passed)
            tell(f"{record['summary']}: {seconds[-1]:.2f} s")
    producer.close()
    consumer.close()
    return seconds


def _event(number: int, time_ms: int, slow: bool) -> bytes:
    event = {
        "type": "prediction", "request_id": f"r{number}", "time": time_ms, "model": "heat", "version": "v1",
        "prediction": 1.0, "latency_ms": 500.0 if slow else 10.0,
    }  # fmt: skip
    return json.dumps(event).encode()


def _next(consumer: Any, status: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for records in consumer.poll(100, max_records=1).values():
            found: dict[str, Any] = json.loads(records[0].value)
            if found["status"] == status:
                return found
    raise TimeoutError("no alert within a minute")
