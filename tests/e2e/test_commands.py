"""Every command, beside a running daemon and without one."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.times import duration_text
from tests.e2e import auditor, workload
from tests.e2e.auditor import query
from tests.e2e.daemon import Answer, Daemon
from tests.e2e.place import FilePlace

USAGE, BAD_INPUT, AWAY, CONFIGURATION = 64, 65, 75, 78
LINES = workload.Workload(seed=71, seconds=300).lines()
HEALTHY = [line for line in LINES if line.at < workload.T0 + 55_000]  # before the first burst of errors


class Worked(FilePlace):
    """Files and a store in which a daemon has worked on `LINES`."""

    expected: auditor.Expected


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Worked:
    """For questions: nobody may change it."""
    place = Worked(tmp_path_factory.mktemp("worked"))
    place.configure()
    place.produce(LINES)
    with place.daemon() as daemon:
        daemon.until_read(len(LINES))
        assert daemon.stop() == 0
    place.expected = auditor.recount(
        auditor.merged({place.topic_of(kind): [x for x in LINES if x.topic == kind] for kind in workload.TOPICS}),
        place.inputs,
    )
    return place


@pytest.fixture(params=["without a daemon", "beside a daemon"])
def asked(request: pytest.FixtureRequest, worked: Worked) -> Iterator[Worked]:
    """The same store, with a daemon that owns it and without one."""
    if request.param == "without a daemon":
        yield worked
        return
    with worked.daemon(name="beside") as daemon:
        daemon.until_ready()
        yield worked
        assert daemon.stop() == 0


@pytest.fixture
def place(file_place: FilePlace) -> FilePlace:
    """For orders: the healthy part of a workload."""
    file_place.configure()
    file_place.produce(HEALTHY)
    return file_place


@pytest.fixture
def daemon(place: FilePlace) -> Iterator[Daemon]:
    with place.daemon() as daemon:
        daemon.until_read(len(HEALTHY)).until_published()
        yield daemon


def result(answer: Answer) -> str:
    """What the daemon said to an order."""
    assert answer.code == 0, answer.err
    told: str = answer.json()["result"]
    return told


# -- questions ---------------------------------------------------------------------------------------------


def test_status_is_what_a_recount_says(asked: Worked) -> None:
    told = asked.driftd("status", "--json")

    status = told.json()
    assert told.code == 0
    assert status["events"] == {"resources": 0} | dict(asked.expected.events) | {
        "late_predictions": 0,
        "late_after_idle": 0,
        "synthetic": 0,
        "ignored": {},
    }
    assert status["join"] == {"late": 0, "early_metrics_dropped": 0} | dict(asked.expected.join)
    versions = {
        (model, version): (v["predictions"], v["outcomes"])
        for model, m in status["models"].items()
        for version, v in m["versions"].items()
    }
    assert versions == asked.expected.versions
    assert status["models"]["prices"]["champion"] == "v1"
    assert status["models"]["clicks"]["active_level"] == "previous"
    assert status["decisions"] == 4


def test_status_for_people_names_models_and_versions(asked: Worked) -> None:
    told = asked.driftd("status")

    assert told.code == 0
    for word in ("prices", "clicks", "v2", "champion v1", "level previous"):
        assert word in told.out


def test_history_in_json_and_csv_is_the_same_and_what_a_recount_says(asked: Worked) -> None:
    in_json = asked.driftd("history", "prices", "--metric", "mae", "--json").rows()
    in_csv = list(csv.DictReader(io.StringIO(asked.driftd("history", "prices", "--metric", "mae", "--csv").out)))

    there = {
        ("prices", r["version"], auditor.milliseconds(r["start"]), auditor.milliseconds(r["end"])): (r["n"], r["value"])
        for r in in_json
    }
    assert there == {check: value for check, value in asked.expected.quality.items() if check[0] == "prices"}
    assert [(r["version"], r["end"], int(r["n"]), float(r["value"])) for r in in_csv] == [
        (r["version"], r["end"], r["n"], r["value"]) for r in in_json
    ]
    columns = [
        "model", "version", "segment", "feature", "metric", "start", "end", "n", "value", "coverage", "estimated",
        "statistic", "effect", "threshold", "p_value", "verdict", "window", "answers",
    ]  # fmt: skip
    assert (list(in_json[0]), list(in_csv[0])) == (columns, columns)


def test_history_says_what_the_test_of_a_feature_came_to(asked: Worked) -> None:
    rows = asked.driftd("history", "prices", "--feature", "size", "--last", "50", "--since", "2h", "--json").rows()
    told = asked.driftd("history", "prices", "--feature", "size").out

    assert {row["statistic"] for row in rows} == {row["metric"] for row in rows}
    assert "" not in {row["verdict"] for row in rows}
    assert None not in {row["verdict"] for row in rows}
    assert {row["window"] for row in rows} == {duration_text(workload.SPAN)}
    drifted = [row for row in rows if row["verdict"] == "drift"]
    assert all(row["p_value"] <= row["threshold"] for row in drifted)
    assert {row["verdict"] for row in rows} <= set(told.split())


def test_history_is_narrowed_by_version_feature_and_time(asked: Worked) -> None:
    since = "2026-01-01T00:03:00Z"
    everything = asked.driftd("history", "prices", "--json").rows()

    narrowed = asked.driftd(
        "history", "prices", "--version", "v2", "--feature", "size", "--since", since, "--json"
    ).rows()

    assert narrowed
    limit = auditor.milliseconds(since) or 0
    assert narrowed == [
        r
        for r in everything
        if (r["version"], r["feature"]) == ("v2", "size") and (auditor.milliseconds(r["end"]) or 0) > limit
    ]


def test_history_is_narrowed_to_the_latest_windows_and_to_a_duration(asked: Worked) -> None:
    everything = asked.driftd("history", "prices", "--version", "v2", "--json").rows()
    ends = sorted({row["end"] for row in everything})
    time = asked.driftd("status", "--json").json()["stream_time"]

    last = asked.driftd("history", "prices", "--version", "v2", "--last", "3", "--json").rows()
    recent = asked.driftd("history", "prices", "--version", "v2", "--since", "1m", "--json").rows()

    assert last == [row for row in everything if row["end"] in ends[-3:]]
    assert recent == [r for r in everything if (auditor.milliseconds(r["end"]) or 0) > time - 60_000]


def test_alerts_lists_what_fires_and_with_all_every_record(asked: Worked) -> None:
    records = asked.found().alerts
    latest = {record["fingerprint"]: record for record in sorted(records, key=lambda r: r["seq"])}
    fires = {r["event_id"] for r in latest.values() if r["status"] == "firing"}

    firing = asked.driftd("alerts", "--json").json()["alerts"]
    every = asked.driftd("alerts", "prices", "--all", "--last", "1000", "--json").json()["alerts"]

    assert {record["event_id"] for record in firing} == fires
    mine = [(r["event_id"], r["seq"]) for r in records if r["model"] == "prices"]
    assert sorted((r["event_id"], r["seq"]) for r in every) == sorted(mine)


def test_alerts_for_people_say_since_when_how_bad_and_what(asked: Worked) -> None:
    told = asked.driftd("alerts", "--all").out

    assert all(record["summary"] in told for record in asked.found().alerts)
    assert "critical" in told


def test_decisions_say_who_serves_since_when_and_why(asked: Worked) -> None:
    told = asked.driftd("decisions", "--json").json()["decisions"]

    assert sorted(d["issued_at"] for d in told) == [d["issued_at"] for d in reversed(told)]
    assert {(d["model"], d["generation"]) for d in told} == {(d["model"], d["generation"]) for d in asked.decisions()}
    assert "rule_breached" in asked.driftd("decisions", "prices").out


def test_inspect_tells_what_became_of_a_request(asked: Worked) -> None:
    joined = asked.driftd("inspect", "r1", "--json")
    never = asked.driftd("inspect", "nobody", "--json")

    states = {m["model"]: m["state"] for m in joined.json()["models"]}
    assert (joined.code, states["prices"]) in {(0, "joined"), (0, "closed")}
    assert states["clicks"] == "unknown"
    assert (never.code, {m["state"] for m in never.json()["models"]}) == (0, {"unknown"})


def test_inspect_shows_what_a_joined_request_was_answered_and_what_came(asked: Worked) -> None:
    """As the events had it."""
    events = [json.loads(line.value) for line in LINES if line.reason is None]
    its = [event for event in events if event.get("model") == "prices" and event.get("request_id")]
    told = None
    for number in range(1, 20):
        (told,) = asked.driftd("inspect", f"r{number}", "--model", "prices", "--json").json()["models"]
        if told["state"] == "joined":
            break
    assert told is not None
    assert told["state"] == "joined"
    sent = [event for event in its if event["request_id"] == told["request_id"]]
    answers = {e["version"]: e["prediction"] for e in sent if e["type"] == "prediction"}

    assert {a["version"]: a["prediction"] for a in told["answers"]} == answers
    assert told["outcome"]["actual"] in [e["actual"] for e in sent if e["type"] == "outcome"]
    text = asked.driftd("inspect", told["request_id"], "--model", "prices").out
    assert f"outcome {told['outcome']['actual']} at {told['outcome']['time']}" in " ".join(text.split())


def test_inspect_shows_an_answer_that_waits(file_place: FilePlace) -> None:
    file_place.configure(workload.models(drift=False))
    answer = {"type": "prediction", "request_id": "waits", "time": workload.T0, "model": "prices", "version": "v2"}
    file_place.append(file_place.events[0], [json.dumps(answer | {"prediction": 2.5}).encode()])
    with file_place.daemon() as daemon:
        daemon.until_read(1)
        (found,) = file_place.driftd("inspect", "waits", "--model", "prices", "--json").json()["models"]

    assert found["state"] == "waiting"
    (its,) = found["answers"]
    assert (its["version"], its["prediction"], its["served"]) == ("v2", 2.5, True)


def in_force(place: FilePlace) -> dict[str, Any]:
    """The reference of the features of `prices`. Each version has one of its answers beside it."""
    shown = place.driftd("reference", "show", "prices", "--json").rows()
    (found,) = [r for r in shown if r["title"] == "prices: features (active)"]
    return dict(found)


def test_a_reference_in_force_is_shown(asked: Worked) -> None:
    told = in_force(asked)

    assert told["rows"] == 2_000
    assert {f["name"]: f["kind"] for f in told["features"]} == {"size": "numeric", "city": "categorical"}


def test_before_the_first_start_questions_are_answered_empty(file_place: FilePlace) -> None:
    file_place.configure()

    status = file_place.driftd("status", "--json")

    assert (status.code, status.json()["events"]["read"]) == (0, 0)
    assert "nothing was committed yet" in status.err
    assert file_place.driftd("history", "prices", "--json").out == ""
    for question in ("alerts", "decisions", "silences"):
        assert file_place.driftd(question, "--json").json() == {question: []}
    assert "unknown" in file_place.driftd("inspect", "r1").out
    assert file_place.driftd("reference", "accept", "prices", "--reason", "x").code == AWAY
    assert not Path(file_place.store_url.removeprefix("sqlite:///")).exists()


def test_the_configuration_is_checked_without_connecting(file_place: FilePlace) -> None:
    file_place.configure(stream={"url": "kafka://127.0.0.1:1"})

    told = file_place.driftd("check-config", "--json", fresh=True)

    assert told.code == 0
    assert told.json()["ok"] is True
    assert told.json()["models"]["prices"]["reference"]["rows"] == 2_000


def test_a_feature_called_like_an_answer_is_told_when_the_configuration_is_checked(file_place: FilePlace) -> None:
    """By its column of the table, and by its name under `features:`."""
    (file_place.directory / "scores.csv").write_text("score,y\n601,1\n644,2\n", encoding="utf-8")
    models = workload.models()
    columns = {"prediction": "y"}
    models["prices"] |= {"reference": {"path": "scores.csv", "columns": columns}, "features": {"score": "numeric"}}
    file_place.configure(models)

    told = file_place.driftd("check-config", "--json", fresh=True).json()["models"]["prices"]
    columns["prediction"] = "yy"
    file_place.configure(models)
    refused = file_place.driftd("check-config", fresh=True)

    assert told["reference"]["features"] == ["features.score", "prediction"]
    assert "score: taken for a feature, since a regression has no scores" in told["reference"]["notices"]
    note = "features: score is the model's own score; a feature called score is features.score"
    assert note in told["notes"]
    assert refused.code == BAD_INPUT
    assert "has no column 'yy', named for the prediction" in refused.err


# -- orders to a running daemon ----------------------------------------------------------------------------


@pytest.mark.usefixtures("daemon")
def test_rollback_makes_a_version_the_champion_and_tells_the_world(place: FilePlace) -> None:
    order = place.driftd("rollback", "prices", "--to", "v1", "--reason", "because", "--wait", "60", "--json")

    assert result(order) == "champion v2 → v1"
    assert place.driftd("status", "--json").json()["models"]["prices"]["champion"] == "v1"
    rows = query(place.store_url, "SELECT name, model, reason, who, result FROM command")
    ((name, model, reason, who, told),) = rows
    assert (name, model, reason, told) == ("rollback", "prices", "because", "champion v2 → v1")
    assert who


def test_its_decision_is_published(place: FilePlace, daemon: Daemon) -> None:
    place.driftd("rollback", "prices", "--to", "v1", "--reason", "because", "--by", "Ann Lee", "--wait", "60")
    daemon.until_published()

    decision = place.decisions()[-1]

    assert (decision["model"], decision["generation"], decision["reason"]) == ("prices", 2, "manual_rollback")
    assert (decision["champion"], decision["by"]) == ("v1", "Ann Lee")
    assert "Ann Lee" in place.driftd("decisions", "prices").out
    assert decision["routes"] == [{"version": "v1", "weight": 10_000}]


@pytest.mark.parametrize(
    "order", [["rollback", "prices", "--to", "v1"], ["recover", "prices"], ["silence", "prices", "--for", "1h"]]
)
def test_an_order_keeps_who_asked_for_it(place: FilePlace, order: list[str]) -> None:
    told = place.driftd(*order, "--reason", "x", "--by", " Ann Lee ")

    assert told.code == 0, told.err
    assert query(place.store_url, "SELECT name, who FROM command") == [(order[0], "Ann Lee")]


@pytest.mark.usefixtures("daemon")
def test_the_same_key_is_one_order(place: FilePlace) -> None:
    order = ["rollback", "prices", "--to", "v1", "--reason", "x", "--key", "once", "--wait", "60", "--json"]

    first, second = place.driftd(*order).json(), place.driftd(*order).json()

    assert first == second
    assert place.driftd("status", "--json").json()["models"]["prices"]["generation"] == 2


def test_silenced_alerts_are_recorded_and_not_published(place: FilePlace, daemon: Daemon) -> None:
    """Rollbacks happen all the same, and other models are heard."""
    order = ["silence", "prices", "--for", "1h", "--reason", "known", "--wait", "60", "--json"]
    assert result(place.driftd(*order)).startswith("silent until 2026-01-01T01:0")
    place.produce([line for line in LINES if line.at >= workload.T0 + 55_000])
    daemon.until_read(len(LINES)).until_published()
    (silence,) = place.driftd("silences", "--json").json()["silences"]
    assert (silence["model"], silence["version"], silence["kind"], silence["reason"]) == ("prices", None, None, "known")
    assert silence["until"].startswith("2026-01-01T01:0")

    published = {a["model"] for a in place.alerts()}
    recorded = {a["model"] for a in place.found().alerts}

    assert published == {"clicks"}
    assert recorded == {"clicks", "prices"}
    assert [d["champion"] for d in place.decisions() if d["model"] == "prices"] == ["v2", "v1"]


def test_recover_brings_the_champion_back(place: FilePlace, daemon: Daemon) -> None:
    place.produce([line for line in LINES if line.at >= workload.T0 + 55_000])
    daemon.until_read(len(LINES))
    assert place.driftd("status", "--json").json()["models"]["clicks"]["active_level"] == "previous"

    order = place.driftd("recover", "clicks", "--reason", "fixed", "--wait", "60", "--json")

    assert "level primary (v2) answers again" in result(order)
    assert place.driftd("status", "--json").json()["models"]["clicks"]["active_level"] == "primary"


def test_accepting_the_last_window_ends_its_drift(place: FilePlace, daemon: Daemon) -> None:
    """What drifted is normal from then on."""
    drifted = [line for line in LINES if line.at >= workload.T0 + 55_000]
    place.produce(drifted)
    daemon.until_read(len(LINES)).until_published()
    before = in_force(place)
    assert "drift" in {a["kind"] for a in place.alerts() if a["status"] == "firing"}

    order = place.driftd("reference", "accept", "prices", "--reason", "a new season", "--wait", "60", "--json")

    assert result(order) == "the new reference is in force"
    after = in_force(place)
    size = {f["name"]: f for f in after["features"]}["size"]
    assert after["hash"] != before["hash"]
    assert size["low"] > -2.0  # around 3 now, around 0 before
    daemon.until_published()
    assert place.alerts()[-1]["status"] == "resolved"


@pytest.mark.usefixtures("daemon")
def test_references_are_listed_with_where_they_came_from_and_who_asked_for_them(place: FilePlace) -> None:
    """Beside the daemon; that of a table is shown by its number when it is not in force any more."""
    order = place.driftd("reference", "accept", "prices", "--reason", "a new season", "--wait", "60", "--json")
    assert order.code == 0, order.err

    records = place.driftd("reference", "list", "prices", "--json").json()["references"]
    first, second = (record for record in records if record["subject"] == "features")
    shown = place.driftd("reference", "show", "prices", "--number", "1", "--json").json()
    status = place.driftd("status", "--json").json()["models"]["prices"]["reference"]

    content = hashlib.sha256((place.directory / "reference.csv").read_bytes()).hexdigest()
    assert (first["origin"]["kind"], first["origin"]["sha256"]) == ("table", content)
    assert first["origin"]["file"].endswith("reference.csv")
    assert (first["rows"], first["since"], first["in_force"]) == (2_000, None, False)
    assert (second["origin"]["kind"], second["origin"]["reason"]) == ("accepted", "a new season")
    assert first["until"] == second["since"]
    assert (shown["record"], shown["profile"]["hash"]) == (first, first["hash"])
    assert (status["number"], status["origin"]) == (2, "accepted")


@pytest.mark.usefixtures("daemon")
def test_a_reference_is_learned_anew(place: FilePlace) -> None:
    order = place.driftd(
        "reference", "relearn", "prices", "--events", "200", "--reason", "new data", "--wait", "60", "--json"
    )

    assert result(order) == "the reference is learned from the next 200 answers"


# -- orders without a daemon -------------------------------------------------------------------------------


def test_an_order_waits_for_the_next_start(place: FilePlace) -> None:
    order = ["rollback", "prices", "--to", "v1", "--reason", "x", "--key", "once", "--json"]

    asked, waited = place.driftd(*order), place.driftd(*order, "--wait", "0.5")

    assert (asked.code, asked.json()["result"]) == (0, None)
    assert (waited.code, waited.json()["result"]) == (AWAY, None)
    with place.daemon() as daemon:
        daemon.until_read(len(HEALTHY))
        again = place.driftd(*order, "--wait", "60")
        assert result(again) == "champion v2 → v1"
        assert again.json()["command"] == asked.json()["command"]
        assert daemon.stop() == 0
    assert [d["generation"] for d in place.decisions() if d["model"] == "prices"] == [1, 2]


def test_a_restart_applies_no_order_again(place: FilePlace) -> None:
    place.driftd("rollback", "prices", "--to", "v1", "--reason", "x")
    for name in ("first", "second"):
        with place.daemon(name=name) as daemon:
            daemon.until_read(len(HEALTHY)).until_published()
            assert daemon.stop() == 0

    assert [d["generation"] for d in place.decisions() if d["model"] == "prices"] == [1, 2]


def test_a_reference_is_built_from_a_table_and_used(place: FilePlace) -> None:
    built = place.driftd("reference", "build", "reference.csv", "--out", "built/prices.ref", "--json", fresh=True)

    shown = place.driftd("reference", "show", "built/prices.ref", "--json").json()

    assert built.code == 0
    assert shown["hash"] == built.json()["hash"]
    models = workload.models()
    models["prices"]["reference"] = "built/prices.ref"
    place.configure(models)
    with place.daemon() as daemon:
        daemon.until_read(len(HEALTHY))
        used = in_force(place)
        assert daemon.stop() == 0
    assert used["hash"] == built.json()["hash"]


def test_columns_of_a_table_are_named_by_options(place: FilePlace) -> None:
    """Empty for none; a feature called like an answer is shown with `features.` before its name."""
    (place.directory / "scores.csv").write_text("score,y_hat\n601,yes\n644,no\n", encoding="utf-8")
    order = ("reference", "build", "scores.csv", "--out", "built/scores.ref", "--task", "binary", "--score", "")
    built = place.driftd(*order, "--prediction", "y_hat", "--json", fresh=True)
    shown = place.driftd("reference", "show", "built/scores.ref", "--json").json()
    refused = place.driftd(*order, "--time", "t", fresh=True)

    assert [f["name"] for f in built.json()["features"]] == ["features.score", "prediction"]
    assert shown["features"] == built.json()["features"]
    assert refused.code == BAD_INPUT
    assert "has no column 't', named for the time" in refused.err


# -- exit codes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--help"], 0, "Usage"),
        ([], USAGE, "Usage"),
        (["--version"], 0, "driftd 0."),
        (["watch"], USAGE, "watch"),
        (["statsu"], USAGE, "did you mean status"),
        (["status", "--colour"], USAGE, "--colour"),
        (["run", "--log-level", "LOUD"], USAGE, "--log-level"),
        (["history", "price", "--json"], USAGE, "did you mean prices"),
        (["history", "prices", "--json", "--csv"], USAGE, "either --json or --csv"),
        (["history", "prices", "--since", "lately"], USAGE, "--since"),
        (["rollback", "prices", "--to", "v7", "--reason", "x"], USAGE, "no version v7"),
        (["rollback", "prices", "--to", "v1"], USAGE, "--reason"),
        (["recover", "prices", "--by", "rules"], USAGE, "give the name of a person"),
        (["recover", "prices", "--by", " "], USAGE, "--by"),
        (["silence", "prices", "--for", "long", "--reason", "x"], USAGE, "--for"),
        (["silence", "prices", "--for", "1h", "--kind", "noise", "--reason", "x"], USAGE, "no kind noise"),
        (["topics", "--skip", "ml.predictions"], USAGE, "TOPIC:PARTITION:OFFSET"),
        (["reference", "build", "missing.csv", "--out", "x"], BAD_INPUT, "missing.csv"),
        (["reference", "build", "driftd.yaml", "--out", "x"], BAD_INPUT, "driftd.yaml"),
        (["status", "--config", "missing.yaml"], CONFIGURATION, "missing.yaml"),
        (["run", "--config", "reference.csv"], CONFIGURATION, "reference.csv"),
        (["replay", "--json"], CONFIGURATION, "--store"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_codes_and_complaints(worked: Worked, arguments: list[str], code: int, says: str) -> None:
    told = worked.driftd(*arguments)

    assert told.code == code, told.err
    assert says in told.out + told.err


def test_a_store_that_is_away_is_75(worked: Worked, tmp_path: Path) -> None:
    config: dict[str, Any] = json.loads((worked.directory / "driftd.yaml").read_text())
    config["store"]["url"] = f"postgresql+psycopg://nobody@/nowhere?host={tmp_path}"
    (tmp_path / "driftd.yaml").write_text(json.dumps(config))

    told = worked.driftd("status", "--config", str(tmp_path / "driftd.yaml"))

    assert told.code == AWAY
    assert "nobody" not in told.err.replace(str(tmp_path), "")
