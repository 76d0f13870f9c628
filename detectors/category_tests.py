"""Tests of the categories of a window: of categorical features, and of numeric ones with few or frequent values.

Which category a count belongs to, and how categories depend on each other in windows of so many events, is worked out
once. Pure. Called by `comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np

from detectors.against import Against, CategoriesOf
from detectors.categorical import CategoryCells
from detectors.category_effects import CategoryEffects, Segments, category_effects
from detectors.category_law import Overdispersion, category_test
from detectors.cells import NumericCells
from detectors.dependence import Dependence
from detectors.discrete import DiscreteValues
from detectors.dispersion import Dispersion
from detectors.expected import Expected, ExpectedCategories
from detectors.feature_tests import Law, Share, StatisticTests
from detectors.overlap import level_of, level_of_score
from detectors.reference import NumericReference, Reference
from detectors.registry import CATEGORICAL
from detectors.significance import rate_change_p_value
from detectors.types import BoolArray, FloatArray, IntArray

_MOST_SIZES: Final = 64  # numbers of events by feature of which the overdispersion is kept


@dataclass(frozen=True, slots=True)
class ComparedCategories:
    """What is expected of the categories of a feature, for windows of one size.

    Attributes:
        feature: Name of the feature.
        names: Those of the categories that are compared one by one; all others are one more.
        expected: Their expected rows.
        learned: Their overdispersion.
        events: Events of the window with a value.
    """

    feature: str
    names: Sequence[str]
    expected: Expected
    learned: Overdispersion
    events: int


class _Compared:
    """The categories of one feature that are compared.

    Attributes:
        feature: Index of the feature among all, numeric ones first.
        name: Name of the feature.
        names: As of `ComparedCategories`.
        expected: As of `ComparedCategories`.
    """

    def __init__(
        self, feature: int, r: Reference, names: Sequence[str], expected: Expected,
        pooled: Callable[[FloatArray], FloatArray] = lambda phi: phi,
    ) -> None:  # fmt: skip
        """Take what tells of a feature; `pooled` turns φ of categories into that of those compared."""
        self.feature, self.name, self.names, self.expected = feature, r.name, names, expected
        if isinstance(r, NumericReference):
            self._dependence, self._categories = r.value_dependence, len(expected.rows)
        else:
            self._dependence, self._categories = r.dependence, len(r.counts) + 1
        self._dispersion, self._pooled = r.dispersion, pooled

    def learned(self, n: int, within: FloatArray | None = None) -> Overdispersion:
        """Return the overdispersion of windows of n events, of which the season leaves a share `within`."""
        found = _left(overdispersion(self._dependence, self._dispersion, n, self._categories), within)
        return replace(found, phi=self._pooled(found.phi))


@dataclass(frozen=True, slots=True)
class _Laws:
    """Hold what is known of all compared categories in windows of so many events.

    Attributes:
        expected: Expected rows of each category.
        phi: Overdispersion of each, with what the noise of the estimate adds.
        learned: Overdispersion by feature, without that.
    """

    expected: FloatArray
    phi: FloatArray
    learned: Sequence[Overdispersion]


class CategoryTests:
    """The tests of the categories of a set of references.

    Attributes:
        compared: What is compared, one feature after the other.
        blind: Features, by index among all, with hardly a row of a category that is told from the others.
    """

    def __init__(
        self,
        numbers: NumericCells,
        discrete: Sequence[DiscreteValues],
        categories: CategoryCells,
        frequent: Sequence[ExpectedCategories],
        detectors: Collection[str],
    ) -> None:
        """Prepare everything that does not depend on a window.

        Args:
            numbers: Cells of the numeric features.
            discrete: Those of them that are compared by their frequent values too.
            categories: Cells of the categorical features.
            frequent: The categories that are compared of each.
            detectors: Names of the detectors to run; others than those of categories do not matter.
        """
        self._cells = categories
        self._discrete = [d.feature for d in discrete]
        self._wanted = [name for name in CATEGORICAL if name in detectors]
        self._first = len(numbers)
        self.blind = [len(numbers) + f for f, each in enumerate(frequent) if each.blind]
        self.compared = [_Compared(d.feature, numbers.references[d.feature], d.names, d.expected) for d in discrete]
        self.compared += [
            _Compared(len(numbers) + f, r, each.names, each.expected, each.pooled)
            for f, (r, each) in enumerate(zip(categories.references, frequent, strict=True))
        ]
        sizes = [len(each.expected.rows) for each in self.compared]
        self._segments = Segments(np.array(sizes, np.int64))
        self._features = np.array([each.feature for each in self.compared], np.int64)
        self._place = {each.feature: i for i, each in enumerate(self.compared)}
        self._ends = self._segments.starts + np.array(sizes, np.int64)
        none = np.zeros(0, np.int64)
        self._held = np.concatenate([none, *(d.cells for d in discrete)])
        places = [*(d.categories for d in discrete), *(each.categories for each in frequent)]
        shifted = [at + first for at, first in zip(places, self._segments.starts.tolist(), strict=True)]
        self._places = np.concatenate([none, *shifted])
        self._kept: dict[bytes, _Laws] = {}
        self._singletons = np.array([r.singletons / r.rows if r.rows else 0.0 for r in categories.references])

    def events(self, categories: IntArray) -> IntArray:
        """Return the events of each categorical feature, from the counts of a window."""
        starts = self._cells.starts[:-1]
        result: IntArray = np.add.reduceat(categories, starts) if len(starts) else np.zeros(0, np.int64)
        return result

    def unseen(self, categories: IntArray, features: IntArray, events: IntArray) -> StatisticTests:
        """Compare the shares of categories never seen with those that references saw once (Good, 1953).

        Args:
            categories: Counts of a window.
            features: Indices of the categorical features that are tested, among all.
            events: Events of all features.
        """
        at = features - self._first
        hits = categories[self._cells.starts[1:] - 1]
        rates = hits[at] / events[features]
        # A window with fewer of them than expected is no fault of the data.
        effects = np.maximum(rates - self._singletons[at], 0.0)

        def law(f: int) -> Law:
            r, n = self._cells.references[f - self._first], int(events[f])
            phi = overdispersion(r.dependence, r.dispersion, n, len(r.counts) + 1).phi
            # What was never seen comes as what is rare does.
            own = float(phi[-1] if r.other or not len(r.counts) else phi[:-1].mean())
            came = int(hits[f - self._first])
            return Law(lambda: rate_change_p_value(came, n, r.singletons, r.rows, own), level_of)

        return StatisticTests(Share.UNSEEN, "unseen_rate", features, rates, effects, events[features], law)

    def by_category(
        self, against: Against, cells: IntArray, categories: IntArray, judged: BoolArray, events: IntArray
    ) -> Iterator[StatisticTests]:
        """Yield the configured tests of what is expected and what came.

        Args:
            against: What the window is compared with.
            cells: Events of a window per cell of the numeric features.
            categories: Events of a window per cell of the categorical features.
            judged: Whether a feature has events and rows, shape (features,).
            events: Events of all features.
        """
        if not self._wanted or not self.compared:
            return
        held = np.concatenate([cells[self._held], categories])
        window = np.bincount(self._places, held, minlength=int(self._ends[-1])).astype(np.float64)
        of = [*(against.values[f] for f in self._discrete), *against.categories]
        laws = self._laws(of, np.maximum(events[self._features], 1), keep=against.is_whole)
        found = category_effects(laws.expected, window, laws.phi, self._segments)
        yield from self._tests(found, window, of, laws.learned, judged, events)

    def _laws(self, of: Sequence[CategoriesOf], events: IntArray, *, keep: bool) -> _Laws:
        """Return what is known of windows with so many events by feature; that of the whole references is kept."""
        key = events.tobytes()
        found = self._kept.get(key) if keep else None
        if found is None:
            numbers = events.tolist()
            learned = [c.learned(n, each.within) for c, n, each in zip(self.compared, numbers, of, strict=True)]
            phi = np.concatenate([each.phi for each in learned])
            phi[self._ends - 1] += [each.expected.overdispersion(n) for n, each in zip(numbers, of, strict=True)]
            found = _Laws(np.concatenate([each.expected.rows for each in of]), phi, learned)
            if keep:
                if len(self._kept) >= _MOST_SIZES:
                    self._kept.clear()
                self._kept[key] = found
        return found

    def _tests(
        self,
        found: CategoryEffects,
        window: FloatArray,
        of: Sequence[CategoriesOf],
        learned: Sequence[Overdispersion],
        judged: BoolArray,
        events: IntArray,
    ) -> Iterator[StatisticTests]:
        at = np.flatnonzero(judged[self._features])
        features = self._features[at]

        @cache
        def law(f: int) -> Law:
            i = self._place[f]
            expected = of[i].expected
            events_of = window[self._segments.starts[i] : self._ends[i]]
            test = category_test(expected.rows, events_of, learned[i], expected.overdispersion(int(events[f])))
            return Law(cache(test.p_value), lambda rate, panes: level_of_score(rate, panes, test.score))

        certain = found.categories[at] < 2
        values = {"chi_square": found.chi_square, "jensen_shannon": found.distance}
        effects = {"chi_square": found.effect, "jensen_shannon": found.distance}
        for name in self._wanted:
            yield StatisticTests(
                Share.CATEGORIES, name, features, values[name][at], effects[name][at], events[features], law,
                certain=certain,
            )  # fmt: skip


def overdispersion(learned: Dependence, dispersion: Dispersion, n: int, categories: int) -> Overdispersion:
    """Return what is known for windows of n events; of older profiles one φ for all."""
    phi = learned.at(n)
    if len(phi) < categories:
        return Overdispersion(np.full(categories, dispersion.at(n)), np.zeros(0), np.inf)
    return Overdispersion(phi[:categories], phi[categories:], learned.rows)


def _left(learned: Overdispersion, within: FloatArray | None) -> Overdispersion:
    """Return the overdispersion of what a season leaves, given that as a share of the variance of each category."""
    if within is None:
        return learned
    # Directions of which no dependence is known say nothing but how the season moves them.
    together = learned.together if (learned.together > 1).any() else np.zeros(0)
    return replace(learned, phi=learned.phi * within, together=together)
