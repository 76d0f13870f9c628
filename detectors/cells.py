"""The kernel: where values lie among the points of their references.

A reference of k distinct points cuts the line into 2k+1 cells: k points and the k+1 gaps around them. The
counts per cell decide the Kolmogorov-Smirnov statistic exactly; with the sum of the positions inside each
gap they decide the Wasserstein distance but for gaps in which the two distribution functions cross. Counts
and sums are integers, so panes add up exactly in any order and a window can lose a pane again.

Pure. The hot path: called once per batch and variant with all numeric features at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.pane import Counts
from detectors.reference import NumericReference
from detectors.types import FloatArray, IntArray

GAP_STEPS = 1 << 24  # a position inside a gap is kept in steps of its width / 2**24
TAIL_STEPS = 1 << 16  # beyond the outermost points, in steps of a standard deviation / 2**16,
_FEW = 16  # a batch that can fill no more than this share of the cells is counted sparsely
TAIL_LIMIT = float(1 << 40)  # up to 1.6e7 deviations: the sum of 8 million such events fits 63 bits


@dataclass(frozen=True, slots=True)
class Placed:
    """What a matrix of values comes to: counts and position sums over the cells of all features.

    `missing` counts NaNs per feature.
    """

    counts: Counts
    positions: Counts
    missing: IntArray


class NumericCells:
    """The cells of all numeric features of a model, laid out one after the other.

    Feature f owns cells `starts[f]` to `starts[f + 1]`; within it even cells are gaps, odd ones are points.
    """

    def __init__(self, references: Sequence[NumericReference]) -> None:
        self.references = tuple(references)
        sizes = [2 * len(r.points) + 1 for r in self.references]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.size = int(self.starts[-1])
        self.sd = np.array([r.sd for r in self.references])
        self.rows = np.array([r.rows for r in self.references], np.int64)
        self._lookups = [_Lookup(r) for r in self.references]

    def __len__(self) -> int:
        return len(self.references)

    def place(self, matrix: FloatArray) -> Placed:
        """Count an (events, features) matrix into the cells; NaN is missing, infinity is refused upstream."""
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
        return Placed(*self._counted(cells[:filled], positions[:filled]), missing)

    def _counted(self, cells: IntArray, positions: FloatArray) -> tuple[Counts, Counts]:
        if len(cells) * _FEW > self.size:
            sums = np.bincount(cells, positions, minlength=self.size).astype(np.int64)
            return Counts(self.size, None, np.bincount(cells, minlength=self.size)), Counts(self.size, None, sums)
        used, where = np.unique(cells, return_inverse=True)
        sums = np.bincount(where, positions, minlength=len(used)).astype(np.int64)
        moved = np.flatnonzero(sums)
        counts = Counts(self.size, used, np.bincount(where, minlength=len(used)))
        return counts, Counts(self.size, used[moved], sums[moved])


class _Lookup:
    """Cell and position of the values of one feature."""

    def __init__(self, reference: NumericReference) -> None:
        points = reference.points
        self._points = points
        # One more, equal to nothing, for values beyond the last point.
        self._padded = np.append(points, np.nan)
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
        self._base[1:-1][np.isinf(width)] = 0.0  # or the distance from it, infinite times nothing, would be NaN
        self._steps = np.concatenate([[-tail], inner, [tail]])

    def locate(self, values: FloatArray, cells: IntArray, positions: FloatArray) -> None:
        """Fill `cells` and `positions` for sorted `values`."""
        below = self._points.searchsorted(values)
        on_point = self._padded[below] == values
        np.multiply(below, 2, out=cells)
        cells += on_point
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(values, self._base[below], out=positions)
            positions *= self._steps[below]
        np.minimum(positions, TAIL_LIMIT, out=positions)
        np.rint(positions, out=positions)
        positions[on_point] = 0.0
