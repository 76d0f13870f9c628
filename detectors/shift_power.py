"""How small a shift of a numeric feature its tests find: in about every other window at this size.

A shift moves the values of the reference itself, so that what it does to the statistics follows from the reference's
own points. Where values tie, a shift would make values that never were; there the larger ones become more frequent
instead (exponential tilting). Statistics are taken at what is expected of them: at the threshold noise lifts as many
windows above it as it keeps below. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize

from detectors.bridge_law import BridgeLaw
from detectors.discrete import is_discrete
from detectors.reference import NumericReference
from detectors.significance import pair_size, rate_p_value
from detectors.types import FloatArray

_SHIFTS: Final[FloatArray] = np.geomspace(0.005, 8.0, 73)  # standard deviations
_TIED: Final = 0.05  # share of the rows on one value from which on a shift is no longer one
_FARTHEST: Final = 1e3  # standard deviations that a Wasserstein distance is sought up to
_BEYOND: Final = 10.0  # events beyond the outermost points have a tenth of the share, as in `numeric_tests`
_LEAST_P: Final = 1e-300


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the statistics of a window must reach; infinite where one cannot, or is not asked for.

    Attributes:
        ks: Kolmogorov-Smirnov statistic that is significant, 0 to 1.
        w1: Wasserstein distance that is, in standard deviations of the reference.
        beyond: Events beyond the outermost points that are.
        ks_effect: Smallest Kolmogorov-Smirnov statistic that counts.
        w1_effect: Smallest Wasserstein distance that counts.
    """

    ks: float
    w1: float
    beyond: float
    ks_effect: float
    w1_effect: float


def thresholds(
    r: NumericReference,
    law: BridgeLaw,
    n: int,
    phi: float,
    level: float,
    effects: tuple[float | None, float | None],
) -> Thresholds:
    """Solve for the smallest statistics that are significant.

    Args:
        r: The reference.
        law: The law of its statistics for windows of this size.
        n: Events of the window.
        phi: Largest overdispersion of any direction.
        level: Largest p-value that is significant.
        effects: Smallest effects of Kolmogorov-Smirnov and of Wasserstein; None where it is not asked for.
    """
    level = level * (1 - 1 / _BEYOND)
    of_ks, of_w1 = effects
    size = pair_size(n, r.rows)
    none = None if of_w1 is None else 0.0

    def ks(value: float) -> float:
        return law.p_value(value, none, size)

    def w1(value: float) -> float:
        return law.p_value(None if of_ks is None else 0.0, value, size)

    def beyond(count: float) -> float:
        return _BEYOND * rate_p_value(count, n, r.outside, r.rows, phi)

    return Thresholds(
        np.inf if of_ks is None else _first(ks, level, 1.0),
        np.inf if of_w1 is None else _first(w1, level, _FARTHEST),
        # Too few events beyond are significant, too: what is asked for is how many more than expected are.
        np.inf if of_w1 is None else _first(beyond, level / (1 - 1 / _BEYOND), float(n), n * r.outside / r.rows),
        np.inf if of_ks is None else of_ks,
        np.inf if of_w1 is None else of_w1,
    )


def _first(p_value: Callable[[float], float], level: float, farthest: float, least: float = 0.0) -> float:
    """Return the smallest value with a p-value of at most `level`, from `least` up to `farthest`; infinite if none."""

    def excess(value: float) -> float:
        return float(np.log(max(p_value(value), _LEAST_P)) - np.log(max(level, _LEAST_P)))

    if excess(farthest) > 0:
        return float("inf")
    if excess(least) <= 0:
        return least
    return float(optimize.brentq(excess, least, farthest, xtol=1e-6, rtol=1e-4))


