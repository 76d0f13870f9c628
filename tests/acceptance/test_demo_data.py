"""The packaged data of the demonstration are what its script makes of the original data set."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from monitor.demo.make_data import OUTPUT, read, table


def test_the_packaged_data_are_made_of_the_original_ones(data: Path) -> None:
    """Predictions may differ in the last digit that is stored: linear algebra does, between machines."""
    made = table(read(data / "bike_sharing_hourly" / "hour.csv.gz"))

    with gzip.open(OUTPUT, "rt", encoding="utf-8", newline="") as file:
        packaged = list(csv.reader(file))

    answers = made[0].index("v1.0.0")
    assert packaged[0] == made[0]
    assert [row[:answers] for row in packaged] == [row[:answers] for row in made]
    for before, after in zip(packaged[1:], made[1:], strict=True):
        for old, new in zip(before[answers:], after[answers:], strict=True):
            assert bool(old) == bool(new)
            assert not old or float(old) == pytest.approx(float(new), abs=0.11)
