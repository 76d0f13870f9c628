"""p-values and critical values.

The null hypothesis is always that window and reference come from the same distribution. With overdispersion φ
(`dispersion`), n events carry as much information as n/φ independent ones: the effective size. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from detectors.types import FloatArray

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


def deviation_scores(
    hits: FloatArray,
    n: FloatArray | float,
    reference_hits: FloatArray,
    m: FloatArray | float,
    phi: FloatArray | float = 1.0,
) -> FloatArray:
    """Compute how far rates, `hits` of n, lie from those of the reference, as standard normal scores.

    Given its sum, each hit fell into the window with probability n / (n + m). The scores are those of the mid-p-values
    of this binomial law (Lancaster, 1961), which is exact for rare hits, times what makes its variance that of the
    hypergeometric law where they are frequent.

    Args:
        hits: Hits among the events of the window.
        n: Events of the window, above 0; one number for all, or one for each.
        reference_hits: Hits among the rows of the reference.
        m: Rows of the reference, likewise.
        phi: Overdispersion of the hits.

    Returns:
        Scores, above 0 where the window has more hits than expected.
    """
    both = np.asarray(hits, np.float64) + reference_hits
    frequent = np.clip(both / (n + m), 0.0, 1.0)
    # The rarer of the two, hits or events without one.
    flipped = frequent > 0.5
    rarer = np.where(flipped, n - hits, hits) / phi
    total = np.where(flipped, n + m - both, both) / phi
    rare, sampled = np.minimum(frequent, 1 - frequent), n / (n + m)
    # Either margin may be taken for the draws: that of the smaller fraction is nearer to the binomial law.
    by_window = sampled < rare
    share = np.where(by_window, rare, sampled)
    k, rest = np.maximum(rarer, 0.0), np.maximum(np.where(by_window, n / phi, total) - rarer, 0.0)
    at_least = np.where(k > 0, special.betainc(np.maximum(k, 1e-9), rest + 1, share), 1.0)
    above = np.where(rest > 0, special.betainc(k + 1, np.maximum(rest, 1e-9), share), 0.0)
    upper = (at_least + above) / 2
    low = ~(upper < 0.5)
    with np.errstate(divide="ignore"):
        score = -special.ndtri(upper)
        # The smaller tail is computed by itself: as what the other one leaves it would be a rounding error.
        score[low] = special.ndtri(_lower(k[low], rest[low], share[low]))
    score = np.where(total > 0, score, 0.0) / np.sqrt(1 - np.minimum(rare, sampled))
    result: FloatArray = np.where(flipped, -score, score)
    return result


def _lower(k: FloatArray, rest: FloatArray, share: FloatArray) -> FloatArray:
    """Return the lower tail of binomial laws, with half of the probability of what came."""
    at_most = np.where(rest > 0, special.betaincc(k + 1, np.maximum(rest, 1e-9), share), 1.0)
    below = np.where(k > 0, special.betaincc(np.maximum(k, 1e-9), rest + 1, share), 0.0)
    result: FloatArray = (at_most + below) / 2
    return result


def rate_change_p_value(hits: float, n: float, reference_hits: float, m: float, phi: float = 1.0) -> float:
    """Compute the two-sided mid-p-value of a rate against one of the reference; arguments as `deviation_scores`."""
    if hits + reference_hits <= 0 or hits + reference_hits >= n + m:
        return 1.0
    score = deviation_scores(np.array([hits]), n, np.array([reference_hits]), m, phi)
    return float(min(2 * special.ndtr(-abs(score[0])), 1.0))


def mean_p_value(excess: float, variance: float, n: float) -> float:
    """Compute the one-sided p-value of an estimate by Student's t distribution.

    It is exact for means of normal values and a good approximation for means of many values.

    Args:
        excess: How far the estimate lies beyond the value of the null hypothesis, in the direction tested.
        variance: Variance of the estimate, in squared units of `excess`.
        n: Number of values behind the estimate, or effective number.

    Returns:
        The p-value; 1 with fewer than two values or without a finite variance.
    """
    if n < 2 or not np.isfinite(variance) or not np.isfinite(excess):
        return 1.0
    if variance <= 0:
        return 0.0 if excess > 0 else 1.0
    return float(special.stdtr(n - 1, -excess / np.sqrt(variance)))


def normal_score(score: float, freedom: float) -> float:
    """Return the normal score that is as rare as a positive `score` of Student's law with so many degrees of freedom.

    The approximation of Wallace (1959), which grows with the score however few degrees of freedom there are.
    """
    shrunk = np.sqrt(freedom * np.log1p(score * score / freedom))
    return float(shrunk * (8 * freedom + 1) / (8 * freedom + 3))
