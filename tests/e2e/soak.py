"""Minutes of crashes and outages at random, and an audit at the end.

    python -m tests.e2e.soak --minutes 10 --seed 1            # Kafka and PostgreSQL, started by itself
    python -m tests.e2e.soak --minutes 10 --seed 1 --files    # files and SQLite

A producer writes steadily. Two daemons share a store. Daemons are killed and frozen, the broker and the database
are killed, frozen and locked, one thing at a time or several. In the end everything heals, and what the daemons have
counted and published is compared with a recount of what is in the topics of events. The same seed makes the same
trouble at about the same time. Exits 1 if anything differs.
"""

from __future__ import annotations

import argparse
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import OF_KAFKA_PYTHON
from tests.e2e import auditor, workload
from tests.e2e.auditor import Input
from tests.e2e.daemon import Daemon
from tests.e2e.place import FilePlace, KafkaPlace, Place

DAEMONS = 2
PARTITIONS = 2
STREAM_SECONDS_PER_SECOND = 5
PORTION_S = 0.25
HEAL_S = 120.0


class Producer(threading.Thread):
    """Writes lines in portions, evenly over the time."""

    def __init__(self, write: Callable[[Sequence[workload.Line]], None], seconds: float, seed: int) -> None:
        super().__init__(name="producer", daemon=True)
        stream_seconds = int(seconds * STREAM_SECONDS_PER_SECOND)
        self.lines = workload.Workload(seed=seed, seconds=stream_seconds).lines()
        self.written = 0
        self.error: BaseException | None = None
        self._write, self._portions = write, max(int(seconds / PORTION_S), 1)

    def run(self) -> None:
        each = -(-len(self.lines) // self._portions)
        began = time.monotonic()
        try:
            for i in range(0, len(self.lines), each):
                time.sleep(max(began + i / each * PORTION_S - time.monotonic(), 0))
                self._write(self.lines[i : i + each])
                self.written += len(self.lines[i : i + each])
        except BaseException as error:  # noqa: BLE001 - for the thread that waits
            self.error = error


class Daemons:
    """Keeps a number of daemons running in one place."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._running: list[Daemon] = []
        self._number = 0
        self.ends: Counter[int] = Counter()

    def __enter__(self) -> Daemons:
        self.tend()
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self._running:
            daemon.__exit__(None, None, None)

    def tend(self) -> None:
        """Start what is missing, as systemd would."""
        for daemon in self._running[:]:
            if not daemon.is_running:
                self.ends[daemon.ended()] += 1
                self._running.remove(daemon)
        while len(self._running) < DAEMONS:
            self._running.append(self._place.daemon(name=f"daemon-{self._number}"))
            self._number += 1

    def any(self, chance: random.Random) -> Daemon:
        return chance.choice(self._running)

    def owner(self) -> Daemon | None:
        """The one that works, if it can be asked."""
        for daemon in self._running:
            try:
                known = daemon.logged("http.listening") and daemon.status()
                # One that lost the store shows what it knew last.
                if known and "another daemon owns" not in (daemon.why_not_ready or ""):
                    return daemon
            except OSError:
                continue
        return None

    def stop(self) -> list[int]:
        """Their exit codes, in order: those that wait end first."""
        owner = self.owner()
        ordered = sorted(self._running, key=lambda daemon: daemon is owner)
        codes = [daemon.stop(60) for daemon in ordered]
        self._running.clear()
        return codes


# -- trouble -----------------------------------------------------------------------------------------------

Trouble = Callable[[random.Random], None]


def of_daemons(daemons: Daemons) -> dict[str, Trouble]:
    def kill(chance: random.Random) -> None:
        with suppress(ProcessLookupError):
            daemons.any(chance).signal(signal.SIGKILL)

    def freeze(chance: random.Random) -> None:
        daemon = daemons.any(chance)
        with suppress(ProcessLookupError):  # the other trouble may have killed it
            daemon.freeze()
            time.sleep(chance.uniform(1, 8))
            daemon.thaw()

    def end(chance: random.Random) -> None:
        with suppress(ProcessLookupError):
            daemons.any(chance).signal(signal.SIGTERM)

    return {"kill a daemon": kill, "freeze a daemon": freeze, "end a daemon": end}


def lasting(begin: Callable[[], None], end: Callable[[], None]) -> Trouble:
    def trouble(chance: random.Random) -> None:
        begin()
        try:
            time.sleep(chance.uniform(0.5, 10))
        finally:
            end()

    return trouble


# -- places ------------------------------------------------------------------------------------------------


@contextmanager
def on_files(directory: Path) -> Iterator[tuple[Place, Callable[[Sequence[workload.Line]], None], dict[str, Trouble]]]:
    place = FilePlace(directory)

    def lock(chance: random.Random) -> None:
        path = place.store_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(chance.uniform(0.5, 10))

    yield place, place.produce, {"lock the database": lock}


@contextmanager
def on_servers(
    directory: Path,
) -> Iterator[tuple[Place, Callable[[Sequence[workload.Line]], None], dict[str, Trouble]]]:
    from tests.servers.kafka import Cluster
    from tests.servers.postgres import Postgres
    from tests.servers.topics import Topics

    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(directory / "kafka"))
        postgres = stack.enter_context(Postgres(directory / "postgres"))
        topics = stack.enter_context(closing(Topics(cluster.bootstrap)))
        place = KafkaPlace(directory / "place", topics, postgres.fresh_database(), partitions=PARTITIONS)
        producer = stack.enter_context(closing(_Patient(place, cluster.bootstrap)))
        node = cluster.nodes[0]
        trouble = {
            "kill the broker": lasting(node.kill, node.start),
            "freeze the broker": lasting(node.freeze, node.thaw),
            "kill the database": lasting(postgres.kill, postgres.start),
            "freeze the database": lasting(postgres.freeze, postgres.thaw),
        }
        yield place, producer.write, trouble


class _Patient:
    """A producer that waits out every outage: idempotent, so that nothing is written twice."""

    def __init__(self, place: KafkaPlace, bootstrap: str) -> None:
        from kafka import KafkaProducer

        from monitor.stream.kafka_repairs import construct

        self._place = place
        self._producer: Any = construct(
            KafkaProducer,
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=600_000,
            max_block_ms=600_000,
            reconnect_backoff_max_ms=500,
        )

    def write(self, lines: Sequence[workload.Line]) -> None:
        sent = [
            self._producer.send(
                self._place.topic_of(line.topic), line.value, b"key", partition=self._place.partition_of(line)
            )
            for line in lines
        ]
        self._producer.flush(600)
        for result in sent:
            result.get(0)

    def close(self) -> None:
        self._producer.close(timeout=5)


def inputs_of(place: Place, lines: Sequence[workload.Line]) -> Iterator[Input]:
    """What is in the topics of events, whatever the producer thinks it has written."""
    reasons: Mapping[bytes, str | None] = {line.value: line.reason for line in lines}
    for topic, partition in place.inputs:
        for offset, value in enumerate(place.values(topic, partition)):
            yield Input(topic, partition, offset, value, reasons[value])


# -- the run -----------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def soak(minutes: float, seed: int, *, files: bool, directory: Path) -> list[str]:
    """-> what differs in the end."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        place, write, trouble = stack.enter_context(on_files(directory) if files else on_servers(directory))
        place.configure(workload.models(drift=False))
        producer = Producer(write, minutes * 60, seed)
        say(f"seed {seed}: {len(producer.lines)} records in {minutes:g} minutes, in {directory}")
        daemons = stack.enter_context(Daemons(place))
        trouble |= of_daemons(daemons)
        producer.start()
        # Threads that last as long as the run: a server ends with the thread that started it.
        with ThreadPoolExecutor(2) as pool:
            done = make_trouble(trouble, daemons, producer, chance, pool)
            say(f"trouble made: {', '.join(f'{name} {n}' for name, n in sorted(done.items()))}")
            say(f"daemons that ended, by exit code: {dict(daemons.ends)}")
            if producer.error is not None:
                raise producer.error
            return heal(place, daemons, producer)


def make_trouble(
    trouble: Mapping[str, Trouble], daemons: Daemons, producer: Producer, chance: random.Random, pool: Executor
) -> Counter[str]:
    """Something every few seconds until the producer is done; sometimes two things at once, of different kinds."""
    done: Counter[str] = Counter()
    told_at = 0.0
    while producer.is_alive():
        names = chance.sample(sorted(trouble), chance.choice([1, 1, 1, 2]))
        if len({name.split()[-1] for name in names}) == 1:
            names = names[:1]
        for made in [pool.submit(trouble[name], random.Random(chance.random())) for name in names]:
            made.result()
        done.update(names)
        daemons.tend()
        rest = time.monotonic() + chance.uniform(0.5, 6)
        while time.monotonic() < rest and producer.is_alive():
            time.sleep(0.2)
            daemons.tend()
        if time.monotonic() - told_at > 10:
            told_at = time.monotonic()
            say(f"{producer.written} written, {_progress(daemons)}, {sum(done.values())} times trouble")
    return done


def _progress(daemons: Daemons) -> str:
    owner = daemons.owner()
    if owner is None:
        return "nobody works"
    try:
        resident = psutil.Process(owner.pid).memory_info().rss >> 20
        return f"{owner.read} read, {resident} MB"
    except (OSError, psutil.Error, TypeError):
        return "the owner does not answer"


def _position(daemons: Daemons) -> str:
    """What the owner says of itself."""
    owner = daemons.owner()
    if owner is None:
        return "nobody owns the store"
    lags = {name: value for name, value in owner.metrics().items() if name.startswith("driftd_lag")}
    return f"{owner.why_not_ready or 'ready'}, {lags}\n{owner.told()}"


def heal(place: Place, daemons: Daemons, producer: Producer) -> list[str]:
    """Everything is back: the daemons catch up and end; then they are audited."""
    deadline = time.monotonic() + HEAL_S
    while time.monotonic() < deadline:
        daemons.tend()
        owner = daemons.owner()
        try:
            if owner is not None and owner.read >= len(producer.lines):
                owner.until_published(30)
                break
        except (OSError, AssertionError):
            pass
        time.sleep(0.2)
    else:
        written = sum(len(place.values(topic, number)) for topic, number in place.inputs)
        why = f"{written} are there, {_progress(daemons)}: {_position(daemons)}"
        return [f"not everything was read {HEAL_S:.0f} s after the last trouble: {why}"]
    codes = daemons.stop()
    say(f"caught up; the daemons ended with {codes}")
    expected = auditor.recount(inputs_of(place, producer.lines), place.inputs)
    found = place.found()
    repeats = len(found.published_alerts) - len(found.alerts)
    say(f"{len(found.alerts)} alerts, {len(found.decisions)} decisions, {repeats} alerts were published again")
    wrong = [] if not any(codes) else [f"the daemons ended with {codes}"]
    return wrong + auditor.differences(expected, found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", action="store_true", help="files and SQLite, no servers")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", OF_KAFKA_PYTHON, DeprecationWarning)
    with tempfile.TemporaryDirectory(prefix="driftd-soak-", ignore_cleanup_errors=True) as directory:
        wrong = soak(arguments.minutes, arguments.seed, files=arguments.files, directory=Path(directory))
    for difference in wrong[:50]:
        say(f"DIFFERENT: {difference}")
    say(f"FAILED: {len(wrong)} differences" if wrong else "PASSED: nothing was lost, nothing was counted twice")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
