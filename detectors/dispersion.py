"""Overdispersion: how much more the windows of a stream vary than independent events would.

Streams of events are autocorrelated: by returning users, batches, hours of the day. A window of n such events carries
as much information as n/φ independent ones. φ is estimated from the reference in time order: the variance of blocks of
the window's size is divided by the variance that independent rows would have. The maximum of several noisy ratios is
biased, so it is divided by its own median under independence, found by simulation, and gets a margin where it is more
than noise. The estimate for a large size rests on few blocks and is still noisy, and an estimate that is too low causes
many false alarms; therefore a size has at least the φ of the two sizes before it. (Not of all sizes before it: windows
of several whole days vary less than those of an hour.)

Pure. The reference is read a second time for this, in batches; memory does not grow with its length.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from detectors.types import FloatArray, IntArray, Number

SMALLEST = 32  # events in the smallest block; a window smaller than this takes the φ of this size
OVERLAP = 4  # blocks start every quarter of their size
FEWEST_BLOCKS = 8  # disjoint blocks that a size needs: with fewer, φ is mostly noise
RARE = 0.02  # bins below this share are pooled: the variance of a handful of events is not informative
MARGIN = 0.6  # multiple of the relative noise of φ, √(2n/m) for blocks of n in m rows, that is added to φ
_BEFORE = 2  # φ of a size is at least that of so many sizes before it
_STREAMS = 200  # simulated references behind the correction for independence
_UNITS = 400  # largest number of quarter blocks that are simulated; beyond it the noise is extrapolated


@dataclass(frozen=True, slots=True)
class Dispersion:
    """Hold the overdispersion φ of one feature by window size.

    Attributes:
        sizes: Window sizes in events, growing by factors of two. None: the reference was too short for an estimate;
            then φ is taken as 1.
        phi: φ ≥ 1 of each size.
    """

    sizes: tuple[int, ...] = ()
    phi: tuple[float, ...] = ()

    def at(self, events: float) -> float:
        """Return φ for a window of `events` events.

        It is interpolated in the logarithm of the size, and constant beyond the first and the last size.
        """
        if not self.sizes:
            return 1.0
        after = bisect_right(self.sizes, events)
        if after in (0, len(self.sizes)):
            return self.phi[min(after, len(self.sizes) - 1)]
        (low, high), (begin, end) = self.sizes[after - 1 : after + 1], self.phi[after - 1 : after + 1]
        return begin + (end - begin) * math.log(events / low) / math.log(high / low)


class BlockVariance:
    """Measure how much blocks of growing size vary in a stream of rows in time order.

    Rows are given as bins. For a categorical variable the bins are categories, and the variance is that of the share of
    each. For an ordered variable they are the intervals between quantiles, and the variance is that of the distribution
    function at the cuts and that of the mean bin number.
    """

    def __init__(self, shares: FloatArray, rows: int, *, ordered: bool) -> None:
        """Start without rows.

        Args:
            shares: Share of each bin in the whole reference, shape (bins,); they sum to 1.
            rows: Number of rows that will be added.
            ordered: Whether the bins have an order.
        """
        self._shares = np.asarray(shares, np.float64)
        self._ordered = ordered
        self._group = _grouping(self._shares, ordered=ordered)
        self._grouped: FloatArray = np.bincount(self._group, self._shares).astype(np.float64)
        self._rows = rows
        sizes = []
        size = SMALLEST
        while size * FEWEST_BLOCKS <= rows and len(self._grouped) > 1:
            sizes.append(size)
            size *= 2
        self._sizes = tuple(sizes)
        width = len(self._grouped)
        # Per size: quarter blocks not yet paired into the next size, and the last three for the sliding sum.
        self._pending = [np.zeros((0, width), np.int64) for _ in sizes]
        self._recent = [np.zeros((0, width), np.int64) for _ in sizes]
        # Integers, so that results do not depend on how the rows were cut into batches.
        views = len(_views(self._grouped, ordered=ordered))
        self._sums = [np.zeros(views, np.int64) for _ in sizes]
        self._squares = [np.zeros(views, np.int64) for _ in sizes]
        self._blocks = [0 for _ in sizes]
        self._loose = np.zeros(0, np.int64)

    def add(self, bins: IntArray) -> None:
        """Add rows in time order, given as indices of bins, shape (n,)."""
        if not self._sizes:
            return
        unit = SMALLEST // OVERLAP
        rows = np.concatenate([self._loose, self._group[bins]])
        full = len(rows) // unit
        self._loose = rows[full * unit :]
        width = len(self._grouped)
        cell = np.repeat(np.arange(full), unit) * width + rows[: full * unit]
        self._add_units(np.bincount(cell, minlength=full * width).reshape(full, width), 0)

    def _add_units(self, units: IntArray, index: int) -> None:
        """Add counts of quarter blocks of size number `index`, and of the larger sizes that they make up."""
        if index == len(self._sizes) or not len(units):
            return
        run = np.concatenate([self._recent[index], units])
        sums = np.cumsum(np.concatenate([np.zeros((1, run.shape[1]), np.int64), run]), axis=0)
        blocks: IntArray = sums[OVERLAP:] - sums[:-OVERLAP]
        if len(blocks):
            blocks = _views(blocks, ordered=self._ordered)
            self._sums[index] += blocks.sum(axis=0)
            self._squares[index] += (blocks**2).sum(axis=0)
            self._blocks[index] += len(blocks)
        self._recent[index] = run[-(OVERLAP - 1) :]
        pairs = np.concatenate([self._pending[index], units])
        even = len(pairs) // 2 * 2
        self._pending[index] = pairs[even:]
        self._add_units(pairs[:even:2] + pairs[1:even:2], index + 1)

    def result(self) -> Dispersion:
        """Return φ for every size of which there were blocks."""
        sizes, phi = [], []
        expected = _views(self._grouped, ordered=self._ordered)
        for size, sums, squares, blocks in zip(self._sizes, self._sums, self._squares, self._blocks, strict=True):
            if not blocks:
                continue
            mean = sums / (blocks * size)
            variance: FloatArray = squares / (blocks * size**2) - mean**2 + (mean - expected) ** 2
            ratio = _largest_ratio(variance, self._grouped, size, self._rows, ordered=self._ordered)
            median, high = _under_independence(
                tuple(np.round(self._grouped, 3).tolist()), self._ordered, self._rows // (size // OVERLAP)
            )
            value = max(1.0, ratio / median) if median > 0 else 1.0
            if ratio > high and value > 1:
                value *= 1 + MARGIN * np.sqrt(2 * size / self._rows)
            sizes.append(size)
            phi.append(float(value))
        return Dispersion(tuple(sizes), tuple(max(phi[max(i - _BEFORE, 0) : i + 1]) for i in range(len(phi))))


def _grouping(shares: FloatArray, *, ordered: bool) -> IntArray:
    """Return the group of each bin. Rare bins join a neighbour if bins are ordered, otherwise each other."""
    groups = np.zeros(len(shares), np.int64)
    if ordered:
        current, held = 0, 0.0
        for i, share in enumerate(shares):
            groups[i] = current
            held += share
            if held >= RARE and i + 1 < len(shares) and shares[i + 1 :].sum() >= RARE:
                current, held = current + 1, 0.0
        return groups
    frequent = np.flatnonzero(shares >= RARE)
    groups[:] = len(frequent)
    groups[frequent] = np.arange(len(frequent))
    return groups


def _views(counts: NDArray[Number], *, ordered: bool) -> NDArray[Number]:
    """Return the quantities whose variance is measured, from counts or shares of groups in the last axis.

    These are the groups themselves; or, if they have an order, the distribution function after each group and the mean
    group number. If a series moves as a whole, the mean varies more than any value of the distribution function, and it
    is what the Wasserstein distance follows.
    """
    if not ordered:
        return counts
    cumulative = np.cumsum(counts, axis=-1)
    return np.concatenate([cumulative, cumulative[..., :-1].sum(axis=-1, keepdims=True)], axis=-1)


def _largest_ratio(variance: FloatArray, shares: FloatArray, size: int, rows: int, *, ordered: bool) -> float:
    """Return the largest ratio of a variance to that of blocks of `size` independent rows."""
    expected = _views(shares, ordered=ordered)
    single = expected * (1 - expected)
    if ordered:
        number = np.arange(len(shares))
        single[-1] = shares @ number**2 - (shares @ number) ** 2
    # The last factor: a block is itself part of the reference that it is compared with.
    independent = single / size * (1 - size / rows)
    usable = independent > 1e-12
    return float((variance[usable] / independent[usable]).max()) if usable.any() else 0.0


def _under_independence(shares: tuple[float, ...], ordered: bool, units: int) -> tuple[float, float]:
    """Return median and 95 % quantile of the largest ratio for independent rows in so many quarter blocks."""
    simulated = min(units, _UNITS)
    median, high = _simulated(shares, ordered, simulated)
    # The noise of a variance falls with the square root of the number of blocks.
    shrink = np.sqrt(simulated / units)
    return float(1 + (median - 1) * shrink), float(1 + (high - 1) * shrink)


@lru_cache(maxsize=4096)
def _simulated(shares: tuple[float, ...], ordered: bool, simulated: int) -> tuple[float, float]:
    """Return median and 95 % quantile of the largest ratio in so many simulated quarter blocks.

    The unit of simulation is the quarter block. Its size does not matter for the distribution of the ratio as long as
    the counts are not tiny, so one size is used for all. Simulating takes longer than all else that a reference takes,
    so it is done once for all sizes that need the most blocks.
    """
    rng = np.random.default_rng(0)
    unit = 64
    p = np.asarray(shares) / sum(shares)
    counts = rng.multinomial(unit, p, size=(_STREAMS, simulated))
    whole = counts.sum(axis=1, keepdims=True) / (unit * simulated)
    sums = np.cumsum(counts, axis=1)
    sums = np.concatenate([np.zeros_like(sums[:, :1]), sums], axis=1)
    blocks = (sums[:, OVERLAP:] - sums[:, :-OVERLAP]) / (unit * OVERLAP)
    difference = _views(blocks, ordered=ordered) - _views(whole, ordered=ordered)
    variance: FloatArray = (difference**2).mean(axis=1)
    size, rows = unit * OVERLAP, unit * simulated
    ratios = [_largest_ratio(variance[i], whole[i, 0], size, rows, ordered=ordered) for i in range(_STREAMS)]
    median, high = np.quantile(ratios, [0.5, 0.95])
    return float(median), float(high)
