"""Quantile summary of a column of any length in bounded memory.

The summary is exact until the column outgrows one buffer; beyond that it is a hierarchy of sorted buffers, in which an
item of buffer k stands for 2**k rows. It is deterministic, and its error bound is tracked, not estimated. Pure. Used
while a reference is built.

Source: Munro & Paterson (1980), "Selection and sorting with limited storage"; buffers are collapsed as by Manku,
Rajagopalan & Lindsay (1998).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.types import FloatArray, IntArray

ROUNDING = 1e-14  # of the largest magnitude: a smaller standard deviation is only rounding error
CAPACITY = 1 << 16  # 12 buffers of 512 KiB hold 10**8 rows with a rank error of 4e-5


@dataclass(frozen=True, slots=True)
class _Moments:
    """Count, mean and sum of squared deviations of values.

    Mean and deviations are in units of the largest magnitude, so that squares do not overflow.
    """

    n: int = 0
    unit: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    @staticmethod
    def of(values: FloatArray) -> _Moments:
        if not len(values):
            return _Moments()
        unit = float(np.abs(values).max()) or 1.0
        scaled = values / unit
        mean = float(scaled.mean())
        return _Moments(len(values), unit, mean, float(((scaled - mean) ** 2).sum()))

    def __add__(self, other: _Moments) -> _Moments:
        """Combine the moments of two samples (Chan, Golub & LeVeque, 1983)."""
        if not self.n or not other.n:
            return self if self.n else other
        n, unit = self.n + other.n, max(self.unit, other.unit)
        a, b = self.unit / unit, other.unit / unit
        apart = other.mean * b - self.mean * a
        squares = self.squares * a**2 + other.squares * b**2 + apart**2 * self.n * other.n / n
        return _Moments(n, unit, self.mean * a + apart * other.n / n, squares)


class QuantileSummary:
    """Summarise the distribution of a column in bounded memory.

    Attributes:
        rows: Number of values added.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Start without values.

        Args:
            capacity: Number of values per buffer; up to so many are kept exactly.

        Raises:
            ValueError: `capacity` is odd or less than 2.
        """
        if capacity < 2 or capacity % 2:
            raise ValueError(f"capacity {capacity}: an even number of at least 2 is needed")
        self._capacity = capacity
        self._loose: list[FloatArray] = []  # values that do not fill a buffer yet
        self._loose_rows = 0
        self._buffers: list[FloatArray | None] = []  # items of buffer k stand for 2**k rows
        self._upward = True  # whether the next collapse rounds ranks up: alternating cancels the bias
        self._error = [0, 0]  # ranks by which an estimate may be too low, too high
        self._moments = _Moments()  # of full buffers only: where those end does not depend on batches
        self.rows = 0

    @property
    def sd(self) -> float:
        """Return the standard deviation of all values; 0 if they differ only by rounding errors."""
        loose = np.concatenate(self._loose) if self._loose else np.zeros(0)
        all_rows = self._moments + _Moments.of(loose)
        sd = float(np.sqrt(all_rows.squares / all_rows.n)) if all_rows.n else 0.0
        return sd * all_rows.unit if sd > ROUNDING else 0.0

    @property
    def rank_error(self) -> float:
        """Return the largest error of a rank in the summary, as a share of the rows."""
        return max(self._error) / self.rows if self.rows else 0.0

    def add(self, values: FloatArray) -> None:
        """Add values, shape (n,).

        Raises:
            ValueError: A value is NaN or infinite.
        """
        if not np.isfinite(values).all():
            raise ValueError("a summary takes finite values only")
        self.rows += len(values)
        self._loose.append(np.array(values, np.float64))
        self._loose_rows += len(values)
        if self._loose_rows < self._capacity:
            return
        rows = np.concatenate(self._loose)
        full = len(rows) // self._capacity * self._capacity
        for start in range(0, full, self._capacity):
            buffer = np.sort(rows[start : start + self._capacity])
            self._moments += _Moments.of(buffer)
            self._put(buffer, 0)
        self._loose, self._loose_rows = [rows[full:]], len(rows) - full

    def _put(self, buffer: FloatArray, k: int) -> None:
        """Store a buffer whose items stand for 2**k rows; merge it with the one that is there."""
        if k == len(self._buffers):
            self._buffers.append(None)
        held = self._buffers[k]
        if held is None:
            self._buffers[k] = buffer
            return
        self._buffers[k] = None
        both = np.sort(np.concatenate([held, buffer]), kind="stable")
        keep = both[0::2] if self._upward else both[1::2]
        self._error[self._upward] += 1 << k
        self._upward = not self._upward
        self._put(keep, k + 1)

    def weighted(self) -> tuple[FloatArray, IntArray]:
        """Return sorted values and the number of rows that each stands for; these sum to `rows`."""
        values = [np.concatenate(self._loose)] if self._loose else [np.zeros(0)]
        weights = [np.ones(len(values[0]), np.int64)]
        for k, buffer in enumerate(self._buffers):
            if buffer is not None:
                values.append(buffer)
                weights.append(np.full(len(buffer), 1 << k, np.int64))
        value, weight = np.concatenate(values), np.concatenate(weights)
        order = np.argsort(value, kind="stable")
        return value[order], weight[order]


def mid_block_points(values: FloatArray, weights: IntArray, count: int) -> tuple[FloatArray, IntArray]:
    """Represent a weighted sorted sample by at most `count` points.

    The rows are cut into `count` blocks of equal size, each represented by its middle, so the distribution function
    moves by at most 1 / (2 count). A sample of at most `count` rows is kept exactly.

    Args:
        values: Sorted values, shape (n,).
        weights: Rows that each of them stands for, shape (n,).
        count: Largest number of points.

    Returns:
        The distinct points, ascending, and their multiplicities.
    """
    total = int(weights.sum())
    if total > count:
        ends = np.cumsum(weights)
        middle = (np.arange(count) + 0.5) * (total / count)
        values = values[np.searchsorted(ends, middle, side="right")]
        weights = np.ones(count, np.int64)
    distinct, first = np.unique(values, return_index=True)
    return distinct, np.add.reduceat(weights, first) if len(weights) else weights


def distance_between(left: FloatArray, left_weights: IntArray, right: FloatArray, right_weights: IntArray) -> float:
    """Compute the Wasserstein-1 distance of two weighted sorted samples exactly.

    It is the area between the two empirical distribution functions, in the unit of the values.
    """
    grid = np.union1d(left, right)
    if len(grid) < 2:
        return 0.0
    gap = _cdf(left, left_weights, grid) - _cdf(right, right_weights, grid)
    # Halved before the difference: two points may lie further apart than the largest float.
    return float(2 * np.abs(gap[:-1]) @ np.diff(grid / 2))


def _cdf(values: FloatArray, weights: IntArray, grid: FloatArray) -> FloatArray:
    ends = np.concatenate([[0], np.cumsum(weights)])
    result: FloatArray = ends[np.searchsorted(values, grid, side="right")] / ends[-1]
    return result
