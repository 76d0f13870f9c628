"""How small a change of the share of one category its tests find: in about every other window at this size.

One category takes from all others, or leaves to them, in proportion. χ² is taken at what is expected of it, which is
larger than without noise by as many as it has degrees of freedom. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import optimize

from detectors.categorical import jensen_shannon_distance
from detectors.category_law import CategoryTest, category_test
from detectors.category_tests import ComparedCategories
from detectors.types import FloatArray

_LEAST_P: Final = 1e-300
_NAMED_SHARE: Final = 0.01  # a category must be at least this common to be named: rarer ones may identify a person


@dataclass(frozen=True, slots=True)
class CategoryChange:
    """A change of the share of one category.

    Attributes:
        category: Its name; None of a rare one, and of all others together.
        share: Its share in the reference.
        significant: By how much the share has to change to be significant; infinite if no change is.
        large: By how much it has to change to count.
        rises: Whether the share rises; else it falls.
    """

    category: str | None
    share: float
    significant: float
    large: float
    rises: bool


def smallest_changes(c: ComparedCategories, level: float, min_effect: Mapping[str, float]) -> list[CategoryChange]:
    """Return the smallest changes of the most frequent category, which falls, and of the rarest, which rises.

    Args:
        c: The categories.
        level: Largest p-value that is significant.
        min_effect: Smallest effect that counts, of each statistic that is asked for.
    """
    rows = c.expected.rows
    if not c.events or np.count_nonzero(rows) < 2:
        return []
    named = rows[: len(c.names)]
    largest = int(np.argmax(rows))
    rarest = int(np.argmin(named)) if len(named) else largest
    found = []
    if np.count_nonzero(rows) > 2 or rarest == largest:  # of two categories, one falls as the other rises
        found.append(_smallest(c, largest, level, min_effect, rises=False))
    if rarest != largest:
        found.append(_smallest(c, rarest, level, min_effect, rises=True))
    return found


def _smallest(
    c: ComparedCategories, which: int, level: float, min_effect: Mapping[str, float], *, rises: bool
) -> CategoryChange:
    shares = c.expected.rows / c.expected.rows.sum()
    share = float(shares[which])
    most = (1 - share if rises else share) * (1 - 1e-9)
    noise = c.expected.overdispersion(c.events)

    def window(change: float) -> FloatArray:
        new = share + change if rises else share - change
        changed: FloatArray = shares * (1 - new) / (1 - share)
        changed[which] = new
        return changed * c.events

    def excess(change: float) -> float:
        p = expected(category_test(c.expected.rows, window(change), c.learned, noise)).p_value()
        return float(np.log(max(p, _LEAST_P)) - np.log(max(level, _LEAST_P)))

    def effect(change: float) -> float:
        """Return by how much the largest effect exceeds the smallest that counts, as a ratio."""
        events = window(change)
        of = {
            "chi_square": lambda: category_test(c.expected.rows, events, c.learned, noise).effect,
            "jensen_shannon": lambda: jensen_shannon_distance(c.expected.rows, events),
        }
        return max(of[name]() / max(least, 1e-12) for name, least in min_effect.items()) - 1

    significant = _root(excess, most)
    counts = significant < np.inf and effect(significant) >= 0
    large = 0.0 if counts else _root(lambda change: -effect(change), most)
    name = c.names[which] if which < len(c.names) and share >= _NAMED_SHARE else None
    return CategoryChange(name, share, significant, large, rises)


def expected(found: CategoryTest) -> CategoryTest:
    """Return a test without noise with the statistic that is expected of it with noise."""
    return replace(found, statistic=found.statistic + float(found.weights.sum()))


def _root(excess: Callable[[float], float], most: float) -> float:
    """Return where a falling function is 0, within a hundredth; infinite if nowhere up to `most`."""
    if excess(most) > 0:
        return float("inf")
    low = most * 1e-6
    if excess(low) <= 0:
        return low
    return float(np.exp(optimize.brentq(lambda x: excess(float(np.exp(x))), np.log(low), np.log(most), xtol=1e-2)))
