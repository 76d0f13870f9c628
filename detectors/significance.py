"""p-values, critical values, and what a false-alarm budget leaves for one check.

All sizes here are effective: a window of n events of a stream with overdispersion φ tells as much as n/φ
independent ones (`dispersion`). Pure.
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

BLIND_ABOVE = 0.8  # a KS check that needs more than this sees nothing but the end of the world
_EXACT_UP_TO = 5_000  # `kstwo.sf` costs milliseconds beyond, where its limit law is within 3 % at 1e-9


def pair_size(n: float, m: float, phi: float = 1.0) -> float:
    """Effective size of a comparison of n with m events: their harmonic mean, halved, over φ."""
    return n * m / (n + m) / phi if n > 0 and m > 0 else 0.0


def least_p_value(n: float, m: float) -> float:
    """The smallest p-value that two samples of n and m can show: that of samples which do not overlap at all.

    There are C(n+m, n) ways to deal out the ranks, and two of them separate the samples. Statistics that take one
    side for known exactly promise far less where a stream is so autocorrelated that few effective events are left.
    """
    ways = math.lgamma(n + m + 1) - math.lgamma(n + 1) - math.lgamma(m + 1)
    return min(2.0 * math.exp(-ways), 1.0)


def ks_p_value(statistic: float, size: float) -> float:
    """P(D ≥ statistic) where nothing has changed, for an effective `pair_size`.

    Simard & L'Ecuyer (2011) through scipy for small sizes, beyond that Kolmogorov's limit law with the
    correction of Stephens (1970). Ties make it conservative.
    """
    if size < 1:
        return 1.0
    if size <= _EXACT_UP_TO:
        return float(stats.kstwo.sf(statistic, round(size)))
    root = np.sqrt(size)
    return float(special.kolmogorov((root + 0.12 + 0.11 / root) * statistic))


def ks_critical(level: float, size: float) -> float:
    """The smallest statistic whose p-value is at most `level`; infinite where no statistic can reach it."""
    if size < 1:
        return np.inf
    # Three significant digits, rounded down, so that windows of about the same size share an entry.
    step = 10 ** max(int(np.floor(np.log10(size))) - 2, 0)
    return _ks_critical(level, int(size // step * step))


@lru_cache(maxsize=65536)
def _ks_critical(level: float, size: int) -> float:
    if size <= _EXACT_UP_TO:
        return float(stats.kstwo.isf(level, size))
    root = np.sqrt(size)
    return float(special.kolmogi(level) / (root + 0.12 + 0.11 / root))


def chi_square_p_value(statistic: float, df: int, phi: float = 1.0) -> float:
    """P(χ² ≥ statistic / φ); 1 where there are no degrees of freedom."""
    return float(special.chdtrc(df, statistic / phi)) if df > 0 else 1.0


def psi_p_value(psi: float, bins: int, n: float, m: float, phi: float = 1.0) -> float:
    """Yurdakul (2018): PSI / (1/n + 1/m) is χ² with one degree of freedom less than bins."""
    size = pair_size(n, m, phi)
    return chi_square_p_value(psi * size, bins - 1)


def rate_p_value(hits: float, n: float, reference_hits: float, m: float, phi: float = 1.0) -> float:
    """Two-sided p-value for `hits` of n against `reference_hits` of m.

    Given their sum, each hit fell into the window with probability n / (n + m): a binomial law, exact for
    rare hits and conservative for frequent ones.
    """
    total = (hits + reference_hits) / phi
    if total <= 0 or n <= 0 or m <= 0:
        return 1.0
    share, k = n / (n + m), hits / phi
    at_least = special.betainc(k, total - k + 1, share) if k > 0 else 1.0
    at_most = special.betaincc(k + 1, total - k, share) if total > k else 1.0
    return float(min(1.0, 2 * min(at_least, at_most)))


def share_p_value(hits: float, n: float, share: float, *, above: bool) -> float:
    """P(a share at least (`above`) or at most as extreme as hits/n) where the true one is `share`.

    The binomial tail, which makes the bound behind it that of Clopper & Pearson (1934).
    """
    if n <= 0:
        return 1.0
    share = min(max(share, 0.0), 1.0)
    if above:
        return float(special.betainc(hits, n - hits + 1, share)) if hits > 0 else 1.0
    return float(special.betaincc(hits + 1, n - hits, share)) if hits < n else 1.0


def two_shares_p_value(hits: float, n: float, base_hits: float, base_n: float, *, above: bool) -> float:
    """One-sided p-value of hits/n against base_hits/base_n, where both are samples of one share.

    Given the sum of the rarer kind of event, each fell into the window with probability n / (n + base_n).
    """
    if n <= 0 or base_n <= 0:
        return 1.0
    if 2 * (hits + base_hits) > n + base_n:
        return two_shares_p_value(n - hits, n, base_n - base_hits, base_n, above=not above)
    return share_p_value(hits, hits + base_hits, n / (n + base_n), above=above)


def mean_p_value(excess: float, variance: float, n: int) -> float:
    """P(an estimate lies `excess` or more beyond the truth), for an estimate with this variance of n values.

    Student's law: exact for means of normal values, good for means of many.
    """
    if n < 2 or not np.isfinite(variance) or not np.isfinite(excess):
        return 1.0
    if variance <= 0:
        return 0.0 if excess > 0 else 1.0
    return float(special.stdtr(n - 1, -excess / np.sqrt(variance)))


class WassersteinLaw:
    """Null law of √(nm/(n+m)) · W1 of each feature, in standard deviations of its reference.

    The limit is ∫|B(F(x))|dx with B a Brownian bridge. It is simulated once per feature on the grid of its
    reference; beyond the simulated quantiles the tail of a Gaussian with the limit's largest variance,
    Var(X), is an upper bound, because Φ⁻¹ of the law is concave (Ehrhard, 1983; Borell, 1975).
    """

    PATHS = 4000
    GRID = 256
    _LEVELS = np.array([0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005])

    def __init__(self, references: Sequence[NumericReference]) -> None:
        steps = np.array([_quantile_steps(r, self.GRID) for r in references]).reshape(len(references), self.GRID)
        # One set of paths with a fixed seed: the same data always give the same p-value.
        bridges = _bridges(self.PATHS, self.GRID)
        simulated = bridges @ steps.T
        self._scores = special.ndtri(1 - self._LEVELS)
        self._quantiles = np.quantile(simulated, 1 - self._LEVELS, axis=0).T
        # How far one event between the outermost points can lie from the mean, in deviations.
        self._reach = [
            float(max(r.points[-1] - r.mean, r.mean - r.points[0]) / r.sd) if r.sd > 0 else 0.0 for r in references
        ]

    def p_value(self, feature: int, distance: float, size: float) -> float:
        """P(W1 ≥ distance) for an effective `pair_size`; at most ½, which is all that a verdict needs."""
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
    """|B(t)| on the middles of `grid` equal steps."""
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((paths, 2 * grid)) / np.sqrt(2 * grid), axis=1)
    t = np.arange(1, 2 * grid + 1) / (2 * grid)
    result: FloatArray = np.abs((walk - t * walk[:, -1:])[:, 0::2])
    return result


def _quantile_steps(r: NumericReference, grid: int) -> FloatArray:
    """How far the reference's quantile function rises over each of `grid` equal steps, in its deviations."""
    if r.sd <= 0:
        return np.zeros(grid)
    ends = np.cumsum(r.weights) / r.weights.sum()
    # The rise between two points happens where the distribution function has the value between them.
    where = np.minimum((ends[:-1] * grid).astype(np.int64), grid - 1)
    return np.bincount(where, np.diff(r.points / 2) / r.sd * 2, minlength=grid).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Budget:
    """How often the whole monitor of a model may raise a false alarm, and what that leaves for one test.

    `checks` is how many checks happen while one false alarm is allowed (the mean number between false
    alarms); `tests` is how many tests share it: features × detectors × versions, and rules.
    """

    checks: float
    tests: int

    @property
    def level(self) -> float:
        """p-value at which one test alarms. Successive windows overlap, which makes this conservative."""
        return 1 / max(self.checks * self.tests, 1.0)
