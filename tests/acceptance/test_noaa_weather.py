"""Daily weather of fifty years, of which nothing but the season repeats itself. Reference: the first ten years.

The seasons are told apart by week of the year. What changed in forty years is how wind and visibility were measured.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.recording import Replayed, replay, rows_of, write_table, write_topic

DAY_MS = 86_400_000
FIRST_MS = 10_957 * DAY_MS  # 2000-01-01: the table has a row for each day, and does not tell when it begins
REFERENCE = 3_652
# Days that the table lacks, by the row before which the yearly cycle of the temperature leaps on.
LACKING = ((12_663, 65), (16_136, 38))
CONFIG = """\
stream: {url: "file:./stream", events: [events]}
store: {url: "sqlite:///driftd.db"}
models:
  weather:
    task: binary
    champion: v1
    reference: {path: reference.csv, season: day_of_year}
    window: {events: 365, every: 73}
    drift: {false_alarms: 1 per 1000000 events}
    outcomes: null
"""


def time_of(row: int) -> int:
    """Time of a row, in ms."""
    return FIRST_MS + (row + sum(days for first, days in LACKING if row >= first)) * DAY_MS


@pytest.fixture(scope="module")
def replayed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    folder = tmp_path_factory.mktemp("noaa_weather")
    rows = rows_of(data / "noaa_weather" / "weather.csv.gz")
    names = [n for n in rows[0] if n != "class"]
    write_table(
        folder / "reference.csv",
        [*names, "time"],
        ([*(r[n] for n in names), time_of(i)] for i, r in enumerate(rows[:REFERENCE])),
    )
    write_topic(
        folder / "stream",
        "events",
        (
            {
                "type": "prediction", "request_id": f"r{i}", "time": time_of(i), "model": "weather", "version": "v1",
                "features": {n: float(r[n]) for n in names}, "prediction": r["class"].lower(),
            }
            for i, r in enumerate(rows[REFERENCE:], REFERENCE)
        ),
    )  # fmt: skip
    return replay(folder, CONFIG)


def test_forty_years_raise_a_handful_of_alarms(replayed: Replayed) -> None:
    """An episode for each change of the instruments at most."""
    assert 1 <= replayed.summary["alerts"]["firing"] <= 3


@pytest.mark.parametrize("feature", ["Temperature", "DewPoint", "SeaLevelPressure"])
def test_what_only_the_season_moves_is_never_named(replayed: Replayed, feature: str) -> None:
    """Summers are compared with summers."""
    assert not [a for a in replayed.alerts if feature in {f["name"] for f in a["features"]}]
