"""Metrics of a version: their names, which side is bad, and those that need no outcome.

Pure. What needs outcomes is in `quality`. A metric of a window comes as an `Estimate`, which knows enough
of its own uncertainty for a rule to tell a breach from chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import numpy as np

from detectors.pane import Counts
from detectors.types import FloatArray, IntArray
from monitor.events.schema import SERVED_BY
from monitor.spec import Task


class Better(StrEnum):
    """In which direction a metric improves."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """What is known of a metric by its name."""

    better: Better
    needs_outcomes: bool
    help: str
    always: bool = False  # kept whatever `outcomes.metrics` lists

    @property
    def of_quality(self) -> bool:
        """Whether it is one of those that `outcomes.metrics` chooses from."""
        return self.needs_outcomes and not self.always


_H, _L, _N = Better.HIGHER, Better.LOWER, Better.NEITHER

METRICS: Final[Mapping[str, MetricInfo]] = MappingProxyType(
    {
        "predictions": MetricInfo(_N, False, "answers in the window, failed ones included"),
        "error_rate": MetricInfo(_L, False, "share of answers that failed"),
        "latency_p50_ms": MetricInfo(_L, False, "median latency, within 1 %"),
        "latency_p90_ms": MetricInfo(_L, False, "90 % quantile of the latency, within 1 %"),
        "latency_p95_ms": MetricInfo(_L, False, "95 % quantile of the latency, within 1 %"),
        "latency_p99_ms": MetricInfo(_L, False, "99 % quantile of the latency, within 1 %"),
        "batch_ms": MetricInfo(_L, False, "mean time of a reported batch of predictions"),
        "memory_mb": MetricInfo(_L, False, "mean of the reported memory"),
        "cpu_percent": MetricInfo(_L, False, "mean of the reported CPU load"),
        "gpu_percent": MetricInfo(_L, False, "mean of the reported GPU load"),
        "prediction_mean": MetricInfo(_N, False, "mean prediction, or mean score of a classifier"),
        "prediction_sd": MetricInfo(_N, False, "standard deviation of the same"),
        "sharpness": MetricInfo(
            _N, False, "variance of the predicted probabilities: of the positive class, or of the most likely one"
        ),
        "accuracy": MetricInfo(_H, True, "share of right labels, unknown ones left out"),
        "precision": MetricInfo(_H, True, "share of right ones among predicted positives"),
        "recall": MetricInfo(_H, True, "share of found ones among actual positives"),
        "f1": MetricInfo(_H, True, "harmonic mean of precision and recall; n: answers that are or are called positive"),
        "f1_macro": MetricInfo(_H, True, "mean of the F1 of all classes; binary n: that of the rarer class"),
        "log_loss": MetricInfo(_L, True, "mean of -ln P(actual class), P clipped to 1e-7"),
        "brier": MetricInfo(_L, True, "mean squared error of P(positive)"),
        "roc_auc": MetricInfo(
            _H,
            True,
            "P(a positive is scored above a negative); beyond 4 096 scores in a pane, of 7 binary digits; "
            "n: answers of the rarer class",
        ),
        "ece": MetricInfo(_L, True, "expected calibration error, ten bins of equal width"),
        "mae": MetricInfo(_L, True, "mean absolute error"),
        "mse": MetricInfo(_L, True, "mean squared error"),
        "rmse": MetricInfo(_L, True, "root of the mean squared error"),
        "r2": MetricInfo(_H, True, "explained share of the variance"),
        "mape": MetricInfo(_L, True, "mean absolute error relative to the actual value, actual zeros left out"),
        "agreement": MetricInfo(
            _H, False, "share of requests on which a shadow agrees with the served answer; needs `outcomes:`"
        ),
        "coverage": MetricInfo(_H, True, "share of answers whose outcome has arrived", always=True),
        "label_delay_s": MetricInfo(_L, True, "mean time from prediction to outcome", always=True),
    }
)
# Metrics that may be written in percent; others have a unit of their own.
SHARES: Final = frozenset(
    {"error_rate", "accuracy", "precision", "recall", "f1", "f1_macro", "brier", "roc_auc", "ece", "r2", "mape",
     "agreement", "coverage"}
)  # fmt: skip
OF_TASK: Final[Mapping[Task, frozenset[str]]] = MappingProxyType(
    {
        Task.REGRESSION: frozenset({"mae", "mse", "rmse", "r2", "mape"}),
        Task.BINARY: frozenset(
            {"accuracy", "precision", "recall", "f1", "f1_macro", "log_loss", "brier", "roc_auc", "ece"}
        ),
        Task.MULTICLASS: frozenset({"accuracy", "f1_macro", "ece"}),
    }
)
QUANTILES: Final[Mapping[str, float]] = MappingProxyType(
    {"latency_p50_ms": 0.5, "latency_p90_ms": 0.9, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
)
_RESOURCES: Final = ("memory_mb", "cpu_percent", "gpu_percent")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric's value with what is known of its uncertainty.

    `n` is the number of events behind it. For a share, `hits` of n were counted; otherwise `variance` is
    that of the estimate, NaN where it is not known. `rough` stands in for that where only a bound or an assumption
    about the values gives one: enough to tell whether it moved, not for a rule to be judged by. `noise` is what a
    metric that adds up sizes has of chance alone, where nothing is wrong.
    """

    value: float
    n: int
    variance: float = float("nan")
    hits: float | None = None
    rough: float = 0.0
    noise: float = 0.0

    @property
    def uncertainty(self) -> float:
        """Variance of the estimate; 0 where it is not known."""
        if self.hits is not None:
            return self.value * max(1.0 - self.value, 0.0) / self.n if self.n else 0.0
        return self.variance if math.isfinite(self.variance) else self.rough

    @staticmethod
    def share(hits: float, n: int) -> Estimate:
        """Hits out of n."""
        return Estimate(hits / n, n, hits=hits)

    @staticmethod
    def mean(total: float, squares: float, n: int, origin: float = 0.0) -> Estimate:
        """From the sum and the sum of squares of values less `origin`."""
        total, squares = float(total), float(squares)  # numpy's own floats warn where these overflow
        mean = total / n
        # What is left of two large numbers is no less than their rounding: no certainty comes of it.
        spread = max(squares - total * mean, _EPSILON * squares) / (n - 1) if n > 1 else float("nan")
        return Estimate(mean + origin, n, spread / n)

    def settled(self) -> Estimate:
        """Round to eleven digits of what the values are like: the last ones follow the order of addition."""
        scale = max(abs(self.value), math.sqrt(self.variance * self.n) if self.variance > 0 else 0.0)
        if not 0 < scale < math.inf:
            return self
        try:
            value = round(self.value, _DIGITS - 1 - math.floor(math.log10(scale)))
        except OverflowError:  # the next one of so many digits is beyond the largest float
            value = self.value
        return replace(self, value=value, variance=float(f"{self.variance:.{_DIGITS}g}"))