class ShiftPower:
    """What shifts of one feature do to its statistics.

    Attributes:
        tilted: Whether values become more or less frequent instead of being shifted.
    """

    def __init__(self, r: NumericReference) -> None:
        """Compute the statistics of shifts of growing size.

        Args:
            r: The reference; its standard deviation must be above 0.
        """
        share = r.weights / r.weights.sum()
        self.tilted = bool(share.max() >= _TIED) or is_discrete(r)
        if self.tilted:
            self._tilt(r, share)
        else:
            self._move(r, share)

    def _move(self, r: NumericReference, share: FloatArray) -> None:
        x = (r.points - r.mean) / r.sd
        cdf = np.concatenate([[0.0], np.cumsum(share)])
        self._d = _SHIFTS
        self._ks = np.array([float((cdf[1:] - cdf[np.searchsorted(x, x - d, side="right")]).max()) for d in self._d])
        # Upwards, then downwards: what leaves the range of the reference is counted, not measured.
        self._inner, self._beyond = np.zeros((2, len(self._d))), np.zeros((2, len(self._d)))
        for way, (y, weight) in enumerate(((x, share), (-x[::-1], share[::-1]))):
            over = y - y[-1] + self._d[:, None]
            out = over > 0
            self._inner[way] = self._d - (np.where(out, over, 0.0) @ weight)
            self._beyond[way] = out @ weight

    def _tilt(self, r: NumericReference, share: FloatArray) -> None:
        z = (r.points - r.mean) / r.sd
        width = np.diff(z)
        cdf = np.cumsum(share)
        found: list[tuple[FloatArray, FloatArray]] = []
        for way in (1.0, -1.0):
            ks, moved = [], []
            for strength in _SHIFTS:
                power = np.clip(way * strength * z, None, 500.0)
                tilted = share * np.exp(power - power.max())
                gap = np.abs(cdf - np.cumsum(tilted / tilted.sum()))
                ks.append(float(gap.max()))
                moved.append(float(gap[:-1] @ width))
            found.append((np.maximum.accumulate(np.array(moved)), np.maximum.accumulate(np.array(ks))))
        # Of both ways, the one that shows less at the same shift of the mean.
        farthest = min(float(moved[-1]) for moved, _ in found)
        self._d = np.geomspace(min(0.005, farthest / 2), farthest, len(_SHIFTS))
        self._ks = np.minimum(*(np.interp(self._d, moved, ks) for moved, ks in found))
        self._inner = np.stack([self._d, self._d])
        self._beyond = np.zeros((2, len(self._d)))

    def smallest(self, at: Thresholds, n: int) -> tuple[float, float]:
        """Return the smallest shifts that are (significant, large enough), in standard deviations; infinite if none.

        Args:
            at: The thresholds.
            n: Events of the window.
        """
        by_way = [
            min(self._root(self._ks, at.ks), self._root(inner, at.w1), self._root(beyond, at.beyond / n))
            for inner, beyond in zip(self._inner, self._beyond, strict=True)
        ]
        return max(by_way), min(self._root(self._ks, at.ks_effect), self._root(self._d, at.w1_effect))

    def share_of_window(self, at: Thresholds, n: int, shift: float) -> float:
        """Return the share of a window from which on a shift in its latest events is found; above 1 if never.

        Args:
            at: The thresholds.
            n: Events of the window.
            shift: The shift, in standard deviations.
        """
        if not self._d[0] <= shift <= self._d[-1]:
            return float("inf")
        ks = float(np.interp(shift, self._d, self._ks))
        by_way = []
        for inner, beyond in zip(self._inner, self._beyond, strict=True):
            of_w1, of_beyond = float(np.interp(shift, self._d, inner)), float(np.interp(shift, self._d, beyond))
            by_way.append(min(_ratio(at.ks, ks), _ratio(at.w1, of_w1), _ratio(at.beyond / n, of_beyond)))
        return max(*by_way, min(_ratio(at.ks_effect, ks), _ratio(at.w1_effect, shift)))

    def _root(self, values: FloatArray, threshold: float) -> float:
        if not threshold <= values[-1]:
            return float("inf")
        return float(np.interp(threshold, np.append(0.0, values), np.append(0.0, self._d)))


def _ratio(threshold: float, value: float) -> float:
    return threshold / value if value > 0 else float("inf")
