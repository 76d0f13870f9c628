"""Distances between the category shares of a window and of its reference.

Every categorical feature has a cell for each of its frequent categories, one for `other` (seen in the reference, but
rare) and one for `unseen` (never seen there). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import special

from detectors.reference import CategoricalReference
from detectors.types import FloatArray, IntArray

FEWEST_EXPECTED: Final = 5.0  # Cochran (1954): categories with fewer expected events are pooled

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
            how much larger the reference is than the window. Categories that are pooled count as one.
        group: Group of each category, shape (k,), -1 for those of a pool that is itself too small for the statistic.
    """

    statistic: float
    df: int
    effect: float
    group: IntArray

    @property
    def categories(self) -> int:
        """Return the number of groups that were compared."""
        return int(self.group.max()) + 1 if len(self.group) else 0


def homogeneity(reference: FloatArray, window: FloatArray) -> Homogeneity:
    """Test whether two rows of counts have the same shares.

    The test is of homogeneity, not of goodness of fit, because the reference is itself a sample. There is no continuity
    correction. Categories in which either row expects fewer than five events are pooled with each other (Cochran,
    1954), and left out where their pool expects fewer as well: a frequent one would drown them.

    Args:
        reference: Counts per category, shape (k,), with at least one event.
        window: The same of the window.
    """
    n, m = float(window.sum()), float(reference.sum())
    total = reference + window
    smaller = min(n, m) / (n + m)
    small = total * smaller < FEWEST_EXPECTED
    group = np.cumsum(~small) - 1
    pooled = int((~small).sum())
    group[small] = pooled
    groups = pooled + bool(small.any())
    p, q = np.bincount(group, reference) / m, np.bincount(group, window) / n
    v_squared = 0.5 * float(((p - q) ** 2 / (p + q)).sum())
    if pooled and groups > pooled and float(total[small].sum()) * smaller < FEWEST_EXPECTED:
        group[small] = -1
        groups = pooled
    held = group >= 0
    statistic = _chi_square(
        np.bincount(group[held], reference[held], minlength=groups).astype(np.float64),
        np.bincount(group[held], window[held], minlength=groups).astype(np.float64),
    )
    return Homogeneity(statistic, max(groups - 1, 0), float(np.sqrt(v_squared)), group)


def _chi_square(reference: FloatArray, window: FloatArray) -> float:
    total = reference + window
    if not total.sum():
        return 0.0
    expected_window = total * (window.sum() / total.sum())
    expected_reference = total - expected_window
    # A row without events expects none anywhere.
    if not window.sum() or not reference.sum():
        return 0.0
    return float(
        ((window - expected_window) ** 2 / expected_window).sum()
        + ((reference - expected_reference) ** 2 / expected_reference).sum()
    )


def jensen_shannon_distance(reference: FloatArray, window: FloatArray) -> float:
    """Compute the Jensen-Shannon distance of two rows of counts in base 2, 0 to 1 (Lin, 1991).

    Args:
        reference: Counts per category, shape (k,), with at least one event.
        window: The same of the window.
    """
    p, q = reference / reference.sum(), window / window.sum()
    middle = (p + q) / 2
    nats = float((special.rel_entr(p, middle).sum() + special.rel_entr(q, middle).sum()) / 2)
    return float(np.sqrt(max(nats, 0.0) / np.log(2)))
