"""elec2: three features are constant up to row 17 423 and vary from then on. Reference: the first 5 000 rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.times import parse_time
from tests.acceptance.recording import START_MS, Replayed, replay, rows_of, write_table, write_topic

HALF_HOUR_MS = 1_800_000
LATEST = 17_924
CONFIG = """\
stream: {url: "file:./stream", events: [events]}
store: {url: "sqlite:///driftd.db"}
models:
  elec2:
    task: binary
    positive: UP
    champion: v1
    reference: reference.csv
    features: {date: ignore}
    window: {events: 500, every: 50}
    drift: {false_alarms: 1 per 1000000 events}
    outcomes: null
"""


@pytest.fixture(scope="module")
def replayed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    folder = tmp_path_factory.mktemp("elec2")
    rows = rows_of(data / "elec2" / "elec2.csv.gz")
    names = [n for n in rows[0] if n != "class"]
    write_table(folder / "reference.csv", names, ([r[n] for n in names] for r in rows[:5000]))
    write_topic(
        folder / "stream",
        "events",
        (
            {
                "type": "prediction", "request_id": f"r{i}", "time": START_MS - (len(rows) - i) * HALF_HOUR_MS,
                "model": "elec2", "version": "v1", "features": {n: float(r[n]) for n in names},
                "prediction": r["class"],
            }
            for i, r in enumerate(rows)
        ),
    )  # fmt: skip
    return replay(folder, CONFIG)


@pytest.mark.parametrize("feature", ["vicprice", "vicdemand", "transfer"])
def test_a_feature_that_stops_being_constant_is_named(replayed: Replayed, feature: str) -> None:
    total = replayed.summary["events"]["predictions"]
    named = [
        total - (START_MS - parse_time(a["issued_at"])) // HALF_HOUR_MS
        for a in replayed.alerts
        if a["status"] == "firing" and feature in {f["name"] for f in a["features"]}
    ]
    assert named, f"{feature} is in no alert"
    assert 17_424 <= min(named) <= LATEST
