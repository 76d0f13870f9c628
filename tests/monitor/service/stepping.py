"""The daemon's poll loop inside the test's process: real parts, and a clock that stands still until the test moves it.

The loop runs in a thread of its own, but never at the same time as the test: `advance` lets it run until its clock
has come to a time and it waits there, and the test goes on.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.engine import Engine

from monitor.publishing.destinations.stream import StreamDestination
from monitor.publishing.relay import Relay
from monitor.service.input import InputSpec
from monitor.service.worker import Worker, WorkerSpec
from monitor.spec import CoreSpec
from monitor.store import tables as t
from monitor.store.engine import connect
from monitor.store.subscriptions import MessageKind
from monitor.store.writer import StoreWriter
from monitor.stream.memory import MemorySource, MemoryStream
from monitor.stream.types import Partition, Sink, Start
from monitor.web.metrics import Telemetry
from tests.monitor.kit import HOUR, SECOND, T0, Event, a_core, a_model, prediction

STUCK_S: Final = 60.0  # by the clock on the wall: a loop that neither waits nor ends is broken
TOPICS: Final = {
    MessageKind.ALERT: "alerts",
    MessageKind.DECISION: "decisions",
    MessageKind.DEAD_LETTER: "dead-letters",
}


class SteppedClock:
    """Keeps `Clock`. Sleeping takes no time, but goes no further than the test allows."""

    def __init__(self, wall_ms: int = T0, *, until: float = math.inf) -> None:
        self._changed = threading.Condition()
        self._now, self._until, self._wall = 0.0, until, wall_ms
        self._waits = self._ended = False

    def monotonic(self) -> float:
        return self._now

    def wall_ms(self) -> int:
        return self._wall + round(self._now * 1000)

    def sleep(self, seconds: float) -> None:
        end = self._now + seconds
        with self._changed:
            while end > self._until:
                self._now = max(self._now, self._until)
                self._waits = True
                self._changed.notify_all()
                self._changed.wait()
            self._now = max(self._now, end)

    # -- for the test -----------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let the other thread run for `seconds`, or to its end."""
        with self._changed:
            self._until += seconds
            self._waits = False
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._waits or self._ended, STUCK_S), "the loop is stuck"

    def jump(self, seconds: float) -> None:
        """Have time pass while the other thread does nothing, as in a process that is frozen."""
        with self._changed:
            self._until += seconds
            self._now += seconds

    def end(self) -> None:
        """The other thread waits no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Heard:
    """Keeps `Watchdog`; remembers what it was told."""

    def __init__(self) -> None:
        self.readies: list[str] = []
        self.signals: list[str] = []

    def ready(self, status: str) -> None:
        self.readies.append(status)

    def alive(self, status: str) -> None:
        self.signals.append(status)


class SteppedDaemon:
    """A worker on a stream in memory and SQLite. Its relay has no thread: a test drains it where it wants to.

    A test that starts the relay gives a `busy_step_s`, because then two threads want the database at one time.
    """

    def __init__(
        self,
        database: Path,
        *,
        core: CoreSpec | None = None,
        stream: MemoryStream | None = None,
        clock: SteppedClock | None = None,
        partitions: int = 1,
        idle_after_s: float = 1e9,
        hold_s: float = 60.0,
        buffer_bytes: int = 64 << 20,
        refused_per_minute: int = 1_000,
        start: Start = Start.EARLIEST,
        commit_every_s: float = 1.0,
        outbox_limit: int = 1_000,
        lease_s: float = 3600.0,
        owner: str = "us",
        busy_step_s: float = 0.0,
        source: type[MemorySource] = MemorySource,
        open_sink: Callable[[], Sink] | None = None,
        make_writer: Callable[[Engine, str, int], StoreWriter] = StoreWriter,
    ) -> None:
        self.clock = clock or SteppedClock(until=0.0)
        self.stream = stream or MemoryStream({"events": partitions, **dict.fromkeys(TOPICS.values(), 1)})
        self.engine = connect(f"sqlite:///{database}", clock=self.clock, busy_step_s=busy_step_s)
        self.telemetry, self.watchdog = Telemetry(self.clock), Heard()
        self.relay_engine = connect(f"sqlite:///{database}")  # a relay that is started is in nobody's hand
        topics = StreamDestination(open_sink or self.stream.sink, TOPICS)
        self.relay = Relay(self.relay_engine, [topics], heartbeat_s=3600.0)
        spec = WorkerSpec(
            core=core or a_core(a_model()),
            input=InputSpec(start, idle_after_s, hold_s, buffer_bytes, refused_per_minute),
            commit_every_s=commit_every_s,
            lease_s=lease_s,
            outbox_limit=outbox_limit,
            references={},
        )
        writer = make_writer(self.engine, owner, 90 * 24 * HOUR)
        self.worker = Worker(
            spec,
            self.engine,
            writer,
            lambda: source(self.stream, ["events"], (), self.clock),
            self.relay,
            self.telemetry,
            self.watchdog,
            self.clock,
        )
        self._thread: threading.Thread | None = None
        self._result: bool | BaseException | None = None

    # -- running -----------------------------------------------------------------------------------------

    def start(self, *, startup_timeout_s: float | None = None) -> SteppedDaemon:
        """Begin, and come to the first wait."""

        def run() -> None:
            try:
                self._result = self.worker.run(startup_timeout_s=startup_timeout_s)
            except BaseException as error:  # noqa: BLE001 - for the test's thread
                self._result = error
            finally:
                self.clock.end()

        self._thread = threading.Thread(target=run, name="worker", daemon=True)
        self._thread.start()
        return self.advance(0)

    def advance(self, seconds: float) -> SteppedDaemon:
        """Let it run. Raises what it has ended with."""
        self.clock.advance(seconds)
        if isinstance(self._result, BaseException):
            raise self._result
        return self

    def pass_time(self, seconds: float) -> SteppedDaemon:
        """Let time pass as for a process that stands still, and then let it run for a second: quicker."""
        self.clock.jump(seconds - 1)
        return self.advance(1)

    def stop(self, grace_s: float = 3600.0) -> bool:
        """Have it end, and return what `run` returned. Raises what it has ended with."""
        self.worker.stop()
        return self.ended(grace_s)

    def ended(self, grace_s: float = 3600.0) -> bool:
        """Wait for its end for at most `grace_s` by its own clock."""
        self.advance(grace_s)
        assert isinstance(self._result, bool), f"it has not ended after {grace_s} s"
        return self._result

    def close(self) -> None:
        """End it whatever it does."""
        if self._thread is not None and self._result is None:
            self.worker.stop()
            self.clock.advance(1e6)
        self.engine.dispose()
        self.relay_engine.dispose()

    # -- its input ---------------------------------------------------------------------------------------

    def produce(self, *events: Event | bytes, partition: int = 0) -> None:
        """Write events to a partition."""
        for event in events:
            value = event if isinstance(event, bytes) else json.dumps(event).encode()
            self.stream.append("events", value, partition)

    # -- what it shows -----------------------------------------------------------------------------------

    def why_not_ready(self) -> str | None:
        """None while it is ready."""
        return None if self.telemetry.ready else self.telemetry.why_not

    @property
    def read(self) -> int:
        """Records that were read and committed."""
        events: Mapping[str, int] = self.telemetry.status.get("events", {"read": 0})
        return events["read"]

    def metric(self, name: str, **labels: str) -> float | None:
        """A sample of the metrics page; None where it is not there."""
        for family in text_string_to_metric_families(self.telemetry.scrape().decode()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None

    @property
    def stream_time(self) -> int:
        """Stream time as of the last commit, in ms after `T0`."""
        return int(self.shard().stream_time) - T0

    def shard(self) -> Any:
        """The row that every commit updates."""
        with self.engine.connect() as c:
            return c.execute(sa.select(t.shard)).one()

    def positions(self) -> dict[Partition, int]:
        """Where reading goes on, as committed."""
        return {Partition(topic, number): offset for topic, number, offset, _ in json.loads(self.shard().positions)}

    def alerts(self) -> list[tuple[str, str, str]]:
        """(status, what of the daemon it is about, summary) of the alerts that wait in the outbox, in order."""
        with self.engine.connect() as c:
            rows = c.execute(sa.select(t.outbox).where(t.outbox.c.kind == "alert").order_by(t.outbox.c.id)).all()
        bodies = [json.loads(row.value) for row in rows]
        return [(body["status"], body["rule"], body["summary"]) for body in bodies]


# -- what many tests do -----------------------------------------------------------------------------------

ZERO, ONE = Partition("events", 0), Partition("events", 1)


def at(*seconds: float) -> list[Any]:
    """Predictions at these times."""
    return [prediction(f"r{s}", T0 + round(s * SECOND)) for s in seconds]


def late_clock() -> SteppedClock:
    """So late that the time of day limits no stream time."""
    return SteppedClock(T0 + HOUR, until=0.0)


def gaps(daemon: SteppedDaemon) -> list[tuple[int, int]]:
    with daemon.engine.connect() as c:
        return [(row.from_offset, row.to_offset) for row in c.execute(sa.select(t.gap))]


def left_out(daemon: SteppedDaemon, partition: int) -> bool:
    return daemon.metric("driftd_partition_left_out", topic="events", partition=str(partition)) == 1.0
