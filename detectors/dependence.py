"""How the events of a stream depend on each other, by feature: learned from a reference in the order of time.

Autocorrelation makes windows vary more than independent events would, but not in all directions alike: a series that
moves as a whole moves the middle of its distribution function, and hardly its kurtosis. So the ratio φ of long-run
variance to variance is learned of several scores of the ranks: orthonormal polynomials of the normal score, the same
as Hermite's where there are no ties. What they leave is given the median φ of some further ones. Of categories, φ is
learned of each. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy import special

from detectors.dispersion import Dispersion
from detectors.season import InSeason
from detectors.sieve import long_run_ratios
from detectors.types import FloatArray, IntArray

SCORES: Final = 4  # directions with a φ of their own
_FURTHER: Final = 4  # directions whose median stands for all others
_SMALLEST: Final = 32  # events: windows that are smaller take the φ of this size
_PER_DOUBLING: Final = 8  # sizes: means over whole days vary least, and a size that is 4 % off a day is as good as one
_APART: Final = 0.1  # of φ, from which a size between those that double is kept
_FEWEST_BLOCKS: Final = 3  # of the largest size
_FREQUENT: Final = 0.01  # share from which a category counts in the directions of all together
_SHORT_BLOCK: Final = 16  # rows
_DIRECTIONS: Final = 3
_PER_HALF: Final = 0.8  # of AR(1) processes, φ is half of its limit at .8 φ events
_AT_ONCE: Final = 8  # categories, by which memory is bounded


@dataclass(frozen=True, slots=True, eq=False)
class Dependence:
    """Hold φ ≥ 1 of several directions by window size.

    Attributes:
        sizes: Window sizes in events, ascending; none where nothing was learned.
        phi: φ of each direction and size, shape (directions, sizes). Of numbers, the last direction is all the others.
            Of categories, each is one, and then come those in which they move most together.
        rows: Rows that it was learned from.
    """

    sizes: tuple[int, ...] = ()
    phi: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    rows: int = 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dependence):
            return NotImplemented
        return (self.sizes, self.rows) == (other.sizes, other.rows) and np.array_equal(self.phi, other.phi)

    __hash__ = None  # type: ignore[assignment]  # of a value that holds an array

    def at(self, events: float) -> FloatArray:
        """Return φ of each direction for windows of `events` events, shape (directions,).

        It is interpolated in the logarithm of the size, and constant beyond the first and the last size.
        """
        if not self.sizes:
            return np.zeros(0)
        after = bisect_right(self.sizes, events)
        if after in (0, len(self.sizes)):
            return np.asarray(self.phi[:, min(after, len(self.sizes) - 1)])
        low, high = self.sizes[after - 1], self.sizes[after]
        share = np.log(events / low) / np.log(high / low)
        result: FloatArray = self.phi[:, after - 1] * (1 - share) + self.phi[:, after] * share
        return result

    def worth(self, phi: float) -> float:
        """Return the rows that a φ was learned from, fewer where dependence is weak and slow.

        Of an autoregression, rows / φ movements were seen. Where only a part of the variance moves slowly, φ is as
        small as that of quicker movements, of which there were more; how φ grows with the size tells them apart.

        Args:
            phi: Largest φ of any direction for windows of the size in question.
        """
        if not self.sizes or not len(self.phi):
            return float(self.rows)
        course = self.phi[int(np.argmax(self.phi[:, -1]))]
        falls = course < np.maximum.accumulate(course) / 2
        if falls.any():
            course = course[: int(np.argmax(falls))]  # of a season, what it is before a whole period
        most = course.max()
        half = most / 2
        after = int(np.argmax(course >= half))
        if not after:
            return float(self.rows)
        share = (half - course[after - 1]) / (course[after] - course[after - 1])
        reached = self.sizes[after - 1] * (self.sizes[after] / self.sizes[after - 1]) ** share
        moving = 1 - 1 / most  # the rest of the variance is known as well as that of independent rows
        return float(self.rows * min(_PER_HALF * phi / reached / moving**2, 1.0))

    def largest(self) -> Dispersion:
        """Return the largest φ of any direction by window size."""
        return Dispersion(self.sizes, tuple(self.phi.max(axis=0).tolist())) if self.sizes else Dispersion()

    def continued(self, longer: Dispersion) -> Dependence:
        """Return it with the sizes beyond its own of a `longer` measurement of all directions together."""
        sizes = tuple(size for size in longer.sizes if self.sizes and size > self.sizes[-1])
        if not sizes:
            return self
        factors = np.array([longer.at(size) for size in sizes]) / longer.at(self.sizes[-1])
        phi = np.maximum(self.phi[:, -1:] * factors, 1.0)
        return Dependence((*self.sizes, *sizes), rounded(np.concatenate([self.phi, phi], axis=1)), self.rows)


def rank_scores(weights: IntArray | FloatArray, count: int) -> FloatArray:
    """Return orthonormal scores of weighted ascending points: mean 0 and variance 1 under the weights.

    Args:
        weights: Rows per point, shape (k,).
        count: Number of scores; there are fewer where there are too few points.

    Returns:
        The scores, shape (k, scores).
    """
    share = np.asarray(weights, np.float64) / max(float(np.sum(weights)), 1.0)
    if len(share) < 2:
        return np.zeros((len(share), 0))
    normal = special.ndtri(np.clip(np.cumsum(share) - share / 2, 1e-9, 1 - 1e-9))
    powers = np.vander(normal, min(count, len(share) - 1) + 1, increasing=True) * np.sqrt(share)[:, None]
    q, r = np.linalg.qr(powers / np.sqrt((powers**2).sum(axis=0)))
    usable = np.abs(np.diag(r)) > 1e-6
    usable[0] = False
    scores: FloatArray = (q * np.sign(np.diag(r)))[:, usable] / np.sqrt(share)[:, None]
    return scores


def window_sizes(rows: int) -> tuple[int, ...]:
    """Return the window sizes for which so many rows tell something."""
    most = rows // _FEWEST_BLOCKS
    if most < _SMALLEST:
        return ()
    steps = int(_PER_DOUBLING * np.log2(most / _SMALLEST)) + 1
    sizes = (round(_SMALLEST * 2 ** (step / _PER_DOUBLING)) for step in range(steps + 1))
    return tuple(size for size in sizes if size <= most)


def of_numbers(places: IntArray, weights: IntArray, season: InSeason | None = None) -> Dependence:
    """Learn the dependence of a numeric feature.

    Args:
        places: Index of the point of each row, in the order of time.
        weights: Rows per point, shape (k,).
        season: The season of the rows, where they are told apart by one: dependence is that of what it leaves.
    """
    sizes = window_sizes(len(places))
    scores = rank_scores(weights, SCORES + _FURTHER)
    if not sizes or not scores.shape[1]:
        return Dependence()
    series = scores[places] if season is None else season.left(scores, places)
    ratios = long_run_ratios(series, sizes)
    further = ratios[SCORES:]
    rest = np.median(further, axis=0) if len(further) else np.ones(len(sizes))
    phi = np.concatenate([np.maximum(ratios[:SCORES], rest), rest[None]])
    return _learned(sizes, phi, len(places))


def of_categories(codes: IntArray, categories: int, season: InSeason | None = None) -> Dependence:
    """Learn the dependence of each category.

    Args:
        codes: Category of each row, in the order of time.
        categories: Number of categories.
        season: As for `of_numbers`, with the categories as places.
    """
    sizes = window_sizes(len(codes))
    if not sizes or categories < 2:
        return Dependence()
    phi = np.ones((categories, len(sizes)))
    counts = np.bincount(codes, minlength=categories)
    pairs = np.minimum(counts, len(codes) - counts) ** 2 / len(codes)
    varied = np.flatnonzero((counts > 1) & (counts < len(codes)))
    for at in range(0, len(varied), _AT_ONCE):
        some = varied[at : at + _AT_ONCE]
        series = (codes[:, None] == some).astype(np.float64)
        if season is not None:
            series = season.left((np.arange(categories)[:, None] == some).astype(np.float64), codes)
        phi[some] = long_run_ratios(series, sizes, pairs[some])
    moving = _moving_directions(codes, counts)
    directions = long_run_ratios(moving[codes] if season is None else season.left(moving, codes), sizes)
    return _learned(sizes, np.concatenate([phi, directions]), len(codes))


def _learned(sizes: tuple[int, ...], phi: FloatArray, rows: int) -> Dependence:
    """Return what was learned, without sizes that say nothing that the doubled ones do not."""
    logs = np.log(sizes)
    doubled = np.zeros(len(sizes), np.bool_)
    doubled[::_PER_DOUBLING] = doubled[-1] = True
    between = np.array([np.interp(logs, logs[doubled], course[doubled]) for course in phi])
    kept = doubled | (np.abs(phi - between) > _APART * between).any(axis=0)
    return Dependence(tuple(np.array(sizes)[kept].tolist()), rounded(phi[:, kept]), rows)


def _moving_directions(codes: IntArray, counts: IntArray) -> FloatArray:
    """Return scores of the categories along which their shares move most together, shape (categories, directions).

    A series of numbers cut into categories moves the outer ones against each other; none of them alone shows how much.
    The scores have mean 0 and variance 1, and are the principal components of the shares of short blocks.
    """
    share = counts / len(codes)
    frequent = np.flatnonzero(share >= _FREQUENT)
    blocks = len(codes) // _SHORT_BLOCK
    root = np.sqrt(share[frequent])
    if len(frequent) < 2 or blocks < 2:
        return np.zeros((len(counts), 0))
    cell = np.arange(blocks * _SHORT_BLOCK) // _SHORT_BLOCK * len(counts) + codes[: blocks * _SHORT_BLOCK]
    held = np.bincount(cell, minlength=blocks * len(counts)).reshape(blocks, len(counts))[:, frequent]
    moved = (held - _SHORT_BLOCK * share[frequent]) / root
    _, vectors = np.linalg.eigh(moved.T @ moved)
    scores = np.zeros((len(counts), min(_DIRECTIONS, len(frequent) - 1)))
    scores[frequent] = (vectors[:, ::-1] / root[:, None])[:, : scores.shape[1]]
    scores -= share @ scores
    result: FloatArray = scores / np.sqrt(share @ scores**2)
    return result


def rounded(phi: FloatArray) -> FloatArray:
    """Keep three digits, so that no platform's last bit shows, in what is saved with four bytes."""
    power = 10.0 ** (2 - np.floor(np.log10(phi)))
    result: FloatArray = (np.round(phi * power) / power).astype(np.float32).astype(np.float64)
    return result
