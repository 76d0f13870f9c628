"""Seasons: which part of a day, a week or a year an event lies in, and what a reference holds of each part.

A window is compared with a mixture of the parts, its cells, by how many of its own events lie in each: a window of the
night with nights, one of a day and a half with each hour as often as it has it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from detectors.types import BoolArray, FloatArray, IntArray, NumberArray

POINTS: Final = 128  # largest number of points of a numeric feature whose reference is kept by season
_HOUR: Final = 3_600_000
_DAY: Final = 24 * _HOUR
_WEEKS: Final = 52
_MONDAY: Final = 4 * _DAY  # 1970-01-05
_THIN: Final = 50  # rows: a cell with fewer is joined with its neighbours
LEAST_PERIODS: Final = 1.9  # two, but for what is missing at either end: fewer tell nothing of what repeats itself


class Season(StrEnum):
    """Name what repeats itself."""

    HOUR_OF_DAY = "hour_of_day"
    HOUR_OF_WEEK = "hour_of_week"
    DAY_OF_YEAR = "day_of_year"

    @property
    def cells(self) -> int:
        """Return the number of cells: hours of a day, hours of a week, weeks of a year."""
        return {Season.HOUR_OF_DAY: 24, Season.HOUR_OF_WEEK: 168, Season.DAY_OF_YEAR: _WEEKS}[self]

    @property
    def period(self) -> float:
        """Return its length in milliseconds."""
        days = {Season.HOUR_OF_DAY: 1.0, Season.HOUR_OF_WEEK: 7.0, Season.DAY_OF_YEAR: 365.25}
        return days[self] * _DAY

    def cells_of(self, time: IntArray) -> IntArray:
        """Return the cell of each time.

        Days begin at midnight UTC, weeks on Monday. Cells of a year are weeks from January 1 on, the last of them
        longer by a day or two.

        Args:
            time: Milliseconds since the epoch, shape (events,).
        """
        if self is Season.HOUR_OF_DAY:
            return time // _HOUR % 24
        if self is Season.HOUR_OF_WEEK:
            return (time - _MONDAY) // _HOUR % 168
        days = time.astype("datetime64[ms]").astype("datetime64[D]")
        day: IntArray = (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
        return np.minimum(day // 7, _WEEKS - 1)


@dataclass(frozen=True, slots=True, eq=False)
class SeasonCounts:
    """Hold the rows of a feature of a reference by season.

    Attributes:
        season: What repeats itself.
        counts: Rows by cell and point, or by cell and category, of which the last is `other`; shape (cells, places).
        missing: Rows without a value, shape (cells,).
        periods: How many periods the reference spans.
    """

    season: Season
    counts: NumberArray
    missing: IntArray
    periods: float

    @property
    def rows(self) -> IntArray:
        """Return all rows of each cell, shape (cells,)."""
        held: IntArray = self.counts.sum(axis=1, dtype=np.int64) + self.missing
        return held

    @property
    def missing_shares(self) -> FloatArray:
        """Return the shares of rows with and without a value, of parts as in `shares`; shape (cells, 2)."""
        counts = joined_cells(self.rows) @ np.column_stack([self.rows - self.missing, self.missing])
        result: FloatArray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return result

    @property
    def shares(self) -> FloatArray:
        """Return the shares of the places in each cell with those that it is joined with, shape (cells, places)."""
        counts = joined_cells(self.rows) @ self.counts
        result: FloatArray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return result


@dataclass(frozen=True, slots=True)
class Seasonal:
    """Say by which season rows are told apart.

    Attributes:
        season: What repeats itself.
        first_ms: Time of the first row, milliseconds since the epoch.
        last_ms: Time of the last row.
    """

    season: Season
    first_ms: int
    last_ms: int

    @property
    def periods(self) -> float:
        """Return how many periods the rows span."""
        return (self.last_ms - self.first_ms) / self.season.period


def joined_cells(rows: IntArray) -> FloatArray:
    """Return from which cells each cell takes its rows, shape (cells, cells): 1 where it does.

    A thin cell takes those of its neighbours on the circle, as many on both sides, until it has enough.

    Args:
        rows: Rows of each cell, shape (cells,).
    """
    cells = len(rows)
    takes = np.eye(cells)
    for c in np.flatnonzero(rows < _THIN).tolist():
        for reach in range(1, cells // 2 + 1):
            taken = np.unique(np.arange(c - reach, c + reach + 1) % cells)
            takes[c, taken] = 1.0
            if rows[taken].sum() >= _THIN:
                break
    return takes


class SeasonCounter:
    """Count the rows of a feature by season, in batches."""

    def __init__(self, season: Season, places: int, periods: float) -> None:
        """Start without rows.

        Args:
            season: What repeats itself.
            places: Number of points, or of categories with that of all others.
            periods: How many periods the rows span.
        """
        self._season, self._periods = season, periods
        self._counts = np.zeros(season.cells * places, np.int64)
        self._missing = np.zeros(season.cells, np.int64)
        self._places = places

    def add(self, cells: IntArray, present: BoolArray, places: IntArray) -> None:
        """Add rows: the cell of each, which have a value, and the place of each that has one."""
        self._missing += np.bincount(cells[~present], minlength=len(self._missing))
        self._counts += np.bincount(cells[present] * self._places + places, minlength=len(self._counts))

    def result(self) -> SeasonCounts:
        """Return the counts, in the smallest type that holds them."""
        kind = np.uint16 if not len(self._counts) or self._counts.max() < 1 << 16 else np.uint32
        counts = self._counts.reshape(len(self._missing), self._places).astype(kind)
        return SeasonCounts(self._season, counts, self._missing, self._periods)


@dataclass(frozen=True, slots=True)
class InSeason:
    """Say which part of a season rows lie in, and what is expected there.

    Attributes:
        cells: Cell of each row, shape (rows,).
        shares: Shares of the places in each cell, shape (cells, places).
    """

    cells: IntArray
    shares: FloatArray

    def left(self, values: FloatArray, places: IntArray) -> FloatArray:
        """Return what of values does not follow from the season: they minus the mean of their cell.

        Args:
            values: By place, shape (places, series).
            places: Of each row, shape (rows,).
        """
        result: FloatArray = values[places] - (self.shares @ values)[self.cells]
        return result

    def grouped(self, group: IntArray, groups: int) -> InSeason:
        """Return the same of groups of places, given the group of each."""
        onto = np.zeros((len(group), groups))
        onto[np.arange(len(group)), group] = 1.0
        return InSeason(self.cells, self.shares @ onto)


def season_notices(season: Season, rows: IntArray, periods: float) -> tuple[str, ...]:
    """Say what a reference is too short or too thin for, in words.

    Args:
        season: What repeats itself.
        rows: Rows of each cell, shape (cells,).
        periods: How many periods the reference spans.
    """
    found = []
    if periods < LEAST_PERIODS:
        found.append(
            f"season {season}: the reference spans {periods:.1f} of at least two periods: what is of the season and "
            "what of chance cannot be told apart, and the promise of the false-alarm budget is assumed"
        )
    thin = int((rows < _THIN).sum())
    if thin:
        found.append(
            f"season {season}: {thin} of {season.cells} parts have fewer than {_THIN} rows, and take those of the "
            "parts beside them"
        )
    return tuple(found)
