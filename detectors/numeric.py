"""Distances between a window and its reference, for all numeric features at once.

They are computed from counts per cell (`cells`), so the cost does not depend on the number of events. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.cells import GAP_STEPS, TAIL_STEPS, NumericCells
from detectors.reference import NumericReference
from detectors.types import BoolArray, FloatArray, IntArray, Number

PSI_BINS = 10
_HALF = 0.5  # events added to every bin of both sides, because PSI is infinite for an empty bin


@dataclass(frozen=True, slots=True)
class Distance:
    """Hold a distance per feature and bounds on its error.

    Attributes:
        value: The distance, shape (features,); NaN if it is undefined.
        error: Bound on the error caused by summarising values, shape (features,).
    """

    value: FloatArray
    error: FloatArray


@dataclass(frozen=True, slots=True)
class Transport(Distance):
    """Hold a Wasserstein distance per feature with its two parts.

    Attributes:
        inner: The part of the distance between the outermost points of the reference, shape (features,).
        beyond: Number of events beyond the outermost points, shape (features,).
    """

    inner: FloatArray
    beyond: IntArray


@dataclass(frozen=True, slots=True)
class BinnedWindow:
    """Hold the counts of a window over the cells of all numeric features.

    Attributes:
        counts: Events per cell, shape (cells,).
        events: Events with a value per feature, shape (features,).
        ahead: Distribution function of the window minus that of the reference, at the end of each cell, shape (cells,).
    """

    counts: IntArray
    events: IntArray
    ahead: FloatArray


class NumericDistances:
    """Compute distances of windows from one set of references."""

    def __init__(self, cells: NumericCells) -> None:
        """Prepare everything that does not depend on a window."""
        self._cells = cells
        self._starts = cells.starts[:-1]
        self._sizes = np.diff(cells.starts)
        self._cdf = _reference_cdfs(cells.references, cells.size)
        self._known = np.array([len(r.points) > 0 for r in cells.references], np.bool_)
        self._ks_error = np.array([r.ks_error for r in cells.references])
        self._gaps = _Gaps(cells)
        self._bins = _Bins(cells)
        self._unsure: BoolArray | None = None

    def expecting(self, weights: FloatArray, rows: FloatArray) -> NumericDistances:
        """Return the distances from the same points with other weights, those that are expected of one window.

        A point has the weight of what is between the one before it and itself. So where it stands for values around it
        the distribution function is known on the point and not before it, and is compared there.

        Args:
            weights: Weights of the points of all features, one feature after the other.
            rows: Rows that they stand for, shape (features,).
        """
        found = copy(self)
        found._cdf = self._cells.running_shares(weights)
        if self._unsure is None:
            self._unsure = self._cells.before_stand_ins()
        found._unsure = self._unsure
        found._gaps = self._gaps.with_cdf(found._cdf, self._unsure)
        found._bins = self._bins.with_cdf(found._cdf, rows)
        return found

    def window(self, counts: IntArray) -> BinnedWindow:
        """Prepare counts per cell, shape (cells,), for the statistics below."""
        events = _sums(counts, self._starts)
        steps = counts.copy()
        steps[self._starts[1:]] -= events[:-1]  # so that running sums begin anew with each feature
        ahead = np.cumsum(steps, out=steps) / _per(np.maximum(events, 1), self._sizes)
        ahead -= self._cdf
        return BinnedWindow(counts, events, ahead)

    def ks(self, window: BinnedWindow) -> Distance:
        """Compute the Kolmogorov-Smirnov statistic, as `scipy.stats.ks_2samp` does.

        It is the largest difference of the two distribution functions, 0 to 1.
        """
        gap = np.abs(window.ahead)
        if self._unsure is not None:
            gap[self._unsure] = 0.0
        value = np.maximum.reduceat(gap, self._starts) if len(gap) else np.zeros(0)
        return Distance(self._defined(value, window.events), self._ks_error)

    def wasserstein(self, window: BinnedWindow, positions: IntArray) -> Transport:
        """Compute the Wasserstein-1 distance in standard deviations of the reference; NaN if these are 0.

        It is the area between the two distribution functions. The area is exact in every gap in which they do not
        cross. Where they cross, the mean position of the values bounds it from both sides, and the middle is taken.

        Args:
            window: The counts.
            positions: Sums of positions per cell, as of `NumericCells.bin_counts`, shape (cells,).
        """
        gaps = self._gaps
        events = np.maximum(window.events, 1)
        n = _per(events, gaps.sizes)
        held, at = window.counts.take(gaps.cell), positions.take(gaps.cell)
        # Reference minus window at the right end of each gap, and what its events add to that on average inside it.
        right = gaps.more - window.ahead.take(gaps.cell)
        area = np.abs(right + at / (n * float(GAP_STEPS)))
        crossed = np.flatnonzero((right < 0) & (right + held / n > 0) & gaps.inside)
        few = held[crossed]
        mean = at[crossed] / (few * GAP_STEPS)
        feature = gaps.feature[crossed]
        left = right[crossed] + few / events[feature]
        widest = left * mean - right[crossed] * (1 - mean)
        slack = np.maximum(widest - area[crossed], 0.0) / 2
        area[crossed] += slack
        area *= gaps.width  # 0 of the tails
        inner = _sums(area, gaps.starts)
        tails, steps = held[gaps.tails].reshape(-1, 2), at[gaps.tails].reshape(-1, 2)
        value = inner + steps.sum(axis=1) / (TAIL_STEPS * events)
        beyond = tails.sum(axis=1)
        error = np.bincount(feature, slack * gaps.width[crossed], minlength=len(value))
        usable = np.where(self._cells.sd > 0, value, np.nan)
        rounding = 1 / TAIL_STEPS
        stated = error + gaps.reference_error + rounding
        return Transport(self._defined(usable, window.events), stated, inner, beyond)

    def psi(self, window: BinnedWindow) -> tuple[Distance, IntArray]:
        """Compute the population stability index in nats.

        The bins are the deciles of the reference, the outermost of them open. Half an event is added to every bin of
        both sides before shares are taken.

        Returns:
            The index and the number of bins per feature, shape (features,): equal deciles are one bin.
        """
        bins = self._bins
        p = bins.shares(bins.reference)
        q = bins.shares(_sums(window.counts, bins.cell))
        value = _sums((p - q) * np.log(p / q), bins.starts)
        return Distance(self._defined(value, window.events), np.zeros(len(value))), bins.sizes

    def histogram(self, feature: int, counts: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
        """Return the histogram of a feature over the bins of `psi`.

        Args:
            feature: Index of the feature.
            counts: Events per cell of all features.

        Returns:
            The inner edges in units of the feature, and the counts per bin of the reference and of the window.
        """
        bins = self._bins
        run = slice(int(bins.starts[feature]), int(bins.starts[feature] + bins.sizes[feature]))
        reference = np.rint(bins.reference[run]).astype(np.int64)
        first, end = int(self._cells.starts[feature]), int(self._cells.starts[feature + 1])
        return bins.edges[feature], reference, _sums(counts[first:end], bins.cell[run] - first)

    def _defined(self, value: FloatArray, events: IntArray) -> FloatArray:
        result: FloatArray = np.where(self._known & (events > 0), value, np.nan)
        return result


class _Gaps:
    """The gaps around the points of all references, one feature after the other."""

    def __init__(self, cells: NumericCells) -> None:
        self.sizes = np.array([len(r.points) + 1 for r in cells.references], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)[: len(self.sizes)]
        self.feature = np.repeat(np.arange(len(self.sizes)), self.sizes)
        within = np.arange(int(self.sizes.sum())) - self.starts[self.feature]
        self.cell = cells.starts[:-1][self.feature] + 2 * within
        self.more: FloatArray = np.zeros(len(self.cell))  # what the reference has inside beyond what it has before
        tail = (within == 0) | (within == self.sizes[self.feature] - 1)
        self.inside: BoolArray = ~tail
        last = self.starts + self.sizes - 1
        self.tails = np.column_stack([self.starts, last]).ravel()
        self.width = np.zeros(len(self.cell))
        for f, r in enumerate(cells.references):
            if r.sd > 0:
                first = self.starts[f] + 1
                # Halved first: the distance of two points may exceed the largest float.
                self.width[first : first + len(r.points) - 1] = np.diff(r.points / 2) / r.sd * 2
        self._next = np.where(tail, self.cell, np.minimum(self.cell + 1, cells.size - 1))
        self.reference_error = np.array([r.w1_error / r.sd if r.sd > 0 else 0.0 for r in cells.references])

    def with_cdf(self, cdf: FloatArray, unsure: BoolArray) -> _Gaps:
        """Return gaps between other distribution functions; unsure ones have half of what comes next inside."""
        found = copy(self)
        at = cdf[self.cell]
        found.more = np.where(unsure[self.cell], (cdf[self._next] - at) / 2, 0.0)
        return found


class _Bins:
    """The deciles of all references as runs of cells, one feature after the other."""

    def __init__(self, cells: NumericCells) -> None:
        first: list[IntArray] = []
        counts: list[FloatArray] = []
        self.edges: list[FloatArray] = []
        for f, r in enumerate(cells.references):
            at, held = _decile_bins(r)
            # A bin begins with the gap after the point at its edge.
            self.edges.append(r.points[at[1:] // 2 - 1])
            first.append(cells.starts[f] + at)
            counts.append(held)
        self.cell = np.concatenate(first) if first else np.zeros(0, np.int64)
        self.reference = np.concatenate(counts) if counts else np.zeros(0)
        self.sizes = np.array([len(at) for at in first], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)[: len(self.sizes)]
        self._feature = np.repeat(np.arange(len(self.sizes)), self.sizes)
        self._last = np.append(self.cell[1:], cells.size)[: len(self.cell)] - 1

    def with_cdf(self, cdf: FloatArray, rows: FloatArray) -> _Bins:
        """Return the same bins with what so many rows of other distribution functions have in them."""
        found = copy(self)
        held = cdf[self._last].copy()
        inner = np.ones(len(held), np.bool_)
        inner[self.starts] = False
        held[inner] -= cdf[self._last[np.flatnonzero(inner) - 1]]
        found.reference = held * rows[self._feature]
        return found

    def shares(self, counts: IntArray | FloatArray) -> FloatArray:
        smoothed = counts.astype(np.float64) + _HALF
        result: FloatArray = smoothed / _sums(smoothed, self.starts)[self._feature]
        return result


def _decile_bins(r: NumericReference) -> tuple[IntArray, FloatArray]:
    """Return the first cell of each bin of a feature and the rows of the reference in the bin."""
    cumulative = np.cumsum(r.weights)
    total = int(cumulative[-1]) if len(cumulative) else 0
    if not total:
        return np.zeros(1, np.int64), np.zeros(1)
    # Equal deciles are one edge.
    edges = np.unique(np.searchsorted(cumulative, np.arange(1, PSI_BINS) / PSI_BINS * total))
    edges = edges[edges < len(r.points) - 1]  # the reference has nothing beyond its last point
    # A bin ends with the point at its edge, so the next begins with the gap after it.
    first = np.concatenate([[0], 2 * edges + 2]).astype(np.int64)
    ends = np.concatenate([cumulative[edges], [total]])
    return first, np.diff(ends, prepend=0) * (r.rows / total)


def _reference_cdfs(references: Sequence[NumericReference], size: int) -> FloatArray:
    """Return the distribution functions of the references at the end of each cell, shape (size,)."""
    cdf = np.zeros(size)  # a point adds its weight, a gap nothing
    at = 0
    for r in references:
        cumulative = np.concatenate([[0], np.cumsum(r.weights)])
        end = at + 2 * len(r.points) + 1
        cdf[at:end] = np.repeat(cumulative / max(cumulative[-1], 1), 2)[1:]
        at = end
    return cdf


def _per(each: IntArray, sizes: IntArray) -> IntArray | int:
    """Return the number of each feature for each of its cells; one for all where they are equal, which is faster."""
    first = int(each[0]) if len(each) else 1
    return first if bool((each == first).all()) else np.repeat(each, sizes)


def _sums(values: NDArray[Number], starts: IntArray) -> NDArray[Number]:
    """Return the sums of the runs of `values` that begin at `starts`."""
    return np.add.reduceat(values, starts) if len(starts) else values[:0]
