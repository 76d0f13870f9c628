"""The packaged data: readable, in order, and as the demonstration tells it."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from monitor.demo.rides import (
    CHAMPION,
    HOUR_MS,
    SERVED_FROM,
    VERSIONS,
    Hour,
    Precomputed,
    in_percent,
    load,
    write_reference,
)
from monitor.times import parse_time

DATA = files("monitor.demo").joinpath("data")


@pytest.fixture(scope="module")
def hours() -> list[Hour]:
    return load()


@pytest.fixture(scope="module")
def served(hours: list[Hour]) -> list[Hour]:
    return [hour for hour in hours if hour.time >= SERVED_FROM]


def error(version: str, hours: Sequence[Hour], begin: str, end: str) -> float:
    """Mean absolute error of a version in [begin, end)."""
    start, stop = parse_time(f"{begin}T00:00:00Z"), parse_time(f"{end}T00:00:00Z")
    chosen = [hour for hour in hours if start <= hour.time < stop]
    return fmean(abs(hour.predicted[version] - hour.actual) for hour in chosen)


def test_the_packaged_file_is_small_and_says_whose_data_they_are() -> None:
    assert len(DATA.joinpath("bike_sharing.csv.gz").read_bytes()) < 1_000_000
    notice = DATA.joinpath("NOTICE.md").read_text(encoding="utf-8")
    assert "Fanaee-T" in notice
    assert "CC BY 4.0" in notice


def test_hours_are_whole_in_order_and_there_once(hours: list[Hour]) -> None:
    times = [hour.time for hour in hours]

    assert all(time % HOUR_MS == 0 for time in times)
    assert all(before < after for before, after in pairwise(times))
    assert len(times) > 15_000


def test_every_value_is_finite_and_possible(hours: list[Hour]) -> None:
    for hour in hours:
        f = hour.features
        assert f["hour"] == hour.time // HOUR_MS % 24
        assert f["working_day"] in (True, False)
        assert f["weather"] in ("clear", "mist", "rain")
        assert all(0 <= float(f[name] or 0.0) <= 1 for name in ("temp", "hum", "windspeed"))
        assert float(f["recent_demand"] or 0.0) > 0
        assert hour.actual >= 0
        assert hour.predicted.keys() >= set(VERSIONS)
        assert all(math.isfinite(p) and p >= 0 for p in hour.predicted.values())


def test_the_champion_is_the_best_of_the_versions_on_hours_that_none_was_trained_on(served: list[Hour]) -> None:
    errors = {version: error(version, served, "2012-04-01", "2012-10-28") for version in VERSIONS}

    assert errors["v1.1.0"] < 0.95 * errors["v1.0.0"]
    assert errors["v1.0.0"] < 0.8 * errors["v1.2.0"]


def test_the_canary_looks_better_in_spring_and_fails_in_summer(served: list[Hour]) -> None:
    canary, champion = (
        [
            error(version, served, *month)
            for month in (("2012-04-01", "2012-05-01"), ("2012-06-01", "2012-07-01"), ("2012-07-01", "2012-08-01"))
        ]
        for version in ("v1.2.0", CHAMPION)
    )

    assert canary[0] < champion[0]
    assert canary[1] > 1.5 * champion[1]
    assert canary[2] > 2 * champion[2]


def test_a_version_answers_what_was_computed_for_these_features(served: list[Hour]) -> None:
    for version in VERSIONS:
        model = Precomputed(version, served)
        assert [model(hour.features) for hour in served] == [hour.predicted[version] for hour in served]


def test_humidity_in_percent_ruins_the_champion_and_not_the_version_that_knows_no_weather(served: list[Hour]) -> None:
    champion, previous = Precomputed("v1.1.0", served), Precomputed("v1.0.0", served)
    july = [hour for hour in served if hour.time >= parse_time("2012-07-01T00:00:00Z")][:336]

    ruined = fmean(abs(champion(in_percent(hour.features)) - hour.actual) for hour in july)

    assert ruined > 3 * fmean(abs(champion(hour.features) - hour.actual) for hour in july)
    assert all(previous(in_percent(hour.features)) == previous(hour.features) for hour in july)


def test_features_that_no_hour_had_are_an_error(served: list[Hour]) -> None:
    with pytest.raises(KeyError):
        Precomputed("v1.1.0", served)({**served[0].features, "hum": 0.123})


def test_the_reference_is_what_the_champion_was_trained_on_without_what_was_counted(
    hours: list[Hour], tmp_path: Path
) -> None:
    path = tmp_path / "reference.csv.gz"

    rows = write_reference(hours, path)

    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == rows > 10_000
    assert "actual" not in table[0]
    assert all(parse_time(row["time"]) < SERVED_FROM for row in table)
    assert [float(row["prediction"]) for row in table] == [hour.predicted[CHAMPION] for hour in hours[:rows]]
