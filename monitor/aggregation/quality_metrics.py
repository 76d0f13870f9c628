"""Metrics of quality from the sums of outcome panes: formulas, each with what is known of its uncertainty. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import special

from detectors.types import FloatArray, IntArray
from monitor.aggregation.metrics import Estimate
from monitor.aggregation.outcome_columns import BIN_EVENTS, BIN_HITS, BIN_SCORES, USER_COUNTS, USER_TOTALS, Count, Total

_SCORES_COUNT: Final = 4.0  # answers that the scores of a calibration bin count like


def spread_of(n: IntArray, total: FloatArray) -> float:
    """Variance of the actual values of some panes: within them, and between (Chan, Golub & LeVeque, 1983)."""
    used = n > 0
    n, total = n[used], total[used]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = total[:, Total.ACTUAL] / n
        within = np.maximum(total[:, Total.ACTUAL_SQUARE] - total[:, Total.ACTUAL] * mean, 0.0).sum()
        mean = total[:, Total.ORIGIN] - total[0, Total.ORIGIN] + mean
        between = n @ (mean - n @ mean / n.sum()) ** 2
    return float(within + between) / int(n.sum())


def regression_metrics(count: IntArray, total: FloatArray, spread: float) -> dict[str, Estimate]:
    n = int(count[Count.SCORED])
    square = Estimate.mean(total[Total.SQUARE], total[Total.FOURTH], n)
    root = float(np.sqrt(square.value))
    found = {
        "mae": Estimate.mean(total[Total.ABSOLUTE], total[Total.SQUARE], n),
        "mse": square,
        "rmse": Estimate(root, n, square.variance / (4 * square.value) if root > 0 else 0.0),
    }
    if n > 1 and spread > 0:
        # Delta method for a ratio. The variance of the actual values varies as that of normal ones does: their fourth
        # moments are not kept.
        ratio = square.value / spread
        found["r2"] = Estimate(1 - ratio, n, square.variance / spread**2 + ratio**2 * 2 / (n - 1))
    if relative := int(count[Count.RELATIVE]):
        found["mape"] = Estimate.mean(total[Total.RELATIVE], total[Total.RELATIVE_SQUARE], relative)
    return found


def confusion_metrics(count: IntArray) -> dict[str, Estimate]:
    """Of a binary task; those of the positive class only where one was predicted or seen.

    `n` counts the answers that a metric is made of: correct negatives say nothing of precision, recall and F1.
    """
    tp, fp, fn, tn = (
        float(count[c]) for c in (Count.TRUE_POSITIVE, Count.FALSE_POSITIVE, Count.FALSE_NEGATIVE, Count.TRUE_NEGATIVE)
    )
    found: dict[str, Estimate] = {}
    if tp + fp:
        found["precision"] = Estimate.share(tp, int(tp + fp))
    if tp + fn:
        found["recall"] = Estimate.share(tp, int(tp + fn))
    if not tp + fp + fn + tn:
        return found
    # As if half an answer more of each kind were there: of a handful that are all right no certainty comes.
    more = tuple(c + 0.5 for c in (tp, fp, fn, tn))
    gradient, reverse = _gradient(more[0], more[1], more[2]), _gradient(more[3], more[2], more[1])
    both = np.array([gradient[0], gradient[1] + reverse[2], gradient[2] + reverse[1], reverse[0]]) / 2
    of_one, of_other = int(tp + fp + fn), int(tn + fp + fn)
    scores = [2 * hits / (2 * hits + fp + fn) for hits, n in ((tp, of_one), (tn, of_other)) if n]
    if of_one:
        found["f1"] = Estimate(scores[0], of_one, _delta_variance(gradient, more[:3]))
    rarer = min(n for n in (of_one, of_other) if n)
    found["f1_macro"] = Estimate(sum(scores) / len(scores), rarer, _delta_variance(both, more))
    return found


def _gradient(tp: float, fp: float, fn: float) -> FloatArray:
    """Gradient of F1 in (tp, fp, fn)."""
    result: FloatArray = np.array([2 * (fp + fn), -2 * tp, -2 * tp]) / (2 * tp + fp + fn) ** 2
    return result


def _delta_variance(gradient: FloatArray, counts: Sequence[float]) -> float:
    """Delta method for a function of shares: the counts are multinomial, and scaling them changes nothing."""
    return float((gradient**2 * np.asarray(counts)).sum())


def calibration_error(count: IntArray, total: FloatArray, n: int) -> Estimate:
    """Expected calibration error over bins of equal width; an empty bin is absent, not right (Guo et al., 2017).

    A bin's gap varies like a binomial count. Its size is a folded normal variable (Leone et al., 1961), whose mean is
    above zero where nothing is wrong: that is the `noise` of the estimate.
    """
    events = count[BIN_EVENTS:BIN_HITS]
    used = events > 0
    events, hits = events[used], count[BIN_HITS:USER_COUNTS][used]
    scores = total[BIN_SCORES:USER_TOTALS][used]
    # Few answers that all went one way are no certainty: the scores count like some more.
    share = np.clip((hits + _SCORES_COUNT * scores / events) / (events + _SCORES_COUNT), 1e-6, 1 - 1e-6)
    gap, of_chance = np.abs(hits - scores), events * share * (1 - share)
    true = np.maximum(gap**2 - of_chance, 0.0)
    size = _folded_mean(np.sqrt(true), np.sqrt(of_chance))
    variance = float((true + of_chance - size**2).sum()) / n**2
    noise = float(np.sqrt(of_chance * 2 / np.pi).sum()) / n
    return Estimate(float(gap.sum()) / n, n, variance, noise=noise)


def _folded_mean(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """Mean of |x| of normal variables."""
    score = mean / deviation
    size: FloatArray = deviation * np.sqrt(2 / np.pi) * np.exp(-score * score / 2) + mean * special.erf(score / 2**0.5)
    return size
