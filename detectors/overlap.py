"""Overlapping windows: how many of the checks that reject begin an alarm of their own.

Windows that slide on by a pane share most of their events, so one excursion makes several checks in a row reject. An
alarm is the whole excursion: where few of many rejections begin one, single checks may reject that much more often for
the same number of alarms. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
from scipy import optimize, special

# The formula counts excursions of a Gaussian process; episodes end only after some calm checks, so there are fewer.
_MERGED: Final = 1.12
_DEEPEST: Final = 37.0  # standard deviations, beyond which a probability is no float


def nu(x: float) -> float:
    """Return Siegmund's ν: how far a random walk overshoots a boundary, as a factor of its crossing rate.

    Siegmund (1985), "Sequential Analysis", by the approximation of Siegmund & Yakir (2007).
    """
    if x < 1e-6:
        return 1.0
    half = x / 2
    density = np.exp(-half * half / 2) / np.sqrt(2 * np.pi)
    return float((2 / x) * (special.ndtr(half) - 0.5) / (half * special.ndtr(half) + density))


def episode_share(score: float, panes: int) -> float:
    """Return the share of rejecting checks that begin an alarm, 0 to 1.

    Args:
        score: Threshold of a check in standard deviations of its statistic.
        panes: Number of panes in a window, which slides on by one pane from check to check.
    """
    return min(1.0, score * score / panes * nu(score * np.sqrt(2 / panes)))


@lru_cache(maxsize=4096)
def level_of(rate: float, panes: int) -> float:
    """Return the significance level of single checks that gives so many alarms per check.

    Args:
        rate: Allowed number of alarms per check, above 0.
        panes: Number of panes in a window; with one pane, windows do not overlap and the level is the rate.
    """
    if panes <= 1 or rate >= 0.1:
        return min(rate, 1.0)

    def excess(score: float) -> float:
        return float(special.log_ndtr(-score) + np.log(_MERGED * episode_share(score, panes)) - np.log(rate))

    # At the threshold without overlap there are too few alarms; lower ones give more as long as they grow rarer.
    highest = float(-special.ndtri(rate)) if rate > 1e-300 else _DEEPEST
    lowest = min(1.0, highest)
    if excess(highest) >= 0:
        return rate
    if excess(lowest) <= 0:
        return float(special.ndtr(-lowest))
    return float(special.ndtr(-optimize.brentq(excess, lowest, highest, xtol=1e-9)))


def level_of_score(rate: float, panes: int, score_of: Callable[[float], float]) -> float:
    """Return the level of single checks that gives so many alarms per check, for a statistic of any law.

    Args:
        rate: Allowed number of alarms per check, above 0.
        panes: Number of panes in a window; with one pane, windows do not overlap and the level is the rate.
        score_of: Returns the threshold with a given p-value, in standard deviations where the statistic varies most.
    """
    if panes <= 1 or rate >= 0.1:
        return min(rate, 1.0)

    def excess(level: float) -> float:
        share = episode_share(score_of(np.exp(level)), panes)
        return float(level + np.log(_MERGED * share) - np.log(rate))

    lowest, highest = float(np.log(rate)), float(np.log(0.2))
    if excess(lowest) >= 0:
        return rate
    if excess(highest) <= 0:
        return float(np.exp(highest))
    return float(np.exp(optimize.brentq(excess, lowest, highest, xtol=1e-4)))