def _spread(mean: Estimate) -> Estimate:
    """Variance of values in [0, 1], from their mean.

    Its own variance is (fourth central moment less its square) / n (Cramér, 1946); no value lies further from the
    mean than the farther end does, which bounds that moment.
    """
    spread, farthest = mean.variance * mean.n, max(mean.value, 1.0 - mean.value) ** 2
    return Estimate(spread, mean.n, rough=max(spread * (farthest - spread), 0.0) / mean.n)


def _deviation(mean: Estimate, *, within_one: bool) -> Estimate:
    """Standard deviation of values, from their mean: of those in [0, 1] by `_spread`, else as of a normal sample."""
    spread = mean.variance * mean.n
    of_spread = _spread(mean).rough if within_one else 2 * spread * spread / mean.n
    return Estimate(math.sqrt(spread), mean.n, rough=of_spread / (4 * spread) if spread > 0 else 0.0)


# -- latency: a histogram with cells of equal ratio -----------------------------------------------------

LATENCY_ERROR: Final = 0.01
_DIGITS: Final = 11  # of sums whose values were added in the order of processing
_EPSILON: Final = 4 * float(np.finfo(np.float64).eps)
_RATIO: Final = (1 + LATENCY_ERROR) / (1 - LATENCY_ERROR)
_SHORTEST_MS, _LONGEST_MS = 1e-3, 1e8
LATENCY_CELLS: Final = int(np.ceil(np.log(_LONGEST_MS / _SHORTEST_MS) / np.log(_RATIO))) + 2
_EDGES: Final[FloatArray] = np.exp(np.log(_SHORTEST_MS) + np.log(_RATIO) * np.arange(LATENCY_CELLS - 1.0))
# The value of a cell is at most 1 % from all that it holds (Masson, Rim & Lee, 2019, "DDSketch").
_MIDDLES: Final[FloatArray] = np.concatenate([[0.0], _EDGES * (2 * _RATIO / (1 + _RATIO))])


