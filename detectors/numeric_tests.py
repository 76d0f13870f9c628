"""Tests of the numeric features of a window: their laws are made when they are first needed, and kept.

Pure. Called by `comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np

from detectors.bridge_law import BridgeLaw
from detectors.feature_tests import FeatureTest, Share
from detectors.numeric import Transport
from detectors.reference import NumericReference
from detectors.significance import least_p_value, pair_size, rate_p_value
from detectors.types import FloatArray

BLIND_ABOVE = 0.8  # a KS test with a larger critical value detects only a nearly complete change
_PER_OCTAVE = 4  # sizes of windows of which φ is told apart
# Beyond the outermost points of a reference events are counted, whatever their distance: a test of its own, with a
# tenth of the share.
_BEYOND = 10.0
_MIDDLE = 1 / (1 - 1 / _BEYOND)


class NumericLaws:
    """The laws of the statistics of one feature, by window size."""

    def __init__(self, reference: NumericReference) -> None:
        """Start without laws."""
        self._reference = reference
        self._laws: dict[tuple[float, ...], BridgeLaw] = {}

    def phi(self, n: int) -> FloatArray:
        """Return φ of each direction for windows of about n events, the last of all others."""
        r = self._reference
        at = 2 ** (round(math.log2(max(n, 1)) * _PER_OCTAVE) / _PER_OCTAVE)
        return r.dependence.at(at) if r.dependence.sizes else np.array([r.dispersion.at(at)])

    def law(self, n: int) -> BridgeLaw:
        """Return the law for windows of n events."""
        phi = self.phi(n)
        key = tuple(phi.tolist())
        found = self._laws.get(key)
        if found is None:
            learned = self._reference.dependence
            found = self._laws[key] = BridgeLaw(self._reference, phi, learned.rows if learned.sizes else np.inf)
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
    constant = len(r.points) < 2
    phi = float(laws.phi(n).max())
    size = pair_size(n, r.rows)
    least = least_p_value(n / phi, r.rows / phi)
    inner = None if w1 is None else float(w1[0].inner[w1[1]])
    beyond = 0 if w1 is None else int(w1[0].beyond[w1[1]])

    @cache
    def p_value() -> float:
        if constant:
            return max(rate_p_value(round((ks or 0.0) * n), n, 0, r.rows, phi), least)
        p = laws.law(n).p_value(ks, inner if inner is not None and math.isfinite(inner) else None, size)
        if beyond:
            p = min(p * _MIDDLE, _BEYOND * rate_p_value(beyond, n, r.outside, r.rows, phi))
        return min(max(p, least), 1.0)

    def level(rate: float, panes: int) -> float:
        return rate if constant else laws.law(n).level(rate, panes, joint=ks is not None and w1 is not None)

    def blind(alpha: float) -> bool:
        return least > alpha or (not constant and laws.law(n).critical(alpha, size) > BLIND_ABOVE)

    if ks is not None:
        yield FeatureTest(
            Share.DISTRIBUTION, r.name, "ks", ks, ks, n, p_value, level, ks_error, blind, certain=constant
        )
    if w1 is not None and not constant:
        distance, error = float(w1[0].value[w1[1]]), float(w1[0].error[w1[1]])
        yield FeatureTest(
            Share.DISTRIBUTION, r.name, "wasserstein", distance, distance, n, p_value, level, error, blind
        )
