"""One-sided tests of a share, exact, with half of the observed count's own probability (mid-p; Lancaster, 1961).

A tail that includes the whole probability of the observed count is several times too silent where counts are small or
both samples are of one size; the mid-p keeps its level on average. Counts may be effective ones, and so fractions.
Pure.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from scipy import special

from detectors.types import FloatArray

_NEGLIGIBLE: Final = 40.0  # a tail is cut off where a term is smaller than its first one by e to this
_FIRST_TERMS: Final = 256


def share_p_value(hits: float, n: float, share: float, *, above: bool) -> float:
    """Compute the one-sided binomial mid-p of hits/n against a known share.

    Counts that are fractions have the tails of the incomplete beta function, which are those of the binomial law at
    whole numbers and monotone between them.

    Args:
        hits: Hits among the n events.
        n: Number of events.
        share: The share under the null hypothesis; clipped to 0 to 1.
        above: Whether larger shares than `share` are evidence against it; otherwise smaller ones are.

    Returns:
        The p-value, 0 to 1; 1 without events.
    """
    if not n > 0:
        return 1.0
    share = min(max(share, 0.0), 1.0)
    hits = min(max(hits, 0.0), n)
    if not above:
        hits, share = n - hits, 1 - share
    at_least = float(special.betainc(hits, n - hits + 1, share)) if hits > 0 else 1.0
    more = float(special.betainc(hits + 1, n - hits, share)) if hits < n else 0.0
    return (at_least + more) / 2


@lru_cache(maxsize=1024)
def two_shares_p_value(hits: float, n: float, base_hits: float, base_n: float, *, above: bool) -> float:
    """Compute the one-sided mid-p of hits/n against base_hits/base_n, given the sum of the hits (Fisher, 1935).

    Sizes that are fractions are rounded down and keep their shares. Between neighbouring whole numbers of hits the
    logarithm of the p-value is interpolated, so that it is monotone in both counts.

    Args:
        hits: Hits among the n events of the window.
        n: Number of events of the window.
        base_hits: Hits among the events of the baseline.
        base_n: Number of events of the baseline.
        above: Whether a larger share in the window is evidence of a change; otherwise a smaller one is.

    Returns:
        The p-value, 0 to 1; 1 where a side has less than one event.
    """
    if not (n >= 1 and base_n >= 1):
        return 1.0
    size, base_size = math.floor(n), math.floor(base_n)
    hits = min(max(hits / n, 0.0), 1.0) * size
    base_hits = min(max(base_hits / base_n, 0.0), 1.0) * base_size
    if not above:
        hits, base_hits = size - hits, base_size - base_hits
    total = 0.0
    for own, own_weight in _neighbours(hits):
        for other, other_weight in _neighbours(base_hits):
            p = max(_hypergeometric(own, size, other, base_size), 1e-300)
            total += own_weight * other_weight * math.log(p)
    return min(math.exp(total), 1.0)


def _neighbours(count: float) -> tuple[tuple[int, float], ...]:
    """Return the whole numbers on both sides of a count, each with its weight."""
    whole = round(count)
    if abs(count - whole) < 1e-9:  # a share times its size
        return ((whole, 1.0),)
    below = math.floor(count)
    return (below, 1 - (count - below)), (below + 1, count - below)


def _hypergeometric(hits: int, n: int, base_hits: int, base_n: int) -> float:
    """Return P(X > hits) + P(X = hits) / 2, where X of all hits fall among the n events."""
    marked = hits + base_hits
    if (hits + 1) * (n + base_n + 2) > (n + 1) * (marked + 1):
        return _tail(hits, min(marked, n), n, base_n, marked)
    # Below the middle the other tail is the smaller one: the same with the samples swapped.
    return 1.0 - _tail(base_hits, min(marked, base_n), base_n, n, marked)


def _tail(first: int, last: int, n: int, base_n: int, marked: int) -> float:
    """Return half the probability of `first` hits among n events and that of more, up to `last`."""
    terms = _FIRST_TERMS
    while True:
        stop = min(last, first + terms)
        x = np.arange(first, stop + 1, dtype=np.float64)
        logs = (
            _log_choose(float(marked), x)
            + _log_choose(float(n + base_n - marked), n - x)
            - _log_choose(float(n + base_n), np.array([float(n)]))
        )
        if stop == last or logs[-1] < logs[0] - _NEGLIGIBLE:
            break
        terms *= 4
    weights = np.ones(len(x))
    weights[0] = 0.5
    return min(float(np.exp(logs) @ weights), 1.0)


def _log_choose(n: float, k: FloatArray) -> FloatArray:
    result: FloatArray = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return result