def latency_cells(latency: FloatArray) -> IntArray:
    """Counts of latencies in ms per cell; NaN is left out."""
    present = latency[~np.isnan(latency)]
    return np.bincount(np.searchsorted(_EDGES, present), minlength=LATENCY_CELLS)


def latency_quantile(counts: IntArray, q: float) -> float:
    """The q-quantile, interpolated between neighbouring order statistics as numpy does; NaN without counts."""
    ends = np.cumsum(counts)
    n = int(ends[-1])
    if not n:
        return float("nan")
    rank = q * (n - 1)
    low, high = (_MIDDLES[np.searchsorted(ends, r, side="right")] for r in (np.floor(rank), np.ceil(rank)))
    return float(low + (high - low) * (rank - np.floor(rank)))


def latencies_above(counts: IntArray, limit: float) -> tuple[int, int]:
    """(how many latencies lie above a limit, how many there are); the cell of the limit counts as below."""
    at = int(np.searchsorted(_EDGES, limit))
    return int(counts[at + 1 :].sum()), int(counts.sum())


# -- what a pane counts and adds up ----------------------------------------------------------------------


class PaneCounter(StrEnum):
    """Integer counts of a pane, in order."""

    PREDICTIONS = "predictions"
    FAILED = "failed"
    SCORABLE = "scorable"  # has a prediction that an outcome can score
    SERVED = "served"
    CONTAMINATED = "contaminated"  # answered by another version than routing chose
    VALUES = "values"  # behind prediction_mean
    BATCHES = "batches"
    MEMORY = "memory"
    CPU = "cpu"
    GPU = "gpu"


TALLY: Final = tuple(PaneCounter)
TALLY_AT: Final[Mapping[PaneCounter, int]] = MappingProxyType({name: i for i, name in enumerate(TALLY)})
USER_METRICS: Final = 16  # places for the user's own; also the default of the limit


class Sum(StrEnum):
    """Floating-point sums of a pane, in order.

    Values are taken less the first one of the pane (`ORIGIN`), so that squares keep their digits whatever came
    before; how many there are (`VALUES`) stands here too, because panes are weighted by it.
    """

    ORIGIN = "origin"
    VALUES = "values"
    VALUE = "value"
    VALUE_SQUARED = "value_squared"
    BATCH_MS = "batch_ms"
    BATCH_MS_SQUARED = "batch_ms_squared"
    MEMORY = "memory"
    MEMORY_SQUARED = "memory_squared"
    CPU = "cpu"
    CPU_SQUARED = "cpu_squared"
    GPU = "gpu"
    GPU_SQUARED = "gpu_squared"
    # Appended after 0.1.0, whose sums end here (`widened`).
    PROBABILITY_ORIGIN = "probability_origin"
    PROBABILITIES = "probabilities"
    PROBABILITY = "probability"
    PROBABILITY_SQUARED = "probability_squared"
    # Answers of exactly 0 and of exactly 1 that are labels, unless an answer of the window is surely a probability.
    ZEROS = "zeros"
    ONES = "ones"


