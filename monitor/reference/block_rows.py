"""Rows drawn again from the blocks of a profile, for whoever resamples a reference.

A block says how many of its rows each cell has, and a cell stands for several points or categories: rows get those by
their shares in the whole reference. Their order within a block is drawn as well, of each feature by itself, so a pane
that is smaller than a block has a hypergeometric share of each cell, and how rows of one block depend on each other is
lost. Where rows are told apart by season, they get times of the block by what the season expects. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from detectors.blocks import Blocks, FeatureBlocks
from detectors.comparison import Comparison
from detectors.pane import Counts
from detectors.reference import CategoricalReference, NumericReference, Profile, Reference
from detectors.types import BoolArray, FloatArray, IntArray, NumberArray
from monitor.names import shown_names
from monitor.reference.compared import names_in

_HELD: Final = 4  # blocks whose rows are kept: panes are read in runs
_FITTED: Final = 20  # rounds of fitting the margins of a table
_LEAST: Final = 1e-9  # weight of what has rows in a block and none in the reference


class BlockRows:
    """The rows of a profile's blocks, drawn from a seed: the same whenever they are asked for.

    Args:
        profile: A profile that has blocks.
        seed: Everything random follows from it.

    Attributes:
        rows: How many rows there are.
        pairs: None: blocks hold no outcomes.

    Raises:
        DamagedError: The blocks are damaged.
    """

    pairs: None = None

    def __init__(self, profile: Profile, seed: int) -> None:
        compared = dict(zip(shown_names(profile), (*profile.features, *profile.answers), strict=True))
        self._series = [_Series(blocks, compared, (seed, i)) for i, blocks in enumerate(profile.blocks)]
        self._starts = np.concatenate([[0], np.cumsum([len(series) for series in self._series])]).astype(np.int64)
        self.rows = int(self._starts[-1])

    @property
    def start(self) -> int | None:
        """Return the time of the first row, ms; None where rows have none, or are in no order."""
        times = [series.blocks.times for series in self._series]
        return None if any(its is None for its in times) else min(int(its[0, 0]) for its in times if its is not None)

    @property
    def lasts(self) -> int:
        """Return how long rows go on, ms, without what lies between series of them; 0 where nothing tells."""
        times = [series.blocks.times for series in self._series]
        return sum(0 if its is None else int(its[-1, 1] - its[0, 0]) for its in times)

    @property
    def block(self) -> int:
        """Rows of the largest block."""
        return max(series.blocks.size for series in self._series)

    def holds(self, comparison: Comparison) -> bool:
        """Tell whether it has any of the features of a comparison."""
        return any(name in self._series[0].features for name in names_in(comparison))

    def counts(self, comparison: Comparison, rows: slice) -> dict[str, Counts]:
        """Count rows, all of one series, against the references of a comparison."""
        at = int(np.searchsorted(self._starts, rows.start, side="right")) - 1
        first = int(self._starts[at])
        return self._series[at].counts(comparison, rows.start - first, rows.stop - first)

    def pairs_of(self, rows: slice) -> None:
        """Return None: blocks hold no outcomes."""

    def counted_panes(self, size: int) -> Iterator[slice]:
        """Yield panes of so many rows, none of which is of two series."""
        for first, series in zip(self._starts.tolist(), self._series, strict=False):
            for start in range(first, first + len(series) - size + 1, size):
                yield slice(start, start + size)

    def time_panes(self, width: int) -> Iterator[slice]:
        """Yield the rows of each time pane of this width (ms), without the first and the last pane of a series."""
        for first, series in zip(self._starts.tolist(), self._series, strict=False):
            for start, stop in series.time_panes(width):
                yield slice(first + start, first + stop)


class _Series:
    """Blocks of rows in a row."""

    def __init__(self, blocks: Blocks, compared: Mapping[str, Reference], seed: tuple[int, ...]) -> None:
        self.blocks, self._seed = blocks, seed
        found = blocks.features().items()
        self.features = {name: _Drawn(compared[name], held) for name, held in found if name in compared}
        self._held: dict[int, dict[str, NumberArray]] = {}

    def __len__(self) -> int:
        return self.blocks.rows

    def counts(self, comparison: Comparison, start: int, stop: int) -> dict[str, Counts]:
        count, rng = stop - start, np.random.default_rng((*self._seed, 1, start))
        names = names_in(comparison)
        numbers: FloatArray = np.full((count, len(comparison.numeric_cells)), np.nan)
        codes: list[IntArray] = []
        for i, name in enumerate(names):
            numeric = i < len(comparison.numeric_cells)
            places = self._places(name, start, stop) if name in self.features else np.full(count, -1)
            if not numeric:
                codes.append(places)
            elif name in self.features:
                numbers[:, i] = self.features[name].values(places, rng)
        return comparison.bin_counts(numbers, codes, self._times(np.arange(start, stop)))

    def time_panes(self, width: int) -> Iterator[tuple[int, int]]:
        """Yield the first row of each time pane, and the one after its last."""
        times = self.blocks.times
        if times is None:
            raise ValueError("the rows have no times")
        first = np.arange(len(times)) * self.blocks.size
        last = np.append(first[1:], len(self)) - 1
        panes = np.arange(times[0, 0] // width + 1, times[-1, 1] // width + 1)
        known, rows = times.ravel(), np.column_stack([first, last]).ravel()
        starts = np.ceil(np.interp(panes * width, known, rows)).astype(np.int64)
        yield from pairwise(starts.tolist())

    def _places(self, name: str, start: int, stop: int) -> IntArray:
        """Return the place of each row, -1 where it has no value."""
        size = self.blocks.size
        parts = [self._block(name, block) for block in range(start // size, (stop - 1) // size + 1)]
        first = start // size * size
        found: IntArray = np.concatenate(parts)[start - first : stop - first].astype(np.int64)
        return found

    def _block(self, name: str, block: int) -> NumberArray:
        if block not in self._held:
            if len(self._held) >= _HELD:
                del self._held[next(iter(self._held))]
            self._held[block] = {}
        held = self._held[block]
        if name not in held:
            # Of its own for each feature: what is drawn must not depend on what else is compared.
            rng = np.random.default_rng((*self._seed, 0, block, *name.encode()))
            first = block * self.blocks.size
            times = self._times(np.arange(first, min(first + self.blocks.size, len(self))))
            held[name] = self.features[name].rows(block, times, rng).astype(np.int32)
        return held[name]

    def _times(self, rows: IntArray) -> IntArray | None:
        times, size = self.blocks.times, self.blocks.size
        if times is None:
            return None
        block = rows // size
        last = np.minimum((block + 1) * size, len(self)) - 1
        share = (rows - block * size) / np.maximum(last - block * size, 1)
        found: IntArray = np.rint(times[block, 0] + share * (times[block, 1] - times[block, 0])).astype(np.int64)
        return found


@dataclass(frozen=True, slots=True)
class _Weighted:
    """The places of a feature sorted by cell, with the share of each place in its cell."""

    order: IntArray
    ends: FloatArray
    first: FloatArray  # by cell, what `ends` begins with,
    width: FloatArray  # and how much the cell has of it


class _Drawn:
    """One feature, whose rows are drawn from its blocks."""

    def __init__(self, reference: Reference, held: FeatureBlocks) -> None:
        self._reference, self._counts, self._cell = reference, held.counts, held.cell
        self._missing = held.counts.shape[1] - 1
        weights = _weights(reference) + _LEAST
        order = np.argsort(held.cell, kind="stable")
        width = np.bincount(held.cell, weights, minlength=self._missing).astype(np.float64)
        self._weighted = _Weighted(order, np.cumsum(weights[order]), np.cumsum(width) - width, width)
        self._stands: BoolArray = np.zeros(len(held.cell), np.bool_)
        if isinstance(reference, NumericReference) and reference.ks_error:
            self._stands = reference.weights < 2  # such a point stands for the values from the one before it on

    def rows(self, block: int, times: IntArray | None, rng: np.random.Generator) -> IntArray:
        """Return the place of each row of a block in an order that is drawn, -1 where it has no value."""
        counts = self._counts[block]
        cells = np.repeat(np.arange(len(counts)), counts)
        places = np.full(len(cells), -1)
        some = np.flatnonzero(cells < self._missing)
        its, by = cells[some], self._weighted
        if len(some):
            wanted = by.first[its] + rng.random(len(its)) * by.width[its]
            places[some] = by.order[np.minimum(np.searchsorted(by.ends, wanted, side="right"), len(by.order) - 1)]
        order = rng.permutation(len(places))
        seasonal = self._reference.seasonal
        if seasonal is None or times is None:
            return places[order]
        season = seasonal.season.cells_of(times)
        found = np.empty_like(places)
        found[np.argsort(season, kind="stable")] = places[order[self._by_season(cells[order], season, rng)]]
        return found

    def values(self, places: IntArray, rng: np.random.Generator) -> FloatArray:
        """Return the values of places of a number: of a point that stands for others, one from the point before on."""
        assert isinstance(self._reference, NumericReference)  # noqa: S101 - who asks knows
        points = self._reference.points
        found: FloatArray = np.full(len(places), np.nan)
        if not len(points):
            return found
        some = np.flatnonzero(places >= 0)
        at = places[some]
        low = points[np.maximum(at - 1, 0)]
        back = np.where(self._stands[at], rng.random(len(at)), 0.0)
        found[some] = points[at] * (1 - back) + low * back
        return found

    def _by_season(self, cells: IntArray, season: IntArray, rng: np.random.Generator) -> IntArray:
        """Return an order of rows in which their cells come as expected in seasons in ascending order.

        Args:
            cells: Cell of each row.
            season: Part of the season of each time at which there is a row.
            rng: Which of the equally likely orders it is.
        """
        parts, rows = np.unique(season, return_counts=True)
        if len(parts) < 2:
            return np.arange(len(cells))
        counts = np.bincount(cells, minlength=self._missing + 1)
        table = self._expected(parts) * counts
        table *= (rows / np.maximum(table.sum(axis=1), _LEAST))[:, None]
        for _ in range(_FITTED):  # iterative proportional fitting: Deming & Stephan, 1940
            table *= counts / np.maximum(table.sum(axis=0), _LEAST)
            table *= (rows / np.maximum(table.sum(axis=1), _LEAST))[:, None]
        upto = np.cumsum(table, axis=0)
        drawn = rng.random(len(cells)) * upto[-1, cells]
        part = (upto[:, cells] < drawn).sum(axis=0)
        return np.argsort(part, kind="stable")

    def _expected(self, parts: IntArray) -> FloatArray:
        """Return how likely each cell is in each part of the season, against its other parts; shape (parts, cells)."""
        seasonal = self._reference.seasonal
        assert seasonal is not None  # noqa: S101 - who asks knows
        onto = np.zeros((len(self._cell), self._missing))
        onto[np.arange(len(self._cell)), self._cell] = 1.0
        missing = seasonal.missing_shares[parts, 1:]
        found: FloatArray = np.concatenate([(seasonal.shares[parts] @ onto) * (1 - missing), missing], axis=1)
        return found + _LEAST


def _weights(reference: Reference) -> FloatArray:
    if isinstance(reference, CategoricalReference):
        return np.append(reference.counts, reference.other).astype(np.float64)
    return reference.weights.astype(np.float64)
