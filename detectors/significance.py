"""p-values and critical values.

The null hypothesis is always that window and reference come from the same distribution. With overdispersion φ
(`dispersion`), n events carry as much information as n/φ independent ones: the effective size. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special, stats

from detectors.reference import NumericReference
from detectors.types import FloatArray

BLIND_ABOVE = 0.8  # a KS test with a larger critical value detects only a nearly complete change
_EXACT_UP_TO = 5_000  # beyond this size `kstwo.sf` takes milliseconds, and the limit law is within 3 % at p = 1e-9


def pair_size(n: float, m: float, phi: float = 1.0) -> float:
    """Return the effective size of a comparison of n with m events: nm / (n + m) / φ.

    It is half their harmonic mean, divided by the overdispersion; 0 if either is 0.
    """
    return n * m / (n + m) / phi if n > 0 and m > 0 else 0.0


def least_p_value(n: float, m: float) -> float:
    """Return the smallest p-value that samples of n and m events can have: that of samples without overlap.

    There are C(n + m, n) ways to assign the ranks, and two of them separate the samples. Tests that treat one sample as
    known exactly give far smaller p-values if autocorrelation leaves few effective events.
    """
    ways = math.lgamma(n + m + 1) - math.lgamma(n + 1) - math.lgamma(m + 1)
    return min(2.0 * math.exp(-ways), 1.0)


def ks_p_value(statistic: float, size: float) -> float:
    """Compute the p-value of a two-sided Kolmogorov-Smirnov statistic; conservative if there are ties.

    For small sizes the law is exact (Simard & L'Ecuyer, 2011, by scipy); for larger ones it is Kolmogorov's limit law
    with the correction of Stephens (1970).

    Args:
        statistic: The statistic, 0 to 1.
        size: Effective `pair_size`.
    """
    if size < 1:
        return 1.0
    if size <= _EXACT_UP_TO:
        return float(stats.kstwo.sf(statistic, round(size)))
    root = np.sqrt(size)
    return float(special.kolmogorov((root + 0.12 + 0.11 / root) * statistic))


@dataclass(frozen=True, slots=True)
class KolmogorovLaw:
    """Hold what the p-value of a Kolmogorov-Smirnov test takes: computing it takes milliseconds.

    Attributes:
        size: Effective `pair_size` of window and reference.
        least: The `least_p_value` of the two samples.
    """

    size: float
    least: float

    def p_value(self, statistic: float) -> float:
        """Compute the p-value of a statistic, 0 to 1."""
        return max(ks_p_value(statistic, self.size), self.least)


def ks_critical(alpha: float, size: float) -> float:
    """Return the smallest Kolmogorov-Smirnov statistic whose p-value is at most `alpha`.

    Args:
        alpha: Significance level.
        size: Effective `pair_size`, of which three significant digits are used.

    Returns:
        The critical value; infinite if `size` is below 1.
    """
    if size < 1:
        return np.inf
    # Rounded down, so that windows of about the same size share an entry of the cache.
    step = 10 ** max(int(np.floor(np.log10(size))) - 2, 0)
    return _ks_critical(alpha, int(size // step * step))


@lru_cache(maxsize=65536)
def _ks_critical(alpha: float, size: int) -> float:
    if size <= _EXACT_UP_TO:
        return float(stats.kstwo.isf(alpha, size))
    root = np.sqrt(size)
    return float(special.kolmogi(alpha) / (root + 0.12 + 0.11 / root))


def chi_square_p_value(statistic: float, df: int, phi: float = 1.0) -> float:
    """Compute P(χ² ≥ statistic / φ) with df degrees of freedom; 1 if there are none."""
    return float(special.chdtrc(df, statistic / phi)) if df > 0 else 1.0


def psi_p_value(psi: float, bins: int, n: float, m: float, phi: float = 1.0) -> float:
    """Compute the p-value of a population stability index.

    PSI / (1/n + 1/m) has a chi-square law with bins - 1 degrees of freedom (Yurdakul, 2018).

    Args:
        psi: The index in nats.
        bins: Number of bins.
        n: Events of the window.
        m: Rows of the reference.
        phi: Overdispersion of the window.
    """
    size = pair_size(n, m, phi)
    return chi_square_p_value(psi * size, bins - 1)


def rate_p_value(hits: float, n: float, reference_hits: float, m: float, phi: float = 1.0) -> float:
    """Compute the two-sided p-value of a rate, `hits` of n, against one of the reference.

    Given their sum, each hit fell into the window with probability n / (n + m). This binomial law is exact for rare
    hits and conservative for frequent ones (Przyborowski & Wilenski, 1940).

    Args:
        hits: Hits among the events of the window.
        n: Events of the window.
        reference_hits: Hits among the rows of the reference.
        m: Rows of the reference.
        phi: Overdispersion of the window.
    """
    total = (hits + reference_hits) / phi
    if total <= 0 or n <= 0 or m <= 0:
        return 1.0
    share, k = n / (n + m), hits / phi
    at_least = special.betainc(k, total - k + 1, share) if k > 0 else 1.0
    at_most = special.betaincc(k + 1, total - k, share) if total > k else 1.0
    return float(min(1.0, 2 * min(at_least, at_most)))


def share_p_value(hits: float, n: float, share: float, *, above: bool) -> float:
    """Compute the one-sided binomial p-value of hits/n against a known share (Clopper & Pearson, 1934).

    Args:
        hits: Hits among the n events.
        n: Number of events.
        share: The share under the null hypothesis; clipped to 0 to 1.
        above: Whether larger shares than `share` are evidence against it; otherwise smaller ones are.
    """
    if n <= 0:
        return 1.0
    share = min(max(share, 0.0), 1.0)
    if above:
        return float(special.betainc(hits, n - hits + 1, share)) if hits > 0 else 1.0
    return float(special.betaincc(hits + 1, n - hits, share)) if hits < n else 1.0


def two_shares_p_value(hits: float, n: float, base_hits: float, base_n: float, *, above: bool) -> float:
    """Compute the one-sided p-value of hits/n against base_hits/base_n.

    Given the total of the rarer kind of event, each of them fell into the window with probability n / (n + base_n).

    Args:
        hits: Hits among the n events of the window.
        n: Number of events of the window.
        base_hits: Hits among the events of the baseline.
        base_n: Number of events of the baseline.
        above: Whether a larger share in the window is evidence of a change; otherwise a smaller one is.
    """
    if n <= 0 or base_n <= 0:
        return 1.0
    if 2 * (hits + base_hits) > n + base_n:
        return two_shares_p_value(n - hits, n, base_n - base_hits, base_n, above=not above)
    return share_p_value(hits, hits + base_hits, n / (n + base_n), above=above)


def mean_p_value(excess: float, variance: float, n: int) -> float:
    """Compute the one-sided p-value of an estimate by Student's t distribution.

    It is exact for means of normal values and a good approximation for means of many values.

    Args:
        excess: How far the estimate lies beyond the value of the null hypothesis, in the direction tested.
        variance: Variance of the estimate, in squared units of `excess`.
        n: Number of values behind the estimate.

    Returns:
        The p-value; 1 with fewer than two values or without a finite variance.
    """
    if n < 2 or not np.isfinite(variance) or not np.isfinite(excess):
        return 1.0
    if variance <= 0:
        return 0.0 if excess > 0 else 1.0
    return float(special.stdtr(n - 1, -excess / np.sqrt(variance)))


class WassersteinLaw:
    """Hold the null distribution of √(nm/(n+m)) · W1 of each feature, in standard deviations of its reference.

    The limit is ∫|B(F(x))|dx with a Brownian bridge B (del Barrio, Giné & Matrán, 1999). It is simulated once per
    feature. Beyond the simulated quantiles the tail of a Gaussian with the largest variance of the limit, Var(X), is an
    upper bound, because Φ⁻¹ of the distribution function is concave (Ehrhard, 1983; Borell, 1975).
    """

    PATHS = 4000
    GRID = 256
    _TAIL_PROBABILITIES = np.array([0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005])

    def __init__(self, references: Sequence[NumericReference]) -> None:
        """Simulate the distributions for these references."""
        steps = np.array([_quantile_steps(r, self.GRID) for r in references]).reshape(len(references), self.GRID)
        # One set of paths with a fixed seed: the same data always give the same p-value.
        bridges = _bridges(self.PATHS, self.GRID)
        simulated = bridges @ steps.T
        self._scores = special.ndtri(1 - self._TAIL_PROBABILITIES)
        self._quantiles = np.quantile(simulated, 1 - self._TAIL_PROBABILITIES, axis=0).T
        # Largest distance from the mean of an event between the outermost points, in standard deviations.
        self._reach = [
            float(max(r.points[-1] - r.mean, r.mean - r.points[0]) / r.sd) if r.sd > 0 else 0.0 for r in references
        ]

    def p_value(self, feature: int, distance: float, size: float) -> float:
        """Compute the p-value of a Wasserstein-1 distance, cut off at ½.

        Args:
            feature: Index of the feature among the references.
            distance: The distance in standard deviations of the reference.
            size: Effective `pair_size`.

        Returns:
            The p-value, or ½ if it is larger; 1 for an undefined distance.
        """
        if not np.isfinite(distance) or size <= 0:
            return 1.0
        z = np.sqrt(size) * distance
        known = self._quantiles[feature]
        if z <= known[-1]:
            return float(special.ndtr(-np.interp(z, known, self._scores, left=0.0)))
        # Bernstein's correction: where few events carry most of the variance, sums of n are not yet normal.
        excess = z - known[-1]
        excess /= np.sqrt(1 + self._reach[feature] * excess / (3 * np.sqrt(size)))
        return float(special.ndtr(-(self._scores[-1] + excess)))


@lru_cache(maxsize=1)
def _bridges(paths: int, grid: int) -> FloatArray:
    """Simulate |B(t)| at the middles of `grid` equal steps, shape (paths, grid)."""
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((paths, 2 * grid)) / np.sqrt(2 * grid), axis=1)
    t = np.arange(1, 2 * grid + 1) / (2 * grid)
    result: FloatArray = np.abs((walk - t * walk[:, -1:])[:, 0::2])
    return result


def _quantile_steps(r: NumericReference, grid: int) -> FloatArray:
    """Return the rise of the quantile function over each of `grid` equal steps, in standard deviations."""
    if r.sd <= 0:
        return np.zeros(grid)
    ends = np.cumsum(r.weights) / r.weights.sum()
    # Between two points the quantile function jumps where the distribution function has the value between them.
    where = np.minimum((ends[:-1] * grid).astype(np.int64), grid - 1)
    return np.bincount(where, np.diff(r.points / 2) / r.sd * 2, minlength=grid).astype(np.float64)
