"""What the commands say when there is nothing to say, when nobody runs, and when an argument is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from monitor.cli import run
from monitor.cli.stored import store_of
from monitor.clock import wall_ms
from monitor.errors import StoreError
from monitor.store import schema
from monitor.store import tables as t
from monitor.store.engine import connect, snapshot
from monitor.store.owner import owner_name
from tests.in_process import logging_as_it_was
from tests.monitor.store.fill import written

USAGE, FAULT, AWAY, CONFIGURATION = 64, 70, 75, 78
CONFIG = """
stream: {url: "file:./stream", events: [ml.predictions]}
store: {url: "sqlite:///driftd.db"}
models:
  m: {task: binary, positive: "1", champion: v1, window: {events: 20, every: 10}, outcomes: {within: 1d}}
"""


@dataclass
class Told:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs commands in a folder, and has a connection to their store."""

    def __init__(self, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
        self.engine = engine
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Told:
        self._capsys.readouterr()
        with logging_as_it_was():
            code = run(arguments)
        told = self._capsys.readouterr()
        return Told(code, told.out, told.err)

    def set(self, **values: object) -> None:
        with self.engine.begin() as c:
            c.execute(sa.update(t.shard).values(**values))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """A store in which seven commits were made."""
    monkeypatch.chdir(tmp_path)
    Path("driftd.yaml").write_text(CONFIG)
    engine = connect("sqlite:///driftd.db")
    schema.upgrade(engine)
    written(engine, 7)
    yield Shell(engine, capsys)
    engine.dispose()


# -- nothing to show -------------------------------------------------------------------------------------


def test_an_empty_history_says_that_nothing_was_measured_yet(shell: Shell) -> None:
    with shell.engine.begin() as c:
        c.execute(sa.delete(t.history))

    told = shell("history", "m")

    assert (told.code, told.out) == (0, "")
    assert told.err.startswith("nothing was measured of m yet: no window of it has ended; ")
    assert shell("history", "m", "--csv").out.startswith("model,version,")


def test_a_history_in_which_nothing_was_asked_for_says_what_there_is(shell: Shell) -> None:
    told = shell("history", "m", "--metric", "mae")

    assert (told.code, told.out) == (0, "")
    assert told.err.startswith("nothing that was asked for is stored of m: its windows end from 2023-11-14T22:13:")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("", "m has no reference: none is configured; give it one with models.m.reference"),
        ("reference: table.csv", "m has no reference yet: it is read at the first start"),
        ("reference: {learn: 500}", "m has no reference yet: it is still being learned"),
        ("reference: {learn: 500}, drift: null", "m has no reference: drift is switched off, so none is learned"),
    ],
    ids=["none", "table", "learned", "not watched"],
)
def test_without_a_reference_it_is_said_whether_one_will_come(shell: Shell, keys: str, says: str) -> None:
    with shell.engine.begin() as c:
        c.execute(sa.delete(t.reference))
    Path("table.csv").write_text("x\n1\n2\n")
    Path("driftd.yaml").write_text(CONFIG.replace("outcomes: {within: 1d}", f"outcomes: {{within: 1d}}, {keys}"))

    told = shell("reference", "show", "m")

    assert (told.code, told.out) == (0, "")
    assert " ".join(told.err.split()) == says


# -- nobody runs -----------------------------------------------------------------------------------------

HERE = owner_name().partition("/")[0]


@pytest.mark.parametrize(
    ("owner", "age_s", "says"),
    [
        (None, 1, "no daemon runs"),
        (f"{HERE}/4194303/boot-1", 1, "no daemon runs: its daemon (pid 4194303) has ended without giving up the store"),
        (owner_name(), 3_600, None),
        ("elsewhere@pid:[1]/7/boot-1", 1, None),
        ("elsewhere@pid:[1]/7/boot-1", 3_600, "no daemon seems to run: its daemon (pid 7 on elsewhere) has committed"),
    ],
    ids=["given up", "killed", "runs", "runs elsewhere", "silent elsewhere"],
)
def test_status_says_when_no_daemon_runs(shell: Shell, owner: str | None, age_s: int, says: str | None) -> None:
    """After kill -9 the store still names its owner."""
    shell.set(owner=owner, updated_at=wall_ms() / 1000 - age_s)

    told, in_json = shell("status"), shell("status", "--json").json

    assert (in_json["no_daemon"] or "").startswith(says or "no daemon") is (says is not None)
    assert ("; no daemon" in told.out) is (says is not None)
    assert says is None or says in told.out


def test_an_order_that_nobody_applies_in_time_says_so_and_why(shell: Shell) -> None:
    shell.set(owner=f"{HERE}/4194303/boot-1")

    told = shell("recover", "m", "--wait", "0.01")

    assert (told.code, told.out) == (AWAY, "")
    assert "is stored, but nobody applied it in 0.01 s; no daemon runs: its daemon (pid 4194303)" in told.err
    assert told.err.rstrip().endswith("start it with `driftd run`")
    shell.set(owner=owner_name())
    assert "a daemon runs: see its log" in shell("recover", "m", "--wait", "0.01").err
    assert "applies it in its next commit" in shell("recover", "m").out
    shell.set(owner=None)
    assert "applies it at its next start: no daemon runs" in shell("recover", "m").out


