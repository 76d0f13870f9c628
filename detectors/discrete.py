"""Numeric features with many ties, which are compared by their frequent values as categories too. Pure."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from detectors.cells import NumericCells
from detectors.expected import Expected, expected_rows
from detectors.reference import NumericReference
from detectors.types import FloatArray, IntArray

_TIED_SHARE: Final = 0.3  # a numeric feature with so much of its mass on one value counts as discrete,
_TIED_DISTINCT: Final = 20  # and so does one with at most so many distinct values
_FREQUENT_SHARE: Final = 0.01  # a value of a discrete feature with at least this share is a category


def is_discrete(r: NumericReference) -> bool:
    """Tell whether a numeric feature has so many ties that it must be compared by categories as well.

    Distribution functions hardly move where neighbouring values swap their shares.
    """
    if not len(r.weights) or r.rows < 2:
        return False
    share = r.weights.max() / r.weights.sum()
    return bool(share >= _TIED_SHARE or (len(r.points) <= _TIED_DISTINCT and r.rows > 5 * len(r.points)))


def frequent_values(r: NumericReference) -> IntArray:
    """Return the category of each point of a discrete feature, shape (k,): all that are rare share the last."""
    frequent = np.flatnonzero(r.weights >= _floor(r))
    category = np.full(len(r.points), len(frequent))
    category[frequent] = np.arange(len(frequent))
    return category


def category_count(r: NumericReference) -> int:
    """Return the number of categories of a discrete feature, with that of all rare values."""
    return int((r.weights >= _floor(r)).sum()) + 1


def _floor(r: NumericReference) -> int:
    """Return from how many rows on a value is frequent."""
    return math.ceil(_FREQUENT_SHARE * int(r.weights.sum()))


class DiscreteValues:
    """Count the frequent values of a numeric feature as categories; all other values are one more.

    Attributes:
        feature: Index of the feature among the references.
        expected: The rows of the reference per category.
        names: The frequent values as texts.
        cells: The cells of the feature among those of all, shape (2k + 1,).
        categories: The category of each of them.
    """

    def __init__(self, cells: NumericCells, feature: int) -> None:
        """Prepare the categories of the feature with this index among the references of `cells`."""
        r = cells.references[feature]
        self.feature = feature
        self.cells = np.arange(int(cells.starts[feature]), int(cells.starts[feature + 1]))
        total = int(r.weights.sum())
        floor = _floor(r)
        frequent = r.weights[r.weights >= floor]
        self.names = tuple(f"{value:.6g}" for value in r.points[r.weights >= floor].tolist())
        self.categories = np.full(2 * len(r.points) + 1, len(frequent))
        self.categories[1::2] = frequent_values(r)
        found = expected_rows(frequent, floor, total)
        scale = r.rows / total
        self.expected = Expected(found.rows * scale, found.noise * scale**2)

    def of_window(self, cells: IntArray) -> FloatArray:
        """Return the events of a window per category.

        Args:
            cells: Events of the window per cell of all numeric features.
        """
        return np.bincount(self.categories, cells[self.cells], minlength=len(self.expected.rows)).astype(np.float64)
