"""What windows of one extent can show of each feature: who has which share of what is allowed, and what that finds.

Everything is computed for a window in which nothing has changed, with as many events as such windows have, by the
tests that check windows. Pure. Called by `monitor.evaluation`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from detectors.against import Against
from detectors.category_power import smallest_changes
from detectors.category_tests import ComparedCategories
from detectors.checking import ComputedTests, Rates, shared
from detectors.comparison import Comparison
from detectors.feature_tests import FeatureTest, Share
from detectors.findings import Family, Skipped
from detectors.numeric_tests import NumericLaws
from detectors.reference import NumericReference, Reference
from detectors.shift_power import ShiftPower, thresholds
from detectors.types import IntArray

SHIFTS: Final = (0.1, 0.25, 0.5, 1.0)  # standard deviations of which it is told after how many events they are found
_DOUBLINGS: Final = 8  # of a window that is blind, in search of one that sees


@dataclass(frozen=True, slots=True)
class Change:
    """The smallest change of one kind that about every other window shows.

    Attributes:
        kind: `shift` of the mean, in standard deviations; `tilt`, the same where values tie; `category`, in shares.
        size: The smallest change; infinite if none is found.
        by_effect: Whether the minimum effect decides it; else the budget does.
        category: Name of the category; None where it may not be named, and of other kinds.
        share: Share of the category in the reference.
        rises: Whether its share rises; else it falls.
    """

    kind: str
    size: float
    by_effect: bool
    category: str | None = None
    share: float | None = None
    rises: bool = True


@dataclass(frozen=True, slots=True)
class FeatureSensitivity:
    """What windows of one extent show of one feature.

    Attributes:
        feature: Name of the feature.
        events: Events of a window that have it.
        phi: Overdispersion of the direction in which windows vary most.
        level: Largest p-value of a single check that is significant; None where there is no test that may alarm.
        thresholds: Smallest statistics that are significant, by name.
        changes: The smallest changes that are found.
        shifts: Events until a shift of the mean is found, by its size in standard deviations; only those found.
        constant: Whether all its values are equal, so that only another value shows.
        skipped: Why it is not judged; None where it is.
        sees_from: Events of a window that would not be blind; None where it is not, or none would see.
    """

    feature: str
    events: int
    phi: float = 1.0
    level: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    shifts: Mapping[float, int] = field(default_factory=dict)
    constant: bool = False
    skipped: Skipped | None = None
    sees_from: int | None = None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What windows of one extent show.

    Attributes:
        rates: False alarms per check of each share of the budget.
        shares: How many shares there are of drift and of data quality.
        features: What they show of each feature.
    """

    rates: Rates
    shares: tuple[int, int]
    features: tuple[FeatureSensitivity, ...]


class Comparisons:
    """Computes what windows show that are compared with some references."""

    def __init__(self, comparisons: Sequence[Comparison]) -> None:
        """Prepare what does not depend on the size of a window."""
        self._comparisons = comparisons
        self._power: dict[str, ShiftPower] = {}

    def sensitivity(self, n: int, allowed: Rates) -> Sensitivity:
        """Compute what windows of `n` predictions show, of which each check may raise so many false alarms."""
        windows = [expected_window(c, n) for c in self._comparisons]
        computed = [c.compute(window.get) for c, window in zip(self._comparisons, windows, strict=True)]
        rates = shared(allowed, computed)
        features = [
            feature
            for c, window, tests in zip(self._comparisons, windows, computed, strict=True)
            for feature in self._features(c, c.against(window.get), tests, rates)
        ]
        shares = (_count(allowed.drift, rates.drift), _count(allowed.quality, rates.quality))
        return Sensitivity(rates, shares, tuple(features))

    def _features(
        self, c: Comparison, against: Against, tests: ComputedTests, rates: Rates
    ) -> Iterator[FeatureSensitivity]:
        drift: dict[str, list[FeatureTest]] = {r.name: [] for r in c.references}
        for test in tests.tests:
            if test.family is Family.DRIFT:
                drift[test.feature].append(test)
        events = {name: its[0].events for name, its in drift.items() if its}
        categories = {each.feature: each for each in c.categories(events)}
        for f, r in enumerate(c.references):
            its, n = drift[r.name], events.get(r.name, 0)
            why = Skipped.BLIND if any(t.blind(rates.drift) for t in its) else tests.skipped.get(r.name)
            if why is not None or not its or rates.drift <= 0:
                sees_from = None
                if why is Skipped.BLIND and isinstance(r, NumericReference):
                    sees_from = _sees_from(against.numeric[f], against.laws[f], n, rates.drift)
                yield FeatureSensitivity(r.name, n, skipped=why, sees_from=sees_from)
                continue
            level = {test.share: test.level(rates.drift, rates.panes) for test in its}
            found = FeatureSensitivity(r.name, n, level=max(level.values()))
            if isinstance(r, NumericReference) and Share.DISTRIBUTION in level:
                found = self._numeric(found, c, f, against, level[Share.DISTRIBUTION])
            if Share.CATEGORIES in level:
                min_effect = {t.statistic: tests.min_effect[t.statistic] for t in its if t.share is Share.CATEGORIES}
                found = _categorical(found, categories[r.name], level[Share.CATEGORIES], min_effect)
            yield found

    def _numeric(
        self, found: FeatureSensitivity, c: Comparison, f: int, against: Against, level: float
    ) -> FeatureSensitivity:
        """Add what the tests by Kolmogorov-Smirnov and Wasserstein find."""
        r, n = against.numeric[f], found.events
        law = against.laws[f].at(n, r.rows)
        phi = law.phi
        if r.sd <= 0 or len(r.points) < 2:
            return replace(found, phi=phi, constant=True)
        ks, w1 = (c.min_effect[name] if name in c.detectors else None for name in ("ks", "wasserstein"))
        at = thresholds(r, law.law, n, phi, level, (ks, w1))
        power = self._power_of(f"{c.prefix}.{f}", r)
        significant, large = power.smallest(at, n)
        change = Change("tilt" if power.tilted else "shift", max(significant, large), large > significant)
        until = {shift: power.share_of_window(at, n, shift) for shift in SHIFTS}
        return replace(
            found,
            phi=phi,
            thresholds={name: value for name, value in (("ks", at.ks), ("wasserstein", at.w1)) if value < np.inf},
            changes=(change,),
            shifts={shift: math.ceil(share * n) for shift, share in until.items() if share <= 1},
        )

    def _power_of(self, key: str, r: NumericReference) -> ShiftPower:
        if key not in self._power:
            self._power[key] = ShiftPower(r)
        return self._power[key]


