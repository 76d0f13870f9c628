"""Distances of a window from its reference, for all numeric features at a time.

Everything is computed from counts per cell (`cells`), so the cost does not depend on how many events the
window holds. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detectors.cells import GAP_STEPS, TAIL_STEPS, NumericCells
from detectors.reference import NumericReference
from detectors.types import BoolArray, FloatArray, IntArray

Number = TypeVar("Number", np.int64, np.float64)

PSI_BINS = 10
_HALF = 0.5  # added to every bin of both sides: an empty one is rare, not impossible


@dataclass(frozen=True, slots=True)
class Distance:
    """One value per feature, with the largest error that summarising may have caused. NaN: undefined."""

    value: FloatArray
    error: FloatArray


class NumericDistances:
    """The statistics against one set of references; what does not depend on the window is computed here."""

    def __init__(self, cells: NumericCells) -> None:
        self._cells = cells
        self._starts = cells.starts[:-1]
        self._feature = np.repeat(np.arange(len(cells)), np.diff(cells.starts))
        self._level = _reference_levels(cells.references, cells.size)
        self._known = np.array([len(r.points) > 0 for r in cells.references], np.bool_)
        self._ks_error = np.array([r.ks_error for r in cells.references])
        self._gaps = _Gaps(cells, self._level)
        self._bins = _Bins(cells)

    def events(self, counts: IntArray) -> IntArray:
        """Values per feature in a window's counts."""
        return _sums(counts, self._starts)

    def ks(self, counts: IntArray) -> Distance:
        """Kolmogorov-Smirnov: the largest gap between the distribution functions, as in scipy's `ks_2samp`."""
        events = self.events(counts)
        share = self._cumulative(counts) / np.maximum(events, 1)[self._feature]
        gap = np.abs(share - self._level)
        value = np.maximum.reduceat(gap, self._starts) if len(gap) else np.zeros(0)
        return Distance(self._defined(value, events), self._ks_error)

    def wasserstein(self, counts: IntArray, positions: IntArray) -> Distance:
        """Wasserstein-1 in standard deviations of the reference; NaN where that is constant.

        Exact in every gap in which the functions do not cross. Where they do, the mean position of the
        values bounds the area from both sides, and the middle of the bounds is taken.
        """
        events = self.events(counts)
        gaps = self._gaps
        n = np.maximum(events, 1)[gaps.feature]
        held = counts[gaps.cell]
        inside = held / n
        before = self._cumulative(counts)[gaps.cell] / n - inside
        mean = positions[gaps.cell] / (GAP_STEPS * np.maximum(held, 1.0))
        area = np.abs(gaps.level - before - inside * (1 - mean))
        widest = (gaps.level - before) * mean + (before + inside - gaps.level) * (1 - mean)
        crossed = (before < gaps.level) & (gaps.level < before + inside)
        slack = np.where(crossed & ~gaps.tail, np.maximum(widest - area, 0.0) / 2, 0.0)
        beyond = positions[gaps.cell] / (TAIL_STEPS * n)
        middle = np.where(gaps.tail, beyond, (area + slack) * gaps.width)
        value, error = _sums(middle, gaps.starts), _sums(slack * gaps.width, gaps.starts)
        usable = np.where(self._cells.sd > 0, value, np.nan)
        rounding = 1 / TAIL_STEPS
        return Distance(self._defined(usable, events), error + gaps.reference_error + rounding)

    def psi(self, counts: IntArray) -> tuple[Distance, IntArray]:
        """(population stability index in nats, number of bins) per feature.

        The bins are the reference's deciles, the outermost open to both sides; half an event is added to
        every bin of both sides before shares are taken.
        """
        events = self.events(counts)
        bins = self._bins
        p = bins.shares(bins.reference)
        q = bins.shares(_sums(counts, bins.cell))
        value = _sums((p - q) * np.log(p / q), bins.starts)
        return Distance(self._defined(value, events), np.zeros(len(value))), bins.sizes

    def histogram(self, feature: int, counts: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
        """(inner edges, reference counts, window counts) of the bins of `psi`; the outermost bins are open."""
        bins = self._bins
        run = slice(int(bins.starts[feature]), int(bins.starts[feature] + bins.sizes[feature]))
        reference = np.rint(bins.reference[run]).astype(np.int64)
        return bins.edges[feature], reference, _sums(counts, bins.cell)[run]

    def _cumulative(self, counts: IntArray) -> IntArray:
        """Running sums that start anew with each feature."""
        total = np.cumsum(counts)
        before = np.concatenate([[0], total])[self._starts]
        result: IntArray = total - before[self._feature]
        return result

    def _defined(self, value: FloatArray, events: IntArray) -> FloatArray:
        result: FloatArray = np.where(self._known & (events > 0), value, np.nan)
        return result


class _Gaps:
    """The gaps between the points of all references, flat."""

    def __init__(self, cells: NumericCells, level: FloatArray) -> None:
        sizes = np.array([len(r.points) + 1 for r in cells.references], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)[: len(sizes)]
        self.feature = np.repeat(np.arange(len(sizes)), sizes)
        within = np.arange(int(sizes.sum())) - self.starts[self.feature]
        self.cell = cells.starts[:-1][self.feature] + 2 * within
        self.level = level[self.cell]
        self.tail: BoolArray = (within == 0) | (within == sizes[self.feature] - 1)
        self.width = np.zeros(len(self.cell))
        for f, r in enumerate(cells.references):
            if r.sd > 0:
                first = self.starts[f] + 1
                # Divided first: two points may lie further apart than the largest float.
                self.width[first : first + len(r.points) - 1] = np.diff(r.points / r.sd)
        self.reference_error = np.array([r.w1_error / r.sd if r.sd > 0 else 0.0 for r in cells.references])


class _Bins:
    """The deciles of all references, as runs of cells."""

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

    def shares(self, counts: IntArray | FloatArray) -> FloatArray:
        smoothed = counts.astype(np.float64) + _HALF
        result: FloatArray = smoothed / _sums(smoothed, self.starts)[self._feature]
        return result


def _decile_bins(r: NumericReference) -> tuple[IntArray, FloatArray]:
    """(first cell of each bin, reference rows in it). Equal deciles are one edge."""
    cumulative = np.cumsum(r.weights)
    total = int(cumulative[-1]) if len(cumulative) else 0
    if not total:
        return np.zeros(1, np.int64), np.zeros(1)
    edges = np.unique(np.searchsorted(cumulative, np.arange(1, PSI_BINS) / PSI_BINS * total))
    edges = edges[edges < len(r.points) - 1]  # nothing of the reference lies beyond its last point
    # A bin ends with the point at its edge, so the next begins with the gap after it.
    first = np.concatenate([[0], 2 * edges + 2]).astype(np.int64)
    ends = np.concatenate([cumulative[edges], [total]])
    return first, np.diff(ends, prepend=0) * (r.rows / total)


def _reference_levels(references: Sequence[NumericReference], size: int) -> FloatArray:
    """The references' distribution functions after each cell: a point adds its weight, a gap nothing."""
    level = np.zeros(size)
    at = 0
    for r in references:
        cumulative = np.concatenate([[0], np.cumsum(r.weights)])
        end = at + 2 * len(r.points) + 1
        level[at:end] = np.repeat(cumulative / max(cumulative[-1], 1), 2)[1:]
        at = end
    return level


def _sums(values: NDArray[Number], starts: IntArray) -> NDArray[Number]:
    """Sums of the runs that begin at `starts` and cover `values`."""
    return np.add.reduceat(values, starts) if len(starts) else values[:0]
