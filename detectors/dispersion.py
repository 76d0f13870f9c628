"""How much more the windows of a stream vary than independent events would.

A stream of events is autocorrelated: returning users, batches, hours of the day. A window of n such events
tells as much as n/φ independent ones. φ is learned from the reference in its time order: blocks of the
window's size are compared with the whole, and their variance is divided by what independent rows would
show. The maximum of several noisy ratios is biased, so it is divided by its own median under independence,
found by simulation, and gets a margin where it is more than noise. Of the few blocks of a large size the
estimate is noisy all the same, and where it is too low the false alarms are many; so a size has at least the φ
of the two sizes before it. (Not of all: windows of several whole days vary less than those of an hour.)

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
RARE = 0.02  # levels below this share are pooled: the variance of a handful of events says nothing
MARGIN = 0.6  # of the relative noise of φ, which is √(2n/m)
_BEFORE = 2  # smaller sizes of which φ is not below
_STREAMS = 200  # simulated references behind the correction for independence
_UNITS = 400  # at most so many quarter blocks are simulated; beyond that the noise is extrapolated


@dataclass(frozen=True, slots=True)
class Dispersion:
    """φ by window size, for one feature.

    `sizes` (events) grow by factors of two; `phi` ≥ 1 belongs to them. No sizes: the reference was too
    short to tell, φ is taken as 1 and the promise of the false-alarm budget is `assumed`, not learned.
    """

    sizes: tuple[int, ...] = ()
    phi: tuple[float, ...] = ()

    def at(self, events: float) -> float:
        """φ for a window of `events`, interpolated in the logarithm of the size, constant beyond the ends."""
        if not self.sizes:
            return 1.0
        after = bisect_right(self.sizes, events)
        if after in (0, len(self.sizes)):
            return self.phi[min(after, len(self.sizes) - 1)]
        (low, high), (begin, end) = self.sizes[after - 1 : after + 1], self.phi[after - 1 : after + 1]
        return begin + (end - begin) * math.log(events / low) / math.log(high / low)

    def known_at(self, events: float) -> bool:
        """Whether the reference was long enough to see windows of this size vary."""
        return bool(self.sizes) and events <= 2 * self.sizes[-1]


class BlockVariance:
    """Counts of levels in blocks of growing size over a stream of rows in time order.

    `shares` are the reference's own shares of the levels (they sum to 1). For an ordered variable the
    levels are the cells between quantiles and the variance is that of the distribution function at the
    cuts, and that of the mean level (`ordered`); for a categorical one it is that of each level's share.
    """

    def __init__(self, shares: FloatArray, rows: int, *, ordered: bool) -> None:
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

    def add(self, levels: IntArray) -> None:
        """Rows in time order, as indices of levels."""
        if not self._sizes:
            return
        unit = SMALLEST // OVERLAP
        rows = np.concatenate([self._loose, self._group[levels]])
        full = len(rows) // unit
        self._loose = rows[full * unit :]
        width = len(self._grouped)
        cell = np.repeat(np.arange(full), unit) * width + rows[: full * unit]
        self._add_units(np.bincount(cell, minlength=full * width).reshape(full, width), 0)

    def _add_units(self, units: IntArray, index: int) -> None:
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
        """φ for every size of which there were blocks."""
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
    """Level → group. Rare levels join a neighbour (ordered) or each other."""
    groups = np.zeros(len(shares), np.int64)
    if ordered:
        current, held = 0, 0.0
        for level, share in enumerate(shares):
            groups[level] = current
            held += share
            if held >= RARE and level + 1 < len(shares) and shares[level + 1 :].sum() >= RARE:
                current, held = current + 1, 0.0
        return groups
    frequent = np.flatnonzero(shares >= RARE)
    groups[:] = len(frequent)
    groups[frequent] = np.arange(len(frequent))
    return groups


def _views(counts: NDArray[Number], *, ordered: bool) -> NDArray[Number]:
    """What is watched of counts (or shares) of groups, in the last axis.

    The groups themselves; or, where they have an order, the distribution function after each of them and the
    mean number of the group. The mean varies more than any value of the distribution function where a series
    moves as a whole, and it is what the Wasserstein distance follows.
    """
    if not ordered:
        return counts
    cumulative = np.cumsum(counts, axis=-1)
    return np.concatenate([cumulative, cumulative[..., :-1].sum(axis=-1, keepdims=True)], axis=-1)


def _largest_ratio(variance: FloatArray, shares: FloatArray, size: int, rows: int, *, ordered: bool) -> float:
    expected = _views(shares, ordered=ordered)
    single = expected * (1 - expected)
    if ordered:
        number = np.arange(len(shares))
        single[-1] = shares @ number**2 - (shares @ number) ** 2
    # A block is part of the reference that it is compared with, hence the last factor.
    independent = single / size * (1 - size / rows)
    usable = independent > 1e-12
    return float((variance[usable] / independent[usable]).max()) if usable.any() else 0.0


@lru_cache(maxsize=4096)
def _under_independence(shares: tuple[float, ...], ordered: bool, units: int) -> tuple[float, float]:
    """(median, 95 % quantile) of the largest ratio where rows are independent.

    The unit of simulation is the quarter block; its size does not matter for the ratio's law as long as
    the counts are not tiny, so one size serves all.
    """
    rng = np.random.default_rng(0)
    simulated = min(units, _UNITS)
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
    # The noise of a variance falls with the root of the number of blocks.
    shrink = np.sqrt(simulated / units)
    return float(1 + (median - 1) * shrink), float(1 + (high - 1) * shrink)
