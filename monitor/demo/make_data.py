"""Make the data file of the demonstration from the original data set.

    python -m monitor.demo.make_data HOUR_CSV [OUTPUT]

HOUR_CSV is `hour.csv` (or `hour.csv.gz`) of the Bike Sharing data set; `data/NOTICE.md` names its source. Shell:
reads and writes files. Nothing in it is random, so the same input always gives the same output.

Three versions of a model predict the rentals of an hour. All are Poisson regressions with a logarithmic link
and a small ridge penalty, fitted by Newton's method (McCullagh & Nelder, 1989, "Generalized Linear Models",
chapter 2.5). Their features are the hour of the day, whether it is a working day, and the recent demand.

    v1.0.0  without weather; trained on all hours before 1 April 2012
    v1.1.0  with weather; trained on the same hours. The best of the three
    v1.2.0  as v1.1.0, trained on December 2011 to March 2012 only: on recent data, but on no summer

The hours from 1 April 2012 on are served by the demonstration; no version was trained on them. The hours before are
the reference, with the predictions of v1.1.0.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

OUTPUT: Final = Path(__file__).parent / "data" / "bike_sharing.csv.gz"
FEATURES: Final = ("hour", "working_day", "temp", "hum", "windspeed", "weather", "recent_demand")
VERSIONS: Final = ("v1.0.0", "v1.1.0", "v1.2.0")
SERVED_FROM: Final = np.datetime64("2012-04-01T00", "h")
_LAST: Final = np.datetime64("2012-10-28T00", "h")  # afterwards a hurricane closed the stations
_WINTER: Final = np.datetime64("2011-12-01T00", "h")
_WEEK, _KNOWN_AFTER = 7 * 24, 2 * 24  # hours; some rentals are known only after two days
_WEATHER: Final = {"1": "clear", "2": "mist", "3": "rain", "4": "rain"}
_RIDGE: Final = 1.0
_STEPS: Final = 50


@dataclass(frozen=True, slots=True)
class Hours:
    """Columns of equal length in order of time. `recent` is NaN for the first nine days."""

    time: NDArray[np.datetime64]
    hour: NDArray[np.int64]
    working: BoolArray
    temp: FloatArray
    hum: FloatArray
    wind: FloatArray
    weather: NDArray[np.str_]
    recent: FloatArray
    actual: FloatArray


def read(path: Path) -> Hours:
    """Read the original data set.

    Raises:
        OSError: The file cannot be read.
        KeyError, ValueError: It is another file.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    time = np.array([f"{row['dteday']}T{int(row['hr']):02d}" for row in rows], "datetime64[h]")
    actual = np.array([row["cnt"] for row in rows], np.float64)
    return Hours(
        time=time,
        hour=np.array([row["hr"] for row in rows], np.int64),
        working=np.array([row["workingday"] == "1" for row in rows]),
        temp=np.array([row["temp"] for row in rows], np.float64),
        hum=np.array([row["hum"] for row in rows], np.float64),
        wind=np.array([row["windspeed"] for row in rows], np.float64),
        weather=np.array([_WEATHER[row["weathersit"]] for row in rows]),
        recent=_recent_demand(time, actual),
        actual=actual,
    )


def _recent_demand(time: NDArray[np.datetime64], actual: FloatArray) -> FloatArray:
    """Return the mean demand of the week that ended two days before each hour, rounded as it is stored."""
    at = (time - time[0]).astype(np.int64)
    total, known = np.zeros(at[-1] + 2), np.zeros(at[-1] + 2)
    total[at + 1], known[at + 1] = actual, 1.0
    total, known = total.cumsum(), known.cumsum()
    end, start = np.maximum(at - _KNOWN_AFTER, 0), np.maximum(at - _KNOWN_AFTER - _WEEK, 0)
    with np.errstate(invalid="ignore"):
        mean = (total[end] - total[start]) / (known[end] - known[start])
    return np.where(at >= _KNOWN_AFTER + _WEEK, mean.round(1), np.nan)


