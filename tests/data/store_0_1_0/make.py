"""Make the database, and what 0.1.0 says of it. Kept to show how it was made; it was run once, with 0.1.0:

    python -m tests.data.store_0_1_0.make /path/to/0.1.0/.venv/bin/driftd

A real daemon reads the traffic up to the cut in several runs, with operators' orders in between, and is killed while
nothing can be published. What it leaves behind is the fixture:

    driftd.yaml, spam.csv.gz    what it ran with
    before/*.jsonl.xz           the stream up to the cut, as it was then
    after/*.jsonl.xz            what comes after it
    store.db.xz                 the database, with three orders that wait
    expected.json.xz            what 0.1.0 says then:
        opened                      after a start and an end, without the waiting orders
        continued                   after it went on with the rest of the stream, without them
        ordered                     after it carried them out, ended, and then went on

`--check` makes nothing: it has the given release go on from the fixture and tells what is different.

What tells the machine and the day is taken out of the database: `owner` and `updated_at` of `shard`, `who` and
`created_at` of `command`, `source` of `reference`. So a machine whose clock is behind need not wait for the lease.
"""

from __future__ import annotations

import gzip
import itertools
import json
import lzma
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tests.data.store_0_1_0 import traffic
from tests.data.store_0_1_0.told import SECTIONS, TOPICS, Told, told

HERE: Final = Path(__file__).parent
WAIT_S: Final = 300.0
PIECE: Final = 4 * traffic.MINUTE
LAST_ORDER: Final = ("recover", "animal", "--reason", "mended", "--key", "waits")


class Place:
    """A directory in which a release runs."""

    def __init__(self, driftd: str, directory: Path) -> None:
        self.driftd, self.directory = driftd, directory
        self.stream = directory / "stream"
        self.stream.mkdir(parents=True)
        for name in ("driftd.yaml", "spam.csv.gz"):
            shutil.copy(HERE / name, directory)

    def forget_early(self) -> None:
        """Remember few requests: the database then knows since when. What is forgotten depends on the commits."""
        config = self.directory / "driftd.yaml"
        config.write_text(config.read_text().replace("seen: 100000", "seen: 2000"))

    def append(self, lines: Sequence[traffic.Line]) -> None:
        for name in traffic.FILES:
            with (self.stream / name).open("ab") as file:
                file.write(b"".join(line.value + b"\n" for line in lines if line.file == name))

    def ask(self, *arguments: str) -> str:
        done = subprocess.run([self.driftd, *arguments], cwd=self.directory, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"driftd {' '.join(arguments)}: {done.returncode}\n{done.stderr.decode()}")
        return done.stdout.decode()

    def query(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.directory / "driftd.db", timeout=30)) as c, c:
            return c.execute(statement).fetchall()

    def start(self) -> Running:
        return Running(self)


