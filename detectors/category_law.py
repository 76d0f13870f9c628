"""One test of a categorical feature: χ² over all categories, and the largest deviation of any single one.

A rare category that grows tenfold hardly moves χ², which pools it; and a small change of all of them moves no single
one much. The smaller of both p-values is held against how often the smaller of two is so small. Dependence makes χ² a
sum of squares with unequal weights (Rao & Scott, 1981), and the events of a category count as so many fewer. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize, special

from detectors.categorical import Homogeneity, homogeneity
from detectors.significance import deviation_scores, normal_score
from detectors.types import BoolArray, FloatArray, IntArray

_OF_SCALE: Final = 2.0  # degrees of freedom in the estimate of a variance are rows / φ, divided by this


@dataclass(frozen=True, slots=True)
class CategoryTest:
    """What one window came to.

    Attributes:
        statistic: Pearson's χ² of the categories that are frequent enough for it.
        effect: Cramér's V at equal sizes: of all categories, small ones as one, or of the one that deviates most.
        weights: Weights of the squares of normal variables, whose sum has the law of `statistic`; shape (df,).
        least: The smallest p-value of a single category, corrected for their number.
        categories: Number of categories.
        freedom: Degrees of freedom of the estimates of φ; infinite where there are none.
    """

    statistic: float
    effect: float
    weights: FloatArray
    least: float
    categories: int
    freedom: float

    @property
    def times(self) -> float:
        """How many times as often the smaller of both p-values is small: of two categories they are the same.

        2 − 2.4/k is what simulations of 3 to 30 categories come to, alike or not, at p = .01 to .0001.
        """
        return 2.0 - 2.4 / self.categories if len(self.weights) and self.categories > 2 else 1.0

    def p_value(self) -> float:
        """Compute the p-value."""
        of_all = weighted_chi_square_p_value(self.statistic, self.weights)
        smaller = of_all if self.categories <= 2 and len(self.weights) else min(of_all, self.least)
        p = min(smaller * self.times, 1.0)
        if not np.isfinite(self.freedom) or not 0 < p < 0.5:
            return p
        u = -special.ndtri(p)
        return float(special.ndtr(-normal_score(u, self.freedom)))

    def score(self, p: float) -> float:
        """Return the threshold with this p-value in standard deviations, as the overlap of windows takes it."""
        p = p / self.times
        if len(self.weights) < 2:
            return float(-special.ndtri(p / 2))
        total, squares = float(self.weights.sum()), float((self.weights**2).sum())
        df = total * total / squares
        # The tail of a χ of df variables falls more slowly than that of one at the same distance.
        return float(np.sqrt(max(special.chdtri(df, p) - max(df - 2, 0.0), 1.0)))


@dataclass(frozen=True, slots=True)
class Overdispersion:
    """What is known of how categories depend on each other.

    Attributes:
        phi: φ of each category, shape (k,).
        together: φ of the directions in which they move most together, shape (directions,); none where not known.
        rows: Rows from which it was learned; infinite where it is no estimate.
    """

    phi: FloatArray
    together: FloatArray
    rows: float


def category_test(
    reference: FloatArray, window: FloatArray, learned: Overdispersion, noise: float = 0.0
) -> CategoryTest:
    """Compare the rows that a reference lets expect with the events that came.

    Args:
        reference: Expected rows per category, shape (k,); the last is that of all others.
        window: Events per category, shape (k,).
        learned: Overdispersion of each, and of all together.
        noise: What the estimate of the last of `reference` adds to its overdispersion.
    """
    phi = learned.phi.copy()
    phi[-1] += noise
    present = reference + window > 0
    reference, window, phi = reference[present], window[present], phi[present]
    h = homogeneity(reference, window)
    n, m = float(window.sum()), float(reference.sum())
    scores = np.abs(deviation_scores(window, n, reference, m, phi))
    count = len(reference)
    most = int(np.argmax(scores)) if count else 0
    least = float(min(2.0 * special.ndtr(-scores[most]) * count, 1.0)) if count > 1 else 1.0
    p, q = reference[most] / m, window[most] / n
    alone = np.sqrt(((p - q) ** 2 / (p + q) + (p - q) ** 2 / max(2 - p - q, 1e-12)) / 2) if p + q > 0 else 0.0
    largest = float(np.max([*phi, *learned.together]))
    freedom = max(learned.rows / largest / _OF_SCALE, 3.0) if largest > 1 else np.inf
    weights = _weights(h, reference + window, phi, learned.together)
    return CategoryTest(h.statistic, max(h.effect, float(alone)), weights, least, count, freedom)


def _weights(h: Homogeneity, total: FloatArray, phi: FloatArray, together: FloatArray) -> FloatArray:
    """Return the generalised design effects of a χ² test over groups of categories (Rao & Scott, 1981).

    Their sum follows from φ of each group; those of the directions that are known are taken out of it.
    """
    if h.df < 1:
        return np.zeros(0)
    grouped, of_group = _grouped(total, phi, h.group)
    known = together[: h.df]
    if (of_group == of_group[0]).all() and (known <= of_group[0]).all():
        return np.full(h.df, of_group[0])
    if len(known):
        left = float(((1 - grouped / grouped.sum()) * of_group).sum() - known.sum())
        rest = max(left / (h.df - len(known)), 1.0) if h.df > len(known) else 1.0
        return np.append(np.maximum(known, rest), np.full(h.df - len(known), rest))
    side = np.sqrt(grouped / grouped.sum() * of_group)
    found = np.linalg.eigvalsh(np.diag(of_group) - np.outer(side, side))[1:]
    result: FloatArray = np.maximum(found, 1e-6)
    return result


def _grouped(total: FloatArray, phi: FloatArray, group: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return events and mean φ of each group; a group below 0 is none."""
    held: BoolArray = group >= 0
    at = group[held]
    sums = np.bincount(at, total[held]).astype(np.float64)
    return sums, np.bincount(at, total[held] * phi[held]) / sums


def weighted_chi_square_p_value(statistic: float, weights: FloatArray) -> float:
    """Compute P(Σ wᵢ Zᵢ² ≥ statistic) of independent standard normal Zᵢ, by a saddlepoint (Kuonen, 1999).

    Args:
        statistic: The statistic.
        weights: The weights, shape (df,); equal ones give the χ² law itself, none give 1.
    """
    if not len(weights) or statistic <= 0:
        return 1.0
    mean = float(weights.sum())
    if float(weights.max() - weights.min()) < 1e-9 * mean or len(weights) == 1:
        return float(special.chdtrc(len(weights), statistic / weights[0]))
    if abs(statistic - mean) < 1e-3 * mean:
        squares = float((weights**2).sum())
        return float(special.chdtrc(mean * mean / squares, statistic * mean / squares))

    def slope(z: float) -> float:
        return float((weights / (1 - 2 * z * weights)).sum()) - statistic

    edge = 1 / (2 * float(weights.max()))
    low, high = (0.0, edge * (1 - 1e-12)) if statistic > mean else (-len(weights) / statistic, 0.0)
    z = optimize.brentq(slope, low, high, xtol=1e-14 * edge)
    generating = -0.5 * float(np.log1p(-2 * z * weights).sum())
    w = np.sign(z) * np.sqrt(max(2 * (z * statistic - generating), 1e-300))
    v = z * np.sqrt(2 * float((weights**2 / (1 - 2 * z * weights) ** 2).sum()))
    return float(np.clip(special.ndtr(-(w + np.log(v / w) / w)), 0.0, 1.0))
