"""Statistics and effects of the categories of many features, side by side.

They decide whether a p-value is needed at all; that and the level are those of `category_law`, one feature at a time.
All arrays hold the categories of one feature after the other. Pure. Called by `category_tests`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from detectors.categorical import FEWEST_EXPECTED
from detectors.significance import deviation_scores
from detectors.types import FloatArray, IntArray

_ROUNDING: Final = 1e-12
_LEAST: Final = 1e-300  # instead of 0 in a denominator, where the numerator is 0 as well


@dataclass(frozen=True, slots=True)
class CategoryEffects:
    """Hold what windows came to, by feature.

    Attributes:
        chi_square: Pearson's χ², as of `categorical.homogeneity`.
        effect: As of `category_law.CategoryTest`.
        distance: Jensen-Shannon distance in base 2.
        categories: Number of categories that the window or the reference has.
    """

    chi_square: FloatArray
    effect: FloatArray
    distance: FloatArray
    categories: IntArray


class Segments:
    """Runs of an array, one per feature, none of them empty."""

    def __init__(self, sizes: IntArray) -> None:
        """Lay out runs of these sizes, shape (features,)."""
        self.starts = (np.cumsum(sizes) - sizes).astype(np.int64)
        self._feature = np.repeat(np.arange(len(sizes)), sizes)

    def sums(self, values: FloatArray) -> FloatArray:
        """Return the sum of each run."""
        result: FloatArray = np.add.reduceat(values, self.starts) if len(self.starts) else np.zeros(0)
        return result

    def each(self, of_feature: NDArray[Any]) -> NDArray[Any]:
        """Return the number of its run for each value."""
        result: NDArray[Any] = of_feature[self._feature]
        return result

    def first_largest(self, values: FloatArray) -> IntArray:
        """Return the place of the first of the largest values of each run."""
        if not len(self.starts):
            return np.zeros(0, np.int64)
        places = np.flatnonzero(values == self.each(np.maximum.reduceat(values, self.starts)))
        _, first = np.unique(self._feature[places], return_index=True)
        result: IntArray = places[first]
        return result


def category_effects(reference: FloatArray, window: FloatArray, phi: FloatArray, segments: Segments) -> CategoryEffects:
    """Compare the rows that references let expect with the events that came.

    Args:
        reference: Expected rows per category, shape (categories,).
        window: Events per category, shape (categories,).
        phi: Overdispersion of each category, with what the noise of the estimate adds; shape (categories,).
        segments: Which categories are of one feature.
    """
    m, n = np.maximum(segments.sums(reference), _LEAST), np.maximum(segments.sums(window), _LEAST)
    total = reference + window
    present = total > 0
    rows, events = segments.each(m), segments.each(n)
    p, q = reference / rows, window / events
    chi_square, v_squared = _homogeneity(reference, window, total, m, n, segments)
    effect = np.sqrt(v_squared)
    single = _single(p, q)
    # Which category deviates most takes long to find out, and matters where one by itself is more than all together.
    at = np.flatnonzero(segments.each(np.maximum.reduceat(single, segments.starts) > effect * (1 + _ROUNDING)))
    if len(at):
        scores = np.zeros(len(total))
        scores[at] = np.abs(deviation_scores(window[at], events[at], reference[at], rows[at], phi[at]))
        scores[~present] = 0.0
        most = segments.first_largest(scores)
        effect = np.where(scores[most] > 0, np.maximum(effect, single[most]), effect)
    middle = np.maximum((p + q) / 2, _LEAST)
    nats = segments.sums(special.rel_entr(p, middle) + special.rel_entr(q, middle)) / 2
    return CategoryEffects(
        chi_square,
        effect,
        np.sqrt(np.maximum(nats, 0.0) / np.log(2)),
        segments.sums(present.astype(np.float64)).astype(np.int64),
    )


def _single(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return Cramér's V at equal sizes of one category against all others."""
    apart = (p - q) ** 2
    result: FloatArray = np.sqrt((apart / np.maximum(p + q, _LEAST) + apart / np.maximum(2 - p - q, 1e-12)) / 2)
    return result


def _homogeneity(
    reference: FloatArray, window: FloatArray, total: FloatArray, m: FloatArray, n: FloatArray, segments: Segments
) -> tuple[FloatArray, FloatArray]:
    """Return χ² and V² of each feature, with small categories pooled as `categorical.homogeneity` does."""
    smaller = np.minimum(n, m) / (n + m)
    small = total * segments.each(smaller) < FEWEST_EXPECTED
    large_rows, large_events = np.where(small, 0.0, reference), np.where(small, 0.0, window)
    pool_rows, pool_events = (segments.sums(np.where(small, all_of, 0.0)) for all_of in (reference, window))
    pool_p, pool_q = pool_rows / m, pool_events / n
    p, q = large_rows / segments.each(m), large_events / segments.each(n)
    v_squared = 0.5 * (
        segments.sums((p - q) ** 2 / np.maximum(p + q, _LEAST))
        + (pool_p - pool_q) ** 2 / np.maximum(pool_p + pool_q, _LEAST)
    )
    alone = segments.sums((~small).astype(np.float64)) < 1
    kept = alone | ((pool_rows + pool_events) * smaller >= FEWEST_EXPECTED)
    pool_rows, pool_events = pool_rows * kept, pool_events * kept
    rows, events = segments.sums(large_rows) + pool_rows, segments.sums(large_events) + pool_events
    sampled = events / np.maximum(rows + events, _LEAST)
    chi_square = segments.sums(_squares(large_rows, large_events, segments.each(sampled)))
    chi_square += _squares(pool_rows, pool_events, sampled)
    # A row without events expects none anywhere.
    return np.where((rows > 0) & (events > 0), chi_square, 0.0), v_squared


def _squares(reference: FloatArray, window: FloatArray, sampled: FloatArray) -> FloatArray:
    """Return what each category adds to Pearson's χ², where windows have so large a share of all events."""
    total = reference + window
    of_window = total * sampled
    of_reference = total - of_window
    result: FloatArray = (window - of_window) ** 2 / np.maximum(of_window, _LEAST)
    return result + (reference - of_reference) ** 2 / np.maximum(of_reference, _LEAST)