def _categorical(
    found: FeatureSensitivity, categories: ComparedCategories, level: float, min_effect: Mapping[str, float]
) -> FeatureSensitivity:
    """Add what the test of categories finds."""
    changes = [
        Change("category", max(x.significant, x.large), x.large > x.significant, x.category, x.share, x.rises)
        for x in smallest_changes(categories, level, min_effect)
    ]
    phi = float(np.max([found.phi, *categories.learned.phi, *categories.learned.together]))
    return replace(found, phi=phi, changes=(*found.changes, *changes))


def _sees_from(r: NumericReference, laws: NumericLaws, n: int, alpha: float) -> int | None:
    """Return the events from which on a window is not blind, by doubling; None where no window would see."""
    for doublings in range(1, _DOUBLINGS + 1):
        if not laws.at(n << doublings, r.rows).blind(alpha):
            return n << doublings
    return None


def expected_window(c: Comparison, n: int) -> dict[str, IntArray]:
    """Return the count vectors of a window of n predictions that is as its references let expect.

    Of references by season it spans the season as the reference does.
    """
    cells, positions, categories, missing = c.vectors
    numbers = [_numeric_cells(r, n) for r in c.numeric_cells.references]
    texts = [_shared_out(np.append(r.counts, [r.other, 0]), _present(r, n)) for r in c.category_cells.references]
    none = np.zeros(0, np.int64)
    of_numbers = np.concatenate([none, *numbers])
    seasonal = next((r.seasonal for r in c.references if r.seasonal is not None), None) if c.season else None
    season = {} if seasonal is None else {c.by_season: _shared_out(seasonal.rows, n)}
    return season | {
        cells: of_numbers,
        positions: np.zeros(len(of_numbers), np.int64),
        categories: np.concatenate([none, *texts]),
        missing: np.array([n - _present(r, n) for r in c.references], np.int64),
    }


def _present(r: Reference, n: int) -> int:
    """Return how many of n events have a value."""
    return round(n * r.rows / (r.rows + r.missing)) if r.rows else 0


def _numeric_cells(r: NumericReference, n: int) -> IntArray:
    held = np.zeros(2 * len(r.points) + 1, np.int64)
    held[1::2] = _shared_out(r.weights, _present(r, n))
    return held


def _shared_out(weights: IntArray, n: int) -> IntArray:
    """Share n events out in proportion to weights; rounding errors do not add up."""
    total = np.cumsum(weights)
    if not len(total) or not total[-1]:
        return np.zeros(len(weights), np.int64)
    result: IntArray = np.diff(np.rint(total / total[-1] * n).astype(np.int64), prepend=0)
    return result


def _count(allowed: float, each: float) -> int:
    return round(allowed / each) if each > 0 else 0
