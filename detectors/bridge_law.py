"""The law of the Kolmogorov-Smirnov and Wasserstein statistics of one feature, with its own ties and dependence.

√(nm/(n+m)) times the difference of two empirical distribution functions F has a Gaussian limit B with the covariance
Γ(x, y) = rest · [F(x∧y) − F(x)F(y)] + Σ (φⱼ − rest) cⱼ(x) cⱼ(y), where cⱼ(x) = E[1(X ≤ x) hⱼ(X)] of the scores hⱼ of
`dependence`: with all φ = 1 a Brownian bridge. Paths of B at some points of the reference give the joint law of max|B|,
that of Kolmogorov-Smirnov, and of ∫|B(x)|dx, that of Wasserstein (del Barrio, Giné & Matrán, 1999). So both
are one test: its p-value is the smaller of two, held against the law of the smaller. Pure.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from scipy import special

from detectors.dependence import SCORES
from detectors.directions import directions
from detectors.law_numbers import LawNumbers
from detectors.overlap import level_of_score
from detectors.reference import NumericReference
from detectors.significance import normal_score
from detectors.types import BoolArray, FloatArray, IntArray, SingleArray

_PATHS: Final = 8_000
_TAIL: Final = 0.01  # from this probability on, the tail of a Gaussian goes on from the simulated quantiles
_PROBABILITIES: Final = np.geomspace(1.0, _TAIL, 65)  # of the quantiles that are kept
# Shares of the rows between which paths are simulated: finer in the tails, where the mass of heavy ones lies.
_FINE: Final = np.array([2.0**-11, 2.0**-10, 2.0**-9, 2.0**-8, 2.0**-7])
_SHARES: Final = np.sort(np.concatenate([_FINE, np.arange(1, 64) / 64, 1 - _FINE]))
_POINTS: Final = 127  # up to so many distinct values all of them are simulated
# The smaller of two p-values is twice as often small at most, and the more nearly the smaller they are: measured on
# normal, exponential, lognormal and uniform laws, by so much per power of ten.
_APART_PER_DECADE: Final = 0.1
_MOST_LEVELS: Final = 64  # solved ones that are kept
_OF_SCALE: Final = 2.0  # degrees of freedom in the estimate of a variance are rows / φ, divided by this


class BridgeLaw:
    """The joint null law of both statistics of one feature, for windows of about one size.

    Attributes:
        largest: Largest standard deviation of B; 0 where all values are equal.
    """

    def __init__(
        self,
        r: NumericReference,
        phi: FloatArray,
        rows: float,
        between: FloatArray | None = None,
        known: LawNumbers | None = None,
    ) -> None:
        """Simulate the law, or take its numbers.

        Args:
            r: The reference.
            phi: φ of each direction, the last of all others; shape (scores + 1,).
            rows: Rows behind `phi`; infinite where it is no estimate.
            between: Where the season is known, how its parts differ, as for `directions`.
            known: `numbers` of the same law, if they are known.
        """
        self._few = len(r.points) <= _POINTS + 1
        self._reach = float(max(r.points[-1] - r.mean, r.mean - r.points[0]) / r.sd) if r.sd > 0 else 0.0
        self._phi, self._largest_phi = tuple(phi.tolist()), float(phi.max())
        self._freedom = max(rows / self._largest_phi / _OF_SCALE, 3.0) if self._largest_phi > 1 else np.inf
        self._levels: dict[tuple[float, int, bool], float] = {}
        if known is not None:
            self.largest, self.widest, self._lump = known.largest, known.widest, known.lump
            self._skew, self._apart = known.skew, known.apart
            self._ks, self._w1 = known.ks, known.w1
            return
        total = np.cumsum(r.weights)
        at = _places(r.weights)
        self._f: FloatArray = total[at] / max(float(total[-1]) if len(total) else 1.0, 1e-300)
        scores, own = directions(r.weights.astype(np.float64), phi, between)
        rest = float(phi[-1])
        share = r.weights / max(float(np.sum(r.weights)), 1.0)
        self._c: FloatArray = np.cumsum(scores[:, : len(own)] * share[:, None], axis=0)[at]
        self._rest, self._excess = rest, own - rest
        variance = np.maximum(rest * self._f * (1 - self._f) + (self._c**2) @ self._excess, 0.0)
        self.largest = float(np.sqrt(variance.max())) if len(at) else 0.0
        self._skew = 0.0
        if len(at):
            f = float(self._f[int(np.argmax(variance))])
            self._skew = abs(1 - 2 * f) / (f * (1 - f))  # a deviation of one event, over the variance of all
        area = _areas(r, total, self._f) if len(at) else np.zeros(0)
        self.widest, widest_phi = self._widest(area, phi)
        # Events come in clusters of φ: so much more of the variance is carried by a single one.
        self._lump = widest_phi / max(self.widest**2, 1.0)
        self._ks = self._w1 = np.zeros(len(_PROBABILITIES))
        self._apart = 1.0
        if len(at):
            smooth = np.diff(np.concatenate([[-1], at, [len(r.points) - 1]])) > 1
            self._simulate(area, smooth)

    @property
    def numbers(self) -> LawNumbers:
        """Return the numbers of the law, by which another one can be made."""
        return LawNumbers(
            self._phi, self.largest, self.widest, self._lump, self._skew, self._apart, self._ks, self._w1
        )  # fmt: skip

    def _widest(self, area: FloatArray, phi: FloatArray) -> tuple[float, float]:
        """Return the largest standard deviation of ∫s(x)B(x)dx over patterns of signs s, and φ of its direction.

        Where B moves as a whole all signs are alike. A spread that wanders moves the two sides against each other,
        which no integral without signs shows.
        """
        if not len(area):
            return 0.0, 1.0
        plain = self._area_variance(area)
        widest, of = plain, float(phi[0])
        for j in np.flatnonzero(self._excess > 0):
            found = self._area_variance(area * np.where(self._c[:, j] < 0, -1.0, 1.0))
            if found > widest:
                widest, of = found, float(self._excess[j] + self._rest)
        return float(np.sqrt(max(widest, 0.0))), of

    def _area_variance(self, area: FloatArray) -> float:
        """Return the variance of the sum of B at the simulated points, weighted by signed areas."""
        f = self._f
        # w'(min(f, f') − ff')w by running sums, from the smaller of the two on.
        after = np.cumsum(area[::-1])[::-1]
        bridge = float((area * f) @ (2 * after - area) - (area @ f) ** 2)
        return self._rest * bridge + float(((area @ self._c) ** 2) @ self._excess)

    def _simulate(self, area: FloatArray, smooth: BoolArray) -> None:
        """Simulate paths, of which the quantiles of both statistics and their joint law are kept."""
        noise, scores, between = _draws()
        width = np.diff(np.concatenate([[0.0], self._f, [1.0]])).astype(np.float32)
        walk = np.cumsum(noise[:, : len(width)] * np.sqrt(width), axis=1)
        b = walk[:, :-1] - self._f.astype(np.float32) * walk[:, -1:]
        if self._rest != 1:
            b *= np.float32(np.sqrt(self._rest))
        more, less = np.flatnonzero(self._excess > 0)[:SCORES], np.flatnonzero(self._excess < 0)
        if len(more):
            grown = np.sqrt(self._excess[more])[:, None] * self._c.T[more]
            b += scores[:, : len(more)] @ grown.astype(np.float32)
        if len(less):
            # Of what varies less than the rest, so much of the path's own score is taken out of it.
            part = 1 - np.sqrt(np.maximum(1 + self._excess[less] / self._rest, 0.0))
            c = self._c[:, less]
            steps = np.diff(c, axis=0, prepend=0.0, append=0.0) / np.maximum(width, 1e-9)[:, None]
            own = (noise[:, : len(width)] * np.sqrt(width * self._rest)) @ steps.astype(np.float32)
            b -= own @ (part[:, None] * c.T).astype(np.float32)
        np.abs(b, out=b)
        areas = b @ area.astype(np.float32)
        highest = b.max(axis=1)
        if smooth.any():
            # The largest value of a bridge between two points, given both (e.g. Karatzas & Shreve, 1991).
            ends = np.zeros((len(b), b.shape[1] + 2), np.float32)
            ends[:, 1:-1] = b
            left, right = ends[:, :-1][:, smooth], ends[:, 1:][:, smooth]
            spread = (width * np.float32(self._rest))[smooth] * between[:, : len(width)][:, smooth]
            inside = (left + right + np.sqrt((left - right) ** 2 + spread)) / 2
            highest = np.maximum(highest, inside.max(axis=1))
        self._ks, self._w1 = _quantiles(highest), _quantiles(areas)
        if self.widest > 0:
            both = (highest >= self._ks[-1]) | (areas >= self._w1[-1])
            self._apart = max(float(both.mean()) / _TAIL, 1.0)

    # -- p-values ----------------------------------------------------------------------------------------

    def p_value(self, ks: float | None, w1: float | None, size: float) -> float:
        """Compute the p-value of one or both statistics together.

        Args:
            ks: Kolmogorov-Smirnov statistic, 0 to 1.
            w1: Wasserstein distance between the outermost points, in standard deviations of the reference.
            size: `pair_size` of window and reference, as if events were independent.
        """
        if self.largest <= 0 or size < 1:
            return 1.0
        of_ks = 1.0 if ks is None else self._of_ks(ks, size)
        of_w1 = 1.0 if w1 is None or self.widest <= 0 else self._of_w1(w1, size)
        smaller = min(of_ks, of_w1)
        if ks is None or w1 is None or self.widest <= 0:
            return smaller
        return min(smaller * self._times(smaller), 1.0)

    def _times(self, p: float) -> float:
        """Return how many times as often the smaller of both p-values is at most p as one of them is."""
        decades = np.log10(_TAIL / max(p, 1e-300))
        return float(np.clip(self._apart + _APART_PER_DECADE * decades, 1.0, 2.0))

    def _of_ks(self, ks: float, size: float) -> float:
        # Stephens (1970): in small samples the statistic is a little smaller than its limit.
        root = np.sqrt(max(size / self._largest_phi, 1.0))
        value = np.sqrt(size) * ks * (1 + (0.12 + 0.11 / root) / root)
        value = _as_normal(value, 0.0, self._skew, size)
        return _tail(self._shrunk(value, self.largest), self._ks, self.largest, rough=True)

    def _of_w1(self, w1: float, size: float) -> float:
        # Of few values the rarest may have a handful of events in a window, so the middle is not normal either.
        normal = 0.0 if self._few else float(self._w1[len(self._w1) // 2])
        value = _as_normal(float(np.sqrt(size)) * w1, normal, self._reach * self._lump, size)
        return _tail(self._shrunk(value, self.widest), self._w1, self.widest, rough=False)

    def _shrunk(self, value: float, deviation: float) -> float:
        """Return the value that is as rare where φ is known as `value` is where it is an estimate: Student's tail."""
        if not np.isfinite(self._freedom):
            return value
        return normal_score(value / deviation, self._freedom) * deviation

    # -- levels ------------------------------------------------------------------------------------------

    def level(self, rate: float, panes: int, *, joint: bool) -> float:
        """Return the level of single checks that gives so many alarms per check.

        Args:
            rate: Allowed number of alarms per check.
            panes: Panes in a window, which slides on by one.
            joint: Whether both statistics are tested; otherwise one.
        """
        key = (rate, panes, joint)
        found = self._levels.get(key)
        if found is None:
            if len(self._levels) >= _MOST_LEVELS:
                self._levels.clear()
            found = self._levels[key] = level_of_score(rate, panes, lambda p: self._score(p, joint=joint))
        return found

    def _score(self, p: float, *, joint: bool) -> float:
        """Return the value of Kolmogorov-Smirnov with this p-value, in largest standard deviations."""
        if self.largest <= 0:
            return float(-special.ndtri(p))
        if joint and self.widest > 0:
            p = p / self._times(p)
        if p >= _TAIL:
            return float(np.interp(-np.log(p), -np.log(_PROBABILITIES), self._ks)) / self.largest
        known = float(self._ks[-1]) / self.largest
        return float(np.sqrt(known**2 + 2 * np.log(_TAIL / p)))


