"""Training the versions: what the script computes of the original data set."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from monitor.demo.make_data import Hours, fit, read, table, write

HEADER = (
    "instant,dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,"
    "temp,atemp,hum,windspeed,casual,registered,cnt"
)


def a_file(folder: Path, days: int, missing: int | None = None) -> Path:
    """Days from 1 January 2011 on; in hour i of all, i rentals. The hour `missing` is left out."""
    rows = [HEADER]
    for i in range(24 * days):
        if i != missing:
            date = np.datetime64("2011-01-01") + i // 24
            rows.append(f"{i + 1},{date},1,0,1,{i % 24},0,6,{i // 24 % 2},{1 + i % 4},0.3,0.3,0.5,0.1,0,{i},{i}")
    path = folder / "hour.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_recent_demand_is_the_mean_of_the_week_that_ended_two_days_before(tmp_path: Path) -> None:
    hours = read(a_file(tmp_path, 12))

    at = 10 * 24
    assert hours.recent[at] == np.mean(np.arange(at - 9 * 24, at - 2 * 24))


def test_recent_demand_is_unknown_for_the_first_nine_days(tmp_path: Path) -> None:
    hours = read(a_file(tmp_path, 12))

    assert np.flatnonzero(~np.isnan(hours.recent))[0] == 9 * 24


def test_hours_that_are_missing_do_not_count_as_hours_without_rentals(tmp_path: Path) -> None:
    hours = read(a_file(tmp_path, 12, missing=100))

    ten_days = int(np.flatnonzero(hours.time == np.datetime64("2011-01-11T00", "h"))[0])
    counted = [i for i in range(24, 8 * 24) if i != 100]
    assert hours.recent[ten_days] == pytest.approx(np.mean(counted), abs=0.05)


def test_a_regression_finds_the_coefficients_behind_the_counts() -> None:
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(20_000), rng.normal(size=20_000)])
    w = np.array([2.0, -0.5])

    found = fit(x, rng.poisson(np.exp(x @ w)).astype(np.float64))

    assert found == pytest.approx(w, abs=0.02)


def test_the_file_depends_on_its_rows_alone(tmp_path: Path) -> None:
    rows = [["time", "actual"], ["2012-04-01T00:00:00Z", "7"]]

    write(rows, tmp_path / "one.csv.gz")
    write(rows, tmp_path / "two.csv.gz")

    packed = (tmp_path / "one.csv.gz").read_bytes()
    assert packed == (tmp_path / "two.csv.gz").read_bytes()
    assert gzip.decompress(packed) == b"time,actual\n2012-04-01T00:00:00Z,7\n"


@pytest.mark.slow
def test_no_version_is_trained_on_what_is_served() -> None:
    """Other counts after the first served hour change no prediction for the hours before it."""
    rng = np.random.default_rng(2)
    time = np.datetime64("2011-11-01T00", "h") + np.arange(200 * 24)
    n = len(time)
    hour = (time - time[0]).astype(np.int64) % 24

    def hours(future: int) -> Hours:
        served = time >= np.datetime64("2012-04-01T00", "h")
        actual = np.where(served, future, 100.0 + 5 * hour)
        return Hours(
            time=time, hour=hour, working=hour % 2 == 0, temp=weather[:, 0], hum=weather[:, 1], wind=weather[:, 2],
            weather=np.where(weather[:, 3] < 0.5, "clear", "rain"), recent=np.full(n, 150.0), actual=actual,
        )  # fmt: skip

    weather = rng.uniform(size=(n, 4))
    before, after = table(hours(10)), table(hours(900))

    answers = before[0].index("v1.0.0")
    assert [row[answers:] for row in before] == [row[answers:] for row in after]
