"""What a window is compared with: the whole reference, or a mixture of the parts of its season.

A mixture Σ wₖFₖ weighs each part by how many events of the window lie in it. Its rows tell as much as 1 / Σ(wₖ²/mₖ)
rows of one distribution do, where part k has mₖ. Pure. Called by `comparison`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detectors.discrete import DiscreteValues, frequent_values
from detectors.expected import Expected, ExpectedCategories, reweighted
from detectors.numeric import NumericDistances
from detectors.numeric_tests import NumericLaws
from detectors.reference import CategoricalReference, NumericReference, Reference
from detectors.season import SeasonCounts, joined_cells
from detectors.season_law import Arc, Arcs, SeasonLaws, within_categories
from detectors.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class CategoriesOf:
    """Hold what is expected of the categories of one feature.

    Attributes:
        expected: The expected rows.
        within: Variance that the season leaves, as a share, by which φ of each category is multiplied; None: all.
    """

    expected: Expected
    within: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Against:
    """Hold what a window is compared with, feature by feature.

    Attributes:
        distances: Distances of numeric features.
        numeric: Numeric references, with the rows that they are worth.
        laws: Their laws.
        values: Expected categories of numeric features that are discrete, by index.
        categorical: Categorical references, with the rows that they are worth.
        categories: Their expected categories.
        missing: Expected rows without a value and rows in all, numeric features first; shape (features, 2).
        rows: Rows that the references are worth, numeric features first; 0 where there is nothing to compare with.
        is_whole: Whether it is the whole references, which are the same for all windows.
    """

    distances: NumericDistances
    numeric: Sequence[NumericReference]
    laws: Sequence[NumericLaws]
    values: Mapping[int, CategoriesOf]
    categorical: Sequence[CategoricalReference]
    categories: Sequence[CategoriesOf]
    missing: FloatArray
    rows: IntArray
    is_whole: bool = False

    @classmethod
    def whole(
        cls,
        distances: NumericDistances,
        numeric: Sequence[NumericReference],
        discrete: Sequence[DiscreteValues],
        categorical: Sequence[CategoricalReference],
        frequent: Sequence[ExpectedCategories],
    ) -> Against:
        """Return the whole references."""
        references: list[Reference] = [*numeric, *categorical]
        known = [(float(r.missing), float(r.rows + r.missing)) for r in references]
        return cls(
            distances,
            tuple(numeric),
            [NumericLaws(r) for r in numeric],
            {d.feature: CategoriesOf(d.expected) for d in discrete},
            tuple(categorical),
            [CategoriesOf(f.expected) for f in frequent],
            np.array(known).reshape(-1, 2),
            np.array([r.rows for r in references], np.int64),
            is_whole=True,
        )


class Mixtures:
    """The references of a comparison by season."""

    def __init__(
        self, whole: Against, discrete: Sequence[DiscreteValues], frequent: Sequence[ExpectedCategories]
    ) -> None:
        """Prepare everything that does not depend on a window; all references must be known by season."""
        self._whole = whole
        self._discrete, self._frequent = discrete, frequent
        references: list[Reference] = [*whole.numeric, *whole.categorical]
        held = [seasonal_of(r) for r in references]
        self._rows = held[0].rows
        self._takes = joined_cells(self._rows)
        self._pooled = np.maximum(self._takes @ self._rows, 1.0)
        self._counts = np.concatenate([h.counts for h in held], axis=1)
        self._missing = np.stack([h.missing for h in held], axis=1)
        sizes = [h.counts.shape[1] for h in held]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._arcs = Arcs(self._rows)
        self._laws = [SeasonLaws(r, self._arcs) for r in whole.numeric]
        self._within: dict[tuple[Arc, int], FloatArray] = {}

    def of(self, season: IntArray) -> Against:
        """Return what to compare a window with.

        Args:
            season: Its events in each part of the season, shape (cells,); at least one.
        """
        each = (season / season.sum() / self._pooled) @ self._takes  # weight of a row of each part
        worth = 1.0 / float((each**2) @ self._rows)
        held = np.zeros(self._counts.shape[1])
        for k in np.flatnonzero(each).tolist():
            held += each[k] * self._counts[k]
        missing = each @ self._missing
        arc = self._arcs.of(each * self._rows)
        shares = [held[a:b] for a, b in zip(self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True)]
        numbers = len(self._whole.numeric)
        rows = worth * np.array([float(s.sum()) for s in shares])
        points = held[: int(self._starts[numbers])]
        known = [_rows(n) for n in rows[:numbers].tolist()]
        return Against(
            self._whole.distances.expecting(points, rows[:numbers]),
            [replace(r, rows=n) for r, n in zip(self._whole.numeric, known, strict=True)],
            [laws.at(arc) for laws in self._laws],
            {d.feature: self._values(d, shares[d.feature], rows[d.feature], arc) for d in self._discrete},
            [
                replace(c, rows=_rows(n), counts=np.rint(s[:-1] * worth).astype(np.int64))
                for c, n, s in zip(self._whole.categorical, rows[numbers:].tolist(), shares[numbers:], strict=True)
            ],
            [
                self._categories(f, shares[numbers + f], rows[numbers + f], arc)
                for f in range(len(self._whole.categorical))
            ],
            np.column_stack([missing * worth, np.full(len(missing), worth)]),
            np.array([*known, *(c.rows for c in self._whole.categorical)], np.int64),
        )

    def _values(self, values: DiscreteValues, held: FloatArray, rows: float, arc: Arc) -> CategoriesOf:
        r = self._whole.numeric[values.feature]
        group, count = frequent_values(r), len(values.expected.rows)
        onto = np.zeros((len(group), count))
        onto[np.arange(len(group)), group] = 1.0
        raw = (r.weights @ onto) * (r.rows / max(float(r.weights.sum()), 1.0))
        expected = reweighted(values.expected, raw, held @ onto, rows)
        return CategoriesOf(expected, self._of_arc(values.feature, arc, seasonal_of(r), onto))

    def _categories(self, f: int, held: FloatArray, rows: float, arc: Arc) -> CategoriesOf:
        r, frequent = self._whole.categorical[f], self._frequent[f]
        raw = frequent.of_places(np.append(r.counts, r.other).astype(np.float64))
        expected = reweighted(frequent.expected, raw, frequent.of_places(held), rows)
        return CategoriesOf(expected, self._of_arc(len(self._whole.numeric) + f, arc, seasonal_of(r), None))

    def _of_arc(self, feature: int, arc: Arc, held: SeasonCounts, onto: FloatArray | None) -> FloatArray:
        found = self._within.get((arc, feature))
        if found is None:
            if len(self._within) >= 64 * len(self._starts):
                self._within.clear()
            shares = held.shares if onto is None else held.shares @ onto
            found = self._within[arc, feature] = within_categories(shares, self._arcs.weights(arc))
        return found


def seasonal_of(r: Reference) -> SeasonCounts:
    """Return the rows of a reference by season.

    Raises:
        ValueError: It has none.
    """
    if r.seasonal is None:
        raise ValueError(f"{r.name}: rows of the reference are not told apart by season")
    return r.seasonal


def _rows(worth: float) -> int:
    return max(round(worth), 1) if worth > 0 else 0
