"""abrupt_insects: every feature changes at row 1 800 and is back at 3 550. Window 100/25, 1 alarm per 1e6 events."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.times import parse_time
from tests.acceptance.recording import START_MS, STEP_MS, Replayed, replay, rows_of, write_table, write_topic

CONFIG = """\
stream: {url: "file:./stream", events: [events]}
store: {url: "sqlite:///driftd.db"}
models:
  insects:
    task: multiclass
    champion: v1
    reference: reference.csv
    window: {events: 100, every: 25}
    drift: {false_alarms: 1 per 1000000 events}
    outcomes: null
"""


@pytest.fixture(scope="module")
def replayed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    folder = tmp_path_factory.mktemp("insects")
    rows = rows_of(data / "abrupt_insects_iks" / "abrupt_insects.csv.gz")
    names = [n for n in rows[0] if n != "class"]
    write_table(folder / "reference.csv", names, ([r[n] for n in names] for r in rows[:1500]))
    write_topic(
        folder / "stream",
        "events",
        (
            {
                "type": "prediction", "request_id": f"r{i}", "time": START_MS + i * STEP_MS, "model": "insects",
                "version": "v1", "features": {n: float(r[n]) for n in names}, "prediction": r["class"],
            }
            for i, r in enumerate(rows)
        ),
    )  # fmt: skip
    return replay(folder, CONFIG)


def row(time: str) -> int:
    return (parse_time(time) - START_MS) // STEP_MS


def test_the_alert_fires_when_the_features_change(replayed: Replayed) -> None:
    first = replayed.alerts[0]
    assert (first["kind"], first["status"]) == ("drift", "firing")
    assert 1_775 <= row(first["starts_at"]) <= 2_025


def test_it_resolves_when_they_are_back(replayed: Replayed) -> None:
    last = replayed.alerts[-1]
    assert last["status"] == "resolved"
    assert 3_550 <= row(last["ends_at"]) <= 3_800


def test_nothing_else_fires(replayed: Replayed) -> None:
    assert replayed.summary["alerts"] == {
        "firing": 1, "resolved": 1, "by_kind": {"drift": 1}, "active": 0, "active_by_kind": {}
    }  # fmt: skip
    assert len({a["event_id"] for a in replayed.alerts}) == 1
