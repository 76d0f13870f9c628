"""Dependence of rows that were profiled in parts: what each part has learned, and what its mean tells beside.

Rows that follow each other are in one part, never across the gap between two. So φ of a direction is the mean of the
parts' own, by their rows; and where means of parts lie further apart than that explains, a window of n events of the
whole varies by n times their variance as well (the law of total variance). Pure. Called by `merging`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from detectors.dependence import SCORES, Dependence, rank_scores, rounded, window_sizes
from detectors.dispersion import Dispersion
from detectors.types import FloatArray, IntArray

_BY_CHANCE: Final = 0.01  # means of parts lie further apart by chance at this probability


@dataclass(frozen=True, slots=True)
class PartOfFeature:
    """One part of the rows of a feature.

    Attributes:
        rows: How many rows with a value.
        dependence: What was learned of them.
        apart: Shares of the places of the whole in this part, minus what is expected in it; shape (places,).
    """

    rows: int
    dependence: Dependence
    apart: FloatArray


def merged_of_numbers(parts: Sequence[PartOfFeature], weights: IntArray) -> Dependence:
    """Return the dependence of a number.

    Args:
        parts: Of its rows; their places are its points.
        weights: Weights of its points, shape (k,).
    """
    scores = rank_scores(weights, SCORES)

    def directions(dependence: Dependence, size: int) -> FloatArray:
        phi = dependence.at(size)
        found: FloatArray = np.full(scores.shape[1] + 1, phi[-1])  # those that a part does not know are as the others
        some = min(len(phi) - 1, scores.shape[1])
        found[:some] = phi[:some]
        return found

    means = np.array([part.apart @ scores for part in parts]).reshape(len(parts), -1)
    return _merged(parts, directions, np.column_stack([means, np.zeros(len(parts))]))


def merged_of_categories(parts: Sequence[PartOfFeature], rows_of: Sequence[IntArray], shares: FloatArray) -> Dependence:
    """Return the dependence of categories.

    Args:
        parts: Of the rows; their places are the categories of the whole.
        rows_of: By part, which of its categories each one of the whole is in it, shape (categories,).
        shares: Shares of the categories in the whole, shape (categories,).
    """
    categories = len(shares)
    own = [len(part.dependence.phi) - int(rows.max()) - 1 for part, rows in zip(parts, rows_of, strict=True)]
    moving = max((n for n, part in zip(own, parts, strict=True) if part.dependence.sizes), default=0)
    of_part = {id(part.dependence): rows for part, rows in zip(parts, rows_of, strict=True)}

    def directions(dependence: Dependence, size: int) -> FloatArray:
        phi, rows = dependence.at(size), of_part[id(dependence)]
        its = phi[int(rows.max()) + 1 :]
        found: FloatArray = np.ones(categories + moving)
        found[:categories] = phi[rows]
        found[categories : categories + len(its)] = its
        return found

    spread = np.sqrt(np.maximum(shares * (1 - shares), 1e-12))
    means = np.array([part.apart / spread for part in parts])
    together = np.zeros((len(parts), moving))
    if moving:  # the first of them is the one along which the parts differ
        whole = np.array([np.sqrt((part.apart**2 / np.maximum(shares, 1e-12)).sum()) for part in parts])
        together[:, 0] = whole / max(np.sqrt(categories - 1), 1.0)
    return _merged(parts, directions, np.concatenate([means, together], axis=1))


def merged_dispersion(rows: Sequence[int], shares: Sequence[float], learned: Sequence[Dispersion]) -> Dispersion:
    """Return the overdispersion of a share that was learned in parts.

    Args:
        rows: Rows of each part.
        shares: The share in each.
        learned: Its overdispersion in each.
    """
    total = sum(rows)
    mean = float(np.dot(rows, shares)) / max(total, 1)
    spread = np.sqrt(max(mean * (1 - mean), 1e-12))
    dependences = [Dependence(d.sizes, np.array(d.phi).reshape(1, -1), n) for d, n in zip(learned, rows, strict=True)]
    parts = [
        PartOfFeature(n, dependence, np.array([(share - mean) / spread]))
        for n, dependence, share in zip(rows, dependences, shares, strict=True)
    ]
    found = _merged(parts, lambda dependence, size: dependence.at(size), np.array([part.apart for part in parts]))
    return found.largest()


def _merged(
    parts: Sequence[PartOfFeature], directions: Callable[[Dependence, int], FloatArray], means: FloatArray
) -> Dependence:
    """Merge what parts have learned; `means` are those of each part by direction, in standard deviations of a row."""
    known = [part for part in parts if part.dependence.sizes]
    if not known:
        return Dependence()
    rows, total = np.array([part.rows for part in parts], np.float64), sum(part.rows for part in parts)
    largest = max(part.dependence.sizes[-1] for part in known)
    sizes = tuple(size for size in window_sizes(total) if size <= 2 * largest)
    weight = np.array([part.rows for part in known], np.float64)
    weight /= weight.sum()
    within = np.array([weight @ np.array([directions(part.dependence, s) for part in known]) for s in sizes]).T
    # Means of independent parts vary by φ over their rows.
    seen = rows @ means**2
    chance = within[:, -1] * (len(parts) - 1)
    differ = seen > within[:, -1] * stats.chi2.isf(_BY_CHANCE, max(len(parts) - 1, 1))
    between = np.where(differ, np.maximum(seen - chance, 0.0), 0.0) / total
    return Dependence(sizes, rounded(within + np.outer(between, sizes)), total)
