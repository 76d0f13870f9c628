"""Raw drain and driftd end to end, in turns on the same topic; and memory with a million predictions waiting."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import workload
from tests.servers.kafka import Cluster
from tests.servers.topics import Topics

Tell = Callable[[str], None]


def throughput(predictions: int, rounds: int, tell: Tell, *, partitions: int = 1) -> dict[str, Any]:
    """Medians over rounds of microseconds a record, and driftd's share of raw drain's speed."""
    with tempfile.TemporaryDirectory(prefix="driftd-bench-") as folder, Cluster(Path(folder) / "kafka") as cluster:
        bench = Bench(Path(folder), cluster, tell)
        topic, records, size = bench.fill(predictions, labelled=True, partitions=partitions)
        raw, full = [], []
        for i in range(rounds):
            raw.append(bench.run("raw", topic, records))
            full.append(bench.run("driftd", topic, records))
            tell(f"round {i + 1}: raw {raw[-1]['us_per_record']:.2f} us, driftd {full[-1]['us_per_record']:.2f} us")
    cpu_us = statistics.median(r["cpu_seconds"] / r["records"] * 1e6 for r in full)
    raw_us = statistics.median(r["us_per_record"] for r in raw)
    full_us = statistics.median(r["us_per_record"] for r in full)
    return {
        "records": records, "bytes_per_prediction": round(size), "rounds": rounds, "partitions": partitions,
        "raw_us": raw_us, "driftd_us": full_us, "driftd_cpu_us": cpu_us, "ratio": raw_us / full_us,
        "driftd_per_second": 1e6 / full_us, "status": full[-1]["status"], "checks": full[-1]["checks"],
    }  # fmt: skip


def memory(predictions: int, tell: Tell) -> dict[str, Any]:
    """Resident memory of driftd with so many predictions waiting for their outcome."""
    with tempfile.TemporaryDirectory(prefix="driftd-bench-") as folder, Cluster(Path(folder) / "kafka") as cluster:
        bench = Bench(Path(folder), cluster, tell)
        topic, records, _ = bench.fill(predictions, labelled=False)
        told = bench.run("driftd", topic, records)
    return {"waiting": told["status"]["join"]["pending"], "rss_mb": told["rss_mb"], "peak_mb": told["peak_mb"]}


class Bench:
    """A broker, a folder, and runs in processes of their own."""

    def __init__(self, folder: Path, cluster: Cluster, tell: Tell) -> None:
        self._folder, self._cluster, self._tell = folder, cluster, tell
        self._runs = 0
        workload.write_reference(folder / "reference.csv")

    def fill(self, predictions: int, *, labelled: bool, partitions: int = 1) -> tuple[str, int, float]:
        """-> (topic, records, bytes of a prediction)."""
        topics = Topics(self._cluster.bootstrap)
        topic = topics.make(partitions)
        for name in ("alerts", "decisions", "dead"):
            made = {"num_partitions": 1, "replication_factor": 1}
            topics.admin.create_topics({f"{topic}.{name}": made}, wait_for_metadata=True)
        topics.close()
        self._tell(f"writing {predictions} predictions to {partitions} partitions")
        records, size = workload.produce(
            self._cluster.bootstrap, topic, predictions, labelled=labelled, partitions=partitions
        )
        return topic, records, size

    def run(self, what: str, topic: str, records: int, tree: Path | None = None) -> dict[str, Any]:
        """One run of this tree or of another one; driftd begins with an empty store."""
        self._runs += 1
        config = self._folder / f"{self._runs}.yaml"
        config.write_text(
            workload.CONFIG.format(
                bootstrap=self._cluster.bootstrap, topic=topic, reference=self._folder / "reference.csv",
                store=f"sqlite:///{self._folder}/{self._runs}.db",
            )
        )  # fmt: skip
        command = [sys.executable, "-m", "tests.bench.drain", what, str(config), str(records)]
        # Modules of the working directory come before those that are installed.
        done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, text=True, timeout=900, check=True)
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result