def design(hours: Hours, *, weather: bool, hum: FloatArray) -> FloatArray:
    """Return the design matrix of a version, one row an hour.

    Args:
        hours: The hours, n of them.
        weather: Whether the version has the features of the weather.
        hum: Humidity as the version receives it, float64 of shape (n,).
    """
    rows = len(hours.hour)
    profile = np.zeros((rows, 48))
    profile[np.arange(rows), 2 * hours.hour + hours.working] = 1.0
    columns = [profile, np.log(hours.recent)[:, None]]
    if weather:
        given = (
            hours.temp, hours.temp**2, hum, hum**2, hours.wind, hours.weather == "mist", hours.weather == "rain",
        )  # fmt: skip
        columns.append(np.column_stack(given).astype(np.float64))
    return np.hstack(columns)


def fit(x: FloatArray, y: FloatArray) -> FloatArray:
    """Fit a Poisson regression with a ridge penalty.

    Args:
        x: Design matrix, float64 of shape (n, k).
        y: Counts, float64 of shape (n,).

    Returns:
        The coefficients, float64 of shape (k,).

    Raises:
        ArithmeticError: Newton's method does not converge.
    """
    ridge = _RIDGE * np.eye(x.shape[1])
    w = np.zeros(x.shape[1])
    w += np.linalg.solve(x.T @ x + ridge, x.T @ np.log1p(y))
    for _ in range(_STEPS):
        mean = np.exp(x @ w)
        step = np.linalg.solve((x.T * mean) @ x + ridge, x.T @ (y - mean) - _RIDGE * w)
        w += step
        if np.abs(step).max() < 1e-10:
            return w
    raise ArithmeticError(f"the regression has not converged in {_STEPS} steps")


def predictions(hours: Hours) -> dict[str, FloatArray]:
    """Return the predictions by version; with the suffix `_percent` those for a humidity in percent."""
    past = ~np.isnan(hours.recent) & (hours.time < SERVED_FROM)
    trained_on = {"v1.0.0": past, "v1.1.0": past, "v1.2.0": past & (hours.time >= _WINTER)}
    found = {}
    for version, rows in trained_on.items():
        weather = version != "v1.0.0"
        x = design(hours, weather=weather, hum=hours.hum)
        w = fit(x[rows], hours.actual[rows])
        found[version] = np.exp(x @ w)
        if weather:
            found[f"{version}_percent"] = np.exp(design(hours, weather=True, hum=100 * hours.hum) @ w)
    return found


def table(hours: Hours) -> list[list[str]]:
    """Return the rows of the data file, header first."""
    answers = predictions(hours)
    header = ["time", *FEATURES, "actual", *answers]
    rows = [header]
    kept = ~np.isnan(hours.recent) & (hours.time < _LAST)
    for i in np.flatnonzero(kept).tolist():
        served = bool(hours.time[i] >= SERVED_FROM)
        told = [f"{p[i]:.1f}" if served or not name.endswith("_percent") else "" for name, p in answers.items()]
        rows.append([
            f"{hours.time[i]}:00:00Z", str(hours.hour[i]), str(bool(hours.working[i])).lower(),
            _short(hours.temp[i]), _short(hours.hum[i]), _short(hours.wind[i]), str(hours.weather[i]),
            _short(hours.recent[i]), _short(hours.actual[i]), *told,
        ])  # fmt: skip
    return rows


def _short(value: Any) -> str:
    return f"{float(value):g}"


def write(rows: Sequence[Sequence[str]], path: Path) -> None:
    """Write compressed CSV whose bytes depend on the rows only, without time and name in the header."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))


def main() -> None:
    """Read the arguments and write the file."""
    arguments = argparse.ArgumentParser(description="make the data file of the demonstration")
    arguments.add_argument("hour_csv", type=Path, help="hour.csv or hour.csv.gz of the Bike Sharing data set")
    arguments.add_argument("output", type=Path, nargs="?", default=OUTPUT, help=f"by default {OUTPUT}")
    given = arguments.parse_args()
    write(table(read(given.hour_csv)), given.output)


if __name__ == "__main__":
    main()