# -- arguments -------------------------------------------------------------------------------------------

SILENCE = ("silence", "m", "--for", "1h")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*SILENCE, "--reason", ""), "--reason"),
        (("recover", "m", "--reason", " "), "--reason"),
        ((*SILENCE, "--reason", "x", "--version", "nope"), "there is no version nope; known: v1"),
        (("recover", "m", "--wait", "inf"), "--wait: inf: 0 to 86400 seconds are needed"),
        (("recover", "m", "--wait", "nan"), "--wait: nan"),
        (("recover", "m", "--wait", "-1"), "--wait: -1"),
        (("recover", "m", "--reason", "\udcff"), r"\udcff: an argument is not UTF-8"),
        (("history", "m", "--last", "9" * 23), "--last"),
        (("alerts", "--last", "9" * 23), "--last"),
        (("history", "m", "--since", "9" * 23), "--since"),
        (("history", "m", "--since", "9" * 23 + "d"), "--since"),
        (("history", "\x1b[31mm"), r"there is no model \x1b[31mm; known: m"),
        (("watch\x1b[31m",), r"watch\x1b[31m"),
        (("status", "--x\x1b[31m"), r"--x\x1b[31m"),
    ],
    ids=ascii,
)
def test_an_argument_that_cannot_be_meant_is_a_usage_error(shell: Shell, arguments: tuple[str, ...], says: str) -> None:
    told = shell(*arguments)

    assert told.code == USAGE, told.err
    assert says in told.err
    assert "\x1b" not in told.err
    with shell.engine.connect() as c:
        assert c.execute(sa.select(sa.func.count()).select_from(t.command)).scalar_one() == 0


def test_names_of_events_are_printable_in_a_usage_error(shell: Shell) -> None:
    with shell.engine.begin() as c:
        body = json.loads(c.execute(sa.select(t.model_state.c.body)).scalar_one())
        for its in body["versions"].values():
            its["version"] = "v\x1b]0;owned\x07\u202e"
        c.execute(sa.update(t.model_state).values(body=json.dumps(body)))

    told = shell("rollback", "m", "--to", "x", "--reason", "y")

    assert told.code == USAGE
    assert r"known: v\x1b]0;owned\x07\u202e, v1" in told.err


def test_an_error_of_the_configuration_is_printable(shell: Shell) -> None:
    Path("bad\x1b.yaml").write_text(CONFIG + "x\u202ey: 1\n")

    told = shell("status", "--config", "bad\x1b.yaml")

    assert told.code == CONFIGURATION
    assert not {"\x1b", "\u202e"} & set(told.err)


def test_an_order_of_a_user_without_a_name_is_by_its_number(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)

    told = shell(*SILENCE, "--reason", "x")

    assert told.code == 0, told.err
    with shell.engine.connect() as c:
        assert c.execute(sa.select(t.command.c.who)).scalar_one() == "uid 54321"


# -- the store -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg", "foo"])
def test_another_driver_of_the_database_is_refused(shell: Shell, driver: str) -> None:
    Path("driftd.yaml").write_text(CONFIG.replace("sqlite:///driftd.db", f"postgresql+{driver}://me@localhost/x"))

    told = shell("status")

    assert told.code == CONFIGURATION
    assert f"'postgresql+{driver}': write postgresql+psycopg:// or postgresql://" in told.err


def test_a_database_that_cannot_be_opened_is_named_with_the_user(shell: Shell) -> None:
    Path("folder.db").mkdir()
    Path("driftd.yaml").write_text(CONFIG.replace("driftd.db", "folder.db"))

    told = shell("status")

    assert told.code == AWAY
    assert "database folder.db: disk I/O error, as user " in told.err


def test_a_question_opens_the_database_for_reading_only(shell: Shell) -> None:
    with (
        store_of(Path("driftd.yaml")) as p,
        pytest.raises(StoreError, match=r"^database driftd\.db: attempt to write"),
        snapshot(p.engine) as c,
    ):
        c.execute(sa.delete(t.alert))


@pytest.mark.parametrize(
    ("table", "column", "damage", "asked", "says"),
    [
        (t.alert, "body", "{}", ("alerts",), "table alert, row "),
        (t.alert, "body", "{}", ("alerts", "--all", "--json"), "table alert, row "),
        (t.decision, "body", "{}", ("decisions", "--json"), "table decision, row 'm' "),
        (t.model_state, "body", '{"versions": []}', ("silences",), "table model_state, row 'm': "),
        (t.shard, "stream_time", "abc", ("alerts", "--since", "2h"), "table shard, row 0: stream_time"),
        (t.shard, "stream_time", "abc", ("status",), "table shard, row 0: stream_time"),
        (t.shard, "epoch", "x", ("status", "--json"), "table shard, row 0: epoch"),
        (t.shard, "totals", "{", ("status",), "table shard, row 0: "),
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_row_is_told_by_whichever_command_meets_it(
    shell: Shell, table: sa.Table, column: str, damage: str, asked: tuple[str, ...], says: str
) -> None:
    with shell.engine.begin() as c:
        c.execute(sa.update(table).values({column: damage}))

    told = shell(*asked)

    assert (told.code, told.out) == (CONFIGURATION, "")
    assert says in told.err
