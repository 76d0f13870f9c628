"""Families of streams that never change: how their values depend on each other, and what law they have.

A path is made of scores of an almost standard normal law, shape (rows, columns), one column a variable and independent
of the others. A marginal law turns scores into values. Everything follows from the generator that is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import numpy as np
from scipy import special
from scipy.signal import lfilter

from detectors.types import FloatArray, IntArray

_BURN_IN: Final = 2_000  # rows before a path, which filters need to forget that they began at zero
_RUN: Final = 8  # mean number of rows of a returning user
_LAGS: Final = 150  # of the moving average
_REGIME: Final = 500  # mean number of rows between changes of the mean
PERIOD: Final = 1_000  # rows of a day of the sine
Scores = Callable[[int, int, np.random.Generator], FloatArray]


class Marginal(StrEnum):
    """Laws of a feature's values."""

    NORMAL = "normal"
    LOGNORMAL = "lognormal"
    FIVE_LEVELS = "five levels"
    RARE_CATEGORY = "rare category"

    @property
    def numeric(self) -> bool:
        """Whether values are numbers; else they are places in `CATEGORIES`."""
        return self is not Marginal.RARE_CATEGORY

    def values(self, scores: FloatArray) -> FloatArray:
        """Return values of this law, of the shape of the scores."""
        match self:
            case Marginal.LOGNORMAL:
                return np.asarray(np.exp(1.5 * scores))
            case Marginal.FIVE_LEVELS:
                return np.asarray(np.minimum(np.floor(5 * special.ndtr(scores)), 4.0))
            case Marginal.RARE_CATEGORY:
                return categories(scores, _SHARES).astype(np.float64)
            case _:
                return scores


CATEGORIES: Final = ("a", "b", "c", "rare")
_SHARES: Final = (0.5, 0.3, 0.195, 0.005)


def categories(scores: FloatArray, shares: tuple[float, ...]) -> IntArray:
    """Return the category of each score where categories have these shares."""
    edges = special.ndtri(np.cumsum(shares)[:-1])
    result: IntArray = np.searchsorted(edges, scores).astype(np.int64)
    return result


@dataclass(frozen=True, slots=True)
class Family:
    """A family of streams.

    Attributes:
        name: What it is called in tables and options.
        about: What it is, in a few words.
        scores: Makes a path of (rows, columns) with a generator.
        marginal: Law of the values.
        dependent: Whether a row depends on those before it.
    """

    name: str
    about: str
    scores: Scores
    marginal: Marginal = Marginal.NORMAL
    dependent: bool = True


def independent(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Return independent scores."""
    return rng.standard_normal((rows, columns))


def autoregressive(rho: float) -> Scores:
    """Return the AR(1) process of this correlation."""

    def scores(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
        noise = rng.standard_normal((rows, columns)) * np.sqrt(1 - rho**2)
        noise[0] /= np.sqrt(1 - rho**2)
        return np.asarray(lfilter([1.0], [1.0, -rho], noise, axis=0))

    return scores


def returning_users(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Return runs of one value, of geometric length."""
    path = np.empty((rows, columns))
    for column in range(columns):
        lengths = rng.geometric(1 / _RUN, 2 * rows // _RUN + 200)
        path[:, column] = np.repeat(rng.standard_normal(len(lengths)), lengths)[:rows]
    return path


def two_time_scales(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Return .8 of the variance from AR(1) .5, and .2 from AR(1) .99."""
    fast, slow = autoregressive(0.5)(rows, columns, rng), autoregressive(0.99)(rows, columns, rng)
    return np.asarray(np.sqrt(0.8) * fast + np.sqrt(0.2) * slow)


def stochastic_volatility(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Return noise without correlation whose standard deviation is the exponential of an AR(1) .98."""
    deviation = np.exp(0.7 * autoregressive(0.98)(rows, columns, rng))
    return np.asarray(deviation * rng.standard_normal((rows, columns)) / 1.6)


def regimes(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Return noise around one of two means, which changes at random."""
    path = rng.standard_normal((rows, columns))
    for column in range(columns):
        changes = np.cumsum(rng.random(rows) < 1 / _REGIME) + rng.integers(2)
        path[:, column] += np.where(changes % 2, 0.5, -0.5)
    return np.asarray(path / np.sqrt(1.25))


def moving_average(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Return sums of the last 150 shocks."""
    total = np.cumsum(rng.standard_normal((rows + _LAGS, columns)), axis=0)
    return np.asarray((total[_LAGS:] - total[:-_LAGS]) / np.sqrt(_LAGS))


def daily_sine(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Return noise around a sine of amplitude .8, whose period is `PERIOD` rows, at any hour of the day."""
    hour = 2 * np.pi * (np.arange(rows) + rng.integers(PERIOD)) / PERIOD
    return np.asarray((0.8 * np.sin(hour)[:, None] + rng.standard_normal((rows, columns))) / np.sqrt(1.32))


_ALL: Final = (
    Family("iid", "independent, normal", independent, dependent=False),
    Family("ties", "independent, five levels", independent, Marginal.FIVE_LEVELS, dependent=False),
    Family("lognormal", "independent, lognormal, sigma 1.5", independent, Marginal.LOGNORMAL, dependent=False),
    Family("rare", "independent categories, one of .005", independent, Marginal.RARE_CATEGORY, dependent=False),
    Family("ar.5", "AR(1) .5", autoregressive(0.5)),
    Family("ar.9", "AR(1) .9", autoregressive(0.9)),
    Family("ar.97", "AR(1) .97", autoregressive(0.97)),
    Family("users", "returning users, runs of mean 8", returning_users),
    Family("twoscale", "AR(1) .5 and .99", two_time_scales),
    Family("volatility", "stochastic volatility .98", stochastic_volatility),
    Family("regimes", "two means, changing every 500", regimes),
    Family("ma150", "moving average of 150", moving_average),
    Family("sine", "a daily sine, a day of 1 000", daily_sine),
)
FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({family.name: family for family in _ALL})


def path_of(family: Family, rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Return scores of a path that has run for a while, shape (rows, columns)."""
    return family.scores(rows + _BURN_IN, columns, rng)[_BURN_IN:]
