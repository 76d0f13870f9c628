"""A database that 0.1.0 left behind: a newer release goes on with it.

The database is of a daemon that was killed: panes are open, answers and outcomes wait, references are being
learned, episodes fire, messages were not published. `tests/data/store_0_1_0/make.py` says how it was made. What
0.1.0 itself came to from there is kept beside it.

As long as nothing comes, this release says the same, text by text. What comes is judged by rules that have changed;
`tests/data/store_0_1_0/differences.py` names each difference and the rule. What 0.1.0 had begun is finished, and from
there on this release says what it would have said had 0.1.0 never run.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pytest

from tests.data.store_0_1_0.differences import (
    ALERTS,
    BLIND,
    CALM_NOW,
    DERIVED,
    FEWER,
    IGNORED,
    LEARNED_BY_ORDER,
    OF_LATEST_WINDOW,
    OTHERWISE,
    RESOLVED_IN_SILENCE,
    STATUS,
)
from tests.data.store_0_1_0.make import unpacked
from tests.data.store_0_1_0.told import MODELS, SECTIONS, Told
from tests.data.store_0_1_0.traffic import MINUTE, SECOND, TO_PREDICTIONS
from tests.e2e.inherited import EXPECTED, Fresh, Inherited, continued, fresh, opened, ordered
from tests.e2e.place import FilePlace
from tests.monitor.auditor import PartitionClock

Record = dict[str, Any]

LATENESS: Final = 4 * SECOND
PANES: Final = {"heat": 30 * SECOND, "quiet": MINUTE}  # models with time windows
COUNTED: Final = ("spam", "animal")
GOES_ON: Final = ("continued", "ordered")
KILLED: Final = "2024-03-01T00:39:49.593Z"  # stream time of 0.1.0
OPEN_UNTIL: Final = "2024-03-01T00:41:00.000Z"  # end of the last pane that had answers at that time


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


# -- nothing comes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", SECTIONS)
def test_a_newer_release_says_exactly_what_0_1_0_said(found: Callable[[str], Told], section: str) -> None:
    assert EXPECTED["opened"][section]  # there is something to compare

    was, now = EXPECTED["opened"][section], found("opened")[section]

    if section == "history":
        assert [_without_n(row) for row in _rows(now)] == [_without_n(row) for row in _rows(was)]
    elif section == "requests":  # 0.1.0 kept no details of what had ended, and that is said now
        models = [model for row in _rows(now) for model in row["models"]]
        assert {m["state"] for m in models if m["details"]} >= {m["state"] for m in models} & {"joined", "closed"}
        assert list(_ends(now, with_time=True)) == list(_ends(was, with_time=True))
    else:
        assert _decided_last(now) == _decided_last(was)


def _without_n(row: Record) -> Record:
    """Without what n counts, where that has changed."""
    return {k: v for k, v in row.items() if k != "n" or row["metric"] not in FEWER}


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


# -- the stream goes on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", GOES_ON)
def test_counts_are_those_of_0_1_0_but_for_what_is_judged_by_other_rules(
    found: Callable[[str], Told], scenario: str
) -> None:
    was, now = (_flat(json.loads("\n".join(said["status"]))) for said in (EXPECTED[scenario], found(scenario)))

    assert _different(was, now, where=_is_no_matter_of_order) == STATUS


@pytest.mark.parametrize("scenario", GOES_ON)
def test_windows_that_had_closed_or_were_open_hold_what_0_1_0_found_in_them(
    found: Callable[[str], Told], scenario: str
) -> None:
    """With the outcomes that came for them later, to as many digits as do not depend on the order of summation."""
    was, now = EXPECTED[scenario]["history"], found(scenario)["history"]
    before = [row for row in _rows(was) if _is_of_before(row)]
    had = {line for line in was if _is_of_before(json.loads(line))} - set(EXPECTED["opened"]["history"])

    assert len(had) > 200  # outcomes came, and open windows were closed
    there = [row for row in _rows(now) if _is_of_before(row)]
    assert [_rounded(_without_n(row)) for row in there] == [_rounded(_without_n(row)) for row in before]
    assert all(of_now["n"] <= of_then["n"] for of_now, of_then in zip(there, before, strict=True))


def _is_of_before(row: Record) -> bool:
    return bool(row["end"] <= (OPEN_UNTIL if row["model"] in PANES else KILLED))


@pytest.mark.parametrize("scenario", GOES_ON)
def test_every_version_is_checked_as_often(found: Callable[[str], Told], scenario: str) -> None:
    was, now = (
        Counter((row["model"], row["version"]) for row in _rows(said["history"]) if row["metric"] == "predictions")
        for said in (EXPECTED[scenario], found(scenario))
    )

    assert now == was


@pytest.mark.parametrize("scenario", GOES_ON)
def test_what_was_being_learned_is_finished(found: Callable[[str], Told], scenario: str) -> None:
    was, now = (
        {row["title"]: row for row in _rows(said["references"])} for said in (EXPECTED[scenario], found(scenario))
    )

    assert list(now) == list(was)
    for title, reference in now.items():
        by_order = {*LEARNED_BY_ORDER.get(title, ()), "blocks"}  # 0.1.0 kept no blocks
        assert {k: v for k, v in reference.items() if k not in by_order} == {
            k: v for k, v in was[title].items() if k not in by_order
        }


def _records(found: Told) -> list[Record]:
    return [record for row in _rows(found["records"]) for record in row["references"]]


def test_references_that_0_1_0_had_put_in_force_have_records_of_unknown_origin(found: Callable[[str], Told]) -> None:
    records = _records(found("opened"))

    in_force = {row["hash"][:12] for row in _rows(EXPECTED["opened"]["references"]) if "(active)" in row["title"]}
    assert {r["hash"][:12] for r in records} == in_force
    assert {(r["number"], r["since"], r["until"], r["origin"]["kind"]) for r in records} == {(1, None, None, "unknown")}


def test_those_that_come_into_force_afterwards_say_where_they_come_from(found: Callable[[str], Told]) -> None:
    """A reference that somebody had ordered to be relearned is told as that; by whom was not stored."""
    continued, ordered = _records(found("continued")), _records(found("ordered"))

    assert {r["origin"]["kind"] for r in continued} == {"unknown", "learned", "relearned"}
    assert {r["origin"]["who"] for r in continued} == {None}
    assert {r["origin"]["kind"] for r in ordered} >= {"unknown", "learned"}
    assert {r["origin"]["who"] for r in ordered} > {None}


@pytest.mark.parametrize("scenario", GOES_ON)
def test_requests_that_waited_have_come_to_the_same_end(found: Callable[[str], Told], scenario: str) -> None:
    """In the same state. Of what has ended since the upgrade more is told: all that 0.1.0 told is among it."""
    was, now = (list(_ends(said[scenario]["requests"])) for said in (EXPECTED, {scenario: found(scenario)}))

    for before, after in zip((m for row in was for m in row), (m for row in now for m in row), strict=True):
        answers, outcome = before.pop("answers"), before.pop("outcome")
        assert {name: after[name] for name in before} == before
        for answer in answers:
            assert any(answer.items() <= told.items() for told in after["answers"])
        assert outcome in (None, after["outcome"])


def _ends(lines: list[str], *, with_time: bool = False) -> Iterator[list[Record]]:
    left_out = {"details"} if with_time else {"details", "stream_time"}
    for row in _rows(lines):
        yield [{k: v for k, v in model.items() if k not in left_out} for model in row["models"]]


@pytest.mark.parametrize("scenario", GOES_ON)
def test_the_same_records_are_dead_letters(found: Callable[[str], Told], scenario: str) -> None:
    """Each once. They are dated by stream time, and told in the order of processing."""
    was, now = (
        [{k: v for k, v in row.items() if k != "time"} for row in _rows(said["dead letters"])]
        for said in (EXPECTED[scenario], found(scenario))
    )
    still = [row for row in was if (row["topic"], row["partition"], row["offset"]) != IGNORED]

    assert len(still) == len(was) - 1
    assert sorted(map(json.dumps, now)) == sorted(map(json.dumps, still))


@pytest.mark.parametrize("scenario", GOES_ON)
def test_episodes_go_on_and_end_as_in_0_1_0_but_for_what_is_judged_by_other_rules(
    found: Callable[[str], Told], scenario: str
) -> None:
    was, now = (
        {_named(row): row for row in _changes(_not_blind(said["alerts"])) if row["model"] not in COUNTED}
        for said in (EXPECTED[scenario], found(scenario))
    )

    assert {name for name in was if (name[1], name[3]) not in CALM_NOW} == now.keys()
    changed = {name: _different(_flat(was[name]), _flat(now[name]), where=_is_stated) for name in now}
    assert {
        (version, what, seq): fields for (_, version, _, what, seq, _), fields in changed.items() if fields
    } == ALERTS


@pytest.mark.parametrize("scenario", GOES_ON)
def test_episodes_of_counted_windows_that_were_published_at_the_upgrade_are_the_same_and_none_is_lost(
    found: Callable[[str], Told], scenario: str
) -> None:
    was, now = (
        {_named(row): row for row in _changes(_not_blind(said["alerts"])) if row["model"] in COUNTED}
        for said in (EXPECTED[scenario], found(scenario))
    )
    early = {name for name, row in was.items() if row["issued_at"] <= KILLED}

    assert early
    assert {name: now[name] for name in early} == {name: was[name] for name in early}
    assert {name for name in was.keys() ^ now.keys() if (name[1], name[3]) not in OTHERWISE} == set()


@pytest.mark.parametrize("scenario", GOES_ON)
def test_what_cannot_be_judged_is_told(found: Callable[[str], Told], scenario: str) -> None:
    told = [row for row in _rows(found(scenario)["alerts"]) if row["kind"] == "blind"]

    assert {(row["version"], row["labels"]["cause"]) for row in told} == BLIND


def _not_blind(lines: list[str]) -> list[Record]:
    """The kinds of alerts that there were; and not the end that 0.1.0 kept to itself."""
    return [
        row
        for row in _rows(lines)
        if row["kind"] != "blind" and (row["version"], row["kind"], row["ends_at"]) != RESOLVED_IN_SILENCE
    ]


@pytest.mark.parametrize("scenario", GOES_ON)
def test_decisions_are_the_same(found: Callable[[str], Told], scenario: str) -> None:
    """When the alert of a counted window comes, which is their cause, is a matter of order."""
    was, now = (
        [{k: v for k, v in row.items() if k not in ("cause", "issued_at")} for row in _rows(said["decisions"])]
        for said in (EXPECTED[scenario], found(scenario))
    )

    assert now == was


@pytest.mark.parametrize("scenario", GOES_ON)
def test_partition_time_goes_on_from_the_latest_event_that_0_1_0_saw(
    found: Callable[[str], Told], scenario: str, tmp_path: Path
) -> None:
    """So as many predictions are late as a count event by event finds."""
    was, now = (_flat(json.loads("\n".join(said["status"]))) for said in (EXPECTED["opened"], found(scenario)))

    late = now["events.late_predictions"] - was["events.late_predictions"]
    latest = Inherited(tmp_path, orders=False).latest()
    assert late == sum(_late(name, n, latest["ml.predictions", n]) for n, name in enumerate(TO_PREDICTIONS))


def _late(name: str, number: int, latest: int) -> int:
    """How many predictions of a partition came too late, of those that 0.1.0 had not read."""
    clock, late = PartitionClock(LATENESS), 0
    for _ in range(9):
        clock.tell(latest)
    refused = {
        row["offset"]
        for row in _rows(EXPECTED["continued"]["dead letters"])
        if (row["topic"], row["partition"]) == ("ml.predictions", number)
    }
    read = unpacked(f"before/{name}").count(b"\n")
    for offset, line in enumerate(unpacked(f"after/{name}").splitlines(), read):
        if offset not in refused:
            event = json.loads(line)
            time = event["time"] if isinstance(event["time"], int) else _of_text(event["time"])
            reached, pane = clock.tell(time) - LATENESS, PANES.get(event["model"])
            late += pane is not None and (time // pane + 1) * pane <= reached
    return late


def _of_text(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


# -- as if 0.1.0 had never run -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """The whole stream, read by this release alone."""
    return fresh(tmp_path_factory.mktemp("fresh"))


def test_nothing_is_counted_twice_or_lost(found: Callable[[str], Told], without: Fresh) -> None:
    """From the kill on, everything is counted that a run of this release counts."""
    was, now = (json.loads("\n".join(said["status"])) for said in (EXPECTED["opened"], found("continued")))

    for section in ("events", "join"):
        of_all, of_rest = Counter(_flat(without.after[section])), Counter(_flat(now[section]))
        of_all.subtract(_flat(without.before[section]))
        of_rest.subtract(_flat(was[section]))
        assert {k: n for k, n in of_rest.items() if n} == {k: n for k, n in of_all.items() if n}
    assert now["stream_time"] == without.after["stream_time"]


def test_windows_are_those_of_a_run_that_never_was_of_0_1_0(found: Callable[[str], Told], without: Fresh) -> None:
    """But for distances from a reference: there it is not the one that 0.1.0 learned, and an operator accepted."""
    alone, gone_on = _windows(without.history), _windows(_rows(found("continued")["history"]))

    assert len(gone_on) > 2_000
    assert gone_on.keys() == alone.keys()
    for key, (n, value, coverage) in gone_on.items():
        assert (n, coverage) == (alone[key][0], alone[key][2]), key
        assert math.isclose(value, alone[key][1], rel_tol=1e-9), key


_DISTANCES: Final = ("ks", "psi", "wasserstein", "chi_square", "jensen_shannon", "sharpness")


def _windows(rows: list[Record]) -> dict[tuple[str, ...], tuple[int, float, float | None]]:
    return {
        tuple(row[k] for k in ("model", "version", "segment", "feature", "metric", "start", "end")): (
            row["n"],
            row["value"],
            row["coverage"],
        )
        for row in rows
        if row["model"] in PANES and row["start"] >= "2024-03-01T00:38" and row["metric"] not in _DISTANCES
        if row["value"] is not None  # 0.1.0 said nothing of what was not tested
    }


# -- comparing ---------------------------------------------------------------------------------------------


def _rows(lines: list[str]) -> list[Record]:
    return [json.loads(line) for line in lines]


def _changes(rows: list[Record]) -> list[Record]:
    """Alerts that begin or end, or change their severity or features, numbered anew.

    This release tells besides how far the effect has gone, and what features are at the time of each record.
    """
    found, last, numbers = [], dict[str, tuple[str, list[str]]](), Counter[str]()
    for row in rows:
        names = sorted(feature["name"] for feature in row["features"])
        what = row["severity"], names
        if row["status"] == "firing" and last.get(row["event_id"]) == what:
            continue
        last[row["event_id"]] = what
        numbers[row["fingerprint"]] += 1
        found.append({**row, "features": [{"name": name} for name in names], "seq": numbers[row["fingerprint"]]})
    return found


def _named(alert: Record) -> tuple[str, str, str, str, int, str]:
    """Which record of which episode it is."""
    what = alert.get("rule") or ",".join(feature["name"] for feature in alert["features"])
    return alert["model"], alert["version"], alert["kind"], what, alert["seq"], alert["status"]


def _flat(document: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Its leaves by their path."""
    leaves: dict[str, Any] = {}
    for name, value in document.items():
        leaves |= _flat(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return leaves


def _different(
    was: Mapping[str, Any], now: Mapping[str, Any], *, where: Callable[[str], bool]
) -> dict[str, tuple[Any, Any]]:
    a, b = _rounded(was), _rounded(now)
    names = [name for name in was.keys() | now.keys() if where(name) and a.get(name) != b.get(name)]
    return {name: (a.get(name), b.get(name)) for name in names}


def _rounded(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers to eight digits: this release rounds metrics, so that they do not depend on the order of summation."""
    return {k: float(f"{v:.8g}") if isinstance(v, float) else v for k, v in leaves.items()}


def _is_stated(name: str) -> bool:
    return name not in DERIVED


def _is_no_matter_of_order(name: str) -> bool:
    """Whether it does not tell of the latest window, which `history` does, or of alerts of counted windows."""
    parts = name.split(".")
    if parts[0] == "alerts" or "metrics" in parts:
        return False
    counted = parts[0] == "models" and parts[1] in COUNTED
    return not (counted and any(part in OF_LATEST_WINDOW for part in parts))


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
