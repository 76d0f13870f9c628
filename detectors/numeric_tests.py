"""Tests of the numeric features of a window: their laws are made when they are first needed, and kept.

Pure. Called by `comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np

from detectors.bridge_law import BridgeLaw
from detectors.feature_tests import Law, Share, StatisticTests
from detectors.law_numbers import LawNumbers
from detectors.numeric import Distance, Transport
from detectors.reference import NumericReference
from detectors.significance import least_p_value, pair_size, rate_p_value
from detectors.types import BoolArray, FloatArray, IntArray

BLIND_ABOVE = 0.8  # a KS test with a larger critical value detects only a nearly complete change
_MOST_SIZES = 64  # sizes of windows of which more than φ is kept
_PER_OCTAVE = 4  # sizes of windows of which φ is told apart
# Beyond the outermost points of a reference events are counted, whatever their distance: a test of its own, with a
# tenth of the share.
_BEYOND = 10.0
_MIDDLE = 1 / (1 - 1 / _BEYOND)
_SMALLEST = 1e-300  # level: at none nothing is significant


class WindowSize:
    """What does not depend on a window of one feature but on its number of events.

    Attributes:
        phi: Largest φ of any direction.
        size: `pair_size` of window and reference, as if events were independent.
        least: The `least_p_value` of the two.
        sees_from: Smallest level at which an incomplete change would be significant, by Kolmogorov's law.
    """

    def __init__(self, phi: float, n: int, rows: int, law: Callable[[], BridgeLaw]) -> None:
        """Start without the law, which is made when it is first needed."""
        self.phi, self.size, self._law = phi, pair_size(n, rows), law
        self.least = least_p_value(n / phi, rows / phi)
        critical = 2 * math.exp(-2 * BLIND_ABOVE**2 * max(self.size, 1e-9) / phi)
        self.sees_from = max(self.least, critical, _SMALLEST)

    @cached_property
    def law(self) -> BridgeLaw:
        """The law of the statistics."""
        return self._law()

    def blind(self, alpha: float) -> bool:
        """Tell whether only a nearly complete change would be significant."""
        return alpha < self.sees_from


class NumericLaws:
    """The laws of the statistics of one feature, by window size.

    Attributes:
        known: Laws that were made beforehand.
    """

    def __init__(
        self, reference: NumericReference, between: FloatArray | None = None, luck: FloatArray | float = 0.0
    ) -> None:
        """Start without laws.

        Args:
            reference: The reference, or the part of it that windows are compared with.
            between: Where the season is known, how its parts differ, as for `directions`.
            luck: Share of the variance in each direction that chance made a difference between parts.
        """
        self._reference, self._between, self._luck = reference, between, luck
        self.known: Sequence[LawNumbers] = reference.laws
        self._laws: dict[tuple[float, ...], BridgeLaw] = {}
        self._sizes: dict[tuple[int, int], WindowSize] = {}

    def phi(self, n: int) -> FloatArray:
        """Return φ of each direction for windows of about n events, the last of all others."""
        r = self._reference
        at = 2 ** (round(math.log2(max(n, 1)) * _PER_OCTAVE) / _PER_OCTAVE)
        phi = r.dependence.at(at) if r.dependence.sizes else np.array([r.dispersion.at(at)])
        result: FloatArray = phi / (1 - self._luck)
        return result

    @property
    def constant(self) -> bool:
        """Whether all values are equal."""
        return len(self._reference.points) < 2

    def at(self, n: int, rows: int) -> WindowSize:
        """Return what holds for windows of n events against so many rows."""
        found = self._sizes.get((n, rows))
        if found is None:
            if len(self._sizes) >= _MOST_SIZES:
                self._sizes.clear()
            phi = self.phi(n)
            found = self._sizes[n, rows] = WindowSize(float(phi.max()), n, rows, lambda: self._law(phi))
        return found

    def numbers(self, events: Iterable[int]) -> tuple[LawNumbers, ...]:
        """Return the numbers of the laws of windows of so many events, each law once."""
        found = {tuple(phi.tolist()): phi for phi in map(self.phi, events)}
        return tuple(self._law(phi).numbers for phi in found.values())

    def take(self, known: Sequence[LawNumbers]) -> None:
        """Take in laws that were made elsewhere."""
        self.known = (*self.known, *known)

    def _law(self, phi: FloatArray) -> BridgeLaw:
        key = tuple(phi.tolist())
        found = self._laws.get(key)
        if found is None:
            learned = self._reference.dependence
            rows = learned.worth(float(phi.max())) if learned.sizes else np.inf
            known = next((law for law in self.known if law.phi == key), None)
            found = self._laws[key] = BridgeLaw(self._reference, phi, rows, self._between, known)
        return found


class DistributionTests:
    """The tests by Kolmogorov-Smirnov and Wasserstein of one window, which have one p-value."""

    def __init__(
        self,
        references: Sequence[NumericReference],
        laws: Sequence[NumericLaws],
        features: IntArray,
        events: IntArray,
        sd: FloatArray,
        ks: Distance | None,
        w1: Transport | None,
    ) -> None:
        """Take what was computed of the window.

        Args:
            references: References of all numeric features.
            laws: Their laws.
            features: Indices of the features that are tested: those that have events and rows.
            events: Events of all numeric features.
            sd: Standard deviations of all references; Wasserstein's distance needs one above 0.
            ks: Kolmogorov-Smirnov statistics of all; None where they are not asked for.
            w1: Wasserstein distances of all; None where they are not asked for.
        """
        self._references, self._laws, self._events = references, laws, events
        self._features, self._sd, self._ks, self._w1 = features, sd, ks, w1
        self._numbers = events.tolist()
        self._sees_from = np.array([self.size(f).sees_from for f in features.tolist()])
        self._several = np.array([len(references[f].points) > 1 for f in features.tolist()], np.bool_)
        self._known: dict[int, float] = {}

    def size(self, f: int) -> WindowSize:
        """Return what depends on the number of events of a feature alone."""
        return self._laws[f].at(self._numbers[f], self._references[f].rows)

    def by_ks(self) -> Iterator[StatisticTests]:
        """Yield the tests by Kolmogorov-Smirnov, if they are asked for."""
        if self._ks is not None:
            yield self._tests("ks", self._ks, self._features, self._sees_from, ~self._several)

    def by_wasserstein(self) -> Iterator[StatisticTests]:
        """Yield the tests by Wasserstein, if they are asked for."""
        if self._w1 is not None:
            usable = self._several & (self._sd[self._features] > 0)
            yield self._tests("wasserstein", self._w1, self._features[usable], self._sees_from[usable])

    def _tests(
        self, name: str, found: Distance, features: IntArray, sees_from: FloatArray, certain: BoolArray | None = None
    ) -> StatisticTests:
        values = found.value[features]
        return StatisticTests(
            Share.DISTRIBUTION, name, features, values, values, self._events[features], self._law,
            found.error[features], sees_from, certain,
        )  # fmt: skip

    def _law(self, f: int) -> Law:
        return Law(lambda: self._p_value(f), lambda rate, panes: self._level(f, rate, panes))

    def _p_value(self, f: int) -> float:
        found = self._known.get(f)
        if found is None:
            found = self._known[f] = min(max(self._computed(f), self.size(f).least), 1.0)
        return found

    def _computed(self, f: int) -> float:
        r, n, at = self._references[f], self._numbers[f], self.size(f)
        ks = None if self._ks is None else float(self._ks.value[f])
        if self._laws[f].constant:
            return rate_p_value(round((ks or 0.0) * n), n, 0, r.rows, at.phi)
        w1 = self._w1 if self._sd[f] > 0 else None
        inner = math.nan if w1 is None else float(w1.inner[f])
        p = at.law.p_value(ks, inner if math.isfinite(inner) else None, at.size)
        beyond = 0 if w1 is None else int(w1.beyond[f])
        if beyond:
            p = min(p * _MIDDLE, _BEYOND * rate_p_value(beyond, n, r.outside, r.rows, at.phi))
        return p

    def _level(self, f: int, rate: float, panes: int) -> float:
        if self._laws[f].constant:
            return rate
        joint = self._ks is not None and self._w1 is not None and self._sd[f] > 0
        return self.size(f).law.level(rate, panes, joint=bool(joint))
