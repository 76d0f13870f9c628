"""The data of the demonstration: hours with their features, actual rentals, and the prediction of each version.

Shell: reads the packaged file and writes the reference. `make_data` documents how the file was made.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from fallback.types import Scalar
from monitor.times import format_time, parse_time

CHAMPION: Final = "v1.1.0"
VERSIONS: Final = ("v1.0.0", "v1.1.0", "v1.2.0")
SERVED_FROM: Final = parse_time("2012-04-01T00:00:00Z")
HOUR_MS: Final = 3_600_000
_NUMBERS: Final = ("temp", "hum", "windspeed", "recent_demand")
_PERCENT: Final = "_percent"
_READS: Final[Mapping[str, Sequence[str]]] = {
    "v1.0.0": ("hour", "working_day", "recent_demand"),
    "v1.1.0": ("hour", "working_day", "temp", "hum", "windspeed", "weather", "recent_demand"),
    "v1.2.0": ("hour", "working_day", "temp", "hum", "windspeed", "weather", "recent_demand"),
}

Features = Mapping[str, Scalar]
Key = tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of the data.

    Attributes:
        time: Milliseconds since the epoch.
        features: Features of the model.
        actual: Rentals in this hour.
        predicted: Prediction by version; with the suffix `_percent` that for a humidity in percent.
    """

    time: int
    features: Features
    actual: int
    predicted: Mapping[str, float]


class Precomputed:
    """A version of the model as a table of precomputed predictions.

    It accepts exactly the features of its hours, with the humidity as a share or in percent.
    """

    def __init__(self, version: str, hours: Iterable[Hour]) -> None:
        self._reads = _READS[version]
        self._table: dict[Key, float] = {}
        for hour in hours:
            self._table[self._key(hour.features)] = hour.predicted[version]
            if version + _PERCENT in hour.predicted:
                self._table[self._key(in_percent(hour.features))] = hour.predicted[version + _PERCENT]

    def __call__(self, features: Features) -> float:
        """Return the prediction.

        Raises:
            KeyError: No hour has these features.
        """
        return self._table[self._key(features)]

    def _key(self, features: Features) -> Key:
        return tuple(features[name] for name in self._reads)


def in_percent(features: Features) -> dict[str, Scalar]:
    """Return the features with the humidity in percent instead of a share."""
    hum = features["hum"]
    if not isinstance(hum, float):
        raise ValueError(f"{hum!r} is no humidity")
    return {**features, "hum": round(100 * hum, 1)}


def load() -> list[Hour]:
    """Load all hours of the packaged file, in order of time."""
    packed = files("monitor.demo").joinpath("data", "bike_sharing.csv.gz").read_bytes()
    text = io.StringIO(gzip.decompress(packed).decode())
    return [_hour(row) for row in csv.DictReader(text)]


def _hour(row: Mapping[str, str]) -> Hour:
    features: dict[str, Scalar] = {"hour": int(row["hour"]), "working_day": row["working_day"] == "true"}
    features |= {name: float(row[name]) for name in _NUMBERS}
    features["weather"] = row["weather"]
    predicted = {name: float(text) for name, text in row.items() if name.startswith("v") and text}
    return Hour(parse_time(row["time"]), features, int(row["actual"]), predicted)


def write_reference(hours: Iterable[Hour], path: Path) -> int:
    """Write the reference table: the hours before serving, with the champion's predictions.

    Returns:
        The number of rows.
    """
    rows = 0
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for hour in hours:
            if hour.time >= SERVED_FROM:
                break
            if not rows:
                writer.writerow(["time", *hour.features, "prediction"])
            values = [str(v).lower() if isinstance(v, bool) else v for v in hour.features.values()]
            writer.writerow([format_time(hour.time), *values, hour.predicted[CHAMPION]])
            rows += 1
    return rows
