"""Distances of a window's level shares from the reference's, for categorical features.

Every feature has a cell for each of its frequent levels, one for `other` (seen in the reference, but rare)
and one for `unseen` (never seen there). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from detectors.reference import CategoricalReference
from detectors.types import FloatArray, IntArray

_FEWEST_EXPECTED = 5.0  # Cochran (1954): levels that expect fewer events are pooled
_FEWEST_FOR_DIVERGENCE = 20.0  # the χ² law of the Jensen-Shannon divergence needs more than that of χ²


_BOOLEANS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


def text_of(value: object) -> str:
    """A JSON scalar as the text that levels and labels are compared by.

    1, 1.0 and "1" are the same, and so is a boolean in any spelling: one producer writes JSON, another what
    Python or a spreadsheet makes of it.
    """
    if isinstance(value, str):
        return _BOOLEANS.get(value, value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


class CategoryCodes(dict[object, int]):
    """JSON scalar → cell of one feature, -1 for None.

    Only the reference's own texts are held: a stream may invent any number of others.
    """

    def __init__(self, reference: CategoricalReference) -> None:
        super().__init__((text, i) for i, text in enumerate(reference.levels))
        self[None] = -1
        self.other = len(reference.levels)
        self.unseen = self.other + 1
        self._known = reference.known
        self._complete = reference.complete

    def __missing__(self, value: object) -> int:
        if not isinstance(value, str) or value in _BOOLEANS:
            return self[text_of(value)]
        # Where not all texts of the reference could be remembered, "unseen" cannot be told from "rare".
        return self.other if value in self._known or not self._complete else self.unseen


class CategoryCells:
    """The cells of all categorical features, one feature after the other."""

    def __init__(self, references: Sequence[CategoricalReference]) -> None:
        self.references = tuple(references)
        self.codes = [CategoryCodes(r) for r in self.references]
        sizes = [len(r.levels) + 2 for r in self.references]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.size = int(self.starts[-1])

    def __len__(self) -> int:
        return len(self.references)

    def place(self, columns: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
        """(counts per cell, missing per feature) of columns of codes, -1 where a value is missing."""
        counts = np.zeros(self.size, np.int64)
        missing = np.zeros(len(self), np.int64)
        for f, column in enumerate(columns):
            held = np.bincount(column + 1, minlength=self.starts[f + 1] - self.starts[f] + 1)
            missing[f] = held[0]
            counts[self.starts[f] : self.starts[f + 1]] = held[1:]
        return counts, missing


@dataclass(frozen=True, slots=True)
class Homogeneity:
    """χ² of homogeneity of two rows of counts.

    `effect` is Cramér's V of the shares at equal sizes, so it does not depend on how much larger the
    reference is than the window; `cells` is the number of levels left after pooling.
    """

    statistic: float
    df: int
    effect: float
    cells: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """Jensen-Shannon: `distance` is the square root of the divergence in bits, so its maximum is 1.

    `statistic` is the divergence scaled to be χ² with `df` degrees of freedom where nothing has changed; df
    is 0 where the window is too small for that law.
    """

    distance: float
    statistic: float
    df: int


def homogeneity(reference: FloatArray, window: FloatArray) -> Homogeneity:
    """Compare two rows of counts of the same levels, both with events.

    The test is of homogeneity, not of goodness of fit: the reference is itself a sample. No continuity
    correction. Levels in which either row expects fewer than five are pooled.
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
    """Jensen-Shannon of two rows of counts of the same levels, both with events.

    The distance is of the levels as they are. Its null law, ⅛(1/n + 1/m)·χ² for the divergence in nats,
    needs at least twenty expected events a level in the window, so the statistic pools smaller ones.
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
    """Both rows without absent levels, those with small expectations in one cell together."""
    total = reference + window
    smaller = min(window.sum(), reference.sum()) / total.sum()
    small = total * smaller < fewest
    if not small.any():
        return reference, window
    pooled_reference = np.append(reference[~small], reference[small].sum())
    pooled_window = np.append(window[~small], window[small].sum())
    held = pooled_reference + pooled_window
    if held[-1] * smaller < fewest and len(held) > 1:
        # The pool itself is still small: it joins the smallest level that is not.
        smallest = int(np.argmin(held[:-1]))
        pooled_reference[smallest] += pooled_reference[-1]
        pooled_window[smallest] += pooled_window[-1]
        pooled_reference, pooled_window = pooled_reference[:-1], pooled_window[:-1]
    return pooled_reference, pooled_window
