"""Where in a sequence of panes a feature has begun to differ from its reference.

Every event is scored by how much likelier its bin is in the window that shows the difference than in the reference. At
the change the mean of the scores rises: the boundary between two panes at which that is likeliest is the estimate.
Pure. Called when an alarm begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.comparison import Comparison
from detectors.pane import Counts, CountsByName
from detectors.reference import CategoricalReference, NumericReference
from detectors.registry import RATES
from detectors.types import FloatArray, IntArray

_BINS: Final = 10  # of a numeric feature; and categories that are told apart: with many, scores would fit the noise
_HALF: Final = 0.5  # events added to every bin of both sides
# Before the change the mean may differ from that of the reference by about so many standard deviations: what no test
# calls drift. Beyond that the panes are rather after the change.
_TOLERATED: Final = 0.1
# A random walk with the drift of a log-likelihood ratio exceeds c with a probability of at most exp(-c), on each side
# of the change (Lundberg, 1903): 2·exp(-3) is a tenth.
_DROP: Final = 3.0


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """Say between which panes a change lies.

    Attributes:
        at: First pane after the change, most likely; 0 where it seems to be older than all panes.
        first: Earliest pane in which it may lie.
        last: Latest pane in which it may lie; the interval of both holds it in about nine of ten cases.
    """

    at: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class BinnedPanes:
    """Hold what panes have of one feature.

    Attributes:
        expected: Rows of the reference per bin, shape (bins,).
        panes: Events per pane and bin, shape (panes, bins).
        phi: Overdispersion of the reference, by number of events.
    """

    expected: FloatArray
    panes: FloatArray
    phi: Callable[[float], float]


def change_point(binned: BinnedPanes, seen: slice) -> ChangePoint | None:
    """Estimate the pane in which a change began, with an interval.

    The likelihood is that of two segments of scores with means of their own and a common variance, the mean of the
    earlier one close to that of the reference (Hinkley, 1970).

    Args:
        binned: The panes, the earliest first.
        seen: Those that show the change.

    Returns:
        The change point; None where panes or reference have no events of the feature.
    """
    p, q, panes = _telling(binned.expected, binned.panes[seen].sum(0), binned.panes)
    events = panes.sum(1)
    if not events.sum() or not binned.expected.sum():
        return None
    score = np.log(q / p)
    base = float(p @ score)
    spread = (float(p @ score**2) - base**2 + float(q @ score**2) - float(q @ score) ** 2) / 2
    variance = max(spread, 1e-12) * binned.phi(float(binned.panes[seen].sum()))
    scores = panes @ (score - base)
    n1 = np.concatenate([[0.0], np.cumsum(events)[:-1]])
    s1 = np.concatenate([[0.0], np.cumsum(scores)[:-1]])
    n2, s2 = events.sum() - n1, scores.sum() - s1
    before = s1 / np.maximum(n1, 1.0)
    after = s2 / np.maximum(n2, 1.0)
    likelihood = (n1 * before**2 + n2 * after**2) / (2 * variance)
    likelihood -= before**2 / 2 / (variance / np.maximum(n1, 1.0) + _TOLERATED**2 * max(spread, 1e-12))
    likelihood[(after <= before) & (n1 > 0)] = -np.inf
    at = int(np.argmax(likelihood))
    likely = np.flatnonzero(likelihood >= likelihood[at] - _DROP)
    # The change may lie within a pane: then the boundaries on both sides of that fit as well as any.
    return ChangePoint(at, max(int(likely[0]) - 1, 0), int(likely[-1]))


def binned_panes(
    comparison: Comparison, feature: str, statistic: str, panes: Sequence[CountsByName]
) -> BinnedPanes | None:
    """Return what panes have of a feature, in the bins that its finding is about; None where it is not compared.

    Args:
        comparison: The references, and how panes count against them.
        feature: Name of the feature.
        statistic: Statistic of the finding.
        panes: Count vectors of each pane.
    """
    cells, _, categories, missing = comparison.vectors
    numeric, named = comparison.numeric_cells, comparison.category_cells
    for i, r in enumerate(comparison.references):
        if r.name != feature:
            continue
        f = i if isinstance(r, NumericReference) else i - len(numeric)
        layout, vector = (numeric.starts, cells) if isinstance(r, NumericReference) else (named.starts, categories)
        run = slice(int(layout[f]), int(layout[f + 1]))
        held = [_part(pane.get(vector), run) for pane in panes]
        if statistic == RATES[0]:
            lacks = [_part(pane.get(missing), slice(i, i + 1)) for pane in panes]
            rates = np.array([[present.sum(), lack.sum()] for present, lack in zip(held, lacks, strict=True)], float)
            return BinnedPanes(np.array([r.rows, r.missing], float), rates, r.missing_dispersion.at)
        if isinstance(r, NumericReference):
            expected, bins = _quantile_bins(r)
        else:
            expected, bins = _category_bins(r, unseen=statistic == RATES[1])
        counted = [np.bincount(bins, values, minlength=len(expected)) for values in held]
        return BinnedPanes(expected, np.array(counted, float).reshape(-1, len(expected)), r.dispersion.at)
    return None


def _telling(expected: FloatArray, seen: FloatArray, panes: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return shares of the reference and of the window, and the panes, in the bins that differ most and one more."""
    p, q = _shares(expected), _shares(seen)
    if len(p) > _BINS:
        most = np.argsort(-((q - p) ** 2) / p, kind="stable")[: _BINS - 1]
        rest = np.setdiff1d(np.arange(len(p)), most)
        p, q = (np.append(shares[most], shares[rest].sum()) for shares in (p, q))
        panes = np.column_stack([panes[:, most], panes[:, rest].sum(1)])
    return p, q, panes


def _shares(counts: FloatArray) -> FloatArray:
    smoothed: FloatArray = counts + _HALF
    total = float(smoothed.sum())
    return smoothed / total


def _part(counts: Counts | None, run: slice) -> IntArray:
    """Return a run of a count vector, zeros where there is none."""
    out = np.zeros(run.stop - run.start, np.int64)
    if counts is None:
        return out
    if counts.index is None:
        return counts.value[run]
    first, end = np.searchsorted(counts.index, (run.start, run.stop))
    out[counts.index[first:end] - run.start] = counts.value[first:end]
    return out


def _quantile_bins(r: NumericReference) -> tuple[FloatArray, IntArray]:
    """Return rows per bin, and the bin of every cell: equal shares of the reference, as far as ties allow."""
    weights = np.zeros(2 * len(r.points) + 1)
    weights[1::2] = r.weights
    total = max(weights.sum(), 1.0)
    middle = (np.cumsum(weights) - weights / 2) / total
    bins = np.minimum((middle * _BINS).astype(np.int64), _BINS - 1)
    return np.bincount(bins, weights, minlength=_BINS) * (r.rows / total), bins


def _category_bins(r: CategoricalReference, *, unseen: bool) -> tuple[FloatArray, IntArray]:
    """Return rows per bin, and the bin of every cell: a category, the rare and the unseen ones; or seen and unseen."""
    size = len(r.categories) + 2
    if unseen:
        bins = (np.arange(size) == size - 1).astype(np.int64)
        return np.array([r.rows - r.singletons, r.singletons], float), bins
    expected = np.append(r.counts, [r.rows - r.counts.sum(), 0]).astype(float)
    return expected, np.arange(size)
