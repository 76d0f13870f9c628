"""Building references from rows, in batches that are read twice.

The first pass takes the distributions; the second pass, which needs them, measures the overdispersion: how much more
windows vary than independent rows would. The result does not depend on how the rows were cut into batches. Pure.
Called by `monitor.reference`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np

from detectors.dispersion import BlockVariance
from detectors.quantiles import CAPACITY, QuantileSummary, distance_between, mid_block_points
from detectors.reference import CategoricalReference, NumericReference, Reference
from detectors.types import BoolArray, FloatArray, IntArray

POINTS = 2048  # default of `reference.points`
CATEGORIES = 100  # categories with a cell of their own; the others share the cell `other`
DISTINCT = 10_000  # categories remembered, to tell "rare" from "never seen"
DECILES = 10

Texts = Sequence[str | None]
Column = FloatArray | Texts


class DistributionPass:
    """Collect the distributions of features in the first reading of the rows."""

    def __init__(self, kinds: Mapping[str, bool], points: int = POINTS) -> None:
        """Start without rows.

        Args:
            kinds: True for a numeric feature, False for a categorical one, by name.
            points: Largest number of points kept per numeric feature.
        """
        # The buffers of many features share the memory that a few features may use.
        capacity = CAPACITY if len(kinds) <= 50 else CAPACITY // 4
        self._kinds = dict(kinds)
        self._points = points
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
    """Measure the overdispersion of features in the second reading of the same rows."""

    def __init__(self, features: Iterable[Reference]) -> None:
        """Start without rows; `features` is the result of the `DistributionPass`."""
        self._features = tuple(features)
        self._binnings = [_Binning(f) for f in self._features]
        self._values = [
            BlockVariance(binning.shares, f.rows, ordered=isinstance(f, NumericReference))
            for binning, f in zip(self._binnings, self._features, strict=True)
        ]
        self._missing = [_missing_variance(f) for f in self._features]

    def add(self, columns: Mapping[str, Column], rows: int) -> None:
        """Add a batch of rows, in time order; arguments as for `DistributionPass.add`."""
        for f, binning, values, missing in zip(
            self._features, self._binnings, self._values, self._missing, strict=True
        ):
            present, bins = binning.bins_of(columns.get(f.name), rows)
            values.add(bins)
            missing.add((~present).astype(np.int64))

    def features(self) -> tuple[Reference, ...]:
        """Return the references with their overdispersion."""
        done: list[Reference] = []
        for f, values, missing in zip(self._features, self._values, self._missing, strict=True):
            kept = {name: getattr(f, name) for name in f.__slots__}
            kept |= {"dispersion": values.result(), "missing_dispersion": missing.result()}
            done.append(type(f)(**kept))
        return tuple(done)


def _missing_variance(f: Reference) -> BlockVariance:
    total = f.rows + f.missing
    share = f.missing / total if total else 0.0
    return BlockVariance(np.array([1 - share, share]), total, ordered=False)


class _Binning:
    """Maps rows of one feature to bins: deciles of a number; the frequent categories and `other` of a text."""

    def __init__(self, f: Reference) -> None:
        self.shares: FloatArray
        if isinstance(f, NumericReference):
            cumulative = np.cumsum(f.weights)
            total = int(cumulative[-1]) if len(cumulative) else 0
            at = np.searchsorted(cumulative, np.arange(1, DECILES) / DECILES * total)
            self._cuts = np.unique(f.points[at]) if total else np.zeros(0)
            edges = np.searchsorted(f.points, self._cuts, side="right")
            ends = np.concatenate([cumulative[edges - 1], [total]]) if total else np.ones(1)
            self.shares = np.diff(ends, prepend=0) / max(ends[-1], 1)
            self._codes: dict[str, int] | None = None
        else:
            self._codes = {text: i for i, text in enumerate(f.categories)}
            self.shares = np.append(f.counts, f.other) / max(f.rows, 1)

    def bins_of(self, column: Column | None, rows: int) -> tuple[BoolArray, IntArray]:
        """Return which rows have a value, shape (rows,), and the bin of each that has one."""
        if column is None:
            return np.zeros(rows, np.bool_), np.zeros(0, np.int64)
        if self._codes is None:
            values = np.asarray(column, np.float64)
            present = np.isfinite(values)
            return present, np.searchsorted(self._cuts, values[present], side="left")
        other = len(self._codes)
        texts = [text for text in cast("Texts", column) if text is not None]
        codes = np.fromiter((self._codes.get(t, other) for t in texts), np.int64, len(texts))
        return np.fromiter((t is not None for t in column), np.bool_, rows), codes


def build_features(
    kinds: Mapping[str, bool], columns: Mapping[str, Column], rows: int, points: int = POINTS
) -> tuple[Reference, ...]:
    """Build the references of rows that are all in memory and in time order.

    Args:
        kinds: True for a numeric feature, False for a categorical one, by name.
        columns: As for `DistributionPass.add`.
        rows: Length of every column.
        points: Largest number of points kept per numeric feature.

    Returns:
        One reference per feature, in the order of `kinds`.
    """
    first = DistributionPass(kinds, points)
    first.add(columns, rows)
    second = DispersionPass(first.features())
    second.add(columns, rows)
    return second.features()