def _as_normal(value: float, known: float, reach: float, size: float) -> float:
    """Shrink what is beyond `known` by Bernstein's inequality: few events may carry most of the variance."""
    if value <= known:
        return value
    excess = value - known
    return float(known + excess / np.sqrt(1 + reach * excess / (3 * np.sqrt(size))))


def _quantiles(simulated: FloatArray) -> FloatArray:
    # In the precision of the paths, so that what is saved with four bytes is the same.
    result: FloatArray = np.quantile(simulated, 1 - _PROBABILITIES).astype(np.float32).astype(np.float64)
    return result


def _tail(value: float, quantiles: FloatArray, deviation: float, *, rough: bool) -> float:
    """Return P(statistic ≥ value): as simulated, and as Gaussian tails fall beyond.

    The largest value of a path that is as rough as a Brownian one falls as exp(−x²/2σ²), an integral as the tail of one
    Gaussian (Piterbarg, 1996).
    """
    known = float(quantiles[-1])
    if value <= known:
        return float(np.exp(np.interp(value, quantiles, np.log(_PROBABILITIES), left=0.0)))
    x, x0 = value / deviation, known / deviation
    if rough:
        return float(_TAIL * np.exp(-(x * x - x0 * x0) / 2))
    return float(_TAIL * np.exp(special.log_ndtr(-x) - special.log_ndtr(-x0)))