SUMS: Final = tuple(Sum)
SUM_AT: Final[Mapping[Sum, int]] = MappingProxyType({name: i for i, name in enumerate(SUMS)})
# Columns of sums that are taken less their first value: (that value, how many there are, sum, sum of squares).
Centered = tuple[Sum, Sum, Sum, Sum]
VALUES: Final[Centered] = (Sum.ORIGIN, Sum.VALUES, Sum.VALUE, Sum.VALUE_SQUARED)
PROBABILITIES: Final[Centered] = (
    Sum.PROBABILITY_ORIGIN, Sum.PROBABILITIES, Sum.PROBABILITY, Sum.PROBABILITY_SQUARED,
)  # fmt: skip
SUMS_SIZE: Final = len(SUMS) + 2 * USER_METRICS  # then the sum and the squares of each user metric
TALLY_SIZE: Final = len(TALLY) + USER_METRICS + len(SERVED_BY)  # then their numbers, then who served


@dataclass(frozen=True, slots=True)
class AnswerSums:
    """What the metrics of a window are computed from: the sums over its panes."""

    tally: IntArray
    sums: FloatArray
    latency: IntArray

    def count(self, name: PaneCounter) -> int:
        """One of the counts."""
        return int(self.tally[TALLY_AT[name]])

    def served_by(self) -> dict[str, int]:
        """Answers by the level that gave them."""
        return dict(zip(SERVED_BY, self.tally[-len(SERVED_BY) :].tolist(), strict=True))

    @property
    def probabilities(self) -> bool | None:
        """Whether the numbers of a binary task are probabilities here, or labels; None without any number."""
        certain, ends = self.sums[SUM_AT[Sum.VALUES]], self.sums[SUM_AT[Sum.ZEROS]] + self.sums[SUM_AT[Sum.ONES]]
        return bool(certain) if certain or ends else None

    def _mean(self, n: int, total: Sum, squares: Sum, origin: float = 0.0) -> Estimate:
        return Estimate.mean(float(self.sums[SUM_AT[total]]), float(self.sums[SUM_AT[squares]]), n, origin)

    def _centered(self, group: Centered) -> Estimate | None:
        """Mean of values less their origin, answers of exactly 0 and 1 included where they are probabilities."""
        origin, n, total, squares = (float(self.sums[SUM_AT[name]]) for name in group)
        if not n:
            return None
        for number, ends in ((0.0, Sum.ZEROS), (1.0, Sum.ONES)):
            count = float(self.sums[SUM_AT[ends]])
            n, total = n + count, total + count * (number - origin)
            squares += count * (number - origin) ** 2
        return Estimate.mean(total, squares, int(n), origin)


def joined_sums(pieces: Sequence[FloatArray]) -> FloatArray:
    """Join the sums of several panes to those of one whose origin is the mean (Chan, Golub & LeVeque, 1983).

    They are given in the order of their panes, so that equal panes give equal sums to the last bit; in another order
    only roundings differ. What the origin loses by rounding stays in the sum: joined sums can be joined again.
    """
    stacked = np.array(pieces, np.float64).reshape(-1, SUMS_SIZE)
    with np.errstate(over="ignore", invalid="ignore"):
        total: FloatArray = stacked.cumsum(axis=0)[-1]
        for group in (VALUES, PROBABILITIES):
            columns = [SUM_AT[name] for name in group]
            parts = stacked[:, columns][stacked[:, columns[1]] > 0]
            if len(parts):
                total[columns] = _joined(*parts.T)
    return total


def _joined(
    origin: FloatArray, n: FloatArray, value: FloatArray, squares: FloatArray
) -> tuple[float, float, float, float]:
    """Join centered sums: (origin, how many, sum, sum of squares)."""
    base = float(origin[0])
    away = origin - base + value / n
    count = float(n.sum())
    mean = float(n @ away) / count
    between = float(n @ (away - mean) ** 2)
    within = float(np.maximum(squares - value * value / n, 0.0).sum())
    joined = base + mean
    kept = joined - base
    lost = (base - (joined - kept)) + (mean - kept)  # exactly what rounding took (Knuth, 1969)
    return joined, count, count * lost, within + between + count * lost * lost


