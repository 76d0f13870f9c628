"""Places for what 0.1.0 left behind: the one that it was killed in, and one in which it never ran."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.data.store_0_1_0 import traffic
from tests.data.store_0_1_0.make import HERE, LAST_ORDER, unpacked
from tests.data.store_0_1_0.told import MODELS, Told, told
from tests.e2e.place import FilePlace

WAIT_S: Final = 120.0  # thousands of records in one go
EXPECTED: Final[dict[str, Told]] = json.loads(unpacked("expected.json"))


class Inherited(FilePlace):
    """The place as it was when 0.1.0 was killed. Without `orders`, nobody has given those that wait."""

    def __init__(self, directory: Path, *, orders: bool) -> None:
        super().__init__(directory)
        for name in ("driftd.yaml", "spam.csv.gz"):
            (directory / name).write_bytes((HERE / name).read_bytes())
        self.database = directory / "driftd.db"
        self.database.write_bytes(unpacked("store.db"))
        for name in traffic.FILES:
            (self.stream / name).write_bytes(unpacked(f"before/{name}"))
        self.records = 0  # read when it was killed
        with closing(sqlite3.connect(self.database)) as c, c:
            ((totals,),) = c.execute("SELECT totals FROM shard").fetchall()
            self.records = json.loads(totals)["events"]["read"]
            if not orders:
                c.execute("DELETE FROM command WHERE applied_seq IS NULL")

    def latest(self) -> dict[tuple[str, int], int]:
        """Time of the latest event of each (topic, partition)."""
        with closing(sqlite3.connect(self.database)) as c:
            ((state,),) = c.execute("SELECT state FROM shard").fetchall()
        return {(topic, number): time for topic, number, time in json.loads(state)["clock"]["latest"]}

    def add_the_rest(self) -> None:
        """Of the stream. All of it is there when a daemon starts, so that the order of reading is certain."""
        for name in traffic.FILES:
            rest = unpacked(f"after/{name}")
            self.records += rest.count(b"\n")
            with (self.stream / name).open("ab") as file:
                file.write(rest)

    def work(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Run a daemon until it has read and published everything."""
        with self.daemon() as daemon:
            daemon.until_read(self.records, WAIT_S)
            meanwhile()
            daemon.until_published(WAIT_S)
            assert daemon.stop() == 0

    def ask(self, *arguments: str) -> str:
        """What a command prints."""
        answer = self.driftd(*arguments)
        assert answer.code == 0, answer.err
        return answer.out


def opened(directory: Path) -> Told:
    """It starts and ends, and nothing comes."""
    place = Inherited(directory, orders=False)
    place.work()
    return _told(place)


def continued(directory: Path) -> Told:
    """The rest of the stream is there when it starts."""
    place = Inherited(directory, orders=False)
    place.add_the_rest()
    place.work()
    return _told(place)


def ordered(directory: Path) -> Told:
    """It carries out what operators have ordered meanwhile, ends, and then goes on."""
    place = Inherited(directory, orders=True)
    answers: list[str] = []
    place.work(lambda: answers.extend(place.ask(*LAST_ORDER, "--wait", "30", "--json").splitlines()))
    place.add_the_rest()
    place.work()
    return _told(place) | {"order": answers}


def _told(place: Inherited) -> Told:
    requests = [json.loads(line)["request_id"] for line in EXPECTED["continued"]["requests"]]
    records = [place.ask("reference", "list", model, "--json").strip() for model in MODELS]
    return told(place.directory, place.ask, requests) | {"records": records}


# -- without 0.1.0 -----------------------------------------------------------------------------------------


class Fresh(NamedTuple):
    """What this release says of the whole stream, where 0.1.0 never ran and nobody gave orders."""

    before: dict[str, Any]  # its status where 0.1.0 was killed
    after: dict[str, Any]
    history: list[dict[str, Any]]  # of heat and quiet


def fresh(directory: Path) -> Fresh:
    """Read all records in a new store; the burst first, so that requests are sampled from there on as they were."""
    place = Inherited(directory, orders=False)
    config = directory / "driftd.yaml"
    config.write_text(config.read_text().replace("dead_letters_per_minute: 100", "dead_letters_per_minute: 1000"))
    before = {name: unpacked(f"before/{name}") for name in traffic.FILES}
    seed = _begin_anew(place)
    burst = [line for line in traffic.lines() if line.at < traffic.BURST_ENDS]
    for name, body in before.items():
        (place.stream / name).write_bytes(b"".join(body.splitlines(keepends=True)[: _of(name, burst)]))
    place.records = len(burst)
    with closing(sqlite3.connect(place.database)) as c, c:
        c.execute("UPDATE shard SET hash_seed = ?", (seed,))
    place.work()
    for name, body in before.items():
        (place.stream / name).write_bytes(body)
    place.records = sum(body.count(b"\n") for body in before.values())
    place.work()
    status = json.loads(place.ask("status", "--json"))
    place.add_the_rest()
    place.work()
    history = [json.loads(x) for model in ("heat", "quiet") for x in place.ask("history", model, "--json").splitlines()]
    return Fresh(status, json.loads(place.ask("status", "--json")), history)


def _of(name: str, lines: list[traffic.Line]) -> int:
    return sum(line.file == name for line in lines)


def _begin_anew(place: Inherited) -> str:
    """Start and end on an empty stream, without the database of 0.1.0. -> the seed of its hashes."""
    with closing(sqlite3.connect(place.database)) as c:
        ((seed,),) = c.execute("SELECT hash_seed FROM shard").fetchall()
    place.database.unlink()
    for name in traffic.FILES:
        (place.stream / name).write_bytes(b"")
    with place.daemon() as daemon:
        daemon.until_ready()
        assert daemon.stop() == 0
    return str(seed)
