"""The statistical tests of a check: one statistic of many features side by side, and single tests.

Statistics and effects are numbers of all features together. Most effects are too small to matter, so what else a
verdict needs is made for the few others alone: a `FeatureTest`, with functions that compute p-value and level.
Statistics that answer the same question share one p-value and one share of the false-alarm budget. Pure. Called by
`comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy import special

from detectors.findings import Family
from detectors.overlap import level_of, level_of_score
from detectors.reference import NumericReference, Reference
from detectors.significance import psi_p_value, rate_change_p_value
from detectors.types import BoolArray, FloatArray, IntArray

Level = Callable[[float, int], float]  # of alarms per check and panes per window


class Share(StrEnum):
    """Name what tests of a feature have one share of the budget together."""

    DISTRIBUTION = "distribution"  # Kolmogorov-Smirnov and Wasserstein
    INDEX = "index"  # the population stability index
    CATEGORIES = "categories"  # χ², the largest deviation of a category, Jensen-Shannon
    MISSING = "missing"
    UNSEEN = "unseen"


def family_of(share: Share) -> Family:
    """Return the alarm that tests belong to."""
    return Family.DATA_QUALITY if share in (Share.MISSING, Share.UNSEEN) else Family.DRIFT


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
        sees_from: Smallest level at which any statistic could be significant; 0 where that is not known.
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
    sees_from: float = 0.0

    @property
    def family(self) -> Family:
        """Return the alarm that the test belongs to."""
        return family_of(self.share)

    def blind(self, alpha: float) -> bool:
        """Tell whether no statistic could be significant at a level."""
        return alpha < self.sees_from


@dataclass(frozen=True, slots=True)
class Law:
    """Hold what a test needs beside its statistic; arguments of `FeatureTest`."""

    p_value: Callable[[], float]
    level: Level


@dataclass(frozen=True, slots=True)
class StatisticTests:
    """Hold one statistic of many features side by side; all arrays have the shape (tests,).

    Attributes:
        share: As of `FeatureTest`.
        statistic: As of `FeatureTest`.
        features: Index of the feature of each test, ascending.
        values: The statistics.
        effects: The effect sizes.
        events: Numbers of events.
        law: Returns by index of a feature how its test is judged.
        errors: As of `FeatureTest`; None: 0.
        sees_from: As of `FeatureTest`; None: 0.
        certain: Whether nothing but a change can make it significant, so that it needs no share of the budget.
    """

    share: Share
    statistic: str
    features: IntArray
    values: FloatArray
    effects: FloatArray
    events: IntArray
    law: Callable[[int], Law]
    errors: FloatArray | None = None
    sees_from: FloatArray | None = None
    certain: BoolArray | None = None

    @property
    def family(self) -> Family:
        """Return the alarm that the tests belong to."""
        return family_of(self.share)

    def test(self, place: int, name: str) -> FeatureTest:
        """Return the test at a place, which is of the feature with this name."""
        law = self.law(int(self.features[place]))
        return FeatureTest(
            self.share, name, self.statistic, float(self.values[place]), float(self.effects[place]),
            int(self.events[place]), law.p_value, law.level,
            0.0 if self.errors is None else float(self.errors[place]),
            0.0 if self.sees_from is None else float(self.sees_from[place]),
        )  # fmt: skip

    def without(self, left_out: IntArray) -> StatisticTests:
        """Return the tests of all other features."""
        kept = ~np.isin(self.features, left_out)
        errors, sees_from, certain = self.errors, self.sees_from, self.certain
        return replace(
            self, features=self.features[kept], values=self.values[kept], effects=self.effects[kept],
            events=self.events[kept], errors=None if errors is None else errors[kept],
            sees_from=None if sees_from is None else sees_from[kept],
            certain=None if certain is None else certain[kept],
        )  # fmt: skip


def psi_tests(
    references: Sequence[NumericReference], features: IntArray, values: FloatArray, bins: IntArray, events: IntArray,
    phi: Callable[[int], float],
) -> StatisticTests:  # fmt: skip
    """Make the tests of the population stability index.

    Args:
        references: References of all numeric features.
        features: Indices of those that are tested.
        values: The index of all numeric features, in nats.
        bins: Bins of all numeric features.
        events: Events of all numeric features.
        phi: Returns overdispersion by index of a feature.
    """

    def law(f: int) -> Law:
        count = int(bins[f])

        def score(p: float) -> float:
            return float(np.sqrt(max(special.chdtri(max(count - 1, 1), p) - max(count - 3, 0), 1.0)))

        def p_value() -> float:
            return psi_p_value(float(values[f]), count, int(events[f]), references[f].rows, phi(f))

        return Law(p_value, lambda rate, panes: level_of_score(rate, panes, score))

    found = values[features]
    return StatisticTests(Share.INDEX, "psi", features, found, found, events[features], law, certain=bins[features] < 2)


def missing_tests(
    references: Sequence[Reference], expected: FloatArray, missing: IntArray, present: IntArray
) -> StatisticTests:
    """Compare the shares of missing values of a window with those of the references.

    Args:
        references: The references of all features.
        expected: Their rows without a value, and all of them, as far as they are compared with the window; shape
            (features, 2).
        missing: Events of the window without a value, shape (features,).
        present: Events of the window with one, shape (features,).
    """
    total = missing + present
    rates = missing / np.maximum(total, 1)
    gone, known = expected[:, 0], expected[:, 1]
    effects = np.abs(rates - np.divide(gone, known, out=np.zeros(len(known)), where=known > 0))
    missing = missing.copy()  # that of a window is moved on

    def law(f: int) -> Law:
        all_of = int(total[f])
        phi = references[f].missing_dispersion.at(all_of)
        return Law(lambda: rate_change_p_value(int(missing[f]), all_of, float(gone[f]), float(known[f]), phi), level_of)

    return StatisticTests(Share.MISSING, "missing_rate", np.arange(len(total)), rates, effects, total, law)
