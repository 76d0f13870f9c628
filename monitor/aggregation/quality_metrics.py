"""Metrics of quality from the sums of outcome panes: formulas, each with what is known of its uncertainty. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.types import FloatArray, IntArray
from monitor.aggregation.metrics import Estimate
from monitor.aggregation.outcome_columns import BIN_EVENTS, BIN_HITS, BIN_SCORES, USER_COUNTS, USER_TOTALS, Count, Total


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
        # The variance of the actual values is taken as known: the errors are what varies.
        found["r2"] = Estimate(1 - square.value / spread, n, square.variance / spread / spread)
    if relative := int(count[Count.RELATIVE]):
        found["mape"] = Estimate.mean(total[Total.RELATIVE], total[Total.RELATIVE_SQUARE], relative)
    return found


def confusion_metrics(count: IntArray) -> dict[str, Estimate]:
    """Of a binary task; those of the positive class only where one was predicted or seen."""
    tp, fp, fn, tn = (
        float(count[c]) for c in (Count.TRUE_POSITIVE, Count.FALSE_POSITIVE, Count.FALSE_NEGATIVE, Count.TRUE_NEGATIVE)
    )
    found: dict[str, Estimate] = {}
    n = int(count[Count.SCORED])
    if tp + fp:
        found["precision"] = Estimate.share(tp, int(tp + fp))
    if tp + fn:
        found["recall"] = Estimate.share(tp, int(tp + fn))
    if tp + fp + fn:
        f1, gradient = _f1(tp, fp, fn)
        found["f1"] = Estimate(f1, n, _delta_variance(gradient, (tp, fp, fn)))
        if tn + fp + fn:
            other, reverse = _f1(tn, fn, fp)
            both = np.array([gradient[0], gradient[1] + reverse[2], gradient[2] + reverse[1], reverse[0]]) / 2
            found["f1_macro"] = Estimate((f1 + other) / 2, n, _delta_variance(both, (tp, fp, fn, tn)))
    if n and "f1_macro" not in found:
        found["f1_macro"] = Estimate(1.0, n, 0.0)  # of the one class that there is, and all is right
    return found


def _f1(tp: float, fp: float, fn: float) -> tuple[float, FloatArray]:
    """F1 and its gradient in (tp, fp, fn)."""
    size = 2 * tp + fp + fn
    return 2 * tp / size, np.array([2 * (fp + fn), -2 * tp, -2 * tp]) / size**2


def _delta_variance(gradient: FloatArray, counts: Sequence[float]) -> float:
    """Delta method for a function of shares: the counts are multinomial, and scaling them changes nothing."""
    return float((gradient**2 * np.asarray(counts)).sum())


def calibration_error(count: IntArray, total: FloatArray, n: int) -> Estimate:
    """Expected calibration error over bins of equal width; an empty bin is absent, not right (Guo et al., 2017)."""
    events = count[BIN_EVENTS:BIN_HITS]
    used = events > 0
    events, hits = events[used], count[BIN_HITS:USER_COUNTS][used]
    scores = total[BIN_SCORES:USER_TOTALS][used]
    share = hits / events
    variance = float((events * share * (1 - share)).sum()) / n**2
    return Estimate(float(np.abs(hits - scores).sum()) / n, n, variance)
