"""Laws of statistics against a mixture of the parts of a season.

Events of which the season is known vary less than events of the mixture: in each direction by the variance between the
parts, which is taken out of φ. What the variance and the distribution are is told apart by a few arcs of the season,
by about where and how widely the events of a window lie on it, so that laws can be kept. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from detectors.numeric_tests import NumericLaws
from detectors.reference import NumericReference
from detectors.season import SeasonCounts
from detectors.types import FloatArray, IntArray

_PER_OCTAVE: Final = 2  # widths of arcs
_STEPS: Final = 2.0  # places of an arc in its width
_LEAST: Final = 0.02  # of the variance: what a season leaves is never known to be nothing
_MOST_LAWS: Final = 64


class Arc(NamedTuple):
    """A part of the circle: its width is 2 ** (-width / 2) of the rows, and `place` counts steps of half of it."""

    width: int
    place: int


class Arcs:
    """Arcs of the circle of a season, on which every row of a reference takes as much as any other."""

    def __init__(self, rows: IntArray) -> None:
        """Lay out the circle for the rows of each part, shape (cells,)."""
        self._share = rows / max(int(rows.sum()), 1)
        self._end = np.cumsum(self._share)
        self._narrowest = int(np.ceil(np.log2(2 * len(rows)) * _PER_OCTAVE))

    def of(self, weights: FloatArray) -> Arc:
        """Return the arc that is about as wide as these weights of the parts, and lies where they do."""
        held = self._share > 0
        share = 1.0 / float((weights[held] ** 2 / self._share[held]).sum())
        width = min(max(round(-_PER_OCTAVE * float(np.log2(share))), 0), self._narrowest)
        if width == 0:
            return Arc(0, 0)
        turn = weights @ np.exp(2j * np.pi * (self._end - self._share / 2))
        steps = self._steps(width)
        return Arc(width, round(float(np.angle(turn)) / (2 * np.pi) * steps) % steps)

    def weights(self, arc: Arc) -> FloatArray:
        """Return the share of each part in an arc, shape (cells,)."""
        if arc.width == 0:
            return self._share
        wide = 2.0 ** (-arc.width / _PER_OCTAVE)
        middle = arc.place / self._steps(arc.width)
        begin, end = self._end - self._share, self._end
        found = np.zeros(len(end))
        for turn in (-1.0, 0.0, 1.0):
            low, high = middle - wide / 2 + turn, middle + wide / 2 + turn
            found += np.maximum(np.minimum(end, high) - np.maximum(begin, low), 0.0)
        result: FloatArray = found / found.sum()
        return result

    @staticmethod
    def _steps(width: int) -> int:
        return int(np.ceil(_STEPS * 2.0 ** (width / _PER_OCTAVE)))


class SeasonLaws:
    """The laws of one numeric feature, by arc."""

    def __init__(self, r: NumericReference, arcs: Arcs) -> None:
        """Start without laws."""
        self._reference, self._arcs = r, arcs
        self._laws: dict[Arc, NumericLaws] = {}

    def at(self, arc: Arc) -> NumericLaws:
        """Return the laws of windows that lie on an arc."""
        found = self._laws.get(arc)
        if found is None:
            if len(self._laws) >= _MOST_LAWS:
                self._laws.clear()
            found = self._laws[arc] = self._made(self._arcs.weights(arc))
        return found

    def _made(self, weights: FloatArray) -> NumericLaws:
        r = self._reference
        if r.seasonal is None or not len(r.points):
            return NumericLaws(r)
        shares = r.seasonal.shares
        mixed = weights @ shares
        used = np.flatnonzero(mixed > 1e-9)
        if not len(used):
            return NumericLaws(r)
        share = mixed[used] / mixed.sum()
        of_arc = replace(r, points=r.points[used], weights=share * max(r.rows, 1), laws=())
        held = weights > 0
        between = np.sqrt(weights[held])[:, None] * (shares[np.ix_(held, used)] - share)
        return NumericLaws(of_arc, between, _luck(r, r.seasonal))


def _luck(r: NumericReference, held: SeasonCounts) -> FloatArray:
    """Return the share of the variance in each direction that chance puts between the parts.

    The mean of a part is one of as many stretches of rows as there were periods, whose rows depend on each other.
    """
    per_part = max(float(held.rows.sum()) / len(held.rows), 1.0)
    phi = r.dependence.at(max(per_part / max(held.periods, 1.0), 1.0)) if r.dependence.sizes else np.ones(1)
    return np.minimum(phi / per_part, 0.5)


def within_categories(shares: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the variance of each category that the season leaves, as a share of that of a mixture.

    Args:
        shares: Shares of the categories in each part, shape (cells, categories).
        weights: Shares of the parts, shape (cells,).
    """
    mixed = weights @ shares
    whole = mixed * (1 - mixed)
    between = weights @ (shares - mixed) ** 2
    left: FloatArray = np.clip(1 - between / np.where(whole > 0, whole, 1.0), _LEAST, 1.0)
    return left
