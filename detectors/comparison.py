"""One check: a window against its references, all features and detectors together.

A verdict of drift needs enough events, a p-value of at most the alpha that the false-alarm budget leaves, and an
effect that matters. Statistics and effects are computed for all features at once; p-values, which cost more than
everything else, only where the effect is large enough. Pure. Called by `monitor.evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from detectors.categorical import CategoryCells, divergence, homogeneity
from detectors.cells import NumericCells
from detectors.evidence import Evidence, category_evidence, numeric_evidence
from detectors.expected import Expected, ExpectedCategories
from detectors.feature_tests import (
    DiscreteValues,
    FeatureTest,
    chi_square_test,
    is_discrete,
    ks_test,
    missing_test,
    psi_test,
    unseen_test,
    wasserstein_test,
)
from detectors.findings import CheckResult, Family, Finding, Skipped, Value, Verdict
from detectors.numeric import NumericDistances, Transport
from detectors.pane import Counts
from detectors.reference import CategoricalReference, NumericReference
from detectors.registry import CATEGORICAL, NUMERIC, RATES
from detectors.significance import (
    BLIND_ABOVE,
    KolmogorovLaw,
    WassersteinLaw,
    ks_critical,
    least_p_value,
    pair_size,
    rate_p_value,
)
from detectors.types import FloatArray, IntArray

# A feature that alarmed is calm again when its effect is below this share of the minimum effect,
CALM_EFFECT: Final = 0.8
# or when its p-value is above this multiple of alpha.
CALM_ALPHA_FACTOR: Final = 10.0


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
        self._law = WassersteinLaw(numeric)
        self._detectors = frozenset(detectors)
        self._min_effect = min_effect
        self._names = [*(r.name for r in numeric), *(r.name for r in categorical)]
        self._frequent = [ExpectedCategories(r) for r in categorical]
        self._discrete = [DiscreteValues(self.numeric_cells, f) for f in range(len(numeric)) if is_discrete(numeric[f])]
        self._statistics = self._statistics_by_feature()

    @property
    def tests(self) -> int:
        """Return the number of tests of one check, which share the false-alarm budget."""
        numeric = sum(name in self._detectors for name in NUMERIC) * len(self.numeric_cells)
        categorical = sum(name in self._detectors for name in CATEGORICAL)
        by_category = categorical * (len(self.category_cells) + len(self._discrete))
        return numeric + by_category + len(self._names) + len(self.category_cells)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the features that are compared, numeric ones first."""
        return tuple(self._names)

    # -- panes -------------------------------------------------------------------------------------------

    def bin_counts(self, numbers: FloatArray, codes: Sequence[IntArray]) -> dict[str, Counts]:
        """Count events into the cells of the references.

        Args:
            numbers: Values of the numeric features, shape (events, numeric features); NaN is missing.
            codes: Per categorical feature the codes of `CategoryCells.codes`, shape (events,); -1 is missing.

        Returns:
            The count vectors by name, as a pane holds them.
        """
        binned = self.numeric_cells.bin_counts(numbers)
        categories, category_missing = self.category_cells.bin_counts(codes)
        missing = np.concatenate([binned.missing, category_missing])
        cells_name, positions_name, categories_name, missing_name = self.vectors
        return {
            cells_name: binned.counts,
            positions_name: binned.positions,
            categories_name: Counts(len(categories), None, categories),
            missing_name: Counts(len(missing), None, missing),
        }

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

    def mistyped_in(self, totals: Callable[[str], IntArray | None]) -> dict[str, int]:
        """Return how many values of another type than the reference's a window has, by feature that has any."""
        counts = totals(self.mistyped)
        names = [r.name for r in self.numeric_cells.references]
        found = zip(names, [0] * len(names) if counts is None else counts.tolist(), strict=True)
        return {name: count for name, count in found if count}

    # -- checks ------------------------------------------------------------------------------------------

    def holds(self, totals: Callable[[str], IntArray | None]) -> bool:
        """Tell whether a window has events that were counted against these references."""
        return totals(self.vectors[0]) is not None

    def check(
        self,
        totals: Callable[[str], IntArray | None],
        alpha: float,
        listed: Collection[tuple[Family, str]] = (),
        seen: Collection[str] | None = None,
    ) -> CheckResult:
        """Judge a window.

        Args:
            totals: Returns a count vector of the window by name, None if no pane has it.
            alpha: Significance level of each test.
            listed: Features that alarmed before, of which the result says whether they are calm again.
            seen: Features that events had at some time. A feature that is missing in all of the window and not
                among them is a column of the reference that events do not have, and is not judged. None: all.
        """
        vectors = [totals(name) for name in self.vectors]
        if any(v is None for v in vectors):
            skipped = dict.fromkeys(self._names, Skipped.NO_EVENTS)
            return CheckResult((), (), frozenset(), skipped, untested=self.untested(Verdict.NO_EVENTS))
        cells, positions, categories, missing = (v for v in vectors if v is not None)
        skipped = {}
        tests = [
            *self._numeric_tests(cells, positions, missing, alpha, skipped),
            *self._categorical_tests(categories, missing, skipped),
        ]
        absent: set[str] = set()
        if seen is not None:
            absent = {name for name, why in skipped.items() if why is Skipped.NO_EVENTS} - set(seen)
            tests = [t for t in tests if t.feature not in absent]
        values = tuple(self._value(t, alpha, skipped) for t in tests)
        findings = tuple(
            self._finding(t, alpha) for t, v in zip(tests, values, strict=True) if v.verdict is Verdict.DRIFT
        )
        followed = [t for t in tests if (t.family, t.feature) in listed] if listed else []
        restless = {(t.family, t.feature) for t in followed if not self._calm(t, alpha)}
        now = tuple(self._finding(t, alpha) for t in followed)
        untested = self._untested(skipped, absent, {(v.feature, v.statistic) for v in values}) if skipped else ()
        return CheckResult(values, findings, frozenset(listed) - restless, skipped, now, untested, alpha)

    def untested(self, why: Verdict, events: int = 0) -> tuple[Value, ...]:
        """Return all statistics of a window of so many events in which none was computed, with the reason."""
        return tuple(
            Value(name, statistic, np.nan, events, verdict=why)
            for name, statistics in self._statistics.items()
            for statistic in statistics
        )

    def evidence(self, feature: str, totals: Callable[[str], IntArray | None]) -> Evidence | None:
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
                return numeric_evidence(self._distances, f, cells)
        for f, c in enumerate(self.category_cells.references):
            if c.name == feature and categories is not None:
                return category_evidence(c, self.category_cells.of_feature(categories, f))
        return None

    def _value(self, test: FeatureTest, alpha: float, skipped: Mapping[str, Skipped]) -> Value:
        """Judge a test. Its p-value is computed at most once, and only where the effect is large enough."""
        p_value: float | KolmogorovLaw | None = None
        why = skipped.get(test.feature) if test.family is Family.DRIFT else None
        unseeing = Verdict(why) if why in (Skipped.BLIND, Skipped.RARE) else None
        verdict = unseeing or Verdict.OK
        if test.effect >= self._min_effect[test.statistic]:
            p_value = test.p_value() if test.law is None else test.law
            significant = p_value <= alpha if isinstance(p_value, float) else test.is_significant(alpha)
            verdict = Verdict.DRIFT if significant else unseeing or Verdict.CHANCE
        return Value(test.feature, test.statistic, test.value, test.events, test.effect, verdict, p_value)

    def _untested(
        self, skipped: Mapping[str, Skipped], absent: Collection[str], computed: Collection[tuple[str, str]]
    ) -> tuple[Value, ...]:
        """Return the statistics of skipped features that were not computed."""
        reasons = {name: Verdict.NEVER_CAME if name in absent else Verdict(why) for name, why in skipped.items()}
        return tuple(
            Value(name, statistic, np.nan, 0, verdict=why)
            for name, why in reasons.items()
            for statistic in self._statistics[name]
            if (name, statistic) not in computed
        )

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

    def _calm(self, test: FeatureTest, alpha: float) -> bool:
        small = test.effect < CALM_EFFECT * self._min_effect[test.statistic]
        return small or not test.is_significant(CALM_ALPHA_FACTOR * alpha)

    def _finding(self, test: FeatureTest, alpha: float) -> Finding:
        return Finding(
            test.family, test.feature, test.statistic, test.value, test.effect, self._min_effect[test.statistic],
            test.p_value, alpha, test.events, test.error,
        )  # fmt: skip

    def _numeric_tests(
        self, cells: IntArray, positions: IntArray, missing: IntArray, alpha: float, skipped: dict[str, Skipped]
    ) -> Iterator[FeatureTest]:
        """Yield the tests of the numeric features, and note in `skipped` those that cannot be judged."""
        window = self._distances.window(cells)
        wanted = self._detectors
        ks = self._distances.ks(window) if "ks" in wanted else None
        w1 = self._distances.wasserstein(window, positions) if "wasserstein" in wanted else None
        psi, bins = self._distances.psi(window) if "psi" in wanted else (None, None)
        discrete = {d.feature: d for d in self._discrete}
        for f, r in enumerate(self.numeric_cells.references):
            n = int(window.events[f])
            yield missing_test(r, int(missing[f]), n)
            if not n or not r.rows:
                skipped[r.name] = Skipped.NO_REFERENCE if n else Skipped.NO_EVENTS
                continue
            phi = r.dispersion.at(n)
            size = pair_size(n, r.rows, phi)
            least = least_p_value(n / phi, r.rows / phi)
            if ks is not None:
                d = float(ks.value[f])
                if ks_critical(alpha, size) > BLIND_ABOVE or least > alpha:
                    skipped[r.name] = Skipped.BLIND
                yield ks_test(r.name, d, n, size, least, float(ks.error[f]))
            if w1 is not None and self.numeric_cells.sd[f] > 0:
                yield self._wasserstein_test(f, w1, n, phi, least)
            if psi is not None and bins is not None:
                yield psi_test(r, float(psi.value[f]), int(bins[f]), n, phi)
            if f in discrete:
                yield from self._category_tests(r.name, discrete[f].expected, discrete[f].of_window(cells), n, phi)

    def _wasserstein_test(self, feature: int, found: Transport, n: int, phi: float, least: float) -> FeatureTest:
        """Make a test of two parts, each of which may use half of alpha.

        The law of the distance holds between the outermost points of the reference. Beyond them one event of a heavy
        tail may lie anywhere, so there the number of events is tested, not their distance.
        """
        r = self.numeric_cells.references[feature]
        inner, beyond = float(found.inner[feature]), int(found.beyond[feature])
        distance, error = float(found.value[feature]), float(found.error[feature])

        def p_value() -> float:
            within = self._law.p_value(feature, inner, pair_size(n, r.rows, phi))
            outside = rate_p_value(beyond, n, r.outside, r.rows, phi) if beyond else 1.0
            return max(min(2 * min(within, outside), 1.0), least)

        return wasserstein_test(r.name, distance, n, error, p_value)

    def _categorical_tests(
        self, categories: IntArray, missing: IntArray, skipped: dict[str, Skipped]
    ) -> Iterator[FeatureTest]:
        """Yield the tests of the categorical features, and note in `skipped` those that cannot be judged."""
        for f, r in enumerate(self.category_cells.references):
            window = self.category_cells.of_feature(categories, f)
            n = int(window.sum())
            yield missing_test(r, int(missing[len(self.numeric_cells) + f]), n)
            if not n or not r.rows:
                skipped[r.name] = Skipped.NO_REFERENCE if n else Skipped.NO_EVENTS
                continue
            phi = r.dispersion.at(n)
            yield unseen_test(r, int(window[-1]), n, phi)
            frequent = self._frequent[f]
            if frequent.blind:
                skipped[r.name] = Skipped.RARE
            yield from self._category_tests(r.name, frequent.expected, frequent.of_window(window), n, phi)

    def _category_tests(
        self, name: str, expected: Expected, window: FloatArray, n: int, phi: float
    ) -> Iterator[FeatureTest]:
        """Yield the configured tests of what is expected and what came, by category."""
        present = expected.rows + window > 0
        reference, window = expected.rows[present], window[present]
        phi += expected.overdispersion(n)
        if "chi_square" in self._detectors:
            h = homogeneity(reference, window)
            yield chi_square_test(name, "chi_square", h.statistic, h.effect, h.statistic, h.df, n, phi)
        if "jensen_shannon" in self._detectors:
            d = divergence(reference, window)
            yield chi_square_test(name, "jensen_shannon", d.distance, d.distance, d.statistic, d.df, n, phi)