class Running:
    """A daemon. In the end it is gone."""

    def __init__(self, place: Place) -> None:
        self._place, self._log = place, place.directory / "daemon.log"
        self._from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            command = [place.driftd, "run", "--log-format", "json"]
            self._process = subprocess.Popen(command, cwd=place.directory, stdout=log, stderr=log)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        if self._process.wait(WAIT_S):
            raise RuntimeError(self._text())

    def until(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                if check():
                    return
            except (OSError, LookupError):
                pass  # it does not listen yet
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"exit code {self._process.poll()}: {self._text()}")
            time.sleep(0.05)

    def until_read(self, records: int) -> None:
        self.until(lambda: self._status()["events"]["read"] >= records)

    def until_published(self) -> None:
        """Until all is published that was committed up to now, and in one more commit."""
        commits = self._commits()
        self.until(lambda: self._commits() > commits + 1 and not self._waiting())

    def until_logged(self, event: str) -> None:
        self.until(lambda: f'"{event}"' in self._text())

    def until_committed(self) -> None:
        commits = self._commits()
        self.until(lambda: self._commits() > commits + 1)

    def _commits(self) -> int:
        return int(self._place.query("SELECT seq FROM shard")[0][0])

    def _waiting(self) -> int:
        return int(self._place.query("SELECT count(*) FROM outbox")[0][0])

    def _status(self) -> dict[str, Any]:
        entries = [json.loads(line) for line in self._text().splitlines() if line.startswith("{")]
        port = [entry["port"] for entry in entries if entry.get("event") == "http.listening"][-1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def _text(self) -> str:
        return self._log.read_bytes()[self._from :].decode()


# -- up to the cut ---------------------------------------------------------------------------------------


def make_database(place: Place) -> None:
    """All that 0.1.0 does before it is killed."""
    lines = traffic.lines()
    ends = (0, traffic.BURST_ENDS, traffic.FIRST_ENDS, traffic.CUT)
    burst, first, second = ([line for line in lines if a <= line.at < b] for a, b in itertools.pairwise(ends))
    # More answers wait than may: a sample of requests waits from this commit on.
    place.append(burst)
    with place.start() as daemon:
        daemon.until_read(len(burst))
        daemon.stop()
    with place.start() as daemon:
        read = in_pieces(place, daemon, first, len(burst))
        give_orders(place)
        daemon.until_published()
        daemon.stop()
    # A file of events that has become shorter is a gap.
    resources = place.stream / traffic.TO_RESOURCES
    resources.write_bytes(b"".join(resources.read_bytes().splitlines(keepends=True)[:-3]))
    with place.start() as daemon:
        daemon.until_logged("worker.gap")
        daemon.until_committed()
        daemon.until_published()
        daemon.stop()
    # From here on nothing can be published.
    for topic in TOPICS.values():
        output = place.stream / f"{topic}.jsonl"
        output.unlink()
        output.mkdir()
    with place.start() as daemon:
        in_pieces(place, daemon, second, read)
        daemon.until_committed()
        daemon.kill()
    for topic in TOPICS.values():
        (place.stream / f"{topic}.jsonl").rmdir()
    give_waiting_orders(place)


def in_pieces(place: Place, daemon: Running, lines: Sequence[traffic.Line], read: int) -> int:
    """Several commits. -> how many records are read in the end."""
    for _, piece in itertools.groupby(lines, key=lambda line: line.at // PIECE):
        part = list(piece)
        place.append(part)
        read += len(part)
        daemon.until_read(read)
    return read


def give_orders(place: Place) -> None:
    """To a daemon that has read everything: when they are carried out is certain then."""
    for order in (
        ["silence", "spam", "--for", "25m", "--kind", "data_quality", "--reason", "a sender moves"],
        ["silence", "heat", "--for", "5m", "--reason", "maintenance"],
        ["rollback", "quiet", "--to", "q1", "--reason", "q2 is slow", "--key", "once"],
        ["recover", "quiet", "--reason", "to see what it says"],
        ["reference", "relearn", "animal", "--events", "600", "--reason", "new cameras"],
        ["reference", "accept", "heat", "--reason", "a new season"],
    ):
        print(" ".join(order), "->", place.ask(*order, "--wait", "30", "--json").split())


def give_waiting_orders(place: Place) -> None:
    """To nobody: the next daemon carries them out."""
    place.ask("silence", "heat", "--for", "10m", "--kind", "drift", "--version", "v2", "--reason", "known")
    place.ask("reference", "accept", "spam", "--reason", "words are missing for good")
    place.ask(*LAST_ORDER)


def without_names(place: Place) -> None:
    """Take out what tells the machine and the day, and bring the database into one file."""
    for statement in (
        f"UPDATE shard SET owner = 'host/1/0', updated_at = {traffic.T0 / 1000}",
        f"UPDATE command SET who = 'operator@host', created_at = {traffic.T0 / 1000}",
        "UPDATE reference SET source = 'operator@host' WHERE source != ''",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ):
        place.query(statement)


# -- from the cut on -------------------------------------------------------------------------------------


def unpack(driftd: str, directory: Path, *, orders: bool) -> Place:
    """The place as it was when the daemon was killed."""
    place = Place(driftd, directory)
    (directory / "driftd.db").write_bytes(unpacked("store.db"))
    for name in traffic.FILES:
        (place.stream / name).write_bytes(unpacked(f"before/{name}"))
    if not orders:
        place.query("DELETE FROM command WHERE applied_seq IS NULL")
    return place


def go_on(place: Place) -> None:
    """With the rest of the stream."""
    for name in traffic.FILES:
        with (place.stream / name).open("ab") as file:
            file.write(unpacked(f"after/{name}"))
    lines = sum((place.stream / name).read_bytes().count(b"\n") for name in traffic.FILES)
    with place.start() as daemon:
        daemon.until(lambda: sum(p[2] for p in json.loads(place.ask("status", "--json"))["positions"]) >= lines)
        daemon.until_published()
        daemon.stop()


def opened(driftd: str, directory: Path) -> Told:
    """A start and an end."""
    place = unpack(driftd, directory, orders=False)
    with place.start() as daemon:
        daemon.until_logged("worker.began")
        daemon.until_published()
        daemon.stop()
    return told(directory, place.ask, traffic.looked_up(traffic.lines()))


def continued(driftd: str, directory: Path) -> Told:
    """At once with the rest."""
    place = unpack(driftd, directory, orders=False)
    go_on(place)
    return told(directory, place.ask, traffic.looked_up(traffic.lines()))


def ordered(driftd: str, directory: Path) -> Told:
    """The waiting orders first."""
    place = unpack(driftd, directory, orders=True)
    with place.start() as daemon:
        results = place.ask(*LAST_ORDER, "--wait", "30", "--json").splitlines()
        daemon.until_published()
        daemon.stop()
    go_on(place)
    return told(directory, place.ask, traffic.looked_up(traffic.lines())) | {"order": results}


SCENARIOS: Final = (opened, continued, ordered)


# -- files -----------------------------------------------------------------------------------------------


def unpacked(name: str) -> bytes:
    """A file of the fixture."""
    return lzma.decompress((HERE / f"{name}.xz").read_bytes())


def _pack(name: str, body: bytes) -> None:
    path = HERE / f"{name}.xz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lzma.compress(body, preset=9 | lzma.PRESET_EXTREME))


def make(driftd: str, directory: Path) -> None:
    """Everything anew."""
    (HERE / "spam.csv.gz").write_bytes(gzip.compress(traffic.reference_table().encode(), 9, mtime=0))
    place = Place(driftd, directory / "made")
    place.forget_early()
    make_database(place)
    without_names(place)
    _pack("store.db", (place.directory / "driftd.db").read_bytes())
    for name in traffic.FILES:
        _pack(f"before/{name}", (place.stream / name).read_bytes())
        rest = [line.value + b"\n" for line in traffic.lines() if line.file == name and line.at >= traffic.CUT]
        _pack(f"after/{name}", b"".join(rest))
    found = {scenario.__name__: scenario(driftd, directory / scenario.__name__) for scenario in SCENARIOS}
    _pack("expected.json", json.dumps(found).encode())


def check(driftd: str, directory: Path) -> int:
    """-> how many sections are different."""
    different = 0
    everything = json.loads(unpacked("expected.json"))
    for scenario in SCENARIOS:
        expected = everything[scenario.__name__]
        found = scenario(driftd, directory / scenario.__name__)
        for section in (*SECTIONS, "order"):
            same = expected.get(section) == found.get(section)
            different += not same
            print(scenario.__name__, section, len(found.get(section, ())), "same" if same else "DIFFERENT")
    return different


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        *options, release = sys.argv[1:]
        if options == ["--check"]:
            sys.exit(check(release, Path(temporary)) > 0)
        make(release, Path(temporary))