def add_centered(sums: FloatArray, group: Centered, values: FloatArray) -> int:
    """Add values to the sums of a pane, less its first one, and return how many there were; NaN is left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return 0
    origin, number, total, squares = (SUM_AT[name] for name in group)
    if not sums[number]:
        sums[origin] = values[0]
    sums[number] += len(values)
    with np.errstate(over="ignore"):
        values = values - sums[origin]
        sums[total] = add_in_order(sums[total], values)
        sums[squares] = add_in_order(sums[squares], values**2)
    return len(values)


def widened(sums: FloatArray) -> FloatArray:
    """Return sums that an earlier release stored, with zeros for those that were added to `Sum` since.

    The user's own metrics come last: what is new stands before them.
    """
    missing = SUMS_SIZE - len(sums)
    return np.insert(sums, [len(sums) - 2 * USER_METRICS] * missing, 0.0) if missing else sums


def widened_tally(tally: Counts) -> Counts:
    """Return a tally that an earlier release stored, with zeros for who serves since; they stand at its end."""
    missing = TALLY_SIZE - tally.size
    if not missing:
        return tally
    value = tally.value if tally.index is not None else np.pad(tally.value, (0, missing))
    return Counts(TALLY_SIZE, tally.index, value)


def answer_metrics(window: AnswerSums, user_metrics: Sequence[str]) -> dict[str, Estimate]:
    """All metrics of a window that need no outcome; those without data are left out."""
    added = _added_metrics(window, user_metrics)
    return _counted_metrics(window) | {name: estimate.settled() for name, estimate in added.items()}


def _counted_metrics(window: AnswerSums) -> dict[str, Estimate]:
    """Metrics that are made of counts."""
    found: dict[str, Estimate] = {}
    n = window.count(PaneCounter.PREDICTIONS)
    found["predictions"] = Estimate(float(n), n, 0.0)
    if n:
        found["error_rate"] = Estimate.share(window.count(PaneCounter.FAILED), n)
    timed = int(window.latency.sum())
    if timed:
        for name, q in QUANTILES.items():
            found[name] = Estimate(latency_quantile(window.latency, q), timed)
    return found


def _added_metrics(window: AnswerSums, user_metrics: Sequence[str]) -> dict[str, Estimate]:
    """Metrics that are made of sums of floating-point numbers."""
    found: dict[str, Estimate] = {}
    if count := window.count(PaneCounter.BATCHES):
        found["batch_ms"] = window._mean(count, Sum.BATCH_MS, Sum.BATCH_MS_SQUARED)
    for name, tally, total, squares in _REPORTED:
        if count := window.count(tally):
            found[name] = window._mean(count, total, squares)
    if (mean := window._centered(VALUES)) is not None:
        found["prediction_mean"] = mean
        if mean.n > 1:
            found["prediction_sd"] = _deviation(mean, within_one=window.sums[SUM_AT[Sum.PROBABILITIES]] > 0)
    if (spread := window._centered(PROBABILITIES)) is not None and spread.n > 1:
        found["sharpness"] = _spread(spread)
    for i, name in enumerate(user_metrics):
        if count := int(window.tally[len(TALLY) + i]):
            at = len(SUMS) + 2 * i
            found[name] = Estimate.mean(float(window.sums[at]), float(window.sums[at + 1]), count)
    return found


_REPORTED: Final = (
    ("memory_mb", PaneCounter.MEMORY, Sum.MEMORY, Sum.MEMORY_SQUARED),
    ("cpu_percent", PaneCounter.CPU, Sum.CPU, Sum.CPU_SQUARED),
    ("gpu_percent", PaneCounter.GPU, Sum.GPU, Sum.GPU_SQUARED),
)


def add_in_order(held: float, values: FloatArray) -> float:
    """`held` plus values, one after the other.

    Floating-point addition is not associative; summing in the order of events makes results independent of
    how a stream was cut into batches.
    """
    return float(np.cumsum(np.concatenate([[held], values]))[-1])
