"""`driftd reference list` and `show --number`: which references were in force when, from where, and what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Engine

from monitor.pipeline.commands import CommandName
from monitor.store import schema
from monitor.store import tables as t
from monitor.store.engine import connect
from tests.in_process import Told, driftd
from tests.monitor.kit import Run, a_profile
from tests.monitor.store.fill import a_watched_core, a_writer, some_events

USAGE = 64
CONFIG = """
stream: {url: "file:./stream", events: [ml.predictions]}
store: {url: "sqlite:///driftd.db"}
models:
  m: {task: binary, positive: "1", champion: v1, window: {events: 20, every: 10}, outcomes: {within: 1d}}
"""
LEARNED = "2023-11-14T22:15:29.000Z"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A store of a model whose reference was learned, and then that of a window was accepted."""
    monkeypatch.chdir(tmp_path)
    Path("driftd.yaml").write_text(CONFIG)
    engine = connect("sqlite:///driftd.db")
    schema.upgrade(engine)
    run = Run(a_watched_core())
    run.events(*some_events(0, 200))
    run.command(CommandName.REFERENCE, profile=a_profile([{"x": 1.0}, {"x": 2.0}]), who="ann\x1b[31m")
    writer = a_writer(engine)
    for delta in run.told_so_far:
        writer.commit(delta, identities={})
    yield engine
    engine.dispose()


def asked(*arguments: str) -> Told:
    return driftd("reference", *arguments)


def test_every_reference_is_listed_with_when_it_was_in_force_and_where_it_came_from(store: Engine) -> None:
    told = asked("list", "m", "--json")

    found = {(r["subject"], r["number"]): r for r in told.json()["references"]}
    assert list(found) == [("features", 1), ("features", 2), ("answers:v1", 1)]
    first, second = found["features", 1], found["features", 2]
    assert (first["since"], first["until"], first["in_force"], first["rows"]) == (LEARNED, second["since"], False, 150)
    assert (second["until"], second["in_force"]) == (None, True)
    assert first["origin"] == {
        "kind": "learned", "file": None, "sha256": None, "learned_from": "first predictions", "features": None,
        "window": None, "who": None, "reason": None,
    }  # fmt: skip
    assert (second["origin"]["kind"], second["origin"]["reason"]) == ("accepted", "because")
    assert found["answers:v1", 1]["version"] == "v1"


def test_for_people_it_is_a_table_in_which_names_do_nothing(store: Engine) -> None:
    told = asked("list", "m")

    head, first, second, own = told.out.splitlines()
    assert head.split() == ["number", "subject", "since", "until", "rows", "origin", "hash"]
    assert first.split()[:5] == ["1", "features", LEARNED, first.split()[3], "150"]
    assert "in force" in second
    assert r"accepted by ann\x1b[31m: because" in second
    assert own.split()[1] == "answers:v1"


def test_a_reference_that_was_in_force_is_shown_by_its_number_with_its_profile(store: Engine) -> None:
    told = asked("show", "m", "--number", "1", "--json").json()

    assert (told["record"]["number"], told["record"]["in_force"]) == (1, False)
    assert told["profile"]["hash"] == told["record"]["hash"]
    assert told["record"]["config_is_current"] is False
    assert [f["name"] for f in told["profile"]["features"]] == ["word", "x"]


def test_for_people_its_record_comes_first(store: Engine) -> None:
    lines = asked("show", "m", "--number", "1").out.splitlines()

    assert lines[0].startswith(f"in force since {LEARNED}, until 2023-11-14T22:16:")
    assert lines[1] == "origin: learned from first predictions"
    assert any(line.startswith("m: features 1: 150 rows") for line in lines)


def test_the_answers_of_a_version_are_shown_by_their_own_number(store: Engine) -> None:
    told = asked("show", "m", "--number", "1", "--version", "v1", "--json").json()

    assert told["record"]["subject"] == "answers:v1"
    assert [f["name"] for f in told["profile"]["features"]] == ["prediction", "score"]


def test_where_the_profile_is_not_kept_any_more_that_is_said(store: Engine) -> None:
    with store.begin() as c:
        c.execute(sa.delete(t.reference).where(t.reference.c.state == "retired"))

    told = asked("show", "m", "--number", "1", "--json")

    assert (told.code, told.json()["profile"], told.json()["record"]["rows"]) == (0, None, 150)
    assert told.err == "the profile of m: features 1 is not kept any more; this is its record\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "m", "--number", "3"), "--number: m has no features 3; there are 1, 2"),
        (("show", "m", "--number", "1", "--version", "v9"), "--number: m has no answers:v9 1; there are none"),
        (("show", "m", "--version", "v1"), "--version goes with --number"),
        (("list", "n"), "there is no model n; known: m"),
    ],
)  # fmt: skip
def test_what_there_is_not_is_a_usage_error_that_says_what_there_is(
    store: Engine, arguments: tuple[str, ...], says: str
) -> None:
    told = asked(*arguments)

    assert told.code == USAGE
    assert says in " ".join(told.err.replace("│", " ").split())


def test_a_store_of_an_earlier_release_says_when_records_begin(store: Engine) -> None:
    config = schema.alembic_config()
    with store.begin() as c:
        config.attributes["connection"] = c
        command.downgrade(config, "0004")

    told = asked("list", "m", "--json")

    assert (told.code, told.json()) == (0, {"references": []})
    assert "records begin when `driftd run` first opens it" in told.err


def test_before_the_first_start_the_list_is_empty(store: Engine) -> None:
    Path("driftd.yaml").write_text(CONFIG.replace("driftd.db", "other.db"))

    told = asked("list", "m", "--json")

    assert (told.code, told.json()) == (0, {"references": []})
    assert told.err.startswith("nothing was committed yet")
