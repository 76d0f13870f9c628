"""Seasons: which part an event lies in, what a reference holds of each, and what thin parts take from others."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.reference import NumericReference, Profile, Reference
from detectors.reference_builder import Column, DispersionPass, DistributionPass, build_features
from detectors.season import Season, Seasonal, joined_cells, season_notices
from detectors.types import IntArray

HOUR = 3_600_000
DAY = 24 * HOUR
KINDS = {"x": True, "c": False}


def ms(text: str) -> IntArray:
    """A time of UTC as an array of one."""
    return np.array([int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)])


@pytest.mark.parametrize(
    ("season", "time", "cell"),
    [
        (Season.HOUR_OF_DAY, "2026-03-01T00:00:00", 0),
        (Season.HOUR_OF_DAY, "2026-03-01T23:59:59", 23),
        (Season.HOUR_OF_WEEK, "2026-03-02T00:30:00", 0),  # a Monday
        (Season.HOUR_OF_WEEK, "2026-03-08T23:30:00", 167),
        (Season.DAY_OF_YEAR, "2026-01-01T00:00:00", 0),
        (Season.DAY_OF_YEAR, "2026-01-08T00:00:00", 1),
        (Season.DAY_OF_YEAR, "2024-12-31T23:00:00", 51),
        (Season.DAY_OF_YEAR, "1969-12-31T23:00:00", 51),
    ],
)
def test_a_time_lies_in_one_part(season: Season, time: str, cell: int) -> None:
    """Of a day, of a week from Monday on, of a year from January 1 on, in UTC."""
    assert season.cells_of(ms(time)).tolist() == [cell]


@given(st.sampled_from([Season.HOUR_OF_DAY, Season.HOUR_OF_WEEK]), st.integers(0, 1 << 42), st.integers(1, 60))
def test_parts_come_again_after_a_period(season: Season, time: int, periods: int) -> None:
    """And all of them are known."""
    now, then = season.cells_of(np.array([time, time + periods * int(season.period)])).tolist()

    assert now == then
    assert 0 <= now < season.cells


def test_a_thin_part_takes_from_both_sides_until_it_has_enough() -> None:
    """On the circle: the first part is beside the last."""
    rows = np.full(24, 100)
    rows[[0, 1, 23]] = 10

    takes = joined_cells(rows)

    assert np.flatnonzero(takes[0]).tolist() == [0, 1, 2, 22, 23]
    assert np.flatnonzero(takes[5]).tolist() == [5]


def test_a_part_without_enough_anywhere_takes_the_whole_reference() -> None:
    assert joined_cells(np.ones(24, np.int64)).all()


def test_what_a_reference_is_too_short_for_is_said() -> None:
    """A period that came once tells nothing of what repeats itself."""
    notices = season_notices(Season.HOUR_OF_WEEK, np.full(168, 60), 1.0)

    assert len(notices) == 1
    assert "spans 1.0 of at least two periods" in notices[0]
    assert "assumed" in notices[0]


def test_thin_parts_are_counted() -> None:
    rows = np.full(24, 60)
    rows[:3] = 0

    assert [
        "3 of 24 parts have fewer than 50 rows" in text for text in season_notices(Season.HOUR_OF_DAY, rows, 9.0)
    ] == [True]


def some_columns(rows: int, seed: int) -> tuple[dict[str, Column], IntArray]:
    """Numbers and texts with holes, and times over some days."""
    rng = np.random.default_rng(seed)
    numbers = np.where(rng.random(rows) < 0.1, np.nan, rng.standard_normal(rows))
    texts: list[str | None] = [None if v < 0.3 else f"t{int(v)}" for v in rng.exponential(2, rows)]
    return {"x": numbers, "c": texts}, np.sort(rng.integers(0, 5 * DAY, rows))


def bytes_of(features: tuple[Reference, ...]) -> bytes:
    return Profile(features, 0, ordered=True).to_bytes()


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 600), st.lists(st.integers(0, 300), max_size=5))
def test_a_seasonal_reference_does_not_depend_on_batches(seed: int, rows: int, sizes: list[int]) -> None:
    columns, time = some_columns(rows, seed)
    edges = [0, *np.minimum(np.cumsum(sizes), rows).tolist(), rows]
    first = DistributionPass(KINDS, 16, seasonal=True)
    for a, b in pairwise(edges):
        first.add({name: column[a:b] for name, column in columns.items()}, b - a)
    second = DispersionPass(first.features(), Seasonal(Season.HOUR_OF_DAY, int(time.min()), int(time.max())))
    for a, b in pairwise(edges):
        second.add({name: column[a:b] for name, column in columns.items()}, b - a, time[a:b])

    assert bytes_of(second.features()) == bytes_of(build_features(KINDS, columns, rows, 16, Season.HOUR_OF_DAY, time))


def test_a_reference_counts_its_rows_by_part() -> None:
    """All rows of a feature are somewhere: at a point or missing."""
    columns, time = some_columns(2_000, 3)

    for f in build_features(KINDS, columns, 2_000, 2_048, Season.HOUR_OF_DAY, time):
        assert f.seasonal is not None
        assert f.seasonal.rows.tolist() == np.bincount(time // HOUR % 24, minlength=24).tolist()
        assert (int(f.seasonal.counts.sum()), int(f.seasonal.missing.sum())) == (f.rows, f.missing)


def test_a_seasonal_profile_comes_back() -> None:
    """With its season, and the same hash."""
    columns, time = some_columns(500, 4)
    profile = Profile(build_features(KINDS, columns, 500, 64, Season.DAY_OF_YEAR, time), 500, ordered=True)

    restored = Profile.from_bytes(profile.to_bytes())

    assert restored.season is Season.DAY_OF_YEAR
    assert restored.content_hash == profile.content_hash


def test_a_seasonal_number_has_few_points() -> None:
    """Each is counted in every part."""
    values = np.random.default_rng(1).standard_normal(5_000)
    (x,) = build_features({"x": True}, {"x": values}, 5_000, 2_048, Season.HOUR_OF_DAY, np.arange(5_000) * 60_000)

    assert isinstance(x, NumericReference)
    assert len(x.points) == 128


def test_rows_without_times_have_no_season() -> None:
    second = DispersionPass(build_features(KINDS, {}, 5), Seasonal(Season.HOUR_OF_DAY, 0, DAY))

    with pytest.raises(ValueError, match="without times"):
        second.add({}, 5)


def test_a_daily_series_depends_on_nothing_once_the_hour_is_known() -> None:
    """Without the season its windows of an hour vary fifty times as much as independent ones."""
    rng = np.random.default_rng(5)
    time = np.arange(14_000) * DAY // 1_000
    values = rng.standard_normal(14_000) + 1.5 * np.sin(2 * np.pi * time / DAY)

    def largest(season: Season | None) -> float:
        (x,) = build_features({"x": True}, {"x": values}, len(values), 128, season, time)
        return x.dispersion.at(40)

    assert largest(None) > 10
    assert largest(Season.HOUR_OF_DAY) < 1.3
