"""The single statistical tests of a check: one statistic of one feature with what its verdict needs.

A p-value costs more than a statistic, so a test carries functions that compute it where the effect is large enough
for it to matter. Pure. Called by `comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.cells import NumericCells
from detectors.expected import Expected, expected_rows
from detectors.findings import Family
from detectors.reference import CategoricalReference, NumericReference, Reference
from detectors.significance import KolmogorovLaw, chi_square_p_value, ks_critical, psi_p_value, rate_p_value
from detectors.types import FloatArray, IntArray

_TIED_SHARE: Final = 0.3  # a numeric feature with so much of its mass on one value counts as discrete,
_TIED_DISTINCT: Final = 20  # and so does one with at most so many distinct values
_FREQUENT_SHARE: Final = 0.01  # a value of a discrete feature with at least this share is a category


@dataclass(frozen=True, slots=True)
class FeatureTest:
    """Hold one statistic of one feature with what its verdict needs.

    Attributes:
        family: The alarm that the test belongs to.
        feature: Name of the feature.
        statistic: Name of the statistic, as in `registry`.
        value: The statistic.
        effect: The effect size, which is compared with the minimum effect of the statistic.
        events: Number of events of the window behind the statistic.
        error: Bound on how far the summary of the reference may have moved the statistic.
        is_significant: Tells for a significance level alpha whether the p-value is at most alpha.
        p_value: Computes the p-value.
        law: What `p_value` is computed from, where that takes long.
    """

    family: Family
    feature: str
    statistic: str
    value: float
    effect: float
    events: int
    error: float
    is_significant: Callable[[float], bool]
    p_value: Callable[[], float]
    law: KolmogorovLaw | None = None


def ks_test(name: str, d: float, n: int, size: float, least: float, error: float) -> FeatureTest:
    """Make the Kolmogorov-Smirnov test of a numeric feature.

    Args:
        name: Name of the feature.
        d: The statistic, 0 to 1.
        n: Events of the window.
        size: Effective `pair_size` of window and reference.
        least: The `least_p_value` of the two samples.
        error: Bound on the error of `d`.
    """
    law = KolmogorovLaw(size, least)
    # Comparing with the critical value is cheaper than a p-value: windows of about the same size share it.
    return FeatureTest(
        Family.DRIFT, name, "ks", d, d, n, error,
        lambda alpha: alpha >= least and d >= ks_critical(alpha, size), lambda: law.p_value(d), law,
    )  # fmt: skip


def wasserstein_test(name: str, distance: float, n: int, error: float, p_value: Callable[[], float]) -> FeatureTest:
    """Make the Wasserstein test of a numeric feature; `distance` and `error` are in its standard deviations."""
    return FeatureTest(
        Family.DRIFT, name, "wasserstein", distance, distance, n, error, lambda alpha: p_value() <= alpha, p_value
    )


def psi_test(r: NumericReference, value: float, bins: int, n: int, phi: float) -> FeatureTest:
    """Make the test of the population stability index, in nats, of n events with overdispersion phi."""

    def p_value() -> float:
        return psi_p_value(value, bins, n, r.rows, phi)

    return FeatureTest(Family.DRIFT, r.name, "psi", value, value, n, 0.0, lambda alpha: p_value() <= alpha, p_value)


def chi_square_test(
    name: str, statistic: str, value: float, effect: float, chi_square: float, df: int, n: int, phi: float
) -> FeatureTest:
    """Make a test whose statistic, scaled to `chi_square`, has a chi-square law with df degrees of freedom."""

    def p_value() -> float:
        return chi_square_p_value(chi_square, df, phi)

    return FeatureTest(Family.DRIFT, name, statistic, value, effect, n, 0.0, lambda alpha: p_value() <= alpha, p_value)


def unseen_test(r: CategoricalReference, unseen: int, n: int, phi: float) -> FeatureTest:
    """Compare the share of categories never seen with the share that the reference saw once (Good, 1953).

    Args:
        r: The reference.
        unseen: Events of the window with a category that the reference never saw.
        n: Events of the window with any category.
        phi: Overdispersion of a window of this size.
    """
    rate = unseen / n
    excess = max(rate - r.singletons / r.rows, 0.0)  # a window with fewer of them than expected is no fault of the data

    def p_value() -> float:
        return rate_p_value(unseen, n, r.singletons, r.rows, phi)

    return FeatureTest(
        Family.DATA_QUALITY, r.name, "unseen_rate", rate, excess, n, 0.0, lambda alpha: p_value() <= alpha, p_value
    )


def missing_test(r: Reference, missing: int, present: int) -> FeatureTest:
    """Compare the share of missing values of a window with that of the reference.

    Args:
        r: The reference.
        missing: Events of the window without a value.
        present: Events of the window with one.
    """
    total, known = missing + present, r.rows + r.missing
    rate = missing / total if total else 0.0
    effect = abs(rate - (r.missing / known if known else 0.0))
    phi = r.missing_dispersion.at(total)

    def p_value() -> float:
        return rate_p_value(missing, total, r.missing, known, phi)

    return FeatureTest(
        Family.DATA_QUALITY,
        r.name,
        "missing_rate",
        rate,
        effect,
        total,
        0.0,
        lambda alpha: p_value() <= alpha,
        p_value,
    )


def is_discrete(r: NumericReference) -> bool:
    """Tell whether a numeric feature has so many ties that it must be compared by categories as well.

    With many ties the Kolmogorov-Smirnov test alarms far less often than alpha and misses swaps of neighbours.
    """
    if not len(r.weights) or r.rows < 2:
        return False
    share = r.weights.max() / r.weights.sum()
    return bool(share >= _TIED_SHARE or (len(r.points) <= _TIED_DISTINCT and r.rows > 5 * len(r.points)))


class DiscreteValues:
    """Count the frequent values of a numeric feature as categories; all other values are one more.

    Attributes:
        expected: The rows of the reference per category.
    """

    def __init__(self, cells: NumericCells, feature: int) -> None:
        """Prepare the categories of the feature with this index among the references of `cells`."""
        r = cells.references[feature]
        self.feature = feature
        self._cells = slice(int(cells.starts[feature]), int(cells.starts[feature + 1]))
        total = int(r.weights.sum())
        floor = math.ceil(_FREQUENT_SHARE * total)
        frequent = np.flatnonzero(r.weights >= floor)
        self._category = np.full(2 * len(r.points) + 1, len(frequent))
        self._category[2 * frequent + 1] = np.arange(len(frequent))
        found = expected_rows(r.weights[frequent], floor, total)
        scale = r.rows / total
        self.expected = Expected(found.rows * scale, found.noise * scale**2)

    def of_window(self, cells: IntArray) -> FloatArray:
        """Return the events of a window per category.

        Args:
            cells: Events of the window per cell of all numeric features.
        """
        return np.bincount(self._category, cells[self._cells], minlength=len(self.expected.rows)).astype(np.float64)
