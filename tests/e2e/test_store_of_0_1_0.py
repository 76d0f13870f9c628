"""A database that 0.1.0 left behind: a newer release goes on with it, and says what 0.1.0 would have said.

The database is of a daemon that was killed: panes are open, answers and outcomes wait, references are being
learned, episodes fire, messages were not published. `tests/data/store_0_1_0/make.py` says how it was made. What
0.1.0 itself came to from there is kept beside it, and is compared text by text.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pytest

from tests.data.store_0_1_0.make import HERE, LAST_ORDER, unpacked
from tests.data.store_0_1_0.told import MODELS, SECTIONS, Told, told
from tests.data.store_0_1_0.traffic import FILES
from tests.e2e.place import FilePlace

WAIT_S: Final = 120.0  # thousands of records in one go
SCENARIOS: Final = ("opened", "continued", "ordered")
EXPECTED: Final[dict[str, Told]] = json.loads(unpacked("expected.json"))


class Inherited(FilePlace):
    """The place as it was when 0.1.0 was killed. Without `orders`, nobody has given those that wait."""

    def __init__(self, directory: Path, *, orders: bool) -> None:
        super().__init__(directory)
        for name in ("driftd.yaml", "spam.csv.gz"):
            (directory / name).write_bytes((HERE / name).read_bytes())
        self.database = directory / "driftd.db"
        self.database.write_bytes(unpacked("store.db"))
        for name in FILES:
            (self.stream / name).write_bytes(unpacked(f"before/{name}"))
        self.records = 0  # read when it was killed
        with closing(sqlite3.connect(self.database)) as c, c:
            ((totals,),) = c.execute("SELECT totals FROM shard").fetchall()
            self.records = json.loads(totals)["events"]["read"]
            if not orders:
                c.execute("DELETE FROM command WHERE applied_seq IS NULL")

    def add_the_rest(self) -> None:
        """Of the stream. All of it is there when a daemon starts, so that the order of reading is certain."""
        for name in FILES:
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
    return told(place.directory, place.ask, requests)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Told]:
    """What this release says in a scenario; each is run once."""
    kept: dict[str, Told] = {}
    run = {"opened": opened, "continued": continued, "ordered": ordered}

    def of(scenario: str) -> Told:
        if scenario not in kept:
            kept[scenario] = run[scenario](tmp_path_factory.mktemp(scenario))
        return kept[scenario]

    return of


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_newer_release_says_exactly_what_0_1_0_said(
    found: Callable[[str], Told], scenario: str, section: str
) -> None:
    assert EXPECTED[scenario][section]  # there is something to compare

    assert _decided_last(found(scenario)[section]) == _decided_last(EXPECTED[scenario][section])


def _decided_last(lines: list[str]) -> list[str]:
    """Put alerts about traffic after the others of their moment.

    0.1.0 decided rule by rule. All rules of a check are told of first now, and then what was decided.
    """
    found: list[str] = []
    for _, moment in groupby(lines, key=lambda line: _about(line)[:2]):
        found += sorted(moment, key=lambda line: _about(line)[2] in ("rollback", "fallback"))
    return found


def _about(line: str) -> tuple[Any, Any, Any]:
    """(model, time, kind) of an alert; all the same for other lines."""
    record = json.loads(line) if line.startswith('{"schema": 1, "event_id"') else {}
    return record.get("model"), record.get("issued_at"), record.get("kind")


def test_an_order_that_waited_is_carried_out_once(found: Callable[[str], Told]) -> None:
    assert found("ordered")["order"] == EXPECTED["ordered"]["order"]


# -- the tables --------------------------------------------------------------------------------------------


def test_questions_are_answered_before_a_daemon_has_run(tmp_path: Path) -> None:
    """A database of the first release is not taken for an empty one."""
    place = Inherited(tmp_path, orders=True)

    status = json.loads(place.ask("status", "--json"))

    assert status["events"]["read"] == place.records
    assert status["outbox"] > 0
    assert len(place.ask("history", "heat", "--json").splitlines()) > 1_000
    known = json.loads(EXPECTED["opened"]["requests"][0])["request_id"]
    models = json.loads(place.ask("inspect", known, "--json"))["models"]
    assert any(model["state"] != "unknown" for model in models)


def test_the_database_is_brought_up_to_date_and_questions_are_answered_from_it(tmp_path: Path) -> None:
    old, new = Inherited(tmp_path / "old", orders=True), FilePlace(tmp_path / "new")
    new.configure()
    for place in (old, new):
        with place.daemon() as daemon:
            daemon.until_ready()
            assert daemon.stop() == 0

    of_a_new_one = _schema(new.directory / "driftd.db")

    assert _schema(old.database) == of_a_new_one
    status = json.loads(old.ask("status", "--json"))
    assert status["events"]["read"] == old.records
    assert set(status["models"]) == set(MODELS)
    assert len(old.ask("history", "heat", "--json").splitlines()) > 1_000


def _schema(database: Path) -> dict[str, Any]:
    """The revision, and the columns of every table: name, type, whether it may be missing, place in the key."""
    with closing(sqlite3.connect(database)) as c:
        tables = [name for (name,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: dict[str, Any] = {
            table: sorted(
                (name, kind, needed, key) for _, name, kind, needed, _, key in c.execute(f"PRAGMA table_info({table})")
            )
            for table in tables
        }
        found["revision"] = c.execute("SELECT version_num FROM alembic_version").fetchall()
    return found
