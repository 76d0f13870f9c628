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
from detectors.reference import CategoricalReference, NumericReference, Reference
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
        of_season: Shares of the reference in the part of its season that each pane lies in, shape (panes, bins); None
            where it has no season, which would otherwise be taken for changes.
    """

    expected: FloatArray
    panes: FloatArray
    phi: Callable[[float], float]
    of_season: FloatArray | None = None


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
    p, q, panes, of_season = _telling(_expected(binned, seen), binned.panes[seen].sum(0), binned)
    events = panes.sum(1)
    if not events.sum() or not binned.expected.sum():
        return None
    score = np.log(q / p)
    base = float(p @ score)
    spread = (float(p @ score**2) - base**2 + float(q @ score**2) - float(q @ score) ** 2) / 2
    variance = max(spread, 1e-12) * binned.phi(float(binned.panes[seen].sum()))
    scores = panes @ score - events * (base if of_season is None else of_season @ score)
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
        seasons = _seasons(comparison, r, panes)
        if statistic == RATES[0]:
            lacks = [_part(pane.get(missing), slice(i, i + 1)) for pane in panes]
            rates = np.array([[present.sum(), lack.sum()] for present, lack in zip(held, lacks, strict=True)], float)
            of_rates = None if seasons is None or r.seasonal is None else seasons @ r.seasonal.missing_shares
            return BinnedPanes(np.array([r.rows, r.missing], float), rates, r.missing_dispersion.at, of_rates)
        if isinstance(r, NumericReference):
            expected, bins = _quantile_bins(r)
        else:
            expected, bins = _category_bins(r, unseen=statistic == RATES[1])
        counted = [np.bincount(bins, values, minlength=len(expected)) for values in held]
        of_season = None
        if seasons is not None and r.seasonal is not None and statistic != RATES[1]:
            # Rows by season are counted at the points; panes between these, too.
            places = bins[1::2] if isinstance(r, NumericReference) else bins[: len(r.categories) + 1]
            binned = [np.bincount(places, shares, minlength=len(expected)) for shares in r.seasonal.shares]
            of_season = seasons @ np.array(binned)
        return BinnedPanes(expected, np.array(counted, float).reshape(-1, len(expected)), r.dispersion.at, of_season)
    return None


def _seasons(comparison: Comparison, r: Reference, panes: Sequence[CountsByName]) -> FloatArray | None:
    """Return how the events of each pane are divided among the parts of the season; None without one."""
    if comparison.season is None or r.seasonal is None:
        return None
    cells = slice(0, comparison.season.cells)
    held = np.array([_part(pane.get(comparison.by_season), cells) for pane in panes], float).reshape(-1, cells.stop)
    result: FloatArray = held / np.maximum(held.sum(1, keepdims=True), 1.0)
    return result


def _expected(binned: BinnedPanes, seen: slice) -> FloatArray:
    """Return the rows per bin that the panes that are seen are compared with."""
    if binned.of_season is None:
        return binned.expected
    events = binned.panes[seen].sum(1)
    shares: FloatArray = events @ binned.of_season[seen] / max(events.sum(), 1.0)
    return shares * float(binned.expected.sum())


def _telling(
    expected: FloatArray, seen: FloatArray, binned: BinnedPanes
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray | None]:
    """Return shares of the reference and of the window, panes and their shares by season, all by bins.

    The bins are those that differ most, and one of all others.
    """
    p, q, panes, of_season = _shares(expected), _shares(seen), binned.panes, binned.of_season
    if len(p) <= _BINS:
        return p, q, panes, of_season
    most = np.argsort(-((q - p) ** 2) / p, kind="stable")[: _BINS - 1]
    rest = np.setdiff1d(np.arange(len(p)), most)

    def merged(by_bin: FloatArray) -> FloatArray:
        return np.concatenate([by_bin[..., most], by_bin[..., rest].sum(-1, keepdims=True)], axis=-1)

    return merged(p), merged(q), merged(panes), None if of_season is None else merged(of_season)


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
