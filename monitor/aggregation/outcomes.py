"""How good a version's answers were: sums over pairs of answer and outcome, by the answer's pane.

Outcomes come late, so these sums live as long as outcomes may come, and a pane's metrics change until then.
All is kept per variant in tables with a row per pane, and a batch of pairs is added column by column in the
order in which the pairs were joined, so that results do not depend on how the stream was cut. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.types import BoolArray, FloatArray, IntArray
from monitor.aggregation.keyed_counts import SparseCounts
from monitor.aggregation.metrics import METRICS, USER_METRICS, Estimate
from monitor.events.codes import POSITIVE
from monitor.spec import Task

BASELINE_PANE: Final = (1 << 32) - 1  # the row of the first pairs of a variant, which its later panes are held to
DROPPED_PANE: Final = BASELINE_PANE - 1  # the pane of answers whose own is gone: their pairs say nothing of any window
CALIBRATION_BINS: Final = 10
AUC_SCORES: Final = 4096  # distinct scores of a class in a pane up to which the AUC is exact
_CLIP: Final = 1e-7


class Count(IntEnum):
    """Integer columns; after them come the calibration bins' events and hits and the user metrics' numbers."""

    SCORABLE = 0  # answers that an outcome can score
    JOINED = 1
    SCORED = 2  # joined, and with a prediction
    CORRECT = 3
    TRUE_POSITIVE = 4
    FALSE_POSITIVE = 5
    FALSE_NEGATIVE = 6
    TRUE_NEGATIVE = 7
    RELATIVE = 8  # with an actual value other than zero
    PROBABLE = 9  # with a score
    PAIRED = 10  # with another answer to the same request
    AGREED = 11
    BINNED = 12  # 1 where a pane has more distinct scores than are kept


class Total(IntEnum):
    """Floating-point columns; after them come the calibration bins' scores and the user metrics' sums."""

    ABSOLUTE = 0  # |error|
    SQUARE = 1
    FOURTH = 2
    RELATIVE = 3
    RELATIVE_SQUARE = 4
    ACTUAL = 5  # less the pane's origin
    ACTUAL_SQUARE = 6
    LOG_LOSS = 7
    LOG_LOSS_SQUARE = 8
    BRIER = 9
    BRIER_SQUARE = 10
    DELAY = 11  # seconds
    DELAY_SQUARE = 12
    ORIGIN = 13  # the first actual value of the pane, which its own are taken less of


_BIN_EVENTS: Final = len(Count)
_BIN_HITS: Final = _BIN_EVENTS + CALIBRATION_BINS
_USER_COUNTS: Final = _BIN_HITS + CALIBRATION_BINS
COUNTS: Final = _USER_COUNTS + USER_METRICS
_BIN_SCORES: Final = len(Total)
_USER_TOTALS: Final = _BIN_SCORES + CALIBRATION_BINS
TOTALS: Final = _USER_TOTALS + 2 * USER_METRICS


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Answers of one variant with their outcomes, in the order in which they met."""

    pane: IntArray
    predicted: FloatArray
    score: FloatArray
    actual: FloatArray
    delay: FloatArray  # seconds
    metrics: Sequence[Mapping[str, float | None] | None]

    def __len__(self) -> int:
        return len(self.pane)

    def first(self, count: int) -> ScoredPairs:
        """The first pairs, put down to the baseline."""
        return ScoredPairs(
            np.full(count, BASELINE_PANE), self.predicted[:count], self.score[:count], self.actual[:count],
            self.delay[:count], self.metrics[:count],
        )  # fmt: skip


