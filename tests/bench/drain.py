"""One measured run in a process of its own: `raw` polls and decodes, `driftd` does everything.

    python -m tests.bench.drain raw|driftd CONFIG RECORDS

Prints one JSON document. Time runs from the first record to the last: to its decoding, or to the commit that it
is in. The process stays on one core.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from monitor.config.load import read
from monitor.publishing.relay import Relay
from monitor.service import logs
from monitor.service.app import destinations, parts, worker_spec
from monitor.service.session import BATCH
from monitor.service.systemd import Systemd
from monitor.service.worker import Worker
from monitor.store.owner import owner_name
from monitor.store.writer import StoreWriter
from monitor.stream.types import Batch, Source
from monitor.web.metrics import Telemetry


def raw(config: Path, records: int) -> dict[str, Any]:
    """Poll and decode as the fastest general JSON decoder does it, and drop the result."""
    source = parts(read(config)).stream.source()
    source.assign(dict.fromkeys(source.partitions(), 0))
    decode = msgspec.json.Decoder().decode
    done, started, cpu = 0, 0.0, 0.0
    while done < records:
        batch = source.poll(BATCH, 0.2)
        if not started and len(batch):
            # The first records are there already: what they cost is left out on both sides.
            started, cpu, first = time.perf_counter(), time.process_time(), len(batch)
        for value in batch.values:
            decode(value)  # type: ignore[arg-type]  # no tombstones here
        done += len(batch)
    return _told(started, cpu, records - first)


class _Timed:
    """A source that notes when the first records were there."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.first, self.started, self.cpu = 0, 0.0, 0.0

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        batch = self._source.poll(max_records, timeout_s)
        if not self.started and len(batch):
            self.first, self.started, self.cpu = len(batch), time.perf_counter(), time.process_time()
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def driftd(config: Path, records: int) -> dict[str, Any]:
    """The daemon without its HTTP, until everything is committed."""
    p = parts(read(config))
    telemetry = Telemetry()
    relay = Relay(p.engine, destinations(p), p.config.stream.heartbeat / 1000)
    writer = StoreWriter(p.engine, owner_name(), p.config.store.retention)
    timed: list[_Timed] = []

    def source() -> Any:
        timed.append(_Timed(p.stream.source()))
        return timed[-1]

    worker = Worker(worker_spec(p), p.engine, writer, source, relay, telemetry, Systemd({}))
    told: dict[str, Any] = {}

    def watch() -> None:
        while telemetry.status.get("events", {}).get("read", 0) < records:
            time.sleep(0.005)
        told.update(_told(timed[-1].started, timed[-1].cpu, records - timed[-1].first))
        told["rss_mb"] = _rss_mb()
        told["status"] = {k: telemetry.status[k] for k in ("events", "join")}
        told["checks"] = {v: x["checks"] for v, x in telemetry.status["models"]["heat"]["versions"].items()}
        worker.stop()

    relay.start()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    worker.run()
    watcher.join()
    relay.stop(5)
    return told


def _told(started: float, cpu: float, records: int) -> dict[str, Any]:
    seconds = time.perf_counter() - started
    return {
        "records": records, "seconds": seconds, "cpu_seconds": time.process_time() - cpu,
        "us_per_record": seconds / records * 1e6, "rss_mb": _rss_mb(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


if __name__ == "__main__":
    logs.set_up("WARNING", "text")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    what, path, count = sys.argv[1:]
    print(json.dumps({"raw": raw, "driftd": driftd}[what](Path(path), int(count))))
