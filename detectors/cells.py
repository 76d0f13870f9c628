"""Counting of numeric values into cells between the points of their references.

A reference of k distinct points cuts the line into 2k + 1 cells: k points and the k + 1 gaps around them. The counts
per cell determine the Kolmogorov-Smirnov statistic exactly. Together with the sum of the positions inside each gap
they determine the Wasserstein distance, except for gaps in which the two distribution functions cross. Counts and sums
are integers, so panes add up exactly in any order and a window can subtract a pane again.

Pure. On the hot path: called once per batch and variant with all numeric features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.pane import Counts
from detectors.reference import NumericReference
from detectors.types import BoolArray, FloatArray, IntArray

GAP_STEPS = 1 << 24  # steps per width of a gap, for positions inside it
TAIL_STEPS = 1 << 16  # steps per standard deviation, for positions beyond the outermost points
TOLERANCE = 2.0**-22  # relative: float32 has half a step of 2**-24, so the same number in float32 and in JSON is equal
TAIL_LIMIT = float(1 << 40)  # steps, 1.6e7 standard deviations: the sum of 8 million such events fits 63 bits
_CELLS_PER_VALUE = 16  # with more cells than this per value, a batch is counted sparsely


@dataclass(frozen=True, slots=True)
class CellCounts:
    """Hold the counts of a matrix of values over the cells of all features.

    Attributes:
        counts: Values per cell.
        positions: Sum of the positions of the values in each gap, in steps from its left end (in the leftmost gap from
            its right end).
        missing: Values that were NaN, shape (features,).
    """

    counts: Counts
    positions: Counts
    missing: IntArray


class NumericCells:
    """Lay out the cells of all numeric features, one feature after the other.

    Feature f owns the cells from `starts[f]` up to `starts[f + 1]`; of these, even ones are gaps, odd ones are points.

    Attributes:
        references: The references, one per feature.
        starts: First cell of each feature, and the number of all cells; shape (features + 1,).
        size: Number of all cells.
        sd: Standard deviation of each reference, shape (features,).
    """

    def __init__(self, references: Sequence[NumericReference]) -> None:
        """Lay out the cells of these references."""
        self.references = tuple(references)
        sizes = [2 * len(r.points) + 1 for r in self.references]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.size = int(self.starts[-1])
        self.sd = np.array([r.sd for r in self.references])
        self._lookups = [_Lookup(r) for r in self.references]

    def __len__(self) -> int:
        return len(self.references)

    def running_shares(self, weights: FloatArray) -> FloatArray:
        """Return the distribution functions of weighted points at the end of each cell, shape (size,).

        Args:
            weights: Weights of the points of all features, one feature after the other; none of them all 0.
        """
        sizes = np.array([len(r.points) for r in self.references], np.int64)
        total = np.concatenate([[0.0], np.cumsum(weights)])
        first = np.concatenate([[0], np.cumsum(sizes)])
        feature = np.repeat(np.arange(len(sizes)), np.diff(self.starts))
        within = np.arange(self.size) - self.starts[:-1][feature]
        at = first[:-1][feature] + (within + 1) // 2
        whole = total[first[1:]] - total[first[:-1]]
        result: FloatArray = (total[at] - total[first[:-1]][feature]) / np.where(whole > 0, whole, 1.0)[feature]
        return result

    def before_stand_ins(self) -> BoolArray:
        """Tell which cells are gaps before a point that stands for values around it, not for itself; shape (size,).

        Nothing is known of how values lie in such a gap. The last point is one of these cells as well, if it is such a
        point: values beyond it were counted there.
        """
        found = np.zeros(self.size, np.bool_)
        for r, start in zip(self.references, self.starts.tolist(), strict=False):
            if r.ks_error and len(r.points):
                stands = r.weights < 2
                found[start : start + 2 * len(stands) : 2] = stands
                found[start + 2 * len(stands) - 1] = stands[-1]
        return found

    def bin_counts(self, matrix: FloatArray) -> CellCounts:
        """Count values into the cells.

        Args:
            matrix: Values, shape (events, features), in the units of the features; NaN is missing. Infinite values must
                have been refused before.
        """
        events = len(matrix)
        cells = np.empty(matrix.size, np.int64)
        positions = np.empty(matrix.size)
        missing = np.zeros(len(self), np.int64)
        filled = 0
        for f, lookup in enumerate(self._lookups):
            # Sorted needles make the search several times faster than random ones.
            column = np.sort(matrix[:, f])
            present = int(column.searchsorted(np.inf, side="right"))
            missing[f] = events - present
            end = filled + present
            lookup.locate(column[:present], cells[filled:end], positions[filled:end])
            cells[filled:end] += self.starts[f]
            filled = end
        return CellCounts(*self._counted(cells[:filled], positions[:filled]), missing)

    def _counted(self, cells: IntArray, positions: FloatArray) -> tuple[Counts, Counts]:
        if len(cells) * _CELLS_PER_VALUE > self.size:
            sums = np.bincount(cells, positions, minlength=self.size).astype(np.int64)
            return Counts(self.size, None, np.bincount(cells, minlength=self.size)), Counts(self.size, None, sums)
        used, where = np.unique(cells, return_inverse=True)
        sums = np.bincount(where, positions, minlength=len(used)).astype(np.int64)
        moved = np.flatnonzero(sums)
        counts = Counts(self.size, used, np.bincount(where, minlength=len(used)))
        return counts, Counts(self.size, used[moved], sums[moved])


class _Lookup:
    """Finds cell and position of the values of one feature."""

    def __init__(self, reference: NumericReference) -> None:
        points = reference.points
        self._from, self._to = _tolerated(reference)
        if not len(points):
            self._base, self._steps = np.zeros(1), np.zeros(1)
            return
        scale = reference.sd or abs(float(points[0])) or 1.0
        with np.errstate(over="ignore", divide="ignore"):
            width = np.diff(points)
            inner = GAP_STEPS / width
            tail = TAIL_STEPS / scale
        inner[~np.isfinite(inner)] = 0.0  # a gap too narrow or too wide for a float: its beginning will do
        self._base = np.concatenate([points[:1], points])
        self._base[1:-1][np.isinf(width)] = 0.0  # otherwise infinity times 0 would give NaN
        self._steps = np.concatenate([[-tail], inner, [tail]])

    def locate(self, values: FloatArray, cells: IntArray, positions: FloatArray) -> None:
        """Write cell and position, in steps, of each of the sorted `values` into the two arrays."""
        below = self._to.searchsorted(values)
        on_point = self._from[below] <= values
        np.multiply(below, 2, out=cells)
        cells += on_point
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(values, self._base[below], out=positions)
            positions *= self._steps[below]
        np.minimum(positions, TAIL_LIMIT, out=positions)
        np.rint(positions, out=positions)
        positions[on_point] = 0.0


def _tolerated(reference: NumericReference) -> tuple[FloatArray, FloatArray]:
    """Return from where and up to where values count as equal to each point, shapes (k + 1,) and (k,).

    A value belongs to the nearest point. Points that are closer together than the tolerance show that the feature is
    resolved more finely, as large integers are: nothing is equal to them from further away than half their distance,
    beyond the outermost points either. A value equal to a point is always that point. The last start, behind all
    points, is never reached.
    """
    points = reference.points
    reach = TOLERANCE * np.abs(points)
    if reference.ks_error:
        reach[reference.weights < 2] = 0.0  # such a point stands for values around it, not for itself
    if len(points) > 1:
        half = np.diff(points / 2)  # halved first: the distance of two points may exceed the largest float
        reach = np.minimum(reach, np.minimum(np.append(half[0], half), np.append(half, half[-1])))
    with np.errstate(over="ignore"):  # beyond the largest float everything is equal to it
        lowest, highest = points - reach, points + reach
    # The middle of neighbouring floats is one of them.
    np.minimum(highest[:-1], np.nextafter(points[1:], -np.inf), out=highest[:-1])
    return np.append(lowest, np.nan), highest