class OutcomeTable:
    """The sums of one variant. `listed` are the built-in metrics that are made of them; None: all of the task."""

    def __init__(self, task: Task, baseline_n: int, listed: Collection[str] | None = None) -> None:
        self.task = task
        self._baseline_n = baseline_n
        self.listed = listed
        self._unlisted = _unlisted(listed)
        self._row: dict[int, int] = {}
        self._pane = np.zeros(16, np.int64)
        self._count = np.zeros((16, COUNTS), np.int64)
        self._total = np.zeros((16, TOTALS))
        self._negative, self._positive = SparseCounts(), SparseCounts()  # by score
        self._labels = tuple(SparseCounts() for _ in range(3))  # by label: right, predicted, actual
        self._touched: set[int] = set()

    # -- adding ------------------------------------------------------------------------------------------

    def _rows(self, panes: IntArray) -> IntArray:
        distinct, where = np.unique(panes, return_inverse=True)
        rows = np.empty(len(distinct), np.int64)
        for i, pane in enumerate(distinct.tolist()):
            row = self._row.get(pane)
            if row is None:
                row = self._row[pane] = len(self._row)
                if row == len(self._pane):
                    self._double()
                self._pane[row] = pane
            rows[i] = row
            self._touched.add(pane)
        result: IntArray = rows[where]
        return result

    def _double(self) -> None:
        self._pane = np.concatenate([self._pane, np.zeros_like(self._pane)])
        self._count = np.concatenate([self._count, np.zeros_like(self._count)])
        self._total = np.concatenate([self._total, np.zeros_like(self._total)])

    def expect(self, panes: IntArray) -> None:
        """Answers that an outcome can score, by pane."""
        self._bump(self._rows(panes), Count.SCORABLE)

    def agree(self, panes: IntArray, agreed: BoolArray) -> None:
        """Answers compared with the one that was served, by pane."""
        rows = self._rows(panes)
        self._bump(rows, Count.PAIRED)
        self._bump(rows[agreed], Count.AGREED)

    def add(self, pairs: ScoredPairs, user_metric: Callable[[str], int | None]) -> None:
        """Count pairs; `user_metric` gives a metric's place, None where there is none left."""
        if not len(pairs):
            return
        self._add(pairs, user_metric)
        missing = self._baseline_n - self.baseline_pairs
        if missing > 0:
            self._add(pairs.first(min(missing, len(pairs))), user_metric)

    def _add(self, pairs: ScoredPairs, user_metric: Callable[[str], int | None]) -> None:
        rows = self._rows(pairs.pane)
        self._bump(rows, Count.JOINED)
        self._sum(rows, Total.DELAY, pairs.delay)
        self._sum(rows, Total.DELAY_SQUARE, pairs.delay**2)
        scored = ~np.isnan(pairs.predicted)
        fresh, first = np.unique(rows[scored], return_index=True)
        new = self._count[fresh, Count.SCORED] == 0
        self._total[fresh[new], Total.ORIGIN] = pairs.actual[scored][first[new]]
        self._bump(rows[scored], Count.SCORED)
        at, predicted, actual = rows[scored], pairs.predicted[scored], pairs.actual[scored]
        if self.task is Task.REGRESSION:
            self._add_errors(at, predicted, actual)
        else:
            self._add_labels(at, pairs.pane[scored], predicted, actual, pairs.score[scored])
        self._add_user_metrics(rows, pairs.metrics, user_metric)

    def _bump(self, rows: IntArray, column: int | IntArray) -> None:
        np.add.at(self._count.reshape(-1), rows * COUNTS + column, 1)

    def _sum(self, rows: IntArray, column: int | IntArray, values: FloatArray) -> None:
        # `add.at` adds one by one in order, so floating-point sums do not depend on batches.
        np.add.at(self._total.reshape(-1), rows * TOTALS + column, values)

    def _add_errors(self, rows: IntArray, predicted: FloatArray, actual: FloatArray) -> None:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            square = (predicted - actual) ** 2
            self._sum(rows, Total.ABSOLUTE, np.abs(predicted - actual))
            self._sum(rows, Total.SQUARE, square)
            self._sum(rows, Total.FOURTH, square**2)
            level = actual - self._total[rows, Total.ORIGIN]
            self._sum(rows, Total.ACTUAL, level)
            self._sum(rows, Total.ACTUAL_SQUARE, level**2)
            relative = actual != 0
            share = np.abs((predicted - actual)[relative] / actual[relative])
            self._bump(rows[relative], Count.RELATIVE)
            self._sum(rows[relative], Total.RELATIVE, share)
            self._sum(rows[relative], Total.RELATIVE_SQUARE, share**2)

    def _add_labels(
        self, rows: IntArray, panes: IntArray, predicted: FloatArray, actual: FloatArray, score: FloatArray
    ) -> None:
        correct = predicted == actual
        self._bump(rows[correct], Count.CORRECT)
        if self.task is Task.BINARY:
            yes, truth = predicted == POSITIVE, actual == POSITIVE
            for column, where in (
                (Count.TRUE_POSITIVE, yes & truth), (Count.FALSE_POSITIVE, yes & ~truth),
                (Count.FALSE_NEGATIVE, ~yes & truth), (Count.TRUE_NEGATIVE, ~yes & ~truth),
            ):  # fmt: skip
                self._bump(rows[where], column)
        else:
            truth = correct
            for counts, labels, mask in zip(
                self._labels, (actual, predicted, actual), (correct, ..., ...), strict=True
            ):
                counts.add(panes[mask], labels[mask].astype(np.uint32))
        probable = ~np.isnan(score)
        self._add_scores(rows[probable], panes[probable], score[probable], truth[probable])

    def _add_scores(self, rows: IntArray, panes: IntArray, score: FloatArray, truth: BoolArray) -> None:
        """Scores in [0, 1] of what is true or not: the positive class, or that the prediction is right."""
        if not len(score):
            return
        self._bump(rows, Count.PROBABLE)
        bins = np.minimum((score * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        self._bump(rows, _BIN_EVENTS + bins)
        self._bump(rows[truth], _BIN_HITS + bins[truth])
        self._sum(rows, _BIN_SCORES + bins, score)
        if self.task is not Task.BINARY:
            return  # the probabilities of the other classes are not kept
        brier = (score - truth) ** 2
        loss = -np.log(np.clip(np.where(truth, score, 1 - score), _CLIP, 1.0))
        for column, values in (
            (Total.BRIER, brier), (Total.BRIER_SQUARE, brier**2),
            (Total.LOG_LOSS, loss), (Total.LOG_LOSS_SQUARE, loss**2),
        ):  # fmt: skip
            self._sum(rows, column, values)
        binned = self._count[rows, Count.BINNED] > 0
        kept = np.where(binned, _binned(score), score) if binned.any() else score
        bits = kept.astype(np.float32).view(np.uint32)  # floats from 0 on sort like their bits
        self._negative.add(panes[~truth], bits[~truth])
        self._positive.add(panes[truth], bits[truth])

    def _add_user_metrics(
        self,
        rows: IntArray,
        metrics: Sequence[Mapping[str, float | None] | None],
        place_of: Callable[[str], int | None],
    ) -> None:
        for row, values in zip(rows.tolist(), metrics, strict=True):
            for name, value in (values or {}).items():
                place = place_of(name)
                if place is None or value is None:
                    continue
                self._count[row, _USER_COUNTS + place] += 1
                with np.errstate(over="ignore"):
                    self._total[row, _USER_TOTALS + 2 * place] += value
                    self._total[row, _USER_TOTALS + 2 * place + 1] += value * value

    # -- reading -----------------------------------------------------------------------------------------

    @property
    def baseline_pairs(self) -> int:
        """Pairs in the baseline so far."""
        row = self._row.get(BASELINE_PANE)
        return 0 if row is None else int(self._count[row, Count.JOINED])

    def coverage(self) -> tuple[IntArray, IntArray, IntArray]:
        """(panes, answers that an outcome can score, those that one has), by ascending pane, the baseline left out."""
        used = len(self._row)
        order = np.argsort(self._pane[:used])
        order = order[self._pane[order] != BASELINE_PANE]
        return self._pane[order], self._count[order, Count.SCORABLE], self._count[order, Count.SCORED]

    def agreement(self, first: int, last: int) -> Estimate | None:
        """How often answers of the panes from `first` to `last` agreed with the served ones."""
        used = len(self._row)
        mine = (self._pane[:used] >= first) & (self._pane[:used] <= last)
        paired, agreed = self._count[:used][mine][:, [Count.PAIRED, Count.AGREED]].sum(axis=0).tolist()
        return Estimate.share(float(agreed), paired) if paired else None

    def metrics(self, first: int, last: int, user_metrics: Sequence[str]) -> dict[str, Estimate]:
        """The listed metrics of the panes from `first` to `last`; those without data are left out.

        Coverage, the delay of outcomes and the user's own metrics are never left out.
        """
        used = len(self._row)
        panes = self._pane[:used]
        mine = np.flatnonzero((panes >= first) & (panes <= last))
        mine = mine[np.argsort(panes[mine])]  # sums of floats in one order, whatever order panes came in
        with np.errstate(over="ignore", invalid="ignore"):
            count, total = self._count[mine].sum(axis=0), self._total[mine].sum(axis=0)
        found: dict[str, Estimate] = {}
        joined = int(count[Count.JOINED])
        if count[Count.SCORABLE] and last != BASELINE_PANE:
            found["coverage"] = Estimate.share(int(count[Count.SCORED]), int(count[Count.SCORABLE]))
        if joined:
            found["label_delay_s"] = Estimate.mean(total[Total.DELAY], total[Total.DELAY_SQUARE], joined)
        if count[Count.SCORED]:
            if self.task is Task.REGRESSION:
                spread = _spread(self._count[mine, Count.SCORED], self._total[mine])
                found |= _regression_metrics(count, total, spread)
            else:
                found |= self._label_metrics(count, total, first, last)
        found = {name: estimate for name, estimate in found.items() if name not in self._unlisted}
        for place, name in enumerate(user_metrics):
            if n := int(count[_USER_COUNTS + place]):
                at = _USER_TOTALS + 2 * place
                found[name] = Estimate.mean(float(total[at]), float(total[at + 1]), n)
        return found

    def _label_metrics(self, count: IntArray, total: FloatArray, first: int, last: int) -> dict[str, Estimate]:
        n = int(count[Count.SCORED])
        found = {"accuracy": Estimate.share(float(count[Count.CORRECT]), n)}
        if self.task is Task.BINARY:
            found |= _confusion_metrics(count)
        elif "f1_macro" not in self._unlisted:
            found |= self._macro_f1(first, last)
        if probable := int(count[Count.PROBABLE]):
            found["ece"] = _calibration_error(count, total, probable)
            if self.task is Task.BINARY:
                found["brier"] = Estimate.mean(total[Total.BRIER], total[Total.BRIER_SQUARE], probable)
                found["log_loss"] = Estimate.mean(total[Total.LOG_LOSS], total[Total.LOG_LOSS_SQUARE], probable)
                auc = None if "roc_auc" in self._unlisted else self._auc(first, last)
                if auc is not None:
                    found["roc_auc"] = auc
        return found

    def _auc(self, first: int, last: int) -> Estimate | None:
        self.bound_scores(first, last)
        both = [counts.between(first, last) for counts in (self._negative, self._positive)]
        used = len(self._row)
        mine = (self._pane[:used] >= first) & (self._pane[:used] <= last)
        if self._count[:used, Count.BINNED][mine].any():
            # One grid for all of the window: a score and the middle of its own bin would have a wrong order.
            both = [(_binned_bits(bits), counts) for bits, counts in both]
        return _roc_auc(*both)

    def _macro_f1(self, first: int, last: int) -> dict[str, Estimate]:
        parts = [counts.between(first, last) for counts in self._labels]
        size = max((int(labels.max()) + 1 for labels, _ in parts if len(labels)), default=0)
        right, predicted, actual = (np.bincount(labels, n, minlength=size) for labels, n in parts)
        present = predicted + actual > 0
        if not present.any():
            return {}
        right, predicted, actual = right[present], predicted[present], actual[present]
        scores = 2 * right / (predicted + actual)
        false = predicted + actual - 2 * right
        variance = 4 * right * false * (right + false) / (predicted + actual) ** 4
        classes = int(present.sum())
        # The exact sum: the order of labels is that in which they came, which says nothing about them.
        mean = math.fsum(scores.tolist()) / classes
        return {"f1_macro": Estimate(mean, int(actual.sum()), math.fsum(variance.tolist()) / classes**2)}

    # -- keeping -----------------------------------------------------------------------------------------

    def bound_scores(self, first: int = 0, last: int = BASELINE_PANE) -> None:
        """Keep at most AUC_SCORES distinct scores of a class in a pane: a pane with more has its scores binned.

        Done before every reading, so whether a pane is binned is a matter of its scores and not of who asked when.
        """
        if self.task is not Task.BINARY:
            return
        both = (self._negative, self._positive)
        panes_above = {pane for counts in both for pane in counts.panes_above(first, last, AUC_SCORES)}
        if not panes_above:
            return
        panes = np.array(sorted(panes_above), np.int64)
        self._count[[self._row[pane] for pane in panes.tolist()], Count.BINNED] = 1
        self._touched |= panes_above
        for counts in both:
            counts.replace_lower(panes, _binned_bits)

    def touch(self) -> None:
        """All panes count as changed."""
        self._touched.update(self._row)

    def take_touched(self) -> set[int]:
        """Panes changed since this was last called."""
        touched, self._touched = self._touched, set()
        return touched

    def drop(self, before: int) -> None:
        """Forget panes before `before`; the baseline stays."""
        kept = [(pane, row) for pane, row in self._row.items() if pane >= before]
        if len(kept) == len(self._row):
            return
        rows = np.array([row for _, row in kept], np.int64)
        size = max(16, 2 * len(kept))
        for name in ("_pane", "_count", "_total"):
            old = getattr(self, name)
            fresh = np.zeros((size, *old.shape[1:]), old.dtype)
            fresh[: len(kept)] = old[rows]
            setattr(self, name, fresh)
        self._row = {pane: i for i, (pane, _) in enumerate(kept)}
        self._touched &= self._row.keys()
        for counts in self._keyed():
            counts.drop(before, BASELINE_PANE)

    def _keyed(self) -> Iterable[SparseCounts]:
        return (self._negative, self._positive, *self._labels)

    def snapshot(self, panes: Iterable[int] | None = None) -> dict[str, NDArray[Any]]:
        """Arrays that say all of these panes, or of all; absolute values, so a later one replaces an earlier."""
        chosen = np.array(sorted(self._row if panes is None else set(panes) & self._row.keys()), np.int64)
        rows = np.array([self._row[pane] for pane in chosen.tolist()], np.int64)
        used_counts = np.flatnonzero(self._count[rows].any(axis=0))
        used_totals = np.flatnonzero(self._total[rows].any(axis=0))
        arrays: dict[str, NDArray[Any]] = {
            "pane": chosen,
            "count_columns": used_counts,
            "count": self._count[np.ix_(rows, used_counts)],
            "total_columns": used_totals,
            "total": self._total[np.ix_(rows, used_totals)],
        }
        for i, counts in enumerate(self._keyed()):
            arrays[f"key{i}"], arrays[f"keyed{i}"] = counts.of_panes(chosen)
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a snapshot in, in place of what is known of its panes."""
        panes = arrays["pane"].astype(np.int64)
        rows = self._rows(panes)
        self._count[rows] = 0
        self._total[rows] = 0.0
        self._count[np.ix_(rows, arrays["count_columns"].astype(np.int64))] = arrays["count"]
        self._total[np.ix_(rows, arrays["total_columns"].astype(np.int64))] = arrays["total"]
        for i, counts in enumerate(self._keyed()):
            counts.put(panes, arrays[f"key{i}"].astype(np.uint64), arrays[f"keyed{i}"].astype(np.int64))
        self._touched.clear()

    @property
    def panes(self) -> int:
        """Rows held."""
        return len(self._row)


def _unlisted(listed: Collection[str] | None) -> frozenset[str]:
    """Metrics of quality that nobody asked for."""
    if listed is None:
        return frozenset()
    return frozenset(name for name, info in METRICS.items() if info.of_quality and name not in listed)


# -- formulas --------------------------------------------------------------------------------------------


def _spread(n: IntArray, total: FloatArray) -> float:
    """Variance of the actual values of some panes: within them, and between (Chan, Golub & LeVeque, 1983)."""
    used = n > 0
    n, total = n[used], total[used]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = total[:, Total.ACTUAL] / n
        within = np.maximum(total[:, Total.ACTUAL_SQUARE] - total[:, Total.ACTUAL] * mean, 0.0).sum()
        mean = total[:, Total.ORIGIN] - total[0, Total.ORIGIN] + mean
        between = n @ (mean - n @ mean / n.sum()) ** 2
    return float(within + between) / int(n.sum())


def _regression_metrics(count: IntArray, total: FloatArray, spread: float) -> dict[str, Estimate]:
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


def _confusion_metrics(count: IntArray) -> dict[str, Estimate]:
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


def _calibration_error(count: IntArray, total: FloatArray, n: int) -> Estimate:
    """Expected calibration error over bins of equal width; an empty bin is absent, not right (Guo et al., 2017)."""
    events = count[_BIN_EVENTS:_BIN_HITS]
    used = events > 0
    events, hits = events[used], count[_BIN_HITS:_USER_COUNTS][used]
    scores = total[_BIN_SCORES:_USER_TOTALS][used]
    share = hits / events
    variance = float((events * share * (1 - share)).sum()) / n**2
    return Estimate(float(np.abs(hits - scores).sum()) / n, n, variance)


def _roc_auc(
    negatives: tuple[NDArray[np.uint32], IntArray], positives: tuple[NDArray[np.uint32], IntArray]
) -> Estimate | None:
    """Area under the ROC curve, ties counted half, with the variance of DeLong et al. (1988)."""
    if not len(negatives[0]) or not len(positives[0]):
        return None
    scores = np.union1d(negatives[0], positives[0])
    neg = np.bincount(np.searchsorted(scores, negatives[0]), negatives[1], minlength=len(scores))
    pos = np.bincount(np.searchsorted(scores, positives[0]), positives[1], minlength=len(scores))
    m, n = neg.sum(), pos.sum()
    below = (np.cumsum(neg) - neg + neg / 2) / m  # share of negatives below each score
    above = 1 - (np.cumsum(pos) - pos + pos / 2) / n
    auc = float((pos * below).sum() / n)
    variance = float((pos * (below - auc) ** 2).sum()) / n**2 + float((neg * (above - auc) ** 2).sum()) / m**2
    return Estimate(auc, int(m + n), variance)


_SEVEN_DIGITS: Final = np.uint32(0xFFFE0000)  # of a 32-bit float: sign, exponent, the first and six more


def _binned_bits(bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The same of scores as the bits of 32-bit floats."""
    return _binned(bits.view(np.float32).astype(np.float64)).astype(np.float32).view(np.uint32)


def _binned(score: FloatArray) -> FloatArray:
    """Scores whose distance from the nearer end, 0 or 1, is cut to 7 binary digits: near an end bins are narrow.

    At most AUC_SCORES of them. The AUC moves by at most half the share of pairs of a positive and a negative in one
    bin, whose odds differ by less than a sixty-fourth part.
    """
    score = score.astype(np.float32).astype(np.float64)
    near = np.minimum(score, 1 - score).astype(np.float32)  # exact: from 1/2 on scores are multiples of 2**-24
    near = (near.view(np.uint32) & _SEVEN_DIGITS).view(np.float32).astype(np.float64)
    near[near < 2.0**-30] = 0.0
    result: FloatArray = np.where(score < 0.5, near, 1 - near)
    return result
