"""Distances between the category shares of a window and of its reference.

Every categorical feature has a cell for each of its frequent categories, one for `other` (seen in the reference, but
rare) and one for `unseen` (never seen there). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from detectors.reference import CategoricalReference
from detectors.types import FloatArray, IntArray

_FEWEST_EXPECTED = 5.0  # Cochran (1954): categories with fewer expected events are pooled
_FEWEST_FOR_DIVERGENCE = 20.0  # the χ² law of the Jensen-Shannon divergence needs more than that of χ²


_BOOLEANS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


def text_of(value: object) -> str:
    """Convert a JSON scalar to the text by which categories and labels are compared.

    1, 1.0 and "1" give the same text, and so do all spellings of a boolean, because producers write them as JSON,
    Python or a spreadsheet does.
    """
    if isinstance(value, str):
        return _BOOLEANS.get(value, value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


class CategoryCodes(dict[object, int]):
    """Map a JSON scalar to its cell in one categorical feature; None, a missing value, to -1.

    Only categories of the reference are stored: a stream may have any number of others.
    """

    def __init__(self, reference: CategoricalReference) -> None:
        """Map the categories of `reference`."""
        super().__init__((text, i) for i, text in enumerate(reference.categories))
        self[None] = -1
        self.other = len(reference.categories)
        self.unseen = self.other + 1
        self._known = reference.known
        self._complete = reference.complete

    def __missing__(self, value: object) -> int:
        if not isinstance(value, str) or value in _BOOLEANS:
            return self[text_of(value)]
        # If not all categories of the reference could be remembered, "unseen" cannot be told from "rare".
        return self.other if value in self._known or not self._complete else self.unseen


class CategoryCells:
    """Lay out the cells of all categorical features, one feature after the other.

    Attributes:
        references: The references, one per feature.
        codes: Per feature, the cell of a value, counted from the first cell of the feature.
        starts: First cell of each feature, and the number of all cells; shape (features + 1,).
        size: Number of all cells.
    """

    def __init__(self, references: Sequence[CategoricalReference]) -> None:
        """Lay out the cells of these references."""
        self.references = tuple(references)
        self.codes = [CategoryCodes(r) for r in self.references]
        sizes = [len(r.categories) + 2 for r in self.references]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.size = int(self.starts[-1])

    def __len__(self) -> int:
        return len(self.references)

    def bin_counts(self, columns: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
        """Count events per cell.

        Args:
            columns: Per feature the codes of the events, shape (events,); -1 where a value is missing.

        Returns:
            Counts per cell, shape (size,), and missing values per feature, shape (features,).
        """
        counts = np.zeros(self.size, np.int64)
        missing = np.zeros(len(self), np.int64)
        for f, column in enumerate(columns):
            held = np.bincount(column + 1, minlength=self.starts[f + 1] - self.starts[f] + 1)
            missing[f] = held[0]
            counts[self.starts[f] : self.starts[f + 1]] = held[1:]
        return counts, missing

    def of_feature(self, counts: IntArray, feature: int) -> IntArray:
        """Return the part of a vector over all cells that belongs to one feature, as a view."""
        return counts[self.starts[feature] : self.starts[feature + 1]]


@dataclass(frozen=True, slots=True)
class Homogeneity:
    """Hold the chi-square test of homogeneity of two rows of counts.

    Attributes:
        statistic: Pearson's chi-square statistic.
        df: Its degrees of freedom.
        effect: Cramér's V that samples of equal size with the same shares would have, 0 to 1; so it does not depend on
            how much larger the reference is than the window.
        categories: Number of categories left after pooling.
    """

    statistic: float
    df: int
    effect: float
    categories: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """Hold the Jensen-Shannon distance of two rows of counts.

    Attributes:
        distance: Square root of the divergence in bits, 0 to 1.
        statistic: The divergence, scaled so that it is chi-square distributed if nothing has changed.
        df: Degrees of freedom of that law; 0 if the window is too small for it.
    """

    distance: float
    statistic: float
    df: int


def homogeneity(reference: FloatArray, window: FloatArray) -> Homogeneity:
    """Test whether two rows of counts have the same shares.

    The test is of homogeneity, not of goodness of fit, because the reference is itself a sample. There is no continuity
    correction. Categories in which either row expects fewer than five events are pooled (Cochran, 1954).

    Args:
        reference: Counts per category, shape (k,), with at least one event.
        window: The same of the window.
    """
    n, m = window.sum(), reference.sum()
    pooled_reference, pooled_window = _pooled(reference, window, _FEWEST_EXPECTED)
    total = pooled_reference + pooled_window
    expected_window = total * (n / (n + m))
    expected_reference = total - expected_window
    statistic = float(
        ((pooled_window - expected_window) ** 2 / expected_window).sum()
        + ((pooled_reference - expected_reference) ** 2 / expected_reference).sum()
    )
    p, q = pooled_reference / m, pooled_window / n
    v_squared = 0.5 * float(((p - q) ** 2 / (p + q)).sum())
    return Homogeneity(statistic, len(total) - 1, float(np.sqrt(v_squared)), len(total))


def divergence(reference: FloatArray, window: FloatArray) -> Divergence:
    """Compute the Jensen-Shannon distance of two rows of counts (Lin, 1991).

    The distance is of the categories as they are. Under the null hypothesis the divergence in nats is distributed as
    ⅛(1/n + 1/m)·χ². This law needs at least twenty expected events per category, so for the statistic smaller
    categories are pooled.

    Args:
        reference: Counts per category, shape (k,), with at least one event.
        window: The same of the window.
    """
    n, m = window.sum(), reference.sum()
    distance = float(np.sqrt(_jensen_shannon(reference / m, window / n) / np.log(2)))
    pooled_reference, pooled_window = _pooled(reference, window, _FEWEST_FOR_DIVERGENCE)
    if n < 2 * _FEWEST_FOR_DIVERGENCE:
        return Divergence(distance, 0.0, 0)
    nats = _jensen_shannon(pooled_reference / m, pooled_window / n)
    return Divergence(distance, float(8 * nats / (1 / n + 1 / m)), len(pooled_window) - 1)


def _jensen_shannon(p: FloatArray, q: FloatArray) -> float:
    middle = (p + q) / 2
    return max(0.0, float((special.rel_entr(p, middle).sum() + special.rel_entr(q, middle).sum()) / 2))


def _pooled(reference: FloatArray, window: FloatArray, fewest: float) -> tuple[FloatArray, FloatArray]:
    """Put the categories in which either row expects fewer than `fewest` events into one, the last."""
    total = reference + window
    smaller = min(window.sum(), reference.sum()) / total.sum()
    small = total * smaller < fewest
    if not small.any():
        return reference, window
    pooled_reference = np.append(reference[~small], reference[small].sum())
    pooled_window = np.append(window[~small], window[small].sum())
    held = pooled_reference + pooled_window
    if held[-1] * smaller < fewest and len(held) > 1:
        # The pool itself is still too small: merge it with the smallest of the others.
        smallest = int(np.argmin(held[:-1]))
        pooled_reference[smallest] += pooled_reference[-1]
        pooled_window[smallest] += pooled_window[-1]
        pooled_reference, pooled_window = pooled_reference[:-1], pooled_window[:-1]
    return pooled_reference, pooled_window