@lru_cache(maxsize=1)
def _draws() -> tuple[SingleArray, SingleArray, SingleArray]:
    """Return steps of walks, normal numbers for the scores, and what the interpolation takes; with a fixed seed.

    One set of paths for all: the same data always give the same p-value.
    """
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((_PATHS, _POINTS + 1), dtype=np.float32)
    scores = rng.standard_normal((_PATHS, SCORES), dtype=np.float32)
    between = 2 * rng.standard_exponential((_PATHS, _POINTS + 1), dtype=np.float32)
    return steps, scores, between


def _places(weights: IntArray) -> IntArray:
    """Return the indices of the points at which paths are simulated, without the last."""
    if len(weights) <= _POINTS + 1:
        return np.arange(max(len(weights) - 1, 0))
    total = np.cumsum(weights)
    found = np.unique(np.searchsorted(total, _SHARES * total[-1]))
    result: IntArray = found[found < len(weights) - 1]
    return result


def _areas(r: NumericReference, total: IntArray, f: FloatArray) -> FloatArray:
    """Return the widths by which ∫|B|dx is a sum over the simulated points, in standard deviations."""
    if r.sd <= 0:
        return np.zeros(len(f))
    width = np.diff(r.points / 2) / r.sd * 2  # halved first: the distance of two may exceed the largest float
    at = total[:-1] / total[-1]
    before = np.searchsorted(f, at, side="right") - 1
    low, high = before < 0, before >= len(f) - 1
    middle = ~(low | high)
    left = before[middle]
    share = (at[middle] - f[left]) / (f[left + 1] - f[left])
    areas = np.bincount(left, width[middle] * (1 - share), minlength=len(f)).astype(np.float64)
    areas += np.bincount(left + 1, width[middle] * share, minlength=len(f))
    # Towards its ends a bridge falls as the root of the share that is left.
    areas[0] += (width[low] * np.sqrt(at[low] / f[0])).sum()
    areas[-1] += (width[high] * np.sqrt((1 - at[high]) / (1 - f[-1]))).sum()
    return areas
