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


@dataclass(frozen=True, slots=True)
class Transport(Distance):
    """A Wasserstein distance: the part of it between the reference's outermost points, and events beyond them."""

    inner: FloatArray
    beyond: IntArray


@dataclass(frozen=True, slots=True)
class Window:
    """A window's counts per cell, with their running sums, which start anew with each feature."""

    counts: IntArray
    events: IntArray  # per feature
    cumulative: IntArray


class NumericDistances:
    """The statistics against one set of references; what does not depend on the window is computed here."""

    def __init__(self, cells: NumericCells) -> None:
        self._cells = cells
        self._starts = cells.starts[:-1]
        self._sizes = np.diff(cells.starts)
        self._level = _reference_levels(cells.references, cells.size)
        self._known = np.array([len(r.points) > 0 for r in cells.references], np.bool_)
        self._ks_error = np.array([r.ks_error for r in cells.references])
        self._gaps = _Gaps(cells, self._level)
        self._bins = _Bins(cells)

    def window(self, counts: IntArray) -> Window:
        """What the statistics below have in common."""
        total = np.cumsum(counts)
        before = np.concatenate([[0], total])[self._starts]
        return Window(counts, _sums(counts, self._starts), total - np.repeat(before, self._sizes))

    def ks(self, window: Window) -> Distance:
        """Kolmogorov-Smirnov: the largest gap between the distribution functions, as in scipy's `ks_2samp`."""
        gap = window.cumulative / np.repeat(np.maximum(window.events, 1), self._sizes)
        gap -= self._level
        np.abs(gap, out=gap)
        value = np.maximum.reduceat(gap, self._starts) if len(gap) else np.zeros(0)
        return Distance(self._defined(value, window.events), self._ks_error)

    def wasserstein(self, window: Window, positions: IntArray) -> Transport:
        """Wasserstein-1 in standard deviations of the reference; NaN where that is constant.

        Exact in every gap in which the functions do not cross. Where they do, the mean position of the
        values bounds the area from both sides, and the middle of the bounds is taken.
        """
        gaps = self._gaps
        n = np.repeat(np.maximum(window.events, 1), gaps.sizes)
        held, at = window.counts[gaps.cell], positions[gaps.cell]
        inside = held / n
        left = gaps.level - (window.cumulative[gaps.cell] / n - inside)  # reference minus window where the gap begins,
        right = left - inside  # and where it ends
        mean = at / np.maximum(held * GAP_STEPS, 1)
        area = np.abs(right + inside * mean)
        crossed = np.flatnonzero((left > 0) & (right < 0) & ~gaps.tail)
        widest = left[crossed] * mean[crossed] - right[crossed] * (1 - mean[crossed])
        slack = np.maximum(widest - area[crossed], 0.0) / 2
        area[crossed] += slack
        area *= gaps.width
        area[gaps.tails] = 0.0
        inner = _sums(area, gaps.starts)
        area[gaps.tails] = at[gaps.tails] / (TAIL_STEPS * n[gaps.tails])
        value = _sums(area, gaps.starts)
        beyond = _sums(np.where(gaps.tail, held, 0), gaps.starts)
        error = np.bincount(gaps.feature[crossed], slack * gaps.width[crossed], minlength=len(value))
        usable = np.where(self._cells.sd > 0, value, np.nan)
        rounding = 1 / TAIL_STEPS
        stated = error + gaps.reference_error + rounding
        return Transport(self._defined(usable, window.events), stated, inner, beyond)

    def psi(self, window: Window) -> tuple[Distance, IntArray]:
        """(population stability index in nats, number of bins) per feature.

        The bins are the reference's deciles, the outermost open to both sides; half an event is added to
        every bin of both sides before shares are taken.
        """
        bins = self._bins
        p = bins.shares(bins.reference)
        q = bins.shares(_sums(window.counts, bins.cell))
        value = _sums((p - q) * np.log(p / q), bins.starts)
        return Distance(self._defined(value, window.events), np.zeros(len(value))), bins.sizes

    def histogram(self, feature: int, counts: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
        """(inner edges, reference counts, window counts) of the bins of `psi`; the outermost bins are open."""
        bins = self._bins
        run = slice(int(bins.starts[feature]), int(bins.starts[feature] + bins.sizes[feature]))
        reference = np.rint(bins.reference[run]).astype(np.int64)
        return bins.edges[feature], reference, _sums(counts, bins.cell)[run]

    def _defined(self, value: FloatArray, events: IntArray) -> FloatArray:
        result: FloatArray = np.where(self._known & (events > 0), value, np.nan)
        return result


class _Gaps:
    """The gaps between the points of all references, flat."""

    def __init__(self, cells: NumericCells, level: FloatArray) -> None:
        self.sizes = np.array([len(r.points) + 1 for r in cells.references], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)[: len(self.sizes)]
        self.feature = np.repeat(np.arange(len(self.sizes)), self.sizes)
        within = np.arange(int(self.sizes.sum())) - self.starts[self.feature]
        self.cell = cells.starts[:-1][self.feature] + 2 * within
        self.level = level[self.cell]
        self.tail: BoolArray = (within == 0) | (within == self.sizes[self.feature] - 1)
        self.tails = np.flatnonzero(self.tail)
        self.width = np.zeros(len(self.cell))
        for f, r in enumerate(cells.references):
            if r.sd > 0:
                first = self.starts[f] + 1
                # Halved first: two points may lie further apart than the largest float.
                self.width[first : first + len(r.points) - 1] = np.diff(r.points / 2) / r.sd * 2
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
