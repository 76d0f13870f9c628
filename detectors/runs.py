"""Runs of overlapping checks: the level of single checks where an alarm takes several of them in a row.

Checks that follow one another share most of their panes and all of their baseline, so that several in a row reject far
more often than independent ones would, and still more seldom than one alone. How often a run begins is simulated for
the Gaussian process of the checks, with a fixed seed, by importance sampling. Pure.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from scipy import optimize, special, stats

from detectors.overlap import episode_share, level_of
from detectors.types import FloatArray

_LONGEST: Final = 6  # longer runs are taken for this: shorter ones are more frequent
_PATHS: Final = 16_000
_MERGED: Final = 1.12  # excursions per alarm, as in `overlap`
_SCORES: Final[FloatArray] = np.linspace(0.5, 9.5, 46)
_DF_STEPS: Final = 8.0  # per factor of e
_FEWEST_PANES: Final = 4  # windows of fewer hardly overlap, but neighbouring events depend on each other


def run_level(rate: float, panes: int, checks: int, shared: float = 0.0, df: float = math.inf) -> float:
    """Return the significance level of single checks at which so many alarms per check are raised.

    Args:
        rate: Allowed number of alarms per check, above 0.
        panes: Number of panes in a window, which slides on by one pane from check to check.
        checks: Checks in a row that must reject for an alarm.
        shared: Part of the statistic's variance that all checks share: that of the baseline, 0 to 1.
        df: Degrees of freedom of Student's law that p-values are read in: all checks share its variance too.
    """
    if checks <= 1 or rate >= 0.1:
        return level_of(rate, panes)
    rate = float(f"{rate:.2g}")
    step = math.floor(_DF_STEPS * math.log(df)) / _DF_STEPS if math.isfinite(df) else math.inf
    return _run_level(
        rate, max(panes, _FEWEST_PANES), min(checks, _LONGEST), min(math.ceil(shared * 10) / 10, 0.9), math.exp(step)
    )


@lru_cache(maxsize=4096)
def _run_level(rate: float, panes: int, checks: int, shared: float, df: float) -> float:
    logs = _log_rates(panes, checks, shared)
    if math.isfinite(df):
        scale = np.exp(np.linspace(np.log(0.05), np.log(2.5), 240))
        weight = stats.chi2.pdf(scale**2 * df, df) * scale**2
        weight = weight / weight.sum()
    else:
        scale, weight = np.ones(1), np.ones(1)

    def excess(score: float) -> float:
        return float(weight @ np.exp(_at(logs, score * scale))) - rate

    least = level_of(rate, panes)
    highest = -float(special.stdtrit(df, least) if math.isfinite(df) else special.ndtri(least))
    lowest = 1.0
    if excess(highest) >= 0 or excess(lowest) <= 0:
        return least
    score = optimize.brentq(excess, lowest, highest, xtol=1e-4)
    return float(special.stdtr(df, -score) if math.isfinite(df) else special.ndtr(-score))


def _at(logs: FloatArray, scores: FloatArray) -> FloatArray:
    """Interpolate the logarithm of a rate, and extrapolate it by the last slope."""
    found = np.interp(scores, _SCORES, logs)
    slope = (logs[-1] - logs[-2]) / (_SCORES[-1] - _SCORES[-2])
    beyond = np.maximum(scores - _SCORES[-1], 0.0)
    result: FloatArray = found + slope * beyond
    return result


@lru_cache(maxsize=512)
def _log_rates(panes: int, checks: int, shared: float) -> FloatArray:
    """Return the logarithm of how many runs of so many checks begin per check, at each of the scores."""
    number = np.arange(checks + 1)
    lag = np.abs(number[:, None] - number[None, :])
    covariance = shared + (1 - shared) * np.maximum(1 - lag / panes, 0.0)
    paths = np.random.default_rng(0).multivariate_normal(np.zeros(checks + 1), covariance, _PATHS, method="cholesky")
    weight = np.linalg.solve(covariance[1:, 1:], np.ones(checks))
    # The law is moved so that each check of the run has its threshold as mean: see Asmussen & Glynn (2007), chapter 5.
    inside = paths[:, 1:].min(axis=1) > 0
    paths = paths[inside]
    logs = []
    for score in _SCORES:
        starts = paths[:, 0] + score * float(covariance[0, 1:] @ weight) <= score
        likelihood = np.exp(-score * (paths[:, 1:] @ weight)) * starts
        rate = float(likelihood.sum()) / _PATHS * math.exp(-score * score * float(weight.sum()) / 2)
        alone = _MERGED * float(special.ndtr(-score)) * episode_share(score, panes)
        logs.append(math.log(max(min(rate, alone), 1e-300)))
    # Neither noise nor the few paths of a high score may let the rate rise.
    result: FloatArray = np.minimum.accumulate(np.array(logs))
    return result
