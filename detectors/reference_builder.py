"""Building references from rows, in batches that are read twice.

The first pass takes the distributions; the second pass, which needs them, measures the overdispersion: how much more
windows vary than independent rows would. The result does not depend on how the rows were cut into batches. Pure.
Called by `monitor.reference`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np

from detectors.blocks import (
    BlockCounter,
    Blocks,
    BlockTimes,
    FeatureBlocks,
    block_size,
    cells_for,
    cells_of_categories,
    cells_of_points,
)
from detectors.dependence import Dependence, of_categories, of_numbers
from detectors.discrete import category_count, frequent_values, is_discrete
from detectors.dispersion import BlockVariance, Dispersion
from detectors.quantiles import CAPACITY, QuantileSummary, distance_between, mid_block_points
from detectors.reference import CategoricalReference, NumericReference, Reference
from detectors.season import POINTS as SEASONAL_POINTS
from detectors.season import InSeason, Season, Seasonal, SeasonCounter, SeasonCounts
from detectors.types import BoolArray, FloatArray, IntArray, NumberArray

POINTS = 2048  # default of `reference.points`
CATEGORIES = 100  # categories with a cell of their own; the others share the cell `other`
DISTINCT = 10_000  # categories remembered, to tell "rare" from "never seen"
DECILES = 10
_KEPT_ROWS: Final = 200_000  # rows of a feature that are kept in the order of time,
_KEPT_VALUES: Final = 20_000_000  # and of all features together: two bytes each
_FEWEST_KEPT: Final = 10_000

Texts = Sequence[str | None]
Column = FloatArray | Texts


class DistributionPass:
    """Collect the distributions of features in the first reading of the rows."""

    def __init__(
        self, kinds: Mapping[str, bool], points: int = POINTS, *, seasonal: bool = False, of: int | None = None
    ) -> None:
        """Start without rows.

        Args:
            kinds: True for a numeric feature, False for a categorical one, by name.
            points: Largest number of points kept per numeric feature.
            seasonal: Whether rows will be told apart by season, which takes that many times the memory: fewer points.
            of: How many features the reference has, where these are some of them.
        """
        # The buffers of many features share the memory that a few features may use.
        capacity = CAPACITY if (of or len(kinds)) <= 50 else CAPACITY // 4
        self._kinds = dict(kinds)
        self._points = min(points, SEASONAL_POINTS) if seasonal else points
        self._summaries = {name: QuantileSummary(capacity) for name, numeric in kinds.items() if numeric}
        self._counters: dict[str, Counter[str]] = {n: Counter() for n, numeric in kinds.items() if not numeric}
        self._overflow = dict.fromkeys(self._counters, 0)
        self._missing = dict.fromkeys(kinds, 0)
        self.rows = 0

    def add(self, columns: Mapping[str, Column], rows: int) -> None:
        """Add a batch of rows.

        Args:
            columns: Per feature, an array of floats with NaN, or a sequence of texts with None, where a value is
                missing. A feature without a column is missing in all rows.
            rows: Length of every column.
        """
        self.rows += rows
        for name, numeric in self._kinds.items():
            column = columns.get(name)
            if column is None:
                self._missing[name] += rows
            elif numeric:
                values = np.asarray(column, np.float64)
                finite = values[np.isfinite(values)]
                self._missing[name] += rows - len(finite)
                self._summaries[name].add(finite)
            else:
                self._count(name, cast("Texts", column))

    def _count(self, name: str, column: Texts) -> None:
        counter = self._counters[name]
        for text, count in Counter(column).items():
            if text is None:
                self._missing[name] += count
            elif text in counter or len(counter) < DISTINCT:
                counter[text] += count
            else:
                self._overflow[name] += count

    def features(self) -> tuple[Reference, ...]:
        """Return the references, still without overdispersion, in the order of `kinds`."""
        return tuple(
            self._numeric(name) if numeric else self._categorical(name) for name, numeric in self._kinds.items()
        )

    def _numeric(self, name: str) -> NumericReference:
        summary = self._summaries[name]
        values, weights = summary.weighted()
        points, multiplicity = mid_block_points(values, weights, self._points)
        thinned = summary.rows > self._points
        return NumericReference(
            name=name,
            points=points,
            weights=multiplicity,
            rows=summary.rows,
            missing=self._missing[name],
            ks_error=1 / (2 * self._points) + summary.rank_error if thinned else 0.0,
            w1_error=distance_between(values, weights, points, multiplicity) if thinned else 0.0,
            spread=summary.sd,
        )

    def _categorical(self, name: str) -> CategoricalReference:
        counter = self._counters[name]
        ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
        top = sorted(ranked[:CATEGORIES])
        counts = np.array([count for _, count in top], np.int64)
        rows = sum(counter.values()) + self._overflow[name]
        return CategoricalReference(
            name=name,
            categories=tuple(text for text, _ in top),
            counts=counts,
            other=rows - int(counts.sum()),
            known=frozenset(counter),
            complete=not self._overflow[name],
            singletons=sum(1 for count in counter.values() if count == 1),
            rows=rows,
            missing=self._missing[name],
        )


class DispersionPass:
    """Learn how rows depend on each other in the second reading of the same rows.

    That takes rows in a row: of each feature the first 200 000 are kept, of many features fewer. What windows vary that
    are too large for those is measured by the variance of blocks of all rows.
    """

    def __init__(
        self, features: Iterable[Reference], seasonal: Seasonal | None = None, *, of: int | None = None
    ) -> None:
        """Start without rows.

        Args:
            features: The result of the `DistributionPass`.
            seasonal: The season by which rows are told apart, if any.
            of: How many features the reference has, where these are some of them.
        """
        self._seasonal = seasonal
        self._features = tuple(features)
        of = max(of or len(self._features), 1)
        most = max(min(_KEPT_ROWS, _KEPT_VALUES // of), _FEWEST_KEPT)
        self._courses = [_Course(f, most, seasonal) for f in self._features]
        cells = cells_for(of)
        self._blocks = [BlockCounter(_cells(f, cells), f.rows + f.missing) for f in self._features]
        self._rows = 0

    def add(self, columns: Mapping[str, Column], rows: int, time: IntArray | None = None) -> None:
        """Add a batch of rows, in time order.

        Args:
            columns: As for `DistributionPass.add`.
            rows: Length of every column.
            time: Milliseconds since the epoch, shape (rows,); needed where rows are told apart by season.

        Raises:
            ValueError: Rows are told apart by season, and have no time.
        """
        cells = None
        if self._seasonal is not None:
            if time is None:
                raise ValueError("rows without times have no season")
            cells = self._seasonal.season.cells_of(time)
        self._rows += rows
        for f, course, blocks in zip(self._features, self._courses, self._blocks, strict=True):
            present, places = course.places(columns.get(f.name), rows)
            course.add(present, places, cells)
            blocks.add(present, places)

    def features(self) -> tuple[Reference, ...]:
        """Return the references with what was learned."""
        return tuple(course.learned() for course in self._courses)

    def blocks(self, times: BlockTimes | None = None) -> Blocks:
        """Return the counts of the rows by block.

        Args:
            times: Of the same rows, ascending; None where they are not known.
        """
        return blocks_of(self._rows, times, self.counts())

    def counts(self) -> dict[str, FeatureBlocks]:
        """Return the counts of the rows by block, of each feature by name."""
        return {f.name: counter.result() for f, counter in zip(self._features, self._blocks, strict=True)}


def blocks_of(rows: int, times: BlockTimes | None, counts: Mapping[str, FeatureBlocks]) -> Blocks:
    """Put together the blocks of all features; `times` is None where the times of the rows are not known."""
    return Blocks.of(block_size(rows), rows, None if times is None else times.result(), counts)


class _Course:
    """The rows of one feature in the order of time, as places among the points or categories of its reference."""

    def __init__(self, f: Reference, most: int, seasonal: Seasonal | None) -> None:
        self._feature = f
        places = len(f.points) if isinstance(f, NumericReference) else len(f.categories) + 1
        self._by_season = None
        if seasonal is not None:
            self._by_season = SeasonCounter(seasonal.season, places, seasonal.periods)
        self._kept_cells: list[NumberArray] = []  # of rows with a value, and of all with whether they have one
        self._kept_rows: list[tuple[NumberArray, BoolArray]] = []
        self._rows_held = 0
        self._most = most
        self._kept: list[NumberArray] = []
        self._held = 0
        self._codes = None if isinstance(f, NumericReference) else {text: i for i, text in enumerate(f.categories)}
        self._small = np.uint16 if isinstance(f, CategoricalReference) or len(f.points) < 1 << 16 else np.uint32
        self._missing = _missing_variance(f)
        self._long: BlockVariance | None = None
        if f.rows > most:
            self._grouping, shares = _groups(f)
            self._long = BlockVariance(shares, f.rows, ordered=isinstance(f, NumericReference))

    def add(self, present: BoolArray, places: IntArray, cells: IntArray | None) -> None:
        self._missing.add((~present).astype(np.int64))
        if self._by_season is not None and cells is not None:
            self._by_season.add(cells, present, places)
            if self._rows_held < self._most:
                some = slice(self._most - self._rows_held)
                self._kept_rows.append((cells[some].astype(np.uint8), present[some]))
                self._rows_held += len(present[some])
            if self._held < self._most:
                self._kept_cells.append(cells[present][: self._most - self._held].astype(np.uint8))
        if self._held < self._most:
            kept = places[: self._most - self._held].astype(self._small)
            self._held += len(kept)
            self._kept.append(kept)
        if self._long is not None:
            self._long.add(self._grouping[places])

    def places(self, column: Column | None, rows: int) -> tuple[BoolArray, IntArray]:
        """Return which rows have a value, shape (rows,), and the place of each that has one."""
        if column is None:
            return np.zeros(rows, np.bool_), np.zeros(0, np.int64)
        f = self._feature
        if isinstance(f, NumericReference):
            values = np.asarray(column, np.float64)
            present = np.isfinite(values)
            return present, np.minimum(np.searchsorted(f.points, values[present]), len(f.points) - 1)
        codes, other = self._codes or {}, len(f.categories)
        texts = [text for text in cast("Texts", column) if text is not None]
        found = np.fromiter((codes.get(t, other) for t in texts), np.int64, len(texts))
        return np.fromiter((t is not None for t in column), np.bool_, rows), found

    def learned(self) -> Reference:
        """Return the reference with its dependence, and the largest of it as overdispersion."""
        f = self._feature
        places = np.concatenate(self._kept).astype(np.int64) if self._kept else np.zeros(0, np.int64)
        longer = Dispersion() if self._long is None else self._long.result()
        held, season = self._season()
        missing = self._missing.result() if held is None else self._missing_of_season(held)
        if isinstance(f, CategoricalReference):
            found = of_categories(places, len(f.categories) + 1, season).continued(longer)
            return replace(f, dispersion=found.largest(), missing_dispersion=missing, dependence=found, seasonal=held)
        found = of_numbers(places, f.weights, season).continued(longer)
        values = Dependence()
        if is_discrete(f):
            category = frequent_values(f)
            grouped = None if season is None else season.grouped(category, category_count(f))
            values = of_categories(category[places], category_count(f), grouped).continued(longer)
        return replace(
            f,
            seasonal=held,
            dispersion=found.largest(),
            missing_dispersion=missing,
            dependence=found,
            value_dependence=values,
        )

    def _season(self) -> tuple[SeasonCounts | None, InSeason | None]:
        """Return the rows by season, and the season of the kept ones."""
        if self._by_season is None:
            return None, None
        held = self._by_season.result()
        cells = np.concatenate(self._kept_cells).astype(np.int64) if self._kept_cells else np.zeros(0, np.int64)
        return held, InSeason(cells, held.shares)

    def _missing_of_season(self, held: SeasonCounts) -> Dispersion:
        """Return the overdispersion of the missing rate that the season leaves."""
        if not self._kept_rows:
            return Dispersion()
        cells, present = (np.concatenate(column) for column in zip(*self._kept_rows, strict=True))
        season = InSeason(cells.astype(np.int64), held.missing_shares)
        return of_categories((~present).astype(np.int64), 2, season).largest()


def _cells(f: Reference, most: int) -> IntArray:
    """Return the cell of each point, or of each category and of all others, in the blocks of a feature."""
    if isinstance(f, NumericReference):
        return cells_of_points(f.weights, most)
    return cells_of_categories(np.append(f.counts, f.other), most)


def _missing_variance(f: Reference) -> BlockVariance:
    total = f.rows + f.missing
    share = f.missing / total if total else 0.0
    return BlockVariance(np.array([1 - share, share]), total, ordered=False)


def _groups(f: Reference) -> tuple[IntArray, FloatArray]:
    """Return the group of each place for the variance of blocks, and the share of each group.

    Groups are about deciles of a number, and the categories of a text.
    """
    if isinstance(f, CategoricalReference):
        return np.arange(len(f.counts) + 1), np.append(f.counts, f.other) / max(f.rows, 1)
    cumulative = np.cumsum(f.weights)
    cuts = np.unique(np.searchsorted(cumulative, np.arange(1, DECILES) / DECILES * cumulative[-1]))
    group = np.searchsorted(cuts, np.arange(len(f.points)), side="left")
    return group, np.bincount(group, f.weights) / cumulative[-1]


@dataclass(frozen=True, slots=True)
class Built:
    """What was built of rows.

    Attributes:
        features: One reference per feature, in the order of their kinds.
        blocks: The counts of the rows by block.
    """

    features: tuple[Reference, ...]
    blocks: Blocks


def build(
    kinds: Mapping[str, bool],
    columns: Mapping[str, Column],
    rows: int,
    points: int = POINTS,
    season: Season | None = None,
    time: IntArray | None = None,
) -> Built:
    """Build the references and blocks of rows that are all in memory and in time order.

    Args:
        kinds: True for a numeric feature, False for a categorical one, by name.
        columns: As for `DistributionPass.add`.
        rows: Length of every column.
        points: Largest number of points kept per numeric feature.
        season: The season by which rows are told apart, if any.
        time: Milliseconds since the epoch, shape (rows,); needed for a season.
    """
    first = DistributionPass(kinds, points, seasonal=season is not None)
    first.add(columns, rows)
    seasonal = times = None
    if time is not None and len(time):
        times = BlockTimes()
        times.add(time)
        if season is not None:
            seasonal = Seasonal(season, int(time.min()), int(time.max()))
    second = DispersionPass(first.features(), seasonal)
    second.add(columns, rows, time)
    return Built(second.features(), second.blocks(times))


def build_features(
    kinds: Mapping[str, bool],
    columns: Mapping[str, Column],
    rows: int,
    points: int = POINTS,
    season: Season | None = None,
    time: IntArray | None = None,
) -> tuple[Reference, ...]:
    """Build the references of rows, as `build`, without their blocks."""
    return build(kinds, columns, rows, points, season, time).features
