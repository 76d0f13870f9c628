"""What a reference of categories lets expect of a window, where not all categories were seen, or seen often.

A category was given a cell of its own because it was frequent in the rows of the reference, so part of its count is
luck: in other rows of the same source it is rarer, and categories never seen make up the difference. How much that is
follows from how many categories are just frequent enough (Good, 1953): a row is of a category that the other rows have
`floor` times or more, exactly if its category has `floor` + 1 rows or more in all. Pure. Used by `comparison`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.reference import CategoricalReference
from detectors.types import BoolArray, FloatArray, IntArray

_MOST: Final = 0.5  # share of the rows with a cell that categories above the rarest count have to keep
_NOTHING: Final = 1e-3  # rows of frequent categories, as a share of the others', that are as good as none


@dataclass(frozen=True, slots=True)
class Expected:
    """Hold the rows that a reference lets expect, by category.

    Attributes:
        rows: Expected rows per category that is frequent enough, and of all others together; shape (k + 1,). They sum
            to the rows of the reference.
        noise: Variance of the last of `rows` beyond that of a count, because it is an estimate.
    """

    rows: FloatArray
    noise: float

    def overdispersion(self, n: int) -> float:
        """Return what `noise` adds to the overdispersion φ of a comparison with a window of n events."""
        total = float(self.rows.sum())
        share = float(self.rows[-1]) / total if total else 0.0
        binomial = share * (1 - share) * (1 / n + 1 / total) if 0 < share < 1 else 0.0
        return self.noise / total**2 / binomial if binomial else 0.0


def expected_rows(counts: FloatArray | IntArray, floor: int, total: int) -> Expected:
    """Estimate the rows of a new sample of the same size.

    Args:
        counts: Rows of each category that has at least `floor` of them, shape (k,).
        floor: Rows from which a category is one of these.
        total: Rows of all categories, these and the others.
    """
    just = int((counts == floor).sum())
    luck = floor * just
    frequent = counts - luck / len(counts) if len(counts) else np.zeros(0)
    rest = max(total - float(frequent.sum()), 0.0)
    return Expected(np.append(frequent, rest if rest > 1e-9 else 0.0), float(luck * (floor - 1)))


def expected_of_ties(counts: IntArray, rarest: int, total: int, each: float) -> Expected:
    """Estimate the rows of a new sample, where cells went to some of many categories that are as rare.

    A category with one row more than the rarest might have had no cell either, had it had one row less. So nothing but
    luck may tell these from those without a cell: what is expected of them is what is expected of any that was seen.

    Args:
        counts: Rows of each category with a cell, shape (k,).
        rarest: The least of them, as many as some without a cell have.
        total: Rows of all categories, these and the others.
        each: Expected rows of a category that was seen, on average.
    """
    by_luck = counts <= rarest + 1
    expected = np.where(by_luck, np.minimum(counts, each), counts)
    lost = float((counts - expected).sum())
    return Expected(np.append(expected, total - float(expected.sum())), lost * rarest)


def reweighted(whole: Expected, raw: FloatArray, shares: FloatArray, rows: float) -> Expected:
    """Return what is expected where categories have other shares than in the whole reference.

    Args:
        whole: What the whole reference lets expect.
        raw: Its rows per category, as they were counted; shape (k + 1,).
        shares: The other shares, as they were counted, in any unit; shape (k + 1,).
        rows: The rows that these are worth.
    """
    share = shares / max(float(shares.sum()), 1e-300)
    kept = share[:-1] * whole.rows[:-1] / np.maximum(raw[:-1], 1e-300)
    rest = max(1.0 - float(kept.sum()), 0.0)
    scale = rows / max(float(whole.rows.sum()), 1.0)
    return Expected(np.append(kept, rest if rest > 1e-9 else 0.0) * rows, whole.noise * scale**2)


def _of_each_seen(r: CategoricalReference) -> float:
    """Return the rows expected of each category that was seen, on average.

    As many rows as there were singletons are expected of categories never seen (Good, 1953). Where all have the same
    count and none is a singleton, nothing of it is luck.
    """
    return (r.rows - r.singletons) / len(r.known) if r.complete and r.known else 0.0


class ExpectedCategories:
    """The categories of one reference that are compared one by one; all others are one more, with those never seen.

    Attributes:
        expected: Their expected rows.
        names: Their names.
        categories: Which of them each cell of the feature is, as of `CategoryCells.of_feature`.
    """

    def __init__(self, r: CategoricalReference) -> None:
        """Prepare everything that does not depend on a window."""
        rarest = int(r.counts.min()) if len(r.counts) else 0
        # Where some categories had to share the cell `other`, some with as few rows as the rarest of the rest may too:
        # these are left to the others, unless they are most of what has a cell.
        floor = rarest + 1 if r.other else 1
        above = r.counts >= floor
        if r.counts[above].sum() >= _MOST * r.counts.sum():
            self.expected = expected_rows(r.counts[above], floor, r.rows)
        else:
            above = r.counts >= rarest
            self.expected = expected_of_ties(r.counts, rarest, r.rows, _of_each_seen(r))
        self.names = tuple(r.categories[i] for i in np.flatnonzero(above))
        self._frequent: BoolArray = np.append(above, [False, False])
        self.categories = np.where(self._frequent, np.cumsum(self._frequent) - 1, int(above.sum()))

    @property
    def blind(self) -> bool:
        """Whether hardly a row is expected of categories with a cell, so that the others may become anything."""
        rows = self.expected.rows
        return bool(rows[:-1].sum() <= _NOTHING * rows[-1] and rows[-1] > 0)

    def of_window(self, cells: IntArray) -> FloatArray:
        """Return the events of a window in the same categories, shape (k + 1,).

        Args:
            cells: Events per cell of the feature, as of `CategoryCells.of_feature`.
        """
        return np.append(cells[self._frequent], cells[~self._frequent].sum()).astype(np.float64)

    def of_places(self, held: FloatArray) -> FloatArray:
        """Return rows in the same categories, shape (k + 1,), from those of each with a cell and of `other`."""
        return np.append(held[self._frequent[:-1]], held[~self._frequent[:-1]].sum())

    def pooled(self, phi: FloatArray) -> FloatArray:
        """Return the overdispersion of the categories compared, from that of each with a cell and of `other`.

        Args:
            phi: Of each category of the reference and of `other`, shape (k + 1,).
        """
        left_out = phi[~self._frequent[:-1]]
        return np.append(phi[self._frequent[:-1]], left_out.max() if len(left_out) else 1.0)
