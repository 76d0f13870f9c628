"""A window against its references: all features and detectors together.

Statistics and effects are computed for all features at once; p-values, which cost more than everything else, only
where the effect is large enough (`checking`). Pure. Called by `monitor.evaluation`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from detectors.against import Against, Mixtures
from detectors.categorical import CategoryCells
from detectors.category_tests import CategoryTests, ComparedCategories
from detectors.cells import NumericCells
from detectors.checking import ComputedTests, Rates, Totals
from detectors.discrete import DiscreteValues, is_discrete
from detectors.evidence import Evidence, category_evidence, numeric_evidence
from detectors.expected import ExpectedCategories
from detectors.feature_tests import StatisticTests, missing_tests, psi_tests
from detectors.findings import CheckResult, Family, Skipped, Value, Verdict
from detectors.numeric import BinnedWindow, NumericDistances
from detectors.numeric_tests import DistributionTests
from detectors.pane import Counts
from detectors.reference import CategoricalReference, NumericReference, Reference
from detectors.registry import CATEGORICAL, NUMERIC, RATES
from detectors.types import BoolArray, FloatArray, IntArray


class Comparison:
    """Compare windows with a set of references by the configured detectors."""

    def __init__(
        self,
        prefix: str,
        numeric: Sequence[NumericReference],
        categorical: Sequence[CategoricalReference],
        detectors: Collection[str],
        min_effect: Mapping[str, float],
    ) -> None:
        """Prepare everything that does not depend on a window.

        Args:
            prefix: Begins the names of the count vectors in a pane; must tell these references from any others.
            numeric: References of numeric features.
            categorical: References of categorical features.
            detectors: Names of the detectors to run, as in `registry`.
            min_effect: Smallest effect that counts, by statistic, as in `registry.MIN_EFFECT`.
        """
        self.prefix = prefix
        self.numeric_cells = NumericCells(numeric)
        self.category_cells = CategoryCells(categorical)
        self._distances = NumericDistances(self.numeric_cells)
        self._detectors = frozenset(detectors)
        self._min_effect = min_effect
        self._names = (*(r.name for r in numeric), *(r.name for r in categorical))
        self._frequent = [ExpectedCategories(r) for r in categorical]
        self._discrete = [DiscreteValues(self.numeric_cells, f) for f in range(len(numeric)) if is_discrete(numeric[f])]
        self._statistics = self._statistics_by_feature()
        self._by_category = CategoryTests(
            self.numeric_cells, self._discrete, self.category_cells, self._frequent, self._detectors
        )
        self._whole = Against.whole(self._distances, numeric, self._discrete, categorical, self._frequent)
        self._references = references = self.references
        seasons = {None if r.seasonal is None else r.seasonal.season for r in references}
        self.season = seasons.pop() if len(seasons) == 1 else None
        self._mixtures = None
        if self.season is not None:
            self._mixtures = Mixtures(self._whole, self._discrete, self._frequent)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the features that are compared, numeric ones first."""
        return self._names

    # -- panes -------------------------------------------------------------------------------------------

    def bin_counts(
        self, numbers: FloatArray, codes: Sequence[IntArray], time: IntArray | None = None
    ) -> dict[str, Counts]:
        """Count events into the cells of the references.

        Args:
            numbers: Values of the numeric features, shape (events, numeric features); NaN is missing.
            codes: Per categorical feature the codes of `CategoryCells.codes`, shape (events,); -1 is missing.
            time: Milliseconds since the epoch, shape (events,); needed where references are known by season.

        Returns:
            The count vectors by name, as a pane holds them.

        Raises:
            ValueError: The references are known by season, and there is no time.
        """
        binned = self.numeric_cells.bin_counts(numbers)
        categories, category_missing = self.category_cells.bin_counts(codes)
        missing = np.concatenate([binned.missing, category_missing])
        cells_name, positions_name, categories_name, missing_name = self.vectors
        found = {
            cells_name: binned.counts,
            positions_name: binned.positions,
            categories_name: Counts(len(categories), None, categories),
            missing_name: Counts(len(missing), None, missing),
        }
        if self.season is not None:
            if time is None:
                raise ValueError("events without times have no season")
            found[self.by_season] = Counts.of(np.bincount(self.season.cells_of(time), minlength=self.season.cells))
        return found

    @property
    def by_season(self) -> str:
        """Return the name of the vector of events by part of the season; a pane has it where there is a season."""
        return f"{self.prefix}.season"  # stored in panes: never rename

    @property
    def all_vectors(self) -> tuple[str, ...]:
        """Return the names of all count vectors that a pane may have."""
        return (*self.vectors, self.mistyped, self.by_season)

    @property
    def vectors(self) -> tuple[str, str, str, str]:
        """Return the names of the count vectors: cells, positions, categories, missing."""
        p = self.prefix
        return f"{p}.cells", f"{p}.positions", f"{p}.levels", f"{p}.missing"  # stored in panes: never rename

    @property
    def mistyped(self) -> str:
        """Return the name of the vector of values of another type than the reference's, by numeric feature.

        A pane has it only where there are any; whoever reads the features counts them.
        """
        return f"{self.prefix}.mistyped"  # stored in panes: never rename

    @property
    def references(self) -> tuple[NumericReference | CategoricalReference, ...]:
        """Return the references that windows are compared with, numeric ones first."""
        return (*self.numeric_cells.references, *self.category_cells.references)

    def mistyped_in(self, totals: Totals) -> dict[str, int]:
        """Return how many values of another type than the reference's a window has, by feature that has any."""
        counts = totals(self.mistyped)
        names = [r.name for r in self.numeric_cells.references]
        found = zip(names, [0] * len(names) if counts is None else counts.tolist(), strict=True)
        return {name: count for name, count in found if count}

    # -- what it compares by -----------------------------------------------------------------------------

    @property
    def min_effect(self) -> Mapping[str, float]:
        """Return the smallest effect that counts, by statistic."""
        return self._min_effect

    @property
    def detectors(self) -> Collection[str]:
        """Return the names of the detectors that run."""
        return self._detectors

    def categories(self, events: Mapping[str, int]) -> Iterator[ComparedCategories]:
        """Yield the categories of each feature that is compared by them, for windows of so many events by feature."""
        for c in self._by_category.compared:
            n = events.get(c.name, 0)
            yield ComparedCategories(c.name, c.names, c.expected, c.learned(n), n)

    # -- laws --------------------------------------------------------------------------------------------

    @property
    def lacks_laws(self) -> bool:
        """Whether laws of numeric features can be made beforehand, and were not."""
        laws = self._whole.laws
        return self.season is None and len(laws) > 0 and not any(each.known for each in laws)

    def learn_laws(self, made: Sequence[Reference]) -> None:
        """Take in the laws of these references, which are the same as its own numeric ones."""
        for laws, r in zip(self._whole.laws, made, strict=True):
            if isinstance(r, NumericReference):
                laws.take(r.laws)

    # -- checks ------------------------------------------------------------------------------------------

    def holds(self, totals: Totals) -> bool:
        """Tell whether a window has events that were counted against these references."""
        return totals(self.vectors[0]) is not None

    def compute(self, totals: Totals, seen: Collection[str] | None = None) -> ComputedTests:
        """Compute the tests of a window.

        Args:
            totals: Returns a count vector of the window by name, None if no pane has it.
            seen: Features that events had at some time. A feature that is missing in all of the window and not
                among them is a column of the reference that events do not have, and is not judged. None: all.
        """
        vectors = [totals(name) for name in self.vectors]
        if any(v is None for v in vectors):
            skipped = dict.fromkeys(self._names, Skipped.NO_EVENTS)
            return ComputedTests(self._names, (), skipped, frozenset(), self._statistics, self._min_effect)
        cells, positions, categories, missing = (v for v in vectors if v is not None)
        against = self.against(totals)
        window = against.distances.window(cells)
        events = np.concatenate([window.events, self._by_category.events(categories)])
        judged = (events > 0) & (against.rows > 0)
        skipped = self._unjudged(judged, events)
        groups = [
            missing_tests(self._references, against.missing, missing, events),
            *self._numeric_tests(against, window, positions, np.flatnonzero(judged[: len(self.numeric_cells)])),
            *self._categorical_tests(against, cells, categories, judged, events),
        ]
        absent: set[str] = set()
        if seen is not None:
            absent = {name for name, why in skipped.items() if why is Skipped.NO_EVENTS} - set(seen)
            if absent:
                gone = np.array([f for f, name in enumerate(self._names) if name in absent])
                groups = [tests.without(gone) for tests in groups]
        return ComputedTests(self._names, tuple(groups), skipped, frozenset(absent), self._statistics, self._min_effect)

    def check(
        self,
        totals: Totals,
        rates: Rates,
        listed: Collection[tuple[Family, str]] = (),
        seen: Collection[str] | None = None,
    ) -> CheckResult:
        """Judge a window by itself, where each share of the budget is given.

        Args:
            totals: As for `compute`.
            rates: False alarms per check that each test may raise.
            listed: Features that alarmed before, of which the result says whether they are calm again.
            seen: As for `compute`.
        """
        return self.compute(totals, seen).judged(rates, listed)

    def untested(self, why: Verdict, events: int = 0) -> tuple[Value, ...]:
        """Return all statistics of a window of so many events in which none was computed, with the reason."""
        return tuple(
            Value(name, statistic, np.nan, events, verdict=why)
            for name, statistics in self._statistics.items()
            for statistic in statistics
        )

    def evidence(self, feature: str, totals: Totals) -> Evidence | None:
        """Describe a feature in the reference and in a window, without raw values.

        Args:
            feature: Name of the feature.
            totals: As for `check`.

        Returns:
            Two histograms, or None if the feature is not compared here or the window has no counts of it.
        """
        cells, _, categories, _ = (totals(name) for name in self.vectors)
        for f, r in enumerate(self.numeric_cells.references):
            if r.name == feature and cells is not None:
                return numeric_evidence(self.against(totals).distances, f, cells)
        for f, c in enumerate(self.against(totals).categorical):
            if c.name == feature and categories is not None:
                return category_evidence(c, self.category_cells.of_feature(categories, f))
        return None

    def against(self, totals: Totals) -> Against:
        """Return what a window is compared with: of references by season a mixture of the parts it lies in."""
        season = None if self._mixtures is None else totals(self.by_season)
        if self._mixtures is None or season is None or not season.any():
            return self._whole
        return self._mixtures.of(season)

    def _statistics_by_feature(self) -> dict[str, tuple[str, ...]]:
        """List the statistics of every feature in the order of its tests."""
        missing, unseen = RATES
        by_category = [name for name in CATEGORICAL if name in self._detectors]
        discrete = {d.feature for d in self._discrete}
        found = {}
        for f, r in enumerate(self.numeric_cells.references):
            flat = {"wasserstein"} if self.numeric_cells.sd[f] <= 0 else set()
            numeric = [name for name in NUMERIC if name in self._detectors and name not in flat]
            found[r.name] = (missing, *numeric, *(by_category if f in discrete else ()))
        return found | {r.name: (missing, unseen, *by_category) for r in self.category_cells.references}

    def _unjudged(self, judged: BoolArray, events: IntArray) -> dict[str, Skipped]:
        """Return the features that cannot be judged, with the reason."""
        rare = self._by_category.blind
        found = {}
        for f in sorted({*np.flatnonzero(~judged).tolist(), *rare}):
            why = Skipped.NO_REFERENCE if events[f] else Skipped.NO_EVENTS
            found[self._names[f]] = Skipped.RARE if judged[f] else why
        return found

    def _numeric_tests(
        self, against: Against, window: BinnedWindow, positions: IntArray, judged: IntArray
    ) -> Iterator[StatisticTests]:
        """Yield the tests of the numeric features with these indices."""
        distances, wanted = against.distances, self._detectors
        ks = distances.ks(window) if "ks" in wanted else None
        w1 = distances.wasserstein(window, positions) if "wasserstein" in wanted else None
        tests = DistributionTests(against.numeric, against.laws, judged, window.events, self.numeric_cells.sd, ks, w1)
        yield from tests.by_ks()
        yield from tests.by_wasserstein()
        if "psi" in wanted:
            psi, bins = distances.psi(window)
            yield psi_tests(against.numeric, judged, psi.value, bins, window.events, lambda f: tests.size(f).phi)

    def _categorical_tests(
        self, against: Against, cells: IntArray, categories: IntArray, judged: BoolArray, events: IntArray
    ) -> Iterator[StatisticTests]:
        """Yield the tests of categories: of what was never seen, and of the shares of all."""
        texts = np.flatnonzero(judged[len(self.numeric_cells) :]) + len(self.numeric_cells)
        if len(texts):
            yield self._by_category.unseen(categories, texts, events)
        yield from self._by_category.by_category(against, cells, categories, judged, events)
