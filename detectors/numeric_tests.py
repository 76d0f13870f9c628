"""Tests of the numeric features of a window: their laws are made when they are first needed, and kept.

Pure. Called by `comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from detectors.bridge_law import BridgeLaw
from detectors.feature_tests import FeatureTest, Share
from detectors.numeric import Transport
from detectors.reference import NumericReference
from detectors.significance import least_p_value, pair_size, rate_p_value
from detectors.types import FloatArray

BLIND_ABOVE = 0.8  # a KS test with a larger critical value detects only a nearly complete change
_MOST_SIZES = 64  # sizes of windows of which more than φ is kept
_PER_OCTAVE = 4  # sizes of windows of which φ is told apart
# Beyond the outermost points of a reference events are counted, whatever their distance: a test of its own, with a
# tenth of the share.
_BEYOND = 10.0
_MIDDLE = 1 / (1 - 1 / _BEYOND)


class WindowSize:
    """What does not depend on a window of one feature but on its number of events.

    Attributes:
        phi: Largest φ of any direction.
        size: `pair_size` of window and reference, as if events were independent.
        least: The `least_p_value` of the two.
    """

    def __init__(self, phi: float, n: int, rows: int, law: Callable[[], BridgeLaw]) -> None:
        """Start without the law, which is made when it is first needed."""
        self.phi, self.size, self._law = phi, pair_size(n, rows), law
        self.least = least_p_value(n / phi, rows / phi)

    @cached_property
    def law(self) -> BridgeLaw:
        """The law of the statistics."""
        return self._law()

    def blind(self, alpha: float) -> bool:
        """Tell whether only a nearly complete change would be significant, by Kolmogorov's law."""
        critical = -math.log(alpha / 2) / 2 * self.phi / max(self.size, 1e-9) if alpha > 0 else math.inf
        return self.least > alpha or critical > BLIND_ABOVE**2


class NumericLaws:
    """The laws of the statistics of one feature, by window size."""

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

    def _law(self, phi: FloatArray) -> BridgeLaw:
        key = tuple(phi.tolist())
        found = self._laws.get(key)
        if found is None:
            learned = self._reference.dependence
            rows = learned.rows if learned.sizes else np.inf
            found = self._laws[key] = BridgeLaw(self._reference, phi, rows, self._between)
        return found


def distribution_tests(
    r: NumericReference, laws: NumericLaws, n: int, ks: float | None, w1: tuple[Transport, int] | None, ks_error: float
) -> Iterator[FeatureTest]:
    """Yield the tests by Kolmogorov-Smirnov and Wasserstein, which have one p-value.

    Args:
        r: The reference.
        laws: Its laws.
        n: Events of the window with a value.
        ks: Kolmogorov-Smirnov statistic; None where it is not asked for.
        w1: Wasserstein distances and the index of the feature among them; None where it is not asked for.
        ks_error: Bound on the error of `ks`.
    """
    constant, never = laws.constant, len(r.points) < 2
    at = laws.at(n, r.rows)
    beyond = 0 if w1 is None else int(w1[0].beyond[w1[1]])
    known: list[float] = []

    def p_value() -> float:
        if not known:
            known.append(min(max(_p_value(), at.least), 1.0))
        return known[0]

    def _p_value() -> float:
        if constant:
            return rate_p_value(round((ks or 0.0) * n), n, 0, r.rows, at.phi)
        inner = math.nan if w1 is None else float(w1[0].inner[w1[1]])
        p = at.law.p_value(ks, inner if math.isfinite(inner) else None, at.size)
        if beyond:
            p = min(p * _MIDDLE, _BEYOND * rate_p_value(beyond, n, r.outside, r.rows, at.phi))
        return p

    def level(rate: float, panes: int) -> float:
        return rate if constant else at.law.level(rate, panes, joint=ks is not None and w1 is not None)

    blind = at.blind
    if ks is not None:
        yield FeatureTest(Share.DISTRIBUTION, r.name, "ks", ks, ks, n, p_value, level, ks_error, blind, certain=never)
    if w1 is not None and not never:
        distance, error = float(w1[0].value[w1[1]]), float(w1[0].error[w1[1]])
        yield FeatureTest(
            Share.DISTRIBUTION, r.name, "wasserstein", distance, distance, n, p_value, level, error, blind
        )
