"""The single statistical tests of a check: one statistic of one feature with what its verdict needs.

Statistics that answer the same question share one p-value and one share of the false-alarm budget. A p-value costs
more than a statistic, so a test carries functions that compute it where the effect is large enough for it to
matter. Pure. Called by `comparison`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import special

from detectors.categorical import jensen_shannon_distance
from detectors.category_law import CategoryTest
from detectors.findings import Family
from detectors.overlap import level_of, level_of_score
from detectors.reference import CategoricalReference, NumericReference, Reference
from detectors.significance import psi_p_value, rate_change_p_value
from detectors.types import FloatArray

Level = Callable[[float, int], float]  # of alarms per check and panes per window


class Share(StrEnum):
    """Name what tests of a feature have one share of the budget together."""

    DISTRIBUTION = "distribution"  # Kolmogorov-Smirnov and Wasserstein
    INDEX = "index"  # the population stability index
    CATEGORIES = "categories"  # χ², the largest deviation of a category, Jensen-Shannon
    MISSING = "missing"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class FeatureTest:
    """Hold one statistic of one feature with what its verdict needs.

    Attributes:
        share: What has one share of the budget with it.
        feature: Name of the feature.
        statistic: Name of the statistic, as in `registry`.
        value: The statistic.
        effect: The effect size, which is compared with the minimum effect of the statistic.
        events: Number of events of the window behind the statistic.
        p_value: Computes the p-value.
        level: Returns the largest p-value that is significant, by alarms per check and panes per window.
        error: Bound on how far the summary of the reference may have moved the statistic.
        blind: Tells for a level whether no statistic could be significant.
        certain: Whether nothing but a change can make it significant, so that it needs no share of the budget.
    """

    share: Share
    feature: str
    statistic: str
    value: float
    effect: float
    events: int
    p_value: Callable[[], float]
    level: Level
    error: float = 0.0
    blind: Callable[[float], bool] = lambda alpha: False
    certain: bool = False

    @property
    def family(self) -> Family:
        """Return the alarm that the test belongs to."""
        return Family.DATA_QUALITY if self.share in (Share.MISSING, Share.UNSEEN) else Family.DRIFT


def psi_test(r: NumericReference, value: float, bins: int, n: int, phi: float) -> FeatureTest:
    """Make the test of the population stability index, in nats, of n events with overdispersion phi."""

    def score(p: float) -> float:
        return float(np.sqrt(max(special.chdtri(max(bins - 1, 1), p) - max(bins - 3, 0), 1.0)))

    return FeatureTest(
        Share.INDEX, r.name, "psi", value, value, n, lambda: psi_p_value(value, bins, n, r.rows, phi),
        lambda rate, panes: level_of_score(rate, panes, score), certain=bins < 2,
    )  # fmt: skip


def chi_square_test(name: str, found: CategoryTest, n: int, p_value: Callable[[], float]) -> FeatureTest:
    """Make the test of the categories of a feature, whose p-value is that of all and of any single one together."""
    return FeatureTest(
        Share.CATEGORIES, name, "chi_square", found.statistic, found.effect, n, p_value, _level_of(found),
        certain=found.categories < 2,
    )  # fmt: skip


def jensen_shannon_test(
    name: str, reference: FloatArray, window: FloatArray, found: CategoryTest, n: int, p_value: Callable[[], float]
) -> FeatureTest:
    """Make the test that is significant with χ², and whose effect is the Jensen-Shannon distance."""
    distance = jensen_shannon_distance(reference, window)
    return FeatureTest(
        Share.CATEGORIES, name, "jensen_shannon", distance, distance, n, p_value, _level_of(found),
        certain=found.categories < 2,
    )  # fmt: skip


def _level_of(found: CategoryTest) -> Level:
    return lambda rate, panes: level_of_score(rate, panes, found.score)


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
    return FeatureTest(
        Share.UNSEEN, r.name, "unseen_rate", rate, excess, n,
        lambda: rate_change_p_value(unseen, n, r.singletons, r.rows, phi), level_of,
    )  # fmt: skip


def missing_test(r: Reference, expected: FloatArray, missing: int, present: int) -> FeatureTest:
    """Compare the share of missing values of a window with that of the reference.

    Args:
        r: The reference.
        expected: Its rows without a value, and all of them, as far as they are compared with the window; shape (2,).
        missing: Events of the window without a value.
        present: Events of the window with one.
    """
    total, (gone, known) = missing + present, expected.tolist()
    rate = missing / total if total else 0.0
    effect = abs(rate - (gone / known if known else 0.0))
    phi = r.missing_dispersion.at(total)
    return FeatureTest(
        Share.MISSING, r.name, "missing_rate", rate, effect, total,
        lambda: rate_change_p_value(missing, total, gone, known, phi), level_of,
    )  # fmt: skip
